//! Chat completions, responses, embeddings and the list of models.

use base64::Engine as _;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, content_text, echo, last_user_text, markdown, model_of, pieces, tokens, words};

/// 2023-11-14; the mock has no clock, so that its answers are the same every time.
const CREATED: u64 = 1_700_000_000;

/// The mark of a request that is to be answered with a tool call.
pub(super) const CALL: &str = "mock_call";

const DONE: &str = "data: [DONE]\n\n";

pub(super) fn error(status: StatusCode, message: &str) -> Answer {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": null}});
    Answer { status, ..Answer::json(&body) }
}

pub(super) fn chat(request: &Value) -> Answer {
    let Some(messages) = request.get("messages").filter(|messages| messages.is_array()) else {
        return error(StatusCode::BAD_REQUEST, "messages must be an array");
    };
    let asked = last_user_text(messages);
    let call = request.get(CALL).is_some();
    let text = if call { format!("{}, **{}**", echo(&asked), markdown(&asked)) } else { echo(&asked) };
    let arguments = json!({"said": asked, "words": [asked]}).to_string();
    let tool = |arguments: &str| json!({"id": "call_mock", "type": "function", "function": {"name": "say", "arguments": arguments}});
    let finish = if call { "tool_calls" } else { "stop" };
    let (prompt, completion) = (tokens(&asked), tokens(&text));
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
    let model = model_of(request);
    if request.get("stream") != Some(&Value::Bool(true)) {
        let mut message = json!({"role": "assistant", "content": text, "refusal": null});
        if call && let Value::Object(fields) = &mut message {
            fields.insert("tool_calls".into(), json!([tool(&arguments)]));
        }
        return Answer::json(&json!({
            "id": "chatcmpl-mock", "object": "chat.completion", "created": CREATED, "model": model,
            "choices": [{"index": 0, "finish_reason": finish, "logprobs": null, "message": message}],
            "usage": usage,
        }));
    }
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({
            "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": CREATED, "model": model,
            "choices": choices, "usage": usage,
        });
        ("", chunk)
    };
    let delta = |delta: Value, finish: Value| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), &Value::Null)
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    if call {
        events.extend(pieces(&text).map(|piece| delta(json!({"content": piece}), Value::Null)));
        let with_index = |mut call: Value| {
            if let Value::Object(fields) = &mut call {
                fields.insert("index".into(), json!(0));
            }
            delta(json!({"tool_calls": [call]}), Value::Null)
        };
        events.push(with_index(tool("")));
        events.extend(pieces(&arguments).map(|piece| with_index(json!({"function": {"arguments": piece}}))));
    } else {
        events.extend(words(&text).map(|word| delta(json!({"content": word}), Value::Null)));
    }
    events.push(delta(json!({}), json!(finish)));
    if request.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)) {
        events.push(chunk(json!([]), &usage));
    }
    Answer::events(events, Some(DONE))
}

pub(super) fn responses(request: &Value) -> Answer {
    let asked = match request.get("input") {
        Some(Value::String(text)) => text.clone(),
        Some(messages) => last_user_text(messages),
        None => return error(StatusCode::BAD_REQUEST, "input is missing"),
    };
    let text = echo(&asked);
    let (input, output) = (tokens(&asked), tokens(&text));
    let item = |status: &str, content: Value| json!({"id": "msg_mock", "type": "message", "role": "assistant", "status": status, "content": content});
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let response = |status: &str, output: Value, usage: Value| {
        json!({
            "id": "resp_mock", "object": "response", "created_at": CREATED, "status": status, "model": model_of(request),
            "output": output, "usage": usage, "error": null, "incomplete_details": null, "instructions": null,
            "metadata": {}, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0,
        })
    };
    let finished = response(
        "completed",
        json!([item("completed", json!([part(&text)]))]),
        json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + output,
        }),
    );
    if request.get("stream") != Some(&Value::Bool(true)) {
        return Answer::json(&finished);
    }
    let started = response("in_progress", json!([]), Value::Null);
    let mut events = vec![
        ("response.created", json!({"response": started})),
        ("response.output_item.added", json!({"output_index": 0, "item": item("in_progress", json!([]))})),
        (
            "response.content_part.added",
            json!({"item_id": "msg_mock", "output_index": 0, "content_index": 0, "part": part("")}),
        ),
    ];
    events.extend(words(&text).map(|word| {
        let delta =
            json!({"item_id": "msg_mock", "output_index": 0, "content_index": 0, "delta": word, "logprobs": []});
        ("response.output_text.delta", delta)
    }));
    events.extend([
        (
            "response.output_text.done",
            json!({"item_id": "msg_mock", "output_index": 0, "content_index": 0, "text": text, "logprobs": []}),
        ),
        (
            "response.content_part.done",
            json!({"item_id": "msg_mock", "output_index": 0, "content_index": 0, "part": part(&text)}),
        ),
        ("response.output_item.done", json!({"output_index": 0, "item": item("completed", json!([part(&text)]))})),
        ("response.completed", json!({"response": finished})),
    ]);
    for (number, (name, event)) in events.iter_mut().enumerate() {
        if let Value::Object(fields) = event {
            fields.insert("type".into(), json!(name));
            fields.insert("sequence_number".into(), json!(number));
        }
    }
    Answer::events(events, None)
}

/// Eight dimensions that depend on nothing but the text's length; as floats, or in base64 as current SDKs ask for.
pub(super) fn embeddings(request: &Value) -> Answer {
    let inputs = match request.get("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(inputs)) => inputs.iter().map(content_text).collect(),
        _ => return error(StatusCode::BAD_REQUEST, "input is missing"),
    };
    let base64 = request.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            let vector: Vec<f32> = (1_u8..=8).map(|n| f32::from(length) / (f32::from(n) * 65_536.0)).collect();
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                json!(base64::engine::general_purpose::STANDARD.encode(bytes))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let count: usize = inputs.iter().map(|text| tokens(text)).sum();
    Answer::json(&json!({
        "object": "list", "data": data, "model": model_of(request),
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }))
}

pub(super) fn models() -> Answer {
    Answer::json(&json!({
        "object": "list",
        "data": [{"id": "mock", "object": "model", "created": CREATED, "owned_by": "sentinel"}],
    }))
}
