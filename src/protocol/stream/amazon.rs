//! Messages of AWS event streams (`application/vnd.amazon.eventstream`), as Bedrock streams its answers.
//!
//! A message is its length, the length of its headers and a CRC-32 of both (the prelude), the headers, the payload, and a
//! CRC-32 of everything before; numbers are big-endian. Whatever is not exactly so is refused: a client that repairs it could
//! read something else.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::document::{Path, Source, Step};
use super::super::vocabulary::Word;
use super::super::{BinaryRule, ReadLimits, Unreadable, read_answer};

/// Bytes before the headers.
const PRELUDE: usize = 12;
/// Bytes of a checksum.
const SUM: usize = 4;
/// The envelope of a chunk is an object with a text or two.
const ENVELOPE: ReadLimits = ReadLimits { max_decoded: usize::MAX, max_ratio: u32::MAX, max_depth: 16 };

/// What is known of a message beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub event: Option<String>,
    /// Texts that stand where nothing looks for the model's words: unknown headers, and what is in a chunk's envelope.
    pub beside: Vec<String>,
    payload: Range<usize>,
    chunk: Option<Chunk>,
}

/// `{"bytes": "…"}`: a provider's own event inside of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    /// Of the base64 text in the message.
    encoded: Range<usize>,
    decoded: Vec<u8>,
}

/// The length of the message that `bytes` begin with; None before it is known.
///
/// # Errors
/// A prelude that is damaged or impossible (400), a message longer than `most` bytes (413).
pub(super) fn length(bytes: &[u8], most: usize) -> Result<Option<usize>, Unreadable> {
    let Some(prelude) = bytes.get(..PRELUDE) else { return Ok(None) };
    let [total, headers, sum] = [0, 4, 8].map(|at| number(prelude, at));
    if prelude.get(..8).map(crc32fast::hash) != sum {
        return Err(damaged("the prelude of one of its messages has a wrong checksum"));
    }
    let length = |number: Option<u32>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
    let (total, headers) = (length(total), length(headers));
    if total < headers.saturating_add(PRELUDE + SUM) {
        return Err(damaged("one of its messages is shorter than its headers"));
    }
    if total > most {
        let message = format!("a message of the answer is longer than {most} bytes");
        return Err(Unreadable { status: 413, code: "answer_too_large", message });
    }
    Ok(Some(total))
}

impl Message {
    /// Reads a whole message, whose [`length`] is that of `bytes`.
    ///
    /// # Errors
    /// A wrong checksum, headers that are none, a chunk that does not decode.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let end = bytes.len().saturating_sub(SUM);
        let (before, sum) = bytes.split_at_checked(end).unwrap_or_default();
        if number(sum, 0) != Some(crc32fast::hash(before)) {
            return Err(damaged("one of its messages has a wrong checksum"));
        }
        let start = number(bytes, 4).and_then(|headers| usize::try_from(headers).ok()).unwrap_or(usize::MAX);
        let start = start.saturating_add(PRELUDE);
        let mut message = Self { event: None, beside: Vec::new(), payload: start..end, chunk: None };
        let headers = before.get(PRELUDE..start).unwrap_or_default();
        message.read_headers(headers).ok_or_else(|| damaged("the headers of one of its messages cannot be read"))?;
        if message.event.as_deref() == Some("chunk") {
            message.read_chunk(before.get(start..).unwrap_or_default())?;
        }
        Ok(message)
    }

    fn read_headers(&mut self, mut rest: &[u8]) -> Option<()> {
        let mut names: Vec<&str> = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            let name = std::str::from_utf8(name).ok()?;
            if name.is_empty() || names.contains(&name) {
                return None;
            }
            names.push(name);
            let (kind, after) = after.split_first()?;
            let (length, after) = match kind {
                0 | 1 => (0, after),
                2 => (1, after),
                3 => (2, after),
                4 => (4, after),
                5 | 8 => (8, after),
                6 | 7 => {
                    let (length, after) = after.split_first_chunk::<2>()?;
                    (usize::from(u16::from_be_bytes(*length)), after)
                }
                9 => (16, after),
                _ => return None,
            };
            let (value, after) = after.split_at_checked(length)?;
            rest = after;
            let text = match kind {
                6 => String::from_utf8_lossy(value).into_owned(),
                7 => std::str::from_utf8(value).ok()?.to_owned(),
                _ => String::new(),
            };
            match name {
                ":event-type" if *kind == 7 => self.event = Some(text),
                ":message-type" | ":content-type" | ":exception-type" | ":error-code" => {}
                ":error-message" => self.beside.push(text),
                _ => self.beside.extend([name.to_owned(), text]),
            }
        }
        Some(())
    }

    fn read_chunk(&mut self, payload: &[u8]) -> Result<(), Unreadable> {
        let document = read_answer(None, payload, &ENVELOPE, BinaryRule::Refuse)?;
        let mut beside = Vec::new();
        for segment in &document.segments {
            let path = segment.path();
            let is_bytes = segment.kind == Source::JsonString
                && path.node == Path::NO_NODE
                && path.step == Step::Member(Word::Bytes);
            if !is_bytes {
                beside.push(segment.text().into_owned());
                continue;
            }
            let decoded = STANDARD.decode(&*segment.text()).map_err(|_| damaged("a chunk of it is not base64"))?;
            let raw = segment.raw();
            let encoded = self.payload.start + raw.start..self.payload.start + raw.end;
            self.chunk = Some(Chunk { encoded, decoded });
        }
        // Without one it is no envelope: all of it is looked at as it stands.
        if self.chunk.is_some() {
            self.beside.extend(beside);
        }
        Ok(())
    }

    pub(super) const fn is_chunk(&self) -> bool {
        self.chunk.is_some()
    }

    /// What the message of these bytes says; of a chunk what is in it.
    pub(super) fn payload<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match &self.chunk {
            Some(chunk) => &chunk.decoded,
            None => bytes.get(self.payload.clone()).unwrap_or_default(),
        }
    }

    /// The message of these bytes with another payload, and its lengths and checksums made anew.
    pub(super) fn with_payload(&self, bytes: &[u8], payload: &[u8]) -> Vec<u8> {
        let headers = bytes.get(PRELUDE..self.payload.start).unwrap_or_default();
        let Some(chunk) = &self.chunk else { return assemble(headers, payload) };
        let before = bytes.get(self.payload.start..chunk.encoded.start).unwrap_or_default();
        let behind = bytes.get(chunk.encoded.end..self.payload.end).unwrap_or_default();
        assemble(headers, &[before, STANDARD.encode(payload).as_bytes(), behind].concat())
    }
}

/// A message with these headers, all of them texts shorter than 64 KiB.
#[must_use]
pub fn amazon_message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for (name, value) in headers {
        let (Ok(name_length), Ok(length)) = (u8::try_from(name.len()), u16::try_from(value.len())) else { continue };
        written.push(name_length);
        written.extend_from_slice(name.as_bytes());
        written.push(7);
        written.extend_from_slice(&length.to_be_bytes());
        written.extend_from_slice(value.as_bytes());
    }
    assemble(&written, payload)
}

fn assemble(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let total = PRELUDE + headers.len() + payload.len() + SUM;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&length(total));
    bytes.extend_from_slice(&length(headers.len()));
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(headers);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|number| u32::from_be_bytes(*number))
}

fn damaged(message: &str) -> Unreadable {
    Unreadable { status: 400, code: "invalid_encoding", message: message.to_owned() }
}
