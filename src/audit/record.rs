//! One record: length (u32), CRC32C of length and payload (u32), payload. The payload is a kind byte and the entry in postcard,
//! which takes a fifth of the time that JSON takes.
//!
//! Postcard names no fields: a changed entry gets a new kind, and the old ones stay readable. Kinds 1 to 3 are JSON.
//!
//! A reader that has lost its place looks for the next head byte by byte. Texts hold no zero byte and every length does, so no
//! text that a client chooses can hold a head.

use std::sync::Arc;

use postcard::ser_flavors::Flavor;
use serde::Deserialize;

use crate::domain::{AuditEvent, AuditFinding, AuditId, Completion, Coverage, Outcome, Timestamp, Views};

/// Bytes of a record before its payload.
pub(super) const HEAD: usize = 8;
/// Largest payload, 1 MiB. A larger event is cut down when it is encoded ([`encode`]).
pub(super) const MAX_PAYLOAD: usize = 1 << 20;
/// Kind byte and an id.
const MIN_PAYLOAD: usize = 1 + ID.len() + 16;
/// Every payload begins with its id, which begins with its length.
const ID: [u8; 1] = [16];
/// What a text of an event is cut to when the event does not fit; twelve of them stay far below [`MAX_PAYLOAD`].
const CUT_TEXT: usize = 1024;

const JSON_BEGIN: u8 = 1;
const JSON_COMPLETION: u8 = 2;
const JSON_BOTH: u8 = 3;
const BEGIN: u8 = 4;
const COMPLETION: u8 = 5;
const BOTH: u8 = 6;
/// The same with what was made of the answer.
const COMPLETION_ANSWERED: u8 = 7;
const BOTH_ANSWERED: u8 = 8;
/// The same with the readings of request and answer behind the entry.
const BEGIN_VIEWS: u8 = 9;
const COMPLETION_VIEWS: u8 = 10;
const BOTH_VIEWS: u8 = 11;

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Begin(Box<AuditEvent>),
    Completion(Completion),
    Both(Box<AuditEvent>, Completion),
}

/// A completion of kinds 5 and 6.
#[derive(Deserialize)]
struct Unanswered {
    id: AuditId,
    completed_at: Timestamp,
    outcome: Outcome,
    status: u16,
    upstream_status: Option<u16>,
    duration_us: u64,
    overhead_us: u64,
    ttfb_us: Option<u64>,
    response_bytes: u64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    error_code: Option<String>,
}

impl From<Unanswered> for Completion {
    fn from(old: Unanswered) -> Self {
        Self {
            id: old.id,
            completed_at: old.completed_at,
            outcome: old.outcome,
            status: old.status,
            upstream_status: old.upstream_status,
            duration_us: old.duration_us,
            overhead_us: old.overhead_us,
            ttfb_us: old.ttfb_us,
            response_bytes: old.response_bytes,
            input_tokens: old.input_tokens,
            output_tokens: old.output_tokens,
            error_code: old.error_code,
            answer: None,
        }
    }
}

#[derive(Deserialize)]
struct JsonBoth {
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
            Self::Begin(_) => BEGIN_VIEWS,
            Self::Completion(_) => COMPLETION_VIEWS,
            Self::Both(..) => BOTH_VIEWS,
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

    /// What was found in the request, and in the answer.
    fn found(&mut self, mut change: impl FnMut(&mut Vec<AuditFinding>, &mut Coverage)) {
        if let Some(event) = self.event_mut() {
            change(&mut event.findings, &mut event.coverage);
        }
        if let Some(answer) = self.completion_mut().and_then(|completion| completion.answer.as_mut()) {
            change(&mut answer.findings, &mut answer.coverage);
        }
    }

