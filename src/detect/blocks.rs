//! Which bytes of a block of 64 are of a kind, one bit each.

use std::ops::Range;

use wide::i8x16;

/// How many bytes a block has.
pub(super) const BLOCK: usize = 64;

/// Kinds of bytes that words are made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Masks {
    /// ASCII letters and everything outside of ASCII.
    pub letters: u64,
    pub capitals: u64,
    /// Bytes outside of ASCII.
    pub wide: u64,
    /// Lead bytes of three and more: at them a word may start whatever precedes.
    pub anywhere: u64,
}

/// The first byte in `from..to` of a kind that zero is not of, if `accepts` takes it.
#[inline]
pub(super) fn first_from(
    text: &[u8],
    from: usize,
    to: usize,
    kind: impl Fn(&[u8; BLOCK]) -> u64,
    accepts: impl Fn(usize) -> bool,
) -> Option<usize> {
    let (blocks, rest) = text.get(from..to)?.as_chunks::<BLOCK>();
    let first = |at: usize, mut mask: u64| {
        while mask != 0 {
            let found = at + mask.trailing_zeros() as usize;
            if accepts(found) {
                return Some(found);
            }
            mask &= mask - 1;
        }
        None
    };
    let mut at = from;
    for block in blocks {
        if let Some(found) = first(at, kind(block)) {
            return Some(found);
        }
        at += BLOCK;
    }
    first(at, kind(&padded(rest)))
}

/// Finds bytes of a kind for questions that ascend: no block is looked at more than twice, however many stand in it and however far
/// apart they are.
pub(super) struct Finder<'t, K> {
    text: &'t [u8],
    kind: K,
    /// Where the block that was looked at last begins, and the bytes of the kind in it.
    base: usize,
    mask: u64,
    /// Bytes that are known not to be of the kind.
    clear: Range<usize>,
}

impl<'t, K: Fn(&[u8; BLOCK]) -> u64> Finder<'t, K> {
    pub(super) fn new(text: &'t [u8], kind: K) -> Self {
        Self { text, kind, base: usize::MAX, mask: 0, clear: 0..0 }
    }

    /// The first one in `from..to`.
    #[inline]
    pub(super) fn next(&mut self, from: usize, to: usize) -> Option<usize> {
        let to = to.min(self.text.len());
        if !(self.clear.start..=self.clear.end).contains(&from) {
            self.clear = from..from;
        }
        while self.clear.end < to {
            let base = self.clear.end & !(BLOCK - 1);
            if base != self.base {
                let rest = self.text.get(base..).unwrap_or_default();
                self.base = base;
                self.mask = match rest.first_chunk() {
                    Some(block) => (self.kind)(block),
                    None => (self.kind)(&padded(rest)),
                };
            }
            let mask = self.mask >> (self.clear.end - base);
            if mask != 0 {
                self.clear.end += mask.trailing_zeros() as usize;
                return Some(self.clear.end).filter(|found| *found < to);
            }
            self.clear.end = base + BLOCK;
        }
        None
    }
}

/// The last byte of a kind in `from..to`, if `accepts` takes it.
#[inline]
pub(super) fn last_before(
    text: &[u8],
    from: usize,
    to: usize,
    kind: impl Fn(&[u8; BLOCK]) -> u64,
    accepts: impl Fn(usize) -> bool,
) -> Option<usize> {
    let (rest, blocks) = text.get(from..to)?.as_rchunks::<BLOCK>();
    let last = |at: usize, mut mask: u64| {
        while mask != 0 {
            let bit = mask.ilog2();
            if accepts(at + bit as usize) {
                return Some(at + bit as usize);
            }
            mask &= !(1 << bit);
        }
        None
    };
    let mut at = to;
    for block in blocks.iter().rev() {
        at -= BLOCK;
        if let Some(found) = last(at, kind(block)) {
            return Some(found);
        }
    }
    last(from, kind(&padded(rest)))
}

/// Calls `each` with every block and where it begins; the last is filled up with zeros.
#[inline]
pub(super) fn each(text: &[u8], mut each: impl FnMut(usize, &[u8; BLOCK])) {
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    let mut at = 0;
    for block in blocks {
        each(at, block);
        at += BLOCK;
    }
    if !rest.is_empty() {
        each(at, &padded(rest));
    }
}

/// Calls `found` for every byte of a kind that zero is not of.
#[inline]
pub(super) fn each_of(text: &[u8], kind: impl Fn(&[u8; BLOCK]) -> u64, mut found: impl FnMut(usize)) {
    each(text, |at, block| {
        let mut mask = kind(block);
        while mask != 0 {
            found(at + mask.trailing_zeros() as usize);
            mask &= mask - 1;
        }
    });
}

/// How many bytes are of a kind that zero is not of.
#[inline]
pub(super) fn count(text: &[u8], kind: impl Fn(&[u8; BLOCK]) -> u64) -> usize {
    let mut count = 0;
    each(text, |_, block| count += kind(block).count_ones() as usize);
    count
}

/// A short block, filled up with zeros.
#[inline]
pub(super) fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    if let Some(start) = block.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    block
}

type Lanes = [i8x16; 4];

