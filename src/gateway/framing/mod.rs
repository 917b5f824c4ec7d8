//! What pingora lets through and Sentinel does not: heads that two parsers could read in two ways. Pure functions over
//! the parsed head and, for HTTP/1, over the bytes as they came.

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Method, Version};

use crate::upstream::is_strict;

/// A request's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub version: Version,
    pub method: &'a Method,
    /// Path and query as they came.
    pub target: &'a [u8],
    /// The authority of the target: `:authority` in HTTP/2.
    pub authority: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// The bytes of an HTTP/1 head.
    pub raw: Option<&'a [u8]>,
}

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub headers: usize,
    pub bytes: usize,
    pub target: usize,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub status: u16,
    pub code: &'static str,
    pub message: &'static str,
}

const fn malformed(message: &'static str) -> Fault {
    Fault { status: 400, code: "malformed_request", message }
}

/// Fields that decide how a message is read, and that must therefore not be there twice.
const SINGLE: [HeaderName; 5] = [CONTENT_LENGTH, TRANSFER_ENCODING, HOST, CONTENT_TYPE, EXPECT];

/// # Errors
/// The first fault found; the connection must not be used again.
pub(super) fn check(head: &Head<'_>, limits: &HeadLimits) -> Result<(), Fault> {
    if head.target.len() > limits.target {
        return Err(Fault { status: 414, code: "target_too_long", message: "the request target is too long" });
    }
    // HTTP/2 has no bytes to count; each field counts as a line of HTTP/1 would.
    let bytes = match head.raw {
        Some(raw) => raw.len(),
        None => head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum(),
    };
    if bytes > limits.bytes || head.headers.len() > limits.headers {
        return Err(Fault { status: 431, code: "head_too_large", message: "the request has too many header fields" });
    }
    if let Some(raw) = head.raw {
        lines(raw)?;
    }
    version(head)?;
    target(head)?;
    for name in &SINGLE {
        if head.headers.get_all(name).iter().nth(1).is_some() {
            return Err(malformed("a header field that frames the message is repeated"));
        }
    }
    body_framing(head)?;
    host(head)?;
    connection(head)?;
    match head.headers.get(EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Fault {
            status: 417,
            code: "expectation_failed",
            message: "the only expectation that can be met is `100-continue`",
        }),
        _ => Ok(()),
    }
}

/// Line ends, blank first lines and the pair of content-length and transfer-encoding, which pingora resolves before a
/// hook can see it.
fn lines(raw: &[u8]) -> Result<(), Fault> {
    if matches!(raw.first(), None | Some(b'\r' | b'\n')) {
        return Err(malformed("a blank line precedes the request line"));
    }
    let (mut length, mut coding) = (false, false);
    let mut rest = raw;
    let mut first = true;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end);
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err(malformed("a line ends without a carriage return"));
        };
        if memchr::memchr(b'\r', line).is_some() {
            return Err(malformed("a carriage return stands inside a line"));
        }
        if std::mem::take(&mut first) {
            // Pingora cuts a fragment off; the line that came still has it.
            if memchr::memchr(b'#', line).is_some() {
                return Err(malformed("the request target has a fragment"));
            }
        } else if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(malformed("a header field is folded"));
        }
        length |= is_field(line, b"content-length");
        coding |= is_field(line, b"transfer-encoding");
        rest = after.strip_prefix(b"\n").unwrap_or_default();
    }
    if length && coding { Err(malformed("content-length and transfer-encoding exclude each other")) } else { Ok(()) }
}

fn is_field(line: &[u8], name: &[u8]) -> bool {
    line.split_at_checked(name.len())
        .is_some_and(|(start, rest)| rest.first() == Some(&b':') && start.eq_ignore_ascii_case(name))
}

fn version(head: &Head<'_>) -> Result<(), Fault> {
    match (head.version, head.raw) {
        (Version::HTTP_10 | Version::HTTP_11, Some(_)) | (Version::HTTP_2, None) => Ok(()),
        _ => Err(Fault { status: 505, code: "http_version", message: "the HTTP version is not supported" }),
    }
}

fn target(head: &Head<'_>) -> Result<(), Fault> {
    let (path, query) = split_target(head.target);
    if !path.starts_with(b"/") {
        return Err(malformed("the request target does not start with a slash"));
    }
    // A single slash is unknown rather than malformed.
    if path != b"/" && !is_strict(path) {
        return Err(malformed("the request target can be read in more than one way"));
    }
    if !query.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(malformed("the query has characters that must be encoded"));
    }
    if head.method == Method::CONNECT {
        return Err(malformed("tunnels are not supported"));
    }
    Ok(())
}

/// Path and query without the question mark between.
pub(super) fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'?', target).and_then(|at| target.split_at_checked(at)) {
        Some((path, query)) => (path, query.strip_prefix(b"?").unwrap_or_default()),
        None => (target, b""),
    }
}

fn body_framing(head: &Head<'_>) -> Result<(), Fault> {
    let coding = head.headers.get(TRANSFER_ENCODING);
    if let Some(coding) = coding {
        if head.version != Version::HTTP_11 {
            return Err(malformed("transfer-encoding belongs to HTTP/1.1 alone"));
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(malformed("the only transfer coding is `chunked`, once"));
        }
    }
    if let Some(length) = head.headers.get(CONTENT_LENGTH) {
        let digits = length.as_bytes();
        // Nineteen digits and more do not fit every parser's integer.
        if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(malformed("content-length is not one plain number"));
        }
        if coding.is_some() {
            return Err(malformed("content-length and transfer-encoding exclude each other"));
        }
    }
    Ok(())
}

fn host(head: &Head<'_>) -> Result<(), Fault> {
    let host = head.headers.get(HOST).map(http::HeaderValue::as_bytes);
    match (host, head.authority) {
        (None, None) => Err(malformed("the request names no host")),
        (Some(b""), _) | (_, Some("")) => Err(malformed("the request's host is empty")),
        _ => Ok(()),
    }
}

/// A `connection` field names header fields that a proxy removes: a client could have the fields removed that say how its
/// body is to be read.
fn connection(head: &Head<'_>) -> Result<(), Fault> {
    for value in head.headers.get_all(CONNECTION) {
        if head.version == Version::HTTP_2 {
            return Err(malformed("HTTP/2 has no connection field"));
        }
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            let known: [&[u8]; 4] = [b"close", b"keep-alive", b"upgrade", b"te"];
            if !token.is_empty() && !known.iter().any(|known| token.eq_ignore_ascii_case(known)) {
                return Err(malformed("the connection field names other fields"));
            }
        }
    }
    if head.headers.contains_key(UPGRADE) {
        return Err(Fault {
            status: 400,
            code: "upgrade_not_supported",
            message: "the connection cannot be upgraded: what is said over it could not be inspected",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
