//! Texts that one speaker says one after the other, looked at where they meet: what is cut in two is found.

use std::ops::Range;

use crate::domain::{Finding, Role, View, Views};

/// So much of either side is looked at, in bytes.
const REACH: usize = 240;

/// The end of what one speaker has said so far.
#[derive(Default)]
pub(super) struct Seams {
    role: Option<Role>,
    tail: String,
    /// Where the bytes of `tail` stand: in which segment, from which byte on.
    parts: Vec<(Range<usize>, usize, usize)>,
}

impl Seams {
    /// Looks at the seam before `text`, and goes on from its end. What is found is put in front of each side that carries it.
    pub(super) fn next(
        &mut self,
        (index, role, text): (usize, Role, &str),
        scan: impl Fn(&str, usize, Role, &mut Vec<Finding>) -> Views,
        findings: &mut Vec<Finding>,
    ) -> Views {
        let mut views = Views::default();
        if self.role != Some(role) {
            (self.role, self.tail) = (Some(role), String::new());
            self.parts.clear();
        }
        let open = !self.tail.trim_end().ends_with(['.', '!', '?', ':', ';', '>', '}']);
        if !self.tail.is_empty() && open {
            views.read(View::Joined);
            let head = text.get(..text.floor_char_boundary(REACH)).unwrap_or_default();
            let blank = self.tail.ends_with(char::is_whitespace) || head.starts_with(char::is_whitespace);
            for between in ["", " "].into_iter().take(if blank { 1 } else { 2 }) {
                let seam = self.tail.len()..self.tail.len() + between.len();
                let mut found = Vec::new();
                views |= scan(&[&self.tail, between, head].concat(), index, role, &mut found);
                found.retain(|finding| finding.span.start < seam.start && seam.end < finding.span.end);
                for finding in found {
                    let behind = (seam.end..seam.end + head.len(), index, 0);
                    self.put(&finding, &behind, findings);
                }
            }
        }
        self.go_on(index, text);
        views
    }

    /// A finding in every segment that carries some of it, unless one of them is known there.
    fn put(&self, finding: &Finding, behind: &(Range<usize>, usize, usize), findings: &mut Vec<Finding>) {
        let carried = |(range, segment, offset): &(Range<usize>, usize, usize)| {
            let (start, end) = (finding.span.start.max(range.start), finding.span.end.min(range.end));
            let span = start.checked_sub(range.start)? + offset..end.checked_sub(range.start)? + offset;
            (span.start < span.end).then(|| Finding { span, segment: *segment, ..finding.clone() })
        };
        let carriers: Vec<Finding> = self.parts.iter().chain([behind]).filter_map(carried).collect();
        let known = |own: &Finding| {
            findings.iter().any(|other| {
                other.segment == own.segment
                    && other.rule.detector == own.rule.detector
                    && other.span.start < own.span.end
                    && own.span.start < other.span.end
                    && other.confidence >= own.confidence
            })
        };
        if !carriers.iter().any(known) {
            findings.extend(carriers);
        }
    }

    fn go_on(&mut self, index: usize, text: &str) {
        let cut = text.ceil_char_boundary(text.len().saturating_sub(REACH));
        if cut > 0 {
            self.tail.clear();
            self.parts.clear();
        }
        // Words one by one belong apart, letters together.
        if self.tail.len() > 1 && text.len() > 1 && !self.tail.ends_with(char::is_whitespace) && !text.contains(' ') {
            self.tail.push(' ');
        }
        let start = self.tail.len();
        self.tail.push_str(text.get(cut..).unwrap_or_default());
        self.parts.push((start..self.tail.len(), index, cut));
        let gone = self.tail.ceil_char_boundary(self.tail.len().saturating_sub(REACH));
        if gone > 0 {
            self.tail.drain(..gone);
            for (range, _, offset) in &mut self.parts {
                *offset += gone.saturating_sub(range.start);
                *range = range.start.saturating_sub(gone)..range.end.saturating_sub(gone);
            }
            self.parts.retain(|(range, ..)| !range.is_empty());
        }
    }
}
