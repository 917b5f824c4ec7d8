//! Finds clusters of digit groups (`4532-1234-5678-9010`, `+1 (555) 010-9999`, `10.0.0.1`) and asks each recogniser.
#![expect(
    clippy::indexing_slicing,
    reason = "group numbers are below the count of groups; positions come from the text"
)]

use super::context::{Context, Nearby, Window};
use super::{KnownRules, dates, national, numbers, phone};
use crate::detect::Sink;
use crate::detect::blocks::{self, Finder};
use crate::detect::bytes::{at, is_word};

/// Groups looked at together; a longer chain of groups is read in several clusters.
const GROUPS: usize = 12;
/// A run of more digits is a number, not an identifier (the longest is an IBAN's 26 and more).
pub(super) const LONGEST_GROUP: usize = 32;

/// One run of digits.
#[derive(Clone, Copy, Default)]
pub(super) struct Group {
    pub start: usize,
    pub end: usize,
}

impl Group {
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }
}

/// Digit groups with short separators between them.
pub(super) struct Cluster<'t, 'w> {
    pub text: &'t [u8],
    groups: [Group; GROUPS],
    count: usize,
    nearby: Option<Nearby>,
    context: &'t Context,
    window: &'w mut Window<'t>,
}

impl<'t> Cluster<'t, '_> {
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups[..self.count]
    }

    /// The bytes between group `i` and the next.
    pub(super) fn separator(&self, i: usize) -> &'t [u8] {
        if i + 1 < self.count { &self.text[self.groups[i].end..self.groups[i + 1].start] } else { b"" }
    }

    /// Digit values of the groups `i..j` and their number, at most [`LONGEST_GROUP`].
    pub(super) fn digits(&self, i: usize, j: usize) -> ([u8; LONGEST_GROUP], usize) {
        let mut digits = [0; LONGEST_GROUP];
        let mut n = 0;
        for group in &self.groups[i..j] {
            for byte in &self.text[group.start..group.end] {
                if n < LONGEST_GROUP {
                    digits[n] = byte - b'0';
                    n += 1;
                }
            }
        }
        (digits, n)
    }

    pub(super) fn number(&self, i: usize) -> u32 {
        self.text[self.groups[i].start..self.groups[i].end].iter().take(9).fold(0, |n, b| n * 10 + u32::from(b - b'0'))
    }

    /// Whether the groups `i..j` have these lengths with one and the same separator out of `allowed`.
    pub(super) fn is_shape(&self, i: usize, lengths: &[usize], allowed: &[u8]) -> bool {
        let j = i + lengths.len();
        if j > self.count || !self.groups[i..j].iter().zip(lengths).all(|(group, len)| group.len() == *len) {
            return false;
        }
        let first = self.separator(i);
        lengths.len() < 2
            || first.len() == 1 && allowed.contains(&first[0]) && (i..j - 1).all(|k| self.separator(k) == first)
    }

    /// Whether nothing that belongs to a longer token touches the groups `i..j`.
    pub(super) fn is_bounded(&self, i: usize, j: usize) -> bool {
        let (start, end) = (self.groups[i].start, self.groups[j - 1].end);
        let before = if start > 0 { self.text[start - 1] } else { b' ' };
        let after = at(self.text, end);
        let joined = matches!(before, b'.' | b'-' | b'/') && start > 1 && is_word(self.text[start - 2]);
        let goes_on = matches!(after, b'-' | b'/' | b'.' | b':') && at(self.text, end + 1).is_ascii_digit();
        !(is_word(before) || is_word(after) || joined || goes_on)
    }

    /// Context words around the cluster; looked up once.
    pub(super) fn nearby(&mut self) -> Nearby {
        let (start, end) = (self.groups[0].start, self.groups[self.count - 1].end);
        if let Some(nearby) = self.nearby {
            return nearby;
        }
        let nearby = self.context.around(self.text, start, end, self.window);
        self.nearby = Some(nearby);
        nearby
    }
}

