use std::fmt::Write as _;
use std::io;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Response = http::Response<Body>;

/// An answer before anything is done to it: one piece is sent with its length, several are sent one by one.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub pieces: Vec<Bytes>,
}

impl Answer {
    pub fn json(value: &Value) -> Self {
        Self::new(StatusCode::OK, "application/json", vec![value.to_string().into()])
    }

    /// Server-sent events: `(event, data)`; an empty event name sends `data:` alone.
    pub fn events<'a>(events: impl IntoIterator<Item = (&'a str, Value)>, terminator: Option<&'static str>) -> Self {
        let mut pieces: Vec<Bytes> = events
            .into_iter()
            .map(|(event, data)| {
                let mut text = String::new();
                if !event.is_empty() {
                    let _ = writeln!(text, "event: {event}");
                }
                let _ = write!(text, "data: {data}\n\n");
                text.into()
            })
            .collect();
        pieces.extend(terminator.map(Bytes::from));
        Self::new(StatusCode::OK, "text/event-stream; charset=utf-8", pieces)
    }

    /// One JSON object a line.
    pub fn lines(values: impl IntoIterator<Item = Value>) -> Self {
        let pieces = values.into_iter().map(|value| format!("{value}\n").into()).collect();
        Self::new(StatusCode::OK, "application/x-ndjson", pieces)
    }

    pub fn new(status: StatusCode, content_type: &'static str, pieces: Vec<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, pieces }
    }

    pub fn into_response(self) -> Response {
        let Self { status, headers, mut pieces } = self;
        let body = if pieces.len() == 1 {
            Full::new(pieces.remove(0)).map_err(|never| match never {}).boxed_unsync()
        } else {
            // Between two pieces the connection gets a turn, so that each can be read on its own.
            let pieces = stream::iter(pieces).then(|piece| async {
                tokio::task::yield_now().await;
                Ok(piece)
            });
            stream_body(pieces.boxed())
        };
        response(status, headers, body)
    }
}

pub(super) fn stream_body(pieces: BoxStream<'static, io::Result<Bytes>>) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

pub(super) fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// `You said: …`.
pub(super) fn echo(text: &str) -> String {
    format!("You said: {text}")
}

/// Words with the space after them, so that they put together are the text again.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

/// Three characters at a time.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(3).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at_checked(end)?;
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// As careful models write it, so that nothing in it is taken for markup.
pub(super) fn markdown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '<' | '>' | '_' | '*') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Roughly what a tokenizer would count: four bytes each.
pub(super) fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

/// The text of the last message of the user, whether `content` is a string or a list of parts.
pub(super) fn last_user_text(messages: &Value) -> String {
    let user = messages.as_array().and_then(|all| all.iter().rev().find(|message| role_of(message) == "user"));
    user.map(|message| content_text(message.get("content").or_else(|| message.get("parts")).unwrap_or(&Value::Null)))
        .unwrap_or_default()
}

fn role_of(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or("user")
}

pub(super) fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str).or_else(|| part.as_str()))
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}

pub(super) fn model_of(request: &Value) -> &str {
    request.get("model").and_then(Value::as_str).unwrap_or("mock")
}
