//! Another organization's objects are not there: every operation that takes an id, with another tenant's id.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    every_operation_with_an_id_answers_404_for_another_organization
    lists_hold_only_what_is_ours_and_filters_reach_no_further
    references_to_another_organizations_objects_are_dangling
}

async fn every_operation_with_an_id_answers_404_for_another_organization(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (ours, theirs) = (Organization::register(&client).await, Organization::register(&client).await);

    let workspace = theirs.workspace().await["id"].as_str().unwrap().to_owned();
    let (key, secret) = theirs.api_key(&json!(workspace)).await;
    let policy = json!({"name": "theirs", "document": {"extends": "monitor"}});
    let policy = theirs.owner.post("/policies", policy).await.ok(201);
    let scanned = client.process(&secret, "hello").await.ok(200);
    let log = uuid(scanned["request_id"].as_str().unwrap());
    let session = theirs.owner.get("/auth/sessions").await.ok(200)["data"][0]["id"].as_str().unwrap().to_owned();
    let of = |path: &str| match path.split('/').nth(1).unwrap() {
        "workspaces" => workspace.clone(),
        "api-keys" => key["id"].as_str().unwrap().to_owned(),
        "policies" => policy["id"].as_str().unwrap().to_owned(),
        "audit-logs" => log.clone(),
        "orgs" => theirs.user_id.clone(),
        "auth" => session.clone(),
        other => panic!("no object of theirs for /{other}: add one"),
    };

    let document = client.get("/openapi.json").await.ok(200);
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.contains("{id}") {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let mut request = ours.owner.request(method.clone(), &path.replace("{id}", &of(path)));
            request = request.header("if-match", "\"1\"");
            if operation["requestBody"].is_object() {
                request = request.json(&body_for(path, &method));
            }
            let answer = ours.owner.send(request).await;
            assert_eq!(answer.status.as_u16(), 404, "{method} {path}: {:#}", answer.body);
            tried += 1;
        }
    }
    assert!(tried >= 14, "only {tried} operations were tried");

    // Nothing of theirs has changed.
    theirs.owner.get("/auth/me").await.ok(200);
    theirs.owner.get(&format!("/workspaces/{workspace}")).await.ok(200);
    assert_eq!(theirs.owner.get(&format!("/api-keys/{}", of("/api-keys"))).await.ok(200)["is_active"], true);
    assert_eq!(theirs.owner.get(&format!("/policies/{}", of("/policies"))).await.ok(200)["version"], 1);
}

/// A body that would be accepted from the owner of the object.
fn body_for(path: &str, method: &Method) -> Value {
    match (path, method.as_str()) {
        ("/api-keys/{id}/rotate", _) => json!({"grace_seconds": 60}),
        ("/policies/{id}", "PUT") => json!({"name": "ours", "document": {"extends": "monitor"}}),
        ("/orgs/me/users/{id}", "PATCH") => json!({"full_name": "X Y"}),
        ("/workspaces/{id}" | "/api-keys/{id}", "PATCH") => json!({"name": "ours"}),
        _ => panic!("no body for {method} {path}: add one"),
    }
}

/// `req_…` as the UUID of its audit row.
fn uuid(request_id: &str) -> String {
    let hex = request_id.strip_prefix("req_").unwrap();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

async fn lists_hold_only_what_is_ours_and_filters_reach_no_further(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (ours, theirs) = (Organization::register(&client).await, Organization::register(&client).await);
    let workspace = theirs.workspace().await;
    theirs.api_key(&workspace["id"]).await;
    theirs.owner.post("/policies", json!({"name": "theirs", "document": {}})).await.ok(201);

    for (path, count) in
        [("/orgs/me/users", 1), ("/workspaces", 1), ("/api-keys", 0), ("/policies", 0), ("/audit-logs", 0)]
    {
        let list = ours.owner.get(path).await.ok(200);
        assert_eq!(list["data"].as_array().unwrap().len(), count, "{path}: {list:#}");
        assert!(!list.to_string().contains(&theirs.org_id), "{path}");
    }
    let filter = format!("/api-keys?workspace_id={}", workspace["id"].as_str().unwrap());
    assert_eq!(ours.owner.get(&filter).await.ok(200)["data"], json!([]));
}

async fn references_to_another_organizations_objects_are_dangling(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (ours, theirs) = (Organization::register(&client).await, Organization::register(&client).await);
    let workspace = theirs.workspace().await;
    let policy = theirs.owner.post("/policies", json!({"name": "theirs", "document": {}})).await.ok(201);
    let key = json!({"workspace_id": workspace["id"], "name": "k"});
    ours.owner.post("/api-keys", key).await.problem(422, "validation_failed");
    let named = json!({"name": "w", "policy_id": policy["id"]});
    ours.owner.post("/workspaces", named).await.problem(422, "validation_failed");
}
