//! Gemini's and Bedrock's plainest answers.

use serde_json::{Value, json};

use super::answer::{Answer, echo, last_user_text, tokens, words};

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
