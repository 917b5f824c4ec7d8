//! Bedrock's event streams through the gateway, read by a decoder of their own.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use sentinel::mock_llm::Mode;
use serde_json::{Value, json};

use crate::support::{Row, Sentinel};

const SAID: &str = "the card is 4111 1111 1111 1111 and the key AKIA6HZJCIHOIJCDIO42, done.";
const STREAM: &str = "application/vnd.amazon.eventstream";

/// Both ways to ask for a stream, and where a piece of its text stands in the JSON.
fn calls() -> [(&'static str, Value, &'static str); 2] {
    let converse = json!({"messages": [{"role": "user", "content": [{"text": "What do you have?"}]}]});
    let invoke = json!({
        "anthropic_version": "bedrock-2023-05-31", "max_tokens": 9,
        "messages": [{"role": "user", "content": "What do you have?"}],
    });
    [
        ("/model/anthropic.claude-v2%3A1/converse-stream", converse, "/delta/text"),
        ("/model/anthropic.claude-v2%3A1/invoke-with-response-stream", invoke, "/delta/text"),
    ]
}

struct Streamed {
    id: String,
    bytes: Vec<u8>,
    /// The connection ended inside of the body.
    cut: bool,
}

async fn ask(sentinel: &Sentinel, path: &str, body: &Value) -> Streamed {
    let mut answer = sentinel.request(path).body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], STREAM);
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(piece)) => bytes.extend(piece),
            Ok(None) => return Streamed { id, bytes, cut: false },
            Err(_) => return Streamed { id, bytes, cut: true },
        }
    }
}

async fn row_of(sentinel: &Sentinel, answer: &Streamed) -> (Row, Value) {
    let row = sentinel.audit_row_anywhere(&answer.id).await;
    let account = row.answer.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
    (row, account)
}

async fn use_policy(sentinel: &Sentinel, document: Value) {
    let policy = json!({"name": "house", "is_default": true, "document": document});
    sentinel.admin(Method::POST, "/policies", Some(policy)).await.expect(201);
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

/// The messages: their headers, and what they say (a chunk what is in it). Lengths and checksums must be right.
fn decode(mut bytes: &[u8]) -> Vec<(BTreeMap<String, String>, Value)> {
    let number = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (total, length) = (number(bytes, 0) as usize, number(bytes, 4) as usize);
        assert_eq!(crc(&bytes[..8]), number(bytes, 8), "the prelude's checksum");
        let (message, rest) = bytes.split_at(total);
        assert_eq!(crc(&message[..total - 4]), number(message, total - 4), "the message's checksum");
        let mut headers = BTreeMap::new();
        let mut at = 12;
        while at < 12 + length {
            let (name, value) = (at + 1, at + 1 + usize::from(message[at]));
            assert_eq!(message[value], 7, "a text");
            let end = value + 3 + usize::from(u16::from_be_bytes([message[value + 1], message[value + 2]]));
            headers.insert(text(&message[name..value]), text(&message[value + 3..end]));
            at = end;
        }
        let mut said: Value = serde_json::from_slice(&message[at..total - 4]).unwrap();
        if let Some(inner) = said["bytes"].as_str() {
            said = serde_json::from_slice(&STANDARD.decode(inner).unwrap()).unwrap();
        }
        messages.push((headers, said));
        bytes = rest;
    }
    messages
}

/// Of a stream whose messages are all right.
fn text_of(bytes: &[u8], pointer: &str) -> String {
    let messages = decode(bytes);
    for (_, said) in &messages {
        let said = said.to_string();
        assert!(!said.contains("4111") && !said.contains("AKIA"), "{said}");
    }
    messages.iter().filter_map(|(_, said)| said.pointer(pointer)?.as_str()).collect()
}

