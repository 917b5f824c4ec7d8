//! `kill -9` under load: an answer implies a row.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use sentinel::mock_llm::MockLlm;
use serde_json::json;

use crate::support::raw::PATIENCE;
use crate::support::{Process, command, count_rows, register};

const CLIENTS: usize = 32;
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_request_has_its_row_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let provider = MockLlm::start().await.unwrap();
    let client = reqwest::Client::new();
    let answered: Arc<Mutex<HashSet<String>>> = Arc::default();
    let mut key = None;
    let mut serial = 0;
    for round in 0..ROUNDS {
        let process = Process::serve(folder.path(), &provider.url(), &[]);
        if key.is_none() {
            let tenant = register(&client, &process.admin_url(), "Acme", "kill@sentinel.test").await;
            key = Some(tenant.key);
        }
        let key = key.clone().unwrap();
        let enough = answered.lock().len() + 400;
        let sent = Arc::new(AtomicUsize::new(0));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            serial += 1;
            let (client, answered, key, sent) = (client.clone(), Arc::clone(&answered), key.clone(), Arc::clone(&sent));
            let url = format!("{}/v1/chat/completions", process.gateway_url());
            let name = format!("r{round}-c{serial}");
            clients.push(tokio::spawn(async move {
                for n in 0..10_000 {
                    let user = format!("{name}-{n}");
                    let body = json!({"model": "m", "user": user, "messages": [{"role": "user", "content": "hello"}]});
                    sent.fetch_add(1, Ordering::Relaxed);
                    match client.post(&url).header("x-api-key", &key).json(&body).send().await {
                        Ok(answer) => {
                            assert_eq!(answer.status(), 200);
                            answered.lock().insert(user);
                        }
                        Err(_) => return,
                    }
                }
            }));
        }
        let begun = Instant::now();
        while answered.lock().len() < enough {
            assert!(begun.elapsed() < PATIENCE * 3, "too few answers");
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        process.kill();
        for client in clients {
            client.await.unwrap();
        }
    }
    // One more start replays what the journal holds; SIGTERM ships the rest.
    let process = Process::serve(folder.path(), &provider.url(), &[]);
    let status = process.terminate();
    assert!(status.success(), "{status}: {}", std::fs::read_to_string(folder.path().join("sentinel.log")).unwrap());
    let url = format!("sqlite://{}", folder.path().join("data/sentinel.db").display());
    // The chain is whole in spite of the kills, and signed by the orderly end.
    let checked = command(folder.path(), &[], &["--json", "audit", "verify"]).await;
    let rows = count_rows(&url).await;
    let report = &checked["report"];
    assert_eq!((&report["intact"], &report["checked"]), (&json!(true), &json!(rows.len())), "{report}");
    assert_eq!(report["streams"][0]["signed_seq"], report["streams"][0]["seq"], "{report}");
    let unique: HashSet<String> = rows.iter().cloned().collect();
    let answered = answered.lock();
    let lost: Vec<_> = answered.difference(&unique).collect();
    let _ = writeln!(
        std::io::stderr(),
        "kill -9: {ROUNDS} kills, {} answers, {} rows, {} lost",
        answered.len(),
        rows.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "answers without a row: {lost:?}");
    assert_eq!(rows.len(), unique.len(), "a request has two rows");
}
