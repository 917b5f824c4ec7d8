//! Words with a meaning, found at word starts by one multiplication and one bit.
//!
//! Word starts are computed eight bytes at a time. The first four bytes of a word, in lower case, choose a bit in a table of 2 KiB;
//! only where it is set are entries compared. Scripts without spaces start a word at every character.
#![expect(
    clippy::indexing_slicing,
    reason = "hash bits are masked to the tables' sizes; positions are below the length of the text"
)]

use unicode_normalization::UnicodeNormalization as _;

const HASH_BITS: u32 = 14;
const WORDS: usize = 1 << (HASH_BITS - 6);
const BUCKETS: usize = 1 << 10;

/// One word or phrase.
struct Entry {
    key: u32,
    /// Lower case; a space stands for up to three bytes that are no letters, `*` for any further letters.
    pattern: Box<[u8]>,
    groups: u64,
    gate: bool,
}

/// All words of all groups.
pub(super) struct Lexicon {
    gate: Box<[u64; WORDS]>,
    all: Box<[u64; WORDS]>,
    /// Where each bucket begins in `entries`.
    starts: Vec<u16>,
    entries: Vec<Entry>,
}

fn hash(key: u32) -> u32 {
    key.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)
}

fn bucket(key: u32) -> usize {
    (hash(key) as usize) & (BUCKETS - 1)
}

/// ASCII letters and everything outside of ASCII (folded text has its punctuation blanked).
const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0x80
}

/// Lead bytes of scripts written without spaces, and of others with three bytes a letter, for which the extra starts do no harm.
const fn starts_anywhere(byte: u8) -> bool {
    byte >= 0xE0
}

fn key_of(word: &[u8]) -> u32 {
    let mut bytes = [0u8; 4];
    for (slot, byte) in bytes.iter_mut().zip(word) {
        *slot = byte | 0x20;
    }
    u32::from_le_bytes(bytes)
}

