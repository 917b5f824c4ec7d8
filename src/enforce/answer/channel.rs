//! One text of an answer: what has come of it, what of that is settled, and which pieces of frames it came in.

use std::collections::VecDeque;
use std::ops::Range;

use crate::domain::{Action, Judged};
use crate::enforce::splice::placeholder;
use crate::protocol::stream::Channel;
use crate::protocol::{Placed, Source};

use super::json::{Read, Reader};

/// What is kept of a text that has gone out, for what it says about what follows, in bytes.
const CONTEXT: usize = 192;
/// The same where a policy looks for attacks, which are judged by the sentence.
const LONG_CONTEXT: usize = 1024;
/// A finding that is not complete after so many bytes is dealt with as far as it has come.
pub(super) const LONGEST_WAIT: usize = 16 << 10;

/// Up to so many bytes that wait are looked at with every piece.
const OFTEN: usize = 1 << 10;

/// A change of a frame's payload.
pub(super) struct Edit {
    pub frame: u64,
    pub placed: Placed,
    /// In the text that `placed` holds.
    pub range: Range<usize>,
    pub replacement: String,
    /// It puts back what stood in the request.
    pub restores: bool,
}

/// What settling a text comes to.
#[derive(Default)]
pub(super) struct Effects {
    pub edits: Vec<Edit>,
    /// The frame of every piece that is settled.
    pub done: Vec<u64>,
}

/// A piece of the text, as a frame brought it.
struct Piece {
    frame: u64,
    placed: Placed,
    /// In the whole text.
    range: Range<usize>,
    /// Bytes of the piece's own text.
    length: usize,
    /// Where the text is read as JSON.
    decoded: Option<Decoded>,
}

/// How the bytes of a decoded piece came about.
#[derive(Default)]
struct Decoded {
    /// For each byte, and for the end, the offset in the piece's own text.
    origins: Vec<u32>,
    in_string: Vec<bool>,
    /// The piece ends inside of an escape.
    cut: bool,
}

pub(super) struct Text {
    pub channel: Option<Channel>,
    pub path: String,
    /// The last of what is settled, and what is not.
    text: String,
    /// Where `text` begins in the whole.
    base: usize,
    settled: usize,
    /// Everything before this is replaced already.
    replaced: usize,
    /// It need not be looked at before it is so long.
    due: usize,
    pieces: VecDeque<Piece>,
    reader: Option<Reader>,
    begun: bool,
}

impl Text {
    pub(super) fn new(channel: Option<Channel>, path: String) -> Self {
        Self {
            channel,
            path,
            text: String::new(),
            base: 0,
            settled: 0,
            replaced: 0,
            due: 0,
            pieces: VecDeque::new(),
            reader: None,
            begun: false,
        }
    }

    /// What is to be looked at, and from where on it is not settled.
    pub(super) fn look(&self) -> (&str, usize) {
        (&self.text, self.settled - self.base)
    }

    /// Whether it has grown enough to be looked at again: a long match is not read anew with every byte of it.
    pub(super) const fn is_due(&self) -> bool {
        self.base + self.text.len() >= self.due
    }

    /// Where `text` begins in the whole.
    pub(super) const fn base(&self) -> usize {
        self.base
    }

    pub(super) fn append(&mut self, frame: u64, placed: Placed, own: &str) {
        if !self.begun
            && let Some(first) = own.find(|c: char| !c.is_ascii_whitespace())
        {
            self.begun = true;
            self.reader = own.get(first..).is_some_and(Reader::applies_to).then(Reader::default);
        }
        let start = self.base + self.text.len();
        let decoded = match &mut self.reader {
            None => {
                self.text.push_str(own);
                None
            }
            Some(reader) => Some(decode(reader, own, &mut self.text)),
        };
        let range = start..self.base + self.text.len();
        self.pieces.push_back(Piece { frame, placed, range, length: own.len(), decoded });
    }