    fn texts(&mut self, mut change: impl FnMut(&mut String)) {
        let shared = |text: &mut Arc<str>, change: &mut dyn FnMut(&mut String)| {
            let mut own = text.to_string();
            change(&mut own);
            if own != **text {
                *text = own.into();
            }
        };
        if let Some(event) = self.event_mut() {
            let AuditEvent { dialect, upstream, model, user_id, client_ip, policy_name, error_code, .. } = event;
            for text in [model, user_id, client_ip, error_code].into_iter().flatten() {
                change(text);
            }
            for text in
                [dialect, upstream, policy_name].into_iter().flatten().chain([&mut event.node, &mut event.method])
            {
                shared(text, &mut change);
            }
            change(&mut event.path);
        }
        if let Some(text) = self.completion_mut().and_then(|completion| completion.error_code.as_mut()) {
            change(text);
        }
        self.found(|findings, coverage| {
            for finding in findings {
                for text in [&mut finding.rule_id, &mut finding.entity, &mut finding.path] {
                    change(text);
                }
            }
            for skipped in &mut coverage.skipped {
                change(&mut skipped.path);
            }
        });
    }

    /// Whether a text has a zero byte.
    fn has_zero(&self) -> bool {
        let zero = |text: &str| memchr::memchr(0, text.as_bytes()).is_some();
        let found = |findings: &[AuditFinding], coverage: &Coverage| {
            findings.iter().any(|f| zero(&f.rule_id) || zero(&f.entity) || zero(&f.path))
                || coverage.skipped.iter().any(|skipped| zero(&skipped.path))
        };
        let of_event = |event: &AuditEvent| {
            let AuditEvent { dialect, upstream, model, user_id, client_ip, policy_name, error_code, .. } = event;
            [model, user_id, client_ip, error_code].into_iter().flatten().any(|text| zero(text))
                || [dialect, upstream, policy_name].into_iter().flatten().any(|text| zero(text))
                || [&*event.node, &event.method, &event.path].into_iter().any(zero)
                || found(&event.findings, &event.coverage)
        };
        let of_completion = |completion: &Completion| {
            completion.error_code.as_deref().is_some_and(zero)
                || completion.answer.as_ref().is_some_and(|answer| found(&answer.findings, &answer.coverage))
        };
        match self {
            Self::Begin(event) => of_event(event),
            Self::Completion(completion) => of_completion(completion),
            Self::Both(event, completion) => of_event(event) || of_completion(completion),
        }
    }
}

