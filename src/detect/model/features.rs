//! What the model sees of a text: one pass over its bytes, the same for training and for scoring.
#![expect(
    clippy::indexing_slicing,
    reason = "positions are below the length of the text; windows end where their table does"
)]

use std::ops::Range;

use crate::detect::blocks;
use crate::domain::Role;

/// Buckets of hashed words and character sequences.
pub(super) const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 18;
/// Word groups that the lexicon can number.
const GROUPS: usize = 64;
/// Structural features, see [`Shape`].
const SHAPES: usize = 16;
/// Group present, group behind group, shape, shape with group.
pub(super) const CONCEPTS: usize = GROUPS + GROUPS * GROUPS + SHAPES + SHAPES * GROUPS;

/// A unit without an end is cut here, in bytes.
const LONGEST: usize = 400;
/// Units shorter than this go on with the next sentence, in bytes.
const SHORTEST: usize = 24;

/// Who speaks, as far as it matters to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speaker {
    User,
    /// Developers: system prompts and tool definitions.
    System,
    /// Data from outside.
    Tool,
    Assistant,
}

impl Speaker {
    pub const ALL: [Self; 4] = [Self::User, Self::System, Self::Tool, Self::Assistant];

    #[must_use]
    pub const fn of(role: Role) -> Self {
        match role {
            Role::User | Role::Other => Self::User,
            Role::System | Role::ToolDefinition => Self::System,
            Role::Tool => Self::Tool,
            Role::Assistant => Self::Assistant,
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
            Self::Tool => "tool",
            Self::Assistant => "assistant",
        }
    }
}

/// Features of a unit that are no words.
pub(super) struct Shape;

impl Shape {
    const URL: u32 = 0;
    const MAIL: u32 = 1;
    const NUMBER: u32 = 2;
    const SHOUTING: u32 = 3;
    const EXCLAIMS: u32 = 4;
    const ASKS: u32 = 5;
    const QUOTES: u32 = 6;
    const TEMPLATE: u32 = 7;
    const BRACKETS: u32 = 8;
    const CODE: u32 = 9;
    const LIST: u32 = 10;
    const COLON: u32 = 11;
    const FOREIGN: u32 = 12;
    const SHORT: u32 = 13;
    const IMAGE: u32 = 14;
    const VARIABLE: u32 = 15;

