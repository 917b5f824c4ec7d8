//! A linear model over hashed words, character sequences and word groups, for attacks whose wording no rule knows. Sentences are
//! scored alone and in windows of several, and the highest score counts, so that a long text does not dilute one sentence. A gate
//! that costs next to nothing ([`gate`]) chooses which sentences are looked at.

mod evaluate;
mod features;
mod gate;
mod sample;
mod told;
mod train;
mod weights;

pub use evaluate::{BySource, by_source, train};
pub use features::Speaker;
pub use sample::{Row, Sample};
pub use train::Options;
pub use weights::{Model, ModelError};

use std::ops::Range;

use features::{concepts, grams};

use super::injection::{Groups, Lexicon};

/// How many units a window spans.
const WINDOWS: [usize; 3] = [1, 3, 8];
/// A unit that passed the gate is looked at together with others only if it scores more than this alone.
const ALONE: f32 = -1.5;
/// Added to the number of features before its root is taken: short texts say little.
const GRAM_PRIOR: f32 = 16.0;
const CONCEPT_PRIOR: f32 = 4.0;

/// How many sizes of window are tried. In documents a sentence stands alone, in prompts it does not.
const fn sizes(speaker: Speaker) -> usize {
    match speaker {
        Speaker::Tool => 2,
        Speaker::User | Speaker::System | Speaker::Assistant => 3,
    }
}

/// How many units beside one that passed the gate can be in a window with it.
fn reach(speaker: Speaker) -> usize {
    WINDOWS.iter().take(sizes(speaker)).max().map_or(0, |widest| widest - 1)
}

/// Sums over the features of one or several units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    grams: f32,
    gram_count: f32,
    concepts: f32,
    concept_count: f32,
    /// How many of the units passed the gate.
    live: f32,
}

impl Sums {
    fn plus(self, other: Self, sign: f32) -> Self {
        Self {
            grams: self.grams + sign * other.grams,
            gram_count: self.gram_count + sign * other.gram_count,
            concepts: self.concepts + sign * other.concepts,
            concept_count: self.concept_count + sign * other.concept_count,
            live: self.live + sign * other.live,
        }
    }

    /// Whether a unit says what another says, as far as sums can tell: again and again the same adds nothing.
    fn repeats(self, other: &Self) -> bool {
        let near = |a: f32, b: f32| (a - b).abs() <= 0.05 * b.abs();
        near(self.gram_count, other.gram_count) && near(self.grams, other.grams)
    }

    /// What one gram and one concept weigh in a window with these sums.
    fn norms(self) -> (f32, f32) {
        ((self.gram_count + GRAM_PRIOR).sqrt().recip(), (self.concept_count + CONCEPT_PRIOR).sqrt().recip())
    }

    fn value(self, (gram_scale, concept_scale): (f32, f32)) -> f32 {
        let (gram, concept) = self.norms();
        self.grams * gram_scale * gram + self.concepts * concept_scale * concept
    }
}

/// The highest score of the windows that hold a unit behind the gate and that `allowed` lets through; the window is empty if there
/// is none. `bias` has an entry for each size that is tried.
fn best(
    units: &[Sums],
    bias: &[f32],
    scales: (f32, f32),
    allowed: impl Fn(&Range<usize>) -> bool,
) -> (f32, Range<usize>) {
    let mut top = (f32::NEG_INFINITY, 0..0);
    for (size, bias) in WINDOWS.iter().zip(bias) {
        let mut sums = Sums::default();
        for (i, unit) in units.iter().enumerate() {
            sums = sums.plus(*unit, 1.0);
            if let Some(gone) = i.checked_sub(*size).and_then(|gone| units.get(gone)) {
                sums = sums.plus(*gone, -1.0);
            }
            let range = (i + 1).saturating_sub(*size)..i + 1;
            let whole = i + 1 >= *size || i + 1 == units.len();
            if whole && sums.live > 0.5 && allowed(&range) {
                let value = match units.get(range.clone()) {
                    Some([first, others @ ..])
                        if !others.is_empty() && others.iter().all(|unit| unit.repeats(first)) =>
                    {
                        first.value(scales) + bias
                    }
                    _ => sums.value(scales) + bias,
                };
                if value > top.0 {
                    top = (value, range);
                }
            }
        }
        if *size >= units.len() {
            break;
        }
    }
    top
}

/// Which grams a unit has, nearly: 4,096 bits for at most some 1,500.
struct Variety([u64; 64]);

impl Variety {
    const fn none() -> Self {
        Self([0; 64])
    }

    #[inline]
    fn note(&mut self, gram: u32) {
        if let Some(word) = self.0.get_mut(gram as usize >> 6 & 63) {
            *word |= 1 << (gram & 63);
        }
    }

    /// The sum over a unit's grams, and their number. Where the same ones come again and again each counts once: a sum grows with
    /// every repetition, its norm only with the root, and a word said eighty times would look like anything.
    fn weigh(&self, grams: i32, count: u32) -> (f32, f32) {
        let distinct = self.0.iter().map(|word| word.count_ones()).sum::<u32>();
        if distinct * 3 >= count {
            return (grams as f32, count as f32);
        }
        (grams as f32 * distinct as f32 / count as f32, distinct as f32)
    }
}

/// The features of one unit.
fn unit(text: &[u8], lexicon: &Lexicon, gram: impl FnMut(u32), concept: impl FnMut(u32)) {
    let mut seen = Groups::new();
    lexicon.each_hit(text, |number, groups| seen.note(number, groups));
    concepts(text, seen.present, seen.before(), concept);
    grams(text, gram);
}

#[cfg(test)]
mod tests;
