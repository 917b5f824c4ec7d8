//! Prompt injection, jailbreaks and prompt extraction: weighted combinations of word groups, sentence by sentence; the maximum wins.

mod evidence;
mod lexicon;
mod sentence;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Sink;
use super::pack::{Pack, RuleSpec};
use super::words::{KeySet, Start, Starts};
use crate::domain::{Role, Rule};
pub(super) use evidence::Groups;
use evidence::{Term, Terms};
pub(super) use lexicon::Lexicon;
pub(super) use told::Told;

/// Evidence at which a sentence is as likely an attack as not, in log-odds.
const EVEN: f32 = 2.7;
/// Findings below are not worth a row: no preset acts on them.
const LEAST: f32 = 0.4;
/// How much of the sentence before counts for the next one, and how much of it at most.
const CARRY: f32 = 0.45;
const MOST_CARRIED: f32 = 3.0;
/// A sentence farther behind the last scored one starts anew, in bytes.
const NEIGHBOUR: usize = 300;
/// Evidence against an attack takes away at most so much: a harmless opening must not hide what follows.
const MOST_AGAINST: f32 = -3.5;
/// Evidence for one is counted up to here, so that some against it can still be heard.
const MOST_FOR: f32 = 7.0;
/// How much the other rules of a sentence add to the best.
const OTHERS: f32 = 0.3;

/// All injection rules, compiled.
pub(super) struct Injection {
    lexicon: Lexicon,
    /// Of the names of the groups, in order.
    fingerprint: u32,
    /// Owned by the rule with the same number; behind the last are those that count for all.
    terms: Terms,
    rules: Vec<Arc<Rule>>,
}

impl Injection {
    pub(super) fn new(specs: &[(Arc<Rule>, &RuleSpec)], packs: &[&Pack]) -> Result<Self, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let mut names = BTreeMap::new();
        let mut words = Vec::new();
        for (name, group) in packs.iter().flat_map(|pack| &pack.groups) {
            let next = names.len();
            let number = *names.entry(name.clone()).or_insert(u8::try_from(next).unwrap_or(u8::MAX));
            if number >= 64 {
                faults.push(("-".to_owned(), format!("group `{name}` is one more than 64")));
                continue;
            }
            for word in
                group.words.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
            {
                words.push((word.to_owned(), 1u64 << number, group.gate));
            }
        }
        let mut all = Vec::new();
        let mut add = |owner: usize, name: &str, evidence: &[super::pack::Evidence]| {
            for evidence in evidence {
                match Term::compile(evidence, &names) {
                    Ok(term) => all.push((owner, term)),
                    Err(message) => faults.push((name.to_owned(), message)),
                }
            }
        };
        specs.iter().enumerate().for_each(|(number, (_, spec))| add(number, &spec.id, &spec.evidence));
        packs.iter().for_each(|pack| add(specs.len(), "-", &pack.common));
        let rules = specs.iter().map(|(rule, _)| rule.clone()).collect();
        let fingerprint = fingerprint(&names);
        let mut fault = |message| faults.push(("-".to_owned(), message));
        let terms = Terms::new(all).map_err(&mut fault);
        let lexicon = Lexicon::new(&words).map_err(|messages| messages.into_iter().for_each(fault));
        match (lexicon, terms) {
            (Ok(lexicon), Ok(terms)) if faults.is_empty() => Ok(Self { lexicon, fingerprint, terms, rules }),
            _ => Err(faults),
        }
    }

    /// Tells one numbering of the groups from another.
    pub(super) fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    pub(super) fn lexicon(&self) -> &Lexicon {
        &self.lexicon
    }

    /// Keys of words at which [`Scoring::word`] must be asked.
    pub(super) fn keys(&self) -> &KeySet {
        self.lexicon.gate_keys()
    }

    /// `words` with their flags, `pairs`, and the pairs of words at which [`Scoring::word`] must be asked.
    pub(super) fn starts(&self, words: &[(u8, &KeySet)], pairs: &(KeySet, KeySet)) -> Starts {
        self.lexicon.gate_starts(words, pairs)
    }

    /// Begins a segment.
    pub(super) fn start(&self, role: Role) -> Scoring<'_> {
        Scoring { injection: self, offset: role_offset(role), last: 0.0, done: 0 }
    }
}

