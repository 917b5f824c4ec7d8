//! Stage 3: what does it say. Provider formats: bytes become segments of text with spans into the original.
//!
//! Strict where a lenient parser upstream could read something else: duplicate keys, invalid UTF-8, depth and
//! trailing bytes are refused.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::domain::{Coverage, Dialect, Role};

/// A body that cannot be looked at, and therefore is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unreadable {
    /// 400, 413 or 415.
    pub status: u16,
    /// Stable: `invalid_json`, `invalid_encoding`, `request_too_large`, `unsupported_content` …
    pub code: &'static str,
    /// Names the input, never quotes it.
    pub message: String,
}

/// Bounds of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    pub max_decoded: usize,
    pub max_ratio: u32,
    pub max_depth: u32,
}

/// What the policy wants done with content that holds no readable text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryRule {
    Refuse,
    Pass,
}

/// One piece of text and where it stands.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// The text as the model will read it: JSON escapes undone. Borrowed from the body when there were none.
    pub text: Cow<'a, str>,
    pub role: Role,
    /// `messages[2].content[0].text`
    pub path: String,
    /// Where the text's source stands in the decoded body, without the quotes.
    pub raw: Range<usize>,
    /// True when the source is the inside of a JSON string, so that replacements must be escaped.
    pub json: bool,
}

impl Segment<'_> {
    /// The bytes of the decoded body that carry `span` of the text.
    #[must_use]
    pub fn raw_span(&self, _span: Range<usize>) -> Range<usize> {
        todo!()
    }
}

/// A body, read.
#[derive(Clone, Debug, Default)]
pub struct Document<'a> {
    pub segments: Vec<Segment<'a>>,
    pub model: Option<String>,
    /// The client asked for a streamed answer.
    pub stream: bool,
    /// The application's own name for its end user: `user` (OpenAI), `metadata.user_id` (Anthropic).
    pub user_id: Option<String>,
    pub coverage: Coverage,
}

/// Undoes `Content-Encoding` (`gzip`, `deflate`, `br`, `zstd`, a list of them, `identity`) within the limits.
/// A body that is not encoded is returned as it is, without a copy.
///
/// # Errors
/// [`Unreadable`]: unknown coding, broken or trailing data (400), beyond the limits (413).
pub fn decode(_body: &Bytes, _content_encoding: Option<&str>, _limits: &ReadLimits) -> Result<Bytes, Unreadable> {
    todo!()
}

/// Reads a decoded body. `content_type` decides between JSON and plain text; a missing one is taken as JSON when the body starts like it.
///
/// # Errors
/// [`Unreadable`].
pub fn read<'a>(
    _dialect: Option<Dialect>,
    _content_type: Option<&str>,
    _body: &'a [u8],
    _limits: &ReadLimits,
    _binary: BinaryRule,
) -> Result<Document<'a>, Unreadable> {
    todo!()
}
