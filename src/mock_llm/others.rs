//! Gemini's and Bedrock's plainest answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, echo, last_user_text, tokens, words};
use super::anthropic;

pub(super) fn gemini(request: &Value) -> Answer {
    let asked = last_user_text(request.get("contents").unwrap_or(&Value::Null));
    Answer::json(&gemini_part(&asked, &echo(&asked), json!("STOP")))
}

/// As `?alt=sse` asks for, which the SDKs use.
pub(super) fn gemini_stream(request: &Value) -> Answer {
    let asked = last_user_text(request.get("contents").unwrap_or(&Value::Null));
    let text = echo(&asked);
    let parts = words(&text).map(|word| ("", gemini_part(&asked, word, Value::Null)));
    Answer::events(parts.chain([("", gemini_part(&asked, "", json!("STOP")))]), None)
}

fn gemini_part(asked: &str, text: &str, finish: Value) -> Value {
    let (prompt, candidates) = (tokens(asked), tokens(text));
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [{"text": text}]}});
    if let Value::Object(fields) = &mut candidate
        && !finish.is_null()
    {
        fields.insert("finishReason".into(), finish);
    }
    json!({
        "candidates": [candidate], "modelVersion": "mock",
        "usageMetadata": {
            "promptTokenCount": prompt, "candidatesTokenCount": candidates, "totalTokenCount": prompt + candidates,
        },
    })
}

pub(super) fn bedrock(request: &Value) -> Answer {
    let asked = last_user_text(request.get("messages").unwrap_or(&Value::Null));
    let text = echo(&asked);
    let (input, output) = (tokens(&asked), tokens(&text));
    Answer::json(&json!({
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": input, "outputTokens": output, "totalTokens": input + output},
        "metrics": {"latencyMs": 1},
    }))
}

pub(super) fn bedrock_stream(request: &Value) -> Answer {
    let asked = last_user_text(request.get("messages").unwrap_or(&Value::Null));
    let text = echo(&asked);
    let (input, output) = (tokens(&asked), tokens(&text));
    let mut events = vec![("messageStart", json!({"role": "assistant"}))];
    events.extend(
        words(&text).map(|word| ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": word}}))),
    );
    events.extend([
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": "end_turn"})),
        (
            "metadata",
            json!({
                "usage": {"inputTokens": input, "outputTokens": output, "totalTokens": input + output},
                "metrics": {"latencyMs": 1},
            }),
        ),
    ]);
    amazon_events(events.into_iter().map(|(kind, event)| amazon_event(kind, event)).collect())
}

/// Anthropic's events, each as base64 in a chunk.
pub(super) fn bedrock_invoke_stream(request: &Value) -> Answer {
    let mut request = request.clone();
    if let Value::Object(fields) = &mut request {
        fields.insert("stream".into(), json!(true));
    }
    let answer = anthropic::messages(&request);
    if answer.status != StatusCode::OK {
        return answer;
    }
    let data = answer.pieces.iter().filter_map(|piece| std::str::from_utf8(piece).ok()?.split_once("data: "));
    amazon_events(data.map(|(_, data)| amazon_event("chunk", json!({"bytes": STANDARD.encode(data.trim())}))).collect())
}

fn amazon_events(messages: Vec<Vec<u8>>) -> Answer {
    let pieces = messages.into_iter().map(Into::into).collect();
    Answer::new(StatusCode::OK, "application/vnd.amazon.eventstream", pieces)
}

/// One message, with the padding that hides how long a word is.
fn amazon_event(kind: &str, mut event: Value) -> Vec<u8> {
    if let Value::Object(fields) = &mut event {
        fields.insert("p".into(), json!("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM"));
    }
    let mut headers = Vec::new();
    for (name, value) in [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")] {
        // All of them are short.
        let (name_length, value_length) = (name.len() as u8, value.len() as u8);
        headers.extend([&[name_length], name.as_bytes(), &[7, 0, value_length], value.as_bytes()].concat());
    }
    let payload = event.to_string();
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let mut message = [number(16 + headers.len() + payload.len()), number(headers.len())].concat();
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message.extend(headers);
    message.extend(payload.as_bytes());
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message
}
