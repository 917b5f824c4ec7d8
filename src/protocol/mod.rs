//! Stage 3: what does it say. Provider formats: bytes become segments of text with spans into the original.
//!
//! Strict where a lenient parser upstream could read something else: duplicate keys, invalid UTF-8, depth and
//! trailing bytes are refused. The walker (`json/`) knows the grammar, a dialect (`openai.rs`, `anthropic.rs`, …) only
//! who speaks where; every string is walked whether a dialect knows its place or not.

mod answer;
mod anthropic;
mod bedrock;
mod content_type;
mod conversation;
mod decode;
mod document;
mod gemini;
mod generic;
mod json;
mod ollama;
mod openai;
mod place;
pub mod stream;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use content_type::is_binary;
pub use decode::decode;
pub use document::{Document, Placed, Segment, Source};

use crate::domain::{Dialect, Role, SkipReason, Skipped};

use content_type::ContentKind;
use document::Path;
use json::Bounds;
use place::Shape;

/// A body that cannot be looked at, and therefore is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unreadable {
    /// 400, 413 or 415.
    pub status: u16,
    /// Stable: `invalid_json`, `invalid_encoding`, `request_too_large`, `unsupported_content`.
    pub code: &'static str,
    /// Names the input, never quotes it.
    pub message: String,
}

/// Bounds of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of a decoded body.
    pub max_decoded: usize,
    /// Decoded bytes per encoded byte; asked for above 1 MiB.
    pub max_ratio: u32,
    /// Objects and arrays inside each other.
    pub max_depth: u32,
}

/// What the policy wants done with content that holds no readable text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryRule {
    Refuse,
    Pass,
}

/// Reads a decoded body.
///
/// A JSON content type, or any body that begins like a JSON object whatever its type says (servers do not look at the
/// type either), is walked as JSON. Text is one segment. JSON lines are walked line by line; a line that does not begin
/// like JSON is text. What is left is binary and follows `binary`.
///
/// # Errors
/// [`Unreadable`]: not strict JSON (400), more pieces of text than are kept (413), binary content that the policy does
/// not let pass or a charset other than UTF-8 (415).
pub fn read<'a>(
    dialect: Option<Dialect>,
    content_type: Option<&str>,
    body: &'a [u8],
    limits: &ReadLimits,
    binary: BinaryRule,
) -> Result<Document<'a>, Unreadable> {
    read_shape(Shape::of_requests(dialect), content_type, body, limits, binary)
}

/// Reads an answer, of any dialect: every string is the model's words.
///
/// # Errors
/// Those of [`read`].
pub fn read_answer<'a>(
    content_type: Option<&str>,
    body: &'a [u8],
    limits: &ReadLimits,
    binary: BinaryRule,
) -> Result<Document<'a>, Unreadable> {
    let mut document = read_shape(&answer::SHAPE, content_type, body, limits, binary)?;
    for segment in &mut document.segments {
        segment.role = Role::Assistant;
    }
    Ok(document)
}

fn read_shape<'a>(
    shape: &'static Shape,
    content_type: Option<&str>,
    body: &'a [u8],
    limits: &ReadLimits,
    binary: BinaryRule,
) -> Result<Document<'a>, Unreadable> {
    let kind = content_type::kind(content_type, body)?;
    let bounds = Bounds { max_depth: limits.max_depth, tokens: binary };
    let mut document = match kind {
        ContentKind::Json => json::walk(body, shape, bounds)?,
        ContentKind::JsonLines => json::walk_lines(body, shape, bounds)?,
        ContentKind::MaybeJson => match json::walk(body, shape, bounds) {
            Ok(document) => document,
            Err(_) => text(body, binary)?,
        },
        ContentKind::Text => text(body, binary)?,
        ContentKind::Binary => match binary {
            BinaryRule::Refuse => return Err(unsupported("the body's content type holds no text that can be read")),
            BinaryRule::Pass => text(body, binary)?,
        },
    };
    document.coverage.received = body.len() as u64;
    document.coverage.decoded = body.len() as u64;
    document.coverage.segments = u32::try_from(document.segments.len()).unwrap_or(u32::MAX);
    Ok(document)
}

/// A body that is one text, if it is text at all.
fn text(body: &[u8], binary: BinaryRule) -> Result<Document<'_>, Unreadable> {
    let mut document = Document::default();
    match (std::str::from_utf8(body), binary) {
        (Ok(""), _) => {}
        (Ok(text), _) => {
            document.segments.push(Segment::new(text, 0, Source::Plain, Role::User, Path::WHOLE));
            document.coverage.scanned = text.len() as u64;
        }
        (Err(_), BinaryRule::Pass) => {
            document.coverage.skipped.push(Skipped {
                reason: SkipReason::Binary,
                path: "body".to_owned(),
                bytes: body.len() as u64,
            });
        }
        (Err(_), BinaryRule::Refuse) => return Err(unsupported("the body is not UTF-8 text")),
    }
    Ok(document)
}

fn unsupported(message: &str) -> Unreadable {
    Unreadable { status: 415, code: "unsupported_content", message: message.to_owned() }
}
