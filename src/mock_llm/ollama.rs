//! Ollama's chat and generate; streamed as lines of JSON unless the request says `stream: false`.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, echo, last_user_text, model_of, tokens, words};

const CREATED: &str = "2023-11-14T22:13:20Z";

pub(super) fn chat(request: &Value) -> Answer {
    match request.get("messages") {
        Some(messages) => {
            reply(request, &last_user_text(messages), |text| ("message", json!({"role": "assistant", "content": text})))
        }
        None => error(),
    }
}

pub(super) fn generate(request: &Value) -> Answer {
    match request.get("prompt").and_then(Value::as_str) {
        Some(prompt) => reply(request, prompt, |text| ("response", json!(text))),
        None => error(),
    }
}

fn error() -> Answer {
    Answer { status: StatusCode::BAD_REQUEST, ..Answer::json(&json!({"error": "missing request body"})) }
}

fn reply(request: &Value, asked: &str, field: impl Fn(&str) -> (&'static str, Value)) -> Answer {
    let text = echo(asked);
    let line = |text: &str, done: bool| {
        let (name, value) = field(text);
        let mut line = json!({"model": model_of(request), "created_at": CREATED, "done": done});
        if let Value::Object(fields) = &mut line {
            fields.insert(name.into(), value);
            if done {
                fields.insert("done_reason".into(), json!("stop"));
                fields.insert("prompt_eval_count".into(), json!(tokens(asked)));
                fields.insert("eval_count".into(), json!(words(asked).count() + 2));
                for duration in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
                    fields.insert(duration.into(), json!(1_000_000));
                }
            }
        }
        line
    };
    if request.get("stream") == Some(&Value::Bool(false)) {
        return Answer::json(&line(&text, true));
    }
    Answer::lines(words(&text).map(|word| line(word, false)).chain([line("", true)]))
}
