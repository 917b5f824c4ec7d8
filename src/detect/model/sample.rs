//! The features of a text, kept for training.
#![expect(
    clippy::indexing_slicing,
    reason = "numbers of units, blocks and features index the tables they were made from"
)]

use std::ops::{AddAssign, Range, SubAssign};

use super::features::{Speaker, is_encoded, units};
use super::gate::{SPAN, slot};
use super::weights::Model;
use super::{Sums, Variety, best, reach};
use crate::detect::injection::Lexicon;
use crate::detect::words::{Starts, each_word_weighed};

/// One text to learn from.
#[derive(Clone, Debug)]
pub struct Row {
    pub text: String,
    pub attack: bool,
    pub source: String,
    pub kind: String,
    /// Bytes of the attack inside of the text.
    pub payload: Option<Range<usize>>,
    /// Who may be saying this, and how much the row counts as said by them; the first is who is assumed in an evaluation.
    pub speakers: Vec<(Speaker, f32)>,
}

impl Row {
    /// Who is assumed to say it in an evaluation.
    #[must_use]
    pub fn speaker(&self) -> Speaker {
        self.speakers.first().map_or(Speaker::User, |(speaker, _)| *speaker)
    }
}

/// Features of a text.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    features: Vec<u32>,
    pub(super) units: Vec<Unit>,
    /// Slots of the gate for the words of the text, and where each block of 64 bytes begins in them.
    keys: Vec<u16>,
    pub(super) blocks: Vec<u32>,
}

/// Where the features of one unit stand, and its bytes.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    grams: Range<u32>,
    concepts: Range<u32>,
    pub bytes: Range<u32>,
    encoded: bool,
}

impl Sample {
    pub(in crate::detect) fn new(text: &[u8], lexicon: &Lexicon, starts: &Starts) -> Self {
        let mut sample = Self::default();
        let (keys, blocks) = (&mut sample.keys, &mut sample.blocks);
        each_word_weighed(
            text,
            starts,
            |_| 0,
            |_, words, _| {
                blocks.push(keys.len() as u32);
                keys.extend(words.iter().map(|key| slot(*key)));
            },
            |_, _| {},
        );
        for bytes in units(text) {
            let from = sample.features.len() as u32;
            let mut concepts = Vec::new();
            let features = &mut sample.features;
            super::unit(&text[bytes.clone()], lexicon, |gram| features.push(gram), |concept| concepts.push(concept));
            let middle = features.len() as u32;
            features.extend(concepts);
            let to = features.len() as u32;
            sample.units.push(Unit {
                grams: from..middle,
                concepts: middle..to,
                bytes: bytes.start as u32..bytes.end as u32,
                encoded: is_encoded(&text[bytes]),
            });
        }
        sample
    }

    pub(super) fn grams(&self, unit: &Unit) -> &[u32] {
        &self.features[unit.grams.start as usize..unit.grams.end as usize]
    }

    pub(super) fn concepts(&self, unit: &Unit) -> &[u32] {
        &self.features[unit.concepts.start as usize..unit.concepts.end as usize]
    }

    /// The slots of the words that start in a block.
    pub(super) fn block(&self, block: usize) -> &[u16] {
        let end = self.blocks.get(block + 1).map_or(self.keys.len(), |end| *end as usize);
        &self.keys[self.blocks[block] as usize..end]
    }

    /// For every block the weight of its words and of those in the blocks before.
    pub(super) fn gate_sums<T: Copy + Default + AddAssign + SubAssign>(&self, weight: impl Fn(u16) -> T) -> Vec<T> {
        let of_block = |block| {
            let mut sum = T::default();
            self.block(block).iter().for_each(|slot| sum += weight(*slot));
            sum
        };
        let own: Vec<T> = (0..self.blocks.len()).map(of_block).collect();
        let mut sum = T::default();
        let running = own.iter().enumerate().map(|(block, weight)| {
            sum += *weight;
            if block >= SPAN {
                sum -= own[block - SPAN];
            }
            sum
        });
        running.collect()
    }

