//! Where words start, eight bytes at a time, and which of them are worth a look: the first four letters of a word, in lower case,
//! choose a byte in a table of 32 KiB. This is the one pass over all bytes that tokens, assignments and injection rules share.
#![expect(
    clippy::indexing_slicing,
    reason = "hash bits are masked to the table's size; positions are below the length of the text"
)]

use super::blocks::{Masks, masks, padded};

pub(super) const HASH_BITS: u32 = 15;
const KEYS: usize = 1 << HASH_BITS;
const WORDS: usize = KEYS / 64;

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
    /// A word that is asked for under these flags.
    Word { at: usize, key: u32, flags: u8 },
    /// The first of two words whose pair of keys may be in the second set.
    Pair { at: usize, key: u32 },
}

/// Who asks for the words that begin with each key: one look answers for all.
pub(super) struct Starts {
    flags: Box<[u8; KEYS]>,
    pairs: KeySet,
}

/// The key is the first of a pair. The other bits of the flags belong to whoever builds a [`Starts`].
const FIRST: u8 = 0x80;

impl Starts {
    /// Keys with their flags, below [`FIRST`]; `firsts` are the keys of the first words of `pairs`.
    pub(super) fn new(words: &[(u8, &KeySet)], firsts: &KeySet, pairs: &KeySet) -> Self {
        let mut flags = Box::new([0; KEYS]);
        for (number, own) in flags.iter_mut().enumerate() {
            let flag = |set: &KeySet, flag: u8| if set.0[number >> 6] >> (number & 63) & 1 == 1 { flag } else { 0 };
            *own = words.iter().fold(flag(firsts, FIRST), |all, (own, set)| all | flag(set, *own));
        }
        Self { flags, pairs: pairs.clone() }
    }

