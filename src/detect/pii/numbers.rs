//! Cards, government and bank identifiers, IPv4, and identifiers in which letters touch the digits.
#![expect(
    clippy::indexing_slicing,
    reason = "group numbers are below the count of groups; positions come from the text"
)]

use super::KnownRules;
use super::digits::Cluster;
use super::network::is_mac;
use crate::detect::bytes::{at, is_word};
use crate::detect::pack::Recognizer;
use crate::detect::{Sink, checks};

/// How cards are printed: four by four, American Express, Diners, and the rarer tails.
const CARD_SHAPES: &[&[usize]] =
    &[&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3], &[4, 4, 5], &[4, 4, 4, 3], &[4, 4, 4, 1], &[4, 3, 3, 3]];

/// Payment cards. With a valid check digit and a known network: full confidence. With card words near, and printed in groups or with
/// a valid check digit: weak.
pub(super) fn card(cluster: &mut Cluster<'_, '_>, i: usize, known: &KnownRules, sink: &mut Sink<'_>) -> Option<usize> {
    let rule = known.card.as_ref()?;
    let first = cluster.groups()[i].len();
    let (taken, grouped) = if (12..=19).contains(&first) {
        (1, false)
    } else if first == 4 && i + 3 <= cluster.groups().len() {
        let shape = CARD_SHAPES
            .iter()
            .filter(|shape| cluster.is_shape(i, shape, b" -."))
            .max_by_key(|shape| shape.iter().sum::<usize>())?;
        (shape.len(), true)
    } else {
        return None;
    };
    if !cluster.is_bounded(i, i + taken) {
        return None;
    }
    let (digits, n) = cluster.digits(i, i + taken);
    let digits = &digits[..n];
    let network = checks::card_network(digits);
    let confidence = if network && checks::luhn(digits) {
        rule.confidence
    } else if (grouped && network || checks::luhn(digits))
        && n >= 13
        && varied(digits)
        && !is_denied(cluster.text, cluster.groups()[i + taken - 1].end)
        && cluster.nearby().is_nearest(Recognizer::CreditCard)
    {
        rule.weak?
    } else {
        return None;
    };
    let groups = cluster.groups();
    sink.push(&rule.rule, confidence, groups[i].start..groups[i + taken - 1].end);
    Some(taken)
}

/// Whether the words behind say that a number is no valid one.
fn is_denied(text: &[u8], end: usize) -> bool {
    let behind = &text[end..(end + 40).min(text.len())];
    [&b"rejected"[..], b"invalid", b"not valid", b"not a valid", b"checksum", b"check digit"]
        .iter()
        .any(|word| memchr::memmem::find(behind, word).is_some())
}

fn varied(digits: &[u8]) -> bool {
    digits.iter().any(|d| *d != digits[0])
}

/// SSN, ITIN, NHS, ABA, passport, driver's licence.
pub(super) fn identifiers(
    cluster: &mut Cluster<'_, '_>,
    i: usize,
    known: &KnownRules,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let groups = cluster.groups();
    let (start, len) = (groups[i].start, groups[i].len());
    if cluster.is_shape(i, &[3, 2, 4], b"- .") && cluster.is_bounded(i, i + 3) {
        let (area, group, serial) = (cluster.number(i), cluster.number(i + 1), cluster.number(i + 2));
        let span = start..groups[i + 2].end;
        let dashed = cluster.separator(i) == b"-";
        if checks::ssn(area, group, serial) {
            let rule = known.ssn.as_ref()?;
            let near = cluster.nearby().has(Recognizer::UsSsn);
            let confidence = if near {
                rule.confidence
            } else if dashed {
                (rule.confidence * 0.8).max(rule.weak?)
            } else {
                return None;
            };
            sink.push(&rule.rule, confidence, span);
            return Some(3);
        }
        if checks::itin(area, group) {
            let rule = known.itin.as_ref()?;
            let near = cluster.nearby().has(Recognizer::UsItin);
            let confidence = if near {
                rule.confidence
            } else if dashed {
                rule.weak?
            } else {
                return None;
            };
            sink.push(&rule.rule, confidence, span);
            return Some(3);
        }
        return None;
    }
    if cluster.is_shape(i, &[3, 3, 4], b" -") && cluster.is_bounded(i, i + 3) {
        let (digits, _) = cluster.digits(i, i + 3);
        let span = start..groups[i + 2].end;
        if checks::nhs(&digits[..10]) && cluster.nearby().is_nearest(Recognizer::UkNhs) {
            let rule = known.nhs.as_ref()?;
            sink.push(&rule.rule, rule.confidence, span);
            return Some(3);
        }
        return None;
    }
    let dashed = (1..=3).take_while(|k| i + k < groups.len() && cluster.separator(i + k - 1) == b"-").count();
    if dashed > 0
        && let Some(rule) = &known.license
        && (7..=14).contains(&groups[i..=i + dashed].iter().map(|group| group.len()).sum::<usize>())
        && cluster.is_bounded(i, i + dashed + 1)
        && cluster.nearby().is_nearest(Recognizer::UsDriverLicense)
    {
        let groups = cluster.groups();
        sink.push(&rule.rule, rule.confidence, start..groups[i + dashed].end);
        return Some(dashed + 1);
    }
    if !(7..=14).contains(&len) || !cluster.is_bounded(i, i + 1) {
        return None;
    }
    let (digits, n) = cluster.digits(i, i + 1);
    let digits = &digits[..n];
    let nearby = cluster.nearby();
    let span = start..start + len;
    let found = if n == 10 && checks::nhs(digits) && nearby.is_nearest(Recognizer::UkNhs) {
        known.nhs.as_ref().map(|rule| (rule, rule.confidence))
    } else if n == 9 && checks::aba(digits) && nearby.is_nearest(Recognizer::AbaRouting) {
        known.aba.as_ref().map(|rule| (rule, rule.confidence))
    } else if n == 9 && nearby.is_nearest(Recognizer::UsPassport) {
        known.passport.as_ref().map(|rule| (rule, rule.confidence))
    } else if n == 9
        && nearby.is_nearest(Recognizer::UsSsn)
        && checks::ssn(cluster.number(i) / 1_000_000, cluster.number(i) / 10_000 % 100, cluster.number(i) % 10_000)
    {
        known.ssn.as_ref().and_then(|rule| Some((rule, rule.weak?)))
    } else if n == 9
        && nearby.is_nearest(Recognizer::UsItin)
        && checks::itin(cluster.number(i) / 1_000_000, cluster.number(i) / 10_000 % 100)
    {
        known.itin.as_ref().and_then(|rule| Some((rule, rule.weak?)))
    } else if nearby.is_nearest(Recognizer::UsDriverLicense) {
        known.license.as_ref().map(|rule| (rule, rule.confidence))
    } else {
        None
    };
    let (rule, confidence) = found?;
    sink.push(&rule.rule, confidence, span);
    Some(1)
}