/// The last message, which must be an exception: its type and message.
fn exception(bytes: &[u8]) -> (String, String) {
    let (headers, said) = decode(bytes).pop().expect("a message");
    assert_eq!(headers[":message-type"], "exception", "{said}");
    (headers[":exception-type"].clone(), said["message"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn bedrocks_streams_are_redacted_and_recorded() {
    let sentinel = Sentinel::start_sqlite().await;
    // They hold text: what is done with other content makes no difference.
    use_policy(&sentinel, json!({"extends": "balanced", "binary_answers": "refuse"})).await;
    for (path, body, pointer) in calls() {
        sentinel.provider.behave(Mode::Say(SAID.to_owned()));
        let answer = ask(&sentinel, path, &body).await;
        assert_eq!(
            text_of(&answer.bytes, pointer),
            "You said: the card is [REDACTED_CREDIT_CARD] and the key [REDACTED_AWS_ACCESS_KEY], done.",
            "{path}"
        );
        let (row, account) = row_of(&sentinel, &answer).await;
        assert_eq!((row.outcome.as_deref(), row.status), (Some("completed"), Some(200)), "{path}");
        assert_eq!(account["action"], "redact", "{path}: {account}");
        assert_eq!(account["coverage"]["skipped"], json!([]), "{path}: {account}");
        assert!(account["coverage"]["scanned"].as_u64().unwrap() >= SAID.len() as u64, "{account}");

        sentinel.provider.behave(Mode::Say("Paris, in 2024. It has 20 districts".to_owned()));
        let through = ask(&sentinel, path, &body).await;
        let direct = sentinel.client.post(format!("{}{path}", sentinel.provider.url())).json(&body);
        let direct = direct.send().await.unwrap().bytes().await.unwrap();
        assert!(through.bytes == direct, "{path}: what holds nothing arrives byte for byte");
        assert_eq!(row_of(&sentinel, &through).await.1["action"], "allow");
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_ends_bedrocks_stream_with_an_exception() {
    let sentinel = Sentinel::start_sqlite().await;
    use_policy(&sentinel, json!({"extends": "strict"})).await;
    for (path, body, pointer) in calls() {
        sentinel.provider.behave(Mode::Say(SAID.to_owned()));
        let answer = ask(&sentinel, path, &body).await;
        assert!(!answer.cut, "{path}");
        let text = text_of(&answer.bytes, pointer);
        assert!(text.starts_with("You said: the card ") && !text.contains("done"), "{path}: {text}");
        let (kind, message) = exception(&answer.bytes);
        assert_eq!(kind, "validationException", "{path}");
        assert!(message.contains("Response blocked by security policy"), "{path}: {message}");
        let events: Vec<String> = decode(&answer.bytes).iter().map(|(_, said)| said.to_string()).collect();
        assert!(
            !events.iter().any(|event| event.contains("message_stop") || event.contains("stopReason")),
            "{events:?}"
        );
        let (row, account) = row_of(&sentinel, &answer).await;
        assert_eq!(
            (row.outcome.as_deref(), row.status, row.error_code.as_deref()),
            (Some("blocked"), Some(200), Some("content_filter")),
            "{path}"
        );
        assert_eq!(account["action"], "block", "{path}: {account}");
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bedrock_stream_that_breaks_off_or_is_none_ends_with_an_exception() {
    let sentinel = Sentinel::start_sqlite().await;
    for (path, body, pointer) in calls() {
        sentinel.provider.behave(Mode::Cut);
        let answer = ask(&sentinel, path, &body).await;
        assert!(text_of(&answer.bytes, pointer).starts_with("You "), "{path}");
        assert_eq!(exception(&answer.bytes).0, "modelStreamErrorException", "{path}");
        assert_eq!(row_of(&sentinel, &answer).await.0.outcome.as_deref(), Some("upstream_failed"), "{path}");
    }
    // What calls itself such a stream and is another thing is not passed on.
    sentinel.provider.behave(Mode::Type(STREAM.parse().unwrap()));
    let answer = ask(
        &sentinel,
        "/v1/chat/completions",
        &json!({"model": "gpt", "messages": [{"role": "user", "content": "hello"}]}),
    )
    .await;
    let (kind, message) = exception(&answer.bytes);
    assert_eq!((kind.as_str(), decode(&answer.bytes).len()), ("modelStreamErrorException", 1));
    assert!(message.contains("cannot be inspected"), "{message}");
    assert_eq!(row_of(&sentinel, &answer).await.0.outcome.as_deref(), Some("upstream_failed"));

    // Unread, nobody knows where a message ends: what breaks off is cut.
    use_policy(&sentinel, json!({"answers": {"pii": {"action": "allow"}, "secrets": {"action": "allow"}}})).await;
    sentinel.provider.behave(Mode::Cut);
    let [(path, body, _), _] = calls();
    let answer = ask(&sentinel, path, &body).await;
    assert!(answer.cut && decode(&answer.bytes).iter().all(|(headers, _)| headers[":message-type"] == "event"));
    assert_eq!(row_of(&sentinel, &answer).await.1, Value::Null);
    sentinel.stop().await;
}
