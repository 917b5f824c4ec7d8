//! Words near a candidate that say what it is.
#![expect(
    clippy::indexing_slicing,
    reason = "recogniser numbers are below the length of the table; windows are clamped"
)]

use aho_corasick::AhoCorasick;

use crate::detect::literals::automaton;
use crate::detect::pack::Recognizer;

/// How far before and behind a candidate words count, in bytes.
const BEFORE: usize = 72;
const BEHIND: usize = 32;
/// A word behind a candidate counts as if it stood this much farther away.
const BEHIND_PENALTY: usize = 24;
const RECOGNIZERS: usize = 18;

/// All context words, compiled.
pub(super) struct Context {
    words: AhoCorasick,
    owners: Vec<Vec<Recognizer>>,
    short: Vec<bool>,
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
        let mut distinct: Vec<String> = words.iter().map(|(_, word)| word.to_lowercase()).collect();
        distinct.sort();
        distinct.dedup();
        let owners = distinct
            .iter()
            .map(|word| words.iter().filter(|(_, w)| w.to_lowercase() == *word).map(|(owner, _)| *owner).collect())
            .collect();
        let short = distinct.iter().map(|word| word.len() <= 4 && word.is_ascii()).collect();
        Ok(Self { words: automaton(&distinct, true)?, owners, short })
    }

    /// Looks around `start..end`.
    pub(super) fn around(&self, text: &[u8], start: usize, end: usize) -> Nearby {
        let mut nearby = Nearby([NONE; RECOGNIZERS]);
        let before = &text[start.saturating_sub(BEFORE)..start];
        self.note(before, &mut nearby, |_, word_end| before.len() - word_end);
        let behind = &text[end.min(text.len())..(end + BEHIND).min(text.len())];
        self.note(behind, &mut nearby, |word_start, _| word_start + BEHIND_PENALTY);
        nearby
    }

    fn note(&self, window: &[u8], nearby: &mut Nearby, distance: impl Fn(usize, usize) -> usize) {
        for found in self.words.find_iter(window) {
            let letter = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphabetic);
            let id = found.pattern().as_usize();
            let inside =
                found.start() > 0 && letter(window.get(found.start() - 1)) && letter(window.get(found.start()));
            if inside || self.short[id] && letter(window.get(found.end())) {
                continue;
            }
            let distance = u8::try_from(distance(found.start(), found.end())).unwrap_or(NONE - 1);
            for owner in &self.owners[id] {
                let slot = &mut nearby.0[*owner as usize];
                *slot = (*slot).min(distance);
            }
        }
    }
}
