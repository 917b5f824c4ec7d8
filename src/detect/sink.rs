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
    /// Where the findings of this segment begin in `out`.
    first: usize,
    /// Start of the current piece in the text.
    offset: usize,
    view: Option<&'a View>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(text: &'a str, segment: usize, out: &'a mut Vec<Finding>) -> Self {
        let first = out.len();
        Self { text, segment, out, first, offset: 0, view: None }
    }

    /// The same sink for spans that are relative to an offset.
    pub(super) fn at(&mut self, offset: usize) -> Sink<'_> {
        let offset = self.offset + offset;
        Sink { text: self.text, segment: self.segment, out: self.out, first: self.first, offset, view: self.view }
    }

    /// Runs detectors over a view of the piece at `offset`; what they find is mapped back, and dropped if the same thing was found
    /// in the plain text.
    pub(super) fn through(&mut self, offset: usize, view: &View, scan: impl FnOnce(&[u8], &mut Sink<'_>)) {
        let mut found = Vec::new();
        let mut sink =
            Sink { text: self.text, segment: self.segment, out: &mut found, first: 0, offset, view: Some(view) };
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

    /// Raises the confidence of the attack that a rule has found there, which says more than the model can; a new finding if there
    /// is none.
    pub(super) fn confirm(&mut self, rule: &Arc<Rule>, confidence: f32, span: Range<usize>) {
        let Some(span) = self.original(span) else { return };
        let here = |finding: &&mut Finding| finding.rule.detector == rule.detector && overlap(&finding.span, &span);
        let strongest =
            self.out.iter_mut().skip(self.first).filter(here).max_by(|a, b| a.confidence.total_cmp(&b.confidence));
        match strongest {
            Some(finding) => finding.confidence = finding.confidence.max(confidence),
            None => self.add(rule, confidence, span),
        }
    }

    pub(super) fn push(&mut self, rule: &Arc<Rule>, confidence: f32, span: Range<usize>) {
        if let Some(span) = self.original(span) {
            self.add(rule, confidence, span);
        }
    }

    /// The span in the original text, widened to character boundaries; none for what a view shows as it is in the text, where it
    /// was read already.
    fn original(&self, span: Range<usize>) -> Option<Range<usize>> {
        let whole = |span: Range<usize>| {
            let start = self.text.floor_char_boundary(span.start + self.offset);
            let end = self.text.ceil_char_boundary(span.end + self.offset);
            start..end
        };
        let original = match self.view {
            Some(view) => {
                let original = whole(view.original(span.clone()));
                if self.text.as_bytes().get(original.clone()) == view.text.as_bytes().get(span) {
                    return None;
                }
                original
            }
            None => whole(span),
        };
        (original.start < original.end).then_some(original)
    }

    fn add(&mut self, rule: &Arc<Rule>, confidence: f32, span: Range<usize>) {
        self.out.push(Finding {
            rule: rule.clone(),
            confidence: confidence.clamp(0.0, 1.0),
            span,
            segment: self.segment,
        });
    }

    /// Ends the segment: of findings of one detector that overlap the more confident one stays, then the longer; of attacks only
    /// the most confident stay. The order is that of the text.
    pub(super) fn settle(&mut self) {
        if self.out.len() < self.first + 2 {
            return;
        }
        let mut found = self.out.split_off(self.first);
        found.sort_by_key(|finding| (finding.rule.detector, finding.span.start));
        for finding in found {
            let clash = self.out.len() > self.first
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
        let attack = |finding: &Finding| finding.rule.detector == Detector::Injection;
        if self.out.iter().skip(self.first).filter(|finding| attack(finding)).count() > ATTACKS {
            let (mut attacks, rest): (Vec<_>, Vec<_>) = self.out.drain(self.first..).partition(attack);
            attacks.sort_by(|a, b| b.confidence.partial_cmp(&a.confidence).unwrap_or(Ordering::Equal));
            attacks.truncate(ATTACKS);
            self.out.extend(rest.into_iter().chain(attacks));
        }
        if let Some(own) = self.out.get_mut(self.first..) {
            own.sort_by_key(|finding| finding.span.start);
        }
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
