//! Values that come back: in prose, in markdown, in tool arguments, whatever pieces they come in.

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::domain::Dialect;
use crate::enforce::{RequestBody, inspect};

const ADA: &str = "ada@example.com";
/// Odd enough to need escapes where JSON stands in JSON.
const ODD: &str = "\"ada o\\\"x\"@example.org";

static TOKENIZING: LazyLock<Arc<CompiledPolicy>> = LazyLock::new(|| {
    policy(
        "rules: {EMAIL_ADDRESS: {action: tokenize}, PHONE_NUMBER: {action: tokenize}}\nanswers: {EMAIL_ADDRESS: {action: redact}}",
    )
});

static RESTORER: LazyLock<Option<Arc<Restorer>>> = LazyLock::new(|| {
    let text = format!("{ADA}, call +1 (415) 555-0132, or <EMAIL_ADDRESS_9>");
    let bytes = Bytes::from(json!({"messages": [{"role": "user", "content": text}]}).to_string());
    let request = RequestBody {
        bytes: &bytes,
        dialect: Some(Dialect::Openai),
        content_type: Some("application/json"),
        content_encoding: None,
    };
    inspect(&ENGINE, &TOKENIZING, request, &LIMITS.read, None, None).unwrap().restorer
});

fn restored<'p>(framing: Framing, pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<u8>, AnswerReport) {
    let mut stream = AnswerStream::new(ENGINE.clone(), TOKENIZING.clone(), framing, LIMITS, RESTORER.clone());
    let mut out = Vec::new();
    for piece in pieces {
        let flow = stream.push(piece);
        assert_eq!(flow.stop, None);
        out.extend(flow.bytes);
    }
    let flow = stream.finish();
    assert_eq!(flow.stop, None);
    out.extend(flow.bytes);
    (out, stream.report().clone())
}

/// What a model says, and what the client reads.
fn said(shape: Shape) -> (String, String) {
    if shape.is_json() {
        let text = |email: &str, phone: &str, new: &str| {
            json!({"to": email, "call": [phone, format!("tel:{phone}")], "é": new}).to_string()
        };
        return (
            text("<EMAIL_ADDRESS_1>", "<phone_number_1>", "<EMAIL_ADDRESS_3> eve@example.net"),
            text(ADA, "+1 (415) 555-0132", "<EMAIL_ADDRESS_3> [REDACTED_EMAIL_ADDRESS]"),
        );
    }
    let text = r"To <EMAIL_ADDRESS_1>, **\<EMAIL\_ADDRESS\_1\>**, `&lt;EMAIL_ADDRESS_1&gt;`, [EMAIL_ADDRESS_1](mailto:%3CEMAIL_ADDRESS_1%3E); not <EMAIL_ADDRESS_12>, 1 < 2 & EMAIL, but eve@example.net; <EMAIL_ADDRESS_2>";
    let read = if shape == Shape::MessagesThinking {
        // Signed: what is not as it was written would come back otherwise.
        text.replace("o <EMAIL_ADDRESS_1>", "o ada@example.com").replace("<EMAIL_ADDRESS_2>", "<EMAIL_ADDRESS_9>")
    } else {
        "To ada@example.com, **ada@example.com**, `ada@example.com`, [ada@example.com](mailto:ada@example.com); not <EMAIL_ADDRESS_12>, 1 < 2 & EMAIL, but eve@example.net; <EMAIL_ADDRESS_9>".to_owned()
    };
    (text.to_owned(), read.replace("eve@example.net", "[REDACTED_EMAIL_ADDRESS]"))
}

#[test]
fn tokens_become_values_in_every_dialects_stream() {
    for shape in SHAPES {
        let (text, expected) = said(shape);
        for pieces in [&[1][..], &[3, 1, 7], &[29]] {
            let stream = shape.write(&cut(&text, pieces));
            let bytes = stream.as_bytes();
            let (out, report) = restored(shape.framing(), [bytes]);
            let read = shape.read(&String::from_utf8(out.clone()).unwrap());
            assert_eq!(read, expected, "{shape:?} in {pieces:?}");
            assert!(report.restored >= 2, "{shape:?} {}", report.restored);
            assert!(report.findings.iter().all(|found| found.entity == "EMAIL_ADDRESS"), "{report:?}");
            assert_eq!(restored(shape.framing(), bytes.chunks(1)).0, out, "{shape:?} byte by byte");
        }
    }
}

#[test]
fn a_cut_at_any_byte_restores_the_same() {
    for shape in SHAPES {
        let text = match shape.is_json() {
            true => r#"{"to":"<EMAIL_ADDRESS_1>"}"#,
            false => r"\<EMAIL\_ADDRESS\_1\> <EMAIL_ADDRESS_1>",
        };
        let stream = shape.write(&cut(text, &[14, 9]));
        let bytes = stream.as_bytes();
        let (out, _) = restored(shape.framing(), [bytes]);
        assert!(shape.read(&String::from_utf8(out.clone()).unwrap()).contains(ADA), "{shape:?}");
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert!(restored(shape.framing(), [a, b]).0 == out, "{shape:?} cut at {at}");
        }
    }
}

#[test]
fn only_a_live_part_of_a_token_waits() {
    let event = |text: &str| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let policy = policy("rules: {PHONE_NUMBER: {action: tokenize}}");
    let mut stream = AnswerStream::new(ENGINE.clone(), policy, Framing::Events, LIMITS, RESTORER.clone());
    let mut push = |text: &str| String::from_utf8(stream.push(event(text).as_bytes()).bytes).unwrap();
    assert_eq!(push("write to"), event("write to"));
    assert_eq!(push(" <EMAIL"), "");
    assert_eq!(push("_ADDRESS_1"), "");
    assert_eq!(push("> now"), [event(" ada@example.com"), event(""), event(" now")].concat());
    assert_eq!(push(" <b>"), event(" <b>"));
}

#[test]
fn a_value_in_a_tools_arguments_is_escaped_for_where_it_stands() {
    let mut text = Text::new(None, String::new());
    let source = json!({"arguments": r#"{"to": "<EMAIL_ADDRESS_1>", "n": <EMAIL_ADDRESS_1>}"#}).to_string();
    let document = protocol::read_answer(None, source.as_bytes(), &LIMITS.read, BinaryRule::Refuse).unwrap();
    let segment = document.segments.iter().find(|segment| segment.kind == Source::JsonString).unwrap();
    let own = segment.text();
    text.append(0, segment.placed(), &own);
    let places: Vec<_> =
        own.match_indices("<EMAIL_ADDRESS_1>").map(|(at, found)| (at..at + found.len(), ODD.to_owned())).collect();
    let mut effects = Effects::default();
    text.settle(own.len(), &[], &places, &mut effects);
    let edits = effects.edits.into_iter().map(|edit| {
        (edit.placed.raw_spans(source.as_bytes(), std::iter::once(edit.range)).pop().unwrap(), edit.replacement)
    });
    let out: Value = serde_json::from_slice(&changed(source.as_bytes(), edits.collect())).unwrap();
    let arguments: Value = serde_json::from_str(out["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"to": ODD, "n": ODD}));
}
