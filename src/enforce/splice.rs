//! Redaction: found bytes are replaced by `[REDACTED_CREDIT_CARD]` and the like, every other byte stays as it is.

use std::ops::Range;

use crate::domain::Finding;
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
struct Found<'f> {
    segment: usize,
    span: Range<usize>,
    entity: &'f str,
    /// Bytes of the finding that named the entity: of overlapping ones the widest says what it is.
    width: usize,
}

impl Splice {
    /// Replaces findings in a document's segments.
    pub(super) fn of_document<'f>(document: &Document<'_>, findings: impl Iterator<Item = &'f Finding>) -> Self {
        let mut edits = Vec::new();
        for group in merged(findings).chunk_by(|a, b| a.segment == b.segment) {
            let Some((segment, index)) =
                group.first().and_then(|found| Some((document.segments.get(found.segment)?, found.segment)))
            else {
                continue;
            };
            match segment.kind {
                // Part of a number replaced would be no JSON: the whole becomes a string.
                Source::JsonNumber => edits.extend(group.iter().max_by_key(|found| found.width).map(|found| Edit {
                    range: segment.raw(),
                    replacement: format!("\"{}\"", placeholder(found.entity)),
                })),
                kind => {
                    let ranges = segment.raw_spans(group.iter().map(|found| found.span.clone()));
                    edits.extend(ranges.zip(group).enumerate().map(|(nth, (range, found))| {
                        let mut replacement = placeholder(found.entity);
                        // Two keys of one object must not become the same.
                        if kind == Source::JsonKey && nth == 0 {
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

    /// Replaces findings in a plain text.
    pub(super) fn of_text<'f>(text: &str, findings: impl Iterator<Item = &'f Finding>) -> Self {
        let edits = merged(findings).into_iter().filter_map(|found| {
            let range = text.floor_char_boundary(found.span.start)..text.ceil_char_boundary(found.span.end);
            (!range.is_empty()).then(|| Edit { range, replacement: placeholder(found.entity) })
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

/// Findings by segment and place, overlapping ones made one.
fn merged<'f>(findings: impl Iterator<Item = &'f Finding>) -> Vec<Found<'f>> {
    let mut all: Vec<Found<'f>> = findings
        .filter(|finding| !finding.span.is_empty())
        .map(|finding| Found {
            segment: finding.segment,
            span: finding.span.clone(),
            entity: &finding.rule.entity,
            width: finding.span.len(),
        })
        .collect();
    all.sort_by_key(|found| (found.segment, found.span.start));
    all.dedup_by(|next, kept| {
        let overlaps = next.segment == kept.segment && next.span.start < kept.span.end;
        if overlaps {
            kept.span.end = kept.span.end.max(next.span.end);
            if next.width > kept.width {
                (kept.entity, kept.width) = (next.entity, next.width);
            }
        }
        overlaps
    });
    all
}

/// `[REDACTED_US_SSN]`. Rule packs are written by people: what would need escaping in JSON becomes `_`.
pub(super) fn placeholder(entity: &str) -> String {
    let mut out = String::from("[REDACTED_");
    out.extend(entity.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
    out.push(']');
    out
}
