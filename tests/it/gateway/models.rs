//! Models that a workspace leaves out, and those that it calls by other names.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Sentinel, TestDatabase, on_both_engines, reply};

on_both_engines! {
    a_refused_model_never_reaches_its_provider
    an_alias_holds_for_body_and_path
    what_cannot_be_a_model_is_told_all_at_once
}

async fn configure(sentinel: &Sentinel, config: Value) -> Reply {
    let path = format!("/workspaces/{}", sentinel.tenant.workspace_id);
    let tag = sentinel.admin(Method::GET, &path, None).await.expect(200).header("etag").to_owned();
    let body = Some(json!({"config": config}));
    sentinel.admin_with(Method::PATCH, &path, body, &[("if-match", &tag)]).await
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

async fn a_refused_model_never_reaches_its_provider(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    configure(
        &sentinel,
        json!({"allowed_models": ["gpt-4o*", "gemini-*", "*claude*"], "denied_models": ["*-preview"]}),
    )
    .await
    .expect(200);
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    let converse = json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]});
    let messages = json!({"model": "claude-sonnet", "max_tokens": 9, "messages": chat("")["messages"]});
    let batch = json!({"requests": [{"custom_id": "a", "params": messages}, {"custom_id": "b", "params": chat("o3")}]});
    for (path, body) in [
        ("/v1/chat/completions", chat("gpt-4o-mini")),
        ("/v1beta/models/gemini-pro:generateContent", gemini.clone()),
        ("/model/eu.anthropic.claude-v2%3A1/converse", converse.clone()),
        ("/v1/messages", messages),
    ] {
        sentinel.post(path, body.to_string()).await.expect(200);
    }
    let seen = sentinel.provider.requests();

    let cases = [
        ("/v1/chat/completions", chat("gpt-3.5-turbo"), Some("gpt-3.5-turbo"), "/error/code"),
        ("/v1/chat/completions", chat("gpt-4o-preview"), Some("gpt-4o-preview"), "/error/code"),
        ("/v1/chat/completions", chat("my own words"), None, "/error/code"),
        ("/v1/chat/completions", json!({"messages": []}), None, "/error/code"),
        ("/v1/chat/completions", json!({"model": ["gpt-4o"], "messages": []}), None, "/error/code"),
        ("/v1/chat/completions", json!({"model": "gpt-4o", "MODEL": "o3"}), Some("gpt-4o"), "/error/code"),
        ("/v1/messages", chat("mistral"), Some("mistral"), "/error/code"),
        ("/v1/messages/batches", batch, Some("o3"), "/error/code"),
        ("/v1beta/models/gemini-3-preview:generateContent", gemini.clone(), Some("gemini-3-preview"), "/error/code"),
        ("/v1beta/models/palm:generateContent", gemini, Some("palm"), "/error/code"),
        ("/model/meta.llama3%3A0/converse", converse, Some("meta.llama3:0"), "/code"),
        ("/openai/openai/Deployments/o3/chat/completions", chat("gpt-4o"), Some("gpt-4o"), "/error/code"),
    ];
    let refusals = cases.len();
    for (path, body, asked, code) in cases {
        let refused = sentinel.post(path, body.to_string()).await.expect(403);
        let told = refused.json();
        let code = told.pointer(code).cloned().unwrap_or_default();
        assert!(code == "model_not_found" || code == 403, "{path} {told}");
        assert_eq!(refused.header("x-should-retry"), "false");
        let row = sentinel.audit_row_anywhere(refused.header("x-request-id")).await;
        assert_eq!((row.outcome.as_deref(), row.status), (Some("refused"), Some(403)), "{path} {row:?}");
        assert_eq!((row.error_code.as_deref(), row.model.as_deref()), (Some("model_not_found"), asked), "{path}");
    }
    let rows = sentinel.database.audit_rows("error_code = 'model_not_found'").await;
    assert_eq!(rows.len(), refusals, "one row each");
    assert_eq!(sentinel.provider.requests(), seen, "what was refused has reached the provider");
    // What names no model, and has nothing to say, is nobody's model.
    reply(
        sentinel.client.get(format!("{}/v1/models", sentinel.gateway_url())).header("x-api-key", &sentinel.tenant.key),
    )
    .await;
    assert_eq!(sentinel.provider.requests(), seen + 1);
    sentinel.stop().await;
}

async fn an_alias_holds_for_body_and_path(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let arn = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-v2:1";
    let config = json!({
        "model_aliases": {"fast": "gpt-4o-mini", "flash": "gemini-2.0-flash", "claude": arn},
        "allowed_models": ["gpt-4o-mini", "gemini-*", "arn:aws:bedrock:eu-*"],
    });
    configure(&sentinel, config).await.expect(200);

    // Byte for byte but for the name, also beside what is redacted.
    let body =
        r#"{ "messages" : [{"role":"user","content":"card 4111 1111 1111 1111, ask fast"}],"model":"fast" ,"n":1}"#;
    let answer = sentinel.post("/v1/chat/completions", body).await.expect(200);
    let sent = sentinel.provider.last_body().unwrap();
    let expected = body.replace("4111 1111 1111 1111", "[REDACTED_CREDIT_CARD]").replace("\"fast\"", "\"gpt-4o-mini\"");
    assert_eq!(String::from_utf8_lossy(&sent), expected);
    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    assert_eq!(row.model.as_deref(), Some("fast"), "the row has what was asked for");

    let gemini = r#"{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}"#;
    let answer = sentinel.post("/v1beta/models/flash:generateContent?alt=json", gemini).await.expect(200);
    let sent = sentinel.provider.last().unwrap();
    assert_eq!(sent.target.to_string(), "/v1beta/models/gemini-2.0-flash:generateContent?alt=json");
    assert_eq!(sent.body, gemini);
    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    assert_eq!(row.model.as_deref(), Some("flash"));

    let converse = json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]}).to_string();
    sentinel.post("/model/claude/converse", converse).await.expect(200);
    let sent = sentinel.provider.last().unwrap();
    let encoded = arn.replace(':', "%3A").replace('/', "%2F");
    assert_eq!(sent.target.to_string(), format!("/model/{encoded}/converse"));
    sentinel.stop().await;
}

async fn what_cannot_be_a_model_is_told_all_at_once(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let config = json!({
        "allowed_models": ["gpt-4o*", "", "two words"],
        "denied_models": ["a\"b"],
        "model_aliases": {"fast": "x y", "a/b c": "d", "good": "gpt-4o"},
    });
    let refused = configure(&sentinel, config).await.expect(422).json();
    let pointers: Vec<&str> =
        refused["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    let expected = [
        "/config/allowed_models/1",
        "/config/allowed_models/2",
        "/config/denied_models/0",
        "/config/model_aliases/a~1b c",
        "/config/model_aliases/fast",
    ];
    assert_eq!(pointers, expected, "{refused}");
    sentinel.stop().await;
}
