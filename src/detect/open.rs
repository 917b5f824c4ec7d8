//! What the end of an unfinished text may still become. Of a text that arrives piece by piece, only so much can go on as no
//! later byte can turn into a finding, or out of one.
#![expect(clippy::indexing_slicing, reason = "every position is compared with the length of the text first")]

use memchr::memmem;

use super::Engine;
use super::bytes::is_word;
use super::pii::may_go_on_as_iban;
use super::views;

/// Words behind a number say what it is, up to so many bytes behind it (`pii/context.rs`).
const BEHIND: usize = 34;
/// The longest credential that is looked for, in bytes (`anchored.rs`).
const TOKEN: usize = 4096;
/// A secret follows the name of a secret within so many bytes.
const NAME: usize = 80;
/// The longest chain of numbers that is looked at.
const CHAIN: usize = 400;
/// Bytes of `-----BEGIN … PRIVATE KEY-----` and of its end line.
const LABEL: usize = 64;
/// So much of an encoding with blanks in it is waited for, and lines of one are so long.
const ENCODING: usize = 1024;
const LINE: usize = 16;
/// Capitals that an identifier may begin with.
const CAPITALS: usize = 9;
/// A month and the day before it.
const DATE: usize = 40;

/// What a policy acts on beside what is always waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Things that begin like an ordinary word (an address, a date): every last word is waited for.
    pub words: bool,
}

impl Engine {
    /// How many bytes of `text` are settled, at least `from` of them: whatever is appended, what is found in them stays as it
    /// is found now. A finding that reaches across the end of them is not settled. Bytes before `from` are only looked at for what they say about those behind.
    #[must_use]
    pub fn settled(&self, text: &str, from: usize, waiting: Waiting) -> usize {
        let open = if text.get(from..).unwrap_or_default().is_ascii() {
            self.open_at(text.as_bytes(), waiting)
        } else {
            self.open_in_view(text, waiting)
        };
        text.floor_char_boundary(open).max(from)
    }

    /// Look-alike and invisible characters are read as what they stand for.
    fn open_in_view(&self, text: &str, waiting: Waiting) -> usize {
        // Enough for everything that is waited for, and short for texts without a blank.
        let start = text.floor_char_boundary(text.len().saturating_sub(TOKEN + NAME));
        let tail = text.get(start..).unwrap_or_default();
        let mut folded = Vec::new();
        let plain = start + self.open_at(tail.as_bytes(), waiting);
        if !views::fold(tail, &mut folded) {
            return plain;
        }
        let mut view = views::View::default();
        views::normalise(tail, &mut view);
        let open = self.open_at(view.text.as_bytes(), waiting);
        plain.min(start + view.original(open..open).start)
    }

    fn open_at(&self, text: &[u8], waiting: Waiting) -> usize {
        let mut open = text.len();
        if let Some(start) = self.open_run(text, waiting) {
            open = open.min(start);
        }
        if let Some(start) = open_chain(text) {
            open = open.min(start);
        }
        if let Some(start) = open_iban(text) {
            open = open.min(start);
        }
        if let Some(start) = open_encoding(text) {
            open = open.min(start);
        }
        if let Some(start) = open_key(text) {
            open = open.min(start);
        }
        if let Some(rest @ [a, b, b' ']) = text.len().checked_sub(3).map(|start| &text[start..])
            && super::pii::is_nino_prefix(*a, *b)
        {
            open = open.min(text.len() - rest.len());
        }
        if let Some(start) = open_scheme(text) {
            open = open.min(start);
        }
        if waiting.words
            && let Some(start) = open_date(text)
        {
            open = open.min(start);
        }
        open
    }

