//! The owner's reference document, step by step, with its own values.

use reqwest::Method;
use serde_json::json;

use super::client::Client;
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    the_flow_of_the_reference_document_works_as_written
    health_metrics_and_documentation_need_no_credential_and_no_network
    every_path_works_below_api_v1_as_well
}

async fn the_flow_of_the_reference_document_works_as_written(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);

    // 1. Register a new organization.
    let founder = json!({"email": "founder@acme.com", "password": "SecurePass123!", "full_name": "John Doe", "org_name": "Acme Corp"});
    let data = client.post("/auth/register", founder).await.ok(201);
    let owner = client.with_token(data["access_token"].as_str().unwrap());
    let org_id = data["org_id"].clone();
    assert_eq!(data["token_type"], "bearer");
    assert_eq!(data["expires_in"], 900);
    assert!(data["refresh_token"].is_string() && data["user_id"].is_string());

    // The token works, and a log-in gives the same shape.
    let me = owner.get("/auth/me").await.ok(200);
    assert_eq!((&me["email"], &me["role"], &me["org_id"]), (&json!("founder@acme.com"), &json!("owner"), &org_id));
    let login = client.login("founder@acme.com", "SecurePass123!").await.ok(200);
    assert_eq!(login["user_id"], data["user_id"]);
    let refreshed = client.post("/auth/refresh", json!({"refresh_token": login["refresh_token"]})).await.ok(200);
    assert_eq!(refreshed["org_id"], org_id);
    let org = owner.get("/orgs/me").await.ok(200);
    assert_eq!((&org["id"], &org["name"]), (&org_id, &json!("Acme Corp")));

    // 2. Invite a team member.
    let engineer = json!({"email": "engineer@acme.com", "full_name": "Jane Smith", "role": "member", "permissions": ["policies:write"]});
    let invited = owner.post("/orgs/me/users/invite", engineer).await.ok(201);
    let temporary_password = invited["temporary_password"].as_str().unwrap();
    assert_eq!((&invited["email"], &invited["role"]), (&json!("engineer@acme.com"), &json!("member")));
    assert_eq!(invited["permissions"], json!(["policies:write"]));
    let first = client.login("engineer@acme.com", temporary_password).await.ok(200);
    assert_eq!(first["must_change_password"], true);
    assert_eq!(owner.get("/orgs/me/users").await.ok(200)["data"].as_array().unwrap().len(), 2);

    // 3. A workspace and an API key, without touching the database.
    let workspace = owner.post("/workspaces", json!({"name": "Production"})).await.ok(201);
    let key = json!({"workspace_id": workspace["id"], "name": "Production API Key"});
    let created = owner.post("/api-keys", key).await.ok(201);
    let api_key_full = created["key"].as_str().unwrap();
    assert!(api_key_full.starts_with(created["key_prefix"].as_str().unwrap()));
    assert!(api_key_full.ends_with(created["last_four"].as_str().unwrap()));

    // 4. Use the API key for a security scan.
    let body = json!({"user_input": "My credit card is 4532-1234-5678-9010", "user_id": "customer_123"});
    let scan = client.request(Method::POST, "/process").header("X-API-Key", api_key_full).json(&body);
    let answer = client.send(scan).await;
    assert_eq!(answer.body["request_id"], answer.header("x-request-id"));
    assert_eq!(answer.header("x-sentinel-action"), answer.body["action"].as_str().unwrap());
    let result = answer.ok(200);
    assert!(result["blocked"].is_boolean());
    assert!(result["risk_score"].as_u64().is_some_and(|score| (1..=100).contains(&score)), "{result:#}");
    assert_eq!(result["pii_detected"], true, "{result:#}");

    // Statistics have all their fields.
    let stats = owner.get("/orgs/me/stats").await.ok(200);
    assert_eq!((&stats["users"], &stats["workspaces"]), (&json!(2), &json!(2)));
    assert!(stats["requests"].is_u64() && stats["by_day"].is_array());
}

async fn health_metrics_and_documentation_need_no_credential_and_no_network(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    assert_eq!(client.get("/health").await.ok(200)["status"], "ok");
    let metrics = client.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain"));
    assert!(metrics.body.as_str().unwrap().contains("sentinel_admin_requests_total"));
    assert_eq!(client.get("/openapi.json").await.ok(200)["openapi"], "3.1.0");
    assert_eq!(client.get("/docs").await.header("location"), "/docs/");
    let page = client.get("/docs/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let page = page.ok(200);
    assert!(!page.as_str().unwrap().contains("//"), "the page loads from elsewhere: {page}");
    let settings = client.get("/docs/swagger-initializer.js").await.ok(200);
    assert!(settings.as_str().unwrap().contains("/openapi.json") && settings.as_str().unwrap().contains("none"));
    assert_eq!(client.get("/problems/not_found").await.ok(200)["status"], 404);
}

async fn every_path_works_below_api_v1_as_well(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel).below("/api/v1");
    client.get("/health").await.ok(200);
    let org = super::client::Organization::register(&client).await;
    org.owner.get("/auth/me").await.ok(200);
    org.owner.get(&format!("/workspaces/{}", org.workspace().await["id"].as_str().unwrap())).await.ok(200);
    client.get("/nothing").await.problem(404, "not_found");
}