/// Appends `entry` to `out` and returns its length with the head.
///
/// What no database could keep or no reader could read is changed in `entry` too, so that the row shipped from memory and
/// the row read back are the same: U+0000 becomes U+FFFD (PostgreSQL has no text with it), a confidence that is not a number
/// becomes 0 (JSON columns have none), and an event above [`MAX_PAYLOAD`] loses its last findings.
///
/// # Errors
/// None in practice; what postcard would say.
pub(super) fn encode(entry: &mut Entry, out: &mut Vec<u8>) -> Result<usize, postcard::Error> {
    entry.found(|findings, _| {
        for finding in findings.iter_mut().filter(|finding| !finding.confidence.is_finite()) {
            finding.confidence = 0.0;
        }
    });
    if entry.has_zero() {
        entry.texts(|text| *text = text.replace('\0', "\u{fffd}"));
    }
    let start = out.len();
    write(entry, out)?;
    let mut texts_cut = false;
    while out.len() - start > HEAD + MAX_PAYLOAD {
        if !std::mem::replace(&mut texts_cut, true) {
            entry.texts(|text| text.truncate(text.floor_char_boundary(CUT_TEXT)));
        } else {
            entry.found(|findings, coverage| {
                findings.truncate(findings.len() / 2);
                coverage.skipped.truncate(coverage.skipped.len() / 2);
            });
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

fn write(entry: &Entry, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
    out.extend_from_slice(&[0; HEAD]);
    out.push(entry.kind());
    match entry {
        Entry::Begin(event) => postcard::serialize_with_flavor(&(event, event.coverage.views), Onto(out)),
        Entry::Completion(completion) => {
            postcard::serialize_with_flavor(&(completion, answer_views(completion)), Onto(out))
        }
        Entry::Both(event, completion) => {
            let views = (event.coverage.views, answer_views(completion));
            postcard::serialize_with_flavor(&(event, completion, views), Onto(out))
        }
    }
}

fn answer_views(completion: &Completion) -> Views {
    completion.answer.as_ref().map_or_else(Views::default, |answer| answer.coverage.views)
}

fn with_answer_views(mut completion: Completion, views: Views) -> Completion {
    if let Some(answer) = completion.answer.as_mut() {
        answer.coverage.views = views;
    }
    completion
}

fn with_views(mut event: Box<AuditEvent>, views: Views) -> Box<AuditEvent> {
    event.coverage.views = views;
    event
}

/// Appends.
struct Onto<'o>(&'o mut Vec<u8>);

impl Flavor for Onto<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Reads a payload whose checksum was right.
///
/// # Errors
/// A record of another version.
pub(super) fn decode(payload: &[u8]) -> Result<Entry, Foreign> {
    let (kind, bytes) = payload.split_first().unwrap_or((&0, &[]));
    let entry = match *kind {
        BEGIN_VIEWS => postcard::from_bytes(bytes).map(|(event, views)| Entry::Begin(with_views(event, views)))?,
        COMPLETION_VIEWS => {
            let (completion, views) = postcard::from_bytes(bytes)?;
            Entry::Completion(with_answer_views(completion, views))
        }
        BOTH_VIEWS => {
            let (event, completion, (asked, answered)) = postcard::from_bytes(bytes)?;
            Entry::Both(with_views(event, asked), with_answer_views(completion, answered))
        }
        BEGIN => postcard::from_bytes(bytes).map(Entry::Begin)?,
        COMPLETION_ANSWERED => postcard::from_bytes(bytes).map(Entry::Completion)?,
        BOTH_ANSWERED => postcard::from_bytes(bytes).map(|(event, completion)| Entry::Both(event, completion))?,
        COMPLETION => postcard::from_bytes(bytes).map(|old: Unanswered| Entry::Completion(old.into()))?,
        BOTH => postcard::from_bytes(bytes).map(|(event, old): (_, Unanswered)| Entry::Both(event, old.into()))?,
        JSON_BEGIN => serde_json::from_slice(bytes).map(Entry::Begin)?,
        JSON_COMPLETION => serde_json::from_slice(bytes).map(Entry::Completion)?,
        JSON_BOTH => {
            let JsonBoth { event, completion } = serde_json::from_slice(bytes)?;
            Entry::Both(event, completion)
        }
        other => return Err(Foreign::Kind(other)),
    };
    Ok(entry)
}

/// Why an intact record could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Foreign {
    #[error("unknown kind of record {0}")]
    Kind(u8),
    #[error(transparent)]
    Postcard(#[from] postcard::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The length of the payload that `head` announces, if this can be the head of a record at all; `head` is [`HEAD`] bytes
/// and the first two of the payload. Keeps a lost reader from summing megabytes for every byte it looks at.
pub(super) fn plausible(head: &[u8]) -> Option<usize> {
    let &[a, b, c, d, _, _, _, _, kind, first, ..] = head else { return None };
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    let begins = match kind {
        JSON_BEGIN..=JSON_BOTH => first == b'{',
        BEGIN..=BOTH_VIEWS => [first] == ID,
        _ => false,
    };
    (begins && (MIN_PAYLOAD..=MAX_PAYLOAD).contains(&length)).then_some(length)
}

/// Whether `record`, head and payload, is as it was written.
pub(super) fn intact(record: &[u8]) -> bool {
    let Some((&[a, b, c, d, e, f, g, h], payload)) = record.split_first_chunk::<HEAD>() else { return false };
    checksum([a, b, c, d], payload) == u32::from_le_bytes([e, f, g, h])
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}
