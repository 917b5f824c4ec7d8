//! Streams as the providers write them, cut everywhere.

mod amazon;
mod tokens;

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use super::*;
use crate::domain::Category;
use crate::policy::{self, PolicyLabel, Preset};

const LIMITS: AnswerLimits =
    AnswerLimits { read: ReadLimits { max_decoded: 1 << 24, max_ratio: 100, max_depth: 64 }, max_frame: 1 << 20 };
const CARD: &str = "4111 1111 1111 1111";
const TOKEN: &str = "AKIA6HZJCIHOIJCDIO42";
const KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----";

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Arc::new(Engine::builtin().unwrap()));

fn policy(document: &str) -> Arc<CompiledPolicy> {
    let document = policy::parse(document).unwrap();
    Arc::new(policy::compile(&document, PolicyLabel::of_preset(Preset::Balanced), &ENGINE).unwrap())
}

static BALANCED: LazyLock<Arc<CompiledPolicy>> = LazyLock::new(|| policy("extends: balanced"));
static STRICT: LazyLock<Arc<CompiledPolicy>> = LazyLock::new(|| policy("extends: strict"));

fn stream(policy: &Arc<CompiledPolicy>, framing: Framing) -> AnswerStream {
    AnswerStream::new(ENGINE.clone(), policy.clone(), framing, LIMITS, None)
}

/// What comes out of `bytes` in these pieces, why it stopped, and the report.
fn run<'p>(
    policy: &Arc<CompiledPolicy>,
    framing: Framing,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (String, Option<Stop>, AnswerReport) {
    let mut stream = stream(policy, framing);
    let mut out = Vec::new();
    let mut stop = None;
    for piece in pieces {
        let flow = stream.push(piece);
        out.extend(flow.bytes);
        stop = flow.stop;
        if stop.is_some() {
            break;
        }
    }
    if stop.is_none() {
        let flow = stream.finish();
        out.extend(flow.bytes);
        stop = flow.stop;
    }
    (String::from_utf8(out).unwrap(), stop, stream.report().clone())
}

fn whole(policy: &Arc<CompiledPolicy>, framing: Framing, text: &str) -> (String, Option<Stop>, AnswerReport) {
    run(policy, framing, [text.as_bytes()])
}

/// The dialects' streams, made of the pieces of a text as a model would write them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Chat,
    ChatReasoning,
    ChatArguments,
    Completions,
    Responses,
    ResponsesArguments,
    Messages,
    MessagesThinking,
    MessagesArguments,
    Gemini,
    OllamaChat,
    OllamaGenerate,
}

const SHAPES: [Shape; 12] = [
    Shape::Chat,
    Shape::ChatReasoning,
    Shape::ChatArguments,
    Shape::Completions,
    Shape::Responses,
    Shape::ResponsesArguments,
    Shape::Messages,
    Shape::MessagesThinking,
    Shape::MessagesArguments,
    Shape::Gemini,
    Shape::OllamaChat,
    Shape::OllamaGenerate,
];

impl Shape {
    fn framing(self) -> Framing {
        match self {
            Self::OllamaChat | Self::OllamaGenerate => Framing::Lines,
            _ => Framing::Events,
        }
    }

    /// Whether the text is the source of a JSON object.
    fn is_json(self) -> bool {
        matches!(self, Self::ChatArguments | Self::ResponsesArguments | Self::MessagesArguments)
    }

