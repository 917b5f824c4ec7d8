//! Telephone numbers: international with `+`, North American, national with a leading zero, and anything that words call a number.
#![expect(
    clippy::indexing_slicing,
    reason = "group numbers are below the count of groups; positions come from the text"
)]

use super::KnownRules;
use super::dates::is_date;
use super::digits::Cluster;
use crate::detect::Sink;
use crate::detect::bytes::{at, is_word};
use crate::detect::pack::Recognizer;

/// Digits of a number, and groups that they are written in.
const FEWEST_DIGITS: usize = 7;
const MOST_GROUPS: usize = 6;

pub(super) fn phone(cluster: &mut Cluster<'_, '_>, i: usize, known: &KnownRules, sink: &mut Sink<'_>) -> Option<usize> {
    let rule = known.phone.as_ref()?;
    let text = cluster.text;
    let first = cluster.groups()[i];
    if cluster.groups()[i..].iter().take(MOST_GROUPS).map(|group| group.len()).sum::<usize>() < FEWEST_DIGITS {
        return None;
    }
    let before = if first.start > 0 { text[first.start - 1] } else { b' ' };
    let opened = before == b'(';
    let outer = if opened && first.start > 1 { text[first.start - 2] } else { before };
    let plus = before == b'+' || opened && outer == b'+';
    let sign = first.start - usize::from(plus && !opened);
    // A part of a longer token or of a formula.
    let far = if sign > 0 { text[sign - 1] } else { b' ' };
    let joined = matches!(far, b'-' | b'*' | b'/') && (far == b'*' || sign > 1 && is_word(text[sign - 2]));
    if joined || plus && !opened && (is_word(far) || far == b')') {
        return None;
    }
    if is_word(before)
        || opened && is_word(outer)
        || matches!(before, b'.' | b'#' | b'$' | b'=') && !(before == b'=' || plus)
    {
        return None;
    }
    let taken = extent(cluster, i);
    let last = cluster.groups()[i + taken - 1];
    if is_word(at(text, last.end)) && at(text, last.end) != b'x'
        || at(text, last.end) == b':' && at(text, last.end + 1).is_ascii_digit()
    {
        return None;
    }
    let digits: usize = cluster.groups()[i..i + taken].iter().map(|group| group.len()).sum();
    if digits < FEWEST_DIGITS || is_date(cluster, i) || is_number(cluster, i, taken, plus) {
        return None;
    }
    let strong = if plus {
        (8..=15).contains(&digits) && text[first.start] != b'0'
    } else {
        is_north_american(cluster, i, taken, opened)
    };
    // The rest of a longer chain of numbers is no number of its own, and three zeros begin none.
    let fresh = i == 0 || cluster.separator(i - 1).len() > 1;
    let zero = text[first.start] == b'0'
        && taken >= 2
        && (9..=12).contains(&digits)
        && first.len() >= 2
        && fresh
        && !text[first.start..].starts_with(b"000");
    let nearby = cluster.nearby();
    let near = nearby.is_nearest(Recognizer::Phone);
    let other = !near
        && taken == 1
        && [
            Recognizer::UsSsn,
            Recognizer::UsPassport,
            Recognizer::UkNhs,
            Recognizer::AbaRouting,
            Recognizer::CreditCard,
            Recognizer::Iban,
        ]
        .iter()
        .any(|other| nearby.has(*other));
    let confidence = match (strong, near) {
        (true, true) => rule.confidence,
        (true, false) if plus => rule.confidence * 0.9,
        (false, true) if (7..=15).contains(&digits) => rule.confidence * 0.85,
        (true, false) | (false, false) if (strong || zero) && !other => rule.weak?,
        _ => return None,
    };
    let mut start = first.start - usize::from(plus && !opened);
    // An opening bracket belongs to the number if its closing one does.
    if opened && memchr::memchr(b')', &text[first.start..last.end]).is_some() {
        start = first.start - 1 - usize::from(plus);
    }
    sink.push(&rule.rule, confidence, start..extension_end(text, last.end));
    Some(taken)
}

/// How many groups from `i` on can be one number: at most fifteen digits (E.164) and separators that people write.
fn extent(cluster: &Cluster<'_, '_>, i: usize) -> usize {
    let groups = cluster.groups();
    let mut digits = groups[i].len();
    let mut taken = 1;
    while i + taken < groups.len() && taken < MOST_GROUPS {
        let separator = cluster.separator(i + taken - 1);
        let written =
            matches!(separator, b" " | b"-" | b"." | b"/" | b"(" | b")" | b") " | b" (" | b")-" | b" - " | b"\xC2\xA0");
        if !written || digits + groups[i + taken].len() > 15 {
            break;
        }
        digits += groups[i + taken].len();
        taken += 1;
    }
    taken
}

/// A decimal fraction, two years, a negative number.
fn is_number(cluster: &Cluster<'_, '_>, i: usize, taken: usize, plus: bool) -> bool {
    let groups = cluster.groups();
    let first = groups[i];
    let negative = taken == 1 && first.start > 0 && cluster.text[first.start - 1] == b'-';
    let fraction = taken == 2 && cluster.separator(i) == b"." && groups[i + 1].len() > 4;
    let years = taken == 2 && cluster.separator(i) == b"/" && first.len() == 4 && groups[i + 1].len() == 4;
    // An exchange does not begin with 1.
    let local = taken == 2 && first.len() == 3 && groups[i + 1].len() == 4 && cluster.text[first.start] == b'1';
    !plus && (negative || fraction || years || local)
}

/// Three, three and four digits with separators, or a leading 1 before them; area and exchange start with 2 to 9 (NANP).
fn is_north_american(cluster: &Cluster<'_, '_>, i: usize, taken: usize, opened: bool) -> bool {
    let groups = cluster.groups();
    let area = match taken {
        3 => i,
        4 if groups[i].len() == 1 && cluster.number(i) == 1 => i + 1,
        _ => return false,
    };
    if groups[area..i + taken].iter().zip([3, 3, 4]).any(|(group, len)| group.len() != len) {
        return false;
    }
    let separated = (i..i + taken - 1).all(|k| !cluster.separator(k).is_empty());
    let code = |k: usize| matches!(cluster.text[groups[k].start], b'2'..=b'9');
    separated && (opened || code(area) && code(area + 1))
}

/// `x123`, `ext. 123` behind a number.
fn extension_end(text: &[u8], end: usize) -> usize {
    let rest = &text[end..(end + 12).min(text.len())];
    for mark in [&b" ext. "[..], b" ext ", b" x", b"x"] {
        if let Some(tail) = rest.strip_prefix(mark) {
            let digits = tail.iter().take_while(|b| b.is_ascii_digit()).count();
            if (1..=6).contains(&digits) {
                return end + mark.len() + digits;
            }
        }
    }
    end
}
