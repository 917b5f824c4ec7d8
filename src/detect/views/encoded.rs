//! Base64, hexadecimal, percent encoding, HTML entities and backslash escapes, decoded in place in one walk. What does not become
//! text that could be read stays as it is.
#![expect(clippy::indexing_slicing, reason = "every position is below the length of the text")]

use std::ops::Range;

use super::Draft;
use crate::detect::blocks::{self, Finder};

/// The fewest bytes that a run of base64 or hexadecimal digits must decode to.
const LEAST: usize = 8;
/// After so many bytes it must look like text.
const JUDGED: usize = 48;
/// Lines of wrapped base64 are at least so long.
const LINE: usize = 16;

/// Calls `found` with every escape that may hide something, if there are two.
pub(super) fn each_escape(text: &[u8], mut found: impl FnMut(usize)) {
    let hides = |at: &usize| match &text[*at..] {
        [b'%', a, b, ..] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit(),
        [b'&', b'#', ..] | [b'\\', b'u' | b'U' | b'x', ..] => escape(text, *at).is_some(),
        // The end of a line of a text inside of a text, which would lend its letter to the next word.
        [b'\\', b'n' | b'r' | b't', c, ..] => c.is_ascii_alphabetic(),
        _ => false,
    };
    let mut escapes = memchr::memchr3_iter(b'%', b'&', b'\\', text).filter(hides);
    if let (Some(first), Some(second)) = (escapes.next(), escapes.next()) {
        [first, second].into_iter().chain(escapes).for_each(&mut found);
    }
}

pub(super) fn decode(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    // Up to where the text is in the draft; most regions hold nothing to decode and are not copied.
    let (mut copied, mut at, mut passed) = (region.start, region.start, 0);
    // Escapes and the starts of words; nothing begins inside of a word.
    let mut starts =
        Finder::new(text, |block| blocks::escapes(block) | blocks::equals(block) | blocks::alphanumeric(block));
    let mut ends = Finder::new(text, |block| !blocks::alphanumeric(block));
    let mut end_of_word = |at| ends.next(at, region.end).unwrap_or(region.end);
    if at > 0 && text[at - 1].is_ascii_alphanumeric() {
        at = end_of_word(at);
    }
    while let Some(start) = starts.next(at, region.end) {
        let is_word = text[start].is_ascii_alphanumeric();
        let end_here = if is_word { end_of_word(start) } else { start + 1 };
        // Most words are too short for anything.
        let short = end_here - start < LEAST && end_here < region.end && !is_joint(text[end_here]);
        let end = if is_word {
            let found = if short && !begins(text, start, may_be_hex) { None } else { blob(text, start, &mut passed) };
            found.map(|(start, read)| {
                draft.copy_all(text, copied..start);
                draft.line(start);
                let end = read(text, start, &mut |byte, from| draft.decoded(byte, from)).unwrap_or(start);
                draft.line(end);
                end
            })
        } else {
            escape(text, start).map(|(c, mut end)| {
                draft.copy_all(text, copied..start);
                match c {
                    Escaped::Byte(byte) => draft.decoded(byte, start..end),
                    Escaped::Char(c) => draft.decoded_char(c, start..end),
                    Escaped::Nothing => {
                        if let Some(next) = text.get(end) {
                            draft.decoded(*next, end..end + 1);
                            end += 1;
                        }
                    }
                }
                end
            })
        };
        copied = end.unwrap_or(copied);
        at = end.unwrap_or(end_here);
    }
    if copied > region.start {
        draft.copy_all(text, copied..at.max(region.end));
    }
}

enum Escaped {
    Byte(u8),
    Char(char),
    /// A soft end of a line: what follows goes on.
    Nothing,
}

