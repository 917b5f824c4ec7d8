//! What is read of an upstream's answer while it passes through as it comes.

use std::sync::LazyLock;
use std::time::Instant;

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use memchr::memmem::Finder;
use pingora::http::ResponseHeader;

use crate::domain::Dialect;

use super::problem::StreamShape;

/// What is known of an upstream's answer.
#[derive(Debug, Default)]
pub(super) struct Answering {
    /// Of the upstream.
    pub status: Option<u16>,
    pub first_byte: Option<Instant>,
    pub bytes: u64,
    pub stream: Option<StreamShape>,
    dialect: Option<Dialect>,
    /// The first bytes of a stream: Anthropic tells the input tokens there.
    start: Vec<u8>,
    /// The last bytes: everybody else tells them there.
    tail: Vec<u8>,
}

/// Tokens as the upstream counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub input: Option<u64>,
    pub output: Option<u64>,
    /// Of the prompt, what the provider had in its cache: part of `input`, at Anthropic beside it.
    pub cached: Option<u64>,
}

/// Enough for Anthropic's `message_start`.
const START_KEPT: usize = 2 << 10;
/// Enough for what follows the usage figures in any dialect.
const TAIL_KEPT: usize = 4 << 10;

impl Answering {
    /// A final head has come.
    pub(super) fn begin(&mut self, head: &ResponseHeader, dialect: Dialect, path: &str) {
        self.status = Some(head.status.as_u16());
        self.first_byte = Some(Instant::now());
        self.dialect = Some(dialect);
        let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        self.stream = if starts_with(kind, b"text/event-stream") {
            Some(if path.ends_with("/responses") { StreamShape::Responses } else { StreamShape::Events })
        } else if starts_with(kind, b"application/x-ndjson") {
            Some(StreamShape::Lines)
        } else if starts_with(kind, b"application/vnd.amazon.eventstream") {
            Some(StreamShape::Amazon)
        } else {
            None
        };
    }

    /// A piece of the body passes by.
    pub(super) fn see(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        if self.stream.is_some() && self.start.len() < START_KEPT {
            let room = START_KEPT - self.start.len();
            self.start.extend_from_slice(piece.get(..room).unwrap_or(piece));
        }
        match piece.len().checked_sub(TAIL_KEPT) {
            Some(before) => {
                self.tail.clear();
                self.tail.extend_from_slice(piece.get(before..).unwrap_or_default());
            }
            None => {
                // Cut only now and then, so that small pieces are not moved again and again.
                if self.tail.len() + piece.len() > 2 * TAIL_KEPT {
                    self.tail.drain(..self.tail.len().saturating_sub(TAIL_KEPT));
                }
                self.tail.extend_from_slice(piece);
            }
        }
    }

    /// Whether the stream stands at the end of an event, or has not begun.
    pub(super) fn between_events(&self) -> bool {
        let end: &[u8] = if self.stream == Some(StreamShape::Lines) { b"\n" } else { b"\n\n" };
        self.tail.is_empty() || self.tail.ends_with(end) || self.tail.ends_with(b"\r\n\r\n")
    }

    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for bytes in [&self.start, &self.tail] {
            if self.dialect == Some(Dialect::Ollama) {
                usage.read(bytes, &NAMES.ollama_input, &NAMES.ollama_output, &[]);
            } else {
                for at in NAMES.usage.find_iter(bytes) {
                    let object = bytes.get(at..).map(|rest| rest.get(..USAGE_SPAN).unwrap_or(rest));
                    usage.read(object.unwrap_or_default(), &NAMES.input, &NAMES.output, &NAMES.cached);
                }
            }
        }
        usage
    }
}

/// The figures stand within this many bytes of the name.
const USAGE_SPAN: usize = 384;