    fn write(self, pieces: &[String]) -> String {
        let text = pieces.concat();
        let mut out = String::new();
        let mut data = |value: Value| out.push_str(&format!("data: {value}\n\n"));
        let chunk = |delta: Value, finish: Value| {
            json!({
                "id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-5-mini",
                "system_fingerprint": "fp_44709d6fcb", "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
                "usage": null,
            })
        };
        match self {
            Self::Chat | Self::ChatReasoning | Self::ChatArguments => {
                data(chunk(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null));
                if self == Self::ChatArguments {
                    let call = json!({"index": 0, "id": "call_7Yx", "type": "function", "function": {"name": "pay", "arguments": ""}});
                    data(chunk(json!({"tool_calls": [call]}), Value::Null));
                }
                for piece in pieces {
                    let delta = match self {
                        Self::Chat => json!({"content": piece}),
                        Self::ChatReasoning => json!({"reasoning_content": piece}),
                        _ => json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}),
                    };
                    data(chunk(delta, Value::Null));
                }
                data(chunk(json!({}), json!("stop")));
                data(json!({
                    "id": "chatcmpl-9", "object": "chat.completion.chunk", "choices": [],
                    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
                }));
                out.push_str("data: [DONE]\n\n");
            }
            Self::Completions => {
                for piece in pieces {
                    data(
                        json!({"id": "cmpl-9", "object": "text_completion", "choices": [{"text": piece, "index": 0, "logprobs": null, "finish_reason": null}]}),
                    );
                }
                data(json!({"id": "cmpl-9", "choices": [{"text": "", "index": 0, "finish_reason": "length"}]}));
                out.push_str("data: [DONE]\n\n");
            }
            Self::Responses | Self::ResponsesArguments => {
                let (kind, index) = match self {
                    Self::Responses => ("response.output_text", "content_index"),
                    _ => ("response.function_call_arguments", "output_index"),
                };
                let mut number = 0;
                let mut event = |kind: &str, mut value: Value| {
                    value["type"] = kind.into();
                    value["sequence_number"] = number.into();
                    number += 1;
                    out.push_str(&format!("event: {kind}\ndata: {value}\n\n"));
                };
                event("response.created", json!({"response": {"id": "resp_1", "status": "in_progress", "output": []}}));
                for piece in pieces {
                    event(
                        &format!("{kind}.delta"),
                        json!({"item_id": "msg_1", "output_index": 0, index: 0, "delta": piece}),
                    );
                }
                let name = if self == Self::Responses { "text" } else { "arguments" };
                event(&format!("{kind}.done"), json!({"item_id": "msg_1", "output_index": 0, index: 0, name: text}));
                event(
                    "response.completed",
                    json!({"response": {"id": "resp_1", "status": "completed",
                        "output": [{"id": "msg_1", "type": "message", "content": [{"type": "output_text", name: text}]}],
                        "usage": {"input_tokens": 11, "output_tokens": 7}}}),
                );
            }
            Self::Messages | Self::MessagesThinking | Self::MessagesArguments => {
                let mut event = |kind: &str, mut value: Value| {
                    value["type"] = kind.into();
                    out.push_str(&format!("event: {kind}\ndata: {value}\n\n"));
                };
                event(
                    "message_start",
                    json!({"message": {"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 11, "output_tokens": 1}}}),
                );
                let (block, kind, name) = match self {
                    Self::Messages => (json!({"type": "text", "text": ""}), "text_delta", "text"),
                    Self::MessagesThinking => {
                        (json!({"type": "thinking", "thinking": ""}), "thinking_delta", "thinking")
                    }
                    _ => (
                        json!({"type": "tool_use", "id": "toolu_1", "name": "pay", "input": {}}),
                        "input_json_delta",
                        "partial_json",
                    ),
                };
                event("content_block_start", json!({"index": 1, "content_block": block}));
                event("ping", json!({}));
                for piece in pieces {
                    event("content_block_delta", json!({"index": 1, "delta": {"type": kind, name: piece}}));
                }
                event("content_block_stop", json!({"index": 1}));
                event(
                    "message_delta",
                    json!({"delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 7}}),
                );
                event("message_stop", json!({}));
            }
            Self::Gemini => {
                let part = |piece: &str| json!({"candidates": [{"content": {"parts": [{"text": piece}], "role": "model"}, "index": 0}], "modelVersion": "gemini-3"});
                for piece in pieces {
                    out.push_str(&format!("data: {}\r\n\r\n", part(piece)));
                }
                let mut last = part("");
                last["candidates"][0]["finishReason"] = "STOP".into();
                last["usageMetadata"] = json!({"promptTokenCount": 11, "candidatesTokenCount": 7});
                out.push_str(&format!("data: {last}\r\n\r\n"));
            }
            Self::OllamaChat | Self::OllamaGenerate => {
                let mut line = |piece: &str, done: bool| {
                    let mut line =
                        json!({"model": "llama", "created_at": "2026-11-14T22:13:20.123456789Z", "done": done});
                    match self {
                        Self::OllamaChat => line["message"] = json!({"role": "assistant", "content": piece}),
                        _ => line["response"] = piece.into(),
                    }
                    if done {
                        line["eval_count"] = 7.into();
                    }
                    out.push_str(&format!("{line}\n"));
                };
                pieces.iter().for_each(|piece| line(piece, false));
                line("", true);
            }
        }
        out
    }

    /// The text of a stream, put together as a client does.
    fn read(self, stream: &str) -> String {
        let mut text = String::new();
        for line in stream.lines() {
            let line = line.strip_prefix("data: ").unwrap_or(line);
            if !line.starts_with('{') {
                continue;
            }
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let pointer = match self {
                Self::Chat => "/choices/0/delta/content",
                Self::ChatReasoning => "/choices/0/delta/reasoning_content",
                Self::ChatArguments => "/choices/0/delta/tool_calls/0/function/arguments",
                Self::Completions => "/choices/0/text",
                Self::Responses | Self::ResponsesArguments => "/delta",
                Self::Messages => "/delta/text",
                Self::MessagesThinking => "/delta/thinking",
                Self::MessagesArguments => "/delta/partial_json",
                Self::Gemini => "/candidates/0/content/parts/0/text",
                Self::OllamaChat => "/message/content",
                Self::OllamaGenerate => "/response",
            };
            text.push_str(value.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
        }
        text
    }
}

/// `text` in pieces of a few characters.
fn cut(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut sizes = sizes.iter().copied().cycle();
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.char_indices().nth(sizes.next().unwrap().max(1)).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece.to_owned());
        rest = after;
    }
    pieces
}

fn clean(text: &str) {
    for secret in [TOKEN, "HOIJCDIO", CARD, "1111 1111", "4111111111111111", "MIIEvQ", "gkqhkiG9w0"] {
        assert!(!text.contains(secret), "{secret} slipped through: {text}");
    }
}

fn said(shape: Shape) -> String {
    if shape.is_json() {
        json!({"note": format!("first\n{TOKEN}\nthen {CARD} é\u{1f600} \"quoted\""), "card": 4_111_111_111_111_111_u64, "n": [1, 2.5], "key": KEY})
            .to_string()
    } else {
        format!("Use {TOKEN} — or card {CARD}. Don’t: 東京 \u{1f600}\n{KEY}\nthe end, in 2024 \"ok\".")
    }
}

#[test]
fn what_is_found_is_replaced_across_events_and_the_rest_stays_byte_for_byte() {
    for shape in SHAPES {
        let text = said(shape);
        let stream = shape.write(&cut(&text, &[3, 1, 7]));
        assert_eq!(shape.read(&stream), text);
        let (out, stop, report) = whole(&BALANCED, shape.framing(), &stream);
        assert_eq!(stop, None, "{shape:?}");
        clean(&out);
        let read = shape.read(&out);
        for kind in ["AWS_ACCESS_KEY", "CREDIT_CARD", "PRIVATE_KEY"] {
            assert!(read.contains(&format!("[REDACTED_{kind}]")), "{shape:?} {kind}: {read}");
        }
        if shape.is_json() {
            let value: Value = serde_json::from_str(&read).unwrap_or_else(|error| panic!("{shape:?} {error}: {read}"));
            assert_eq!(value["card"], "[REDACTED_CREDIT_CARD]", "{value}");
            assert_eq!(value["n"], json!([1, 2.5]));
            assert_eq!(
                value["note"],
                "first\n[REDACTED_AWS_ACCESS_KEY]\nthen [REDACTED_CREDIT_CARD] é\u{1f600} \"quoted\""
            );
        } else {
            assert_eq!(
                read,
                "Use [REDACTED_AWS_ACCESS_KEY] — or card [REDACTED_CREDIT_CARD]. Don’t: 東京 \u{1f600}\n[REDACTED_PRIVATE_KEY]\nthe end, in 2024 \"ok\"."
            );
        }
        // As many events as before, and those that carry no text as they were.
        let (before, after): (Vec<&str>, Vec<&str>) = (stream.lines().collect(), out.lines().collect());
        assert_eq!(before.len(), after.len(), "{shape:?}");
        for (before, after) in
            before.iter().zip(after).filter(|(before, _)| before.contains("sage") && !before.contains("text"))
        {
            assert!(
                *before == after
                    || before.contains("delta")
                    || before.contains("message\":{")
                    || before.contains("output\":["),
                "{before} became {after}"
            );
        }
        assert_eq!(report.verdict.action, Action::Redact);
        assert_eq!(report.verdict.categories, [Category::Pii, Category::Secrets]);
        assert!(report.findings.iter().all(|finding| finding.direction == Direction::Output));
    }
}

#[test]
fn a_stream_in_which_nothing_is_found_is_the_same_bytes() {
    let text = "Paris has 2,102,650 people; call 112 in need. {\"a\": [1, 2]} <b>é</b> \u{1f600} in 2024.";
    for shape in SHAPES {
        let stream = shape.write(&cut(text, &[2, 5, 1]));
        for policy in [&*BALANCED, &*STRICT] {
            let (out, stop, report) = whole(policy, shape.framing(), &stream);
            assert_eq!((out.as_str(), stop), (stream.as_str(), None), "{shape:?}");
            assert!(report.findings.is_empty() && report.coverage.scanned > 0, "{report:?}");
            assert_eq!(report.coverage.received, stream.len() as u64);
        }
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for shape in SHAPES {
        let text = match shape.is_json() {
            true => json!({"a": format!("\n{TOKEN}é"), "card": 4_111_111_111_111_111_u64}).to_string(),
            false => format!("é {TOKEN} {CARD}"),
        };
        let stream = shape.write(&cut(&text, &[14, 9, 20]));
        let bytes = stream.as_bytes();
        let expected = whole(&BALANCED, shape.framing(), &stream);
        clean(&expected.0);
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(run(&BALANCED, shape.framing(), [a, b]), expected, "{shape:?} cut at {at}");
        }
        assert_eq!(run(&BALANCED, shape.framing(), bytes.chunks(1)), expected, "{shape:?} byte by byte");
    }
}

#[test]
fn a_block_lets_nothing_of_it_out_and_is_never_a_normal_end() {
    for shape in SHAPES {
        let stream = shape.write(&cut(&said(shape), &[3, 1, 7]));
        let bytes = stream.as_bytes();
        let expected = whole(&STRICT, shape.framing(), &stream);
        let (out, stop, report) = &expected;
        assert_eq!(*stop, Some(Stop::Blocked), "{shape:?}");
        assert_eq!(report.verdict.action, Action::Block);
        clean(out);
        assert!(!shape.read(out).contains("AKIA"), "{shape:?}: {out}");
        assert!(!out.contains("[DONE]") && !out.contains("message_stop") && !out.contains("completed"), "{out}");
        for size in [1, 2, 3, 50, 333] {
            let (out, stop, _) = run(&STRICT, shape.framing(), bytes.chunks(size));
            assert_eq!((&out, &stop), (&expected.0, &expected.1), "{shape:?} in pieces of {size}");
        }
    }
}

#[test]
fn choices_that_take_turns_are_texts_of_their_own() {
    let event = |index: u32, text: &str| {
        format!("data: {}\n\n", json!({"choices": [{"index": index, "delta": {"content": text}}]}))
    };
    let stream =
        [event(0, "card 4111 11"), event(1, "11 11"), event(0, "11 1111 1111"), event(1, "11 years."), event(0, ".")]
            .concat();
    let (out, _, _) = whole(&BALANCED, Framing::Events, &stream);
    let expected = [
        event(0, "card [REDACTED_CREDIT_CARD]"),
        event(1, "11 11"),
        event(0, ""),
        event(1, "11 years."),
        event(0, "."),
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn ordinary_words_go_out_at_once_and_an_open_match_waits_for_its_end() {
    let event = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let mut stream = stream(&BALANCED, Framing::Events);
    let mut push = |text: &str| !stream.push(event(text).as_bytes()).bytes.is_empty();
    assert!(push("The") && push(" capital") && push(" is") && push(" Paris"));
    assert!(!push(" AKIA6HZ") && !push("JCIHOIJC"));
    assert!(push(" is none."), "too short for a key, so it goes on");
}

#[test]
fn what_a_block_begins_with_goes_on_in_its_deltas() {
    let start = |text: &str| {
        let block = json!({"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": text}});
        format!("event: content_block_start\ndata: {block}\n\n")
    };
    let delta = |text: &str| {
        let delta = json!({"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": text}});
        format!("event: content_block_delta\ndata: {delta}\n\n")
    };
    let (out, _, _) =
        whole(&BALANCED, Framing::Events, &[start("see AKIA6HZJ"), delta("CIHOIJCDIO42"), delta(" ok")].concat());
    assert_eq!(out, [start("see [REDACTED_AWS_ACCESS_KEY]"), delta(""), delta(" ok")].concat());
}

#[test]
fn texts_without_number_are_bounded() {
    let mut stream = stream(&BALANCED, Framing::Events);
    for index in 0..3 * MAX_TEXTS {
        let event = json!({"choices": [{"index": index, "delta": {"content": "card 4111"}}]});
        stream.push(format!("data: {event}\n\n").as_bytes());
        assert!(stream.texts.len() <= MAX_TEXTS + 1);
    }
}

#[test]
fn an_unknown_event_passes_and_its_strings_are_scanned() {
    let stream = format!(
        "retry: 5\n\n: note\n\nevent: strange\ndata: {{\"x\": {{\"y\": [\"{TOKEN}\", 1]}}, \"z\":  null}}\n\ndata: plain {TOKEN} text\n\n"
    );
    let (out, stop, _) = whole(&BALANCED, Framing::Events, &stream);
    assert_eq!((out.as_str(), stop), (stream.replace(TOKEN, "[REDACTED_AWS_ACCESS_KEY]").as_str(), None));
}

#[test]
fn what_cannot_be_read_ends_the_stream() {
    for broken in ["data: {\"a\": \n\n", "data: {\"a\":1,\"a\":2}\n\n"] {
        let (out, stop, _) = whole(&BALANCED, Framing::Events, &format!("data: {{}}\n\n{broken}data: {{}}\n\n"));
        assert_eq!(out, "data: {}\n\n");
        assert!(matches!(stop, Some(Stop::Unreadable(_))), "{stop:?}");
    }
    let mut long = stream(&BALANCED, Framing::Events);
    let flow = long.push(&vec![b'x'; LIMITS.max_frame + 1]);
    assert!(matches!(flow.stop, Some(Stop::Unreadable(_))) && flow.bytes.is_empty());
}

#[test]
fn what_is_abandoned_is_what_came_and_has_not_gone_out() {
    let text = Shape::Chat.write(&cut(&said(Shape::Chat), &[3, 1, 7]));
    for at in (0..text.len()).step_by(7) {
        let mut stream = stream(&BALANCED, Framing::Events);
        let out = stream.push(&text.as_bytes()[..at]).bytes;
        let rest = stream.abandon();
        assert!(text.as_bytes()[..at].ends_with(&rest));
        if !String::from_utf8_lossy(&out).contains("REDACTED") {
            assert_eq!([out, rest].concat(), &text.as_bytes()[..at]);
        }
        assert_eq!(stream.report().coverage.skipped.len(), 1);
    }
}

#[test]
fn log_probabilities_go_with_what_they_spell_out() {
    let event = |text: &str| {
        let token = json!({"content": [{"token": text, "logprob": -0.123_456_789_012, "bytes": [65, 75], "top_logprobs": []}], "refusal": null});
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}, "logprobs": token}]}))
    };
    let stream = [event("see "), event("AKIA6HZJ"), event("CIHOIJCDIO42"), event(" ok")].concat();
    let (out, _, _) = whole(&BALANCED, Framing::Events, &stream);
    assert!(!out.contains("6HZJ") && !out.contains("CIHO"), "{out}");
    assert!(out.starts_with(&event("see ")) && out.ends_with(&event(" ok")), "{out}");
    assert_eq!(out.matches("\"logprobs\":null").count(), 2, "{out}");
}

