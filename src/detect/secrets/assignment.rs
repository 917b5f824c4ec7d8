//! `name = value` where the name says that the value is secret and the value looks like one.
#![expect(clippy::indexing_slicing, reason = "every position is compared with the length of the text first")]

use super::Known;
use super::placeholder::{holds_count, is_counted, is_placeholder, reads_as_words};
use crate::detect::Sink;
use crate::detect::bytes::{at, entropy, is_word};
use crate::detect::words::{KeySet, key_of};

/// Bytes of the name that may follow the keyword, and of white space around the sign.
const NAME: usize = 32;
/// The longest value, in bytes. What is longer is sealed or encoded data.
const VALUE: usize = 256;
/// The shortest value of a parameter of an address, in bytes.
const SHORTEST_PARAMETER: usize = 16;
/// Confidence in a value that reads like words and a year or `123`: mostly an example, and not acted on by any preset.
const EXAMPLE: f32 = 0.35;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Chosen by people: short, any characters.
    Password,
    /// Made by machines: long and random.
    Token,
}

/// Keywords in lower case; a space stands for one of `_`, `-`, a blank, or nothing (`api_key`, `apiKey`).
const KEYWORDS: &[(&str, Kind)] = &[
    ("passw", Kind::Password),
    ("passphrase", Kind::Password),
    ("passcode", Kind::Password),
    ("pass", Kind::Password),
    ("pwd", Kind::Password),
    ("pswd", Kind::Password),
    ("pswrd", Kind::Password),
    ("psword", Kind::Password),
    ("psswd", Kind::Password),
    ("psswrd", Kind::Password),
    ("pssword", Kind::Password),
    ("paswd", Kind::Password),
    ("paswrd", Kind::Password),
    ("pasword", Kind::Password),
    ("bearer", Kind::Token),
    ("pw", Kind::Password),
    ("secret", Kind::Token),
    ("token", Kind::Token),
    ("api key", Kind::Token),
    ("api secret", Kind::Token),
    ("api token", Kind::Token),
    ("access key", Kind::Token),
    ("account key", Kind::Token),
    ("credential", Kind::Token),
    ("private key", Kind::Token),
    ("encryption key", Kind::Token),
    ("signing key", Kind::Token),
    ("activation key", Kind::Token),
    ("license key", Kind::Token),
    ("authentication key", Kind::Token),
    ("subscription key", Kind::Token),
    ("auth key", Kind::Token),
    ("authorization", Kind::Token),
    ("client secret", Kind::Token),
    ("secret key", Kind::Token),
    ("secret access key", Kind::Token),
    ("identified by", Kind::Password),
];

/// Words that name something about a secret, not the secret.
const ABOUT: &[&str] = &[
    "file", "path", "name", "url", "uri", "type", "length", "size", "id", "policy", "field", "hint", "reset", "expire",
    "expiry", "ttl", "count", "limit", "usage", "max", "min", "format", "manager", "store", "arn", "version", "label",
    "prompt", "hash", "ring", "s",
];

pub(super) struct Assignments {
    keys: KeySet,
    /// Keywords with their keys, by which they are sorted.
    words: Vec<(u32, &'static str, Kind)>,
    known: Known,
}

impl Assignments {
    pub(super) fn new(known: Known) -> Self {
        let mut keys = KeySet::new();
        let mut words = Vec::new();
        for (word, kind) in KEYWORDS {
            // `apikey`: the second word begins inside of the four letters of the key.
            let mut own = vec![key_of(word.as_bytes()), key_of(word.replace(' ', "").as_bytes())];
            own.dedup();
            for key in own {
                keys.insert(key);
                words.push((key, *word, *kind));
            }
        }
        words.sort_by_key(|(key, _, _)| *key);
        Self { keys, words, known }
    }

    pub(super) fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Whether a keyword stands in `text`.
    pub(super) fn is_named(&self, text: &[u8]) -> bool {
        (0..text.len()).any(|at| {
            // The first letters of all of them.
            matches!(text[at] | 0x20, b'a' | b'c' | b'e' | b'i' | b'p' | b's' | b't')
                && KEYWORDS.iter().any(|(word, _)| stands(text, at, word).is_some())
        })
    }

