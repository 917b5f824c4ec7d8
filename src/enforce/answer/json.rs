//! Text that is itself JSON: the arguments of a tool call, an answer in a format that was asked for. Its strings are read as
//! what they say, and what is replaced in it leaves it valid.

/// Reads JSON as it arrives. Lenient: it tells strings from what is around them and undoes escapes, nothing else.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    in_string: bool,
    /// The beginning of an escape, or of a pair of them that is one character.
    escape: String,
}

/// What one character of the source was.
pub(super) enum Read {
    /// A character, inside of a string or not.
    Char { character: char, in_string: bool },
    /// A part of one that is not complete.
    Part,
}

impl Reader {
    /// Whether a text that begins so is read as JSON.
    pub(super) fn applies_to(text: &str) -> bool {
        text.starts_with(['{', '['])
    }

    /// Inside of an escape.
    pub(super) fn is_waiting(&self) -> bool {
        !self.escape.is_empty()
    }

    pub(super) fn next(&mut self, c: char) -> Read {
        if !self.escape.is_empty() {
            self.escape.push(c);
            return match decoded(&self.escape) {
                Decoded::Unfinished => Read::Part,
                Decoded::Is(character) => {
                    self.escape.clear();
                    Read::Char { character, in_string: true }
                }
            };
        }
        match c {
            '\\' if self.in_string => {
                self.escape.push(c);
                Read::Part
            }
            '"' => {
                self.in_string = !self.in_string;
                // Both quotes stand outside of what they quote.
                Read::Char { character: c, in_string: false }
            }
            _ => Read::Char { character: c, in_string: self.in_string },
        }
    }
}

enum Decoded {
    Unfinished,
    Is(char),
}

/// An escape from its backslash on. What is none stands for U+FFFD: nobody reads it the same.
fn decoded(escape: &str) -> Decoded {
    let bytes = escape.as_bytes();
    let unit = |from: usize| escape.get(from..from + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    match bytes.get(1) {
        None => Decoded::Unfinished,
        Some(b'n') => Decoded::Is('\n'),
        Some(b't') => Decoded::Is('\t'),
        Some(b'r') => Decoded::Is('\r'),
        Some(b'b') => Decoded::Is('\u{8}'),
        Some(b'f') => Decoded::Is('\u{c}'),
        Some(b'u') if bytes.len() < 6 => Decoded::Unfinished,
        Some(b'u') => match unit(2) {
            Some(high @ 0xD800..=0xDBFF) => match bytes.get(6..8) {
                None if bytes.len() == 6 || bytes.last() == Some(&b'\\') => Decoded::Unfinished,
                Some(br"\u") if bytes.len() < 12 => Decoded::Unfinished,
                Some(br"\u") => {
                    let low = unit(8).filter(|low| (0xDC00..=0xDFFF).contains(low));
                    let scalar = low.map(|low| 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00));
                    Decoded::Is(scalar.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER))
                }
                _ => Decoded::Is(char::REPLACEMENT_CHARACTER),
            },
            Some(unit) => Decoded::Is(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)),
            None => Decoded::Is(char::REPLACEMENT_CHARACTER),
        },
        Some(_) => Decoded::Is(escape.chars().nth(1).unwrap_or(char::REPLACEMENT_CHARACTER)),
    }
}
