//! The pass that ends at once for most text: signs that a piece may be read otherwise. Blocks of 64 bytes in vector code; only blocks
//! that stand out are counted.

use std::ops::Range;

use super::encoded;
use crate::detect::blocks::{self, BLOCK};
use crate::detect::words::{KeySet, key_of};

/// What is looked at before and behind a block that stands out: a run may begin there. Digits for letters are told by the words
/// around.
const fn reach(kind: Kind) -> usize {
    match kind {
        Kind::Leet => 3 * BLOCK,
        _ => BLOCK,
    }
}
/// Letters and digits in a row that may be an encoding.
const RUN: u32 = 20;
/// Letters and digits that stand alone, in a block.
const ALONE: u32 = 7;
/// Digits right before a letter, in a block.
const TOUCHING: u32 = 3;
/// Digits of a block in which little else stands.
const DIGITS: u32 = 20;
/// Ends of lines, in a block.
const LINES: u32 = 5;
/// Words in another reading, in a piece.
const WORDS: u32 = 2;

/// A family of decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detect) enum Kind {
    /// Base64, hexadecimal, percent, entities, escapes.
    Encoded,
    /// Letters with something between them.
    Spaced,
    /// Digits in the place of letters.
    Leet,
    /// One word a line.
    Lines,
    Reversed,
    Rot13,
}

/// Words that are common only when they are read otherwise.
#[derive(Clone, Copy, Default)]
pub(in crate::detect) struct Clues {
    reversed: u32,
    rot13: u32,
}

const REVERSED: &[&str] = &[
    "eht",
    "dna",
    "uoy",
    "ruoy",
    "lla",
    "taht",
    "siht",
    "htiw",
    "tahw",
    "erongi",
    "suoiverp",
    "snoitcurtsni",
    "metsys",
    "tpmorp",
    "selur",
    "senilediug",
    "morf",
    "won",
    "tuohtiw",
    "laever",
    "egassem",
    "tnatsissa",
    "woh",
    "ro",
    "ot",
];
const ROT13: &[&str] = &[
    "gur",
    "naq",
    "lbh",
    "lbhe",
    "nyy",
    "gung",
    "guvf",
    "jvgu",
    "jung",
    "vtaber",
    "cerivbhf",
    "vafgehpgvbaf",
    "flfgrz",
    "cebzcg",
    "ehyrf",
    "thvqryvarf",
    "sebz",
    "abj",
    "jvgubhg",
    "erirny",
    "zrffntr",
    "nffvfgnag",
    "ubj",
    "gb",
    "bs",
];

/// Keys of the words at which [`Clues::word`] must be asked.
pub(in crate::detect) fn clue_keys() -> KeySet {
    let mut keys = KeySet::new();
    REVERSED.iter().chain(ROT13).for_each(|word| keys.insert(key_of(word.as_bytes())));
    keys
}

impl Clues {
    /// Counts a word if it is one.
    pub(in crate::detect) fn word(&mut self, text: &[u8], at: usize) {
        let word = text.get(at..).unwrap_or_default();
        let len = word.iter().take(16).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = word.get(..len).unwrap_or_default();
        let is = |words: &[&str]| words.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(word));
        self.reversed += u32::from(is(REVERSED));
        self.rot13 += u32::from(is(ROT13));
    }
}

/// Where a piece may be read otherwise.
pub(in crate::detect) struct Hints {
    /// Blocks that stand out, ascending, with a bit for each [`Kind`].
    hot: Vec<(usize, u8)>,
    clues: Clues,
    len: usize,
}

/// Looks for signs of another reading; nothing for most text.
pub(in crate::detect) fn hints(text: &[u8], clues: Clues) -> Option<Hints> {
    let mut hot = Vec::new();
    blocks(text, |block, kinds| hot.push((block, kinds)));
    let plain = hot.len();
    encoded::each_escape(text, |at| {
        let here = (at / BLOCK, bit(Kind::Encoded));
        if hot.len() == plain || hot.last() != Some(&here) {
            hot.push(here);
        }
    });
    if hot.len() > plain {
        hot.sort_unstable();
    }
    let said = clues.reversed >= WORDS || clues.rot13 >= WORDS;
    (said || !hot.is_empty()).then_some(Hints { hot, clues, len: text.len() })
}

