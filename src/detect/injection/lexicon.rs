//! Words and phrases with a meaning.
#![expect(
    clippy::indexing_slicing,
    reason = "bucket numbers are masked to the table's size; positions are below the length of the text"
)]

use unicode_normalization::UnicodeNormalization as _;

use crate::detect::words::{KeySet, Start, Starts, each_word, is_letter, key_len, key_of, pair_key, starts_anywhere};

const BUCKETS: usize = 1 << 10;

/// One word or phrase.
struct Entry {
    /// Of a word, or of the first two words of a phrase.
    key: u32,
    /// The key of the first word.
    first: u32,
    /// Lower case; a space stands for up to three bytes that are no letters, `*` for any further letters.
    pattern: Box<[u8]>,
    /// Bytes five to eight of the first word, as far as it has them, and which of them count: most words that share four letters
    /// differ there.
    tail: (u32, u32),
    /// How many bytes of the pattern stand in the text if key and tail do.
    known: usize,
    groups: u64,
    gate: bool,
}

/// Entries by key.
struct Table {
    /// Keys of entries of gate groups.
    gate: KeySet,
    all: KeySet,
    /// Where each bucket begins in `entries`.
    starts: Vec<u16>,
    /// Key and tail of every entry: few are looked at further.
    heads: Vec<(u32, (u32, u32))>,
    entries: Vec<Entry>,
}

/// All words of all groups.
pub(in crate::detect) struct Lexicon {
    words: Table,
    phrases: Table,
    asked: Starts,
}

fn bucket(key: u32) -> usize {
    (key.wrapping_mul(0xC2B2_AE35) >> 22) as usize & (BUCKETS - 1)
}

impl Lexicon {
    /// `(word, groups, gate)`; faults name the word.
    pub(super) fn new(words: &[(String, u64, bool)]) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let (mut single, mut phrases): (Vec<Entry>, Vec<Entry>) = (Vec::new(), Vec::new());
        for (word, groups, gate) in words {
            for form in forms(word) {
                let mut parts = form.split(|b| matches!(b, b' ' | b'*')).filter(|part| !part.is_empty());
                let head = parts.next().unwrap_or_default();
                let stem = form.get(head.len()) == Some(&b'*');
                let shortest = head.first().map_or(0, |first| key_len(*first));
                if head.is_empty() || stem && head.len() < shortest || form.len() < 2 {
                    faults.push(format!("`{word}`: two letters or more are needed, four before a star"));
                    continue;
                }
                let (key, entries) = match parts.next() {
                    Some(next) => (pair_key(key_of(head), key_of(next)), &mut phrases),
                    None => (key_of(head), &mut single),
                };
                match entries.iter_mut().find(|entry| *entry.pattern == *form) {
                    Some(entry) => {
                        entry.groups |= groups;
                        entry.gate |= gate;
                    }
                    None => entries.push(Entry {
                        key,
                        first: key_of(head),
                        tail: tail_of(head),
                        // Letters outside of ASCII share keys, and so may pairs of words.
                        known: if key == key_of(head) && head.is_ascii() { head.len().min(8) } else { 0 },
                        pattern: form.into(),
                        groups: *groups,
                        gate: *gate,
                    }),
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        if u16::try_from(single.len().max(phrases.len())).is_err() {
            return Err(vec!["too many words".to_owned()]);
        }
        let (words, phrases) = (Table::new(single), Table::new(phrases));
        let asked = Starts::new(&words.all, &phrases.firsts(false), &phrases.all);
        Ok(Self { words, phrases, asked })
    }

    /// Keys of words that may begin an entry of a gate group.
    pub(super) fn gate_keys(&self) -> &KeySet {
        &self.words.gate
    }

    /// What may begin an entry of a gate group, or is one of `others`.
    pub(super) fn gate_starts(&self, others: &KeySet) -> Starts {
        let mut words = self.words.gate.clone();
        words.extend(others);
        Starts::new(&words, &self.phrases.firsts(true), &self.phrases.gate)
    }

    /// Whether an entry of a gate group begins there.
    pub(super) fn is_gate(&self, text: &[u8], start: &Start) -> bool {
        match *start {
            Start::Word { at, key } => self.words.standing(text, at, key, true).next().is_some(),
            Start::Pair { at, key } => self.phrases.standing(text, at, key, true).next().is_some(),
        }
    }

    /// Calls `found(word number, groups)` for every word that is in the lexicon.
    pub(in crate::detect) fn each_hit(&self, text: &[u8], mut found: impl FnMut(u32, u64)) {
        each_word(text, &self.asked, |start, number| {
            let (table, at, key) = match start {
                Start::Word { at, key } => (&self.words, at, key),
                Start::Pair { at, key } => (&self.phrases, at, key),
            };
            let groups = table.standing(text, at, key, false).fold(0, |groups, entry| groups | entry.groups);
            if groups != 0 {
                found(number, groups);
            }
        });
    }
}

impl Table {
    fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| bucket(entry.key));
        let (mut gate, mut all) = (KeySet::new(), KeySet::new());
        for entry in &entries {
            all.insert(entry.key);
            if entry.gate {
                gate.insert(entry.key);
            }
        }
        let mut starts = Vec::with_capacity(BUCKETS + 1);
        let mut at = 0;
        for number in 0..=BUCKETS {
            while entries.get(at).is_some_and(|entry| bucket(entry.key) < number) {
                at += 1;
            }
            starts.push(u16::try_from(at).unwrap_or(u16::MAX));
        }
        let heads = entries.iter().map(|entry| (entry.key, entry.tail)).collect();
        Self { gate, all, starts, heads, entries }
    }

