//! Bedrock's streams: messages with checksums, written and read here without the code under test.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

type Headers = BTreeMap<String, String>;

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

fn sealed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |length: usize| (length as u32).to_be_bytes();
    let mut out = [length(16 + headers.len() + payload.len()), length(headers.len())].concat();
    out.extend(crc(&out).to_be_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend(crc(&out).to_be_bytes());
    out
}

fn header(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![name.len() as u8];
    out.extend(name.as_bytes());
    out.push(7);
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value.as_bytes());
    out
}

fn event_headers(kind: &str) -> Vec<u8> {
    [header(":event-type", kind), header(":content-type", "application/json"), header(":message-type", "event")]
        .concat()
}

/// The padding that hides the length of a word, another with every message.
fn padding(number: usize) -> &'static str {
    &"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[..number % 62 + 1]
}

fn event(kind: &str, number: usize, mut payload: Value) -> Vec<u8> {
    payload["p"] = padding(number).into();
    sealed(&event_headers(kind), payload.to_string().as_bytes())
}

fn chunk(number: usize, inner: &Value) -> Vec<u8> {
    event("chunk", number, json!({"bytes": STANDARD.encode(inner.to_string())}))
}

/// All messages of a stream, which must be whole and have the right lengths and checksums.
fn decode(mut bytes: &[u8]) -> Vec<(Headers, Vec<u8>)> {
    let number = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (total, length) = (number(bytes, 0) as usize, number(bytes, 4) as usize);
        assert_eq!(crc(&bytes[..8]), number(bytes, 8));
        let (message, rest) = bytes.split_at(total);
        assert_eq!(crc(&message[..total - 4]), number(message, total - 4));
        let mut headers = Headers::new();
        let mut at = 12;
        while at < 12 + length {
            let name = message[at + 1..at + 1 + usize::from(message[at])].to_vec();
            at += 1 + name.len();
            assert_eq!(message[at], 7);
            let size = usize::from(u16::from_be_bytes([message[at + 1], message[at + 2]]));
            let value = message[at + 3..at + 3 + size].to_vec();
            at += 3 + size;
            headers.insert(String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap());
        }
        messages.push((headers, message[at..total - 4].to_vec()));
        bytes = rest;
    }
    messages
}

