//! What holds for every operation: idempotency, links, rate limits, headers, and a contract that is complete.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Answer, Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_repeated_post_is_answered_as_before_and_done_once
    idempotency_keys_are_of_one_person_body_and_operation
    an_answer_that_is_no_success_frees_its_key
    lists_name_their_next_page
}

async fn post(client: &Client, path: &str, key: &str, body: Value) -> Answer {
    client.send(client.request(Method::POST, path).header("idempotency-key", key).json(&body)).await
}

async fn a_repeated_post_is_answered_as_before_and_done_once(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let body = json!({"workspace_id": org.workspace().await["id"], "name": "k"});
    let first = post(&org.owner, "/api-keys", "once", body.clone()).await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let first = first.ok(201);
    for path in ["/api-keys", "/api/v1/api-keys"] {
        let again = post(&org.owner, path, "once", body.clone()).await;
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.header("content-type"), "application/json");
        assert_eq!(again.ok(201), first, "the key too");
    }
    assert_eq!(org.owner.get("/api-keys").await.ok(200)["data"].as_array().unwrap().len(), 1);
    let stored = sentinel.database.kept_answers().await;
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].contains("snt_"), "encrypted: {}", stored[0]);

    let many = (0..8).map(|_| post(&org.owner, "/workspaces", "race", json!({"name": "one of many"})));
    for answer in futures_util::future::join_all(many).await {
        if answer.status != 201 {
            answer.problem(409, "idempotency_in_flight");
        }
    }
    let tagged = post(&org.owner, "/workspaces", "race", json!({"name": "one of many"})).await;
    assert_eq!((tagged.header("etag"), tagged.header("idempotency-replayed")), ("\"1\"", "true"));
    assert_eq!(org.owner.get("/workspaces").await.ok(200)["data"].as_array().unwrap().len(), 2);
}

async fn idempotency_keys_are_of_one_person_body_and_operation(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let other = Organization::register(&client).await;
    let (admin, _) = org.person("admin", json!([])).await;
    let body = |name: &str| json!({"name": name});
    let mine = post(&org.owner, "/workspaces", "k", body("a")).await.ok(201);
    post(&org.owner, "/workspaces", "k", body("b")).await.problem(422, "idempotency_mismatch");
    post(&org.owner, "/policies", "k", body("a")).await.problem(422, "idempotency_mismatch");
    post(&admin, "/workspaces", "k", body("a")).await.problem(409, "conflict");
    assert_ne!(post(&other.owner, "/workspaces", "k", body("a")).await.ok(201)["id"], mine["id"]);
    post(&org.owner, "/workspaces", &"x".repeat(256), body("c")).await.problem(400, "invalid_header");
    post(&client, "/workspaces", "k", body("a")).await.problem(401, "unauthenticated");
}

async fn an_answer_that_is_no_success_frees_its_key(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    post(&org.owner, "/workspaces", "k", json!({"name": ""})).await.problem(422, "validation_failed");
    post(&org.owner, "/workspaces", "k", json!({"name": "good"})).await.ok(201);
    let (viewer, _) = org.person("viewer", json!([])).await;
    post(&viewer, "/workspaces", "v", json!({"name": "x"})).await.problem(403, "permission_denied");
    let large = json!({"name": "x".repeat(2 << 20)});
    post(&org.owner, "/workspaces", "l", large).await.problem(413, "request_too_large");
}

async fn lists_name_their_next_page(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    for name in ["a", "b"] {
        org.owner.post("/workspaces", json!({"name": name})).await.ok(201);
    }
    let mut path = "/api/v1/workspaces?limit=1".to_owned();
    let mut names = Vec::new();
    loop {
        let answer = org.owner.get(&path).await;
        let next = answer.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
        names.push(answer.ok(200)["data"][0]["name"].as_str().unwrap().to_owned());
        let Some(next) = next else { break };
        path = next.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert!(path.starts_with("/api/v1/workspaces?limit=1&cursor="), "{path}");
    }
    assert_eq!(names, ["b", "a", "default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_addresses_are_limited_and_told_what_is_left() {
    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |config| {
        config.admin.session_rate_limit = 5;
        config.admin.address_rate_limit = 100;
    })
    .await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    for left in (0..5).rev() {
        let answer = org.owner.get("/auth/me").await;
        assert_eq!((answer.header("ratelimit-limit"), answer.header("ratelimit-remaining")), ("5", &*left.to_string()));
        assert!(answer.header("ratelimit-reset").parse::<u64>().unwrap() <= 60);
        answer.ok(200);
    }
    let refused = org.owner.get("/auth/me").await;
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 60);
    refused.problem(429, "rate_limit_exceeded");
    for _ in 0..100 {
        client.get("/openapi.json").await;
    }
    client.get("/openapi.json").await.problem(429, "rate_limit_exceeded");
    client.get("/health").await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_call_when_the_configuration_says_so() {
    let preflight = |client: &Client| {
        let request = client.request(Method::OPTIONS, "/policies").header("origin", "https://console.acme.com");
        request.header("access-control-request-method", "GET")
    };
    let sentinel = Sentinel::start_sqlite().await;
    let client = Client::new(&sentinel);
    let answer = client.send(preflight(&client)).await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "off by default");
    assert!(!answer.headers.contains_key("strict-transport-security"), "not over TLS");

    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |config| {
        config.admin.cors_origins = vec!["https://console.acme.com".to_owned()];
        config.admin.public_url = "https://sentinel.acme.com".to_owned();
    })
    .await;
    let client = Client::new(&sentinel);
    let answer = client.send(preflight(&client)).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://console.acme.com");
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    let request = |origin: &str| client.request(Method::GET, "/policies").header("origin", origin);
    let refused = client.send(request("https://console.acme.com")).await;
    assert_eq!(refused.header("access-control-allow-origin"), "https://console.acme.com", "errors can be read too");
    assert_eq!(refused.header("strict-transport-security"), "max-age=31536000");
    for header in ["x-content-type-options", "content-security-policy", "referrer-policy", "x-frame-options"] {
        refused.header(header);
    }
    let stranger = client.send(request("https://evil.example")).await;
    assert!(!stranger.headers.contains_key("access-control-allow-origin"));
}

