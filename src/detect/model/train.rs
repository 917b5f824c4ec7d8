//! Training: logistic regression by stochastic gradient descent, for each text on the window that scores highest, so that what is
//! learned is what is asked of the model later.
#![expect(
    clippy::indexing_slicing,
    reason = "numbers of rows, units and features index the tables they were made from"
)]

use std::collections::BTreeMap;
use std::ops::Range;

use super::features::{BUCKETS, CONCEPTS, Speaker};
use super::gate::{KEYS, SPAN};
use super::sample::{Row, Sample, Unit};
use super::weights::Model;
use super::{Sums, WINDOWS, best, sizes};

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The same seed and rows give the same bytes.
    pub seed: u64,
    pub epochs: usize,
    /// The yardstick: hashed words and characters of whole texts, no word groups, windows, speakers or gate.
    pub plain: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, epochs: 6, plain: false }
    }
}

/// Steps of grams, of concepts, of concepts of one speaker, of the gate.
const GRAM_RATE: f32 = 0.3;
const CONCEPT_RATE: f32 = 0.3;
const SPEAKER_RATE: f32 = 0.15;
const GATE_RATE: f32 = 0.05;
/// Pull towards zero; what only one speaker's rows say is pulled harder.
const DECAY: f32 = 1e-3;
const SPEAKER_DECAY: f32 = 3e-3;
/// What suits the yardstick best.
const PLAIN_DECAY: f32 = 1e-5;
/// How much a window beside the attack, or a random one, counts as harmless.
const BESIDE: f32 = 0.3;
/// Sum of the weights of all attacks, and of all others.
const TOTAL: f32 = 10_000.0;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A weight, and the sum of its squared gradients (Adagrad).
#[derive(Clone, Copy, Default)]
struct Cell {
    weight: f32,
    squares: f32,
}

impl Cell {
    #[inline]
    fn update(&mut self, gradient: f32, rate: f32, decay: f32) {
        let gradient = gradient + decay * self.weight;
        self.squares += gradient * gradient;
        self.weight -= rate * gradient / (self.squares.sqrt() + 1e-3);
    }
}

/// A row as said by one speaker.
#[derive(Clone, Copy)]
struct Example {
    row: usize,
    speaker: Speaker,
    weight: f32,
}

/// Rows of a source weigh n^-0.5 each, so that no source dominates; attacks weigh as much as all others.
fn examples(rows: &[Row], chosen: &[usize], plain: bool) -> Vec<Example> {
    let mut counts: BTreeMap<(&str, bool), f32> = BTreeMap::new();
    for row in chosen.iter().map(|i| &rows[*i]) {
        *counts.entry((&row.source, row.attack)).or_default() += 1.0;
    }
    let weight = |row: &Row| counts[&(row.source.as_str(), row.attack)].sqrt().recip();
    let mut totals = [0.0f32; 2];
    chosen.iter().map(|i| &rows[*i]).for_each(|row| totals[usize::from(row.attack)] += weight(row));
    let mut examples = Vec::new();
    for row in chosen {
        let weight = weight(&rows[*row]) * TOTAL / totals[usize::from(rows[*row].attack)];
        if plain {
            examples.push(Example { row: *row, speaker: Speaker::User, weight });
        } else {
            let speakers = rows[*row].speakers.iter();
            examples.extend(speakers.map(|(speaker, share)| Example {
                row: *row,
                speaker: *speaker,
                weight: weight * share,
            }));
        }
    }
    examples
}

struct Learner {
    grams: Vec<Cell>,
    /// What concepts say whoever speaks, and what more they say for each speaker.
    common: Vec<Cell>,
    own: [Vec<Cell>; 4],
    bias: [[Cell; WINDOWS.len()]; 4],
    plain: bool,
    decay: f32,
}

impl Learner {
    fn sums(&self, sample: &Sample, unit: &Unit, speaker: Speaker) -> Sums {
        let (grams, concepts) = (sample.grams(unit), sample.concepts(unit));
        let own = &self.own[speaker as usize];
        let concept = |concept: &u32| self.common[*concept as usize].weight + own[*concept as usize].weight;
        Sums {
            grams: grams.iter().map(|gram| self.grams[*gram as usize].weight).sum(),
            gram_count: grams.len() as f32,
            concepts: if self.plain { 0.0 } else { concepts.iter().map(concept).sum() },
            concept_count: concepts.len() as f32,
            live: 1.0,
        }
    }