    pub(super) fn word(&self, text: &[u8], at: usize, key: u32, done: &mut usize, sink: &mut Sink<'_>) {
        if at < *done {
            return;
        }
        let first = self.words.partition_point(|(own, _, _)| *own < key);
        let standing = self.words[first..].iter().take_while(|(own, _, _)| *own == key);
        let standing = standing.filter_map(|(_, word, kind)| Some((stands(text, at, word)?, *kind)));
        let Some((end, kind)) = standing.max_by_key(|(end, _)| *end) else { return };
        // `--password value`, `IDENTIFIED BY value`
        let flag = at > 0 && text[at - 1] == b'-' || text[at..end].ends_with(b" BY") || text[at..end].ends_with(b" by");
        let Some((value, quoted)) = value_after(text, end, flag) else { return };
        *done = value.end;
        // Badges of build services hold tokens that are meant to be seen, and parameters hold many things.
        let parameter = at > 0 && matches!(text[at - 1], b'?' | b'&');
        if parameter && value.len() < SHORTEST_PARAMETER {
            return;
        }
        if let Some(confidence) = self.judge(&text[value.clone()], kind, quoted) {
            sink.push(&self.known.rule, confidence, value);
        }
    }

    fn judge(&self, value: &[u8], kind: Kind, quoted: bool) -> Option<f32> {
        if value.len() >= VALUE || looks_like_code(value, quoted) || is_placeholder(value) {
            return None;
        }
        if kind == Kind::Token && is_counted(value) {
            return None;
        }
        let words = reads_as_words(value);
        if words && (kind == Kind::Token || holds_count(value)) {
            return Some(EXAMPLE).filter(|_| value.len() >= 8);
        }
        // Both cases mixed without sense: drawn, though it has no digit.
        let drawn = quoted && !words && entropy(value) >= 3.0;
        let classes = Classes::of(value);
        let strong = match kind {
            Kind::Password => {
                value.len() >= 6 && classes.count() >= 3 || value.len() >= 10 && classes.count() >= 2 && classes.digit
            }
            Kind::Token => {
                value.len() >= 12 && classes.digit && (classes.lower || classes.upper) && entropy(value) >= 3.0
            }
        };
        let weak = match kind {
            Kind::Password => {
                value.len() >= 7 && classes.count() >= 2 && (classes.digit || classes.mark)
                    || drawn && value.len() >= 10 && classes.lower && classes.upper
            }
            Kind::Token => {
                value.len() >= 16 && classes.count() >= 2 && entropy(value) >= 3.5
                    || value.len() >= 8 && classes.count() >= 3 && classes.digit
                    || drawn && value.len() >= 12 && classes.count() >= 3
            }
        };
        if strong {
            Some(self.known.confidence)
        } else if weak {
            self.known.weak
        } else {
            None
        }
    }
}

/// Where the keyword that stands at `at` ends.
fn stands(text: &[u8], at: usize, word: &str) -> Option<usize> {
    let mut i = at;
    for byte in word.bytes() {
        let own = text.get(i)?;
        if byte == b' ' {
            i += usize::from(matches!(own, b'_' | b'-' | b' '));
        } else if own.to_ascii_lowercase() == byte {
            i += 1;
        } else {
            return None;
        }
    }
    Some(i)
}

/// Finds the value behind the rest of a name, quotes, white space and one sign of assignment. The flag says whether it is quoted.
fn value_after(text: &[u8], keyword_end: usize, flag: bool) -> Option<(std::ops::Range<usize>, bool)> {
    let mut i = keyword_end;
    let limit = (i + NAME).min(text.len());
    while i < limit && (is_word(text[i]) || text[i] == b'-') {
        i += 1;
    }
    let rest = &text[keyword_end..i];
    if !rest.is_empty() && ABOUT.iter().any(|about| ends_with_part(rest, about.as_bytes())) {
        return None;
    }
    let name_end = i;
    while matches!(at(text, i), b'"' | b'\'' | b'`' | b']' | b' ' | b'*' | b'\\') && i < name_end + 6 {
        i += 1;
    }
    // A comparison with a literal leaks it as well.
    if at(text, i) == b'!' && at(text, i + 1) == b'=' {
        i += 1;
    }
    // `password: String = …`
    if at(text, i) == b':' {
        let kind = text[i + 1..].iter().take(24).position(|b| *b == b'=').unwrap_or(0);
        let named = &text[i + 1..i + 1 + kind];
        if kind > 1 && named.iter().all(|b| is_word(*b) || *b == b' ') && at(text, i + 2 + kind) != b'=' {
            i += 1 + kind;
        }
    }
    match at(text, i) {
        b'=' | b':' => {
            i += 1;
            // `:=`, `=>`, `==` and `->` are read as one sign.
            while matches!(at(text, i), b'=' | b'>') {
                i += 1;
            }
        }
        b'i' if text[i..].starts_with(b"is ") => i += 3,
        b',' if at(text, i + 1) == b' ' => i += 1,
        // `--password value`, `IDENTIFIED BY 'value'`, `#define PASSWORD "value"`
        _ if flag && at(text, name_end) == b' ' => i = name_end + 1,
        _ if at(text, name_end) == b' ' && matches!(at(text, name_end + 1), b'"' | b'\'') => i = name_end + 1,
        _ => return None,
    }
    let blank_end = i + 4;
    while i < blank_end && matches!(at(text, i), b' ' | b'\t') {
        i += 1;
    }
    for scheme in [&b"Bearer "[..], b"bearer ", b"token ", b"Token "] {
        if text[i.min(text.len())..].starts_with(scheme) {
            i += scheme.len();
        }
    }
    if matches!(at(text, i), b'b' | b'r' | b'f') && matches!(at(text, i + 1), b'"' | b'\'') {
        i += 1;
    }
    // Quoted once more, or in markup.
    while at(text, i) == b'\\' {
        i += 1;
    }
    let markup = text[i.min(text.len())..].starts_with(b"&quot;");
    if markup {
        i += 6;
    }
    let quote = at(text, i);
    let quoted = matches!(quote, b'"' | b'\'' | b'`');
    if quoted {
        i += 1;
    }
    let window = text.get(i..(i + VALUE).min(text.len()))?;
    let len = if quoted {
        window.iter().position(|b| *b == quote || *b == b'\n' || *b == b' ').unwrap_or(window.len())
    } else {
        window
            .iter()
            .position(|b| {
                b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'`' | b',' | b';' | b')' | b'<' | b'>' | b'|')
            })
            .unwrap_or(window.len())
    };
    let len = [&b"&lt;"[..], b"&quot", b"&lt", b"&gt"]
        .iter()
        .filter(|_| !quoted)
        .filter_map(|mark| memchr::memmem::find(&window[..len], mark))
        .min()
        .unwrap_or(len);
    let mut end = i + len;
    while end > i && matches!(text[end - 1], b'.' | b'\\' | b'?' | b']' | b'}') && (!quoted || text[end - 1] == b'\\') {
        end -= 1;
    }
    if !quoted
        && let Some(cut) = memchr::memchr2(b'&', b'=', &text[i..end])
        && text[i + cut] == b'&'
        && memchr::memchr(b'=', &text[i + cut..end]).is_some()
    {
        end = i + cut; // the next parameter of a query string
    }
    (end - i >= 6 && text[i..end].is_ascii()).then_some((i..end, quoted))
}

