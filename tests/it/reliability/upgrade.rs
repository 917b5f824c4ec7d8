//! A process that takes another one's place under load: no request fails, no row is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sentinel::mock_llm::MockLlm;
use serde_json::json;

use crate::support::raw::PATIENCE;
use crate::support::{Process, TestDatabase, chat_body, on_both_engines, register};

on_both_engines! {
    an_upgrade_under_load_fails_no_request
}

const CLIENTS: usize = 8;

/// Requests until told to stop, one after the other; the statuses that were not 200, and the connections that failed.
async fn load(url: String, key: String, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>, pooled: bool) -> Vec<String> {
    let idle = if pooled { 8 } else { 0 };
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(idle).build().unwrap();
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let request = client.post(format!("{url}/v1/chat/completions")).header("x-api-key", &key);
        let answer = request.json(&chat_body("hello")).timeout(Duration::from_secs(60)).send().await;
        let whole = match answer {
            Ok(answer) if answer.status() == 200 => answer.bytes().await.map_err(|error| format!("{error:?}")),
            Ok(answer) => Err(answer.status().to_string()),
            Err(error) => Err(format!("{error:?}")),
        };
        match whole {
            Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
            Err(failure) => failures.push(failure),
        }
    }
    failures
}

async fn until(done: &AtomicUsize, more: usize) {
    let (begun, goal) = (Instant::now(), done.load(Ordering::Relaxed) + more);
    while done.load(Ordering::Relaxed) < goal {
        assert!(begun.elapsed() < 3 * PATIENCE, "{} of {goal} requests", done.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn an_upgrade_under_load_fails_no_request(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let provider = MockLlm::start().await.unwrap();
    let url = database.config().url;
    let settings = [("DATABASE_URL", url.as_str()), ("SENTINEL_LOG__LEVEL", "info")];
    let mut process = Process::serve(folder.path(), &provider.url(), &settings);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let tenant = register(&client, &process.admin_url(), "Acme", "upgrade@sentinel.test").await;

    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(load(process.gateway_url(), tenant.key.clone(), stop, done, number % 2 == 0))
        })
        .collect();
    until(&done, 200).await;
    for _ in 0..3 {
        let successor = process.successor(folder.path(), &provider.url(), &settings);
        let predecessor = std::mem::replace(&mut process, successor);
        let left = tokio::task::block_in_place(|| predecessor.wait());
        assert!(left.success(), "{left}");
        until(&done, 100).await;
        let health = client.get(format!("{}/health", process.admin_url())).send().await.unwrap();
        assert_eq!(health.json::<serde_json::Value>().await.unwrap()["status"], json!("ok"));
    }
    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for client in clients {
        failures.extend(client.await.unwrap());
    }
    let log = process.log();
    assert!(process.terminate().success());
    assert_eq!(failures, Vec::<String>::new(), "of {} requests: {log}", done.load(Ordering::Relaxed));
    let rows = database.audit_rows("source = 'gateway' AND outcome = 'completed'").await.len();
    assert_eq!(rows, done.load(Ordering::Relaxed), "every request has its row");
}
