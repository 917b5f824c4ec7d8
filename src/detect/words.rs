//! Where words start, eight bytes at a time, and which of them are worth a look: the first four letters of a word, in lower case,
//! choose a bit in a table of 2 KiB. This is the one pass over all bytes that tokens, assignments and injection rules share.
#![expect(
    clippy::indexing_slicing,
    reason = "hash bits are masked to the table's size; positions are below the length of the text"
)]

const HASH_BITS: u32 = 14;
const WORDS: usize = 1 << (HASH_BITS - 6);

/// A set of keys; says yes to every member and to few others.
#[derive(Clone)]
pub(super) struct KeySet(Box<[u64; WORDS]>);

impl KeySet {
    pub(super) fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    pub(super) fn insert(&mut self, key: u32) {
        let bit = hash(key);
        self.0[(bit >> 6) as usize] |= 1 << (bit & 63);
    }

    #[inline]
    pub(super) fn may_hold(&self, key: u32) -> bool {
        let bit = hash(key);
        self.0[(bit >> 6) as usize] >> (bit & 63) & 1 == 1
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(own, other)| *own |= other);
    }
}

#[inline]
fn hash(key: u32) -> u32 {
    key.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)
}

/// ASCII letters and everything outside of ASCII (folded text has its punctuation blanked).
#[inline]
pub(super) const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0x80
}

/// Lead bytes of scripts written without spaces, and of others with three bytes a letter, for which the extra starts do no harm.
pub(super) const fn starts_anywhere(byte: u8) -> bool {
    byte >= 0xE0
}

/// The key of a word: up to four letters, without their case.
pub(super) fn key_of(word: &[u8]) -> u32 {
    let mut bytes = [0u8; 4];
    for (slot, byte) in bytes.iter_mut().zip(word.iter().take_while(|b| is_letter(**b))) {
        *slot = byte | 0x20;
    }
    u32::from_le_bytes(bytes)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// One bit per byte from the high bits of eight.
#[inline]
fn squeeze(high: u64) -> u64 {
    ((high >> 7).wrapping_mul(0x0102_0408_1020_4080)) >> 56
}

/// Bit masks of a block of 64 bytes.
#[derive(Default)]
struct Masks {
    letters: u64,
    capitals: u64,
    /// Bytes outside of ASCII.
    wide: u64,
    /// Bytes at which a word may start whatever precedes.
    anywhere: u64,
}

#[inline]
fn masks(block: &[u8; 64]) -> Masks {
    let mut masks = Masks::default();
    for (i, eight) in block.as_chunks::<8>().0.iter().enumerate() {
        let x = u64::from_le_bytes(*eight);
        let low = x & !HIGH;
        let lower = low | ONES * 0x20;
        let letter = (lower + ONES * (0x80 - 0x61)) & !(lower + ONES * (0x80 - 0x7B)) & HIGH & !x;
        let capital = letter & !(x << 2);
        masks.letters |= squeeze(letter | x & HIGH) << (i * 8);
        masks.capitals |= squeeze(capital) << (i * 8);
        if x & HIGH != 0 {
            masks.wide |= squeeze(x & HIGH) << (i * 8);
            masks.anywhere |= squeeze(x & (x << 1) & (x << 2) & HIGH) << (i * 8);
        }
    }
    masks
}

/// Calls `found(at, key, word number)` for word starts whose key may be in `keys`. A word starts at a letter behind none, at a
/// capital behind a small letter, at an ASCII letter behind another script, and at every character of scripts without spaces.
#[inline]
pub(super) fn each_word(text: &[u8], keys: &KeySet, mut found: impl FnMut(usize, u32, u32)) {
    let (mut letter_before, mut small_before, mut wide_before, mut words, mut characters) =
        (0u64, 0u64, 0u64, 0u32, 0u32);
    let mut base = 0;
    while base < text.len() {
        let mut padded = [0u8; 64];
        let block = match text[base..].first_chunk::<64>() {
            Some(block) => block,
            None => {
                padded[..text.len() - base].copy_from_slice(&text[base..]);
                &padded
            }
        };
        let Masks { letters, capitals, wide, anywhere } = masks(block);
        let small = letters & !capitals & !wide;
        let mut starts = letters & !(letters << 1 | letter_before) | capitals & (small << 1 | small_before);
        if wide | wide_before != 0 {
            starts |= anywhere | letters & !wide & (wide << 1 | wide_before);
        }
        letter_before = letters >> 63;
        small_before = small >> 63;
        wide_before = wide >> 63;
        while starts != 0 {
            let bit = starts.trailing_zeros();
            starts &= starts - 1;
            if anywhere >> bit & 1 == 0 {
                words += 1;
            } else {
                characters += 1;
            }
            let at = base + bit as usize;
            let key = if bit <= 60 {
                let run = (!(letters >> bit)).trailing_zeros().min(4);
                let from = bit as usize;
                let window = u32::from_le_bytes([block[from], block[from + 1], block[from + 2], block[from + 3]]);
                // `run` is 1 to 4: bytes behind the word are cut off.
                (window | 0x2020_2020) & (u32::MAX >> (32 - 8 * run))
            } else {
                key_of(&text[at..text.len().min(at + 4)])
            };
            if keys.may_hold(key) {
                // Where words have no edges, three characters count as one word.
                found(at, key, words + characters / 3);
            }
        }
        base += 64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(text: &str, word: &str) -> Vec<usize> {
        let mut keys = KeySet::new();
        keys.insert(key_of(word.as_bytes()));
        let mut found = Vec::new();
        each_word(text.as_bytes(), &keys, |at, _, _| found.push(at));
        found
    }

    #[test]
    fn words_start_behind_what_is_no_letter_and_at_capitals() {
        assert_eq!(starts("DB_PASSWORD dbPassword password, xpassword", "pass"), [3, 14, 23]);
        for pad in 0..130 {
            assert_eq!(starts(&format!("{}Ignore", ".".repeat(pad)), "ignore"), [pad]);
            assert!(starts(&format!("{}xignore", ".".repeat(pad)), "ignore").is_empty());
            assert_eq!(starts(&format!("{}sk-1", " ".repeat(pad)), "sk"), [pad]);
        }
    }
}