/// The escape at `at`, and where it ends.
fn escape(text: &[u8], at: usize) -> Option<(Escaped, usize)> {
    match &text[at..] {
        [b'%', a, b, ..] => Some((Escaped::Byte(byte(*a, *b)?), at + 3)),
        [b'=', b'\n', ..] => Some((Escaped::Nothing, at + 2)),
        [b'=', b'\r', b'\n', ..] => Some((Escaped::Nothing, at + 3)),
        [b'=', a, b, ..] => {
            let byte = byte(*a, *b).filter(|byte| *byte >= b' ' || byte.is_ascii_whitespace())?;
            (!a.is_ascii_lowercase() && !b.is_ascii_lowercase()).then_some((Escaped::Byte(byte), at + 3))
        }
        [b'&', b'#', b'x' | b'X', ..] => entity(text, at + 3, 16),
        [b'&', b'#', ..] => entity(text, at + 2, 10),
        [b'&', name @ ..] => {
            let len = name.iter().take(8).position(|byte| *byte == b';')?;
            let c = named(&name[..len])?;
            Some((Escaped::Char(c), at + len + 2))
        }
        [b'\\', b'x', a, b, ..] => Some((Escaped::Byte(byte(*a, *b)?), at + 4)),
        [b'\\', b'u', b'{', ..] => {
            let (number, end) = number(text, at + 3, 16, 6)?;
            (text.get(end) == Some(&b'}')).then_some((Escaped::Char(char::from_u32(number)?), end + 1))
        }
        [b'\\', b'u', ..] => {
            let unit = |at: usize| number(text, at, 16, 4).filter(|(_, end)| *end == at + 4).map(|(unit, _)| unit);
            let high = unit(at + 2)?;
            if (0xD800..0xDC00).contains(&high)
                && text.get(at + 6..at + 8) == Some(b"\\u")
                && let Some(low @ 0xDC00..0xE000) = unit(at + 8)
            {
                let c = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                return Some((Escaped::Char(char::from_u32(c)?), at + 12));
            }
            Some((Escaped::Char(char::from_u32(high)?), at + 6))
        }
        [b'\\', b'U', ..] => {
            let (number, end) = number(text, at + 2, 16, 8)?;
            (end == at + 10).then_some((Escaped::Char(char::from_u32(number)?), end))
        }
        [b'\\', b'n' | b'r' | b't', ..] => Some((Escaped::Byte(b'\n'), at + 2)),
        [b'\\', c @ (b'"' | b'\\' | b'/'), ..] => Some((Escaped::Byte(*c), at + 2)),
        _ => None,
    }
}

fn entity(text: &[u8], digits: usize, radix: u32) -> Option<(Escaped, usize)> {
    let (number, end) = number(text, digits, radix, 7)?;
    let c = char::from_u32(number).filter(|c| *c >= ' ' || c.is_ascii_whitespace())?;
    Some((Escaped::Char(c), end + usize::from(text.get(end) == Some(&b';'))))
}

fn named(name: &[u8]) -> Option<char> {
    Some(match name {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        b"nbsp" => ' ',
        b"Tab" => '\t',
        b"NewLine" => '\n',
        b"colon" => ':',
        b"comma" => ',',
        b"period" => '.',
        b"excl" => '!',
        b"commat" => '@',
        b"sol" => '/',
        b"num" => '#',
        b"lpar" => '(',
        b"rpar" => ')',
        _ => return None,
    })
}

/// A number of at most so many digits, and where it ends.
fn number(text: &[u8], start: usize, radix: u32, most: usize) -> Option<(u32, usize)> {
    let digits = text.get(start..)?.iter().take(most).map_while(|byte| char::from(*byte).to_digit(radix));
    let (number, len) = digits.fold((0u32, 0), |(number, len), digit| (number * radix + digit, len + 1));
    (len > 0).then_some((number, start + len))
}

fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Reads a run of digits: its bytes with what carries them, and where it ends if it is text, otherwise up to where no other run need
/// be looked for.
type Read = fn(&[u8], usize, &mut dyn FnMut(u8, Range<usize>)) -> Result<usize, usize>;