/// Dotted quads that are no version numbers.
pub(super) fn ip_address(
    cluster: &mut Cluster<'_, '_>,
    i: usize,
    known: &KnownRules,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let rule = known.ip.as_ref()?;
    let groups = cluster.groups();
    if i + 4 > groups.len() || (i..i + 3).any(|k| cluster.separator(k) != b".") || cluster.separator(i + 3) == b"." {
        return None;
    }
    let valid = (i..i + 4).all(|k| {
        let group = groups[k];
        group.len() <= 3 && cluster.number(k) <= 255 && (group.len() == 1 || cluster.text[group.start] != b'0')
    });
    let (start, end) = (groups[i].start, groups[i + 3].end);
    let before = if start > 0 { cluster.text[start - 1] } else { b' ' };
    if !valid
        || is_word(before)
        || before == b'.'
        || is_word(at(cluster.text, end))
        || cluster.number(i) == 0 && cluster.number(i + 3) != 0
    {
        return None;
    }
    let window = &cluster.text[start.saturating_sub(12)..start];
    let version = [&b"ersion"[..], b"ERSION", b"release", b"build", b"Build", b" v", b"ver."]
        .iter()
        .any(|w| memchr::memmem::find(window, w).is_some());
    let confidence = if version { rule.weak? } else { rule.confidence };
    sink.push(&rule.rule, confidence, start..end);
    Some(4)
}

