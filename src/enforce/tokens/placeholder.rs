//! How a token reads, and what models make of it: `<EMAIL_ADDRESS_1>` in other letters, escaped for markdown, HTML or a URL, or
//! without its brackets.

use std::ops::Range;

/// Digits of a number.
const MAX_DIGITS: usize = 6;
/// Letters of what is sealed, at least and at most.
pub(super) const SEALED: Range<usize> = 26..512;

const OPENERS: [&[u8]; 4] = [b"<", br"\<", b"&lt;", b"%3C"];
const CLOSERS: [&[u8]; 4] = [b">", br"\>", b"&gt;", b"%3E"];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'t> {
    Number(u32),
    Sealed(&'t str),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'t> {
    pub range: Range<usize>,
    pub label: &'t str,
    pub name: Name<'t>,
    /// Without brackets.
    pub bare: bool,
}

impl Found<'_> {
    /// As a token is written.
    pub(super) fn written(&self) -> String {
        match &self.name {
            Name::Number(number) => format!("<{}_{number}>", self.label),
            Name::Sealed(sealed) => format!("<{}_{}>", self.label, sealed.to_ascii_uppercase()),
        }
    }
}

enum Seen<'t> {
    No,
    /// The text ends before that can be told.
    Open,
    Is(Found<'t>),
}

/// Whether `word` stands at the beginning of `text`.
enum Begins {
    No,
    Open,
    /// In so many bytes.
    Yes(usize),
}

/// The tokens in `text` from byte `from` on, and where one begins that has not come whole. `ended`: nothing follows.
pub(super) fn scan<'t>(text: &'t str, from: usize, labels: &'t [Box<str>], ended: bool) -> (Vec<Found<'t>>, usize) {
    let mut found = Vec::new();
    let mut at = from;
    while let Some(byte) = text.as_bytes().get(at) {
        let seen = match byte {
            b'<' | b'\\' | b'&' | b'%' => angled(text, at, labels, ended),
            b'A'..=b'Z' if !at.checked_sub(1).is_some_and(|before| is_word(text.as_bytes().get(before))) => {
                bare(text, at, labels, ended)
            }
            _ => Seen::No,
        };
        match seen {
            Seen::No => at += 1,
            Seen::Open => return (found, at),
            Seen::Is(token) => {
                at = token.range.end;
                found.push(token);
            }
        }
    }
    (found, text.len())
}

fn angled<'t>(text: &'t str, start: usize, labels: &'t [Box<str>], ended: bool) -> Seen<'t> {
    let bytes = text.as_bytes();
    let undecided = if ended { Seen::No } else { Seen::Open };
    let mut inside = match any(bytes, start, &OPENERS) {
        Begins::No => return Seen::No,
        Begins::Open => return undecided,
        Begins::Yes(length) => start + length,
    };
    inside += usize::from(bytes.get(inside) == Some(&b' '));
    of_labels(labels, |label| {
        let (name, end) = match named(text, inside, label, false, ended) {
            Ok(named) => named,
            Err(seen) => return seen,
        };
        let end = end + usize::from(bytes.get(end) == Some(&b' '));
        match any(bytes, end, &CLOSERS) {
            Begins::No => Seen::No,
            Begins::Open if ended => Seen::No,
            Begins::Open => Seen::Open,
            Begins::Yes(length) => Seen::Is(Found { range: start..end + length, label, name, bare: false }),
        }
    })
}

/// In capitals only: what is written otherwise may be a name in somebody's program.
fn bare<'t>(text: &'t str, start: usize, labels: &'t [Box<str>], ended: bool) -> Seen<'t> {
    of_labels(labels, |label| match named(text, start, label, true, ended) {
        Ok((_, end)) if is_word(text.as_bytes().get(end)) => Seen::No,
        Ok((name, end)) => Seen::Is(Found { range: start..end, label, name, bare: true }),
        Err(seen) => seen,
    })
}

fn of_labels<'t>(labels: &'t [Box<str>], read: impl Fn(&'t str) -> Seen<'t>) -> Seen<'t> {
    let mut all = Seen::No;
    for label in labels {
        match read(label) {
            Seen::No => {}
            Seen::Open => all = Seen::Open,
            is @ Seen::Is(_) => return is,
        }
    }
    all
}