/// Whether the run of digits at `at` is text, where it begins, and what reads it. At the start of a piece, which may be the middle
/// of a run, its digits may belong to others.
fn blob(text: &[u8], at: usize, passed: &mut usize) -> Option<(usize, Read)> {
    if at < *passed {
        return None;
    }
    let digit = |byte: &&u8| byte.is_ascii_alphanumeric() || is_joint(**byte);
    // Most words are settled by their first two letters.
    let long = text[at..].iter().take(LEAST).take_while(digit).count() == LEAST;
    if !long && !begins(text, at, may_be_hex) {
        return None;
    }
    let shifts = if at == 0 { 8 } else { 1 };
    let mut reads = |start: usize, read: Read| match read(text, start, &mut |_, _| {}) {
        Ok(_) => true,
        Err(end) => {
            *passed = end.max(*passed);
            false
        }
    };
    for start in at..text.len().min(at + shifts) {
        let mut own = READS.iter().filter(|(_, may_be)| begins(text, start, *may_be)).map(|(read, _)| *read);
        if let Some(read) = own.find(|read| reads(start, *read)) {
            return Some((start, read));
        }
    }
    None
}

/// Digits of base64 that words do not hold.
const fn is_joint(byte: u8) -> bool {
    matches!(byte, b'+' | b'-' | b'/' | b'_')
}

#[inline]
fn begins(text: &[u8], at: usize, may_be: impl Fn([u8; 2]) -> bool) -> bool {
    text[at..].first_chunk().is_some_and(|pair| may_be(*pair))
}

/// Whether a text can begin with these two digits.
type MayBe = fn([u8; 2]) -> bool;

/// What can be read, with what tells at once that it cannot.
const READS: [(Read, MayBe); 4] =
    [(binary, may_be_binary), (hex, may_be_hex), (base32, may_be_base32), (base64, may_be_base64)];

fn may_be_binary(pair: [u8; 2]) -> bool {
    matches!(pair, [b'0', b'0' | b'1'] | [b'1', b'1'])
}

fn may_be_hex(pair: [u8; 2]) -> bool {
    pair.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'x')
}

fn may_be_base64([first, second]: [u8; 2]) -> bool {
    let (Some(first), Some(second)) = (base64_digit(first), base64_digit(second)) else { return false };
    Judge::default().accepts(first << 2 | second >> 4)
}

fn may_be_base32([first, second]: [u8; 2]) -> bool {
    let (Some(first), Some(second)) = (base32_digit(first), base32_digit(second)) else { return false };
    Judge::default().accepts(first << 3 | second >> 2)
}

const fn base32_digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a',
        b'2'..=b'7' => byte - b'2' + 26,
        _ => return None,
    })
}

const fn base64_digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

/// Pairs of hexadecimal digits, in a row or with signs or `0x` between them.
fn hex(text: &[u8], start: usize, found: &mut dyn FnMut(u8, Range<usize>)) -> Result<usize, usize> {
    let (mut judge, mut at) = (Judge::default(), start);
    loop {
        let mut from = at;
        if at > start {
            let signs = text[at..].iter().take(3);
            from += signs.take_while(|byte| matches!(byte, b' ' | b':' | b'-' | b',' | b';' | b'\n' | b'\r')).count();
        }
        let digits = if matches!(text.get(from..from + 2), Some(b"0x" | b"0X")) { from + 2 } else { from };
        let Some(&[high, low]) = text.get(digits..digits + 2) else { break };
        let Some(byte) = byte(high, low).filter(|byte| judge.accepts(*byte)) else { break };
        found(byte, from..digits + 2);
        at = digits + 2;
    }
    // What goes on as a word is one.
    let whole = !text.get(at).is_some_and(u8::is_ascii_alphanumeric) || judge.seen >= 2 * JUDGED;
    let passed = if judge.seen >= JUDGED { at } else { start };
    if whole && judge.is_text() && judge.seen >= LEAST { Ok(at) } else { Err(passed) }
}

