//! The monthly limit of an organization, at the gateway and at `/process`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::raw::PATIENCE;
use crate::support::{Reply, Sentinel, TestDatabase, command, on_both_engines, reply};

on_both_engines! {
    the_request_beyond_the_month_is_refused_until_the_limit_is_raised
}

/// Sets the limit as the operator does, in another process.
async fn set_limit(sentinel: &Sentinel, limit: &str) -> Value {
    let url = sentinel.database.config().url;
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["orgs", "set", "--org", "Harness", "--monthly-request-limit", limit, "--json"];
    command(folder.path(), &[("DATABASE_URL", &url)], &arguments).await
}

/// What the organization is told of its month, as soon as `requests` are counted.
async fn usage(sentinel: &Sentinel, requests: u64) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let shown = sentinel.admin(Method::GET, "/orgs/me", None).await.expect(200).json();
        if shown["requests_this_month"] == requests {
            return shown;
        }
        assert!(begun.elapsed() < PATIENCE, "{requests} requests are not counted: {shown}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn until(status: u16, ask: impl AsyncFn() -> Reply) -> Reply {
    let begun = std::time::Instant::now();
    loop {
        let answer = ask().await;
        if answer.status == status {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "never {status}: {}", answer.text);
    }
}

async fn the_request_beyond_the_month_is_refused_until_the_limit_is_raised(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    assert_eq!(set_limit(&sentinel, "3").await["monthly_request_limit"], 3);
    for _ in 0..3 {
        sentinel.chat("hello").await.expect(200);
    }
    let seen = sentinel.provider.requests();
    let refused = sentinel.chat("hello").await.expect(429);
    assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!((refused.header("x-should-retry"), refused.header("retry-after")), ("false", ""));
    let row = sentinel.audit_row_anywhere(refused.header("x-request-id")).await;
    assert_eq!((row.outcome.as_deref(), row.error_code.as_deref()), (Some("refused"), Some("insufficient_quota")));

    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}).to_string();
    let gemini = sentinel.post("/v1beta/models/gemini-pro:generateContent", gemini).await.expect(429).json();
    assert_eq!(gemini["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(gemini["error"]["details"][0]["reason"], "INSUFFICIENT_QUOTA");
    let bedrock = json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]}).to_string();
    let bedrock = sentinel.post("/model/claude/converse", bedrock).await.expect(429);
    assert_eq!(bedrock.header("x-amzn-errortype"), "ServiceQuotaExceededException");
    let ollama = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).to_string();
    assert_eq!(sentinel.post("/api/chat", ollama).await.expect(429).json()["code"], "insufficient_quota");
    let scan = json!({"user_input": "hello"}).to_string();
    let process = sentinel.post("/process", scan.clone()).await.expect(429);
    assert_eq!(process.json()["error"]["code"], "insufficient_quota");
    let request =
        sentinel.client.post(format!("{}/process", sentinel.admin_url())).header("x-api-key", &sentinel.tenant.key);
    let process = reply(request.header("content-type", "application/json").body(scan)).await.expect(429);
    assert_eq!(
        (process.json()["code"].as_str(), process.header("x-should-retry")),
        (Some("insufficient_quota"), "false")
    );
    assert_eq!(sentinel.provider.requests(), seen, "what was refused has reached the provider");

    // What is refused is not counted.
    let shown = usage(&sentinel, 3).await;
    assert_eq!((&shown["tier"], &shown["monthly_request_limit"]), (&json!("free"), &json!(3)));
    set_limit(&sentinel, "4").await;
    until(200, async || sentinel.chat("hello").await).await;
    sentinel.chat("hello").await.expect(429);
    set_limit(&sentinel, "none").await;
    until(200, async || sentinel.chat("hello").await).await;
    sentinel.chat("hello").await.expect(200);
    usage(&sentinel, 6).await;
    let events =
        sentinel.admin(Method::GET, "/admin-events?action=organization.set_plan", None).await.expect(200).json();
    assert_eq!(events["data"].as_array().unwrap().len(), 3);
    assert_eq!(events["data"][1]["before"]["monthly_request_limit"], 3);
    assert_eq!(events["data"][1]["after"]["monthly_request_limit"], 4);
    assert_eq!(events["data"][1]["actor_type"], "operator");
    sentinel.stop().await;
}
