//! Every kind of error, once, and what all answers have in common.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization, PASSWORD};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    all_faults_of_a_body_come_back_at_once
    what_cannot_be_read_is_told_apart
    an_unknown_repeated_or_unreadable_query_parameter_is_refused
    without_a_good_token_nothing_is_told
    versions_guard_workspaces
    collisions_and_dangling_references_are_told_apart
    every_answer_has_an_id_of_its_own_and_is_not_for_browsers_to_run
}

fn pointers(problem: &Value) -> Vec<&str> {
    let mut pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    pointers
}

async fn all_faults_of_a_body_come_back_at_once(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let wrong = json!({"email": 7, "full_name": "", "org_name": "Acme", "admin": true});
    let problem = client.post("/auth/register", wrong).await.problem(422, "validation_failed");
    assert_eq!(pointers(&problem), ["/admin", "/email", "/full_name", "/password"]);
    let weak = json!({"email": "not an address", "password": "password1234", "full_name": " ", "org_name": "Acme"});
    let problem = client.post("/auth/register", weak).await.problem(422, "validation_failed");
    assert_eq!(pointers(&problem), ["/email", "/full_name", "/password"]);
    assert!(!problem.to_string().contains("password1234"), "the answer repeats the password");
}

async fn what_cannot_be_read_is_told_apart(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let login = |kind: &'static str, body: String| {
        client.request(Method::POST, "/auth/login").header("content-type", kind).body(body)
    };
    client.send(login("application/json", "{\"email\": ".into())).await.problem(400, "malformed_json");
    client.send(login("text/plain", "{}".into())).await.problem(415, "unsupported_media_type");
    let nested = "[".repeat(100_000);
    client.send(login("application/json", nested)).await.problem(400, "malformed_json");
    let large = format!("{{\"email\": \"{}\"}}", "a".repeat(2 << 20));
    client.send(login("application/json", large)).await.problem(413, "request_too_large");
    client.get("/nothing").await.problem(404, "not_found");
    let wrong_method = client.delete("/auth/login").await;
    assert!(wrong_method.header("allow").contains("POST"));
    wrong_method.problem(405, "method_not_allowed");
}

async fn an_unknown_repeated_or_unreadable_query_parameter_is_refused(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    for query in ["limt=1", "limit=0", "limit=201", "limit=many", "limit=1&limit=2", "cursor=garbage"] {
        let problem = org.owner.get(&format!("/workspaces?{query}")).await.problem(400, "invalid_query");
        assert!(problem["errors"][0]["parameter"].is_string(), "{query}");
    }
    for query in ["from=yesterday", "action=explode", "min_risk_score=101", "workspace_id=1", "page=2"] {
        org.owner.get(&format!("/audit-logs?{query}")).await.problem(400, "invalid_query");
    }
    org.owner.get("/audit-logs?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z").await.problem(400, "invalid_query");
    org.owner.get("/audit-logs?from=2026-01-01T00:00:00Z&action=block&category=pii&min_risk_score=50").await.ok(200);
}

async fn without_a_good_token_nothing_is_told(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    for client in [client.clone(), client.with_token("nonsense"), client.with_token(&org.refresh_token)] {
        // Whatever the body: who may not call learns nothing about it.
        for answer in [client.get("/orgs/me").await, client.post("/workspaces", json!({"x": 1})).await] {
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
            answer.problem(401, "unauthenticated");
        }
    }
    for key in ["nonsense", "snt_live_00000000000000000000000000000000000000"] {
        client.process(key, "hello").await.problem(401, "invalid_api_key");
    }
    client.post("/process", json!({"user_input": "hello"})).await.problem(401, "invalid_api_key");
}

async fn versions_guard_workspaces(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let id = org.workspace().await["id"].as_str().unwrap().to_owned();
    let path = format!("/workspaces/{id}");
    let tag = org.owner.get(&path).await.header("etag").to_owned();

    org.owner.patch(&path, json!({"name": "new"})).await.problem(428, "precondition_required");
    let changed = org.owner.change(Method::PATCH, &path, &tag, json!({"name": "new"})).await;
    assert_ne!(changed.header("etag"), tag);
    assert_eq!(changed.ok(200)["name"], "new");
    org.owner.change(Method::PATCH, &path, &tag, json!({"name": "newer"})).await.problem(412, "precondition_failed");
    org.owner.change(Method::PATCH, &path, "*", json!({"name": "newer"})).await.problem(400, "invalid_header");
    assert_eq!(org.owner.get(&path).await.ok(200)["name"], "new");
}

async fn collisions_and_dangling_references_are_told_apart(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let again =
        json!({"email": org.email.to_uppercase(), "password": PASSWORD, "full_name": "x y", "org_name": "other"});
    client.post("/auth/register", again).await.problem(409, "conflict");
    org.owner.post("/workspaces", json!({"name": "twin"})).await.ok(201);
    org.owner.post("/workspaces", json!({"name": "twin"})).await.problem(409, "conflict");
    let nowhere = "0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23";
    let key = json!({"workspace_id": nowhere, "name": "k"});
    let problem = org.owner.post("/api-keys", key).await.problem(422, "validation_failed");
    assert_eq!(pointers(&problem), ["/workspace_id"]);
    let workspace = json!({"name": "w", "policy_id": nowhere});
    let problem = org.owner.post("/workspaces", workspace).await.problem(422, "validation_failed");
    assert_eq!(pointers(&problem), ["/policy_id"]);
    for path in ["/workspaces/", "/api-keys/", "/policies/", "/audit-logs/"] {
        org.owner.get(&format!("{path}{nowhere}")).await.problem(404, "not_found");
        org.owner.get(&format!("{path}not-an-id")).await.problem(404, "not_found");
    }
}

async fn every_answer_has_an_id_of_its_own_and_is_not_for_browsers_to_run(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let answers = [
        client.get("/health").await,
        client.get("/nothing").await,
        client.get("/orgs/me").await,
        client.delete("/auth/login").await,
        client.get("/docs/").await,
    ];
    let mut ids = Vec::new();
    for answer in &answers {
        assert!(answer.header("x-request-id").starts_with("req_"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
        ids.push(answer.header("x-request-id"));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), answers.len());
}
