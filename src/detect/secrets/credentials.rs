//! Private key blocks and passwords inside addresses.
#![expect(clippy::indexing_slicing, reason = "positions come from searches in the same text")]

use memchr::memmem;

use super::{Known, is_placeholder};
use crate::detect::Sink;
use crate::detect::bytes::is_word;

/// The longest line after `-----BEGIN `, in bytes.
const LABEL: usize = 48;
/// The longest user and password part of an address, in bytes.
const USER_INFO: usize = 200;

/// `-----BEGIN … PRIVATE KEY-----` around the word `BEGIN` at `word`, up to its end line, or to the end of the text; `read` is where
/// the last block ended. An end line is looked for only behind the last one, so the whole stays linear.
pub(super) fn private_key(text: &[u8], word: usize, read: &mut usize, known: &Known, sink: &mut Sink<'_>) {
    let Some(start) = word.checked_sub(5).filter(|start| *start >= *read && text[*start..].starts_with(b"-----BEGIN "))
    else {
        return;
    };
    let body = word + 6;
    let window = &text[body..(body + LABEL).min(text.len())];
    let Some(label) = memmem::find(window, b"-----") else { return };
    if memmem::find(&window[..label], b"PRIVATE KEY").is_none() {
        return;
    }
    let content = body + label + 5;
    let end = memmem::find(&text[content..], b"-----END ").map(|at| content + at);
    let close = end.map(|at| {
        let line = &text[at + 9..(at + 9 + LABEL).min(text.len())];
        at + memmem::find(line, b"-----").map_or(9, |n| n + 14)
    });
    let stop = close.unwrap_or(text.len());
    *read = stop;
    let inner = &text[content..end.unwrap_or(text.len())];
    let confidence = match inner.iter().filter(|b| b.is_ascii_alphanumeric()).take(24).count() {
        24 => Some(known.confidence),
        _ => known.weak,
    };
    if let Some(confidence) = confidence {
        sink.push(&known.rule, confidence, start..stop);
    }
}

/// `scheme://user:password@host` around the colon of `://`.
pub(super) fn in_url(text: &[u8], at: usize, known: &Known, sink: &mut Sink<'_>) {
    let start = at + 3;
    let window = &text[start..(start + USER_INFO).min(text.len())];
    let stop = window
        .iter()
        .position(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'/' | b'`' | b'@'))
        .unwrap_or(window.len());
    let Some(host) = window.get(stop..).filter(|rest| rest.first() == Some(&b'@')) else { return };
    let Some(colon) = memchr::memchr(b':', &window[..stop]) else { return };
    let password = &window[colon + 1..stop];
    let weak_word = [
        &b"password"[..],
        b"pass",
        b"pwd",
        b"passwd",
        b"secret",
        b"user",
        b"guest",
        b"postgres",
        b"root",
        b"admin",
        b"token",
        b"pw",
    ]
    .iter()
    .any(|word| password.eq_ignore_ascii_case(word));
    let template =
        matches!(password.first(), Some(b'$' | b'{' | b'<' | b'%')) && !password.iter().any(u8::is_ascii_digit);
    if password.len() < 4 || weak_word || template || is_placeholder(password) {
        return;
    }
    let mut from = at;
    while from > 0 && at - from < 24 && (is_word(text[from - 1]) || matches!(text[from - 1], b'+' | b'-' | b'.')) {
        from -= 1;
    }
    let host_len = host
        .iter()
        .take(USER_INFO)
        .position(|b| {
            b.is_ascii_whitespace() || !b.is_ascii() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b',' | b')')
        })
        .unwrap_or(host.len().min(USER_INFO));
    sink.push(&known.rule, known.confidence, from..start + stop + host_len);
}