    fn example(&mut self, row: &Row, sample: &Sample, example: Example, first: bool, random: &mut Random) {
        let Example { speaker, weight, .. } = example;
        let sums: Vec<Sums> = sample.units.iter().map(|unit| self.sums(sample, unit, speaker)).collect();
        if sums.is_empty() {
            return;
        }
        if self.plain {
            return self.step(sample, &sums, 0..sums.len(), speaker, row.attack, weight);
        }
        let bias: Vec<f32> = self.bias[speaker as usize].iter().take(sizes(speaker)).map(|cell| cell.weight).collect();
        let mut step = |window: Range<usize>, attack: bool, weight: f32| {
            if !window.is_empty() {
                self.step(sample, &sums, window, speaker, attack, weight);
            }
        };
        let widest = WINDOWS[sizes(speaker) - 1];
        let top = |allowed: &dyn Fn(&Range<usize>) -> bool| best(&sums, &bias, (1.0, 1.0), allowed).1;
        match payload(row, sample).filter(|_| row.attack) {
            Some(payload) => {
                let inside = |range: &Range<usize>| {
                    range.start <= payload.start && payload.end <= range.end
                        || payload.start <= range.start && range.end <= payload.end
                };
                let window = if first { 0..0 } else { top(&inside) };
                let whole = payload.start..payload.end.min(payload.start + widest);
                step(if window.is_empty() { whole } else { window }, true, weight);
                if !first {
                    step(
                        top(&|range| range.end <= payload.start || payload.end <= range.start),
                        false,
                        weight * BESIDE,
                    );
                }
            }
            None => {
                step(if first { 0..sums.len().min(24) } else { top(&|_| true) }, row.attack, weight);
                if !row.attack && !first {
                    let at = random.below(sums.len());
                    step(at..at + 1, false, weight * BESIDE);
                }
            }
        }
    }

    /// Moves the score of a window towards the label.
    fn step(
        &mut self,
        sample: &Sample,
        sums: &[Sums],
        window: Range<usize>,
        speaker: Speaker,
        attack: bool,
        weight: f32,
    ) {
        let total = sums[window.clone()].iter().fold(Sums::default(), |all, unit| all.plus(*unit, 1.0));
        let size = if self.plain {
            0
        } else {
            WINDOWS.iter().position(|size| window.len() <= *size).unwrap_or(WINDOWS.len() - 1)
        };
        let score = total.value((1.0, 1.0)) + self.bias[speaker as usize][size].weight;
        let error = (1.0 / (1.0 + (-score).exp()) - f32::from(u8::from(attack))) * weight;
        if error.abs() < 1e-4 * weight {
            return;
        }
        let (gram, concept) = total.norms();
        for unit in &sample.units[window] {
            for index in sample.grams(unit) {
                self.grams[*index as usize].update(error * gram, GRAM_RATE, self.decay);
            }
            if !self.plain {
                for index in sample.concepts(unit) {
                    self.common[*index as usize].update(error * concept, CONCEPT_RATE, self.decay);
                    self.own[speaker as usize][*index as usize].update(error * concept, SPEAKER_RATE, SPEAKER_DECAY);
                }
            }
        }
        self.bias[speaker as usize][size].update(error, GRAM_RATE * 0.3, 0.0);
    }

    fn model(&self) -> Model {
        let weights = |cells: &[Cell]| cells.iter().map(|cell| cell.weight).collect::<Vec<_>>();
        let (grams, gram_scale) = pack(&[weights(&self.grams)]);
        let tables = self
            .own
            .each_ref()
            .map(|own| self.common.iter().zip(own).map(|(common, own)| common.weight + own.weight).collect::<Vec<_>>());
        let (concepts, concept_scale) = pack(&tables);
        Model {
            gram_scale,
            concept_scale,
            grams: grams.into_iter().next().unwrap_or_default(),
            concepts: concepts.try_into().unwrap_or_default(),
            bias: self.bias.map(|sizes| sizes.map(|cell| cell.weight)),
            acts: [0.0; 4],
            keys: [Vec::new(), Vec::new()],
            limit: [i32::MIN; 4],
            fingerprint: 0,
        }
    }
}