/// Whether `rest` ends with `part` as a part of an identifier: `_file`, `File`, or nothing else.
fn ends_with_part(rest: &[u8], part: &[u8]) -> bool {
    let Some(split) = rest.len().checked_sub(part.len()) else { return false };
    if !rest[split..].eq_ignore_ascii_case(part) {
        return false;
    }
    split == 0 && part.len() > 1
        || split > 0
            && (!rest[split - 1].is_ascii_alphanumeric()
                || rest[split].is_ascii_uppercase() && rest[split - 1].is_ascii_lowercase())
}

/// Calls, paths, variables and plain words are not secrets.
fn looks_like_code(value: &[u8], quoted: bool) -> bool {
    // dotted or snake-case identifiers without digits
    if !quoted && value.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':')) {
        return true;
    }
    let first = value.first().copied().unwrap_or(0);
    // A mask, a header of a token without the token, the name of a variable, markup of another kind, a named argument.
    if value.starts_with(b"0x")
        || value.starts_with(b"eyJhbGciOi") && !value.contains(&b'.')
        || first == b'$' && value[1..].iter().all(|b| b.is_ascii_uppercase() || *b == b'_')
        || first == b'}'
        || [&b"=True"[..], b"=False", b"=None", b"=true", b"=false"].iter().any(|end| value.ends_with(end))
    {
        return true;
    }
    if matches!(first, b'$' | b'%' | b'{' | b'(' | b'[' | b'&' | b'*')
        && !quoted
        && value.iter().all(|b| {
            is_word(*b) || matches!(b, b'$' | b'%' | b'{' | b'}' | b'(' | b')' | b'[' | b']' | b'&' | b'*' | b'.')
        })
    {
        return true;
    }
    if !quoted
        && (memchr::memchr2(b'(', b'[', value).is_some()
            || memchr::memmem::find(value, b"::").is_some()
            || memchr::memmem::find(value, b"->").is_some())
    {
        return true;
    }
    value.starts_with(b"http") || value.starts_with(b"./") || memchr::memmem::find(value, b"://").is_some()
}

struct Classes {
    lower: bool,
    upper: bool,
    digit: bool,
    mark: bool,
}

impl Classes {
    fn of(value: &[u8]) -> Self {
        Self {
            lower: value.iter().any(u8::is_ascii_lowercase),
            upper: value.iter().any(u8::is_ascii_uppercase),
            digit: value.iter().any(u8::is_ascii_digit),
            mark: value.iter().any(|b| b.is_ascii_punctuation() && !matches!(b, b'_' | b'-' | b'.')),
        }
    }

    fn count(&self) -> u8 {
        u8::from(self.lower) + u8::from(self.upper) + u8::from(self.digit) + u8::from(self.mark)
    }
}
