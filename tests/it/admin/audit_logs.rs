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

    for query in [
        format!("request_id={}", scanned["request_id"].as_str().unwrap()),
        format!("rule_id={}", found["findings"][0]["rule_id"].as_str().unwrap()),
        "user_id=customer_123".to_owned(),
        format!("max_risk_score={0}&min_risk_score={0}", found["risk_score"]),
    ] {
        assert_eq!(rows(&org.owner, &format!("?{query}"), 1).await[0]["id"], found["id"], "{query}");
        let counted = org.owner.get(&format!("/audit-logs/histogram?bucket=hour&{query}")).await.ok(200);
        assert_eq!((&counted["requests"], &counted["data"][0]["requests"]), (&json!(1), &json!(1)), "{query}");
    }
    rows(&org.owner, "?model=a-model", 0).await;
    rows(&org.owner, "?rule_id=a_rule", 0).await;
    assert_eq!(org.owner.get("/audit-logs/histogram").await.ok(200)["requests"], 2);
    org.owner.get("/audit-logs?request_id=req_1").await.problem(400, "invalid_query");
    org.owner.get("/audit-logs/histogram?bucket=minute&from=2026-01-01T00:00:00Z").await.problem(400, "invalid_query");

    let one = org.owner.get(&format!("/audit-logs/{}", found["id"].as_str().unwrap())).await.ok(200);
    assert_eq!(one, found);
    assert!(!one.to_string().contains("4111"), "{one:#}");

    let stats = org.owner.get("/orgs/me/stats?days=1").await.ok(200);
    assert_eq!((&stats["requests"], &stats["redacted"], &stats["pii_detected"]), (&json!(2), &json!(1), &json!(1)));
}
