//! Words near a candidate that say what it is.
#![expect(
    clippy::indexing_slicing,
    reason = "recogniser numbers are below the length of the table; windows are clamped"
)]

use aho_corasick::AhoCorasick;

use crate::detect::literals::automaton;
use crate::detect::pack::Recognizer;
use crate::detect::words::{KeySet, key_of};

/// How far before and behind a candidate words count, in bytes.
const BEFORE: usize = 72;
const BEHIND: usize = 32;
/// A word behind a candidate counts as if it stood this much farther away.
const BEHIND_PENALTY: usize = 24;
/// The longest context word, in bytes.
const LONGEST_WORD: usize = 40;
const RECOGNIZERS: usize = Recognizer::PERSONAL;

/// All context words, compiled.
pub(super) struct Context {
    words: AhoCorasick,
    owners: Vec<Vec<Recognizer>>,
    short: Vec<bool>,
    keys: KeySet,
}

/// A context word met in the text.
struct Word {
    start: usize,
    end: usize,
    id: usize,
}

/// The context words of the text around the last candidate. Each byte of a text is searched for them once.
pub(super) struct Window<'t> {
    /// Where words stand that may begin a context word, ascending.
    candidates: &'t [usize],
    words: Vec<Word>,
    read: usize,
}

impl<'t> Window<'t> {
    pub(super) fn new(candidates: &'t [usize]) -> Self {
        Self { candidates, words: Vec::new(), read: 0 }
    }
}

/// Distance of the nearest context word of each recogniser.
#[derive(Clone, Copy)]
pub(super) struct Nearby([u8; RECOGNIZERS]);

const NONE: u8 = u8::MAX;
/// A word so near names the candidate itself.
const CLOSE: u8 = 32;

impl Nearby {
    /// Whether a word of this recogniser is near.
    pub(super) fn has(&self, recognizer: Recognizer) -> bool {
        self.0[recognizer as usize] != NONE
    }

    /// Whether a word of this recogniser is nearer than those of all others. Words of telephony are vague ("my number is"): they
    /// yield to any other word that is close.
    pub(super) fn is_nearest(&self, recognizer: Recognizer) -> bool {
        let own = self.0[recognizer as usize];
        let yields = |other: usize| other == Recognizer::Phone as usize && own <= CLOSE;
        own != NONE && self.0.iter().enumerate().all(|(other, distance)| *distance >= own || yields(other))
    }
}

impl Context {
    pub(super) fn new(words: &[(Recognizer, &str)]) -> Result<Self, String> {
        if let Some((_, long)) = words.iter().find(|(_, word)| word.len() > LONGEST_WORD) {
            return Err(format!("the context word `{long}` is too long"));
        }
        let mut distinct: Vec<String> = words.iter().map(|(_, word)| word.to_lowercase()).collect();
        distinct.sort();
        distinct.dedup();
        let owners = distinct
            .iter()
            .map(|word| words.iter().filter(|(_, w)| w.to_lowercase() == *word).map(|(owner, _)| *owner).collect())
            .collect();
        let short = distinct.iter().map(|word| word.len() <= 4 && word.is_ascii()).collect();
        let mut keys = KeySet::new();
        distinct.iter().for_each(|word| keys.insert(key_of(word.as_bytes())));
        Ok(Self { words: automaton(&distinct, true)?, owners, short, keys })
    }

    /// Keys of the words that begin a context word.
    pub(super) fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Looks around `start..end`. `window` remembers what was read for the candidates before; they ascend.
    pub(super) fn around(&self, text: &[u8], start: usize, end: usize, window: &mut Window<'_>) -> Nearby {
        let (first, last) = (start.saturating_sub(BEFORE), (end + BEHIND).min(text.len()));
        let mut nearby = Nearby([NONE; RECOGNIZERS]);
        let next = window.candidates.partition_point(|at| *at < first);
        if window.candidates.get(next).is_none_or(|at| *at >= last) {
            return nearby;
        }
        self.read(text, first, last, window);
        for word in window.words.iter().filter(|word| word.start >= first && word.end <= last) {
            let distance = if word.end <= start {
                start - word.end
            } else if word.start >= end {
                word.start - end + BEHIND_PENALTY
            } else {
                continue;
            };
            let distance = u8::try_from(distance).unwrap_or(NONE - 1);
            for owner in &self.owners[word.id] {
                let slot = &mut nearby.0[*owner as usize];
                *slot = (*slot).min(distance);
            }
        }
        nearby
    }

    /// Notes the words of the text up to `last` that are not noted yet and not before `first`.
    fn read(&self, text: &[u8], first: usize, last: usize, window: &mut Window<'_>) {
        window.words.retain(|word| word.start >= first);
        // A word may lie across the point up to which was read.
        let from = first.max(window.read.saturating_sub(LONGEST_WORD));
        for found in self.words.find_iter(text.get(from..last).unwrap_or_default()) {
            let (start, end, id) = (from + found.start(), from + found.end(), found.pattern().as_usize());
            let letter = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphabetic);
            let inside = start > 0 && letter(text.get(start - 1)) && letter(text.get(start));
            if end > window.read && !inside && !(self.short[id] && letter(text.get(end))) {
                window.words.push(Word { start, end, id });
            }
        }
        window.read = window.read.max(last);
    }
}
