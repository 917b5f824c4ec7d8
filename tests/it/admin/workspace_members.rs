//! Membership of workspaces: more in one of them, and nothing more anywhere else.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization};
use super::operations::{operations, publish};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_member_may_more_in_a_workspace_and_nowhere_else
    every_operation_of_a_workspace_keeps_members_of_others_out
    nobody_grants_what_they_may_not_do
}

const ALL: [&str; 3] = ["workspaces:write", "api_keys:write", "provider_credentials:write"];

fn members(workspace: &Value, person: &str) -> String {
    format!("/workspaces/{}/members/{person}", workspace.as_str().unwrap())
}

fn key(workspace: &Value) -> Value {
    json!({"workspace_id": workspace, "name": "k"})
}

async fn another(org: &Organization, name: &str) -> Value {
    org.owner.post("/workspaces", json!({"name": name})).await.ok(201)["id"].clone()
}

async fn a_member_may_more_in_a_workspace_and_nowhere_else(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let (ours, other) = (another(&org, "ours").await, another(&org, "other").await);
    let (person, id) = org.person("viewer", json!([])).await;
    person.post("/api-keys", key(&ours)).await.problem(403, "permission_denied");
    let granted = org.owner.put(&members(&ours, &id), json!({"permissions": ["api_keys:write"]})).await.ok(200);
    assert_eq!((&granted["id"], &granted["workspace_id"]), (&json!(id), &ours));
    let list = org.owner.get(&format!("/workspaces/{}/members", ours.as_str().unwrap())).await.ok(200);
    assert_eq!(list["data"], json!([granted]));
    let me = person.get("/auth/me").await.ok(200);
    assert_eq!(me["workspaces"], json!([{"workspace_id": ours, "permissions": ["api_keys:write"]}]));

    let made = person.post("/api-keys", key(&ours)).await.ok(201);
    let path = format!("/api-keys/{}", made["id"].as_str().unwrap());
    person.patch(&path, json!({"name": "renamed"})).await.ok(200);
    let rotated = person.post(&format!("{path}/rotate"), json!({})).await.ok(201);
    person.delete(&format!("/api-keys/{}", rotated["id"].as_str().unwrap())).await.ok(204);
    let refused = person.post("/api-keys", key(&other)).await;
    assert!(refused.header("www-authenticate").ends_with("scope=\"api_keys:write\""));
    refused.problem(403, "permission_denied");
    // Another permission of the same workspace, and what no membership gives.
    let workspace = format!("/workspaces/{}", ours.as_str().unwrap());
    let change = person.change(Method::PATCH, &workspace, "\"1\"", json!({"name": "x"})).await;
    change.problem(403, "permission_denied");
    org.owner.put(&members(&ours, &id), json!({"permissions": ALL})).await.ok(200);
    person.change(Method::PATCH, &workspace, "\"1\"", json!({"name": "x"})).await.ok(200);
    person.delete(&workspace).await.problem(403, "permission_denied");
    person.post(&format!("{workspace}/archive"), Value::Null).await.problem(403, "permission_denied");
    person.post("/workspaces", json!({"name": "mine"})).await.problem(403, "permission_denied");

    org.owner.delete(&members(&ours, &id)).await.ok(204);
    org.owner.delete(&members(&ours, &id)).await.problem(404, "not_found");
    person.post("/api-keys", key(&ours)).await.problem(403, "permission_denied");
    assert_eq!(person.get("/auth/me").await.ok(200)["workspaces"], json!([]));
    // Whoever is removed is a member no more.
    org.owner.put(&members(&ours, &id), json!({"permissions": ALL})).await.ok(200);
    org.owner.delete(&format!("/orgs/me/users/{id}")).await.ok(204);
    let list = org.owner.get(&format!("{workspace}/members")).await.ok(200);
    assert_eq!(list["data"], json!([]));
}

async fn every_operation_of_a_workspace_keeps_members_of_others_out(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    // Everything there is is in the first workspace; the person is a member of the second.
    let org = super::operations::furnished(&client).await;
    let first = org.workspace().await["id"].clone();
    let second = another(&org, "second").await;
    let (person, id) = org.person("member", json!([])).await;
    org.owner.put(&members(&second, &id), json!({"permissions": ALL})).await.ok(200);
    let (operations, schemas) = operations(&client).await;
    let mut rows = Vec::new();
    for operation in &operations {
        if !operation.permission.as_deref().is_some_and(|needed| ALL.contains(&needed)) {
            continue;
        }
        // The newest workspace is the person's own.
        let path = operation.path_of(&org.owner).await.replace(second.as_str().unwrap(), first.as_str().unwrap());
        let mut body = operation.body.as_ref().map(|schema| schemas.example(schema, first.as_str().unwrap()));
        if let Some(body) = body.as_mut().filter(|body| body.get("workspace_id").is_some()) {
            body["workspace_id"] = first.clone();
        }
        let answer = operation.call(&person, &path, body.as_ref()).await;
        let status = answer.status.as_u16();
        assert_eq!(status, 403, "{}: {:#}", operation.name(), answer.body);
        answer.problem(403, "permission_denied");
        rows.push((operation.name(), vec![status.to_string()]));
    }
    assert!(rows.len() >= 11, "{rows:?}");
    publish("memberships", &sentinel, &["of another workspace"], &rows);
}

async fn nobody_grants_what_they_may_not_do(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let workspace = org.workspace().await["id"].clone();
    let (clerk, clerk_id) = org.person("member", json!(["users:write", "api_keys:write"])).await;
    let (_, admin_id) = org.person("admin", json!([])).await;
    let (_, id) = org.person("viewer", json!([])).await;
    let grant = |names: Value| json!({"permissions": names});
    clerk.put(&members(&workspace, &id), grant(json!(["api_keys:write"]))).await.ok(200);
    for path in [members(&workspace, &id), members(&workspace, &clerk_id)] {
        clerk.put(&path, grant(json!(["workspaces:write"]))).await.problem(403, "grant_not_allowed");
    }
    clerk
        .put(&members(&workspace, &admin_id), grant(json!(["api_keys:write"])))
        .await
        .problem(403, "grant_not_allowed");
    for wrong in [json!([]), json!(["org:write"]), json!("api_keys:write")] {
        org.owner.put(&members(&workspace, &id), grant(wrong)).await.problem(422, "validation_failed");
    }
    let nobody = "0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23";
    org.owner.put(&members(&workspace, nobody), grant(json!(ALL))).await.problem(404, "not_found");
    org.owner.put(&members(&json!(nobody), &id), grant(json!(ALL))).await.problem(404, "not_found");
    org.owner.put(&members(&json!("x"), &id), grant(json!(ALL))).await.problem(404, "not_found");
    let other = Organization::register(&client).await;
    other.owner.put(&members(&workspace, &id), grant(json!(ALL))).await.problem(404, "not_found");
    other.owner.delete(&members(&workspace, &id)).await.problem(404, "not_found");
}