impl Lexicon {
    /// `(word, groups, gate)`; faults name the word.
    pub(super) fn new(words: &[(String, u64, bool)]) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        for (word, groups, gate) in words {
            for form in forms(word) {
                let head = form.split(|b| matches!(b, b' ' | b'*')).next().unwrap_or_default();
                let stem = form.get(head.len()) == Some(&b'*');
                if head.is_empty() || stem && head.len() < 4 || form.len() < 2 {
                    faults.push(format!("`{word}`: two letters or more are needed, four before a star"));
                    continue;
                }
                let key = key_of(&head[..head.len().min(4)]);
                match entries.iter_mut().find(|entry| *entry.pattern == *form) {
                    Some(entry) => {
                        entry.groups |= groups;
                        entry.gate |= gate;
                    }
                    None => entries.push(Entry { key, pattern: form.into(), groups: *groups, gate: *gate }),
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        if u16::try_from(entries.len()).is_err() {
            return Err(vec!["too many words".to_owned()]);
        }
        entries.sort_by_key(|entry| bucket(entry.key));
        let mut lexicon = Self {
            gate: Box::new([0; WORDS]),
            all: Box::new([0; WORDS]),
            starts: Vec::with_capacity(BUCKETS + 1),
            entries,
        };
        let mut at = 0;
        for number in 0..=BUCKETS {
            while lexicon.entries.get(at).is_some_and(|entry| bucket(entry.key) < number) {
                at += 1;
            }
            lexicon.starts.push(u16::try_from(at).unwrap_or(u16::MAX));
        }
        for entry in &lexicon.entries {
            let bit = hash(entry.key);
            lexicon.all[(bit >> 6) as usize] |= 1 << (bit & 63);
            if entry.gate {
                lexicon.gate[(bit >> 6) as usize] |= 1 << (bit & 63);
            }
        }
        Ok(lexicon)
    }

    /// Calls `found(at)` for word starts that begin an entry of a gate group, ascending; `found` returns where to go on.
    pub(super) fn each_gate(&self, text: &[u8], mut found: impl FnMut(usize) -> usize) {
        let mut from = 0;
        each_word(text, &self.gate, |at, key, _| {
            if at >= from && self.entries_of(key).any(|entry| entry.gate && matches(text, at, &entry.pattern)) {
                from = found(at);
            }
        });
    }

    /// Calls `found(word number, groups)` for every word that is in the lexicon.
    pub(super) fn each_hit(&self, text: &[u8], mut found: impl FnMut(u32, u64)) {
        each_word(text, &self.all, |at, key, number| {
            let groups = self
                .entries_of(key)
                .filter(|entry| matches(text, at, &entry.pattern))
                .fold(0, |groups, entry| groups | entry.groups);
            if groups != 0 {
                found(number, groups);
            }
        });
    }

    fn entries_of(&self, key: u32) -> impl Iterator<Item = &Entry> {
        let bucket = bucket(key);
        self.entries[usize::from(self.starts[bucket])..usize::from(self.starts[bucket + 1])]
            .iter()
            .filter(move |entry| entry.key == key)
    }
}

/// A word as written, and without its accents, with what is no letter as a space.
fn forms(word: &str) -> Vec<Vec<u8>> {
    let clean = |word: &str| {
        let spaced: String = word
            .to_lowercase()
            .chars()
            .map(|c| if c == '*' || is_letter(c.try_into().unwrap_or(0x80)) { c } else { ' ' })
            .collect();
        spaced.split_whitespace().collect::<Vec<_>>().join(" ").into_bytes()
    };
    let plain: String = word.nfd().filter(|c| !matches!(c, '\u{300}'..='\u{36F}')).nfc().collect();
    let mut forms = vec![clean(word), clean(&plain)];
    forms.dedup();
    // In scripts without spaces a word goes on without an end.
    for form in &mut forms {
        if form.iter().any(|b| starts_anywhere(*b)) && form.last().is_some_and(|b| *b >= 0x80) {
            form.push(b'*');
        }
    }
    forms
}

/// Whether the entry stands at `at`.
fn matches(text: &[u8], at: usize, pattern: &[u8]) -> bool {
    let mut i = at;
    for byte in pattern {
        match byte {
            b' ' => {
                let gap = text.get(i..).map_or(0, |rest| rest.iter().take(4).take_while(|b| !is_letter(**b)).count());
                if gap == 0 || gap > 3 {
                    return false;
                }
                i += gap;
            }
            b'*' => {
                let most = text.len().min(i + 24);
                while i < most && is_letter(text[i]) && !starts_anywhere(text[i]) {
                    i += 1;
                }
            }
            _ => {
                if text.get(i).is_none_or(|b| b.to_ascii_lowercase() != *byte) {
                    return false;
                }
                i += 1;
            }
        }
    }
    pattern.last() == Some(&b'*') || text.get(i).is_none_or(|b| !is_letter(*b))
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// One bit per byte from the high bits of eight.
fn squeeze(high: u64) -> u64 {
    ((high >> 7).wrapping_mul(0x0102_0408_1020_4080)) >> 56
}

/// Bit masks of a block of 64 bytes: letters, bytes outside of ASCII, bytes at which a word may start anywhere.
fn classes(block: &[u8; 64]) -> (u64, u64, u64) {
    let (mut letters, mut wide, mut anywhere) = (0, 0, 0);
    for (i, eight) in block.as_chunks::<8>().0.iter().enumerate() {
        let x = u64::from_le_bytes(*eight);
        let lower = (x | ONES * 0x20) & !HIGH;
        let at_least_a = lower + ONES * (0x80 - 0x61);
        let above_z = lower + ONES * (0x80 - 0x7B);
        letters |= squeeze((at_least_a & !above_z | x) & HIGH) << (i * 8);
        if x & HIGH != 0 {
            wide |= squeeze(x & HIGH) << (i * 8);
            anywhere |= squeeze(x & (x << 1) & (x << 2) & HIGH) << (i * 8);
        }
    }
    (letters, wide, anywhere)
}

/// Calls `found(at, key, word number)` for word starts whose key has its bit in `table`.
fn each_word(text: &[u8], table: &[u64; WORDS], mut found: impl FnMut(usize, u32, u32)) {
    let (mut letter_before, mut wide_before, mut words, mut characters) = (0u64, 0u64, 0u32, 0u32);
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
        let (letters, wide, anywhere) = classes(block);
        let mut starts = letters & !(letters << 1 | letter_before);
        if wide != 0 || wide_before != 0 {
            starts |= anywhere | (letters & !wide & (wide << 1 | wide_before));
        }
        letter_before = letters >> 63;
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
                let window = u32::from_le_bytes([
                    block[bit as usize],
                    block[bit as usize + 1],
                    block[bit as usize + 2],
                    block[bit as usize + 3],
                ]);
                // `run` is 1 to 4: bytes behind the word are cut off.
                (window | 0x2020_2020) & (u32::MAX >> (32 - 8 * run))
            } else {
                let rest = &text[at..text.len().min(at + 4)];
                let run = rest.iter().take_while(|b| is_letter(**b)).count();
                key_of(&rest[..run])
            };
            let hashed = hash(key);
            if table[(hashed >> 6) as usize] >> (hashed & 63) & 1 == 1 {
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

    fn hits(words: &[&str], text: &str) -> Vec<u32> {
        let words: Vec<_> = words.iter().map(|word| ((*word).to_owned(), 1, true)).collect();
        let mut found = Vec::new();
        Lexicon::new(&words).unwrap().each_hit(text.as_bytes(), |number, _| found.push(number));
        found
    }

    #[test]
    fn words_are_found_at_every_position_of_a_block() {
        for pad in 0..70 {
            let text = format!("{}Ignore it", " ".repeat(pad));
            assert_eq!(hits(&["ignore"], &text), [1], "{pad}");
            assert!(hits(&["ignore"], &format!("{}ignored", " ".repeat(pad))).is_empty(), "{pad}");
            assert_eq!(hits(&["ignor*"], &format!("{}IGNORED", " ".repeat(pad))), [1], "{pad}");
        }
    }

    #[test]
    fn phrases_bridge_punctuation_and_scripts_without_spaces_start_anywhere() {
        assert_eq!(hits(&["don't follow"], "Please don't follow"), [2]);
        assert_eq!(hits(&["system prompt"], "the system_prompt"), [2]);
        assert_eq!(hits(&["忽略"], "请忽略之前的指令").len(), 1);
        assert_eq!(hits(&["instrucció*"], "las instrucciones, la instruccion").len(), 2);
        assert_eq!(hits(&["do"], "do not undo the dos").len(), 1);
    }

    #[test]
    fn a_stem_that_is_too_short_is_a_fault() {
        assert!(Lexicon::new(&[("ign*".to_owned(), 1, false)]).is_err());
    }
}