impl Hints {
    /// The families of decoders that should look, and where: the blocks that stand out, and a little around.
    pub(in crate::detect) fn regions(&self) -> impl Iterator<Item = (Kind, Vec<Range<usize>>)> {
        const ALL: [Kind; 6] = [Kind::Encoded, Kind::Spaced, Kind::Leet, Kind::Lines, Kind::Reversed, Kind::Rot13];
        ALL.into_iter().map(|kind| (kind, self.regions_of(kind))).filter(|(_, regions)| !regions.is_empty())
    }

    fn regions_of(&self, kind: Kind) -> Vec<Range<usize>> {
        let mut regions: Vec<Range<usize>> = Vec::new();
        if kind == Kind::Reversed && self.clues.reversed >= WORDS || kind == Kind::Rot13 && self.clues.rot13 >= WORDS {
            regions.push(0..self.len);
        }
        for (block, _) in self.hot.iter().filter(|(_, kinds)| kinds & bit(kind) != 0) {
            let start = (block * BLOCK).saturating_sub(reach(kind));
            let end = ((block + 1) * BLOCK + reach(kind)).min(self.len);
            match regions.last_mut() {
                Some(last) if start <= last.end => last.end = end,
                _ => regions.push(start..end),
            }
        }
        regions
    }
}

const fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}

/// Calls `found` with the blocks that stand out.
fn blocks(text: &[u8], mut found: impl FnMut(usize, u8)) {
    // How many letters and digits the block before ended with.
    let mut before = 0;
    blocks::each(text, |at, block| {
        let digits = blocks::digits(block);
        let words = digits | blocks::ascii_letters(block);
        let lines = blocks::lines(block);
        let alone = (words & !(words << 1) & !(words >> 1)).count_ones() >= ALONE;
        let digit_count = if digits == 0 { 0 } else { digits.count_ones() };
        let encoded = has_run(words) || before + words.trailing_ones() >= RUN || digit_count >= DIGITS;
        before = if words == u64::MAX { RUN } else { words.leading_ones() };
        let line_count = if lines & lines.wrapping_sub(1) == 0 { 0 } else { lines.count_ones() };
        let listed = line_count >= LINES && (words & !(words << 1)).count_ones() <= line_count + 2;
        let touching = digit_count >= TOUCHING && (digits & (words & !digits) >> 1).count_ones() >= TOUCHING;
        let flag = |holds: bool, kind| if holds { bit(kind) } else { 0 };
        let kinds = flag(encoded, Kind::Encoded)
            | flag(alone, Kind::Spaced)
            | flag(listed, Kind::Lines)
            | flag(touching, Kind::Leet);
        if kinds != 0 {
            found(at / BLOCK, kinds);
        }
    });
}

/// Whether [`RUN`] bits in a row are set.
const fn has_run(mask: u64) -> bool {
    let mut runs = mask & mask >> 1;
    runs &= runs >> 2;
    runs &= runs >> 4;
    runs &= runs >> 8;
    runs & runs >> (RUN - 16) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_prose_and_plain_code_end_here() {
        for text in [
            "The committee met on Tuesday and discussed the budget for 2024, which grew by 3.5 percent over the previous year.",
            "Please call me at +1 212 555 0147, or write to a@b.example (room 12b). 100 % sure & done.",
            "fn main() {\n    let total = items.iter().map(|i| i.price).sum::<f64>();\n    println!(\"{total}\");\n}\n",
        ] {
            assert!(hints(text.as_bytes(), Clues::default()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_run_is_met_at_every_place() {
        let encoded = |text: String| {
            let mut any = false;
            blocks(text.as_bytes(), |_, kinds| any |= kinds & bit(Kind::Encoded) != 0);
            any
        };
        for pad in 0..130 {
            assert!(encoded(format!("{}{} y", " ".repeat(pad), "x".repeat(20))), "{pad}");
            assert!(!encoded(format!("{}{} y", " ".repeat(pad), "x".repeat(19))), "{pad}");
        }
    }
}
