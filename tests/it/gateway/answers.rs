//! What the model says: taken out or blocked, plain and streamed, with a row that says so.

use reqwest::Method;
use sentinel::mock_llm::Mode;
use serde_json::{Value, json};

use crate::support::raw::RawConnection;
use crate::support::{Reply, Sentinel, TestDatabase, on_both_engines, reply};

const SAID: &str = "the card is 4111 1111 1111 1111 and the key AKIA6HZJCIHOIJCDIO42, done.";

on_both_engines! {
    a_plain_answer_is_redacted_and_recorded
    a_streamed_answer_is_redacted_and_recorded
    a_blocked_answer_is_the_dialects_error
}

/// Every dialect's call, plain and streamed.
fn calls(stream: bool) -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "What do you have?"}]);
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "What do you have?"}]}]});
    let gemini = if stream {
        "/v1beta/models/gemini-3:streamGenerateContent?alt=sse"
    } else {
        "/v1beta/models/gemini-3:generateContent"
    };
    vec![
        ("/v1/chat/completions", json!({"model": "gpt", "stream": stream, "messages": messages})),
        ("/v1/responses", json!({"model": "gpt", "stream": stream, "input": "What do you have?"})),
        ("/v1/messages", json!({"model": "claude", "max_tokens": 9, "stream": stream, "messages": messages})),
        (gemini, contents),
        ("/api/chat", json!({"model": "llama", "stream": stream, "messages": messages})),
        ("/api/generate", json!({"model": "llama", "stream": stream, "prompt": "What do you have?"})),
    ]
}

async fn use_policy(sentinel: &Sentinel, document: Value) {
    // A name of its own for each.
    let name: String = document.to_string().chars().filter(char::is_ascii_alphanumeric).take(60).collect();
    let policy = json!({"name": name, "is_default": true, "document": document});
    sentinel.admin(Method::POST, "/policies", Some(policy)).await.expect(201);
}

/// The row's account of the answer.
async fn answer_of(sentinel: &Sentinel, answer: &Reply) -> (crate::support::Row, Value) {
    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    let account = row.answer.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
    (row, account)
}

fn clean(text: &str) {
    assert!(!text.contains("4111") && !text.contains("AKIA") && !text.contains("HZJC"), "{text}");
}