    /// Settles the text up to `to` (an offset in what [`look`](Self::look) shows): `judged` are the findings in it, those that
    /// end before are dealt with; `restored` is what is put back in the part that becomes settled.
    pub(super) fn settle(
        &mut self,
        to: usize,
        judged: &[Judged],
        restored: &[(Range<usize>, String)],
        effects: &mut Effects,
    ) {
        let to = self.base + to;
        for (range, value) in restored {
            self.put_back(&(self.base + range.start..self.base + range.end), value, &mut effects.edits);
        }
        let mut found: Vec<(Range<usize>, &str, usize)> = judged
            .iter()
            .filter(|judged| judged.action == Action::Redact)
            .map(|judged| {
                let span = &judged.finding.span;
                (self.base + span.start..self.base + span.end, &*judged.finding.rule.entity, span.len())
            })
            .filter(|(range, ..)| range.end > self.settled && range.end <= to)
            .collect();
        found.sort_by_key(|(range, ..)| range.start);
        found.dedup_by(|next, kept| {
            let overlaps = next.0.start < kept.0.end;
            if overlaps {
                kept.0.end = kept.0.end.max(next.0.end);
                if next.2 > kept.2 {
                    (kept.1, kept.2) = (next.1, next.2);
                }
            }
            overlaps
        });
        for (range, entity, _) in found {
            // What began in a part that was replaced is the rest of the same thing.
            let goes_on = range.start < self.replaced;
            let range = range.start.max(self.settled)..range.end;
            self.replace(range, (!goes_on).then_some(entity), &mut effects.edits);
        }
        self.settled = to;
        let end = self.base + self.text.len();
        self.due = if end - to > OFTEN { end + (end - to) / 16 } else { 0 };
        while let Some(piece) = self.pieces.front() {
            let cut = piece.decoded.as_ref().is_some_and(|decoded| decoded.cut);
            if piece.range.end + usize::from(cut) > to {
                break;
            }
            effects.done.push(piece.frame);
            self.pieces.pop_front();
        }
    }

    /// The text has come to its end: all its pieces are settled, and what follows is another.
    pub(super) fn end(&mut self, effects: &mut Effects) {
        effects.done.extend(self.pieces.drain(..).map(|piece| piece.frame));
        self.text.clear();
        (self.base, self.settled, self.replaced, self.due) = (0, 0, 0, 0);
        (self.reader, self.begun) = (None, false);
    }

    /// Keeps the beginning of a finding that was too long to wait for, so that the rest of it is found as such.
    pub(super) fn keep_head(&mut self, start: usize) {
        const HEAD: usize = 128;
        let end = self.text.ceil_char_boundary((start + HEAD).min(self.text.len()));
        let whole = self.base + self.text.len();
        self.text = self.text.get(start..end).unwrap_or_default().to_owned();
        self.base = whole - self.text.len();
        self.replaced = whole;
    }

    /// Forgets what is too far back to say anything about what follows.
    pub(super) fn forget(&mut self, attacks: bool) {
        let keep = if attacks { LONG_CONTEXT } else { CONTEXT };
        let gone = self.settled - self.base;
        if gone < 2 * keep {
            return;
        }
        let at = self.text.floor_char_boundary(gone - keep);
        // From the start of a word on.
        let cut =
            self.text.get(at..gone).and_then(|rest| rest.find(char::is_whitespace)).map_or(at, |blank| at + blank);
        self.text.drain(..cut);
        self.base += cut;
    }

    fn replace(&mut self, range: Range<usize>, entity: Option<&str>, edits: &mut Vec<Edit>) {
        let (range, quoted) = self.fitted(range);
        if range.is_empty() {
            return;
        }
        self.replaced = self.replaced.max(range.end);
        let mut entity = entity;
        for piece in &self.pieces {
            let Some(own) = piece.own(&range) else { continue };
            let mut replacement = entity.take().map(placeholder).unwrap_or_default();
            if quoted && !replacement.is_empty() {
                // Inside of a JSON string, as all pieces of JSON texts are.
                replacement = format!("\\\"{replacement}\\\"");
            }
            let placed = piece.placed.clone();
            edits.push(Edit { frame: piece.frame, placed, range: own, replacement, restores: false });
        }
    }

