//! Exact data: values that an organization registered, known only by fingerprints.
//!
//! Values and texts are cut into runs of letters and digits. A value's form is its runs in lower case, put together with a blank
//! between two letters and nothing between others: `AB-1234-56`, `ab 123456` and `AB123456` are one, `the rapist` and `therapist`
//! are two. Candidates of a text are up to [`MOST_TOKENS`] runs with at most [`GAP`](super::words::GAP) bytes between two. A small
//! filter lets one in eight or fewer pass; those are compared by a keyed hash of 64 bits, so that a million values give a false match
//! for 1 in 10¹³ candidates.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;

use super::siphash::siphash;
use super::words::{GAP, is_glued};
use super::{lower, words};

/// Values of one set.
pub const MOST_VALUES: usize = 1_000_000;
/// Of a value's form, in bytes.
const SHORTEST: usize = 4;
const LONGEST: usize = 127;
const MOST_TOKENS: usize = 16;
/// Of a stored fingerprint, in bytes.
pub const FINGERPRINT: usize = 12;
/// Bits of the filter for each value.
const FILTER_BITS: usize = 8;
/// Values in a bucket of the table.
const IN_BUCKET: usize = 8;

/// Makes fingerprints under the key of a set.
#[derive(Clone, Copy)]
pub struct Fingerprinter {
    key: [u64; 2],
}

/// What is kept of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint {
    hash: u64,
    mark: u32,
}

impl Fingerprint {
    #[must_use]
    pub fn to_bytes(self) -> [u8; FINGERPRINT] {
        let mut bytes = [0; FINGERPRINT];
        let parts = self.hash.to_le_bytes().into_iter().chain(self.mark.to_le_bytes());
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    #[must_use]
    pub fn from_bytes(bytes: &[u8; FINGERPRINT]) -> Self {
        let [a, b, c, d, e, f, g, h, mark @ ..] = *bytes;
        Self { hash: u64::from_le_bytes([a, b, c, d, e, f, g, h]), mark: u32::from_le_bytes(mark) }
    }
}

impl Fingerprinter {
    /// With the salt of a set.
    #[must_use]
    pub fn new(salt: [u8; 16]) -> Self {
        let salt = u128::from_le_bytes(salt);
        // The two halves.
        Self { key: [salt as u64, (salt >> 64) as u64] }
    }

    /// The fingerprint of a value, and the bytes of its form; none when that is shorter than 4 bytes, longer than 127, or of more
    /// than 16 runs.
    #[must_use]
    pub fn of(&self, value: &str) -> Option<(Fingerprint, u8)> {
        let Text { form, tokens } = Text::read(value);
        let fits = (SHORTEST..=LONGEST).contains(&form.len()) && tokens.len() <= MOST_TOKENS;
        fits.then(|| (self.fingerprint(&form), u8::try_from(form.len()).unwrap_or(u8::MAX)))
    }

    fn fingerprint(&self, form: &[u8]) -> Fingerprint {
        Fingerprint { hash: siphash(self.key, form), mark: self.mark(form) }
    }