    /// Which units the gate lets through.
    fn live(&self, model: &Model, speaker: Speaker) -> Vec<bool> {
        let (table, limit) = (model.keys(speaker), model.limit[speaker as usize]);
        let sums = self.gate_sums(|slot| i32::from(table[usize::from(slot)]));
        let marks: Vec<usize> = (0..sums.len()).filter(|block| sums[*block] > limit).map(|block| block * 64).collect();
        let is_live = |unit: &Unit| {
            let next = marks.partition_point(|mark| mark + 64 <= unit.bytes.start as usize);
            !unit.encoded && marks.get(next).is_some_and(|mark| *mark < unit.bytes.end as usize)
        };
        self.units.iter().map(is_live).collect()
    }

    fn sums(&self, unit: &Unit, model: &Model, speaker: Speaker) -> Sums {
        let mut variety = Variety::none();
        self.grams(unit).iter().for_each(|gram| variety.note(*gram));
        let sum = self.grams(unit).iter().map(|gram| model.gram(*gram)).sum::<i32>();
        let (grams, gram_count) = variety.weigh(sum, self.grams(unit).len() as u32);
        Sums {
            grams,
            gram_count,
            concepts: self.concepts(unit).iter().map(|concept| model.concept(*concept, speaker)).sum::<i32>() as f32,
            concept_count: unit.concepts.len() as f32,
            live: 1.0,
        }
    }

    /// The highest score of a window; none if the gate stays shut.
    #[must_use]
    pub fn score(&self, model: &Model, speaker: Speaker) -> Option<f32> {
        self.score_of(&self.live(model, speaker), model, speaker)
    }

    /// The same without a gate.
    pub(super) fn open_score(&self, model: &Model, speaker: Speaker) -> Option<f32> {
        self.score_of(&self.units.iter().map(|unit| !unit.encoded).collect::<Vec<_>>(), model, speaker)
    }

    fn score_of(&self, live: &[bool], model: &Model, speaker: Speaker) -> Option<f32> {
        if !live.contains(&true) {
            return None;
        }
        let sums_of = |(unit, live): (&Unit, &bool)| {
            let sums = self.sums(unit, model, speaker);
            Sums { live: f32::from(u8::from(*live && model.is_live(sums, speaker))), ..sums }
        };
        let sums: Vec<Sums> = self.units.iter().zip(live).map(sums_of).collect();
        let (score, window) = best(&sums, model.bias(speaker), model.scales(), |_| true);
        (!window.is_empty()).then_some(score)
    }

    /// The score of the whole text as one window, for the baseline.
    pub(super) fn whole(&self, model: &Model, speaker: Speaker) -> f32 {
        let total = self.units.iter().fold(Sums::default(), |all, unit| all.plus(self.sums(unit, model, speaker), 1.0));
        total.value(model.scales()) + model.bias[speaker as usize][0]
    }

    /// The highest sum of the gate.
    pub(super) fn gate_score(&self, model: &Model, speaker: Speaker) -> i32 {
        let table = model.keys(speaker);
        self.gate_sums(|slot| i32::from(table[usize::from(slot)])).into_iter().max().unwrap_or(i32::MIN)
    }

    /// Bytes near enough to what passes the gate to be looked at, and all bytes.
    #[must_use]
    pub fn passes(&self, model: &Model, speaker: Speaker) -> (usize, usize) {
        let (live, reach) = (self.live(model, speaker), reach(speaker));
        let looked_at = |i: &usize| live[i.saturating_sub(reach)..(i + reach + 1).min(live.len())].contains(&true);
        let sum = |units: &mut dyn Iterator<Item = usize>| units.map(|i| self.units[i].bytes.len()).sum();
        (sum(&mut (0..live.len()).filter(looked_at)), sum(&mut (0..live.len())))
    }
}