pub(super) fn scan<'t>(
    text: &'t [u8],
    known: &KnownRules,
    context: &'t Context,
    candidates: &'t [usize],
    sink: &mut Sink<'_>,
) {
    let mut from = 0;
    let mut window = Window::new(candidates);
    let mut digits = Finder::new(text, blocks::digits);
    while let Some(start) = digits.next(from, text.len()) {
        let mut end = run_end(text, start);
        let first_len = end - start;
        let next = next_group(text, end);
        // A lone short number is nothing; most digits of ordinary text end here.
        if first_len > LONGEST_GROUP || first_len < 6 && next.is_none() && !neighbour_counts(text, start, end) {
            from = end;
            continue;
        }
        let mut cluster =
            Cluster { text, groups: [Group::default(); GROUPS], count: 1, nearby: None, context, window: &mut window };
        cluster.groups[0] = Group { start, end };
        let mut next = next;
        while let Some(start) = next.filter(|_| cluster.count < GROUPS) {
            let group = Group { start, end: run_end(text, start) };
            end = group.end;
            if group.len() > LONGEST_GROUP {
                break;
            }
            cluster.groups[cluster.count] = group;
            cluster.count += 1;
            next = next_group(text, end);
        }
        let digits: usize = cluster.groups().iter().map(|group| group.len()).sum();
        if digits >= 6 || cluster.count >= 3 || neighbour_counts(text, start, cluster.groups[0].end) {
            end = end.max(judge(&mut cluster, known, sink));
        }
        from = end;
    }
}

/// A short digit run next to certain letters can begin an IBAN, a passport, an address on a chain, a date in words.
fn neighbour_counts(text: &[u8], start: usize, end: usize) -> bool {
    let (after, next) = (at(text, end), at(text, end + 1));
    let before = if start > 0 { text[start - 1] } else { b' ' };
    match after {
        b' ' => {
            before.is_ascii_uppercase() && end - start == 2
                || next.is_ascii_uppercase()
                || before == b' ' && next.is_ascii_digit()
        }
        b',' => next == b' ' && matches!(at(text, end + 2), b'1' | b'2'),
        b'x' if text[start] == b'0' => true,
        b'-' => true,
        _ => {
            after.is_ascii_alphabetic()
                && (!is_word(before) || before.is_ascii_alphabetic() && matches!(end - start, 2 | 4))
        }
    }
}

fn run_end(text: &[u8], start: usize) -> usize {
    text[start..].iter().position(|b| !b.is_ascii_digit()).map_or(text.len(), |n| start + n)
}

/// Start of the next group if at most two separators lie between.
fn next_group(text: &[u8], end: usize) -> Option<usize> {
    let separator = |b: u8| matches!(b, b' ' | b'-' | b'.' | b'/' | b'(' | b')');
    for n in 1..=3 {
        if at(text, end + n).is_ascii_digit() {
            return Some(end + n).filter(|next| text[end..*next].iter().all(|b| separator(*b)));
        }
        if !separator(at(text, end + n - 1)) {
            break;
        }
    }
    // no-break space
    (text.get(end..end + 2) == Some(b"\xC2\xA0") && at(text, end + 2).is_ascii_digit()).then_some(end + 2)
}

/// Asks the recognisers at every group; what one takes is not offered to the next. Returns where the text was read to.
fn judge(cluster: &mut Cluster<'_, '_>, known: &KnownRules, sink: &mut Sink<'_>) -> usize {
    let mut i = 0;
    let mut read = 0;
    while i < cluster.count {
        let found = numbers::attached(cluster, i, known, sink);
        if let Some(end) = found.or_else(|| national::with_letters(cluster, i, known, sink)) {
            read = read.max(end);
            i += 1;
            while i < cluster.count && cluster.groups[i].start < end {
                i += 1;
            }
            continue;
        }
        if dates::is_date(cluster, i) {
            // A date is nothing else, and only a date of birth is a finding.
            i += dates::birth(cluster, i, known, sink).unwrap_or(3);
            continue;
        }
        let taken = numbers::ip_address(cluster, i, known, sink)
            .or_else(|| numbers::card(cluster, i, known, sink))
            .or_else(|| numbers::identifiers(cluster, i, known, sink))
            .or_else(|| dates::written_birth(cluster, i, known, sink))
            .or_else(|| national::of_digits(cluster, i, known, sink))
            .or_else(|| phone::phone(cluster, i, known, sink));
        i += taken.unwrap_or(1);
    }
    read
}
