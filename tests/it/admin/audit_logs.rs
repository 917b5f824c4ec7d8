//! What the audit trail shows of a request, and what it never does.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_scan_is_listed_found_by_filters_and_read_without_its_text
}

/// How long a row may take to reach the database before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The list, once it has `count` rows.
async fn rows(owner: &Client, query: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = owner.get(&format!("/audit-logs{query}")).await.ok(200);
        let data = list["data"].as_array().unwrap();
        if data.len() == count {
            return data.clone();
        }
        assert!(Instant::now() < deadline, "{query}: {} rows instead of {count}: {list:#}", data.len());
        tokio::task::yield_now().await;
    }
}

async fn a_scan_is_listed_found_by_filters_and_read_without_its_text(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (record, key) = org.api_key(&org.workspace().await["id"]).await;
    let body = json!({"user_input": "My credit card is 4111 1111 1111 1111", "user_id": "customer_123"});
    let scan = client.request(Method::POST, "/process").header("x-api-key", &key).json(&body);
    let scanned = client.send(scan).await.ok(200);
    client.process(&key, "a harmless sentence").await.ok(200);

    let all = rows(&org.owner, "", 2).await;
    assert!(all[0]["occurred_at"].as_str() >= all[1]["occurred_at"].as_str(), "newest first");
    let found = rows(&org.owner, "?user_id=customer_123&action=redact&category=pii", 1).await.remove(0);
    assert_eq!(found["request_id"], scanned["request_id"]);
    assert_eq!((&found["api_key_id"], &found["source"]), (&record["id"], &json!("process")));
    assert_eq!(
        (&found["pii_detected"], &found["status"], &found["outcome"]),
        (&json!(true), &json!(200), &json!("completed"))
    );
    assert_eq!(found["policy_name"], "balanced");
    assert_eq!(found["coverage"]["scanned"], body["user_input"].as_str().unwrap().len());
    rows(&org.owner, "?action=block", 0).await;
    rows(&org.owner, "?min_risk_score=1", 1).await;
    rows(&org.owner, "?to=2020-01-01T00:00:00Z", 0).await;

    let one = org.owner.get(&format!("/audit-logs/{}", found["id"].as_str().unwrap())).await.ok(200);
    assert_eq!(one, found);
    assert!(!one.to_string().contains("4111"), "{one:#}");

    let stats = org.owner.get("/orgs/me/stats?days=1").await.ok(200);
    assert_eq!((&stats["requests"], &stats["redacted"], &stats["pii_detected"]), (&json!(2), &json!(1), &json!(1)));
}