/// What the messages say, a chunk's as what is in it.
fn values(bytes: &[u8]) -> Vec<Value> {
    let value = |(headers, payload): (Headers, Vec<u8>)| {
        let value: Value = serde_json::from_slice(&payload).unwrap();
        match value.get("bytes").and_then(Value::as_str) {
            Some(bytes) if headers[":event-type"] == "chunk" => {
                serde_json::from_slice(&STANDARD.decode(bytes).unwrap()).unwrap()
            }
            _ => value,
        }
    };
    decode(bytes).into_iter().map(value).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stream {
    Text,
    Reasoning,
    Tool,
    Claude,
    ClaudeTool,
    ClaudeText,
    Nova,
    Llama,
    Titan,
    Mistral,
    MistralChat,
}

const STREAMS: [Stream; 11] = [
    Stream::Text,
    Stream::Reasoning,
    Stream::Tool,
    Stream::Claude,
    Stream::ClaudeTool,
    Stream::ClaudeText,
    Stream::Nova,
    Stream::Llama,
    Stream::Titan,
    Stream::Mistral,
    Stream::MistralChat,
];

impl Stream {
    const fn is_json(self) -> bool {
        matches!(self, Self::Tool | Self::ClaudeTool)
    }

    fn write(self, pieces: &[String]) -> Vec<u8> {
        let mut messages: Vec<Vec<u8>> = Vec::new();
        let metrics =
            json!({"inputTokenCount": 11, "outputTokenCount": 7, "invocationLatency": 590, "firstByteLatency": 270});
        match self {
            Self::Text | Self::Reasoning | Self::Tool => {
                messages.push(event("messageStart", 0, json!({"role": "assistant"})));
                if self == Self::Tool {
                    let start = json!({"toolUse": {"toolUseId": "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", "name": "pay"}});
                    messages.push(event("contentBlockStart", 5, json!({"contentBlockIndex": 1, "start": start})));
                }
                for (number, piece) in pieces.iter().enumerate() {
                    let delta = match self {
                        Self::Text => json!({"text": piece}),
                        Self::Reasoning => json!({"reasoningContent": {"text": piece}}),
                        _ => json!({"toolUse": {"input": piece}}),
                    };
                    messages.push(event("contentBlockDelta", number, json!({"contentBlockIndex": 1, "delta": delta})));
                }
                messages.push(event("contentBlockStop", 61, json!({"contentBlockIndex": 1})));
                messages.push(event("messageStop", 30, json!({"stopReason": "end_turn"})));
                messages.push(event(
                    "metadata",
                    40,
                    json!({"metrics": {"latencyMs": 1024}, "usage": {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}}),
                ));
            }
            Self::Claude | Self::ClaudeTool => {
                let (block, kind, name) = match self {
                    Self::Claude => (json!({"type": "text", "text": ""}), "text_delta", "text"),
                    _ => (
                        json!({"type": "tool_use", "id": "toolu_bdrk_01", "name": "pay", "input": {}}),
                        "input_json_delta",
                        "partial_json",
                    ),
                };
                messages.push(chunk(1, &json!({"type": "message_start", "message": {"id": "msg_bdrk_01", "role": "assistant", "content": [], "usage": {"input_tokens": 11, "output_tokens": 1}}})));
                messages.push(chunk(2, &json!({"type": "content_block_start", "index": 0, "content_block": block})));
                for (number, piece) in pieces.iter().enumerate() {
                    messages.push(chunk(
                        number,
                        &json!({"type": "content_block_delta", "index": 0, "delta": {"type": kind, name: piece}}),
                    ));
                }
                messages.push(chunk(3, &json!({"type": "content_block_stop", "index": 0})));
                messages.push(chunk(4, &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 7}})));
                messages.push(chunk(5, &json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics})));
            }
            _ => {
                for (number, piece) in pieces.iter().enumerate() {
                    messages.push(chunk(number, &match self {
                        Self::ClaudeText => json!({"completion": piece, "stop_reason": null, "stop": null}),
                        Self::Nova => json!({"contentBlockDelta": {"delta": {"text": piece}, "contentBlockIndex": 0}}),
                        Self::Llama => {
                            json!({"generation": piece, "prompt_token_count": null, "generation_token_count": number, "stop_reason": null})
                        }
                        Self::Titan => json!({"outputText": piece, "index": 0, "totalOutputTextTokenCount": null, "completionReason": null}),
                        Self::Mistral => json!({"outputs": [{"text": piece, "stop_reason": null}]}),
                        _ => json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": piece}, "stop_reason": null}]}),
                    }));
                }
                messages.push(chunk(7, &json!({"stop_reason": "stop", "amazon-bedrock-invocationMetrics": metrics})));
            }
        }
        messages.concat()
    }

    fn read(self, stream: &[u8]) -> String {
        let pointer = match self {
            Self::Text | Self::Claude => "/delta/text",
            Self::Reasoning => "/delta/reasoningContent/text",
            Self::Tool => "/delta/toolUse/input",
            Self::ClaudeTool => "/delta/partial_json",
            Self::ClaudeText => "/completion",
            Self::Nova => "/contentBlockDelta/delta/text",
            Self::Llama => "/generation",
            Self::Titan => "/outputText",
            Self::Mistral => "/outputs/0/text",
            Self::MistralChat => "/choices/0/message/content",
        };
        let values = values(stream);
        values.iter().filter_map(|value| value.pointer(pointer)?.as_str()).collect()
    }

    fn said(self) -> String {
        said(if self.is_json() { Shape::MessagesArguments } else { Shape::Messages })
    }
}

fn run<'p>(
    policy: &Arc<CompiledPolicy>,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<u8>, Option<Stop>, AnswerReport) {
    let mut stream = stream(policy, Framing::Amazon);
    let mut out = Vec::new();
    for piece in pieces {
        let flow = stream.push(piece);
        out.extend(flow.bytes);
        if flow.stop.is_some() {
            return (out, flow.stop, stream.report().clone());
        }
    }
    let flow = stream.finish();
    out.extend(flow.bytes);
    (out, flow.stop, stream.report().clone())
}

/// Of all that a stream says, in base64 or not.
fn all_clean(bytes: &[u8]) {
    clean(&String::from_utf8_lossy(bytes));
    values(bytes).iter().for_each(|value| clean(&value.to_string()));
}