/// Identifiers whose letters touch the digits: IBAN, NINO, passport, addresses on a chain, MAC with dashes. Returns their end.
pub(super) fn attached(
    cluster: &mut Cluster<'_, '_>,
    i: usize,
    known: &KnownRules,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let group = cluster.groups()[i];
    let text = cluster.text;
    let before = if group.start > 0 { text[group.start - 1] } else { b' ' };
    let after = at(text, group.end);
    if !(before.is_ascii_alphabetic()
        || after.is_ascii_alphabetic()
        || before == b' ' && after == b' '
        || after == b'-')
    {
        return None;
    }
    let letters = letters_before(text, group.start);
    let token = group.start - letters;
    let opens = token == 0 || !is_word(text[token - 1]);
    if !opens {
        return None;
    }
    let before = &text[token..group.start];
    if letters == 0
        && group.len() == 2
        && token >= 3
        && text[token - 1] == b' '
        && (token == 3 || !is_word(text[token - 4]))
        && let Some(rule) = &known.nino
        && checks::nino_prefix(text[token - 3], text[token - 2])
        && let Some(end) = nino(text, group.start)
    {
        let confidence = if cluster.nearby().has(Recognizer::UkNino) { rule.confidence } else { rule.weak? };
        sink.push(&rule.rule, confidence, token - 3..end);
        return Some(end);
    }
    if letters == 2 {
        if group.len() >= 2
            && let Some(rule) = &known.iban
            && let Some(end) = iban(text, token)
        {
            sink.push(&rule.rule, rule.confidence, token..end);
            return Some(end);
        }
        if let Some(rule) = &known.nino
            && checks::nino_prefix(before[0], before[1])
            && let Some(end) = nino(text, group.start)
        {
            let confidence = if cluster.nearby().has(Recognizer::UkNino) { rule.confidence } else { rule.weak? };
            sink.push(&rule.rule, confidence, token..end);
            return Some(end);
        }
    }
    if letters == 0
        && group.len() == 1
        && let Some(rule) = &known.crypto
        && let Some(end) = chain_address(text, group.start)
    {
        sink.push(&rule.rule, rule.confidence, token..end);
        return Some(end);
    }
    if letters == 0
        && matches!(text[group.start], b'1' | b'3')
        && at(text, group.end).is_ascii_alphabetic()
        && let Some(rule) = &known.crypto
    {
        let end = alphanumeric_end(text, token, 40);
        if (26..=35).contains(&(end - token)) && checks::base58check(&text[token..end]) {
            sink.push(&rule.rule, rule.confidence, token..end);
            return Some(end);
        }
    }
    if letters == 0
        && group.len() <= 2
        && at(text, token + 2) == b'-'
        && at(text, token + 5) == b'-'
        && let Some(rule) = &known.mac
        && text.get(token..token + 17).is_some_and(|mac| is_mac(mac, b'-'))
        && !is_word(at(text, token + 17))
    {
        sink.push(&rule.rule, rule.confidence, token..token + 17);
        return Some(token + 17);
    }
    // a letter and eight digits (US), or up to two letters and six or seven digits; licences mix more freely
    let end = alphanumeric_end(text, token, 20);
    let (len, mixed) = (end - token, letters > 0 || at(text, group.end).is_ascii_alphabetic());
    if mixed && (6..=16).contains(&len) && group.len() >= 4 {
        let nearby = cluster.nearby();
        if len <= 9 && letters <= 2 && group.len() >= 6 && nearby.is_nearest(Recognizer::UsPassport) {
            let rule = known.passport.as_ref()?;
            sink.push(&rule.rule, rule.confidence, token..end);
            return Some(end);
        }
        if letters <= 3 && nearby.is_nearest(Recognizer::UsDriverLicense) {
            let rule = known.license.as_ref()?;
            sink.push(&rule.rule, rule.confidence, token..end);
            return Some(end);
        }
    }
    None
}

fn letters_before(text: &[u8], start: usize) -> usize {
    text[..start].iter().rev().take(4).take_while(|b| b.is_ascii_alphabetic()).count()
}

fn alphanumeric_end(text: &[u8], start: usize, most: usize) -> usize {
    let window = &text[start..(start + most).min(text.len())];
    start + window.iter().position(|b| !is_word(*b)).unwrap_or(window.len())
}

/// Country, length, MOD 97; single spaces between groups of four are allowed.
fn iban(text: &[u8], start: usize) -> Option<usize> {
    let len = checks::iban_len([text[start].to_ascii_uppercase(), text[start + 1].to_ascii_uppercase()])?;
    let mut compact = [0u8; 34];
    let (mut n, mut i) = (0usize, start);
    while n < len {
        let byte = at(text, i);
        if byte.is_ascii_alphanumeric() {
            compact[n] = byte.to_ascii_uppercase();
            n += 1;
        } else if !(matches!(byte, b' ' | b'-') && n > 0 && n.is_multiple_of(4)) {
            return None;
        }
        i += 1;
    }
    (!is_word(at(text, i)) && checks::iban_mod97(&compact[..len])).then_some(i)
}

/// Whether the text ends inside of what may be an IBAN that starts at `start`.
pub(in crate::detect) fn may_go_on_as_iban(text: &[u8], start: usize) -> bool {
    let head = &text[start..(start + 2).min(text.len())];
    let &[a, b] = head else { return false };
    let Some(len) = checks::iban_len([a, b]) else { return false };
    let mut n = 0usize;
    for (i, byte) in text[start..].iter().enumerate() {
        match byte {
            _ if n == len => return false,
            b'0'..=b'9' => n += 1,
            // Two letters, then two check digits.
            _ if (2..4).contains(&i) => return false,
            b'A'..=b'Z' | b'a'..=b'z' => n += 1,
            b' ' | b'-' if n > 0 && n.is_multiple_of(4) => {}
            _ => return false,
        }
    }
    true
}

/// Six digits, with spaces in pairs or not, and one of A to D.
fn nino(text: &[u8], digits: usize) -> Option<usize> {
    let mut i = digits;
    let mut n = 0usize;
    while n < 6 {
        let byte = at(text, i);
        if byte.is_ascii_digit() {
            n += 1;
        } else if !(byte == b' ' && n.is_multiple_of(2)) {
            return None;
        }
        i += 1;
    }
    if at(text, i) == b' ' {
        i += 1;
    }
    (matches!(at(text, i), b'A'..=b'D') && !is_word(at(text, i + 1))).then_some(i + 1)
}

/// `0x` and forty hexadecimal digits, their case as EIP-55 sets it if it is mixed.
fn chain_address(text: &[u8], zero: usize) -> Option<usize> {
    let hex = text.get(zero + 2..zero + 42)?;
    let found = text[zero] == b'0'
        && text[zero + 1] == b'x'
        && hex.iter().all(u8::is_ascii_hexdigit)
        && !is_word(at(text, zero + 42));
    (found && hex.iter().filter(|b| **b == b'0').count() < 12 && checks::eip55(hex)).then_some(zero + 42)
}