#[test]
fn a_key_too_long_to_wait_for_is_dropped_as_it_comes() {
    let event = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let mut stream = stream(&BALANCED, Framing::Events);
    let mut out = Vec::new();
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n";
    let mut say = |text: &str| out.extend(stream.push(event(text).as_bytes()).bytes);
    say("here: -----BEGIN RSA PRIVATE KEY-----\n");
    (0..2_000).for_each(|_| say(line));
    say("-----END RSA PRIVATE KEY-----\n");
    say("and that was it");
    out.extend(stream.finish().bytes);
    let read = Shape::Chat.read(&String::from_utf8(out).unwrap());
    assert_eq!(read, "here: [REDACTED_PRIVATE_KEY]\nand that was it");
}

#[test]
fn a_whole_answer_is_redacted_in_place() {
    let arguments = json!({"note": format!("a\n{TOKEN}"), "card": 4_111_111_111_111_111_u64}).to_string();
    let body = json!({
        "id": "chatcmpl-9", "choices": [{"index": 0, "message": {"role": "assistant", "content": format!("card {CARD}"),
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]},
            "logprobs": {"content": [{"token": "4111", "logprob": -1}]}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    });
    let bytes = body.to_string();
    let seen = inspect_answer(&ENGINE, &BALANCED, Some("application/json"), bytes.as_bytes(), &LIMITS, None).unwrap();
    let out: Value = serde_json::from_slice(&seen.redacted.unwrap()).unwrap();
    let message = &out["choices"][0]["message"];
    assert_eq!(message["content"], "card [REDACTED_CREDIT_CARD]");
    let arguments: Value =
        serde_json::from_str(message["tool_calls"][0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"note": "a\n[REDACTED_AWS_ACCESS_KEY]", "card": "[REDACTED_CREDIT_CARD]"}));
    assert_eq!((&out["usage"], &out["choices"][0]["logprobs"]), (&body["usage"], &Value::Null));

    let harmless = json!({"data": [{"embedding": [0.012_345_678_901, -0.987_654_321_098]}], "choices": [{"message": {"content": "Paris"}}]}).to_string();
    let seen =
        inspect_answer(&ENGINE, &BALANCED, Some("application/json"), harmless.as_bytes(), &LIMITS, None).unwrap();
    assert_eq!((seen.redacted, seen.report.verdict.action), (None, Action::Allow));
    assert!(inspect_answer(&ENGINE, &BALANCED, Some("audio/mpeg"), b"\xff\xfb", &LIMITS, None).is_err());
    let monitor = policy("extends: monitor");
    let seen = inspect_answer(&ENGINE, &monitor, Some("audio/mpeg"), b"\xff\xfb", &LIMITS, None).unwrap();
    assert_eq!(seen.report.coverage.skipped.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), cases: 150, ..ProptestConfig::default() })]

    /// No bytes make it panic, and what it does not stop and finds nothing in is what came.
    #[test]
    fn noise_passes_or_stops(
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(&["data: ", "data:", "\n", "\r\n", "\n\n", "\r", "event: x\n", ": c\n\n", "{\"delta\":", "{\"delta\":\"a\"}", "\"", "\\u00", "\\ud83d", "[DONE]", "}", "{\"choices\":[{\"text\":\"7\"}]}"][..]).prop_map(|part| part.as_bytes().to_vec()),
                proptest::collection::vec(0_u8.., 0..6),
            ],
            0..40,
        ),
        size in 1_usize..20,
        lines in proptest::bool::ANY,
    ) {
        let bytes = parts.concat();
        let framing = if lines { Framing::Lines } else { Framing::Events };
        let mut stream = stream(&STRICT, framing);
        let mut out = Vec::new();
        let mut stop = None;
        for piece in bytes.chunks(size).map(Some).chain([None]) {
            let flow = match piece {
                Some(piece) => stream.push(piece),
                None => stream.finish(),
            };
            out.extend(flow.bytes);
            stop = flow.stop;
            if stop.is_some() {
                break;
            }
        }
        prop_assert!(bytes.starts_with(&out));
        prop_assert!(stop.is_some() || out == bytes);
    }

    /// Whatever pieces the model writes in and the network cuts, what a client reads is the redacted text, and the same.
    #[test]
    fn pieces_of_any_size_read_the_same(
        shape in proptest::sample::select(&SHAPES[..]),
        tokens in proptest::collection::vec(1_usize..12, 1..8),
        chunks in proptest::collection::vec(1_usize..400, 1..8),
    ) {
        let text = said(shape);
        let stream = shape.write(&cut(&text, &tokens));
        let mut pieces = Vec::new();
        let (mut rest, mut sizes) = (stream.as_bytes(), chunks.iter().copied().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let (out, stop, report) = run(&BALANCED, shape.framing(), pieces);
        prop_assert_eq!(stop, None);
        clean(&out);
        let once = shape.read(&whole(&BALANCED, shape.framing(), &shape.write(&[text])).0);
        prop_assert_eq!(shape.read(&out), once);
        prop_assert!(report.findings.len() >= 3);
    }
}
