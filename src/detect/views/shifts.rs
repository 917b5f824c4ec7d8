//! Shifted alphabets.
#![expect(clippy::indexing_slicing, reason = "every position is below the length of the text")]

use super::Draft;

/// How many words of another alphabet there must be; a long one counts twice.
const SHIFTED: u32 = 2;

/// Words that tell a shifted alphabet.
const COMMON: &[&str] =
    &["the", "and", "you", "your", "that", "this", "with", "ignore", "previous", "instructions", "system", "prompt"];

/// The words of every shift whose first letters are signs.
pub(super) fn shifted_heads() -> impl Iterator<Item = Vec<u8>> {
    (1..26).flat_map(|by| COMMON.iter().map(move |word| word.bytes().map(|byte| turned(byte, by)).collect()))
}

/// By how much the alphabet of a word is shifted, and which of [`COMMON`] it is.
fn shift_of(word: &[u8]) -> Option<(u8, usize)> {
    let first = word.first()?.to_ascii_lowercase();
    let by = |known: &str| (26 + first - known.as_bytes()[0]) % 26;
    let is = |known: &&str| {
        known.len() == word.len()
            && by(known) != 0
            && known.bytes().zip(word).all(|(a, b)| turned(a, by(known)) == b.to_ascii_lowercase())
    };
    let number = first.is_ascii_lowercase().then(|| COMMON.iter().position(is)).flatten()?;
    Some((by(COMMON[number]), number))
}

const fn turned(byte: u8, by: u8) -> u8 {
    match byte {
        b'a'..=b'z' => (byte - b'a' + by) % 26 + b'a',
        b'A'..=b'Z' => (byte - b'A' + by) % 26 + b'A',
        _ => byte,
    }
}

/// A shifted alphabet, by the shift that the words tell most of.
pub(super) fn shift_back(text: &[u8], draft: &mut Draft) {
    let mut shifts = Shifts::default();
    text.split(|byte| !byte.is_ascii_alphabetic()).for_each(|word| shifts.note(word));
    if let Some(by) = shifts.told() {
        text.iter().enumerate().for_each(|(at, byte)| draft.decoded(turned(*byte, 26 - by), at..at + 1));
    }
}

/// Which of [`COMMON`] there are, a bit each, for each shift of the alphabet: a word of three letters may be another one by chance,
/// and be frequent.
#[derive(Clone, Copy, Default)]
pub(super) struct Shifts {
    words: [u16; 26],
    /// The shift that is told most of, and how much.
    most: (u8, u32),
}

impl Shifts {
    pub(super) fn note(&mut self, word: &[u8]) {
        if let Some((by, number)) = shift_of(word) {
            let own = &mut self.words[usize::from(by)];
            *own |= 1 << number;
            let weight = own.count_ones() + (*own & LONG).count_ones();
            if weight > self.most.1 {
                self.most = (by, weight);
            }
        }
    }

    /// The shift that is told most of, if it is told enough: by two words, or by a long one.
    pub(super) const fn told(&self) -> Option<u8> {
        if self.most.1 >= SHIFTED { Some(self.most.0) } else { None }
    }
}

/// Those of [`COMMON`] that no other word turns into.
const LONG: u16 = {
    let (mut long, mut number) = (0, 0);
    while number < COMMON.len() {
        long |= if COMMON[number].len() >= 6 { 1 << number } else { 0 };
        number += 1;
    }
    long
};