#[inline(always)]
fn lanes(block: &[u8; BLOCK]) -> Lanes {
    bytemuck::must_cast(*block)
}

/// The highest bit of every byte.
#[inline(always)]
fn bits(lanes: Lanes) -> u64 {
    let [a, b, c, d] = lanes;
    let bits = |lane: i8x16| u64::from(lane.to_bitmask());
    bits(a) | bits(b) << 16 | bits(c) << 32 | bits(d) << 48
}

#[inline(always)]
fn is(lane: i8x16, byte: u8) -> i8x16 {
    lane.simd_eq(i8x16::splat(byte.cast_signed()))
}

/// Between two bytes, both included: moved so that the first is the lowest of all signed numbers.
#[inline(always)]
fn within(lane: i8x16, first: u8, last: u8) -> i8x16 {
    let (lowest, beyond) = (0x80u8.wrapping_sub(first), 0x80u8.wrapping_add(last - first + 1));
    i8x16::splat(beyond.cast_signed()).simd_gt(lane + i8x16::splat(lowest.cast_signed()))
}

#[inline(always)]
pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
    let lanes = lanes(block);
    let small = i8x16::splat(0x20);
    let wide = bits(lanes);
    let anywhere = match wide {
        0 => 0,
        _ => bits(lanes.map(|lane| lane & lane.simd_gt(i8x16::splat(0xDFu8.cast_signed())))),
    };
    Masks {
        letters: bits(lanes.map(|lane| within(lane | small, b'a', b'z'))) | wide,
        capitals: bits(lanes.map(|lane| within(lane, b'A', b'Z'))),
        wide,
        anywhere,
    }
}

/// Lead bytes of characters outside of ASCII.
#[inline(always)]
pub(super) fn leads(block: &[u8; BLOCK]) -> u64 {
    let lanes = lanes(block);
    match bits(lanes) {
        0 => 0,
        _ => bits(lanes.map(|lane| within(lane, 0xC0, 0xFF))),
    }
}

/// The same without those of scripts that have no case and nothing odd: Hebrew, Arabic but for its first letters, Indic scripts
/// and Thai, ideographs, Hangul.
#[inline(always)]
pub(super) fn odd_leads(block: &[u8; BLOCK]) -> u64 {
    let lanes = lanes(block);
    match bits(lanes) {
        0 => 0,
        _ => {
            let plain = |lane| is(lane, 0xD7) | is(lane, 0xE0) | within(lane, 0xD9, 0xDF) | within(lane, 0xE4, 0xED);
            bits(lanes.map(|lane| within(lane, 0xC0, 0xFF) & !plain(lane)))
        }
    }
}

/// White space of ASCII.
#[inline(always)]
pub(super) fn blanks(block: &[u8; BLOCK]) -> u64 {
    let lanes = lanes(block);
    bits(lanes.map(|lane| is(lane, b' ') | within(lane, b'\t', b'\n') | within(lane, 0x0C, b'\r')))
}

#[inline(always)]
pub(super) fn lines(block: &[u8; BLOCK]) -> u64 {
    bits(lanes(block).map(|lane| is(lane, b'\n')))
}

/// Letters and digits of ASCII.
#[inline(always)]
pub(super) fn alphanumeric(block: &[u8; BLOCK]) -> u64 {
    digits(block) | ascii_letters(block)
}

/// Letters of ASCII.
#[inline(always)]
pub(super) fn ascii_letters(block: &[u8; BLOCK]) -> u64 {
    let small = i8x16::splat(0x20);
    bits(lanes(block).map(|lane| within(lane | small, b'a', b'z')))
}

#[inline(always)]
pub(super) fn digits(block: &[u8; BLOCK]) -> u64 {
    bits(lanes(block).map(|lane| within(lane, b'0', b'9')))
}

/// Bytes that can be the last of a sentence.
#[inline(always)]
pub(super) fn ends(block: &[u8; BLOCK]) -> u64 {
    let lanes = lanes(block);
    let ascii = bits(lanes.map(|lane| is(lane, b'.') | is(lane, b'!') | is(lane, b'?') | is(lane, b'\n')));
    let others = match bits(lanes) {
        0 => 0,
        _ => bits(lanes.map(|lane| is(lane, 0x82) | is(lane, 0x81) | is(lane, 0x9F))),
    };
    ascii | others
}

/// Printed ASCII, letters and all.
#[inline(always)]
pub(super) fn printed(block: &[u8; BLOCK]) -> u64 {
    bits(lanes(block).map(|lane| within(lane, b'!', b'~')))
}

#[inline(always)]
pub(super) fn colons(block: &[u8; BLOCK]) -> u64 {
    bits(lanes(block).map(|lane| is(lane, b':')))
}

/// The byte that escapes of quoted-printable begin with.
#[inline(always)]
pub(super) fn equals(block: &[u8; BLOCK]) -> u64 {
    bits(lanes(block).map(|lane| is(lane, b'=')))
}

/// Semicolons, angle brackets that open, equals signs and plus signs.
#[inline(always)]
pub(super) fn signs(block: &[u8; BLOCK]) -> u64 {
    bits(lanes(block).map(|lane| within(lane, b';', b'=') | is(lane, b'+')))
}

