//! IPv6 and MAC addresses around a `:`.
#![expect(clippy::indexing_slicing, reason = "positions are compared with the ends of the text")]

use std::net::Ipv6Addr;

use super::KnownRules;
use crate::detect::Sink;
use crate::detect::bytes::{at, is_word};

/// The longest textual IPv6 address, with an embedded IPv4 one.
const LONGEST: usize = 45;

/// Reads the address around the `:` at `colon`; `done` is where the last one ended.
pub(super) fn colon_address(text: &[u8], colon: usize, done: &mut usize, known: &KnownRules, sink: &mut Sink<'_>) {
    let (before, after) = (if colon > 0 { text[colon - 1] } else { 0 }, at(text, colon + 1));
    let inside = before.is_ascii_hexdigit() && after.is_ascii_hexdigit();
    let compressed = after == b':' && (before.is_ascii_hexdigit() || at(text, colon + 2).is_ascii_hexdigit());
    if colon < *done || !(inside || compressed || before == b':' && after.is_ascii_hexdigit()) {
        return;
    }
    let mut start = colon;
    while start > *done && colon - start < 6 && text[start - 1].is_ascii_hexdigit() {
        start -= 1;
    }
    let mut end = colon;
    while end < text.len()
        && end - start <= LONGEST
        && (text[end].is_ascii_hexdigit() || matches!(text[end], b':' | b'.'))
    {
        end += 1;
    }
    *done = end;
    while end > start && matches!(text[end - 1], b'.')
        || end > start + 1 && text[end - 1] == b':' && text[end - 2] != b':'
    {
        end -= 1;
    }
    let bounded =
        (start == 0 || !is_word(text[start - 1]) && !matches!(text[start - 1], b':' | b'.')) && !is_word(at(text, end));
    if !bounded || end - start > LONGEST {
        return;
    }
    let candidate = &text[start..end];
    if is_mac(candidate, b':') {
        if let Some(mac) = &known.mac {
            sink.push(&mac.rule, mac.confidence, start..end);
        }
    } else if let Some(ip) = &known.ip
        && (is_ipv6(candidate) || is_short(candidate) && is_named(&text[start.saturating_sub(32)..start]))
    {
        sink.push(&ip.rule, ip.confidence, start..end);
    }
}

/// Six pairs of hexadecimal digits, the separator the same throughout, not all zero or all ones.
pub(super) fn is_mac(text: &[u8], separator: u8) -> bool {
    text.len() == 17
        && text.iter().enumerate().all(|(i, b)| if i % 3 == 2 { *b == separator } else { b.is_ascii_hexdigit() })
        && text.iter().any(|b| *b != separator && *b != b'0')
}

/// `::` and `1::` are addresses only where words say so.
fn is_short(text: &[u8]) -> bool {
    text.ends_with(b"::") && text.len() <= 6 && text[..text.len() - 2].iter().all(u8::is_ascii_hexdigit)
}

fn is_named(before: &[u8]) -> bool {
    memchr::memmem::find(before, b"IPv6").is_some() || memchr::memmem::find(before, b"ipv6").is_some()
}

fn is_ipv6(text: &[u8]) -> bool {
    let groups = text.split(|b| *b == b':').filter(|group| !group.is_empty()).count();
    text.iter().filter(|b| **b == b':').count() >= 2
        && text.iter().any(u8::is_ascii_digit)
        && (groups >= 3
            || text.ends_with(b"::1")
            || text.ends_with(b"::") && groups >= 1 && text.len() >= 5
            || groups == 2 && text.len() >= 7)
        && std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}
