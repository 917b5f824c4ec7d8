//! PostgreSQL goes away under load: traffic on a warm cache goes on, and every row arrives when it returns.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sentinel::mock_llm::MockLlm;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::support::raw::PATIENCE;
use crate::support::{Process, register, reply};

/// A cluster of its own, because it is stopped.
struct Cluster {
    folder: tempfile::TempDir,
    url: String,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = script("start", folder.path()).trim().to_owned();
        Self { folder, url }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new("tests/postgres.sh").arg("stop").arg(self.folder.path().join("pg")).output();
    }
}

fn script(action: &str, folder: &Path) -> String {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, permissions).unwrap();
    let output = Command::new("tests/postgres.sh").arg(action).arg(folder.join("pg")).output().unwrap();
    assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_without_the_database_and_no_row_is_lost() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().unwrap();
    let provider = MockLlm::start().await.unwrap();
    let migrated = Command::new(env!("CARGO_BIN_EXE_sentinel"))
        .args(["migrate", "up"])
        .env("DATABASE_URL", &cluster.url)
        .env("SENTINEL_DATA_DIR", folder.path().join("data"))
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let process = Process::serve(folder.path(), &provider.url(), &[("DATABASE_URL", &cluster.url)]);
    let client = reqwest::Client::new();
    let tenant = register(&client, &process.admin_url(), "Acme", "outage@sentinel.test").await;
    let ask = async |n: usize| {
        let body = json!({"model": "m", "user": format!("u{n}"), "messages": [{"role": "user", "content": "hello"}]});
        let request = client.post(format!("{}/v1/chat/completions", process.gateway_url()));
        let answer = reply(request.header("x-api-key", &tenant.key).json(&body)).await;
        assert_eq!(answer.status, 200, "request {n}: {}", answer.text);
    };
    for n in 0..50 {
        ask(n).await;
    }
    script("pause", cluster.folder.path());
    for n in 50..150 {
        ask(n).await;
    }
    let health = async || {
        let answer = reply(client.get(format!("{}/health", process.admin_url()))).await;
        (answer.status, answer.json()["status"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(health().await, (200, "degraded".to_owned()), "the outage is visible, and requests are served");
    let outside =
        reply(client.get(format!("{}/workspaces", process.admin_url())).bearer_auth(&tenant.access_token)).await;
    assert_eq!(outside.status, 503, "{}", outside.text);
    script("resume", cluster.folder.path());
    for n in 150..200 {
        ask(n).await;
    }
    let begun = Instant::now();
    let count = loop {
        let mut admin = PgConnection::connect(&cluster.url).await.expect("the cluster is back");
        let query = "SELECT count(DISTINCT user_id) FROM audit_logs WHERE outcome = 'completed'";
        let count: i64 = sqlx::query_scalar(query).fetch_one(&mut admin).await.unwrap();
        if count == 200 {
            break count;
        }
        assert!(begun.elapsed() < PATIENCE, "{count} of 200 rows arrived");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let _ = writeln!(std::io::stderr(), "outage: 200 answers, 100 of them without a database, {count} rows");
    assert!(process.terminate().success());
}
