//! What no caller may set and what cannot be stored, put into every body: refused, and without effect.

use serde_json::{Value, json};

use super::client::Client;
use super::operations::{Kind, again, furnished, operations, publish};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    what_no_caller_may_set_is_refused_in_every_body
    a_text_that_no_database_stores_is_refused_in_every_body
}

fn injected() -> [(&'static str, Value); 5] {
    [
        ("role", json!("owner")),
        ("org_id", json!("0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23")),
        ("is_active", json!(true)),
        ("permissions", json!(["org:write"])),
        ("id", json!("0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23")),
    ]
}

/// Where such a field is what the operation is for; who may use it is what `roles.rs` tries.
const MEANT: &[(&str, &str)] = &[
    ("createInvitation", "permissions"),
    ("createInvitation", "role"),
    ("inviteUser", "permissions"),
    ("inviteUser", "role"),
    ("setWorkspaceMember", "permissions"),
    ("updateUser", "is_active"),
    ("updateUser", "permissions"),
    ("updateUser", "role"),
    ("updateWorkspace", "is_active"),
];

async fn what_no_caller_may_set_is_refused_in_every_body(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = furnished(&client).await;
    let (operations, schemas) = operations(&client).await;
    let state = || async {
        let mut state = Vec::new();
        for path in ["/orgs/me", "/orgs/me/users", "/workspaces", "/api-keys", "/policies"] {
            state.push(org.owner.get(path).await.ok(200));
        }
        // Its request may be counted only now, and logging in, which this test does, is written down there.
        state[0]["requests_this_month"] = Value::Null;
        state[1]["data"][0]["last_login_at"] = Value::Null;
        state[3]["data"][0]["last_used_at"] = Value::Null;
        state
    };
    let before = state().await;
    let (mut rows, mut meant) = (Vec::new(), Vec::new());
    for operation in &operations {
        let Some(schema) = &operation.body else { continue };
        if operation.kind == Kind::Directory {
            // What Sentinel does not know is left out there, as RFC 7644 wants; `admin/scim.rs`.
            continue;
        }
        let properties = schemas.properties(schema);
        let mut cells = Vec::new();
        for (field, value) in injected() {
            if properties.contains_key(field) {
                meant.push((operation.id.as_str(), field));
                cells.push("meant".to_owned());
                continue;
            }
            let caller = again(&client, &org).await;
            let path = operation.path_of(&caller).await;
            let mut body = schemas.example(schema, org.workspace().await["id"].as_str().unwrap());
            body[field] = value;
            let mut request = caller.request(operation.method.clone(), &path).header("if-match", "\"1\"").json(&body);
            if operation.kind == Kind::Application {
                request = request.header("x-api-key", &sentinel.tenant.key);
            }
            let problem = caller.send(request).await.problem(422, "validation_failed");
            let pointer = format!("/{field}");
            let named = problem["errors"].as_array().unwrap().iter().any(|fault| fault["pointer"] == pointer);
            assert!(named, "{} {field}: {problem:#}", operation.name());
            cells.push("422".to_owned());
        }
        rows.push((operation.name(), cells));
    }
    meant.sort_unstable();
    assert_eq!(meant, MEANT, "an operation takes such a field: is it meant to?");
    assert_eq!(state().await, before);
    publish("mass-assignment", &sentinel, &injected().map(|(field, _)| field), &rows);
}

async fn a_text_that_no_database_stores_is_refused_in_every_body(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = furnished(&client).await;
    let (operations, schemas) = operations(&client).await;
    let workspace = org.workspace().await["id"].as_str().unwrap().to_owned();
    let mut tried = 0;
    for operation in operations.iter().filter(|one| !matches!(one.kind, Kind::Application | Kind::Directory)) {
        let Some(schema) = &operation.body else { continue };
        let path = operation.path_of(&org.owner).await;
        for (name, property) in schemas.properties(schema) {
            let kind = &property["type"];
            let text = kind == "string" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("string")));
            let object = kind == "object" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("object")));
            let value = match (text, object) {
                (true, _) => json!("long enough\0for a password"),
                (_, true) => json!({"description": "a\0b"}),
                _ => continue,
            };
            let mut body = schemas.example(schema, &workspace);
            body[&name] = value;
            let problem = operation.call(&org.owner, &path, Some(&body)).await.problem(422, "validation_failed");
            assert!(problem["errors"].to_string().contains("U+0000"), "{} {name}: {problem:#}", operation.name());
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} texts were tried");
    org.owner.get("/audit-logs?user_id=%00").await.problem(400, "invalid_query");
}
