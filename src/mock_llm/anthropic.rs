//! Messages, plain and streamed, token counts and the list of models.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, echo, last_user_text, model_of, tokens, words};

fn error(message: &str) -> Answer {
    let body = json!({
        "type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "req_mock",
    });
    Answer { status: StatusCode::BAD_REQUEST, ..Answer::json(&body) }
}

pub(super) fn messages(request: &Value) -> Answer {
    let Some(messages) = request.get("messages").filter(|messages| messages.is_array()) else {
        return error("messages: must be an array");
    };
    if !request.get("max_tokens").is_some_and(Value::is_u64) {
        return error("max_tokens: field required");
    }
    let asked = last_user_text(messages);
    let text = echo(&asked);
    let (input, output) = (tokens(&asked), tokens(&text));
    let message = |content: Value, stop: Value, output: usize| {
        json!({
            "id": "msg_mock", "type": "message", "role": "assistant", "model": model_of(request), "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": input, "output_tokens": output},
        })
    };
    if request.get("stream") != Some(&Value::Bool(true)) {
        return Answer::json(&message(json!([{"type": "text", "text": text}]), json!("end_turn"), output));
    }
    let mut events = vec![
        ("message_start", json!({"message": message(json!([]), Value::Null, 1)})),
        ("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})),
        ("ping", json!({})),
    ];
    events.extend(
        words(&text)
            .map(|word| ("content_block_delta", json!({"index": 0, "delta": {"type": "text_delta", "text": word}}))),
    );
    events.extend([
        ("content_block_stop", json!({"index": 0})),
        (
            "message_delta",
            json!({"delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": output}}),
        ),
        ("message_stop", json!({})),
    ]);
    for (name, event) in &mut events {
        if let Value::Object(fields) = event {
            fields.insert("type".into(), json!(name));
        }
    }
    Answer::events(events, None)
}

pub(super) fn count_tokens(request: &Value) -> Answer {
    match request.get("messages") {
        Some(messages) => Answer::json(&json!({"input_tokens": tokens(&last_user_text(messages))})),
        None => error("messages: field required"),
    }
}

pub(super) fn models() -> Answer {
    let model = json!({"type": "model", "id": "mock", "display_name": "Mock", "created_at": "2023-11-14T22:13:20Z"});
    Answer::json(&json!({"data": [model], "has_more": false, "first_id": "mock", "last_id": "mock"}))
}