/// FNV-1a over names and numbers.
fn fingerprint(names: &BTreeMap<String, u8>) -> u32 {
    let bytes = names.iter().flat_map(|(name, number)| name.bytes().chain([0, *number]));
    bytes.fold(0x811C_9DC5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// What the speaker makes of the same words: ordinary in a system prompt or a tool's description, out of place in a tool's result.
fn role_offset(role: Role) -> f32 {
    match role {
        Role::System | Role::ToolDefinition => -2.5,
        Role::Assistant => -0.5,
        Role::User | Role::Other => 0.0,
        Role::Tool => 0.8,
    }
}

/// Scores the pieces of one segment in order.
pub(super) struct Scoring<'i> {
    injection: &'i Injection,
    offset: f32,
    /// Evidence of the sentence scored last.
    last: f32,
    /// Up to where the piece is scored.
    done: usize,
}

impl<'i> Scoring<'i> {
    /// A fresh start with the same role.
    pub(super) fn again(&self) -> Self {
        Self { injection: self.injection, offset: self.offset, last: 0.0, done: 0 }
    }

    /// Begins a piece of the segment.
    pub(super) fn piece(&mut self) {
        self.done = 0;
    }

    /// Scores the sentence around a word if that is a gate word and its sentence is not scored yet. `text` is ASCII or
    /// folded.
    pub(super) fn word(&mut self, text: &[u8], start: &Start, sink: &mut Sink<'_>) {
        let (Start::Word { at: word, .. } | Start::Pair { at: word, .. }) = *start;
        if word < self.done || !self.injection.lexicon.is_gate(text, start) {
            return;
        }
        let (start, end, cut) = sentence::around(text, word, self.done);
        if start > self.done + NEIGHBOUR {
            self.last = 0.0;
        }
        self.done = if cut { end.saturating_sub(sentence::OVERLAP).max(word + 1) } else { end };
        if let Some(window) = text.get(start..end) {
            self.sentence(window, start, sink);
        }
    }

    fn sentence(&mut self, window: &[u8], start: usize, sink: &mut Sink<'_>) {
        let mut seen = Groups::new();
        self.injection.lexicon.each_hit(window, |number, groups| seen.note(number, groups));
        if seen.present.count_ones() < 2 {
            self.last *= CARRY;
            return;
        }
        let mut best: Option<(usize, f32)> = None;
        let (mut all, mut common) = (0.0, 0.0);
        let rules = &self.injection.rules;
        // Of the rule whose combinations are reported now.
        let mut own = (0, 0.0);
        let mut settle = |(rule, score): (usize, f32)| {
            if score > 0.0 {
                all += score;
                if best.is_none_or(|(_, other)| score > other) {
                    best = Some((rule, score));
                }
            }
        };
        self.injection.terms.each(&seen, |owner, weight| {
            if owner == rules.len() {
                common += weight;
            } else if owner == own.0 {
                own.1 += weight;
            } else {
                settle(std::mem::replace(&mut own, (owner, weight)));
            }
        });
        settle(own);
        let Some((rule, score)) = best.and_then(|(rule, score)| Some((rules.get(rule)?, score))) else {
            self.last *= CARRY;
            return;
        };
        let evidence = (score + OTHERS * (all - score)).min(MOST_FOR) + f32::max(common, MOST_AGAINST);
        let total = evidence + if evidence >= 1.0 { CARRY * self.last.min(MOST_CARRIED) } else { 0.0 };
        self.last = (evidence + CARRY * self.last).max(0.0);
        let confidence = 1.0 / (1.0 + (EVEN - total - self.offset).exp());
        if confidence >= LEAST {
            sink.push(rule, confidence, start..start + window.len());
        }
    }
}
