//! Values that the provider never sees and the client never misses, in every dialect.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Sentinel, TestDatabase, on_both_engines};

const EMAIL: &str = "ada@example.com";

on_both_engines! {
    a_value_comes_back_in_every_dialect
}

fn calls(said: &str, stream: bool) -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": said}]);
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": said}]}]});
    let converse = json!({"messages": [{"role": "user", "content": [{"text": said}]}]});
    let (gemini, bedrock) = if stream {
        ("/v1beta/models/gemini-3:streamGenerateContent?alt=sse", "/model/anthropic.claude/converse-stream")
    } else {
        ("/v1beta/models/gemini-3:generateContent", "/model/anthropic.claude/converse")
    };
    vec![
        ("/v1/chat/completions", json!({"model": "gpt", "stream": stream, "messages": messages})),
        ("/v1/responses", json!({"model": "gpt", "stream": stream, "input": said})),
        ("/v1/messages", json!({"model": "claude", "max_tokens": 9, "stream": stream, "messages": messages})),
        (gemini, contents),
        (bedrock, converse),
        ("/api/chat", json!({"model": "llama", "stream": stream, "messages": messages})),
        ("/api/generate", json!({"model": "llama", "stream": stream, "prompt": said})),
    ]
}

async fn use_policy(sentinel: &Sentinel, name: &str, document: Value) {
    let policy = json!({"name": name, "is_default": true, "document": document});
    sentinel.admin(Method::POST, "/policies", Some(policy)).await.expect(201);
}

async fn a_value_comes_back_in_every_dialect(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let answers = json!({"pii": {"action": "allow"}, "secrets": {"action": "allow"}});
    let tokenize = json!({"EMAIL_ADDRESS": {"action": "tokenize"}});
    for (name, document) in [
        ("redacts answers", json!({"rules": tokenize, "answers": {"EMAIL_ADDRESS": {"action": "redact"}}})),
        ("looks at no answer", json!({"extends": "monitor", "rules": tokenize, "answers": answers})),
    ] {
        use_policy(&sentinel, name, document).await;
        for stream in [false, true] {
            for (path, body) in calls(&format!("write to {EMAIL} now"), stream) {
                let answer = sentinel.post(path, body.to_string()).await.expect(200);
                let seen = String::from_utf8(sentinel.provider.last_body().unwrap().to_vec()).unwrap();
                assert!(!seen.contains(EMAIL) && seen.contains("write to <EMAIL_ADDRESS_"), "{path}: {seen}");
                assert!(
                    answer.text.contains(EMAIL) && !answer.text.contains("EMAIL_ADDRESS"),
                    "{path}: {}",
                    answer.text
                );
                assert_eq!(answer.header("x-sentinel-action"), "tokenize", "{path}");
                let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
                assert_eq!((row.action.as_str(), row.pii_detected), ("tokenize", true), "{path}");
                let findings: Value = serde_json::from_str(&row.findings).unwrap();
                assert_eq!(
                    (&findings[0]["action"], &findings[0]["start"]),
                    (&json!("tokenize"), &json!(9)),
                    "{findings}"
                );
                let text = format!("{row:?}");
                assert!(!text.contains(EMAIL) && !text.contains("EMAIL_ADDRESS_"), "{path}: {text}");
            }
        }
    }
    let listed = sentinel.admin(Method::GET, "/audit-logs?action=tokenize&limit=1", None).await.expect(200).json();
    assert_eq!(listed["data"][0]["action"], "tokenize", "{listed}");
    // What stands in the query cannot be replaced.
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    let path = "/v1beta/models/gemini-3:generateContent?user=ada@example.com";
    sentinel.post(path, body.to_string()).await.expect(400);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn process_shows_the_tokens_and_credentials_cannot_have_any() {
    let sentinel = Sentinel::start_sqlite().await;
    use_policy(&sentinel, "tokens", json!({"rules": {"EMAIL_ADDRESS": {"action": "tokenize"}}})).await;
    let body = json!({"user_input": "ada@example.com, bob@example.org and ada@example.com"}).to_string();
    let shown = sentinel.post("/process", body).await.expect(200).json();
    assert_eq!((&shown["action"], &shown["blocked"]), (&json!("tokenize"), &json!(false)), "{shown}");
    assert_eq!(shown["redacted_input"], "<EMAIL_ADDRESS_1>, <EMAIL_ADDRESS_2> and <EMAIL_ADDRESS_1>", "{shown}");
    for (rules, pointer) in [
        (json!({"secrets": {"action": "tokenize"}}), "/document/rules/secrets/action"),
        (json!({"prompt_injection": {"action": "tokenize"}}), "/document/rules/prompt_injection/action"),
    ] {
        let policy = json!({"name": "no", "document": {"rules": rules}});
        let refused = sentinel.admin(Method::POST, "/policies", Some(policy)).await.expect(422).json();
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
    sentinel.stop().await;
}
