//! The walk itself: one pass over the bytes, a stack of open containers, no recursion, no tree.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use crate::domain::{Role, SkipReason, Skipped};
use crate::protocol::document::{Document, Ordinal, Path, Segment, Source, Step, render};
use crate::protocol::place::{Place, Shape, Slot, Voice, role_implied, role_named};
use crate::protocol::vocabulary::Word;
use crate::protocol::{BinaryRule, Unreadable};

use super::escape::escape;
use super::scan::plain_run_end;

/// Pieces of text in one body. A segment is 40 bytes and may stand for three bytes of body; this bounds what a hostile
/// body can make of that to 20 MiB. A 5 MiB document of nothing but short strings stays below it.
const MAX_SEGMENTS: usize = 512 * 1024;

/// Unknown keys in one object that are compared one by one as they come. The keys of a larger object are hashed and
/// sorted when it ends: a hash set would miss the cache at every key.
const FEW_KEYS: usize = 16;

/// Numbers with fewer digits are no card, account or telephone number.
const LONG_NUMBER: usize = 9;

/// Names of models and end users are kept in audit rows; this many bytes of them.
const MAX_NAME: usize = 256;

/// What a walk must keep to.
#[derive(Clone, Copy, Debug)]
pub(in crate::protocol) struct Bounds {
    pub max_depth: u32,
    /// What to do with prompts that are token ids.
    pub tokens: BinaryRule,
}

/// Walks a body that is one JSON value, or empty.
///
/// # Errors
/// [`Unreadable`].
pub(in crate::protocol) fn walk<'a>(
    body: &'a [u8],
    shape: &'static Shape,
    bounds: Bounds,
) -> Result<Document<'a>, Unreadable> {
    if body.is_empty() {
        return Ok(Document::default());
    }
    let mut walker = Walker::new(checked_text(body)?, shape, bounds);
    match walker.document(Place::ROOT, 0) {
        Ok(()) => Ok(walker.finish()),
        Err(fault) => Err(walker.unreadable(fault)),
    }
}

/// Walks a body whose lines are JSON values. A line that does not begin like an object, an array or a string is text.
///
/// # Errors
/// [`Unreadable`].
pub(in crate::protocol) fn walk_lines<'a>(
    body: &'a [u8],
    shape: &'static Shape,
    bounds: Bounds,
) -> Result<Document<'a>, Unreadable> {
    let text = checked_text(body)?;
    let mut walker = Walker::new(text, shape, bounds);
    walker.open(false, Place::LINES);
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_matches(['\n', '\r', '\t', ' ']);
        let json = content.starts_with(['{', '[', '"']);
        walker.bytes = body.get(..start + line.len()).unwrap_or_default();
        walker.at = start;
        let walked = if json {
            walker.document(Place::LINES.element(), 1)
        } else {
            let from = start + (line.len() - line.trim_start_matches(['\n', '\r', '\t', ' ']).len());
            walker.emit(from..from + content.len(), Source::Plain, false, Voice::Of(Role::User))
        };
        if let Err(fault) = walked {
            return Err(walker.unreadable(fault));
        }
        walker.next_element();
        start += line.len();
    }
    Ok(walker.finish())
}

fn checked_text(body: &[u8]) -> Result<&str, Unreadable> {
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(Fault { at: 0, kind: Kind::Syntax("byte order mark") }.into_unreadable(""));
    }
    std::str::from_utf8(body)
        .map_err(|error| Fault { at: error.valid_up_to(), kind: Kind::Syntax("invalid UTF-8") }.into_unreadable(""))
}

/// What is wrong, and at which byte of the body.
#[derive(Clone, Copy, Debug)]
struct Fault {
    at: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Syntax(&'static str),
    TooManySegments,
    Tokens,
}

impl Fault {
    fn into_unreadable(self, path: &str) -> Unreadable {
        let place = if path.is_empty() { String::new() } else { format!(" in {path}") };
        let at = self.at;
        match self.kind {
            Kind::Syntax(what) => Unreadable {
                status: 400,
                code: "invalid_json",
                message: format!("the body is not valid JSON: {what} at byte {at}{place}"),
            },
            Kind::TooManySegments => Unreadable {
                status: 413,
                code: "request_too_large",
                message: format!("the body holds more than {MAX_SEGMENTS} pieces of text"),
            },
            Kind::Tokens => Unreadable {
                status: 415,
                code: "unsupported_content",
                message: format!("token ids cannot be read, send text instead: byte {at}{place}"),
            },
        }
    }
}

/// An open container.
struct Frame {
    place: Place,
    object: bool,
    /// Who speaks in this object, if it said so.
    role: Option<Role>,
    /// From this object's type, which outweighs its role.
    implied: bool,
    /// Where the walk is in it.
    step: Step,
    /// Its entry in the document's nodes, made when the first segment in it appears.
    node: u32,
    first_segment: usize,
    /// The known keys seen, a bit each.
    known: [u64; 6],
    /// Its unknown keys are `Walker::keys` from here on.
    first_key: usize,
}

struct Walker<'a> {
    text: &'a str,
    /// What is walked: the text up to the end of the current line.
    bytes: &'a [u8],
    at: usize,
    shape: &'static Shape,
    bounds: Bounds,
    stack: Vec<Frame>,
    /// The unknown keys of all open objects, as indices of their segments.
    keys: Vec<usize>,
    /// Token ids seen: where first, and their bytes.
    tokens: Option<(String, u64)>,
    document: Document<'a>,
}

