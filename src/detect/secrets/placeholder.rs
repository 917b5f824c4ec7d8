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
    "987654321",
    "exampl3",
    // Flask's documentation, and what models like to invent.
    "_5#y2l\"f4q8z",
    "#mp9$vl2",
    "#mp2$vl5",
];

/// Counted up or down: no random token holds them by chance, people's passwords do.
const SEQUENCES: &[&[u8]] =
    &[b"1234567", b"123456", b"12345567", b"76543210", b"7654321", b"654321", b"0123456", b"012345", b"abcdef"];

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
    let tail = value.len().saturating_sub(24);
    if value[tail..].windows(7).any(|window| window.eq_ignore_ascii_case(b"example")) {
        return true;
    }
    // Zero bytes are a run of `A` in base64.
    let run = |window: &[u8]| window.iter().all(|b| *b == window[0]) && (window[0] != b'a' || value.len() < 40);
    lower.windows(6).any(run)
}

/// Whether a token was counted or typed, not drawn.
pub(in crate::detect) fn is_counted(token: &[u8]) -> bool {
    SEQUENCES.iter().any(|run| token.windows(run.len()).any(|window| window.eq_ignore_ascii_case(run)))
}

/// Whether a value reads as words once digits and marks are taken for the letters they resemble; years and `123` are left out.
/// What people think up for an example mostly does.
pub(super) fn reads_as_words(value: &[u8]) -> bool {
    let (mut letters, mut vowels, mut run, mut longest) = (0usize, 0usize, 0usize, 0usize);
    let mut cases = value.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::is_ascii_uppercase);
    let mut before = cases.next().unwrap_or(false);
    let flips = cases.filter(|upper| std::mem::replace(&mut before, *upper) != *upper).count();
    let mut i = 0;
    while i < value.len() {
        let rest = &value[i..];
        if let Some(len) = counted(rest) {
            (i, run) = (i + len, 0);
            continue;
        }
        i += 1;
        let letter = match rest[0].to_ascii_lowercase() {
            b'0' => b'o',
            b'1' | b'!' => b'i',
            b'3' => b'e',
            b'4' | b'@' => b'a',
            b'5' | b'$' => b's',
            b'7' => b't',
            other => other,
        };
        if letter.is_ascii_digit() {
            return false;
        }
        if !letter.is_ascii_alphabetic() {
            run = 0;
            continue;
        }
        letters += 1;
        if matches!(letter, b'a' | b'e' | b'i' | b'o' | b'u' | b'y') {
            (vowels, run) = (vowels + 1, 0);
        } else {
            run += 1;
            longest = longest.max(run);
        }
    }
    letters >= 4 && longest <= 4 && vowels * 4 >= letters && flips * 3 <= letters
}

/// Whether a year or `123` stands somewhere in a value.
pub(super) fn holds_count(value: &[u8]) -> bool {
    let starts = |i: &usize| *i == 0 || !value[*i - 1].is_ascii_digit();
    (0..value.len()).filter(starts).any(|i| counted(&value[i..]).is_some())
}

/// The length of a year, or of `123` and what goes on from there.
fn counted(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let run = (1..digits).take_while(|i| text[*i] == text[*i - 1] + 1).count() + 1;
    let year = digits == 4 && (text.starts_with(b"19") || text.starts_with(b"20"));
    match () {
        () if year => Some(4),
        () if run >= 3 && text[0] == b'1' && run == digits => Some(run),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{holds_count, is_counted, is_placeholder, reads_as_words};

    #[test]
    fn invented_passwords_read_as_words_and_random_ones_do_not() {
        for value in ["michael1234", "Tr@v3l2023Secure", "securePass123", "Ap0ll0T3st2023!", "r3freshM3n0w"] {
            assert!(reads_as_words(value.as_bytes()), "{value}");
        }
        for value in ["xK9#mP2$vL5", "aGJQgSMdyxta", "jc2F39mTUy%V1F5I7", "AIhq5Xyb1Gga9Q27"] {
            assert!(!reads_as_words(value.as_bytes()), "{value}");
        }
        assert!(holds_count(b"Secure123!") && holds_count(b"May2023") && !holds_count(b"a8412345x9"));
        assert!(is_counted(b"gsk_Hg76543210") && !is_counted(b"gsk_Hid69Ui8HGkFiJlVZxv1KKvgS4"));
    }

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
