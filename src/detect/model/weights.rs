//! The file of weights, and scoring with it.
#![expect(
    clippy::indexing_slicing,
    reason = "feature numbers are below the size of their table; runs of units end within the text"
)]

use std::ops::Range;

use super::features::{BUCKETS, CONCEPTS, Speaker, is_encoded, units};
use super::gate::{Gate, KEYS, weight_of};
use super::{ALONE, Sums, Variety, WINDOWS, best, reach, sizes, unit};
use crate::detect::injection::Lexicon;

/// What the file begins with.
const MAGIC: &[u8; 8] = b"SNTLMDL\x01";
/// Magic, fingerprint, scales, bias, thresholds, limits.
const HEADER: usize = 8 + 4 + 8 + 4 * SPEAKERS * WINDOWS.len() + 4 * SPEAKERS + 4 * SPEAKERS;
const SPEAKERS: usize = Speaker::ALL.len();
/// The checksum at the end.
const TAIL: usize = 4;
/// The length of every file of this version, in bytes.
const LEN: usize = HEADER + BUCKETS + SPEAKERS * CONCEPTS + 2 * KEYS + TAIL;
/// Log-odds of a confidence of 0.7 and of 0.9, at which the balanced policy acts.
const ACTS: f32 = 0.847_298;
const ACTS_SYSTEM: f32 = 2.197_225;

/// Trained weights.
#[derive(Clone, PartialEq)]
pub struct Model {
    pub(super) gram_scale: f32,
    pub(super) concept_scale: f32,
    pub(super) grams: Vec<i8>,
    /// A table for each speaker.
    pub(super) concepts: [Vec<i8>; SPEAKERS],
    /// By speaker and size of window.
    pub(super) bias: [[f32; WINDOWS.len()]; SPEAKERS],
    /// The score at which the balanced policy acts, by speaker.
    pub(super) acts: [f32; SPEAKERS],
    /// Weights of the gate, for tools and for all others.
    pub(super) keys: [Vec<i8>; 2],
    /// Sums above open it, by speaker.
    pub(super) limit: [i32; SPEAKERS],
    /// Of the word groups that the model was trained with.
    pub(super) fingerprint: u32,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("fingerprint", &self.fingerprint)
            .field("acts", &self.acts)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Why a file of weights is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("not a model file of this version")]
    Magic,
    #[error("{0} bytes long instead of {LEN}: truncated or from another version")]
    Length(usize),
    #[error("the checksum does not fit: the file is damaged")]
    Checksum,
    #[error("a scale or threshold is not a finite number")]
    Number,
    #[error("trained with other word groups than those of the rule pack: train it anew")]
    Groups,
}

/// One unit of a text.
struct Part {
    bytes: Range<usize>,
    /// Of those that are live.
    sums: Option<Sums>,
    live: bool,
}

/// Takes values off the front.
struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(ModelError::Magic)?;
        self.0 = rest;
        Ok(*head)
    }

    fn float(&mut self) -> Result<f32, ModelError> {
        Some(f32::from_le_bytes(self.take()?)).filter(|value| value.is_finite()).ok_or(ModelError::Number)
    }

    fn table(&mut self, len: usize) -> Result<Vec<i8>, ModelError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(ModelError::Magic)?;
        self.0 = rest;
        Ok(head.iter().map(|byte| byte.cast_signed()).collect())
    }
}

