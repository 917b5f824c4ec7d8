//! Escapes of JSON strings: checked once by the walker, undone when a text is scanned, and retraced when a finding in
//! the text must be found again in the source.

use super::scan::plain_run_end;

/// The character that the escape at the start of `source` stands for, and the escape's length.
///
/// # Errors
/// What is wrong with it.
#[inline]
pub(super) fn escape(source: &[u8]) -> Result<(char, usize), &'static str> {
    let character = match source.get(1) {
        Some(b'n') => '\n',
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return unicode_escape(source),
        _ => return Err("invalid escape"),
    };
    Ok((character, 2))
}

fn unicode_escape(source: &[u8]) -> Result<(char, usize), &'static str> {
    let unit = hex4(source.get(2..6))?;
    if !(0xD800..=0xDBFF).contains(&unit) {
        return char::from_u32(unit).map(|character| (character, 6)).ok_or("lone surrogate");
    }
    if source.get(6..8) != Some(br"\u") {
        return Err("lone surrogate");
    }
    let low = hex4(source.get(8..12))?;
    if !(0xDC00..=0xDFFF).contains(&low) {
        return Err("lone surrogate");
    }
    let scalar = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    char::from_u32(scalar).map(|character| (character, 12)).ok_or("invalid escape")
}

fn hex4(digits: Option<&[u8]>) -> Result<u32, &'static str> {
    let digits = digits.ok_or("invalid escape")?;
    digits.iter().try_fold(0, |value, &digit| {
        char::from(digit).to_digit(16).map(|digit| value << 4 | digit).ok_or("invalid escape")
    })
}

/// Appends the text that a checked source stands for.
pub(in crate::protocol) fn unescape(source: &str, out: &mut String) {
    out.reserve(source.len());
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let end = plain_run_end(bytes, at);
        out.push_str(source.get(at..end).unwrap_or_default());
        at = end;
        while let Some(rest @ [b'\\', ..]) = bytes.get(at..) {
            let Ok((character, length)) = escape(rest) else { return };
            out.push(character);
            at += length;
        }
    }
}

/// Walks a text and its source side by side. Positions must be asked for in ascending order, which makes any number of
/// them cost one walk.
#[derive(Debug)]
pub(in crate::protocol) struct SourceCursor<'a> {
    source: &'a str,
    /// Where the next character begins, in the text and in the source.
    text_at: usize,
    source_at: usize,
}

impl<'a> SourceCursor<'a> {
    pub(in crate::protocol) const fn new(source: &'a str) -> Self {
        Self { source, text_at: 0, source_at: 0 }
    }

    /// Where the character that holds byte `text` of the text begins in the source.
    pub(in crate::protocol) fn start(&mut self, text: usize) -> usize {
        let bytes = self.source.as_bytes();
        loop {
            let run = plain_run_end(bytes, self.source_at) - self.source_at;
            if text < self.text_at + run {
                return self.source.floor_char_boundary(self.source_at + (text - self.text_at));
            }
            let Some(rest) = bytes.get(self.source_at + run..).filter(|rest| !rest.is_empty()) else {
                return bytes.len();
            };
            let Ok((character, length)) = escape(rest) else { return bytes.len() };
            if text < self.text_at + run + character.len_utf8() {
                // The cursor stays before the escape: the next question may be about it again.
                return self.source_at + run;
            }
            self.text_at += run + character.len_utf8();
            self.source_at += run + length;
        }
    }

    /// Where the characters before byte `text` of the text end in the source: an escape that `text` falls into is
    /// included whole.
    pub(in crate::protocol) fn end(&mut self, text: usize) -> usize {
        let Some(last) = text.checked_sub(1) else { return 0 };
        let start = self.start(last);
        match self.source.as_bytes().get(start..) {
            Some(rest @ [b'\\', ..]) => start + escape(rest).map_or(1, |(_, length)| length),
            Some([_, ..]) => self.source.ceil_char_boundary(start + 1),
            _ => start,
        }
    }
}