#[test]
fn what_is_found_is_replaced_across_messages_and_the_rest_stays_byte_for_byte() {
    for shape in STREAMS {
        let text = shape.said();
        let stream = shape.write(&cut(&text, &[3, 1, 7]));
        assert_eq!(shape.read(&stream), text);
        let (out, stop, report) = run(&BALANCED, [&*stream]);
        assert_eq!(stop, None, "{shape:?}");
        all_clean(&out);
        let read = shape.read(&out);
        if shape.is_json() {
            let value: Value = serde_json::from_str(&read).unwrap_or_else(|error| panic!("{shape:?} {error}: {read}"));
            assert_eq!(value["card"], "[REDACTED_CREDIT_CARD]", "{value}");
            assert_eq!(value["key"], "[REDACTED_PRIVATE_KEY]", "{value}");
        } else {
            assert_eq!(
                read,
                "Use [REDACTED_AWS_ACCESS_KEY] — or card [REDACTED_CREDIT_CARD]. Don’t: 東京 \u{1f600}\n[REDACTED_PRIVATE_KEY]\nthe end, in 2024 \"ok\".",
                "{shape:?}"
            );
        }
        let (before, after) = (decode(&stream), decode(&out));
        assert_eq!(before.len(), after.len(), "{shape:?}");
        let same = before.iter().zip(&after).filter(|(before, after)| before == after).count();
        assert!(same > 5, "{shape:?}: {same} messages are as they were");
        assert!(before.iter().zip(&after).all(|(before, after)| before.0 == after.0), "headers stay: {shape:?}");
        assert_eq!(report.verdict.categories, [Category::Pii, Category::Secrets]);
        assert_eq!(report.coverage.received, stream.len() as u64);
    }
}

