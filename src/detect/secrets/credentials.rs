//! Private key blocks and passwords inside addresses.
#![expect(clippy::indexing_slicing, reason = "positions come from searches in the same text")]

use std::sync::LazyLock;

use memchr::memmem;

use super::{Known, is_placeholder};
use crate::detect::Sink;
use crate::detect::bytes::is_word;

/// The longest line after `-----BEGIN `, in bytes.
const LABEL: usize = 48;
/// The longest user and password part of an address, in bytes.
const USER_INFO: usize = 200;

static BEGIN: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("-----BEGIN "));
static SCHEME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("://"));

/// `-----BEGIN … PRIVATE KEY-----` up to its end line, or to the end of the text. Finds the end line once per text, so it stays linear.
pub(super) fn private_keys(text: &[u8], known: &Known, sink: &mut Sink<'_>) {
    let mut from = 0;
    while let Some(found) = BEGIN.find(&text[from..]) {
        let start = from + found;
        let body = start + 11;
        from = body;
        let window = &text[body..(body + LABEL).min(text.len())];
        let Some(label) = memmem::find(window, b"-----") else { continue };
        let kind = &window[..label];
        if memmem::find(kind, b"PRIVATE KEY").is_none() {
            continue;
        }
        let content = body + label + 5;
        let end = memmem::find(&text[content..], b"-----END ").map(|at| content + at);
        let close = end.map(|at| {
            (at + memmem::find(&text[at + 9..(at + 9 + LABEL).min(text.len())], b"-----").map_or(9, |n| n + 14))
                .min(text.len())
        });
        let stop = end.unwrap_or(text.len());
        let base64 = text[content..stop].iter().filter(|b| b.is_ascii_alphanumeric()).take(32).count();
        from = close.unwrap_or(text.len());
        if base64 >= 24 {
            sink.push(&known.rule, known.confidence, start..close.unwrap_or(stop));
        } else if let Some(weak) = known.weak {
            sink.push(&known.rule, weak, start..close.unwrap_or(stop));
        }
    }
}

/// `scheme://user:password@host`.
pub(super) fn in_urls(text: &[u8], known: &Known, sink: &mut Sink<'_>) {
    for at in SCHEME.find_iter(text) {
        let start = at + 3;
        let window = &text[start..(start + USER_INFO).min(text.len())];
        let stop = window
            .iter()
            .position(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'/' | b'`' | b'@'))
            .unwrap_or(window.len());
        let Some(host) = window.get(stop..).filter(|rest| rest.first() == Some(&b'@')) else { continue };
        let Some(colon) = memchr::memchr(b':', &window[..stop]) else { continue };
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
            continue;
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
}
