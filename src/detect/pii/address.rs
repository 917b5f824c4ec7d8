//! E-mail addresses around an `@`.
#![expect(clippy::indexing_slicing, reason = "positions are compared with the ends of the text")]

use super::Known;
use crate::detect::Sink;
use crate::detect::bytes::at;

/// RFC 5321: 64 bytes before the sign, 255 behind it.
const LOCAL: usize = 64;
const DOMAIN: usize = 255;

/// Endings of file names that follow an `@` (`icon@2x.png`), not top-level domains in mail.
const FILES: &[&[u8]] = &[
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"css", b"js", b"ts", b"json", b"html", b"py", b"tgz", b"zip",
    b"yaml", b"yml", b"git", b"service", b"local",
];

pub(super) fn emails(text: &[u8], known: &Known, sink: &mut Sink<'_>) {
    for sign in memchr::memchr_iter(b'@', text) {
        if let Some((start, end)) = around(text, sign) {
            sink.push(&known.rule, known.confidence, start..end);
        }
    }
}

fn around(text: &[u8], sign: usize) -> Option<(usize, usize)> {
    let mut start = sign;
    while start > 0 && sign - start <= LOCAL && is_local(text[start - 1]) {
        start -= 1;
    }
    while start < sign && matches!(text[start], b'.' | b'-' | b'\'' | b'+' | b'/') {
        start += 1;
    }
    // One full stop before the first letter or two within make it none; an ellipsis before it is prose.
    let stop = start > 0 && text[start - 1] == b'.' && (start == 1 || text[start - 2] == b' ');
    if start == sign
        || sign - start > LOCAL
        || text[sign - 1] == b'.'
        || stop
        || memchr::memmem::find(&text[start..sign], b"..").is_some()
    {
        return None;
    }
    if at(text, sign + 1) == b'[' {
        return literal(text, sign + 2).map(|end| (start, end));
    }
    let mut end = sign + 1;
    let limit = (sign + 1 + DOMAIN).min(text.len());
    while end < limit && (text[end].is_ascii_alphanumeric() || matches!(text[end], b'-' | b'.')) {
        end += 1;
    }
    while end > sign && matches!(text[end - 1], b'.' | b'-') {
        end -= 1;
    }
    let domain = &text[sign + 1..end];
    let dot = memchr::memrchr(b'.', domain)?;
    let top = &domain[dot + 1..];
    let plausible = dot > 0
        && domain[0].is_ascii_alphanumeric()
        && (2..=18).contains(&top.len())
        && (top.iter().all(u8::is_ascii_alphabetic) || top.starts_with(b"xn--"))
        && memchr::memmem::find(domain, b"..").is_none()
        && !FILES.iter().any(|file| top.eq_ignore_ascii_case(file));
    // `https://user:password@host` and `git@host:path` are not mail.
    let in_url = start > 0 && matches!(text[start - 1], b':' | b'/') && {
        let from = start.saturating_sub(80);
        memchr::memmem::rfind(&text[from..start], b"://")
            .is_some_and(|found| !text[from + found..start].contains(&b' '))
    };
    let remote = &text[start..sign] == b"git" && matches!(at(text, end), b':' | b'/');
    (plausible && !in_url && !remote).then_some((start, end))
}

/// The end of `[192.0.2.1]`, an address of a host in the place of its name.
fn literal(text: &[u8], start: usize) -> Option<usize> {
    let window = &text[start..(start + 46).min(text.len())];
    let close = memchr::memchr(b']', window)?;
    let host = std::str::from_utf8(&window[..close]).ok()?;
    host.trim_start_matches("IPv6:").parse::<std::net::IpAddr>().ok().map(|_| start + close + 1)
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
}