async fn a_plain_answer_is_redacted_and_recorded(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    sentinel.provider.behave(Mode::Say(SAID.to_owned()));
    for (path, body) in calls(false) {
        let answer = sentinel.post(path, body.to_string()).await.expect(200);
        clean(&answer.text);
        assert!(
            answer.text.contains("[REDACTED_CREDIT_CARD]") && answer.text.contains("[REDACTED_AWS_ACCESS_KEY]"),
            "{path}: {}",
            answer.text
        );
        assert_eq!(answer.header("content-length"), answer.text.len().to_string(), "{path}");
        assert_eq!(answer.header("x-sentinel-action"), "redact", "{path}");
        answer.json();
        assert_eq!(sentinel.provider.last_headers().unwrap()["accept-encoding"], "identity");
        let (row, account) = answer_of(&sentinel, &answer).await;
        assert_eq!((row.action.as_str(), row.outcome.as_deref()), ("allow", Some("completed")), "{path}");
        assert_eq!(
            (&account["action"], &account["categories"]),
            (&json!("redact"), &json!(["pii", "secrets"])),
            "{path}: {account}"
        );
        assert_eq!(account["findings"][0]["direction"], "output", "{account}");
        assert!(account["coverage"]["scanned"].as_u64().unwrap() >= SAID.len() as u64, "{account}");
        clean(&account.to_string());
    }
    let metrics = reqwest::get(format!("{}/metrics", sentinel.admin_url())).await.unwrap().text().await.unwrap();
    for line in [
        "sentinel_answers_total{action=\"redact\"} 6",
        "sentinel_detections_total{category=\"secrets\",detector=\"secrets\",direction=\"output\"} 6",
        "sentinel_scan_duration_seconds_count{direction=\"output\",stage=\"total\"} 6",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let listed = sentinel.admin(Method::GET, "/audit-logs?limit=1", None).await.expect(200).json();
    assert_eq!(listed["data"][0]["answer"]["action"], "redact", "{listed}");
    sentinel.stop().await;
}

async fn a_streamed_answer_is_redacted_and_recorded(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    sentinel.provider.behave(Mode::Say(SAID.to_owned()));
    for (path, body) in calls(true) {
        let answer = sentinel.post(path, body.to_string()).await.expect(200);
        clean(&answer.text);
        assert!(
            answer.text.contains("[REDACTED_CREDIT_CARD]") && answer.text.contains("[REDACTED_AWS_ACCESS_KEY]"),
            "{path}: {}",
            answer.text
        );
        assert!(answer.text.contains("done.") && !answer.text.contains("\"error\":{"), "{path}: {}", answer.text);
        let (row, account) = answer_of(&sentinel, &answer).await;
        assert_eq!((row.outcome.as_deref(), row.status), (Some("completed"), Some(200)), "{path}");
        assert_eq!(account["action"], "redact", "{path}: {account}");
        // The Responses API says everything three times more at the end.
        assert!(account["findings"].as_array().unwrap().len() >= 2, "{account}");
    }
    // What holds nothing arrives byte for byte.
    let body = json!({"model": "gpt", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    sentinel.provider.behave(Mode::Say("Paris, in 2024. It has 20 districts".to_owned()));
    let through = sentinel.post("/v1/chat/completions", body.to_string()).await.expect(200);
    let direct = sentinel
        .client
        .post(format!("{}/v1/chat/completions", sentinel.provider.url()))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(through.text, direct.text().await.unwrap());
    sentinel.stop().await;
}

async fn a_blocked_answer_is_the_dialects_error(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    use_policy(&sentinel, json!({"extends": "strict"})).await;
    sentinel.provider.behave(Mode::Say(SAID.to_owned()));
    for (path, body) in calls(false) {
        let answer = sentinel.post(path, body.to_string()).await.expect(400);
        clean(&answer.text);
        assert!(answer.text.contains("Response blocked by security policy"), "{path}: {}", answer.text);
        assert_eq!((answer.header("x-should-retry"), answer.header("x-sentinel-action")), ("false", "block"), "{path}");
        assert_eq!(answer.json()["sentinel"]["direction"], "output", "{}", answer.text);
        let (row, account) = answer_of(&sentinel, &answer).await;
        assert_eq!(
            (row.outcome.as_deref(), row.status, row.error_code.as_deref()),
            (Some("blocked"), Some(400), Some("content_filter")),
            "{path}"
        );
        assert_eq!(account["action"], "block", "{account}");
    }
    for (filter, found) in
        [("action=block", 6), ("category=secrets", 6), ("category=jailbreak", 0), ("action=redact", 0)]
    {
        let listed = sentinel.admin(Method::GET, &format!("/audit-logs?{filter}"), None).await.expect(200).json();
        assert_eq!(listed["data"].as_array().unwrap().len(), found, "{filter}: {listed}");
    }
    let stats = sentinel.admin(Method::GET, "/orgs/me/stats", None).await.expect(200);
    assert!(stats.text.contains("\"blocked\":6"), "{}", stats.text);
    for (path, body) in calls(true) {
        let answer = sentinel.post(path, body.to_string()).await.expect(200);
        clean(&answer.text);
        assert!(answer.text.contains("card "), "what came before has gone out: {}", answer.text);
        assert!(
            answer.text.contains("\"error\"") && answer.text.contains("Response blocked"),
            "{path}: {}",
            answer.text
        );
        for end in ["message_stop", "response.completed", "\"done\":true", "finishReason", "\"finish_reason\":\"stop\""]
        {
            assert!(!answer.text.contains(end), "{path} ends as if nothing had happened: {}", answer.text);
        }
        let (row, account) = answer_of(&sentinel, &answer).await;
        assert_eq!(
            (row.outcome.as_deref(), row.status, row.error_code.as_deref()),
            (Some("blocked"), Some(200), Some("content_filter")),
            "{path}"
        );
        assert_eq!(account["action"], "block", "{path}: {account}");
    }
    sentinel.stop().await;
}

/// The client's connection is not spent by an answer that was ended early, nor by one that was replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_can_be_used_again_after_a_block() {
    let sentinel = Sentinel::start_sqlite().await;
    use_policy(&sentinel, json!({"extends": "strict"})).await;
    let mut connection = RawConnection::open(sentinel.gateway()).await;
    for (said, stream, status) in [(SAID, true, 200), (SAID, false, 400), (SAID, true, 200), ("Paris", false, 200)] {
        sentinel.provider.behave(Mode::Say(said.to_owned()));
        let body =
            json!({"model": "gpt", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}).to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: sentinel.test\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            sentinel.tenant.key,
            body.len()
        );
        connection.write(request.as_bytes()).await;
        let answer = connection.reply().await.expect("an answer on the same connection");
        assert_eq!(answer.status, status, "{}", answer.text());
        clean(&answer.text());
        assert_eq!(answer.text().contains("content_filter"), said == SAID, "{}", answer.text());
    }
    sentinel.stop().await;
}

/// Large ones are looked at on another thread.
#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_looked_at_like_small_ones() {
    let sentinel = Sentinel::start_sqlite().await;
    let said = format!("{} {SAID}", "word ".repeat(100_000));
    sentinel.provider.behave(Mode::Say(said.clone()));
    let redacted = sentinel.chat("hello").await.expect(200);
    clean(&redacted.text);
    assert!(redacted.text.contains("[REDACTED_CREDIT_CARD]") && redacted.text.len() > 500_000);
    assert_eq!(redacted.header("content-length"), redacted.text.len().to_string());
    assert_eq!(redacted.header("x-sentinel-action"), "redact");
    assert_eq!(answer_of(&sentinel, &redacted).await.1["action"], "redact");
    use_policy(&sentinel, json!({"extends": "strict"})).await;
    let blocked = sentinel.chat("hello").await.expect(400);
    assert_eq!(blocked.json()["error"]["code"], "content_filter");
    assert_eq!(blocked.header("x-sentinel-action"), "block");
    let (row, account) = answer_of(&sentinel, &blocked).await;
    assert_eq!((row.outcome.as_deref(), row.status), (Some("blocked"), Some(400)));
    assert_eq!(account["action"], "block", "{account}");
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_allows_everything_in_answers_does_not_look_at_them() {
    let sentinel = Sentinel::start_sqlite().await;
    use_policy(&sentinel, json!({"answers": {"pii": {"action": "allow"}, "secrets": {"action": "allow"}}})).await;
    sentinel.provider.behave(Mode::Say(SAID.to_owned()));
    for stream in [false, true] {
        let body = json!({"model": "gpt", "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
        let answer = sentinel.post("/v1/chat/completions", body.to_string()).await.expect(200);
        assert!(stream || answer.text.contains("AKIA6HZJCIHOIJCDIO42"), "{}", answer.text);
        assert_eq!(answer_of(&sentinel, &answer).await.1, Value::Null);
        assert!(sentinel.provider.last_headers().unwrap().get("accept-encoding").is_none());
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_cannot_be_looked_at_are_refused_or_follow_the_policy() {
    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |config| {
        config.gateway.max_answer = "2KiB".parse().unwrap();
    })
    .await;
    let long = "word ".repeat(2_000);
    let refused = sentinel.chat(&long).await.expect(502);
    assert_eq!(
        (refused.json()["error"]["code"].as_str(), refused.header("x-should-retry")),
        (Some("answer_too_large"), "false")
    );
    let (row, _) = answer_of(&sentinel, &refused).await;
    assert_eq!((row.outcome.as_deref(), row.status), (Some("upstream_failed"), Some(502)));
    // An upstream that compresses although it was asked not to is undone, and looked at.
    sentinel.provider.behave(Mode::Gzip);
    let answer = sentinel.chat("my card is 4111 1111 1111 1111").await.expect(200);
    assert!(answer.text.contains("[REDACTED_CREDIT_CARD]"), "{}", answer.text);
    assert_eq!(answer.header("content-encoding"), "");
    // What holds no text follows `binary_answers`.
    sentinel.provider.behave(Mode::Type("audio/mpeg".parse().unwrap()));
    sentinel.chat("hello").await.expect(200);
    use_policy(&sentinel, json!({"binary_answers": "refuse"})).await;
    let refused = sentinel.chat("hello").await.expect(502);
    assert_eq!(refused.json()["error"]["code"], "answer_unreadable", "{}", refused.text);
    sentinel.provider.behave(Mode::Well);
    // The connection is good for more after all that.
    sentinel.chat("hello").await.expect(200);

    use_policy(&sentinel, json!({"fail": "open", "binary_answers": "pass"})).await;
    let passed = sentinel.chat(&long).await.expect(200);
    assert!(passed.text.contains("word word word"), "{}", passed.text);
    let (_, account) = answer_of(&sentinel, &passed).await;
    assert_eq!(account["coverage"]["skipped"][0]["reason"], "not_inspected", "{account}");
    assert_eq!(account["coverage"]["received"].as_u64(), Some(passed.text.len() as u64), "{account}");
    sentinel.provider.behave(Mode::Type("audio/mpeg".parse().unwrap()));
    let passed = sentinel.chat("hello").await.expect(200);
    let (_, account) = answer_of(&sentinel, &passed).await;
    assert_eq!(account["coverage"]["skipped"][0]["reason"], "binary", "{account}");
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_http2_are_looked_at_alike() {
    let sentinel = Sentinel::start_sqlite().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let ask = async |stream: bool| {
        let body = json!({"model": "gpt", "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
        let request = client.post(format!("{}/v1/chat/completions", sentinel.gateway_url()));
        reply(request.header("x-api-key", &sentinel.tenant.key).json(&body)).await
    };
    sentinel.provider.behave(Mode::Say(SAID.to_owned()));
    for stream in [false, true, false] {
        let answer = ask(stream).await.expect(200);
        clean(&answer.text);
        assert!(answer.text.contains("[REDACTED_AWS_ACCESS_KEY]"), "{}", answer.text);
    }
    use_policy(&sentinel, json!({"extends": "strict"})).await;
    for stream in [false, true, false] {
        let answer = ask(stream).await.expect(if stream { 200 } else { 400 });
        clean(&answer.text);
        assert!(answer.text.contains("content_filter"), "{}", answer.text);
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_gives_what_it_held_and_says_so() {
    let sentinel = Sentinel::start_sqlite().await;
    sentinel.provider.behave(Mode::Cut);
    for (path, body) in calls(true) {
        let answer = sentinel.post(path, body.to_string()).await.expect(200);
        let (row, account) = answer_of(&sentinel, &answer).await;
        assert_eq!(row.outcome.as_deref(), Some("upstream_failed"), "{path}: {}", answer.text);
        assert!(answer.text.contains("\"error\""), "{path}: {}", answer.text);
        assert_eq!(account["action"], "allow", "{account}");
    }
    sentinel.provider.behave(Mode::Well);
    sentinel.chat("hello").await.expect(200);
    sentinel.stop().await;
}