type Walk<T = ()> = Result<T, Fault>;

impl<'a> Walker<'a> {
    fn new(text: &'a str, shape: &'static Shape, bounds: Bounds) -> Self {
        let document = Document {
            stream: shape.streams_by_default,
            segments: Vec::with_capacity((text.len() / 128).clamp(8, 1024)),
            ..Document::default()
        };
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            shape,
            bounds,
            stack: Vec::with_capacity(8),
            keys: Vec::new(),
            tokens: None,
            document,
        }
    }

    fn finish(mut self) -> Document<'a> {
        if let Some((path, bytes)) = self.tokens {
            self.document.coverage.skipped.push(Skipped { reason: SkipReason::Binary, path, bytes });
        }
        self.document
    }

    fn unreadable(&self, fault: Fault) -> Unreadable {
        fault.into_unreadable(&render(self.stack.iter().map(|frame| frame.step)))
    }

    const fn syntax<T>(&self, what: &'static str) -> Walk<T> {
        Err(Fault { at: self.at, kind: Kind::Syntax(what) })
    }

    /// One value with nothing but white space around it, read with `base` containers open.
    fn document(&mut self, place: Place, base: usize) -> Walk {
        let mut place = place;
        'value: loop {
            self.skip_white_space();
            match self.bytes.get(self.at) {
                Some(b'"') => self.string_value(place)?,
                Some(b'{') => {
                    self.open_checked(true, place)?;
                    self.skip_white_space();
                    if self.bytes.get(self.at) != Some(&b'}') {
                        place = self.key()?;
                        continue 'value;
                    }
                }
                Some(b'[') => {
                    self.open_checked(false, place)?;
                    self.skip_white_space();
                    if self.bytes.get(self.at) != Some(&b']') {
                        place = place.element();
                        continue 'value;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number(place)?,
                Some(b't') => {
                    self.literal(b"true")?;
                    match place.slot {
                        Slot::Stream => self.document.stream = true,
                        Slot::Ordinal => self.note_ordinal(u32::MAX),
                        _ => {}
                    }
                }
                Some(b'f') => {
                    self.literal(b"false")?;
                    if place.slot == Slot::Stream {
                        self.document.stream = false;
                    }
                }
                Some(b'n') => self.literal(b"null")?,
                Some(_) => return self.syntax("a value is expected"),
                None => return self.syntax("it ends where a value is expected"),
            }
            // After a value: a comma leads to the next one, a bracket closes the container, and that was a value too.
            loop {
                if self.stack.len() == base {
                    self.skip_white_space();
                    return if self.at == self.bytes.len() { Ok(()) } else { self.syntax("trailing bytes") };
                }
                let Some(frame) = self.stack.last() else { return Ok(()) };
                let (object, outer) = (frame.object, frame.place);
                self.skip_white_space();
                match (self.bytes.get(self.at), object) {
                    (Some(b','), true) => {
                        self.at += 1;
                        self.skip_white_space();
                        place = self.key()?;
                        continue 'value;
                    }
                    (Some(b','), false) => {
                        self.at += 1;
                        self.next_element();
                        place = outer.element();
                        continue 'value;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        self.close()?;
                    }
                    (Some(_), _) => return self.syntax("a comma or the end of an object or array is expected"),
                    (None, _) => return self.syntax("it ends inside an object or array"),
                }
            }
        }
    }

    #[inline]
    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn open_checked(&mut self, object: bool, place: Place) -> Walk {
        if self.stack.len() >= usize::try_from(self.bounds.max_depth).unwrap_or(usize::MAX) {
            return self.syntax("it is nested too deeply");
        }
        self.at += 1;
        self.open(object, place);
        Ok(())
    }

    fn open(&mut self, object: bool, place: Place) {
        self.stack.push(Frame {
            place,
            object,
            role: None,
            implied: false,
            step: if object { Step::Whole } else { Step::Index(0) },
            node: Path::NO_NODE,
            first_segment: self.document.segments.len(),
            known: [0; 6],
            first_key: self.keys.len(),
        });
    }

    fn close(&mut self) -> Walk {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        if self.keys.len() - frame.first_key > FEW_KEYS {
            self.check_many_keys(frame.first_key)?;
        }
        self.keys.truncate(frame.first_key);
        if let Some(role) = frame.role {
            // A message's role may come after its content: only now is it known.
            for segment in self.document.segments.iter_mut().skip(frame.first_segment).filter(|s| s.pending) {
                segment.role = role;
                segment.pending = false;
            }
        }
        Ok(())
    }

    /// Looks for a repeated key among those of a large object.
    fn check_many_keys(&self, first_key: usize) -> Walk {
        let keys = self.keys.get(first_key..).unwrap_or_default();
        let keys = || keys.iter().filter_map(|&key| self.document.segments.get(key));
        // Keyed at random, so that nobody can make keys that collide.
        let state = RandomState::new();
        let mut hashes: Vec<u64> = keys().map(|key| state.hash_one(key.text())).collect();
        hashes.sort_unstable();
        if hashes.iter().zip(hashes.iter().skip(1)).any(|(a, b)| a == b) {
            let mut seen = HashSet::new();
            if let Some(again) = keys().find(|key| !seen.insert(key.text())) {
                return Err(Fault { at: again.raw().start - 1, kind: Kind::Syntax("duplicate key") });
            }
        }
        Ok(())
    }

    fn next_element(&mut self) {
        if let Some(Frame { step: Step::Index(index), .. }) = self.stack.last_mut() {
            *index = index.saturating_add(1);
        }
    }

    /// A key and its colon; the place of the value that follows.
    fn key(&mut self) -> Walk<Place> {
        if self.bytes.get(self.at) != Some(&b'"') {
            return self.syntax("a key in quotes is expected");
        }
        let quote = self.at;
        let (span, escaped) = self.string()?;
        let source = self.text.get(span.clone()).unwrap_or_default();
        let word = if escaped {
            Word::of(&Segment::new(source, 0, Source::JsonKey, Role::Other, Path::WHOLE).escaped(true).text())
        } else {
            Word::of(source)
        };
        let Some(frame) = self.stack.last_mut() else { return self.syntax("a value is expected") };
        frame.step = Step::Member(word);
        let place = (self.shape.member)(frame.place, word);
        let duplicate = if word == Word::Unknown {
            self.emit(span, Source::JsonKey, escaped, Voice::Of(Role::Other))?;
            self.is_repeated_key()
        } else {
            self.document.coverage.scanned += span.len() as u64;
            let bit = word as usize;
            frame.known.get_mut(bit / 64).is_none_or(|bits| {
                let before = *bits;
                *bits |= 1 << (bit % 64);
                before == *bits
            })
        };
        if duplicate {
            return Err(Fault { at: quote, kind: Kind::Syntax("duplicate key") });
        }
        self.skip_white_space();
        if self.bytes.get(self.at) != Some(&b':') {
            return self.syntax("a colon is expected");
        }
        self.at += 1;
        Ok(place)
    }

    /// Whether the key that was emitted last stands in its object already, as far as few keys go; remembers it.
    fn is_repeated_key(&mut self) -> bool {
        let segments = &self.document.segments;
        let Some((new, frame)) = segments.last().zip(self.stack.last()) else { return false };
        let earlier = self.keys.get(frame.first_key..).unwrap_or_default();
        let repeated = earlier.len() < FEW_KEYS && {
            let text = new.text();
            earlier.iter().filter_map(|&key| segments.get(key)).any(|key| key.text() == text)
        };
        self.keys.push(segments.len() - 1);
        repeated
    }

    /// A checked string, from its opening quote on: where it is without quotes, and whether it has escapes.
    #[inline]
    fn string(&mut self) -> Walk<(Range<usize>, bool)> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = plain_run_end(self.bytes, at);
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok((start..at, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    while let Some(rest @ [b'\\', ..]) = self.bytes.get(at..) {
                        match escape(rest) {
                            Ok((_, length)) => at += length,
                            Err(what) => return Err(Fault { at, kind: Kind::Syntax(what) }),
                        }
                    }
                }
                Some(_) => return Err(Fault { at, kind: Kind::Syntax("control character in a string") }),
                None => return Err(Fault { at, kind: Kind::Syntax("it ends inside a string") }),
            }
        }
    }

    fn string_value(&mut self, place: Place) -> Walk {
        let (span, escaped) = self.string()?;
        match place.slot {
            Slot::Choice | Slot::Role | Slot::Type => {
                let source = self.text.get(span.clone()).unwrap_or_default();
                // An escaped one is not worth recognising as known, but it must mean what it means upstream.
                let written = Segment::new(source, 0, Source::JsonString, Role::Other, Path::WHOLE).escaped(escaped);
                let value = written.text();
                let word = Word::of(&value);
                self.note_speaker(place.slot, word, &value);
                if word != Word::Unknown && !escaped {
                    self.document.coverage.scanned += span.len() as u64;
                    return Ok(());
                }
            }
            Slot::Model => {
                self.document.model = Some(self.name(span.clone(), escaped));
                if !span.is_empty() {
                    self.document.models.push(self.document.segments.len());
                }
            }
            Slot::User => self.document.user_id = Some(self.name(span.clone(), escaped)),
            _ => {}
        }
        self.emit(span, Source::JsonString, escaped, place.voice)
    }

    fn note_speaker(&mut self, slot: Slot, word: Word, value: &str) {
        let Some(frame) = self.stack.last_mut().filter(|frame| frame.object && frame.place.has_speaker()) else {
            return;
        };
        match slot {
            Slot::Role if !frame.implied => frame.role = role_named(word).or(frame.role),
            Slot::Type => {
                if let Some(role) = role_implied(value) {
                    frame.role = Some(role);
                    frame.implied = true;
                }
            }
            _ => {}
        }
    }

    fn name(&self, span: Range<usize>, escaped: bool) -> String {
        let source = self.text.get(span).unwrap_or_default();
        let mut name =
            Segment::new(source, 0, Source::JsonString, Role::Other, Path::WHOLE).escaped(escaped).text().into_owned();
        name.truncate(name.floor_char_boundary(MAX_NAME));
        name
    }

    fn number(&mut self, place: Place) -> Walk {
        let start = self.at;
        let mut digits = 0;
        self.skip(b'-');
        if !self.skip(b'0') {
            digits += self.digits()?;
        }
        if self.skip(b'.') {
            digits += self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _sign = self.skip(b'+') || self.skip(b'-');
            digits += self.digits()?;
        }
        let span = start..self.at;
        if place.slot == Slot::Ordinal {
            let text = self.text.get(span).unwrap_or_default();
            self.note_ordinal(text.parse().unwrap_or(u32::MAX));
        } else if place.slot == Slot::Numbers {
            // Weights and coordinates are nobody's number.
        } else if place.slot == Slot::Prompt {
            if self.bounds.tokens == BinaryRule::Refuse {
                return Err(Fault { at: start, kind: Kind::Tokens });
            }
            let stack = &self.stack;
            let bytes = span.len() as u64;
            self.tokens.get_or_insert_with(|| (render(stack.iter().map(|frame| frame.step)), 0)).1 += bytes;
        } else if digits >= LONG_NUMBER {
            return self.emit(span, Source::JsonNumber, false, place.voice);
        }
        Ok(())
    }

    fn skip(&mut self, byte: u8) -> bool {
        let there = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(there);
        there
    }

    /// At least one digit.
    fn digits(&mut self) -> Walk<usize> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
        if self.at == start { self.syntax("a digit is expected") } else { Ok(self.at - start) }
    }

    fn literal(&mut self, literal: &[u8]) -> Walk {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(literal)) {
            return self.syntax("a value is expected");
        }
        self.at += literal.len();
        Ok(())
    }

    /// Remembers that the innermost object numbers itself.
    fn note_ordinal(&mut self, value: u32) {
        let Path { node, step } = self.path();
        if let Step::Member(word) = step {
            self.document.ordinals.push(Ordinal { node, word, value });
        }
    }

    /// Keeps a piece of text.
    fn emit(&mut self, span: Range<usize>, kind: Source, escaped: bool, voice: Voice) -> Walk {
        if span.is_empty() {
            return Ok(());
        }
        if self.document.segments.len() >= MAX_SEGMENTS || self.document.nodes.len() >= MAX_SEGMENTS {
            return Err(Fault { at: span.start, kind: Kind::TooManySegments });
        }
        let path = self.path();
        let (role, pending) = match voice {
            Voice::Of(role) => (role, false),
            Voice::Speaker => (Role::User, true),
        };
        let source = self.text.get(span.clone()).unwrap_or_default();
        self.document.coverage.scanned += source.len() as u64;
        let segment = Segment::new(source, span.start, kind, role, path).escaped(escaped).pending(pending);
        self.document.segments.push(segment);
        Ok(())
    }

    /// Where the walk is, with entries for all open containers.
    fn path(&mut self) -> Path {
        let nodes = &mut self.document.nodes;
        let mut path = Path::WHOLE;
        // The outermost needs no entry. Those that have one are below those that have none.
        let named = self.stack.iter().rposition(|frame| frame.node != Path::NO_NODE);
        if let Some(frame) = named.and_then(|named| self.stack.get(named)) {
            path = Path { node: frame.node, step: frame.step };
        }
        for frame in self.stack.iter_mut().skip(named.map_or(0, |named| named + 1)) {
            if path.step != Step::Whole {
                frame.node = u32::try_from(nodes.len()).unwrap_or(Path::NO_NODE);
                nodes.push(path);
            }
            path = Path { node: frame.node, step: frame.step };
        }
        path
    }
}