    /// The last run of bytes without a blank, if a token, an address or a value may end behind it.
    fn open_run(&self, text: &[u8], waiting: Waiting) -> Option<usize> {
        let run = last_run(text, |byte| byte.is_ascii_whitespace() || !byte.is_ascii());
        let value = run < text.len() && self.secrets.names_one(&text[run.saturating_sub(NAME)..]);
        if value {
            return Some(run.max(text.len().saturating_sub(TOKEN)));
        }
        let run = last_run(text, |byte| {
            byte.is_ascii_whitespace()
                // Greek and Cyrillic letters may stand for Latin ones.
                || byte >= if waiting.words { 0xE0 } else { 0x80 }
                || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b',' | b'|')
        });
        let token = &text[run..];
        if token.is_empty() {
            return None;
        }
        let capitals = token.len() <= CAPITALS && token.iter().all(u8::is_ascii_uppercase);
        let plain = token.iter().all(u8::is_ascii_alphabetic);
        let live = waiting.words || !plain || capitals || self.tokens.may_begin(token);
        live.then(|| run.max(text.len().saturating_sub(TOKEN)))
    }
}

fn last_run(text: &[u8], ends: impl Fn(u8) -> bool) -> usize {
    text.iter().rposition(|byte| ends(*byte)).map_or(0, |last| last + 1)
}

fn is_between(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')' | b'+' | 0xC2 | 0xA0)
}

/// The last numbers, with what may stand between and before them, if more digits, or words behind them, can still make
/// something of them.
fn open_chain(text: &[u8]) -> Option<usize> {
    let lowest = text.len().saturating_sub(BEHIND);
    let mut open = None;
    let mut end = text.len();
    while end > lowest {
        let Some(last) = text[lowest..end].iter().rposition(u8::is_ascii_digit).map(|at| lowest + at) else { break };
        let (mut start, mut digits, mut groups, mut gap) = (last, 0, 1, 0);
        let bound = last.saturating_sub(CHAIN);
        let mut i = last + 1;
        while i > bound {
            let byte = text[i - 1];
            if byte.is_ascii_digit() {
                groups += usize::from(gap > 0);
                (start, gap) = (i - 1, 0);
                digits += 1;
            } else if is_between(byte) && gap < 3 {
                gap += 1;
            } else {
                break;
            }
            i -= 1;
        }
        let first = with_letters(text, start);
        let behind = &text[last + 1..];
        let grows = behind.len() <= 3 && behind.iter().all(|byte| is_between(*byte));
        let attached = first < start || behind.first().is_some_and(u8::is_ascii_alphabetic);
        let counts = digits >= 6 || groups >= 3 && digits >= 3 || attached && digits >= 4;
        if grows || counts {
            open = Some(first);
        }
        end = start;
    }
    open
}