    /// Keys of the first words, only those of gate groups if so asked.
    fn firsts(&self, gate: bool) -> KeySet {
        let mut firsts = KeySet::new();
        self.entries.iter().filter(|entry| entry.gate || !gate).for_each(|entry| firsts.insert(entry.first));
        firsts
    }

    /// The entries that stand at `at`, only those of gate groups if so asked.
    #[inline]
    fn standing<'t>(&'t self, text: &'t [u8], at: usize, key: u32, gate: bool) -> impl Iterator<Item = &'t Entry> {
        let number = bucket(key);
        let tail = match text.get(at + 4..).and_then(|tail| tail.first_chunk::<4>()) {
            Some(tail) => u32::from_le_bytes(*tail) | 0x2020_2020,
            None => last_letters(text.get(at + 4..).unwrap_or_default()),
        };
        let own = usize::from(self.starts[number])..usize::from(self.starts[number + 1]);
        let heads = self.heads[own.clone()].iter().zip(&self.entries[own]);
        let alike = heads.filter(move |((own, (value, mask)), _)| *own == key && tail & mask == *value);
        alike.map(|(_, entry)| entry).filter(move |entry| {
            (entry.gate || !gate)
                && stands(text, at + entry.known, entry.pattern.get(entry.known..).unwrap_or_default())
        })
    }
}

/// The bytes of a tail of less than four.
fn last_letters(tail: &[u8]) -> u32 {
    tail.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(byte | 0x20))
}

fn tail_of(head: &[u8]) -> (u32, u32) {
    let (mut value, mut mask) = ([0u8; 4], [0u8; 4]);
    for (i, byte) in head.iter().skip(4).take(4).enumerate() {
        (value[i], mask[i]) = (byte | 0x20, 0xFF);
    }
    (u32::from_le_bytes(value), u32::from_le_bytes(mask))
}

/// A word as written, and without its accents, with what is no letter as a space.
fn forms(word: &str) -> Vec<Vec<u8>> {
    let clean = |word: &str| {
        let letter = |c: char| u8::try_from(c).map_or(true, is_letter);
        let spaced: String = word.to_lowercase().chars().map(|c| if c == '*' || letter(c) { c } else { ' ' }).collect();
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

/// Whether the pattern stands at `at`.
fn stands(text: &[u8], at: usize, pattern: &[u8]) -> bool {
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
            assert_eq!(hits(&["the agent"], &format!("{}the\n agent", " ".repeat(pad))), [1], "{pad}");
        }
    }

    #[test]
    fn phrases_bridge_punctuation_and_scripts_without_spaces_start_anywhere() {
        assert_eq!(hits(&["don't follow"], "Please don't follow"), [2]);
        assert_eq!(hits(&["system prompt"], "the system_prompt"), [2]);
        assert_eq!(hits(&["忽略"], "请忽略之前的指令").len(), 1);
        assert_eq!(hits(&["instrucció*"], "las instrucciones, la instruccion").len(), 2);
        assert_eq!(hits(&["do"], "do not undo the dos").len(), 1);
        assert!(hits(&["do not follow"], "do not mention").is_empty());
    }

    #[test]
    fn a_stem_that_is_too_short_is_a_fault() {
        assert!(Lexicon::new(&[("ign*".to_owned(), 1, false)]).is_err());
    }
}
