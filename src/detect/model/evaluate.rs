//! Training with thresholds, and what holds on sources that were left out.
#![expect(clippy::indexing_slicing, reason = "numbers of rows index the tables they were made from")]

use std::collections::BTreeMap;

use super::features::Speaker;
use super::sample::{Row, Sample};
use super::train::{Options, learn};
use super::weights::Model;

/// False blocks that the threshold allows on sources that were left out.
const ALLOWED_LEFT_OUT: f64 = 0.01;
/// And on rows that were only kept for the threshold.
const ALLOWED_KEPT: f64 = 0.001;
/// Developers give orders to the model all day: how much clearer an attack must be in their role.
const FOR_DEVELOPERS: f32 = 2.0;
/// Share of the attacks that the model knows that the gate may keep from it: for tools, where orders look like data, and others.
const LOST: f64 = 0.01;
const LOST_TOOL: f64 = 0.06;
/// Sources that hold attacks are left out one by one, in as many rounds; the others are dealt out to the rounds.
const ROUNDS: usize = 12;

/// Every row with the score that a model gave it that has never seen the row's source.
#[derive(Clone, Debug)]
pub struct BySource {
    /// Row and score; none where the gate stayed shut.
    pub scores: Vec<(usize, Option<f32>)>,
    /// The score that 1 % of the harmless rows exceed, by speaker.
    pub acts: [f32; 4],
}

impl BySource {
    /// Whether the model that has not seen its source takes the row for an attack.
    #[must_use]
    pub fn fires(&self, rows: &[Row], (row, score): (usize, Option<f32>)) -> bool {
        score.is_some_and(|score| score > self.acts[rows[row].speaker() as usize])
    }
}

/// Leaves out one source with attacks (and a share of the others) at a time, trains on the rest, and scores what was left out, rows
/// of `kept` included. `progress` is told the name of each round.
pub fn by_source(
    rows: &[Row],
    samples: &[Sample],
    trained: &[usize],
    kept: &[usize],
    options: Options,
    mut progress: impl FnMut(&str),
) -> BySource {
    let mut sizes: BTreeMap<&str, (bool, usize)> = BTreeMap::new();
    for row in trained.iter().chain(kept).map(|i| &rows[*i]) {
        let entry = sizes.entry(&row.source).or_default();
        *entry = (entry.0 | row.attack, entry.1 + 1);
    }
    let mut names: Vec<_> = sizes.into_iter().collect();
    names.sort_by_key(|(name, (attack, size))| (std::cmp::Reverse((*attack, *size)), *name));
    let rounds: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, (name, _))| (*name, i % ROUNDS)).collect();
    let mut scores = Vec::new();
    for round in 0..ROUNDS {
        let out = |i: &&usize| rounds[rows[**i].source.as_str()] == round;
        let chosen: Vec<usize> = trained.iter().filter(|i| !out(i)).copied().collect();
        if chosen.len() == trained.len() {
            continue;
        }
        progress(names.iter().find(|(name, _)| rounds[name] == round).map_or("", |(name, _)| name));
        let mut model = learn(rows, samples, &chosen, options);
        set_limits(&mut model, rows, samples, &chosen, options);
        for i in trained.iter().chain(kept).filter(out) {
            let score = if options.plain {
                Some(samples[*i].whole(&model, Speaker::User))
            } else {
                samples[*i].score(&model, rows[*i].speaker())
            };
            scores.push((*i, score));
        }
    }
    let acts = Speaker::ALL.map(|speaker| {
        let same = |row: &Row| options.plain || row.speaker() == speaker;
        exceeded_by(
            scores.iter().filter(|(i, _)| !rows[*i].attack && same(&rows[*i])).map(|(_, score)| *score),
            ALLOWED_LEFT_OUT,
        )
    });
    BySource { scores, acts }
}

/// Trains on the rows `trained`. Thresholds are such that neither left-out sources nor the rows `kept` are blocked more often than
/// allowed.
pub fn train(
    rows: &[Row],
    samples: &[Sample],
    trained: &[usize],
    kept: &[usize],
    options: Options,
    progress: impl FnMut(&str),
) -> (Model, BySource) {
    let left_out = by_source(rows, samples, trained, kept, options, progress);
    let mut model = learn(rows, samples, trained, options);
    set_limits(&mut model, rows, samples, trained, options);
    for speaker in Speaker::ALL {
        let harmless = kept.iter().filter(|i| !rows[**i].attack && rows[**i].speaker() == speaker);
        let kept = exceeded_by(harmless.map(|i| samples[*i].score(&model, speaker)), ALLOWED_KEPT);
        model.acts[speaker as usize] = left_out.acts[speaker as usize].max(kept);
    }
    model.acts[Speaker::System as usize] += FOR_DEVELOPERS;
    // No row is an answer in the first place; what is said of prompts is the nearest.
    model.acts[Speaker::Assistant as usize] = model.acts[Speaker::User as usize];
    (model, left_out)
}

/// The gate opens as far as it must for the attacks that the model knows.
fn set_limits(model: &mut Model, rows: &[Row], samples: &[Sample], trained: &[usize], options: Options) {
    if options.plain {
        return;
    }
    for tool in [false, true] {
        let speaker = if tool { Speaker::Tool } else { Speaker::User };
        let is_known = |i: &&usize| {
            let row = &rows[**i];
            row.attack
                && row.speaker() == speaker
                && samples[**i].open_score(model, speaker).is_some_and(|score| score > 0.0)
        };
        let mut sums: Vec<i32> =
            trained.iter().filter(is_known).map(|i| samples[*i].gate_score(model, speaker)).collect();
        sums.sort_unstable();
        let lost = if tool { LOST_TOOL } else { LOST };
        let limit = sums.get((sums.len() as f64 * lost) as usize).map_or(0, |sum| sum - 1);
        for speaker in Speaker::ALL.into_iter().filter(|speaker| (*speaker == Speaker::Tool) == tool) {
            model.limit[speaker as usize] = limit;
        }
    }
}

/// The score that so large a share of all exceeds; never below zero.
fn exceeded_by(scores: impl Iterator<Item = Option<f32>>, share: f64) -> f32 {
    let mut scores: Vec<f32> = scores.map(|score| score.unwrap_or(f32::NEG_INFINITY)).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.get((scores.len() as f64 * share) as usize).copied().unwrap_or(0.0).max(0.0)
}
