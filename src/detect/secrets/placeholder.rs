//! Values that documentation and templates use where a secret would stand.
#![expect(clippy::indexing_slicing, reason = "windows of a fixed size")]

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::detect::literals::automaton;

/// Lower-case parts that no random token contains by chance, or that only templates use.
const TELL_TALES: &[&str] = &[
    "example",
    "xxxx",
    "changeme",
    "change-me",
    "change_me",
    "your-",
    "your_",
    "yourkey",
    "yourtoken",
    "yourpass",
    "placeholder",
    "dummy",
    "redacted",
    "<",
    "${",
    "{{",
    "$(",
    "****",
    "....",
    "____",
    "-----",
    "insert",
    "todo",
    "fixme",
    "notreal",
    "not-real",
    "not_real",
    "my-secret",
    "my_secret",
    "mysecret",
    "123456789",
    "abcdefgh",
    "01234567",
    "deadbeef",
    "replace",
    "enc(",
    "abc123",
];

/// All of them at once; a test proves that it is there.
static ALL: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| automaton(TELL_TALES, false).ok());

/// Whether a value is a vendor's example, a template variable, a mask, or one character repeated.
pub(in crate::detect) fn is_placeholder(value: &[u8]) -> bool {
    let mut buffer = [0u8; 96];
    let n = value.len().min(buffer.len());
    buffer[..n].copy_from_slice(&value[..n]);
    buffer[..n].make_ascii_lowercase();
    let lower = &buffer[..n];
    if ALL.as_ref().is_some_and(|all| all.is_match(lower)) {
        // A PEM frame is made of dashes.
        return !value.starts_with(b"-----BEGIN");
    }
    // Zero bytes are a run of `A` in base64.
    let run = |window: &[u8]| window.iter().all(|b| *b == window[0]) && (window[0] != b'a' || value.len() < 40);
    lower.windows(6).any(run)
}

#[cfg(test)]
mod tests {
    use super::is_placeholder;

    #[test]
    fn vendors_examples_and_templates_are_placeholders_and_random_values_are_not() {
        for value in
            ["AKIAIOSFODNN7EXAMPLE", "${DB_PASSWORD}", "<your key>", "changeme", "sk-xxxxxxxxxxxx", "ghp_0000000000"]
        {
            assert!(is_placeholder(value.as_bytes()), "{value}");
        }
        for value in ["AKIA6HZJCIHOIJCDIO42", "9sK!dm2Lq0vB", "hf_wvSndsMFDSU1qdEijjwqj8n8qm74U6nuwf"] {
            assert!(!is_placeholder(value.as_bytes()), "{value}");
        }
    }
}