/// The last groups of an encoding with blanks in it: pairs of hexadecimal digits, eights of binary ones, letters that stand
/// apart, Morse, long lines of base64.
fn open_encoding(text: &[u8]) -> Option<usize> {
    let lowest = text.len().saturating_sub(ENCODING);
    let (mut start, mut groups, mut end) = (text.len(), 0, text.len());
    // The last line may have only begun, if there is one before it.
    let (mut begun, mut lines) = (false, 0);
    while end > lowest {
        let len = text[lowest..end].iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
        let last = end - len;
        let first = last_run(&text[lowest..last], |byte| byte.is_ascii_whitespace()) + lowest;
        let group = &text[first..last];
        let is = match group {
            [] => false,
            [_] => true,
            [b'0', b'x', a, b] | [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => true,
            group if group.iter().all(|byte| matches!(byte, b'.' | b'-' | b'/')) => group.len() <= 7,
            group if group.iter().all(|byte| matches!(byte, b'0' | b'1')) => group.len() <= 8,
            group if group.iter().all(|b| b.is_ascii_alphanumeric() || b"+/=-_".contains(b)) => {
                let line = group.len() >= LINE;
                begun |= !line;
                lines += usize::from(line);
                line || groups == 0
            }
            _ => false,
        };
        if !is {
            break;
        }
        (start, end, groups) = (first, first, groups + 1);
    }
    (groups >= 2 && (!begun || lines > 0)).then_some(start)
}

/// Letters that touch a number, two capitals and a blank before it, and signs.
fn with_letters(text: &[u8], digits: usize) -> usize {
    let mut start = digits;
    while start > 0 && digits - start < 4 && text[start - 1].is_ascii_alphabetic() {
        start -= 1;
    }
    if start == digits
        && let Some([a, b, b' ']) = start.checked_sub(3).and_then(|from| text.get(from..start))
        && a.is_ascii_uppercase()
        && b.is_ascii_uppercase()
    {
        start -= 3;
    }
    while start > 0 && digits - start < 8 && matches!(text[start - 1], b'+' | b'(') {
        start -= 1;
    }
    start
}

/// An account number of which only a part is there.
fn open_iban(text: &[u8]) -> Option<usize> {
    let lowest = text.len().saturating_sub(44);
    (lowest..text.len())
        .find(|&i| text[i].is_ascii_uppercase() && (i == 0 || !is_word(text[i - 1])) && may_go_on_as_iban(text, i))
}

/// A private key whose end line is not there.
fn open_key(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(start) = memmem::find(text.get(at..)?, b"-----BEGIN ").map(|found| at + found) {
        let body = start + 11;
        let label = &text[body..(body + LABEL).min(text.len())];
        let Some(close) = memmem::find(label, b"-----") else {
            if body + LABEL > text.len() {
                return Some(start);
            }
            at = body;
            continue;
        };
        at = body + close + 5;
        if memmem::find(&label[..close], b"PRIVATE KEY").is_none() {
            continue;
        }
        let Some(end) = memmem::find(&text[at..], b"-----END ").map(|found| at + found + 9) else { return Some(start) };
        if memmem::find(&text[end..(end + LABEL).min(text.len())], b"-----").is_none() && end + LABEL > text.len() {
            return Some(start);
        }
        at = end;
    }
    None
}

/// `Bearer `, `Basic ` and `FlyV1 `: the credential is the next word.
fn open_scheme(text: &[u8]) -> Option<usize> {
    let run = last_run(text, |byte| byte.is_ascii_whitespace());
    let before = text[..run].strip_suffix(b" ")?;
    [&b"Bearer"[..], b"Basic", b"FlyV1"]
        .iter()
        .find(|scheme| before.ends_with(scheme))
        .map(|scheme| before.len() - scheme.len())
        .map(|start| start.max(text.len().saturating_sub(TOKEN)))
}

/// `3 March 19`, `March 3, 19`: a month or a day, and what may still come.
fn open_date(text: &[u8]) -> Option<usize> {
    const MONTHS: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let lowest = text.len().saturating_sub(DATE + BEHIND);
    (lowest..text.len()).find(|&i| {
        let day = || {
            let digits = text[i..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=2).contains(&digits)
        };
        let month =
            || text.get(i..i + 3).is_some_and(|word| MONTHS.iter().any(|month| word.eq_ignore_ascii_case(month)));
        (i == 0 || !is_word(text[i - 1])) && (day() || month())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::domain::{Finding, Role};

    static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::builtin().unwrap());

    fn held(text: &str) -> &str {
        &text[ENGINE.settled(text, 0, Waiting::default())..]
    }

    #[test]
    fn ordinary_text_is_never_waited_for() {
        for text in
            ["Paris", "The capital of France is Paris", "In 2024, we", "step 3 of", "Привет, мир", "東京は", "a.", ""]
        {
            let open = held(text);
            assert!(open.is_empty() || open == "a.", "{text:?} waits for {open:?}");
        }
    }

    #[test]
    fn what_may_become_a_finding_is_waited_for() {
        for (text, open) in [
            ("your key is AKIA6HZJ", "AKIA6HZJ"),
            ("your key is AK", "AK"),
            ("your key is ghp", "ghp"),
            ("card 4111 1111 ", "4111 1111 "),
            ("card 4111", "4111"),
            ("number 415555123 and then it", "415555123 and then it"),
            ("account GB82 WEST 12", "GB82 WEST 12"),
            ("call +1 (415) 55", "+1 (415) 55"),
            ("password: hunter", "hunter"),
            ("-----BEGIN RSA PRIVATE KEY-----\nabc def\n", "-----BEGIN RSA PRIVATE KEY-----\nabc def\n"),
            ("Authorization: Bearer ", "Bearer "),
            ("write to a@b.c", "a@b.c"),
            ("it is 34 31 31 3", "34 31 31 3"),
            ("it is 00110100 0011", "00110100 0011"),
            ("it is 4 1 1 1 ", "4 1 1 1 "),
            ("see NDExMTExMTExMTEx\nMTExMTExMTExMTEx\nNDEx", "NDExMTExMTExMTEx\nMTExMTExMTExMTEx\nNDEx"),
            ("\u{ff21}\u{ff2b}\u{ff29}\u{ff21}6HZJ", "\u{ff21}\u{ff2b}\u{ff29}\u{ff21}6HZJ"),
        ] {
            assert_eq!(held(text), open, "{text:?}");
        }
    }

    /// Samples of everything that is found, in prose.
    const PARTS: &[&str] = &[
        " ",
        " ",
        " ",
        "-",
        "12",
        "A",
        "x",
        "password",
        ": ",
        "api_key=",
        "+",
        "(",
        "card ",
        "0x",
        ".",
        "born ",
        "\"",
        "n",
        "AKIA6HZJCIHOIJCDIO42",
        "ghs_pJgYRIaciQ6bO5i8xJAmb3ETiDwAHm0hScbb",
        "4111 1111 1111 1111",
        "4111111111111111",
        "my SSN is 536-22-8762",
        "GB82 WEST 1234 5698 7654 32",
        "ada@example.com",
        "+1 (415) 555-0132",
        "10.1.2.3",
        "password = \"hunter2!Rt\"",
        "postgres://ada:s3cr3tpw9@db.example.com/x",
        "passport number 123456789",
        "123456789 is my passport number",
        "born on 3 March 1987",
        "date of birth: March 3, 1987",
        "In 2024 we had 12 cats.",
        "\n",
        ". ",
        ", ",
        " and ",
        "Hello",
        "https://example.com/a?b=c",
        "東京タワー",
        "Привет",
        "AB 12 34 56 C",
        "{\"a\": 1}",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----",
        "Bearer abcdefghij0123456789XYZ",
        "codice fiscale RSSMRA85T10A562S",
        "CPF: 529.982.247-25",
        "NRIC S1234567D",
        "VIN 1M8GDM9AXKP042788",
        "IMEI 49-015420-323751-8",
        "6495360577:AABnDKtNhlaVRvsnzHHoTSPCOm8SgGIotZW",
        "OYXSef5Ie7nV5zsP8B1cQrbR.J4tekG.hJ2rA_M5UPYaPDfoTo9ZJc_ejCq",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), cases: 400, ..ProptestConfig::default() })]

        /// What is settled stays: no finding in the whole text reaches from the settled part into the rest, and those that end
        /// in it are the ones that were found in what had come.
        #[test]
        fn nothing_that_is_settled_changes(parts in proptest::collection::vec(proptest::sample::select(PARTS), 1..6), at in any::<prop::sample::Index>()) {
            let text = parts.concat();
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            let mut settled = ENGINE.settled(&text[..at], 0, Waiting { words: true });
            let scan = |text: &str| {
                let mut found: Vec<Finding> = Vec::new();
                ENGINE.scan(text, 0, Role::Assistant, &mut found);
                found.retain(|finding| !finding.rule.category.is_attack());
                found
            };
            let whole = scan(&text);
            let come = scan(&text[..at]);
            while let Some(finding) = come.iter().find(|f| f.span.start < settled && settled < f.span.end) {
                settled = finding.span.start;
            }
            for finding in &whole {
                prop_assert!(finding.span.end <= settled || finding.span.start >= settled, "{:?} of {:?}, settled {:?}", finding, text, &text[..settled]);
            }
            let ending = |found: Vec<Finding>| found.into_iter().filter(|f| f.span.end <= settled).collect::<Vec<_>>();
            prop_assert_eq!(ending(scan(&text[..at])), ending(whole), "{:?} at {:?}", &text, &text[..at]);
        }
    }
}
