//! Dates of birth: a date with words of birth near.
#![expect(
    clippy::indexing_slicing,
    reason = "group numbers are below the count of groups; positions come from the text"
)]

use super::KnownRules;
use super::digits::Cluster;
use crate::detect::Sink;
use crate::detect::bytes::at;
use crate::detect::pack::Recognizer;

const MONTHS: &[&[u8]] =
    &[b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// Whether the three groups at `i` are a calendar date in any usual order.
pub(super) fn is_date(cluster: &Cluster<'_, '_>, i: usize) -> bool {
    let groups = cluster.groups();
    if i + 3 > groups.len()
        || !matches!(cluster.separator(i), b"/" | b"-" | b".")
        || cluster.separator(i) != cluster.separator(i + 1)
        || cluster.separator(i + 2) == cluster.separator(i)
    {
        return false;
    }
    let (a, b, c) = (cluster.number(i), cluster.number(i + 1), cluster.number(i + 2));
    let lens = [groups[i].len(), groups[i + 1].len(), groups[i + 2].len()];
    let day_month = |x: u32, y: u32| (1..=31).contains(&x) && (1..=12).contains(&y);
    let year = |y: u32| (1900..=2035).contains(&y);
    lens[0] == 4 && lens[1] <= 2 && lens[2] <= 2 && year(a) && day_month(c, b)
        || lens[2] == 4 && lens[0] <= 2 && lens[1] <= 2 && year(c) && (day_month(a, b) || day_month(b, a))
        || lens.iter().all(|len| *len <= 2) && lens[2] == 2 && (day_month(a, b) || day_month(b, a))
}

/// A date of birth that is the date at `i`.
pub(super) fn birth(cluster: &mut Cluster<'_, '_>, i: usize, known: &KnownRules, sink: &mut Sink<'_>) -> Option<usize> {
    let rule = known.birth.as_ref()?;
    let groups = cluster.groups();
    let span = groups[i].start..groups[i + 2].end;
    let (behind, next) = (at(cluster.text, span.end), at(cluster.text, span.end + 1));
    // A time of day follows: a time stamp.
    if behind == b'T' || behind == b' ' && next.is_ascii_digit() && at(cluster.text, span.end + 3) == b':' {
        return None;
    }
    if cluster.nearby().is_nearest(Recognizer::DateOfBirth) {
        sink.push(&rule.rule, rule.confidence, span);
        return Some(3);
    }
    None
}

/// One in words, of which only the day is a group.
pub(super) fn written_birth(
    cluster: &mut Cluster<'_, '_>,
    i: usize,
    known: &KnownRules,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let rule = known.birth.as_ref()?;
    let groups = cluster.groups();
    let first = groups[i];
    if first.len() > 2 || i + 1 != groups.len() || !(1..=31).contains(&cluster.number(i)) {
        return None;
    }
    let span = written_date(cluster.text, first.start, first.end)?;
    if cluster.nearby().is_nearest(Recognizer::DateOfBirth) {
        sink.push(&rule.rule, rule.confidence, span);
        return Some(1);
    }
    None
}

/// `3 March 1987`, `3rd of March, 1987`, `March 3, 1987` around the day's digits.
fn written_date(text: &[u8], start: usize, end: usize) -> Option<std::ops::Range<usize>> {
    let mut i = end;
    for suffix in [&b"st"[..], b"nd", b"rd", b"th"] {
        if text[i..].starts_with(suffix) {
            i += 2;
        }
    }
    let before = text[..start].strip_suffix(b" ")?;
    let word = before.iter().rposition(|b| !b.is_ascii_alphabetic()).map_or(0, |p| p + 1);
    if is_month(&before[word..]) {
        let year = year_after(text, i)?;
        return Some(word..year);
    }
    if text[i..].starts_with(b" of") {
        i += 3;
    }
    while matches!(at(text, i), b' ' | b'.') && i < end + 8 {
        i += 1;
    }
    let name = text[i..(i + 12).min(text.len())].iter().take_while(|b| b.is_ascii_alphabetic()).count();
    if !is_month(&text[i..i + name]) {
        return None;
    }
    Some(start..year_after(text, i + name)?)
}

fn is_month(word: &[u8]) -> bool {
    (3..=9).contains(&word.len()) && MONTHS.iter().any(|month| word[..3].eq_ignore_ascii_case(month))
}

fn year_after(text: &[u8], from: usize) -> Option<usize> {
    let mut i = from;
    while matches!(at(text, i), b' ' | b',' | b'.') && i < from + 3 {
        i += 1;
    }
    let year = text.get(i..i + 4)?;
    (year.iter().all(u8::is_ascii_digit)
        && matches!(&year[..2], b"19" | b"20")
        && !at(text, i + 4).is_ascii_alphanumeric())
    .then_some(i + 4)
}
