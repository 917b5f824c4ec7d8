//! How the mock misbehaves: asked for by a header `x-mock: MODE`, by a model named `mock:MODE` (headers may be filtered
//! on the way), or for all requests by [`super::MockLlm::behave`].

use std::io::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use serde_json::json;

use super::answer::{Answer, Response, response, stream_body};
use super::openai::{self, CALL};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As a provider does.
    #[default]
    Well,
    /// `close`: no answer, the connection is closed.
    Close,
    /// `cut`: about half of the answer, then the connection is closed. A plain answer's length promises the whole.
    Cut,
    /// `hang`: never answers; holds the connection until the client leaves.
    Hang,
    /// `hang-midway`: about half of the answer, then nothing more.
    HangMidway,
    /// `delay:250`: milliseconds before the answer.
    Delay(Duration),
    /// `status:500`; 429 and 503 come with `retry-after: 7`.
    Status(StatusCode),
    /// `gzip`: the answer is compressed.
    Gzip,
    /// `say:TEXT`: as if the user had said that, which the mock repeats.
    Say(String),
    /// `call`: chat completions say the user's words in prose and in markdown, and call a tool with them, all in small pieces.
    Call,
    /// `type:audio/mpeg`: with another content type.
    Type(HeaderValue),
    /// `stream:1000000`: at least so many bytes of server-sent events, made as they are read.
    Stream(u64),
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is not a mode of the mock");
        let (name, argument) = text.split_once(':').map_or((text, None), |(name, argument)| (name, Some(argument)));
        let number = || argument.and_then(|argument| argument.parse::<u64>().ok()).ok_or_else(unknown);
        Ok(match name {
            "well" => Self::Well,
            "close" => Self::Close,
            "cut" => Self::Cut,
            "hang" => Self::Hang,
            "hang-midway" => Self::HangMidway,
            "delay" => Self::Delay(Duration::from_millis(number()?)),
            "status" => {
                let status = u16::try_from(number()?).ok().and_then(|status| StatusCode::from_u16(status).ok());
                // Anything below is no final answer.
                Self::Status(status.filter(|status| status.as_u16() >= 200).ok_or_else(unknown)?)
            }
            "gzip" => Self::Gzip,
            "call" => Self::Call,
            "stream" => Self::Stream(number()?),
            "type" => Self::Type(argument.and_then(|kind| kind.parse().ok()).ok_or_else(unknown)?),
            "say" => Self::Say(argument.ok_or_else(unknown)?.to_owned()),
            _ => return Err(unknown()),
        })
    }
}

impl Mode {
    /// The mode that a request asks for. One that cannot be read is answered with 400, not ignored.
    pub(super) fn of(headers: &HeaderMap, body: &serde_json::Value) -> Option<Self> {
        let asked = match headers.get("x-mock") {
            Some(value) => value.to_str().unwrap_or_default(),
            None => body.get("model")?.as_str()?.strip_prefix("mock:")?,
        };
        Some(asked.parse().unwrap_or(Self::Status(StatusCode::BAD_REQUEST)))
    }

    /// Changes what was asked.
    pub(super) fn ask(&self, body: &mut serde_json::Value) {
        let Some(fields) = body.as_object_mut() else { return };
        let text = match self {
            Self::Say(text) => text,
            Self::Call => {
                fields.insert(CALL.to_owned(), true.into());
                return;
            }
            _ => return,
        };
        for (name, said) in [
            ("messages", json!([{"role": "user", "content": text}])),
            ("input", json!(text)),
            ("prompt", json!(text)),
            ("contents", json!([{"role": "user", "parts": [{"text": text}]}])),
        ] {
            if fields.contains_key(name) {
                fields.insert(name.to_owned(), said);
            }
        }
    }

    /// None: the connection is to be closed without an answer.
    pub(super) async fn apply(self, answer: Answer) -> Option<Response> {
        match self {
            Self::Well | Self::Say(_) | Self::Call => {}
            Self::Close => return None,
            Self::Cut => return Some(half(answer, End::Error)),
            Self::Hang => std::future::pending().await,
            Self::HangMidway => return Some(half(answer, End::Silence)),
            Self::Delay(time) => tokio::time::sleep(time).await,
            Self::Type(kind) => {
                let mut answer = answer;
                answer.headers.insert(header::CONTENT_TYPE, kind);
                return Some(answer.into_response());
            }
            Self::Status(status) => return Some(refused(status)),
            Self::Gzip => return Some(gzipped(answer)),
            Self::Stream(bytes) => return Some(long_stream(bytes)),
        }
        Some(answer.into_response())
    }
}

#[derive(Clone, Copy)]
enum End {
    /// hyper closes the connection when a body fails.
    Error,
    Silence,
}

/// The first half of an answer under the head of the whole.
fn half(answer: Answer, end: End) -> Response {
    let Answer { status, mut headers, mut pieces } = answer;
    if let [whole] = pieces.as_mut_slice() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
        whole.truncate(whole.len() / 2);
    } else {
        pieces.truncate(pieces.len() / 2);
    }
    // Written out before the connection is closed: hyper drops what it still holds when a body fails.
    let sent = stream::iter(pieces).then(|piece| async {
        tokio::task::yield_now().await;
        Ok(piece)
    });
    let ending = stream::once(async move {
        match end {
            End::Error => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose"))
            }
            End::Silence => std::future::pending().await,
        }
    });
    response(status, headers, stream_body(sent.chain(ending).boxed()))
}

fn refused(status: StatusCode) -> Response {
    let mut answer = openai::error(status, "the mock was asked to fail");
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        answer.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
    }
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        answer.pieces = vec![Bytes::new()];
    }
    answer.into_response()
}

fn gzipped(answer: Answer) -> Response {
    let Answer { status, mut headers, pieces } = answer;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing to memory cannot fail.
    let _ = pieces.iter().try_for_each(|piece| encoder.write_all(piece));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Answer { status, headers, pieces: vec![encoder.finish().unwrap_or_default().into()] }.into_response()
}

/// Chat chunks of 1 KiB and a proper end; nothing but the current one is in memory.
fn long_stream(bytes: u64) -> Response {
    const TEXT: usize = 1024;
    let chunk = serde_json::json!({
        "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "mock",
        "choices": [{"index": 0, "delta": {"content": "lorem ipsum ".repeat(TEXT / 12)}, "finish_reason": null}],
    });
    let event = Bytes::from(format!("data: {chunk}\n\n"));
    let count = usize::try_from(bytes.div_ceil(event.len() as u64)).unwrap_or(usize::MAX);
    let pieces = stream::iter(std::iter::repeat_n(event, count))
        .chain(stream::iter([Bytes::from_static(b"data: [DONE]\n\n")]))
        .map(Ok)
        .boxed();
    let head = Answer::events([], None);
    response(head.status, head.headers, stream_body(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_and_others_refused() {
        for (text, mode) in [
            ("well", Mode::Well),
            ("cut", Mode::Cut),
            ("call", Mode::Call),
            ("delay:250", Mode::Delay(Duration::from_millis(250))),
            ("status:429", Mode::Status(StatusCode::TOO_MANY_REQUESTS)),
            ("stream:5", Mode::Stream(5)),
        ] {
            assert_eq!(text.parse::<Mode>().unwrap(), mode);
        }
        for text in ["", "cutt", "delay", "delay:x", "status:99", "status:101", "stream:-1"] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
    }
}
