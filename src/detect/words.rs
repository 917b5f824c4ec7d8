//! Where words start, eight bytes at a time, and which of them are worth a look: the first four letters of a word, in lower case,
//! choose a bit in a table of 4 KiB. This is the one pass over all bytes that tokens, assignments and injection rules share.
#![expect(
    clippy::indexing_slicing,
    reason = "hash bits are masked to the table's size; positions are below the length of the text"
)]

use super::blocks::{Masks, masks, padded};

pub(super) const HASH_BITS: u32 = 15;
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
pub(super) fn hash(key: u32) -> u32 {
    key.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)
}

/// ASCII letters and everything outside of ASCII (folded text has its punctuation blanked).
#[inline]
pub(super) const fn is_letter(byte: u8) -> bool {
    (byte | 0x20).wrapping_sub(b'a') < 26 || byte >= 0x80
}

/// Lead bytes of scripts written without spaces, and of others with three bytes a letter, for which the extra starts do no harm.
pub(super) const fn starts_anywhere(byte: u8) -> bool {
    byte >= 0xE0
}

/// How many bytes of a word make its key: four letters, which in Greek, Cyrillic, Hebrew and Arabic are eight bytes.
pub(super) const fn key_len(first: u8) -> usize {
    if first >= 0xC3 && first < 0xE0 { 8 } else { 4 }
}

/// The key of a word: its first letters, without the case of ASCII.
#[inline]
pub(super) fn key_of(word: &[u8]) -> u32 {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let eight = match word.first_chunk::<8>() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => word.iter().rev().fold(0, |eight, byte| eight << 8 | u64::from(*byte)),
    };
    let lower = eight | u64::from_ne_bytes([0x20; 8]);
    // The highest bit of a byte comes to say that the byte is `a` or more, or more than `z`.
    let (low, from_a) = (lower & !HIGH, u64::from_ne_bytes([0x80 - b'a'; 8]));
    let beyond_z = u64::from_ne_bytes([0x80 - b'z' - 1; 8]);
    let letters = (low + from_a) & !(low + beyond_z) | eight;
    let run = (!letters & HIGH).trailing_zeros() as usize / 8;
    let kept = lower & KEEPS[run.min(key_len(eight as u8)) & 15];
    kept as u32 ^ ((kept >> 32) as u32).wrapping_mul(0x9E37_79B1)
}

/// So many of the first bytes of eight.
const KEEPS: [u64; 16] = {
    let mut keeps = [u64::MAX; 16];
    let mut count = 0;
    while count < 8 {
        keeps[count] = (1 << (8 * count)) - 1;
        count += 1;
    }
    keeps
};

/// The key of two words in a row, for phrases that begin with a word that is everywhere.
#[inline]
pub(super) fn pair_key(first: u32, second: u32) -> u32 {
    first.rotate_left(13) ^ second
}

/// A word start that may be of interest.
pub(super) enum Start {
    /// A word whose key may be in the first set.
    Word { at: usize, key: u32 },
    /// The first of two words whose pair of keys may be in the second set.
    Pair { at: usize, key: u32 },
}

/// What may begin with a word: one look answers for both.
pub(super) struct Starts {
    /// Two bits a key: [`WORD`] and [`FIRST`].
    table: Box<[u64; 2 * WORDS]>,
    pairs: KeySet,
}

/// The key is one of those asked for.
const WORD: u64 = 1;
/// The key is the first of a pair. The next bit, so that one shift puts it in the place of [`WORD`].
const FIRST: u64 = WORD << 1;

impl Starts {
    /// `firsts` are the keys of the first words of `pairs`.
    pub(super) fn new(words: &KeySet, firsts: &KeySet, pairs: &KeySet) -> Self {
        let mut table = Box::new([0; 2 * WORDS]);
        for bit in 0..WORDS * 64 {
            let flag = |set: &KeySet, flag: u64| flag * (set.0[bit >> 6] >> (bit & 63) & 1);
            table[bit >> 5] |= (flag(words, WORD) | flag(firsts, FIRST)) << (2 * (bit & 31));
        }
        Self { table, pairs: pairs.clone() }
    }

    #[inline]
    fn flags(&self, key: u32) -> u64 {
        let bit = hash(key);
        self.table[(bit >> 5) as usize] >> (2 * (bit & 31)) & (WORD | FIRST)
    }
}

/// For the letters among four bytes, what of them counts as a word that starts with the first.
const COUNTS: [u32; 16] = {
    let mut counts = [0; 16];
    let mut letters = 0u32;
    while letters < 16 {
        counts[letters as usize] = match letters.trailing_ones() {
            0 => 0,
            1 => 0xFF,
            2 => 0xFFFF,
            3 => 0x00FF_FFFF,
            _ => u32::MAX,
        };
        letters += 1;
    }
    counts
};

/// Calls `found` with the number of the word for word starts whose key may be one of `asked`, and for the first of two words whose
/// pair may be. A word starts at a letter behind none, at a capital behind a small letter, at an ASCII letter behind another
/// script, and at every character of scripts without spaces.
#[inline]
pub(super) fn each_word(text: &[u8], asked: &Starts, found: impl FnMut(Start, u32)) {
    each_word_of_blocks(text, asked, |_, _| {}, found);
}

