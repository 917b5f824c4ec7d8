//! Where detectors put what they found: spans are mapped back to the original text, overlaps are settled.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::CustomRules;
use super::explain::Trace;
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
    custom: Option<&'a CustomRules>,
    trace: Option<&'a Trace>,
    /// The number of the reading, where that is traced.
    reading: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        text: &'a str,
        segment: usize,
        custom: Option<&'a CustomRules>,
        trace: Option<&'a Trace>,
        out: &'a mut Vec<Finding>,
    ) -> Self {
        let first = out.len();
        Self { text, segment, out, first, offset: 0, view: None, custom, trace, reading: 0 }
    }

    pub(super) const fn custom(&self) -> Option<&'a CustomRules> {
        self.custom
    }

    /// The same sink for spans that are relative to an offset.
    pub(super) fn at(&mut self, offset: usize) -> Sink<'_> {
        let offset = self.offset + offset;
        let Sink { text, segment, first, view, custom, trace, reading, .. } = *self;
        Sink { text, segment, out: self.out, first, offset, view, custom, trace, reading }
    }

    /// Runs detectors over a view of the piece at `offset`; what they find is mapped back, and dropped if the same thing was found
    /// in the plain text.
    pub(super) fn through(&mut self, offset: usize, view: &View, scan: impl FnOnce(&[u8], &mut Sink<'_>)) {
        let mut found = Vec::new();
        let Sink { text, segment, custom, trace, .. } = *self;
        let reading = trace.map_or(0, |trace| trace.reading(view.name(), &view.text));
        let view = Some(view);
        let mut sink = Sink { text, segment, out: &mut found, first: 0, offset, view, custom, trace, reading };
        scan(view.map_or(&[], |view| view.text.as_bytes()), &mut sink);
        sink.settle();
        let first = self.first;
        found.retain(|new| {
            !self.out.iter().skip(first).any(|old| {
                family(old) == family(new) && overlap(&old.span, &new.span) && old.confidence >= new.confidence
            })
        });
        self.out.append(&mut found);
    }

    /// Raises the confidence of the attack that a rule has found there, which says more than the model can; a new finding if there
    /// is none.
    pub(super) fn confirm(&mut self, rule: &Arc<Rule>, confidence: f32, span: Range<usize>) {
        let Some(original) = self.original(span.clone()) else { return };
        let allowed_by = self.allowed(rule, span.clone());
        self.note(rule, confidence, &original, span);
        let here = |finding: &&mut Finding| {
            finding.rule.detector == rule.detector
                && finding.allowed_by == allowed_by
                && overlap(&finding.span, &original)
        };
        let strongest =
            self.out.iter_mut().skip(self.first).filter(here).max_by(|a, b| a.confidence.total_cmp(&b.confidence));
        match strongest {
            Some(finding) => finding.confidence = finding.confidence.max(confidence),
            None => self.add(rule, confidence, original, allowed_by),
        }
    }

    pub(super) fn push(&mut self, rule: &Arc<Rule>, confidence: f32, span: Range<usize>) {
        if let Some(original) = self.original(span.clone()) {
            let allowed_by = self.allowed(rule, span.clone());
            self.note(rule, confidence, &original, span);
            self.add(rule, confidence, original, allowed_by);
        }
    }

    fn note(&self, rule: &Arc<Rule>, confidence: f32, original: &Range<usize>, span: Range<usize>) {
        if let Some(trace) = self.trace {
            let offset = if self.view.is_some() { 0 } else { self.offset };
            trace.seen(self.reading, rule, confidence, original, span.start + offset..span.end + offset);
        }
    }

    /// The entry of the allow list that covers what was found, as the view shows it.
    pub(super) fn allowed(&self, rule: &Rule, span: Range<usize>) -> Option<u16> {
        let custom = self.custom?;
        let (text, span) = match self.view {
            Some(view) => (view.text.as_str(), span),
            None => (self.text, span.start + self.offset..span.end + self.offset),
        };
        custom.allowed(&rule.id, text.get(text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end))?)
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

    fn add(&mut self, rule: &Arc<Rule>, confidence: f32, span: Range<usize>, allowed_by: Option<u16>) {
        self.out.push(Finding {
            rule: rule.clone(),
            confidence: confidence.clamp(0.0, 1.0),
            span,
            segment: self.segment,
            allowed_by,
        });
    }

    /// Ends the segment: of findings of one detector that overlap the more confident one stays, then the longer; those of one rule
    /// of an organization's own become one; of attacks only the most confident stay. The order is that of the text.
    pub(super) fn settle(&mut self) {
        if self.out.len() < self.first + 2 {
            return;
        }
        let mut found = self.out.split_off(self.first);
        found.sort_by(|a, b| family(a).cmp(&family(b)).then(a.span.start.cmp(&b.span.start)));
        for finding in found {
            let clash = self.out.len() > self.first
                && self
                    .out
                    .last()
                    .is_some_and(|last| family(last) == family(&finding) && overlap(&last.span, &finding.span));
            if !clash {
                self.out.push(finding);
            } else if finding.rule.detector == Detector::Custom {
                if let Some(last) = self.out.last_mut() {
                    last.span.end = last.span.end.max(finding.span.end);
                    last.confidence = last.confidence.max(finding.confidence);
                }
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

/// Findings of one family are about the same thing where they overlap. An organization's own rules stand each for itself, and
/// what an allow list covers takes nothing else with it.
fn family(finding: &Finding) -> (Detector, &str, Option<u16>) {
    let own = finding.rule.detector == Detector::Custom;
    (finding.rule.detector, if own { &finding.rule.id } else { "" }, finding.allowed_by)
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
