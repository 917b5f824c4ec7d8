//! API keys over their life.

use reqwest::Method;
use serde_json::json;

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_key_works_in_all_three_headers_until_it_is_revoked
    rotation_replaces_the_key_at_once_or_after_a_grace
    scopes_and_limits_hold
    what_no_key_can_be_is_refused
    a_deleted_workspace_takes_its_keys_with_it
}

async fn a_key_works_in_all_three_headers_until_it_is_revoked(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (record, key) = org.api_key(&org.workspace().await["id"]).await;
    let bearer = format!("Bearer {key}");
    for (header, value) in [("x-sentinel-key", &key), ("x-api-key", &key), ("authorization", &bearer)] {
        let scan = client.request(Method::POST, "/process").header(header, value.as_str());
        let result = client.send(scan.json(&json!({"user_input": "hello"}))).await.ok(200);
        assert_eq!((&result["blocked"], &result["action"]), (&json!(false), &json!("allow")), "{header}");
    }
    let path = format!("/api-keys/{}", record["id"].as_str().unwrap());
    org.owner.delete(&path).await.ok(204);
    client.process(&key, "hello").await.problem(401, "invalid_api_key");
    let revoked = org.owner.get(&path).await.ok(200);
    assert!(revoked["revoked_at"].is_string() && revoked["is_active"] == false, "{revoked:#}");
    org.owner.delete(&path).await.ok(204);
}

async fn rotation_replaces_the_key_at_once_or_after_a_grace(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (record, first) = org.api_key(&org.workspace().await["id"]).await;
    let rotate = |id: &serde_json::Value| format!("/api-keys/{}/rotate", id.as_str().unwrap());

    let kept = org.owner.post(&rotate(&record["id"]), json!({"grace_seconds": 3600})).await.ok(201);
    let second = kept["key"].as_str().unwrap();
    assert_ne!(second, first);
    assert_eq!(
        (&kept["name"], &kept["workspace_id"], &kept["scopes"]),
        (&record["name"], &record["workspace_id"], &record["scopes"])
    );
    client.process(&first, "hello").await.ok(200);
    client.process(second, "hello").await.ok(200);

    let replaced = org.owner.post(&rotate(&kept["id"]), json!({})).await.ok(201);
    client.process(second, "hello").await.problem(401, "invalid_api_key");
    client.process(replaced["key"].as_str().unwrap(), "hello").await.ok(200);
    org.owner.post(&rotate(&kept["id"]), json!({})).await.problem(409, "conflict");
}

async fn scopes_and_limits_hold(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let workspace = org.workspace().await["id"].clone();
    let body = json!({"workspace_id": workspace, "name": "figures", "scopes": ["metrics"], "mode": "test"});
    let created = org.owner.post("/api-keys", body).await.ok(201);
    let key = created["key"].as_str().unwrap();
    assert!(key.starts_with("snt_test_"));
    client.process(key, "hello").await.problem(403, "permission_denied");

    let path = format!("/api-keys/{}", created["id"].as_str().unwrap());
    let update = json!({"scopes": ["process"], "rate_limit_per_minute": 2, "name": "both"});
    assert_eq!(org.owner.patch(&path, update).await.ok(200)["rate_limit_per_minute"], 2);
    client.process(key, "hello").await.ok(200);
    client.process(key, "hello").await.ok(200);
    let refused = client.process(key, "hello").await;
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
    refused.problem(429, "rate_limit_exceeded");
    let unlimited = org.owner.patch(&path, json!({"rate_limit_per_minute": null})).await.ok(200);
    assert!(unlimited["rate_limit_per_minute"].is_null() && unlimited["name"] == "both");
    client.process(key, "hello").await.ok(200);
}

async fn what_no_key_can_be_is_refused(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let workspace = org.workspace().await["id"].clone();
    for wrong in [
        json!({"workspace_id": workspace, "name": "k", "scopes": []}),
        json!({"workspace_id": workspace, "name": "k", "scopes": ["everything"]}),
        json!({"workspace_id": workspace, "name": "k", "rate_limit_per_minute": 0}),
        json!({"workspace_id": workspace, "name": "k", "expires_at": "2020-01-01T00:00:00Z"}),
        json!({"workspace_id": workspace, "name": "k", "key": "snt_live_mine"}),
        json!({"name": "k"}),
    ] {
        org.owner.post("/api-keys", wrong).await.problem(422, "validation_failed");
    }
}

async fn a_deleted_workspace_takes_its_keys_with_it(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let workspace = org.owner.post("/workspaces", json!({"name": "short-lived"})).await.ok(201);
    let (_, key) = org.api_key(&workspace["id"]).await;
    client.process(&key, "hello").await.ok(200);
    org.owner.delete(&format!("/workspaces/{}", workspace["id"].as_str().unwrap())).await.ok(204);
    client.process(&key, "hello").await.problem(401, "invalid_api_key");
}
