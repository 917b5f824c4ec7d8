//! One record: length (u32), CRC32C of length and payload (u32), payload. The payload is a kind byte and a JSON object.
//!
//! JSON keeps a segment readable with `strings` and lets a later version add fields. It never contains a zero byte and a
//! plausible length always does, so nothing that a client can put into a record looks like the head of another one: a
//! reader that has lost its place can look for the next head byte by byte.

use serde::{Deserialize, Serialize};

use crate::domain::{AuditEvent, AuditId, Completion};

/// Bytes of a record before its payload.
pub(super) const HEAD: usize = 8;
/// Largest payload, 1 MiB. A larger event is cut down when it is encoded ([`encode`]).
pub(super) const MAX_PAYLOAD: usize = 1 << 20;
/// Kind byte and `{}`.
const MIN_PAYLOAD: usize = 3;
/// What a text of an event is cut to when the event does not fit; twelve of them stay far below [`MAX_PAYLOAD`].
const CUT_TEXT: usize = 1024;

const BEGIN: u8 = 1;
const COMPLETION: u8 = 2;
const BOTH: u8 = 3;

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Begin(Box<AuditEvent>),
    Completion(Completion),
    Both(Box<AuditEvent>, Completion),
}

#[derive(Serialize)]
struct BothRef<'a> {
    event: &'a AuditEvent,
    completion: &'a Completion,
}

#[derive(Deserialize)]
struct BothOwned {
    event: Box<AuditEvent>,
    completion: Completion,
}

impl Entry {
    /// The id of a request that this record leaves open.
    pub(super) fn opens(&self) -> Option<AuditId> {
        match self {
            Self::Begin(event) => Some(event.id),
            Self::Completion(_) | Self::Both(..) => None,
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Begin(_) => BEGIN,
            Self::Completion(_) => COMPLETION,
            Self::Both(..) => BOTH,
        }
    }

    const fn event_mut(&mut self) -> Option<&mut AuditEvent> {
        match self {
            Self::Begin(event) | Self::Both(event, _) => Some(event),
            Self::Completion(_) => None,
        }
    }

    const fn completion_mut(&mut self) -> Option<&mut Completion> {
        match self {
            Self::Completion(completion) | Self::Both(_, completion) => Some(completion),
            Self::Begin(_) => None,
        }
    }

    fn texts(&mut self, change: impl Fn(&mut String)) {
        if let Some(event) = self.event_mut() {
            let AuditEvent { dialect, upstream, model, user_id, client_ip, policy_name, error_code, .. } = event;
            for text in [dialect, upstream, model, user_id, client_ip, policy_name, error_code].into_iter().flatten() {
                change(text);
            }
            for text in [&mut event.node, &mut event.method, &mut event.path] {
                change(text);
            }
            for finding in &mut event.findings {
                for text in [&mut finding.rule_id, &mut finding.entity, &mut finding.path] {
                    change(text);
                }
            }
            for skipped in &mut event.coverage.skipped {
                change(&mut skipped.path);
            }
        }
        if let Some(text) = self.completion_mut().and_then(|completion| completion.error_code.as_mut()) {
            change(text);
        }
    }
}

/// Appends `entry` to `out` and returns its length with the head.
///
/// What no database could keep or no reader could read is changed in `entry` too, so that the row shipped from memory and
/// the row read back are the same: U+0000 becomes U+FFFD (PostgreSQL has no text with it), a confidence that is not a number
/// becomes 0 (JSON has none), and an event above [`MAX_PAYLOAD`] loses its last findings.
///
/// # Errors
/// None in practice; what `serde_json` would say.
pub(super) fn encode(entry: &mut Entry, out: &mut Vec<u8>) -> Result<usize, serde_json::Error> {
    for finding in entry.event_mut().map(|event| event.findings.as_mut_slice()).unwrap_or_default() {
        if !finding.confidence.is_finite() {
            finding.confidence = 0.0;
        }
    }
    let start = out.len();
    write(entry, out)?;
    if memchr::memmem::find(out.get(start..).unwrap_or_default(), br"\u0000").is_some() {
        entry.texts(|text| *text = text.replace('\0', "\u{fffd}"));
        out.truncate(start);
        write(entry, out)?;
    }
    let mut texts_cut = false;
    while out.len() - start > HEAD + MAX_PAYLOAD {
        if !std::mem::replace(&mut texts_cut, true) {
            entry.texts(|text| text.truncate(text.floor_char_boundary(CUT_TEXT)));
        } else if let Some(event) = entry.event_mut() {
            event.findings.truncate(event.findings.len() / 2);
            event.coverage.skipped.truncate(event.coverage.skipped.len() / 2);
        }
        out.truncate(start);
        write(entry, out)?;
    }
    let payload = out.get(start + HEAD..).unwrap_or_default();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let sum = checksum(length, payload).to_le_bytes();
    if let Some(head) = out.get_mut(start..start + HEAD) {
        for (slot, byte) in head.iter_mut().zip(length.into_iter().chain(sum)) {
            *slot = byte;
        }
    }
    Ok(out.len() - start)
}

fn write(entry: &Entry, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    out.extend_from_slice(&[0; HEAD]);
    out.push(entry.kind());
    match entry {
        Entry::Begin(event) => serde_json::to_writer(out, event),
        Entry::Completion(completion) => serde_json::to_writer(out, completion),
        Entry::Both(event, completion) => serde_json::to_writer(out, &BothRef { event, completion }),
    }
}

/// Reads a payload whose checksum was right.
///
/// # Errors
/// A record of another version.
pub(super) fn decode(payload: &[u8]) -> Result<Entry, serde_json::Error> {
    let (kind, json) = payload.split_first().unwrap_or((&0, &[]));
    match *kind {
        BEGIN => serde_json::from_slice(json).map(Entry::Begin),
        COMPLETION => serde_json::from_slice(json).map(Entry::Completion),
        BOTH => serde_json::from_slice(json).map(|BothOwned { event, completion }| Entry::Both(event, completion)),
        other => Err(serde::de::Error::custom(format_args!("unknown kind of record {other}"))),
    }
}

/// The length of the payload that `head` announces, if this can be the head of a record at all; `head` is [`HEAD`] bytes
/// and the first two of the payload. Keeps a lost reader from summing megabytes for every byte it looks at.
pub(super) fn plausible(head: &[u8]) -> Option<usize> {
    let &[a, b, c, d, _, _, _, _, kind, brace, ..] = head else { return None };
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    let fits = (MIN_PAYLOAD..=MAX_PAYLOAD).contains(&length);
    (fits && (BEGIN..=BOTH).contains(&kind) && brace == b'{').then_some(length)
}

/// Whether `record`, head and payload, is as it was written.
pub(super) fn intact(record: &[u8]) -> bool {
    let Some((&[a, b, c, d, e, f, g, h], payload)) = record.split_first_chunk::<HEAD>() else { return false };
    checksum([a, b, c, d], payload) == u32::from_le_bytes([e, f, g, h])
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}
