//! How a body is to be read, from its content type and its first byte.

use super::{Unreadable, unsupported};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentKind {
    /// Must be JSON.
    Json,
    JsonLines,
    /// Begins like a JSON array or string but is declared as text: `[1] see below` is text.
    MaybeJson,
    Text,
    Binary,
}

/// # Errors
/// Text or JSON in a charset that is not UTF-8: 415.
pub(super) fn kind(content_type: Option<&str>, body: &[u8]) -> Result<ContentKind, Unreadable> {
    let mut parts = content_type.unwrap_or_default().split(';');
    let essence = parts.next().unwrap_or_default().trim();
    let declared = declared(essence);
    if declared != Some(ContentKind::Binary) && !parts.all(is_utf8_if_charset) {
        return Err(unsupported("the content type names a charset other than utf-8"));
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let first = body.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    Ok(match (declared, first) {
        (Some(kind @ (ContentKind::Json | ContentKind::JsonLines)), _) => kind,
        (_, Some(b'{')) => ContentKind::Json,
        (None, Some(b'[' | b'"')) => ContentKind::Json,
        (Some(ContentKind::Text), Some(b'[' | b'"')) => ContentKind::MaybeJson,
        (Some(kind), _) => kind,
        (None, _) => ContentKind::Text,
    })
}

/// Whether a type alone says that there is no text in a body, whatever it begins with.
#[must_use]
pub fn is_binary(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    ["audio/", "video/", "image/", "font/"].iter().any(|start| starts_with(essence, start))
        || ["application/pdf", "application/zip", "application/gzip"]
            .iter()
            .any(|known| essence.eq_ignore_ascii_case(known))
}

/// None when the type is missing.
fn declared(essence: &str) -> Option<ContentKind> {
    let is = |known: &[&str]| known.iter().any(|known| essence.eq_ignore_ascii_case(known));
    if essence.is_empty() {
        None
    } else if is(&["application/json", "text/json"]) || ends_with(essence, "+json") {
        Some(ContentKind::Json)
    } else if is(&["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl"])
        || is(&["application/json-lines", "text/jsonl", "text/x-ndjson"])
    {
        Some(ContentKind::JsonLines)
    } else if starts_with(essence, "text/") || is(&["application/x-www-form-urlencoded", "application/xml"]) {
        Some(ContentKind::Text)
    } else {
        Some(ContentKind::Binary)
    }
}

fn is_utf8_if_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return true };
    let value = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset")
        || ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

fn ends_with(text: &str, end: &str) -> bool {
    text.len().checked_sub(end.len()).and_then(|at| text.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_and_the_first_byte_decide_together() {
        for (content_type, body, expected) in [
            (Some("application/json"), "", ContentKind::Json),
            (Some("Application/JSON; charset=UTF-8"), "{}", ContentKind::Json),
            (Some("application/vnd.api+json"), "nonsense", ContentKind::Json),
            (Some("application/x-ndjson"), "{}", ContentKind::JsonLines),
            (Some("text/plain"), "hello", ContentKind::Text),
            (Some("text/plain"), " {\"a\":1}", ContentKind::Json),
            (Some("text/plain"), "[1] hello", ContentKind::MaybeJson),
            // What curl -d sends without being told otherwise.
            (Some("application/x-www-form-urlencoded"), "{\"a\":1}", ContentKind::Json),
            (Some("application/x-www-form-urlencoded"), "a=1", ContentKind::Text),
            (Some("application/octet-stream"), "\u{feff}{", ContentKind::Json),
            (Some("application/octet-stream"), "hello", ContentKind::Binary),
            (Some("multipart/form-data; boundary=x; charset=latin1"), "--x", ContentKind::Binary),
            (None, " [1]", ContentKind::Json),
            (None, "hello", ContentKind::Text),
            (Some(""), "", ContentKind::Text),
        ] {
            assert_eq!(kind(content_type, body.as_bytes()), Ok(expected), "{content_type:?} {body:?}");
        }
    }

    #[test]
    fn another_charset_is_refused() {
        for content_type in ["application/json; charset=utf-16", "text/plain;charset=\"latin1\"", "; charset=utf-7"] {
            let error = kind(Some(content_type), b"{}").unwrap_err();
            assert_eq!((error.status, error.code), (415, "unsupported_content"), "{content_type}");
        }
    }
}