/// Statuses that every operation with this trait must document.
fn expected(operation: &Value) -> Vec<&'static str> {
    let mut statuses = vec!["500"];
    let security = &operation["security"][0];
    if security.get("session").is_some() {
        statuses.extend(["401", "403", "429", "503"]);
    }
    if security.get("apiKey").is_some() {
        statuses.extend(["401", "403", "429", "503"]);
    }
    if operation.get("requestBody").is_some() {
        statuses.extend(["400", "413", "415", "422"]);
    }
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    for parameter in &parameters {
        match (parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap()) {
            ("path", _) => statuses.push("404"),
            ("query", _) => statuses.push("400"),
            ("header", "If-Match") => statuses.push("412"),
            ("header", "Idempotency-Key") => statuses.extend(["400", "409", "422"]),
            _ => {}
        }
    }
    statuses
}

/// Whether a body has an example: its own, its schema's, or one at each required field.
fn has_example(document: &Value, body: &Value) -> bool {
    let content = body["content"].as_object().and_then(|kinds| kinds.values().next()).unwrap_or(&Value::Null);
    let name = content["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
    let schema = &document["components"]["schemas"][name];
    let shown = |value: &Value| ["example", "examples", "default"].iter().any(|key| value.get(key).is_some());
    let fields = schema["properties"].as_object();
    shown(content) || shown(schema) || fields.is_some_and(|fields| fields.values().any(shown))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_described_in_full() {
    let sentinel = Sentinel::start_sqlite().await;
    let document = Client::new(&sentinel).get("/openapi.json").await.ok(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["info"]["description"].as_str().unwrap().contains("Deprecation"));
    let mut faults = Vec::new();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            count += 1;
            let mut fault = |what: String| faults.push(format!("{method} {path}: {what}"));
            let text = |field: &str| operation[field].as_str().unwrap_or_default();
            for field in ["summary", "description", "operationId"] {
                if text(field).is_empty() {
                    fault(format!("no {field}"));
                }
            }
            let permission = operation["security"][0]["session"][0].as_str();
            if permission.is_some_and(|name| !text("description").contains(name)) {
                fault("the description does not name the permission".to_owned());
            }
            let responses = operation["responses"].as_object().unwrap();
            for status in expected(operation) {
                if !responses.contains_key(status) {
                    fault(format!("no {status}"));
                }
            }
            if !responses.keys().any(|status| status.starts_with(['1', '2', '3'])) {
                fault("no success".to_owned());
            }
            for (status, response) in responses {
                let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
                let is_health = path == "/health" && status == "503";
                // SCIM has a shape of its own.
                let is_scim = path.starts_with("/scim/");
                if (status.starts_with('4') || status.starts_with('5'))
                    && !is_health
                    && !is_scim
                    && problem != "#/components/schemas/Problem"
                {
                    fault(format!("{status} is no problem"));
                }
                if response["description"].as_str().unwrap_or_default().is_empty() {
                    fault(format!("{status} is not described"));
                }
            }
            if let Some(body) = operation.get("requestBody")
                && !has_example(&document, body)
            {
                fault("the body has no example".to_owned());
            }
        }
    }
    assert!(count > 25);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_needs_no_network() {
    let sentinel = Sentinel::start_sqlite().await;
    let client = Client::new(&sentinel);
    let page = client.get("/docs/").await;
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("http"), "{policy}");
    let page = page.ok(200);
    let html = page.as_str().unwrap();
    let assets: Vec<&str> =
        html.split(['"', '\'']).filter(|text| text.ends_with(".js") || text.ends_with(".css")).collect();
    assert!(assets.len() > 2 && assets.iter().all(|asset| !asset.contains("//")), "{assets:?}");
    for asset in assets {
        client.get(&format!("/docs/{}", asset.trim_start_matches("./"))).await.ok(200);
    }
}