    #[inline]
    fn flags(&self, key: u32) -> u8 {
        self.flags[hash(key) as usize & (KEYS - 1)]
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

/// Word starts in a block whose first four bytes stand in it too.
const WHOLE: u64 = u64::MAX >> 3;

/// The word starts of one block, as far as they are needed once all are known.
struct Found {
    keys: [u32; 64],
    places: [u8; 64],
    flags: [u8; 64],
    count: usize,
    /// Numbers of those that someone asks for, alone or with the word before.
    candidates: [u8; 64],
    worth: usize,
    /// [`FIRST`] if the last one is the first of a pair.
    pending: u8,
    weight: i32,
}

impl Found {
    #[inline(always)]
    fn note(&mut self, asked: &Starts, bit: u32, key: u32, weight: impl Fn(u32) -> i32) {
        let flags = asked.flags(key);
        self.weight += weight(key);
        self.keys[self.count & 63] = key;
        self.places[self.count & 63] = bit as u8;
        self.flags[self.count & 63] = flags;
        self.candidates[self.worth & 63] = self.count as u8;
        self.worth += usize::from(flags & !FIRST | self.pending != 0);
        self.pending = flags & FIRST;
        self.count += 1;
    }
}

/// Calls `found` with the number of the word for word starts whose key may be one of `asked`, and for the first of two words whose
/// pair may be. A word starts at a letter behind none, at a capital behind a small letter, at an ASCII letter behind another
/// script, and at every character of scripts without spaces.
#[inline]
pub(super) fn each_word(text: &[u8], asked: &Starts, found: impl FnMut(Start, u32)) {
    each_word_weighed(text, asked, |_| 0, |_, _, _| {}, found);
}

/// The same, and calls `block_done` with where each 64 bytes begin, the keys of the words that start in them, whatever they are,
/// and the sum of their weights.
#[inline(always)]
pub(super) fn each_word_weighed(
    text: &[u8],
    asked: &Starts,
    weight: impl Fn(u32) -> i32,
    mut block_done: impl FnMut(usize, &[u32], i32),
    mut found: impl FnMut(Start, u32),
) {
    let (mut letter_before, mut small_before, mut wide_before) = (0u64, 0u64, 0u64);
    // Where words have no edges, three characters count as one word.
    let mut thirds = 0u32;
    let (mut previous, mut previous_at, mut previous_thirds) = (0u32, 0usize, 0u32);
    let mut own = Found {
        keys: [0; 64],
        places: [0; 64],
        flags: [0; 64],
        count: 0,
        candidates: [0; 64],
        worth: 0,
        pending: 0,
        weight: 0,
    };
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
        (own.count, own.worth, own.weight) = (0, 0, 0);
        if wide == 0 {
            // Most text. All keys first, in a loop without a branch that depends on the words; few are then looked at.
            let before = own.pending;
            let (mut whole, mut cut) = (starts & WHOLE, starts & !WHOLE);
            while whole != 0 {
                let bit = whole.trailing_zeros();
                whole &= whole - 1;
                let Some(four) = block[(bit & 63) as usize..].first_chunk::<4>() else { break };
                let key = (u32::from_le_bytes(*four) | 0x2020_2020) & COUNTS[(letters >> bit & 15) as usize];
                own.note(asked, bit, key, &weight);
            }
            while cut != 0 {
                let bit = cut.trailing_zeros();
                cut &= cut - 1;
                own.note(asked, bit, key_of(&text[base + bit as usize..]), &weight);
            }
            for candidate in &own.candidates[..own.worth] {
                let number = usize::from(*candidate & 63);
                let (key, at) = (own.keys[number], base + usize::from(own.places[number]));
                let (last, last_at, first) = match number.checked_sub(1) {
                    Some(last) => (own.keys[last], base + usize::from(own.places[last]), own.flags[last] & FIRST),
                    None => (previous, previous_at, before),
                };
                let pair = pair_key(last, key);
                if first != 0 && asked.pairs.may_hold(pair) {
                    let last_thirds = if number == 0 { previous_thirds } else { thirds + 3 * u32::from(*candidate) };
                    found(Start::Pair { at: last_at, key: pair }, last_thirds / 3);
                }
                let flags = own.flags[number] & !FIRST;
                if flags != 0 {
                    found(Start::Word { at, key, flags }, (thirds + 3) / 3 + u32::from(*candidate));
                }
            }
            block_done(base, &own.keys[..own.count.min(64)], own.weight);
            if let Some(last) = own.count.checked_sub(1) {
                thirds += 3 * own.count as u32;
                (previous, previous_at, previous_thirds) =
                    (own.keys[last & 63], base + usize::from(own.places[last & 63]), thirds);
            }
            base += 64;
            continue;
        }
        while starts != 0 {
            let bit = starts.trailing_zeros();
            starts &= starts - 1;
            let at = base + bit as usize;
            let key = match block.get(bit as usize..bit as usize + 4) {
                Some(&[a, b, c, d]) if wide >> bit & 1 == 0 || anywhere >> bit & 1 == 1 => {
                    (u32::from_le_bytes([a, b, c, d]) | 0x2020_2020) & COUNTS[(letters >> bit & 15) as usize]
                }
                _ => key_of(&text[at..]),
            };
            thirds += 3 - 2 * (anywhere >> bit & 1) as u32;
            let first = own.pending;
            own.note(asked, bit, key, &weight);
            let flags = asked.flags(key) & !FIRST;
            if flags | first != 0 {
                let pair = pair_key(previous, key);
                if first != 0 && asked.pairs.may_hold(pair) {
                    found(Start::Pair { at: previous_at, key: pair }, previous_thirds / 3);
                }
                if flags != 0 {
                    found(Start::Word { at, key, flags }, thirds / 3);
                }
            }
            (previous, previous_at, previous_thirds) = (key, at, thirds);
        }
        block_done(base, &own.keys[..own.count.min(64)], own.weight);
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
        each_word(text.as_bytes(), &Starts::new(&[(1, &keys)], &KeySet::new(), &KeySet::new()), |start, _| {
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
        let asked = Starts::new(&[], &firsts, &pairs);
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