/// Weights in eight bits, and their unit: one in a thousand is cut off.
fn pack(tables: &[Vec<f32>]) -> (Vec<Vec<i8>>, f32) {
    let mut sizes: Vec<f32> = tables.iter().flatten().map(|weight| weight.abs()).filter(|size| *size > 0.0).collect();
    sizes.sort_by(f32::total_cmp);
    let scale = sizes.get(sizes.len() * 999 / 1000).copied().unwrap_or(1.0).max(1e-6) / 127.0;
    let pack =
        |table: &Vec<f32>| table.iter().map(|weight| (weight / scale).round().clamp(-127.0, 127.0) as i8).collect();
    (tables.iter().map(pack).collect(), scale)
}

/// The units that hold the attack.
fn payload(row: &Row, sample: &Sample) -> Option<Range<usize>> {
    let bytes = row.payload.as_ref()?;
    let touched = |unit: &Unit| (unit.bytes.start as usize) < bytes.end && bytes.start < unit.bytes.end as usize;
    let first = sample.units.iter().position(touched)?;
    let last = sample.units.iter().rposition(touched)?;
    Some(first..last + 1)
}

/// Weights without thresholds, learned from the rows whose numbers are `chosen`.
pub(super) fn learn(rows: &[Row], samples: &[Sample], chosen: &[usize], options: Options) -> Model {
    let mut examples = examples(rows, chosen, options.plain);
    let mut learner = Learner {
        grams: vec![Cell::default(); BUCKETS],
        common: vec![Cell::default(); CONCEPTS],
        own: std::array::from_fn(|_| vec![Cell::default(); CONCEPTS]),
        bias: [[Cell::default(); WINDOWS.len()]; 4],
        plain: options.plain,
        decay: if options.plain { PLAIN_DECAY } else { DECAY },
    };
    let mut random = Random(options.seed);
    for epoch in 0..options.epochs {
        random.shuffle(&mut examples);
        for example in &examples {
            learner.example(&rows[example.row], &samples[example.row], *example, epoch == 0, &mut random);
        }
    }
    let mut model = learner.model();
    model.keys = [false, true].map(|tool| {
        let examples = examples.iter().filter(|example| (example.speaker == Speaker::Tool) == tool).copied().collect();
        gate(rows, samples, examples, options)
    });
    model
}

/// What the first letters of words say, learned on the 256 bytes of each text that say most.
fn gate(rows: &[Row], samples: &[Sample], mut examples: Vec<Example>, options: Options) -> Vec<i8> {
    let mut cells = vec![Cell::default(); KEYS];
    let mut bias = Cell::default();
    let mut random = Random(options.seed ^ 0x5EED);
    let epochs = if options.plain { 0 } else { options.epochs };
    for epoch in 0..epochs {
        random.shuffle(&mut examples);
        for Example { row, weight, .. } in examples.iter().copied() {
            let (row, sample) = (&rows[row], &samples[row]);
            let sums = sample.gate_sums(|slot| cells[usize::from(slot)].weight);
            if sums.is_empty() {
                continue;
            }
            let place = row.payload.as_ref().filter(|_| row.attack).map_or(0..sums.len(), |bytes| {
                let end = (bytes.end / 64 + 1).min(sums.len());
                (bytes.start / 64).min(end - 1)..end
            });
            let mut step = |block: usize, attack: bool, weight: f32| {
                let score = sums[block] + bias.weight;
                let error = (1.0 / (1.0 + (-score).exp()) - f32::from(u8::from(attack))) * weight;
                for block in (block + 1).saturating_sub(SPAN)..=block {
                    for slot in sample.block(block) {
                        cells[usize::from(*slot)].update(error, GATE_RATE, DECAY);
                    }
                }
                bias.update(error, GATE_RATE, 0.0);
            };
            if row.attack && epoch == 0 {
                place.step_by(2).take(16).for_each(|block| step(block, true, weight * BESIDE));
                continue;
            }
            let top = place.fold(
                (f32::NEG_INFINITY, 0),
                |top, block| if sums[block] > top.0 { (sums[block], block) } else { top },
            );
            step(top.1, row.attack, weight);
            if !row.attack {
                step(random.below(sums.len()), false, weight);
            }
        }
    }
    let (tables, _) = pack(&[cells.iter().map(|cell| cell.weight).collect()]);
    tables.into_iter().next().unwrap_or_default()
}