/// The same, and calls `block` with the keys of the words that start in each 64 bytes, whatever they are.
#[inline]
pub(super) fn each_word_of_blocks(
    text: &[u8],
    asked: &Starts,
    mut block_done: impl FnMut(usize, &[u32]),
    mut found: impl FnMut(Start, u32),
) {
    let (mut letter_before, mut small_before, mut wide_before) = (0u64, 0u64, 0u64);
    // Where words have no edges, three characters count as one word.
    let mut thirds = 0u32;
    let (mut previous, mut previous_at, mut previous_thirds, mut pending) = (0u32, 0usize, 0u32, 0u64);
    let (mut keys, mut places, mut candidates) = ([0u32; 64], [0u8; 64], [0u8; 64]);
    let mut base = 0;
    while base < text.len() {
        let last_block;
        let block = match text[base..].first_chunk::<64>() {
            Some(block) => block,
            None => {
                last_block = padded(&text[base..]);
                &last_block
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
        if wide == 0 {
            // Most text. All keys first, in a loop without a branch that depends on the words; few are then looked at.
            let (mut count, mut worth, mut before) = (0usize, 0usize, pending);
            while starts != 0 {
                let bit = starts.trailing_zeros() as usize;
                starts &= starts - 1;
                let key = match block.get(bit..bit + 4) {
                    Some(&[a, b, c, d]) => {
                        (u32::from_le_bytes([a, b, c, d]) | 0x2020_2020) & COUNTS[(letters >> bit & 15) as usize]
                    }
                    _ => key_of(&text[base + bit..]),
                };
                let flags = asked.flags(key);
                keys[count & 63] = key;
                places[count & 63] = bit as u8;
                candidates[worth & 63] = count as u8;
                worth += ((flags | before >> 1) & WORD) as usize;
                before = flags;
                count += 1;
            }
            for candidate in &candidates[..worth] {
                let number = usize::from(*candidate);
                let (key, at) = (keys[number], base + usize::from(places[number]));
                let (last, last_at) = match number.checked_sub(1) {
                    Some(last) => (keys[last], base + usize::from(places[last])),
                    None => (previous, previous_at),
                };
                let pair = pair_key(last, key);
                if asked.pairs.may_hold(pair) {
                    let last_thirds = if number == 0 { previous_thirds } else { thirds + 3 * *candidate as u32 };
                    found(Start::Pair { at: last_at, key: pair }, last_thirds / 3);
                }
                if asked.flags(key) & WORD != 0 {
                    found(Start::Word { at, key }, (thirds + 3) / 3 + *candidate as u32);
                }
            }
            block_done(base, &keys[..count.min(64)]);
            if let Some(last) = count.checked_sub(1) {
                thirds += 3 * count as u32;
                (previous, previous_at, previous_thirds) = (keys[last], base + usize::from(places[last]), thirds);
                pending = before & FIRST;
            }
            base += 64;
            continue;
        }
        let mut count = 0usize;
        while starts != 0 {
            let bit = starts.trailing_zeros();
            starts &= starts - 1;
            let at = base + bit as usize;
            let key = if bit <= 60 && (wide >> bit & 1 == 0 || anywhere >> bit & 1 == 1) {
                let from = bit as usize;
                let window = u32::from_le_bytes([block[from], block[from + 1], block[from + 2], block[from + 3]]);
                (window | 0x2020_2020) & COUNTS[(letters >> bit & 15) as usize]
            } else {
                key_of(&text[at..])
            };
            thirds += 3 - 2 * (anywhere >> bit & 1) as u32;
            keys[count & 63] = key;
            count += 1;
            let flags = asked.flags(key);
            if flags & WORD | pending != 0 {
                let pair = pair_key(previous, key);
                if pending != 0 && asked.pairs.may_hold(pair) {
                    found(Start::Pair { at: previous_at, key: pair }, previous_thirds / 3);
                }
                if flags & WORD != 0 {
                    found(Start::Word { at, key }, thirds / 3);
                }
            }
            pending = flags & FIRST;
            (previous, previous_at, previous_thirds) = (key, at, thirds);
        }
        block_done(base, &keys[..count.min(64)]);
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
        each_word(text.as_bytes(), &Starts::new(&keys, &KeySet::new(), &KeySet::new()), |start, _| {
            if let Start::Word { at, .. } = start {
                found.push(at);
            }
        });
        found
    }

    #[test]
    fn two_words_in_a_row_are_met_across_the_edge_of_a_block() {
        let (mut firsts, mut pairs) = (KeySet::new(), KeySet::new());
        firsts.insert(key_of(b"the"));
        pairs.insert(pair_key(key_of(b"the"), key_of(b"agent")));
        let asked = Starts::new(&KeySet::new(), &firsts, &pairs);
        for pad in 0..130 {
            let mut found = Vec::new();
            let text = format!("{}the, Agent the thing", " ".repeat(pad));
            each_word(text.as_bytes(), &asked, |start, number| {
                if let Start::Pair { at, .. } = start {
                    found.push((at, number));
                }
            });
            assert_eq!(found, [(pad, 1)]);
        }
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
