//! The monthly count of an organization outlives a restart and is one for all nodes.

use std::path::Path;
use std::time::{Duration, Instant};

use sentinel::mock_llm::MockLlm;
use serde_json::Value;

use crate::support::raw::PATIENCE;
use crate::support::{Process, TestDatabase, chat_body, command, on_both_engines, register, reply};

on_both_engines! {
    a_restart_keeps_the_count
}

async fn orgs(folder: &Path, url: &str, arguments: &[&str]) -> Value {
    let arguments = [&["orgs", "--org", "Acme", "--json"], arguments].concat();
    command(folder, &[("DATABASE_URL", url)], &arguments).await
}

/// Waits until all nodes together have told of `requests`.
async fn counted(folder: &Path, url: &str, requests: u64) {
    let begun = Instant::now();
    loop {
        let shown = orgs(folder, url, &["show"]).await;
        if shown["requests_this_month"] == requests {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{requests} requests are not counted: {shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(client: &reqwest::Client, node: &Process, key: &str) -> u16 {
    let request = client.post(format!("{}/v1/chat/completions", node.gateway_url()));
    reply(request.header("x-api-key", key).json(&chat_body("hello"))).await.status
}

async fn a_restart_keeps_the_count(database: TestDatabase) {
    let url = database.config().url;
    let folder = tempfile::tempdir().unwrap();
    let provider = MockLlm::start().await.unwrap();
    let settings = [("DATABASE_URL", url.as_str())];
    let client = reqwest::Client::new();
    let server = Process::serve(folder.path(), &provider.url(), &settings);
    let tenant = register(&client, &server.admin_url(), "Acme", "quota@sentinel.test").await;
    let set = orgs(folder.path(), &url, &["set", "--monthly-request-limit", "3", "--tier", "pro"]).await;
    assert_eq!((&set["tier"], &set["monthly_request_limit"]), (&Value::from("pro"), &Value::from(3)));
    assert_eq!([ask(&client, &server, &tenant.key).await, ask(&client, &server, &tenant.key).await], [200, 200]);
    assert!(server.terminate().success());
    assert_eq!(orgs(folder.path(), &url, &["show"]).await["requests_this_month"], 2, "written before the end");

    let server = Process::serve(folder.path(), &provider.url(), &settings);
    assert_eq!([ask(&client, &server, &tenant.key).await, ask(&client, &server, &tenant.key).await], [200, 429]);
    // Not even a killed node forgets what it has told.
    counted(folder.path(), &url, 3).await;
    server.kill();
    let server = Process::serve(folder.path(), &provider.url(), &settings);
    assert_eq!(ask(&client, &server, &tenant.key).await, 429);
    assert!(server.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_the_count() {
    let database = TestDatabase::postgres().await;
    let url = database.config().url;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let provider = MockLlm::start().await.unwrap();
    let settings = [("DATABASE_URL", url.as_str()), ("JWT_SECRET_KEY", "one secret for both nodes, long enough")];
    let [one, two] = folders.each_ref().map(|folder| Process::serve(folder.path(), &provider.url(), &settings));
    let client = reqwest::Client::new();
    let tenant = register(&client, &one.admin_url(), "Acme", "quota@sentinel.test").await;
    let orgs = async |arguments: &[&str]| orgs(folders[0].path(), &url, arguments).await;
    orgs(&["set", "--monthly-request-limit", "60"]).await;
    // Both have begun to count before either knows of the other's requests.
    for node in [&one, &two] {
        assert_eq!(ask(&client, node, &tenant.key).await, 200);
    }
    counted(folders[0].path(), &url, 2).await;
    for _ in 0..50 {
        assert_eq!(ask(&client, &one, &tenant.key).await, 200);
    }
    counted(folders[0].path(), &url, 52).await;
    // With its next write the second node learns of the first one's.
    assert_eq!(ask(&client, &two, &tenant.key).await, 200);
    counted(folders[0].path(), &url, 53).await;
    let mut admitted = 0;
    while ask(&client, &two, &tenant.key).await == 200 {
        admitted += 1;
        assert!(admitted < 40, "the second node counts alone");
    }
    assert!(admitted >= 7, "{admitted}: the limit was not reached");
    counted(folders[0].path(), &url, 53 + admitted).await;
    assert!(one.terminate().success() && two.terminate().success());
}