    fn put_back(&self, range: &Range<usize>, value: &str, edits: &mut Vec<Edit>) {
        let value = match self.reader {
            None => value.to_owned(),
            Some(_) if self.pieces.iter().any(|piece| piece.in_string(range.start) == Some(true)) => escaped(value),
            Some(_) => format!("\"{}\"", escaped(value)),
        };
        let mut value = Some(value);
        for piece in &self.pieces {
            let Some(own) = piece.own(range) else { continue };
            let value = value.take().unwrap_or_default();
            let replacement = match piece.placed.kind {
                // A line of its own could end the event that it stands in.
                Source::Plain => value.replace(['\n', '\r'], " "),
                _ => escaped(&value),
            };
            let placed = piece.placed.clone();
            edits.push(Edit { frame: piece.frame, placed, range: own, replacement, restores: true });
        }
    }

    /// The first frame that is not out and carries anything from `at` (an offset in what [`look`](Self::look) shows) on.
    pub(super) fn frame_at(&self, at: usize) -> Option<u64> {
        let at = self.base + at;
        self.pieces.iter().find(|piece| piece.range.end > at).or(self.pieces.back()).map(|piece| piece.frame)
    }

    /// In JSON: a finding inside of a string ends where that does, and of a number all is replaced by a string.
    fn fitted(&self, range: Range<usize>) -> (Range<usize>, bool) {
        if self.reader.is_none() {
            return (range, false);
        }
        let in_string = |at: usize| self.pieces.iter().find_map(|piece| piece.in_string(at));
        let byte = |at: usize| at.checked_sub(self.base).and_then(|at| self.text.as_bytes().get(at)).copied();
        let Some(start) = range.clone().find(|at| in_string(*at) == Some(true)) else {
            let is_number = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            let (mut start, mut end) = (range.start, range.end);
            while start > self.settled && is_number(byte(start - 1)) {
                start -= 1;
            }
            while is_number(byte(end)) {
                end += 1;
            }
            let clean = (start..end).all(|at| is_number(byte(at)));
            let before = (self.base..start).rev().filter_map(byte).find(|b| !b.is_ascii_whitespace());
            return (start..end, clean && matches!(before, Some(b':' | b'[' | b',')));
        };
        let end = (start..range.end).find(|at| in_string(*at) == Some(false)).unwrap_or(range.end);
        (start..end, false)
    }
}

impl Piece {
    /// Of the whole text's `range` what lies in this piece, as offsets in the piece's own text.
    fn own(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let (start, end) = (range.start.max(self.range.start), range.end.min(self.range.end));
        let Some(decoded) = &self.decoded else {
            return (start < end).then(|| start - self.range.start..end - self.range.start);
        };
        // The character after this piece begins in it.
        let takes_tail = decoded.cut && range.start <= self.range.end && range.end > self.range.end;
        if start >= end && !takes_tail {
            return None;
        }
        let origin = |at: usize| {
            let origin = decoded.origins.get(at.saturating_sub(self.range.start)).copied();
            origin.map_or(self.length, |origin| usize::try_from(origin).unwrap_or(self.length))
        };
        let from = origin(start.min(self.range.end));
        let to = if takes_tail { self.length } else { origin(end) };
        (from < to).then_some(from..to)
    }

    fn in_string(&self, at: usize) -> Option<bool> {
        if !self.range.contains(&at) {
            return None;
        }
        Some(self.decoded.as_ref().is_some_and(|d| d.in_string.get(at - self.range.start) == Some(&true)))
    }
}

/// As it stands inside of a JSON string.
fn escaped(value: &str) -> String {
    let quoted = serde_json::to_string(value).unwrap_or_default();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// Appends what `own` says to `text`.
fn decode(reader: &mut Reader, own: &str, text: &mut String) -> Decoded {
    let mut decoded = Decoded::default();
    // Of an escape that began in the piece before, this piece's part begins with it.
    let mut origin = 0;
    for (at, c) in own.char_indices() {
        match reader.next(c) {
            Read::Part => {}
            Read::Char { character, in_string } => {
                let origin = u32::try_from(origin).unwrap_or(u32::MAX);
                text.push(character);
                decoded.origins.extend(std::iter::repeat_n(origin, character.len_utf8()));
                decoded.in_string.extend(std::iter::repeat_n(in_string, character.len_utf8()));
            }
        }
        if !reader.is_waiting() {
            origin = at + c.len_utf8();
        }
    }
    decoded.cut = reader.is_waiting();
    decoded.origins.push(u32::try_from(origin).unwrap_or(u32::MAX));
    decoded
}
