//! Policies: versions, faults, and that a change holds on the next request.

use reqwest::Method;
use serde_json::json;

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_policy_is_replaced_by_versions_and_each_holds_on_the_next_request
    every_fault_of_a_document_comes_back_with_its_pointer
    a_policy_that_a_workspace_names_cannot_be_deleted
}

const CARD: &str = "My credit card is 4111 1111 1111 1111";

async fn a_policy_is_replaced_by_versions_and_each_holds_on_the_next_request(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    assert_eq!(client.process(&key, CARD).await.ok(200)["action"], "redact");

    let strict =
        json!({"name": "house rules", "document": {"extends": "strict"}, "is_default": true, "comment": "start"});
    let created = org.owner.post("/policies", strict).await;
    let tag = created.header("etag").to_owned();
    let first = created.ok(201);
    assert_eq!(
        (&first["version"], &first["is_active"], &first["parent_policy_id"]),
        (&json!(1), &json!(true), &json!(null))
    );
    assert_eq!(first["document"], json!({"extends": "strict"}));
    let result = client.process(&key, CARD).await.ok(200);
    assert_eq!((&result["blocked"], &result["policy"]["name"]), (&json!(true), &json!("house rules")));

    let path = format!("/policies/{}", first["id"].as_str().unwrap());
    let monitor = json!({"name": "house rules", "document": {"extends": "monitor"}, "is_default": true});
    let put = || org.owner.change(Method::PUT, &path, &tag, monitor.clone());
    org.owner.send(org.owner.request(Method::PUT, &path).json(&monitor)).await.problem(428, "precondition_required");
    let second = put().await.ok(200);
    assert_eq!((&second["id"], &second["version"]), (&first["id"], &json!(2)));
    assert_eq!(second["parent_policy_id"], first["version_id"]);
    put().await.problem(412, "precondition_failed");
    let result = client.process(&key, CARD).await.ok(200);
    assert_eq!((&result["action"], &result["policy"]["version"]), (&json!("flag"), &json!(2)));

    let versions = org.owner.get(&format!("{path}/versions")).await.ok(200);
    let numbers: Vec<_> = versions["data"].as_array().unwrap().iter().map(|v| v["version"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(versions["data"][1]["is_active"], false);
    assert_eq!(org.owner.get("/policies").await.ok(200)["data"].as_array().unwrap().len(), 1);
}

async fn every_fault_of_a_document_comes_back_with_its_pointer(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let document = json!({"extends": "lenient", "ruels": {}, "binary": 7});
    let problem =
        org.owner.post("/policies", json!({"name": "p", "document": document})).await.problem(422, "validation_failed");
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    for pointer in ["/document/extends", "/document/ruels", "/document/binary"] {
        assert!(pointers.contains(&pointer), "{problem:#}");
    }
    let unknown = json!({"rules": {"no_such_rule": {"action": "block"}}});
    let problem =
        org.owner.post("/policies", json!({"name": "p", "document": unknown})).await.problem(422, "validation_failed");
    assert!(problem["errors"][0]["pointer"].as_str().unwrap().starts_with("/document/rules"), "{problem:#}");
    for document in [json!(null), json!([]), json!("extends: monitor"), json!(7)] {
        org.owner.post("/policies", json!({"name": "p", "document": document})).await.problem(422, "validation_failed");
    }
    let unprintable = json!({"name": "a\r\nx-evil: 1", "document": {}});
    org.owner.post("/policies", unprintable).await.problem(422, "validation_failed");
}

async fn a_policy_that_a_workspace_names_cannot_be_deleted(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let policy = org.owner.post("/policies", json!({"name": "named", "document": {"extends": "strict"}})).await.ok(201);
    org.owner.post("/policies", json!({"name": "named", "document": {}})).await.problem(409, "conflict");
    let workspace = org.owner.post("/workspaces", json!({"name": "guarded", "policy_id": policy["id"]})).await;
    let tag = workspace.header("etag").to_owned();
    let workspace = workspace.ok(201);
    let (_, key) = org.api_key(&workspace["id"]).await;
    assert_eq!(client.process(&key, CARD).await.ok(200)["policy"]["name"], "named");

    let path = format!("/policies/{}", policy["id"].as_str().unwrap());
    org.owner.delete(&path).await.problem(409, "conflict");
    let workspace = format!("/workspaces/{}", workspace["id"].as_str().unwrap());
    org.owner.change(Method::PATCH, &workspace, &tag, json!({"policy_id": null})).await.ok(200);
    assert_eq!(client.process(&key, CARD).await.ok(200)["policy"]["name"], "balanced");
    org.owner.delete(&path).await.ok(204);
    org.owner.get(&path).await.problem(404, "not_found");
    org.owner.delete(&path).await.problem(404, "not_found");
}
