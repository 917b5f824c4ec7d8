//! Where detectors put what they found: spans are mapped back to the original text, overlaps are settled.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::views::View;
use crate::domain::{Detector, Finding, Rule};

/// At most this many injection findings a segment; the most confident ones stay.
const ATTACKS: usize = 8;

/// Collects the findings of one segment.
pub(super) struct Sink<'a> {
    text: &'a str,
    segment: usize,
    out: &'a mut Vec<Finding>,
    /// Where the findings of the current family begin in `out`.
    family: usize,
    /// Where those of this segment begin.
    first: usize,
    /// Start of the current piece in the text.
    offset: usize,
    view: Option<&'a View>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(text: &'a str, segment: usize, out: &'a mut Vec<Finding>) -> Self {
        let first = out.len();
        Self { text, segment, out, family: first, first, offset: 0, view: None }
    }

    /// From now on spans are relative to this offset.
    pub(super) fn shift(&mut self, offset: usize) {
        self.offset = offset;
    }

    /// Runs detectors over a view; what they find is mapped back, and dropped if the same thing was found in the plain text.
    pub(super) fn through(&mut self, view: &View, scan: impl FnOnce(&[u8], &mut Sink<'_>)) {
        let mut found = Vec::new();
        let mut sink = Sink {
            text: self.text,
            segment: self.segment,
            out: &mut found,
            family: 0,
            first: 0,
            offset: self.offset,
            view: Some(view),
        };
        scan(view.text.as_bytes(), &mut sink);
        sink.settle();
        let first = self.first;
        found.retain(|new| {
            !self.out.iter().skip(first).any(|old| {
                old.rule.detector == new.rule.detector
                    && overlap(&old.span, &new.span)
                    && old.confidence >= new.confidence
            })
        });
        self.out.append(&mut found);
    }

    pub(super) fn push(&mut self, rule: &Arc<Rule>, confidence: f32, span: Range<usize>) {
        let span = match self.view {
            Some(view) => view.original(span),
            None => span,
        };
        let start = self.text.floor_char_boundary(span.start + self.offset);
        let end = self.text.ceil_char_boundary(span.end + self.offset);
        if start < end {
            self.out.push(Finding {
                rule: rule.clone(),
                confidence: confidence.clamp(0.0, 1.0),
                span: start..end,
                segment: self.segment,
            });
        }
    }

    /// Ends a family: of findings that overlap the more confident one stays, then the longer.
    pub(super) fn settle(&mut self) {
        if self.out.len() > self.family + 1 {
            let mut found = self.out.split_off(self.family);
            found.sort_by_key(|finding| finding.span.start);
            for finding in found {
                let clash = self.out.len() > self.family
                    && self.out.last().is_some_and(|last| {
                        last.rule.detector == finding.rule.detector && overlap(&last.span, &finding.span)
                    });
                if !clash {
                    self.out.push(finding);
                } else if let Some(last) = self.out.last_mut()
                    && better(&finding, last)
                {
                    *last = finding;
                }
            }
        }
        self.family = self.out.len();
    }

    /// Ends the segment: only the most confident injection findings stay, in the order of the text.
    pub(super) fn settle_attacks(&mut self) {
        let attacks = self.out.len() - self.family;
        if attacks < 2 {
            return;
        }
        let (mut attacks, rest): (Vec<_>, Vec<_>) =
            self.out.drain(self.family..).partition(|f| f.rule.detector == Detector::Injection);
        attacks.sort_by(|a, b| b.confidence.partial_cmp(&a.confidence).unwrap_or(Ordering::Equal));
        attacks.truncate(ATTACKS);
        attacks.extend(rest);
        attacks.sort_by_key(|finding| finding.span.start);
        self.out.append(&mut attacks);
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn better(a: &Finding, b: &Finding) -> bool {
    match a.confidence.partial_cmp(&b.confidence) {
        Some(Ordering::Greater) => true,
        Some(Ordering::Less) | None => false,
        Some(Ordering::Equal) => a.span.len() > b.span.len(),
    }
}
