//! The pass that ends at once for most text: signs that a piece may be read otherwise. Blocks of 64 bytes in vector code; only blocks
//! that stand out are counted.

use std::ops::Range;

use super::{encoded, signs};
use crate::detect::blocks::{self, BLOCK};
use crate::detect::words::{KeySet, key_of};
pub(in crate::detect) use crate::domain::View as Kind;

/// What is looked at before and behind a block that stands out: a run may begin there. Digits for letters are told by the words
/// around.
const fn reach(kind: Kind) -> usize {
    match kind {
        Kind::Leetspeak => 3 * BLOCK,
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

/// Every one, in the order in which they are read.
pub(in crate::detect) const KINDS: [Kind; 11] = [
    Kind::Encoded,
    Kind::LettersApart,
    Kind::Leetspeak,
    Kind::WordPerLine,
    Kind::Reversed,
    Kind::Rot13,
    Kind::Caesar,
    Kind::Morse,
    Kind::Spelling,
    Kind::WordOrder,
    Kind::Pieces,
];

/// Words that are common only when they are read otherwise.
#[derive(Clone, Copy, Default)]
pub(in crate::detect) struct Clues {
    reversed: u32,
    rot13: u32,
    counts: signs::Counts,
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
        let word = word_at(text, at);
        let is = |words: &[&str]| words.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(word));
        self.reversed += u32::from(is(REVERSED));
        self.rot13 += u32::from(is(ROT13));
    }

    /// Counts a word if it is one in another spelling or another alphabet.
    pub(in crate::detect) fn scrambled(&mut self, text: &[u8], at: usize) {
        self.counts.word(word_at(text, at), at);
    }

    /// Counts two words if they are one of the pairs.
    pub(in crate::detect) fn pair(&mut self, text: &[u8], at: usize) {
        let words = text.get(at..).unwrap_or_default();
        self.counts.pair(words.get(..words.len().min(32)).unwrap_or_default(), at);
    }
}

/// The letters at `at`, as far as they count.
fn word_at(text: &[u8], at: usize) -> &[u8] {
    let word = text.get(at..).unwrap_or_default();
    let len = word.iter().take(16).take_while(|byte| byte.is_ascii_alphabetic()).count();
    word.get(..len).unwrap_or_default()
}

/// Where a piece may be read otherwise.
pub(in crate::detect) struct Hints {
    /// Blocks that stand out, ascending, with a bit for each [`Kind`].
    hot: Vec<(usize, u16)>,
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
    let said = clues.reversed >= WORDS || clues.rot13 >= WORDS || clues.counts.any();
    (said || !hot.is_empty()).then_some(Hints { hot, clues, len: text.len() })
}

impl Hints {
    /// The families of decoders that should look, and where: the blocks that stand out, and a little around.
    pub(in crate::detect) fn regions(&self) -> impl Iterator<Item = (Kind, Vec<Range<usize>>)> {
        let told = self.hot.iter().fold(0, |all, (_, kinds)| all | kinds);
        let is_told = move |kind: &Kind| told & bit(*kind) != 0 || self.is_said(*kind);
        KINDS.into_iter().filter(is_told).map(|kind| (kind, self.regions_of(kind)))
    }

    fn is_said(&self, kind: Kind) -> bool {
        match kind {
            Kind::Reversed => self.clues.reversed >= WORDS,
            Kind::Rot13 => self.clues.rot13 >= WORDS,
            kind => self.clues.counts.tell(kind),
        }
    }

    fn regions_of(&self, kind: Kind) -> Vec<Range<usize>> {
        let mut regions = Vec::new();
        if self.is_said(kind) {
            regions = self.clues.counts.places(kind, self.len);
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

pub(super) const fn bit(kind: Kind) -> u16 {
    1 << kind as u8
}

/// Calls `found` with the blocks that stand out.
fn blocks(text: &[u8], mut found: impl FnMut(usize, u16)) {
    // How many letters and digits the block before ended with.
    let mut before = 0;
    blocks::each(text, |at, block| {
        let digits = blocks::digits(block);
        let words = digits | blocks::ascii_letters(block);
        let lines = blocks::lines(block);
        let alone = words & !(words << 1) & !(words >> 1);
        let run = has_run(words) || before + words.trailing_ones() >= RUN;
        before = words.leading_ones();
        let mut kinds = if run { bit(Kind::Encoded) } else { 0 };
        let touching = digits & (words & !digits) >> 1;
        // Most blocks have few of any.
        if touching != 0 || (alone | lines).count_ones() >= LINES || digits.count_ones() >= DIGITS {
            kinds |= counted(digits, words, alone, touching, lines);
        }
        if words << (BLOCK / 2) == 0 || words >> (BLOCK / 2) == 0 {
            kinds |= morse(block, words);
        }
        let mut signs = blocks::signs(block);
        while signs != 0 {
            kinds |= signs::sign(text, at + signs.trailing_zeros() as usize).map_or(0, bit);
            signs &= signs - 1;
        }
        if kinds != 0 {
            found(at / BLOCK, kinds);
        }
    });
}

/// What stands out in a block for how many there are of a kind.
#[inline(never)]
fn counted(digits: u64, words: u64, alone: u64, touching: u64, lines: u64) -> u16 {
    let flag = |holds: bool, kind| if holds { bit(kind) } else { 0 };
    let lines = lines.count_ones();
    let listed = lines >= LINES && (words & !(words << 1)).count_ones() <= lines + 2;
    flag(digits.count_ones() >= DIGITS, Kind::Encoded)
        | flag(alone.count_ones() >= ALONE, Kind::LettersApart)
        | flag(listed, Kind::WordPerLine)
        | flag(touching.count_ones() >= TOUCHING, Kind::Leetspeak)
}

/// Whether half of a block without letters in it may be Morse.
#[inline(never)]
fn morse(block: &[u8; BLOCK], words: u64) -> u16 {
    let strokes = blocks::strokes(block);
    let half =
        |words: u64, strokes: u64, text: &[u8]| words == 0 && strokes.count_ones() >= 6 && signs::looks_morse(text);
    let (head, tail) = block.split_at(BLOCK / 2);
    let low = BLOCK / 2;
    let holds = half(words << low, strokes << low, head) || half(words >> low, strokes >> low, tail);
    if holds { bit(Kind::Morse) } else { 0 }
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