/// What is searched for, ready for it.
struct Names {
    /// `"usage"` (OpenAI, Anthropic, Bedrock) and `"usageMetadata"` (Gemini). Text of a model cannot look like it: inside a
    /// JSON string its quotes are escaped.
    usage: Finder<'static>,
    input: [Finder<'static>; 4],
    output: [Finder<'static>; 4],
    cached: [Finder<'static>; 4],
    ollama_input: [Finder<'static>; 1],
    ollama_output: [Finder<'static>; 1],
}

static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    usage: Finder::new("\"usage"),
    input: ["\"prompt_tokens\"", "\"input_tokens\"", "\"promptTokenCount\"", "\"inputTokens\""].map(Finder::new),
    output: ["\"completion_tokens\"", "\"output_tokens\"", "\"candidatesTokenCount\"", "\"outputTokens\""]
        .map(Finder::new),
    cached: [
        "\"cached_tokens\"",
        "\"cache_read_input_tokens\"",
        "\"cachedContentTokenCount\"",
        "\"cacheReadInputTokens\"",
    ]
    .map(Finder::new),
    ollama_input: [Finder::new("\"prompt_eval_count\"")],
    ollama_output: [Finder::new("\"eval_count\"")],
});

impl Usage {
    fn read(&mut self, text: &[u8], input: &[Finder<'_>], output: &[Finder<'_>], cached: &[Finder<'_>]) {
        let number = |names: &[Finder<'_>]| names.iter().find_map(|name| number_after(text, name));
        self.input = number(input).or(self.input);
        self.output = number(output).or(self.output);
        self.cached = number(cached).or(self.cached);
    }
}

fn number_after(text: &[u8], name: &Finder<'_>) -> Option<u64> {
    let at = name.find(text)?;
    let rest = text.get(at + name.needle().len()..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).take(18).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

fn starts_with(value: &[u8], start: &[u8]) -> bool {
    value.get(..start.len()).is_some_and(|value| value.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kind: &str, dialect: Dialect, pieces: &[&str]) -> Answering {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header(CONTENT_TYPE, kind).unwrap();
        let mut answering = Answering::default();
        answering.begin(&head, dialect, "/v1/chat/completions");
        for piece in pieces {
            answering.see(piece.as_bytes());
        }
        answering
    }

    #[test]
    fn tokens_are_read_from_plain_answers_of_every_dialect() {
        for (dialect, cached, text) in [
            (
                Dialect::Openai,
                Some(5),
                r#"{"usage":{"prompt_tokens":11,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":5}},"x":1}"#,
            ),
            (Dialect::Openai, None, r#"{"output":[],"usage": {"input_tokens": 11, "output_tokens": 7}}"#),
            (
                Dialect::Anthropic,
                Some(5),
                r#"{"usage":{"cache_read_input_tokens":5,"input_tokens":11,"output_tokens":7}}"#,
            ),
            (
                Dialect::Gemini,
                Some(5),
                r#"{"usageMetadata":{"promptTokenCount":11,"candidatesTokenCount":7,"cachedContentTokenCount":5}}"#,
            ),
            (Dialect::Bedrock, Some(5), r#"{"usage":{"cacheReadInputTokens":5,"inputTokens":11,"outputTokens":7}}"#),
            (Dialect::Ollama, None, r#"{"done":true,"prompt_eval_count":11,"eval_count":7}"#),
        ] {
            let usage = seen("application/json", dialect, &[text]).usage();
            assert_eq!(usage, Usage { input: Some(11), output: Some(7), cached }, "{text}");
        }
    }

    #[test]
    fn tokens_of_a_stream_are_read_from_its_start_and_its_end() {
        let filler = format!("data: {}\n\n", "x".repeat(9_000));
        let pieces = [
            "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n",
            &filler,
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_",
            "tokens\":7}}\n\n",
        ];
        let usage = seen("text/event-stream; charset=utf-8", Dialect::Anthropic, &pieces).usage();
        assert_eq!(usage, Usage { input: Some(11), output: Some(7), cached: None });
    }

    #[test]
    fn text_of_the_model_is_not_taken_for_a_count() {
        let text = r#"{"choices":[{"message":{"content":"{\"usage\":{\"prompt_tokens\":999}}"}}]}"#;
        assert_eq!(seen("application/json", Dialect::Openai, &[text]).usage(), Usage::default());
    }

    #[test]
    fn what_is_kept_of_a_long_answer_is_bounded() {
        let piece = "y".repeat(1_000);
        let answering = seen("text/event-stream", Dialect::Openai, &[&*piece; 500]);
        assert_eq!(answering.bytes, 500_000);
        assert!(answering.tail.len() <= 2 * TAIL_KEPT && answering.start.len() <= START_KEPT);
    }

    #[test]
    fn the_end_of_an_event_is_known() {
        let between = |kind: &str, text: &str| seen(kind, Dialect::Openai, &[text]).between_events();
        assert!(between("text/event-stream", ""));
        assert!(between("text/event-stream", "data: 1\n\n"));
        assert!(between("text/event-stream", "data: 1\r\n\r\n"));
        assert!(!between("text/event-stream", "data: {\"a"));
        assert!(!between("text/event-stream", "data: 1\n"));
        assert!(between("application/x-ndjson", "{}\n"));
        assert!(!between("application/x-ndjson", "{"));
    }
}
