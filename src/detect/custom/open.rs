//! What the end of an unfinished text may still become, under an organization's own rules.

use std::sync::Arc;

use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::primitives::StateID;

use super::exact::{self, ExactData};
use super::regexes::Expression;
use super::words::{GAP, LONGEST, Wording, is_edge};
use super::{fold, lower};

/// What an expression matches is waited for up to so many bytes; also the bound of one that has none.
pub(super) const LONGEST_WAIT: usize = 1024;

/// What is waited for.
#[derive(Default)]
pub(super) struct Open {
    /// Folded, in lower case, sorted.
    keywords: Box<[Box<[u8]>]>,
    /// The same, with one blank between words.
    phrases: Box<[Box<[u8]>]>,
    expressions: Box<[(NFA, usize)]>,
    data: Box<[Arc<ExactData>]>,
}

impl Open {
    pub(super) fn new<'r>(
        wordings: impl Iterator<Item = &'r Wording>,
        expressions: impl Iterator<Item = &'r Expression>,
        data: Box<[Arc<ExactData>]>,
    ) -> Self {
        let (mut phrases, mut keywords): (Vec<_>, Vec<_>) = wordings.partition(|wording| wording.is_phrase());
        let sorted = |wordings: &mut Vec<&Wording>| {
            let mut spoken: Vec<Box<[u8]>> = wordings.iter().map(|wording| wording.spoken().into()).collect();
            spoken.sort();
            spoken.dedup();
            spoken.into_boxed_slice()
        };
        Self {
            keywords: sorted(&mut keywords),
            phrases: sorted(&mut phrases),
            expressions: expressions
                .filter_map(|expression| {
                    let longest = expression.longest.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
                    Some((expression.nfa.clone()?, longest))
                })
                .collect(),
            data,
        }
    }

    pub(super) fn settled(&self, text: &str) -> usize {
        let words = self.keyword(text).min(self.phrase(text)).min(exact::settled(text, &self.data));
        self.expressions.iter().fold(words, |open, (nfa, longest)| {
            let from = text.ceil_char_boundary(text.len().saturating_sub(*longest));
            let tail = text.get(from..).unwrap_or_default();
            open.min(from + live_from(nfa, tail.as_bytes()).unwrap_or(tail.len()))
        })
    }

    fn keyword(&self, text: &str) -> usize {
        if self.keywords.is_empty() {
            return text.len();
        }
        let from = text.ceil_char_boundary(text.len().saturating_sub(LONGEST));
        let tail = text.get(from..).unwrap_or_default();
        let folded = fold(tail).to_ascii_lowercase();
        let begins = |at: &usize| {
            is_edge(&folded, *at) && folded.get(*at..).is_some_and(|rest| begins_one(&self.keywords, rest))
        };
        tail.char_indices().map(|(at, _)| at).find(begins).map_or(text.len(), |at| from + at)
    }

    fn phrase(&self, text: &str) -> usize {
        if self.phrases.is_empty() {
            return text.len();
        }
        let from = text.ceil_char_boundary(text.len().saturating_sub(LONGEST + LONGEST / 2 * GAP));
        let tail = text.get(from..).unwrap_or_default();
        // Gaps as one blank each, with the places in the tail where the characters stand.
        let mut spoken = Vec::with_capacity(tail.len());
        let mut places = Vec::with_capacity(tail.len());
        for (at, c) in tail.char_indices() {
            if c.is_alphanumeric() {
                let c = lower(c).to_ascii_lowercase();
                spoken.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                places.push((at, spoken.len() - c.len_utf8()));
            } else if spoken.last().is_some_and(|last| *last != b' ') {
                spoken.push(b' ');
            }
        }
        let first = places.partition_point(|(_, place)| *place + LONGEST < spoken.len());
        let begins = |(at, place): &&(usize, usize)| {
            is_edge(tail.as_bytes(), *at) && spoken.get(*place..).is_some_and(|rest| begins_one(&self.phrases, rest))
        };
        places.iter().skip(first).find(begins).map_or(text.len(), |(at, _)| from + at)
    }
}

/// Whether one of the sorted `wordings` begins with `text`.
fn begins_one(wordings: &[Box<[u8]>], text: &[u8]) -> bool {
    let at = wordings.partition_point(|wording| **wording < *text);
    wordings.get(at).is_some_and(|wording| wording.starts_with(text))
}

/// Where in `text` the first match begins that more text may complete, make longer or undo. Conditions on what stands around
/// (`\b`, `$`) are taken to hold: it may name a place too many, not one too few.
fn live_from(nfa: &NFA, text: &[u8]) -> Option<usize> {
    let mut here = Threads::new(nfa);
    let mut next = Threads::new(nfa);
    for (at, byte) in text.iter().enumerate() {
        // Those that began earlier come first, so a state keeps its earliest beginning.
        here.enter(nfa, nfa.start_anchored(), at);
        for index in 0..here.order.len() {
            let Some((state, start)) = here.order.get(index).copied() else { break };
            if let Some(target) = step(nfa, state, *byte) {
                next.enter(nfa, target, start);
            }
        }
        std::mem::swap(&mut here, &mut next);
        next.clear();
    }
    let waits = |state: StateID| {
        matches!(nfa.state(state), State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) | State::Look { .. })
    };
    here.order.iter().find(|(state, _)| waits(*state)).map(|(_, start)| *start)
}

fn step(nfa: &NFA, state: StateID, byte: u8) -> Option<StateID> {
    match nfa.state(state) {
        State::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
        State::Sparse(sparse) => sparse.matches_byte(byte),
        State::Dense(dense) => dense.matches_byte(byte),
        _ => None,
    }
}

/// The states that matches on their way are in, each with the earliest beginning.
struct Threads {
    order: Vec<(StateID, usize)>,
    seen: Vec<bool>,
    stack: Vec<StateID>,
}

impl Threads {
    fn new(nfa: &NFA) -> Self {
        Self { order: Vec::new(), seen: vec![false; nfa.states().len()], stack: Vec::new() }
    }

    fn clear(&mut self) {
        for (state, _) in self.order.drain(..) {
            if let Some(seen) = self.seen.get_mut(state.as_usize()) {
                *seen = false;
            }
        }
    }

    /// Enters a state and those that it leads to without a byte.
    fn enter(&mut self, nfa: &NFA, state: StateID, start: usize) {
        self.stack.push(state);
        while let Some(state) = self.stack.pop() {
            match self.seen.get_mut(state.as_usize()) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            self.order.push((state, start));
            match nfa.state(state) {
                State::Look { next, .. } | State::Capture { next, .. } => self.stack.push(*next),
                State::Union { alternates } => self.stack.extend(alternates.iter().rev()),
                State::BinaryUnion { alt1, alt2 } => self.stack.extend([*alt2, *alt1]),
                _ => {}
            }
        }
    }
}