/// Dots and dashes.
#[inline(always)]
pub(super) fn strokes(block: &[u8; BLOCK]) -> u64 {
    bits(lanes(block).map(|lane| within(lane, b'-', b'.')))
}

/// Bytes that other escapes begin with.
#[inline(always)]
pub(super) fn escapes(block: &[u8; BLOCK]) -> u64 {
    bits(lanes(block).map(|lane| is(lane, b'%') | is(lane, b'&') | is(lane, b'\\')))
}

/// The same, byte by byte.
#[cfg(test)]
mod plain {
    use super::{BLOCK, Masks};
    use crate::detect::words::{is_letter, starts_anywhere};

    fn mask(block: &[u8; BLOCK], kind: impl Fn(u8) -> bool) -> u64 {
        block.iter().rev().fold(0, |mask, byte| mask << 1 | u64::from(kind(*byte)))
    }

    pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
        Masks {
            letters: mask(block, is_letter),
            capitals: mask(block, |byte| byte.is_ascii_uppercase()),
            wide: mask(block, |byte| !byte.is_ascii()),
            anywhere: mask(block, starts_anywhere),
        }
    }

    pub(super) fn digits(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte.is_ascii_digit())
    }

    pub(super) fn printed(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte.is_ascii_graphic())
    }

    pub(super) fn ascii_letters(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte.is_ascii_alphabetic())
    }

    pub(super) fn leads(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte >= 0xC0)
    }

    pub(super) fn odd_leads(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte >= 0xC0 && !matches!(byte, 0xD7 | 0xD9..=0xDF | 0xE0 | 0xE4..=0xED))
    }

    pub(super) fn blanks(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte.is_ascii_whitespace())
    }

    pub(super) fn lines(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte == b'\n')
    }

    pub(super) fn equals(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| byte == b'=')
    }

    pub(super) fn signs(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| matches!(byte, b';' | b'<' | b'=' | b'+'))
    }

    pub(super) fn strokes(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| matches!(byte, b'-' | b'.'))
    }

    pub(super) fn escapes(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| matches!(byte, b'%' | b'&' | b'\\'))
    }

    pub(super) fn ends(block: &[u8; BLOCK]) -> u64 {
        mask(block, |byte| matches!(byte, b'.' | b'!' | b'?' | b'\n' | 0x82 | 0x81 | 0x9F))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_of_the_same_kinds_in_every_place() {
        for byte in 0..=255u8 {
            for other in [0, b'a', b'Z', b'.', 0xE5] {
                for at in 0..BLOCK {
                    let mut block = [other; BLOCK];
                    block[at] = byte;
                    assert_eq!(masks(&block), plain::masks(&block));
                    assert_eq!(digits(&block), plain::digits(&block));
                    assert_eq!(ends(&block), plain::ends(&block));
                    assert_eq!(printed(&block), plain::printed(&block));
                    assert_eq!(ascii_letters(&block), plain::ascii_letters(&block));
                    assert_eq!(leads(&block), plain::leads(&block));
                    assert_eq!(odd_leads(&block), plain::odd_leads(&block));
                    assert_eq!(lines(&block), plain::lines(&block));
                    assert_eq!(blanks(&block), plain::blanks(&block));
                    assert_eq!(escapes(&block), plain::escapes(&block));
                    assert_eq!(equals(&block), plain::equals(&block));
                    assert_eq!(signs(&block), plain::signs(&block));
                    assert_eq!(strokes(&block), plain::strokes(&block));
                }
            }
        }
    }

    #[test]
    fn bytes_of_a_kind_are_found_in_any_block() {
        for len in 1..200 {
            for at in 0..len {
                let mut text = vec![b':'; len];
                text[at] = b'7';
                text[len / 2] = b'7';
                let first = |from, accepts: bool| first_from(&text, from, len, digits, |found| accepts || found == at);
                let last = |to, accepts: bool| last_before(&text, 0, to, digits, |found| accepts || found == at);
                assert_eq!((first(0, true), first(0, false)), (Some(at.min(len / 2)), Some(at)));
                let mut finder = Finder::new(&text, digits);
                let (one, other) = (at.min(len / 2), at.max(len / 2));
                assert_eq!(finder.next(0, one), None);
                assert_eq!(finder.next(0, len), Some(one));
                assert_eq!(finder.next(one + 1, len), (other > one).then_some(other));
                assert_eq!(finder.next(other + 1, len), None);
                assert_eq!(finder.next(0, len), Some(one));
                let mut all = Vec::new();
                each_of(&text, digits, |found| all.push(found));
                assert_eq!((all.first(), all.last()), (Some(&at.min(len / 2)), Some(&at.max(len / 2))));
                assert_eq!(colons(&padded(&[b':'; 3])), 7);
                assert_eq!(count(&text, digits), if at == len / 2 { 1 } else { 2 });
                assert_eq!((last(len, true), last(len, false)), (Some(at.max(len / 2)), Some(at)));
                assert_eq!((first(at + 1, false), last(at, false)), (None, None));
            }
        }
    }
}