/// Reads `label`, an underscore and what follows it. Returns where that ends.
fn named<'t>(
    text: &'t str,
    mut at: usize,
    label: &str,
    exact: bool,
    ended: bool,
) -> Result<(Name<'t>, usize), Seen<'t>> {
    let bytes = text.as_bytes();
    let undecided = || if ended { Seen::No } else { Seen::Open };
    for expected in label.bytes().chain([b'_']) {
        match bytes.get(at) {
            None => return Err(undecided()),
            Some(b'\\') if expected == b'_' => match bytes.get(at + 1) {
                None => return Err(undecided()),
                Some(b'_') => at += 2,
                Some(_) => return Err(Seen::No),
            },
            Some(byte) if *byte == expected || !exact && byte.eq_ignore_ascii_case(&expected) => at += 1,
            Some(_) => return Err(Seen::No),
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let end = at + length;
    let name = text.get(at..end).unwrap_or_default();
    let digits = name.bytes().all(|byte| byte.is_ascii_digit()) && length <= MAX_DIGITS;
    let sealed = name.bytes().all(|byte| byte.is_ascii_alphabetic() || (b'2'..=b'7').contains(&byte));
    if length == rest.len() && !ended && (digits || sealed && length < SEALED.end) {
        return Err(Seen::Open);
    }
    match name.parse() {
        Ok(number) if digits && !name.starts_with('0') => Ok((Name::Number(number), end)),
        _ if sealed && SEALED.contains(&length) => Ok((Name::Sealed(name), end)),
        _ => Err(Seen::No),
    }
}

fn any(text: &[u8], at: usize, words: &[&[u8]]) -> Begins {
    let rest = text.get(at..).unwrap_or_default();
    let mut all = Begins::No;
    for word in words {
        if rest.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word)) {
            return Begins::Yes(word.len());
        }
        if rest.len() < word.len() && word.get(..rest.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(rest)) {
            all = Begins::Open;
        }
    }
    all
}

fn is_word(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<Box<str>> {
        vec!["EMAIL_ADDRESS".into(), "IP".into(), "IP_ADDRESS".into()]
    }

    #[test]
    fn what_models_make_of_a_token_is_read() {
        let labels = labels();
        for text in [
            "<EMAIL_ADDRESS_12>",
            "<email_address_12>",
            "< Email_Address_12 >",
            r"\<EMAIL\_ADDRESS\_12\>",
            r"<EMAIL\_ADDRESS\_12>",
            "&lt;EMAIL_ADDRESS_12&gt;",
            "%3CEMAIL_ADDRESS_12%3e",
            "EMAIL_ADDRESS_12",
            r"EMAIL\_ADDRESS\_12",
        ] {
            let bare = text.starts_with('E');
            let expected = Found { range: 4..4 + text.len(), label: "EMAIL_ADDRESS", name: Name::Number(12), bare };
            let said = format!("to: {text}, ok");
            assert_eq!(scan(&said, 0, &labels, false), (vec![expected], said.len()), "{text}");
        }
        let found = scan("<IP_ADDRESS_1> <IP_1> [IP_2](IP_3)", 0, &labels, true).0;
        let read: Vec<_> = found.iter().map(|found| (found.label, &found.name)).collect();
        assert_eq!(
            read,
            [("IP_ADDRESS", 1), ("IP", 1), ("IP", 2), ("IP", 3)]
                .map(|(l, n)| (l, Name::Number(n)))
                .each_ref()
                .map(|(l, n)| (*l, n))
        );
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for text in [
            "email_address_1",
            "<EMAIL_ADDRESS>",
            "<EMAIL_ADDRESS_>",
            "<EMAIL_ADDRESS_01>",
            "<EMAIL_ADDRESS_1234567>",
            "<EMAIL_ADDRESS_x>",
            "<US_SSN_1>",
            "MY_EMAIL_ADDRESS_1",
            "EMAIL_ADDRESS_1_OLD",
            "<EMAIL_ADDRESS_1",
        ] {
            let (labels, said) = (labels(), format!("{text} ."));
            let found = scan(&said, 0, &labels, false).0;
            let bracketless = text == "<EMAIL_ADDRESS_1";
            assert_eq!(found.len(), usize::from(bracketless), "{text}: {found:?}");
            assert!(found.iter().all(|found| found.bare));
        }
    }

    #[test]
    fn only_the_longest_live_part_of_one_is_waited_for() {
        let labels = labels();
        for (text, open) in [
            ("see <EMAIL_ADDRESS_1", "<EMAIL_ADDRESS_1"),
            ("see <EMAIL_ADDRESS_1 ", "<EMAIL_ADDRESS_1 "),
            (r"see \", r"\"),
            ("see &l", "&l"),
            ("a <", "<"),
            ("a < b", ""),
            ("see EMA", "EMA"),
            ("see EMAx", ""),
            ("see THE", ""),
            ("see EMAIL_ADDRESS_1", "EMAIL_ADDRESS_1"),
            ("<EMAIL_ADDRESS_1>", ""),
            (r"<EMAIL_ADDRESS_1\", r"<EMAIL_ADDRESS_1\"),
            ("", ""),
        ] {
            assert_eq!(&text[scan(text, 0, &labels, false).1..], open, "{text}");
            assert_eq!(scan(text, 0, &labels, true).1, text.len());
        }
    }
}