/// Eight digits of zero and one for a byte, in a row or with signs between them.
fn binary(text: &[u8], start: usize, found: &mut dyn FnMut(u8, Range<usize>)) -> Result<usize, usize> {
    let (mut judge, mut at) = (Judge::default(), start);
    loop {
        let signs = text[at..].iter().take(if at > start { 3 } else { 0 });
        let from = at + signs.take_while(|byte| matches!(byte, b' ' | b'-' | b',' | b'_' | b'\n' | b'\r')).count();
        let Some(digits) = text.get(from..from + 8).filter(|digits| digits.iter().all(|c| matches!(c, b'0' | b'1')))
        else {
            break;
        };
        let byte = digits.iter().fold(0, |byte, digit| byte << 1 | (digit - b'0'));
        if !judge.accepts(byte) {
            break;
        }
        found(byte, from..from + 8);
        at = from + 8;
    }
    let whole = !text.get(at).is_some_and(u8::is_ascii_alphanumeric) || judge.seen >= 2 * JUDGED;
    let passed = if judge.seen >= JUDGED { at } else { start };
    if whole && judge.is_text() && judge.seen >= LEAST { Ok(at) } else { Err(passed) }
}

/// Five bits a letter, in one case or the other.
fn base32(text: &[u8], start: usize, found: &mut dyn FnMut(u8, Range<usize>)) -> Result<usize, usize> {
    let end = bits(text, start, 5, base32_digit, found)?;
    // Letters of both cases, and what goes on, are base64.
    let run = &text[start..end];
    let mixed = run.iter().any(u8::is_ascii_uppercase) && run.iter().any(u8::is_ascii_lowercase);
    let goes_on = text.get(end).is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, b'+' | b'/'));
    if mixed || goes_on { Err(start) } else { Ok(end) }
}

fn base64(text: &[u8], start: usize, found: &mut dyn FnMut(u8, Range<usize>)) -> Result<usize, usize> {
    bits(text, start, 6, base64_digit, found)
}

/// Letters of so many bits each, also on several lines, up to their padding.
fn bits(
    text: &[u8],
    start: usize,
    width: u32,
    value: impl Fn(u8) -> Option<u8>,
    found: &mut dyn FnMut(u8, Range<usize>),
) -> Result<usize, usize> {
    let mut judge = Judge::default();
    let (mut at, mut line, mut from, mut end) = (start, start, start, start);
    let (mut bits, mut held) = (0u32, 0u32);
    while let Some(byte) = text.get(at) {
        let Some(value) = value(*byte) else {
            if !matches!(byte, b'\n' | b'\r') || at - line < LINE {
                break;
            }
            at += text[at..].iter().take(8).take_while(|byte| byte.is_ascii_whitespace()).count();
            line = at;
            continue;
        };
        if held == 0 {
            from = at;
        }
        bits = bits << width | u32::from(value);
        held += width;
        at += 1;
        if held >= 8 {
            held -= 8;
            let byte = (bits >> held & 0xFF) as u8;
            if !judge.accepts(byte) {
                break;
            }
            found(byte, from..at);
            (from, end) = (at - 1, at);
        }
    }
    while end < text.len() && text[end] == b'=' {
        end += 1;
    }
    let passed = if judge.seen >= JUDGED { at } else { start };
    if judge.is_text() && judge.seen > LEAST { Ok(end) } else { Err(passed) }
}

/// Judges bytes one by one: UTF-8 without control characters, and mostly letters, digits and blanks.
#[derive(Default)]
struct Judge {
    awaited: u8,
    seen: usize,
    good: usize,
}

impl Judge {
    fn accepts(&mut self, byte: u8) -> bool {
        super::step(1);
        match byte {
            0x80..=0xBF if self.awaited > 0 => self.awaited -= 1,
            _ if self.awaited > 0 => return false,
            b' '..=b'~' | b'\t' | b'\n' | b'\r' => {}
            0xC2..=0xDF => self.awaited = 1,
            0xE0..=0xEF => self.awaited = 2,
            0xF0..=0xF4 => self.awaited = 3,
            _ => return false,
        }
        self.seen += 1;
        self.good += usize::from(byte.is_ascii_alphanumeric() || byte == b' ' || byte >= 0x80);
        self.seen != JUDGED || self.is_text()
    }

    const fn is_text(&self) -> bool {
        self.good * 4 >= self.seen * 3
    }
}