#[test]
fn a_stream_in_which_nothing_is_found_is_the_same_bytes() {
    let text = "Paris has 2,102,650 people; call 112 in need. {\"a\": [1, 2]} <b>é</b> \u{1f600} in 2024. ".repeat(5);
    for shape in STREAMS {
        // Every length of the padding comes up.
        let stream = shape.write(&cut(&text, &[2, 5, 1]));
        for policy in [&*BALANCED, &*STRICT] {
            let (out, stop, report) = run(policy, [&*stream]);
            assert!(out == stream && stop.is_none(), "{shape:?} {stop:?} {report:?}");
            assert!(report.findings.is_empty() && report.coverage.scanned > 0, "{report:?}");
        }
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for shape in STREAMS {
        let text = match shape.is_json() {
            true => json!({"a": format!("\n{TOKEN}é"), "card": 4_111_111_111_111_111_u64}).to_string(),
            false => format!("é {TOKEN} {CARD}"),
        };
        let stream = shape.write(&cut(&text, &[14, 9, 20]));
        for policy in [&*BALANCED, &*STRICT] {
            let expected = run(policy, [&*stream]);
            all_clean(&expected.0);
            // Where a block ends the stream early, it is the same machine.
            let step = if Arc::ptr_eq(policy, &BALANCED) { 1 } else { 7 };
            for at in (0..=stream.len()).step_by(step) {
                let (a, b) = stream.split_at(at);
                let (out, stop, report) = run(policy, [a, b]);
                assert_eq!((&out, &stop), (&expected.0, &expected.1), "{shape:?} cut at {at}");
                assert_eq!(report.findings, expected.2.findings);
            }
            let (out, stop, _) = run(policy, stream.chunks(1));
            assert_eq!((out, stop), (expected.0, expected.1), "{shape:?} byte by byte");
        }
    }
}

#[test]
fn a_block_lets_whole_messages_out_and_nothing_of_what_is_blocked() {
    for shape in STREAMS {
        let stream = shape.write(&cut(&shape.said(), &[3, 1, 7]));
        let (out, stop, report) = run(&STRICT, [&*stream]);
        assert_eq!((stop, report.verdict.action), (Some(Stop::Blocked), Action::Block), "{shape:?}");
        all_clean(&out);
        assert!(stream.starts_with(&out) && !shape.read(&out).contains("AKIA"), "{shape:?}");
    }
}

#[test]
fn blocks_that_take_turns_are_texts_of_their_own() {
    let converse = |index: u32, text: &str| {
        event("contentBlockDelta", 3, json!({"contentBlockIndex": index, "delta": {"text": text}}))
    };
    let nova = |index: u32, text: &str| {
        chunk(3, &json!({"contentBlockDelta": {"delta": {"text": text}, "contentBlockIndex": index}}))
    };
    for inside in [false, true] {
        let write = |index, text| if inside { nova(index, text) } else { converse(index, text) };
        let stream = [write(0, "card 4111 11"), write(1, "11 11"), write(0, "11 1111 1111"), write(1, "11 years.")];
        let (out, _, _) = run(&BALANCED, [&*stream.concat()]);
        let expected =
            [write(0, "card [REDACTED_CREDIT_CARD]"), write(1, "11 11"), write(0, ""), write(1, "11 years.")];
        assert_eq!(values(&out), values(&expected.concat()));
    }
    // The end of a block lets go what it held.
    let mut held = stream(&BALANCED, Framing::Amazon);
    assert!(held.push(&converse(0, "see AKIA6HZJ")).bytes.is_empty());
    let stop = event("contentBlockStop", 3, json!({"contentBlockIndex": 0}));
    assert_eq!(held.push(&stop).bytes, [converse(0, "see AKIA6HZJ"), stop].concat());
}

#[test]
fn a_byte_that_is_wrong_ends_the_stream_wherever_it_stands() {
    let good = event("messageStart", 2, json!({"role": "assistant"}));
    let bad = event("contentBlockDelta", 2, json!({"contentBlockIndex": 0, "delta": {"text": "Paris"}}));
    for at in 0..bad.len() {
        for bit in [0, 7] {
            let mut bad = bad.clone();
            bad[at] ^= 1 << bit;
            let (out, stop, _) = run(&BALANCED, [&*good, &*bad, &*good]);
            assert!(matches!(stop, Some(Stop::Unreadable(_))), "byte {at}: {stop:?}");
            assert_eq!(out, good, "byte {at}");
        }
    }
}

#[test]
fn a_stream_that_ends_inside_of_a_message_says_so() {
    let good = event("messageStart", 2, json!({"role": "assistant"}));
    let half = event("contentBlockDelta", 2, json!({"contentBlockIndex": 0, "delta": {"text": "Paris"}}));
    for at in 1..half.len() {
        let (out, stop, _) = run(&BALANCED, [&*good, &half[..at]]);
        assert!(matches!(stop, Some(Stop::Unreadable(_))), "cut at {at}: {stop:?}");
        assert_eq!(out, good);
        let mut broken = stream(&BALANCED, Framing::Amazon);
        let out = [broken.push(&good).bytes, broken.push(&half[..at]).bytes, broken.break_off().bytes].concat();
        assert_eq!(out, good);
    }
}

#[test]
fn lengths_that_cannot_be_are_refused_as_soon_as_they_are_known() {
    let prelude = |total: u32, headers: u32| {
        let mut out = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        out.extend(crc(&out).to_be_bytes());
        out
    };
    let most = LIMITS.max_frame as u32;
    for (total, headers, status) in
        [(most + 1, 0, 413), (u32::MAX, 10, 413), (15, 0, 400), (0, 0, 400), (100, 85, 400), (100, u32::MAX, 400)]
    {
        let mut stream = stream(&BALANCED, Framing::Amazon);
        let Some(Stop::Unreadable(why)) = stream.push(&prelude(total, headers)).stop else {
            panic!("{total} {headers}")
        };
        assert_eq!(why.status, status, "{total} {headers}");
    }
    let mut largest = stream(&BALANCED, Framing::Amazon);
    assert_eq!(largest.push(&prelude(most, 0)).stop, None);
}

#[test]
fn messages_that_two_readers_could_read_differently_are_refused() {
    let json = b"{\"contentBlockIndex\":0,\"delta\":{\"text\":\"Paris\"}}";
    let encoded = STANDARD.encode("{}");
    let twice = [event_headers("metadata"), header(":event-type", "chunk")].concat();
    let cases = [
        (twice, json.to_vec()),
        (b"\x05:even".to_vec(), json.to_vec()),
        (b"\x01a\x0a".to_vec(), json.to_vec()),
        (b"\x01a\x07\x00\x02\xff\xff".to_vec(), json.to_vec()),
        (event_headers("contentBlockDelta"), b"{\"delta\":{},\"delta\":{}}".to_vec()),
        (event_headers("contentBlockDelta"), b"\xff\xfe".to_vec()),
        (event_headers("chunk"), b"{\"bytes\":\"!!!\"}".to_vec()),
        (event_headers("chunk"), format!("{{\"bytes\":\"{encoded}\",\"bytes\":\"{encoded}\"}}").into_bytes()),
        (event_headers("chunk"), format!("{{\"bytes\":\"{}\"}}", STANDARD.encode("{\"a\":")).into_bytes()),
    ];
    for (headers, payload) in cases {
        let (out, stop, _) = run(&BALANCED, [&*sealed(&headers, &payload)]);
        assert!(
            matches!(stop, Some(Stop::Unreadable(_))) && out.is_empty(),
            "{stop:?}: {}",
            String::from_utf8_lossy(&payload)
        );
    }
}

#[test]
fn what_cannot_be_replaced_ends_the_stream() {
    let header_of = |value: &str| [event_headers("metadata"), header("x-note", value)].concat();
    let error = [header(":message-type", "error"), header(":error-message", TOKEN)].concat();
    let beside = json!({"bytes": STANDARD.encode("{}"), "note": TOKEN}).to_string();
    for (headers, payload) in [(header_of(TOKEN), "{}"), (error, ""), (event_headers("chunk"), &*beside)] {
        let message = sealed(&headers, payload.as_bytes());
        let (out, stop, report) = run(&BALANCED, [&*message]);
        assert!(matches!(stop, Some(Stop::Unreadable(_))) && out.is_empty(), "{stop:?}");
        assert_eq!(report.verdict.action, Action::Redact);
        let (out, stop, _) = run(&STRICT, [&*message]);
        assert_eq!((out.len(), stop), (0, Some(Stop::Blocked)));
    }
    let harmless = sealed(&header_of("hello"), b"{}");
    assert_eq!(run(&STRICT, [&*harmless]).0, harmless);
    // Headers of every kind.
    let kinds = b"\x01a\x00\x01b\x01\x01c\x02\x07\x01d\x03\0\x07\x01e\x04\0\0\0\x07\x01f\x05\0\0\0\0\0\0\0\x07\x01g\x06\0\x02\xff\x00\x01h\x08\0\0\0\0\0\0\0\x07\x01i\x090123456789abcdef";
    let kinds = sealed(kinds, b"{}");
    assert_eq!(run(&STRICT, [&*kinds]).0, kinds);
}

#[test]
fn an_exception_of_the_upstream_passes_and_is_scanned() {
    let headers = [
        header(":exception-type", "modelStreamErrorException"),
        header(":content-type", "application/json"),
        header(":message-type", "exception"),
    ]
    .concat();
    let exception = |text: &str| sealed(&headers, json!({"message": text}).to_string().as_bytes());
    let (out, stop, _) = run(&BALANCED, [&*exception(&format!("bad key {TOKEN}"))]);
    assert_eq!((out, stop), (exception("bad key [REDACTED_AWS_ACCESS_KEY]"), None));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), cases: 150, ..ProptestConfig::default() })]

    /// Whatever pieces the model writes in and the network cuts, what a client reads is the redacted text, and the same.
    #[test]
    fn messages_in_pieces_of_any_size_read_the_same(
        shape in proptest::sample::select(&STREAMS[..]),
        tokens in proptest::collection::vec(1_usize..12, 1..8),
        sizes in proptest::collection::vec(1_usize..400, 1..8),
    ) {
        let text = shape.said();
        let stream = shape.write(&cut(&text, &tokens));
        let mut pieces = Vec::new();
        let (mut rest, mut sizes) = (&*stream, sizes.iter().copied().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let (out, stop, report) = run(&BALANCED, pieces);
        prop_assert_eq!(stop, None);
        all_clean(&out);
        prop_assert_eq!(shape.read(&out), shape.read(&run(&BALANCED, [&*shape.write(&[text])]).0));
        prop_assert!(report.findings.len() >= 3);
    }

    /// No bytes make it panic, and what it does not stop is whole messages as they came.
    #[test]
    fn damaged_messages_stop_or_pass_whole(
        noise in proptest::collection::vec((0_usize..2_000, 0_u8..), 0..3),
        size in 1_usize..200,
    ) {
        let mut bytes = Stream::Claude.write(&cut("Paris has 20 districts", &[5]));
        for (at, byte) in &noise {
            let length = bytes.len();
            bytes[at % length] = *byte;
        }
        let (out, stop, _) = run(&STRICT, bytes.chunks(size));
        prop_assert!(bytes.starts_with(&out));
        prop_assert!(stop.is_some() || out == bytes);
        decode(&out);
    }
}