    /// A quick hash of a form's ends and length.
    fn mark(&self, form: &[u8]) -> u32 {
        let ends = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let (head, tail) = match form.len() {
            8.. => (ends(form.first_chunk()), ends(form.last_chunk())),
            _ => (form.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
        };
        let [k0, k1] = self.key;
        let mixed = (head ^ k0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ (tail ^ k1).wrapping_mul(0xC2B2_AE3D_27D4_EB4F).rotate_left(29)
            ^ form.len() as u64;
        // The upper half, where the product has mixed most.
        (mixed.wrapping_mul(0x1656_67B1_9E37_79F9) >> 32) as u32
    }
}

/// A set of values, ready to be looked up: about 10 bytes for each.
pub struct DataSet {
    made: Fingerprinter,
    /// Lengths of forms that there are, as bits.
    lengths: u128,
    longest: usize,
    filter: Box<[u64]>,
    /// Sorted.
    hashes: Box<[u64]>,
    /// Where the hashes with each beginning start.
    index: Box<[u32]>,
    shift: u32,
}

impl DataSet {
    /// `lengths` holds a bit for every length of a form.
    #[must_use]
    pub fn new(made: Fingerprinter, lengths: u128, fingerprints: &[Fingerprint]) -> Self {
        let words = (fingerprints.len() * FILTER_BITS).next_power_of_two().max(64) / 64;
        let mut filter = vec![0u64; words].into_boxed_slice();
        for fingerprint in fingerprints {
            let (word, bit) = place(fingerprint.mark, words);
            if let Some(word) = filter.get_mut(word) {
                *word |= bit;
            }
        }
        let mut hashes: Vec<u64> = fingerprints.iter().map(|fingerprint| fingerprint.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let buckets = (hashes.len() / IN_BUCKET).next_power_of_two().max(2);
        let shift = 64 - buckets.trailing_zeros();
        let mut index = vec![0u32; buckets + 1];
        for hash in &hashes {
            if let Some(end) = usize::try_from(hash >> shift).ok().and_then(|bucket| index.get_mut(bucket + 1)) {
                *end += 1;
            }
        }
        let mut sum = 0;
        for end in &mut index {
            sum += *end;
            *end = sum;
        }
        let longest = 127 - (lengths | 1).leading_zeros() as usize;
        Self { made, lengths, longest, filter, hashes: hashes.into(), index: index.into(), shift }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// What it takes of memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.hashes.len() * 8 + self.filter.len() * 8 + self.index.len() * 4
    }

    fn holds(&self, form: &[u8]) -> bool {
        let (word, bit) = place(self.made.mark(form), self.filter.len());
        if self.filter.get(word).is_none_or(|word| word & bit == 0) {
            return false;
        }
        let hash = siphash(self.made.key, form);
        let Ok(bucket) = usize::try_from(hash >> self.shift) else { return false };
        let (Some(start), Some(end)) = (self.index.get(bucket), self.index.get(bucket + 1)) else { return false };
        self.hashes.get(*start as usize..*end as usize).is_some_and(|bucket| bucket.contains(&hash))
    }
}

/// Word and bit of a mark in a filter of `words` words, a power of two.
fn place(mark: u32, words: usize) -> (usize, u64) {
    ((mark >> 6) as usize & (words - 1), 1 << (mark & 63))
}

/// A set by its name, whose content can be exchanged while requests go on.
pub struct ExactData {
    name: Box<str>,
    content: RwLock<Option<Arc<DataSet>>>,
}

impl std::fmt::Debug for ExactData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExactData").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ExactData {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), content: RwLock::new(None) }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// None until it was loaded.
    #[must_use]
    pub fn content(&self) -> Option<Arc<DataSet>> {
        self.content.read().clone()
    }

    pub fn exchange(&self, content: Arc<DataSet>) {
        *self.content.write() = Some(content);
    }
}

/// Looks for values of `sets` in a text.
pub(super) fn scan(text: &str, sets: &[(usize, Arc<ExactData>)], mut found: impl FnMut(usize, Range<usize>)) {
    let sets: Vec<(usize, Arc<DataSet>)> = sets
        .iter()
        .filter_map(|(rule, data)| Some((*rule, data.content()?)))
        .filter(|(_, set)| !set.is_empty())
        .collect();
    let Some(longest) = sets.iter().map(|(_, set)| set.longest).max() else { return };
    let lengths = sets.iter().fold(0, |all, (_, set)| all | set.lengths);
    let text = Text::read(text);
    for (number, first) in text.tokens.iter().enumerate() {
        let tokens = text.tokens.get(number..).unwrap_or_default();
        for (index, last) in tokens.iter().take(MOST_TOKENS).enumerate() {
            let length = (last.form.end - first.form.start) as usize;
            if length > longest || index > 0 && last.apart {
                break;
            }
            if lengths >> length & 1 == 0 {
                continue;
            }
            let Some(form) = text.form.get(first.form.start as usize..last.form.end as usize) else { break };
            for (rule, set) in &sets {
                if set.lengths >> length & 1 == 1 && set.holds(form) {
                    found(*rule, first.place.start as usize..last.place.end as usize);
                }
            }
        }
    }
}

/// How many bytes of a text cannot become part of a value any more, whatever is appended.
pub(super) fn settled(text: &str, sets: &[Arc<ExactData>]) -> usize {
    let longest = sets.iter().filter_map(|data| data.content()).map(|set| set.longest).max().unwrap_or(0);
    if longest == 0 {
        return text.len();
    }
    let from = text.ceil_char_boundary(text.len().saturating_sub(longest + MOST_TOKENS * GAP));
    let tail = text.get(from..).unwrap_or_default();
    let read = Text::read(tail);
    let mut open = tail.len();
    for token in read.tokens.iter().rev().take(MOST_TOKENS) {
        let gap = open - token.place.end as usize;
        if gap > GAP || read.form.len() - token.form.start as usize > longest {
            break;
        }
        open = token.place.start as usize;
    }
    from + open
}

/// A run of letters and digits. Texts are far shorter than 4 GiB.
struct Token {
    /// In the text.
    place: Range<u32>,
    /// In the form.
    form: Range<u32>,
    /// Too far behind the run before to be of one value with it.
    apart: bool,
}

/// A text as values are compared; the form of any of its runs in a row is a part of the whole form.
struct Text {
    form: Vec<u8>,
    tokens: Vec<Token>,
}

impl Text {
    fn read(text: &str) -> Self {
        let mut read = Self { form: Vec::with_capacity(text.len()), tokens: Vec::with_capacity(text.len() / 5) };
        let bytes = text.as_bytes();
        // Whether the last character is part of a run that may go on, and whether it is a letter.
        let (mut goes_on, mut letter) = (false, false);
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if byte.is_ascii() {
                if byte.is_ascii_alphanumeric() {
                    let is_letter = byte.is_ascii_alphabetic();
                    if !goes_on {
                        read.begin(at, letter && is_letter);
                    }
                    read.form.push(byte.to_ascii_lowercase());
                    (goes_on, letter) = (true, is_letter);
                } else if goes_on {
                    read.end(at);
                    goes_on = false;
                }
                at += 1;
                continue;
            }
            let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { break };
            if c.is_alphanumeric() {
                let glued = is_glued(c);
                let is_letter = !glued && c.is_alphabetic();
                if goes_on && glued {
                    read.end(at);
                }
                if !goes_on || glued {
                    read.begin(at, letter && is_letter);
                }
                read.form.extend_from_slice(lower(c).encode_utf8(&mut [0; 4]).as_bytes());
                (goes_on, letter) = (!glued, is_letter);
                if glued {
                    read.end(at + c.len_utf8());
                }
            } else if goes_on {
                read.end(at);
                goes_on = false;
            }
            at += c.len_utf8();
        }
        if goes_on {
            read.end(bytes.len());
        }
        read
    }

    fn begin(&mut self, at: usize, after_letter: bool) {
        if after_letter {
            self.form.push(b' ');
        }
        let (at, form) = (at as u32, self.form.len() as u32);
        let apart = self.tokens.last().is_some_and(|last| at - last.place.end > GAP as u32);
        self.tokens.push(Token { place: at..at, form: form..form, apart });
    }

    fn end(&mut self, at: usize) {
        let form = self.form.len() as u32;
        if let Some(last) = self.tokens.last_mut() {
            (last.place.end, last.form.end) = (at as u32, form);
        }
    }
}

const _: () = assert!(words::LONGEST >= LONGEST);

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> Vec<(usize, Arc<ExactData>)> {
        let made = Fingerprinter::new([7; 16]);
        let prints: Vec<_> = values.iter().map(|value| made.of(value).unwrap()).collect();
        let lengths = prints.iter().fold(0, |all, (_, len)| all | 1 << len);
        let prints: Vec<_> = prints.into_iter().map(|(print, _)| Fingerprint::from_bytes(&print.to_bytes())).collect();
        let data = ExactData::new("test");
        data.exchange(Arc::new(DataSet::new(made, lengths, &prints)));
        vec![(0, Arc::new(data))]
    }

