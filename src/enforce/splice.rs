//! Replacement: found bytes become `[REDACTED_CREDIT_CARD]` or a token, every other byte stays as it is.

use std::ops::Range;

use crate::domain::{Action, Judged, label};
use crate::protocol::{Document, Source};

/// The replacements to make in a body; apart from each other and in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Splice {
    edits: Vec<Edit>,
}

#[derive(Debug, PartialEq, Eq)]
struct Edit {
    range: Range<usize>,
    replacement: String,
}

/// Where something was found in a segment, and what it is.
#[derive(Debug)]
pub(super) struct Found<'f> {
    pub segment: usize,
    pub span: Range<usize>,
    pub entity: &'f str,
    /// Bytes of the finding that named the entity: of overlapping ones the widest says what it is.
    width: usize,
    /// The policy wants a token in its place.
    pub restorable: bool,
    /// The token; without one it is redacted.
    pub token: Option<String>,
}

impl Found<'_> {
    /// A token in the place of what no detector found.
    pub(super) fn token(segment: usize, span: Range<usize>, token: String) -> Self {
        Self { segment, width: span.len(), span, entity: "", restorable: true, token: Some(token) }
    }

    fn replacement(&self) -> String {
        self.token.clone().unwrap_or_else(|| placeholder(self.entity))
    }
}

impl Splice {
    /// Replaces what was found in a document's segments: in order, and apart from each other.
    pub(super) fn of_document(document: &Document<'_>, found: &[Found<'_>]) -> Self {
        let mut edits = Vec::new();
        for group in found.chunk_by(|a, b| a.segment == b.segment) {
            let Some((segment, index)) =
                group.first().and_then(|found| Some((document.segments.get(found.segment)?, found.segment)))
            else {
                continue;
            };
            match segment.kind {
                // Part of a number replaced would be no JSON: the whole becomes a string.
                Source::JsonNumber => {
                    edits.extend(group.iter().max_by_key(|found| found.width).map(|found| Edit {
                        range: segment.raw(),
                        replacement: format!("\"{}\"", found.replacement()),
                    }))
                }
                kind => {
                    let ranges = segment.raw_spans(group.iter().map(|found| found.span.clone()));
                    let mut numbered = kind != Source::JsonKey;
                    edits.extend(ranges.zip(group).map(|(range, found)| {
                        let mut replacement = found.replacement();
                        // Two keys of one object must not become the same; tokens of two values never are.
                        if found.token.is_none() && !std::mem::replace(&mut numbered, true) {
                            replacement.insert_str(replacement.len() - 1, &format!("_{index}"));
                        }
                        Edit { range, replacement }
                    }));
                }
            }
        }
        // Segments of a document are in the order of its bytes, and so are these.
        Self { edits: edits.into_iter().filter(|edit| !edit.range.is_empty()).collect() }
    }

    /// The same in a plain text.
    pub(super) fn of_text(text: &str, found: &[Found<'_>]) -> Self {
        let edits = found.iter().filter_map(|found| {
            let range = text.floor_char_boundary(found.span.start)..text.ceil_char_boundary(found.span.end);
            (!range.is_empty()).then(|| Edit { range, replacement: found.replacement() })
        });
        Self { edits: edits.collect() }
    }

    /// Replacements of bytes, in any order.
    pub(super) fn of_edits(edits: Vec<(Range<usize>, String)>) -> Self {
        let mut edits: Vec<Edit> = edits.into_iter().map(|(range, replacement)| Edit { range, replacement }).collect();
        edits.sort_by_key(|edit| edit.range.start);
        edits.dedup_by(|next, kept| next.range.start < kept.range.end);
        Self { edits }
    }

    /// With `others`, which are in order and apart; they win where both want the same bytes.
    pub(super) fn with(mut self, others: Vec<(Range<usize>, String)>) -> Self {
        if others.is_empty() {
            return self;
        }
        let Self { edits: others } = Self::of_edits(others);
        self.edits.retain(|edit| {
            let next = others.partition_point(|other| other.range.end <= edit.range.start);
            others.get(next).is_none_or(|other| edit.range.end <= other.range.start)
        });
        self.edits.extend(others);
        self.edits.sort_by_key(|edit| edit.range.start);
        self
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// `body` with the replacements made, in one pass.
    pub(super) fn apply(&self, body: &[u8]) -> Vec<u8> {
        let added: usize = self.edits.iter().map(|edit| edit.replacement.len().saturating_sub(edit.range.len())).sum();
        let mut out = Vec::with_capacity(body.len() + added);
        let mut at = 0;
        for Edit { range, replacement } in &self.edits {
            out.extend_from_slice(body.get(at..range.start).unwrap_or_default());
            out.extend_from_slice(replacement.as_bytes());
            at = range.end;
        }
        out.extend_from_slice(body.get(at..).unwrap_or_default());
        out
    }

    pub(super) fn apply_to_text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for Edit { range, replacement } in &self.edits {
            out.push_str(text.get(at..range.start).unwrap_or_default());
            out.push_str(replacement);
            at = range.end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        out
    }
}

/// What is to be replaced, by segment and place; overlapping findings are one, which is redacted if any of them is.
pub(super) fn merged<'f>(judged: impl Iterator<Item = &'f Judged>) -> Vec<Found<'f>> {
    let mut all: Vec<Found<'f>> = judged
        .filter(|judged| !judged.finding.span.is_empty())
        .map(|Judged { finding, action }| Found {
            segment: finding.segment,
            span: finding.span.clone(),
            entity: &finding.rule.entity,
            width: finding.span.len(),
            restorable: *action == Action::Tokenize,
            token: None,
        })
        .collect();
    all.sort_by_key(|found| (found.segment, found.span.start));
    all.dedup_by(|next, kept| {
        let overlaps = next.segment == kept.segment && next.span.start < kept.span.end;
        if overlaps {
            kept.span.end = kept.span.end.max(next.span.end);
            if (!next.restorable, next.width) > (!kept.restorable, kept.width) {
                (kept.entity, kept.width, kept.restorable) = (next.entity, next.width, next.restorable);
            }
        }
        overlaps
    });
    all
}

/// `[REDACTED_US_SSN]`.
pub(super) fn placeholder(entity: &str) -> String {
    format!("[REDACTED_{}]", label(entity))
}