    /// One bit per feature that the bytes have.
    fn of(text: &[u8]) -> u32 {
        let (mut letters, mut capitals, mut wide, mut digits, mut longest, mut marks) =
            (0u32, 0u32, 0u32, 0u32, 0u32, 0u32);
        let mut bits = 0;
        // Behind the byte looked at last.
        let mut next = 0;
        let mut look = |i: usize| {
            let byte = text[i];
            let before = if i > 0 { text[i - 1] } else { b' ' };
            if i > next {
                digits = 0;
            }
            next = i + 1;
            match byte {
                b'0'..=b'9' => {
                    digits += 1;
                    longest = longest.max(digits);
                }
                b'-' if digits > 0 => {}
                b'!' => bits |= 1 << Self::EXCLAIMS,
                b'?' => bits |= 1 << Self::ASKS,
                b'"' => bits |= 1 << Self::QUOTES,
                b'@' if before.is_ascii_alphanumeric() && text.get(i + 1).is_some_and(u8::is_ascii_alphanumeric) => {
                    bits |= 1 << Self::MAIL
                }
                b'/' if before == b'/' && i > 1 && text[i - 2] == b':' => bits |= 1 << Self::URL,
                b'|' if matches!(before, b'<') || text.get(i + 1) == Some(&b'>') => bits |= 1 << Self::TEMPLATE,
                b'#' if before == b'#' && text.get(i + 1) == Some(&b'#') => bits |= 1 << Self::TEMPLATE,
                b'[' if before == b'!' => bits |= 1 << Self::IMAGE,
                b'[' => bits |= 1 << Self::BRACKETS,
                b'{' if before == b'{' || before == b'$' => bits |= 1 << Self::VARIABLE,
                b'{' | b'}' | b';' | b'=' | b'<' | b'>' | b'_' | b'(' => marks += 1,
                b':' if text.get(i + 1).is_none_or(u8::is_ascii_whitespace) => bits |= 1 << Self::COLON,
                _ => {}
            }
            if !byte.is_ascii_digit() && byte != b'-' {
                digits = 0;
            }
        };
        blocks::each(text, |at, block| {
            let masks = blocks::masks(block);
            letters += (masks.letters & !masks.wide).count_ones();
            capitals += masks.capitals.count_ones();
            wide += masks.wide.count_ones();
            let mut rest = blocks::printed(block) & !masks.letters;
            while rest != 0 {
                look(at + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        });
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX).max(1);
        let mut flag = |holds: bool, shape: u32| bits |= u32::from(holds) << shape;
        flag(longest >= 7, Self::NUMBER);
        flag(capitals * 2 > letters && letters > 6, Self::SHOUTING);
        flag(marks * 20 > len, Self::CODE);
        flag(matches!(text.first(), Some(b'-' | b'*' | b'0'..=b'9' | b'#')), Self::LIST);
        flag(wide * 3 > len, Self::FOREIGN);
        flag(len < 60, Self::SHORT);
        bits
    }
}

/// Whether a unit is mostly escapes: what it says is seen in a view where they are undone, not here.
pub(super) fn is_encoded(text: &[u8]) -> bool {
    blocks::count(text, blocks::escapes) * 12 > text.len()
}

/// Cuts a text into sentences and lines, short ones joined with what follows, long ones cut.
pub(super) fn units(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    let mut marks = blocks::Finder::new(text, blocks::ends);
    std::iter::from_fn(move || {
        from += text[from..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if from >= text.len() {
            return None;
        }
        let start = from;
        let most = text.len().min(start + LONGEST);
        let at = most.min(start + SHORTEST);
        let mut mark = marks.next(at, most);
        while let Some(last) = mark {
            if ends(text, last) {
                from = last + 1;
                return Some(start..from);
            }
            mark = marks.next(last + 1, most);
        }
        from = most;
        if most < text.len() {
            let tail = start + LONGEST / 2;
            if let Some(space) = text[tail..most].iter().rposition(|byte| matches!(byte, b' ' | b'\n' | b',')) {
                from = tail + space + 1;
            }
            while from > tail && (text[from] & 0xC0) == 0x80 {
                from -= 1;
            }
        }
        Some(start..from)
    })
}

/// Whether a sentence ends with the mark at `at`.
fn ends(text: &[u8], at: usize) -> bool {
    let next = text.get(at + 1).copied().unwrap_or(b' ');
    match text[at] {
        b'\n' => !next.is_ascii_lowercase(),
        // ideographic full stop
        0x82 => at >= 2 && text[at - 2] == 0xE3 && text[at - 1] == 0x80,
        0x80.. => false,
        _ => matches!(next, b' ' | b'\n' | b'"' | b'\'' | b')' | b'*' | b'<' | b'\\'),
    }
}

const PRIME: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline]
fn bucket(value: u64, salt: u64) -> u32 {
    ((value ^ salt).wrapping_mul(PRIME) >> (64 - BUCKET_BITS)) as u32
}

/// The symbol of each byte of ASCII, zero for others, and whether it is part of a word.
const SYMBOLS: [(u8, u8); 256] = {
    let mut symbols = [(0, 0); 256];
    let mut byte = 0u8;
    while byte < 128 {
        symbols[byte as usize] = match byte {
            b'a'..=b'z' => (byte, 1),
            b'A'..=b'Z' => (byte | 0x20, 1),
            b'0'..=b'9' => (b'0', 1),
            0..=b' ' => (b' ', 0),
            _ => (byte, 0),
        };
        byte += 1;
    }
    symbols
};

/// Calls `emit` with a bucket for every character sequence, word and pair of words of a unit.
#[inline]
pub(super) fn grams(text: &[u8], mut emit: impl FnMut(u32)) {
    // The last five symbols, twelve bits each; a space first.
    let mut last = u64::from(b' ');
    let mut seen = 1u32;
    let (mut word, mut previous) = (0u64, 0u64);
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        at += 1;
        let (symbol, kind) = match SYMBOLS[usize::from(byte)] {
            (0, _) => {
                let mut code = u64::from(byte);
                while at < text.len() && (text[at] & 0xC0) == 0x80 {
                    code = code << 8 | u64::from(text[at]);
                    at += 1;
                }
                (0x80 | (code.wrapping_mul(PRIME) >> 53), if byte >= 0xE0 { 2 } else { 1 })
            }
            (symbol, kind) => (u64::from(symbol), kind),
        };
        if symbol == u64::from(b' ') && last & 0xFFF == u64::from(b' ') {
            continue;
        }
        match kind {
            1 => word = (word ^ symbol).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(23),
            _ => {
                if word != 0 {
                    emit(bucket(word, 1));
                    emit(bucket(word ^ previous.rotate_left(21), 2));
                    (previous, word) = (word, 0);
                }
                if kind == 2 {
                    let own = (symbol + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
                    emit(bucket(own, 1));
                    emit(bucket(own ^ previous.rotate_left(21), 2));
                    previous = own;
                }
            }
        }
        last = last << 12 | symbol;
        if seen >= 4 {
            emit(bucket(last & 0xF_FFFF_FFFF, 3));
            emit(bucket(last & 0xFFFF_FFFF_FFFF, 4));
            emit(bucket(last & 0xFFF_FFFF_FFFF_FFFF, 5));
            continue;
        }
        seen += 1;
        if seen >= 3 {
            emit(bucket(last & 0xF_FFFF_FFFF, 3));
            if seen >= 4 {
                emit(bucket(last & 0xFFFF_FFFF_FFFF, 4));
            }
        }
    }
    if word != 0 {
        emit(bucket(word, 1));
        emit(bucket(word ^ previous.rotate_left(21), 2));
    }
}

/// Calls `emit` with the number of every concept of a unit. `present` and `before` are what the lexicon found: the groups, and for
/// each group those that stand closely before it.
pub(super) fn concepts(text: &[u8], present: u64, before: &[u64; GROUPS], mut emit: impl FnMut(u32)) {
    let shapes = Shape::of(text);
    each_bit(u64::from(shapes), |shape| emit(GROUP_PAIRS_END + shape));
    each_bit(present, |group| {
        emit(group);
        each_bit(before[group as usize & (GROUPS - 1)], |earlier| {
            emit(GROUPS as u32 + earlier * GROUPS as u32 + group)
        });
        each_bit(u64::from(shapes), |shape| emit(SHAPES_END + shape * GROUPS as u32 + group));
    });
}

const GROUP_PAIRS_END: u32 = (GROUPS + GROUPS * GROUPS) as u32;
const SHAPES_END: u32 = GROUP_PAIRS_END + SHAPES as u32;

fn each_bit(mut mask: u64, mut each: impl FnMut(u32)) {
    while mask != 0 {
        each(mask.trailing_zeros());
        mask &= mask - 1;
    }
}