    fn found<'t>(sets: &[(usize, Arc<ExactData>)], text: &'t str) -> Vec<&'t str> {
        let mut spans = Vec::new();
        scan(text, sets, |_, span| spans.push(&text[span]));
        spans
    }

    #[test]
    fn values_are_found_whatever_their_case_and_separators() {
        let sets = set(&["AB-1234-56", "Ada Lovelace", "therapist", "Größe 12b", "王小明店"]);
        for (text, expected) in [
            ("id ab 1234 56, AB123456; ab_1234.56", &["ab 1234 56", "AB123456", "ab_1234.56"][..]),
            ("by ada\nLOVELACE's", &["ada\nLOVELACE"]),
            ("AdaLovelace, Ada King Lovelace", &[]),
            ("the rapist", &[]),
            ("my therapist", &["therapist"]),
            ("GRÖSSE 12b, GRößE-12-B", &["GRößE-12-B"]),
            ("我叫王小明店主", &["王小明店"]),
            ("AB-1234-567", &[]),
            ("AB-1234                                56", &[]),
        ] {
            assert_eq!(found(&sets, text), expected, "{text}");
        }
    }

    #[test]
    fn a_hundred_thousand_values_are_all_found_and_nothing_else() {
        let value = |n: u64| format!("C{:07}-{:03}", n.wrapping_mul(0x9E37_79B9) % 10_000_000, n % 1000);
        let values: Vec<String> = (0..100_000).map(value).collect();
        let sets = set(&values.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(values.iter().all(|value| found(&sets, value) == [value.as_str()]));
        let others = (100_000..300_000).map(value);
        let known: std::collections::HashSet<&String> = values.iter().collect();
        let strange = others.filter(|other| !known.contains(other)).filter(|other| !found(&sets, other).is_empty());
        assert_eq!(strange.count(), 0);
        let content = sets[0].1.content().unwrap();
        let each = content.bytes() as f64 / content.len() as f64;
        assert!(each < 11.0, "{each} bytes a value");
    }

    #[test]
    fn what_is_too_short_or_too_long_is_no_value() {
        let made = Fingerprinter::new([0; 16]);
        for bad in ["", "abc", "a-1", &"x".repeat(128), &"a1 ".repeat(17)] {
            assert!(made.of(bad).is_none(), "{bad}");
        }
        assert_ne!(made.of("secret").unwrap(), Fingerprinter::new([1; 16]).of("secret").unwrap());
    }

    #[test]
    fn the_end_of_a_text_is_waited_for_as_far_as_a_value_may_reach() {
        let sets: Vec<_> = set(&["AB-1234-56", "Ada Love"]).into_iter().map(|(_, data)| data).collect();
        for (text, open) in
            [("so the id is AB-12", "is AB-12"), ("x. Ada ", "x. Ada "), ("Ada                     ", "")]
        {
            assert_eq!(&text[settled(text, &sets)..], open, "{text}");
        }
        let unloaded = [Arc::new(ExactData::new("none"))];
        assert_eq!(settled("abc", &unloaded), 3);
    }
}
