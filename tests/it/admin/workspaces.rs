//! Workspaces over their life.

use reqwest::Method;
use serde_json::json;

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    an_archived_workspace_refuses_its_keys_until_it_is_unarchived
    a_deleted_workspace_can_be_restored_without_its_keys
    overrides_are_typed_and_name_upstreams_that_exist
}

async fn an_archived_workspace_refuses_its_keys_until_it_is_unarchived(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let workspace = org.workspace().await;
    let path = format!("/workspaces/{}", workspace["id"].as_str().unwrap());
    let (_, key) = org.api_key(&workspace["id"]).await;
    client.process(&key, "hello").await.ok(200);
    let archived = org.owner.post(&format!("{path}/archive"), json!({})).await.ok(200);
    assert_eq!(archived["is_active"], false);
    client.process(&key, "hello").await.problem(401, "invalid_api_key");
    assert_eq!(org.owner.get(&path).await.ok(200)["is_active"], false, "an archived workspace can still be seen");
    let back = org.owner.post(&format!("{path}/unarchive"), json!({})).await.ok(200);
    assert_eq!(back["is_active"], true);
    client.process(&key, "hello").await.ok(200);
}

async fn a_deleted_workspace_can_be_restored_without_its_keys(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let workspace = org.owner.post("/workspaces", json!({"name": "undone"})).await.ok(201);
    let path = format!("/workspaces/{}", workspace["id"].as_str().unwrap());
    let restore = format!("{path}/restore");
    org.owner.post(&restore, json!({})).await.problem(404, "not_found");
    let (_, key) = org.api_key(&workspace["id"]).await;
    org.owner.delete(&path).await.ok(204);
    org.owner.get(&path).await.problem(404, "not_found");
    let deleted = org.owner.get("/workspaces?deleted=true").await.ok(200);
    assert_eq!(deleted["data"].as_array().unwrap().len(), 1);
    assert_eq!(deleted["data"][0]["id"], workspace["id"]);

    // Its name may have been given away meanwhile.
    let taker = org.owner.post("/workspaces", json!({"name": "undone"})).await.ok(201);
    org.owner.post(&restore, json!({})).await.problem(409, "conflict");
    org.owner.delete(&format!("/workspaces/{}", taker["id"].as_str().unwrap())).await.ok(204);

    assert_eq!(org.owner.post(&restore, json!({})).await.ok(200)["is_active"], true);
    client.process(&key, "hello").await.problem(401, "invalid_api_key");
    let (_, fresh) = org.api_key(&workspace["id"]).await;
    client.process(&fresh, "hello").await.ok(200);
}

async fn overrides_are_typed_and_name_upstreams_that_exist(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    for (wrong, pointer) in [
        (json!({"allowed_upstreams": ["openai", "nowhere"]}), "/config/allowed_upstreams/1"),
        (json!({"allowed_dialects": ["klingon"]}), "/config/allowed_dialects/0"),
        (json!({"max_request_body_bytes": 0}), "/config/max_request_body_bytes"),
        (json!({"reveal": "yes"}), "/config/reveal"),
        (json!({"colour": "red"}), "/config/colour"),
    ] {
        let body = json!({"name": "w", "config": wrong});
        let problem = org.owner.post("/workspaces", body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem:#}");
    }
    let config = json!({"reveal": true, "allowed_upstreams": ["openai"], "allowed_dialects": ["openai"],
        "max_request_body_bytes": 4096});
    let made = org.owner.post("/workspaces", json!({"name": "w", "config": config})).await.ok(201);
    assert_eq!(made["config"], config);
    let path = format!("/workspaces/{}", made["id"].as_str().unwrap());
    let wrong = json!({"config": {"allowed_upstreams": ["nowhere"]}});
    org.owner.change(Method::PATCH, &path, "\"1\"", wrong).await.problem(422, "validation_failed");
}