/// FNV-1a: finds damage, does not stop forgery (the file is part of the program).
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl Model {
    /// Reads a file of weights.
    ///
    /// # Errors
    /// When it is not one, is damaged, or belongs to another version.
    pub fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(ModelError::Magic);
        }
        if bytes.len() != LEN {
            return Err(ModelError::Length(bytes.len()));
        }
        let (body, tail) = bytes.split_at(LEN - TAIL);
        if checksum(body).to_le_bytes() != *tail {
            return Err(ModelError::Checksum);
        }
        let mut from = Reader(&body[MAGIC.len()..]);
        let fingerprint = u32::from_le_bytes(from.take()?);
        let (gram_scale, concept_scale) = (from.float()?, from.float()?);
        let (mut bias, mut acts, mut limit) = ([[0.0; WINDOWS.len()]; SPEAKERS], [0.0; SPEAKERS], [0; SPEAKERS]);
        for value in bias.iter_mut().flatten().chain(&mut acts) {
            *value = from.float()?;
        }
        for value in &mut limit {
            *value = i32::from_le_bytes(from.take()?);
        }
        let grams = from.table(BUCKETS)?;
        let concepts = [from.table(CONCEPTS)?, from.table(CONCEPTS)?, from.table(CONCEPTS)?, from.table(CONCEPTS)?];
        let keys = [from.table(KEYS)?, from.table(KEYS)?];
        Ok(Self { gram_scale, concept_scale, grams, concepts, bias, acts, keys, limit, fingerprint })
    }

    /// The file's bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.fingerprint.to_le_bytes());
        let floats =
            [self.gram_scale, self.concept_scale].into_iter().chain(self.bias.into_iter().flatten()).chain(self.acts);
        floats.for_each(|value| out.extend(value.to_le_bytes()));
        self.limit.iter().for_each(|value| out.extend(value.to_le_bytes()));
        for table in [&self.grams].into_iter().chain(&self.concepts).chain(&self.keys) {
            out.extend(table.iter().map(|weight| weight.cast_unsigned()));
        }
        out.extend(checksum(&out).to_le_bytes());
        out
    }

    /// The groups of the lexicon that the model was trained with, as a number.
    #[must_use]
    pub const fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    pub(in crate::detect) fn set_fingerprint(&mut self, fingerprint: u32) {
        self.fingerprint = fingerprint;
    }

    /// The score at which the balanced policy acts.
    #[must_use]
    pub fn acts(&self, speaker: Speaker) -> f32 {
        self.acts[speaker as usize]
    }

    /// A score as a confidence: 0.7, for developers 0.9, where the balanced policy acts.
    pub(super) fn confidence(&self, score: f32, speaker: Speaker) -> f32 {
        let acts = if speaker == Speaker::System { ACTS_SYSTEM } else { ACTS };
        1.0 / (1.0 + (self.acts[speaker as usize] - score - acts).exp())
    }

    pub(in crate::detect) fn gate(&self, speaker: Speaker) -> Gate {
        Gate::new(self.limit[speaker as usize])
    }

    /// What the words with a key weigh in the gate.
    pub(in crate::detect) fn weight_of(&self, speaker: Speaker) -> impl Fn(u32) -> i32 {
        weight_of(self.keys(speaker))
    }

    pub(super) fn keys(&self, speaker: Speaker) -> &[i8] {
        &self.keys[usize::from(speaker == Speaker::Tool)]
    }

    pub(super) fn scales(&self) -> (f32, f32) {
        (self.gram_scale, self.concept_scale)
    }

    /// The biases of the sizes of window that are tried.
    pub(super) fn bias(&self, speaker: Speaker) -> &[f32] {
        &self.bias[speaker as usize][..sizes(speaker)]
    }

    pub(super) fn gram(&self, gram: u32) -> i32 {
        i32::from(self.grams[gram as usize & (BUCKETS - 1)])
    }

    pub(super) fn concept(&self, concept: u32, speaker: Speaker) -> i32 {
        i32::from(self.concepts[speaker as usize][concept as usize])
    }

    /// The highest confidence of any window with a unit that the gate marked, and its bytes.
    pub(in crate::detect) fn score(
        &self,
        text: &[u8],
        marks: &[usize],
        lexicon: &Lexicon,
        speaker: Speaker,
    ) -> Option<(f32, Range<usize>)> {
        let (score, span) = self.raw_score(text, marks, lexicon, speaker)?;
        Some((self.confidence(score, speaker), span))
    }

    pub(super) fn raw_score(
        &self,
        text: &[u8],
        marks: &[usize],
        lexicon: &Lexicon,
        speaker: Speaker,
    ) -> Option<(f32, Range<usize>)> {
        let reach = reach(speaker);
        let mut parts: Vec<Part> = Vec::new();
        let (mut next, mut last) = (0, 0);
        for bytes in units(text) {
            while marks.get(next).is_some_and(|mark| mark + 64 <= bytes.start) {
                next += 1;
            }
            let marked = marks.get(next).is_some_and(|mark| *mark < bytes.end) && !is_encoded(&text[bytes.clone()]);
            if marked {
                last = parts.len();
            } else if next == marks.len() && parts.len() > last + reach {
                // No window with a marked unit reaches farther.
                break;
            }
            let sums = if marked { self.live_unit(&text[bytes.clone()], lexicon, speaker) } else { None };
            parts.push(Part { bytes, sums, live: sums.is_some() });
        }
        let mut top: Option<(f32, Range<usize>)> = None;
        let mut from = 0;
        while let Some(first) = parts[from..].iter().position(|part| part.live).map(|first| from + first) {
            // A run of units in which no gap between live ones is wider than two windows.
            let mut last = first;
            while let Some(step) = parts.iter().skip(last + 1).take(2 * reach + 1).position(|part| part.live) {
                last += 1 + step;
            }
            let run = &parts[first.saturating_sub(reach)..(last + reach + 1).min(parts.len())];
            let sums_of = |part: &Part| {
                let sums = part.sums.unwrap_or_else(|| self.unit(&text[part.bytes.clone()], lexicon, speaker));
                Sums { live: f32::from(u8::from(part.live)), ..sums }
            };
            let sums: Vec<Sums> = run.iter().map(sums_of).collect();
            let (score, window) = best(&sums, self.bias(speaker), self.scales(), |_| true);
            if !window.is_empty() && top.as_ref().is_none_or(|(other, _)| score > *other) {
                top = Some((score, run[window.start].bytes.start..run[window.end - 1].bytes.end));
            }
            from = last + 1;
        }
        top
    }

    /// Whether a unit that passed the gate is worth a look at its neighbours.
    pub(super) fn is_live(&self, sums: Sums, speaker: Speaker) -> bool {
        sums.value(self.scales()) + self.bias[speaker as usize][0] > ALONE
    }

    /// The sums of a unit if it is live. Most are not, which is known before their grams are told apart: to count each once can
    /// only bring their part of the score nearer to zero.
    fn live_unit(&self, text: &[u8], lexicon: &Lexicon, speaker: Speaker) -> Option<Sums> {
        let (mut grams, mut gram_count, mut concepts, mut concept_count) = (0i32, 0u32, 0i32, 0u32);
        let table = self.grams.first_chunk::<BUCKETS>()?;
        let gram = |gram: u32| {
            grams += i32::from(table[gram as usize & (BUCKETS - 1)]);
            gram_count += 1;
        };
        let concept = |concept| {
            concepts += self.concept(concept, speaker);
            concept_count += 1;
        };
        unit(text, lexicon, gram, concept);
        let sums = Sums {
            grams: grams.max(0) as f32,
            gram_count: gram_count as f32,
            concepts: concepts as f32,
            concept_count: concept_count as f32,
            live: 0.0,
        };
        // A little more, for what rounding may do.
        if sums.value(self.scales()) + self.bias[speaker as usize][0] + 1e-3 <= ALONE {
            return None;
        }
        Some(self.unit(text, lexicon, speaker)).filter(|sums| self.is_live(*sums, speaker))
    }

    fn unit(&self, text: &[u8], lexicon: &Lexicon, speaker: Speaker) -> Sums {
        let (mut grams, mut gram_count, mut concepts, mut concept_count) = (0, 0u32, 0, 0u32);
        let mut variety = Variety::none();
        // It always has this length; without knowing so every look into it compares.
        let Some(table) = self.grams.first_chunk::<BUCKETS>() else { return Sums::default() };
        let gram = |gram: u32| {
            grams += i32::from(table[gram as usize & (BUCKETS - 1)]);
            variety.note(gram);
            gram_count += 1;
        };
        let concept = |concept| {
            concepts += self.concept(concept, speaker);
            concept_count += 1;
        };
        unit(text, lexicon, gram, concept);
        let (grams, gram_count) = variety.weigh(grams, gram_count);
        Sums { grams, gram_count, concepts: concepts as f32, concept_count: concept_count as f32, live: 0.0 }
    }
}
