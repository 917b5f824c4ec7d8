//! Rules made of a literal anchor and a regular expression that is tried only there.
#![expect(
    clippy::indexing_slicing,
    reason = "rule and anchor ids index the tables they were made from; windows are clamped to the text"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::bytes::Regex;

use super::Sink;
use super::bytes::{ends_word, entropy, is_word, starts_word};
use super::literals::Literals;
use super::pack::RuleSpec;
use super::secrets::{Check, Proof, is_placeholder};
use crate::domain::Rule;

/// The longest match looked for, in bytes.
const WINDOW: usize = 4096;
/// Attempts within one unbroken run of token bytes. Real tokens sit at the start of their run; the bound keeps hostile runs linear.
const ATTEMPTS_PER_RUN: usize = 6;

/// Compiled pattern rules of one detector.
pub(super) struct Anchored {
    literals: Literals,
    /// Per literal: its length and the rules to try.
    anchors: Vec<(usize, Vec<usize>)>,
    rules: Vec<Pattern>,
}

struct Pattern {
    rule: Arc<Rule>,
    regex: Regex,
    lead: usize,
    min_len: usize,
    spaced: bool,
    min_entropy: f32,
    check: Option<Check>,
    confidence: f32,
    weak: Option<f32>,
}

impl Anchored {
    /// Compiles the rules that have a pattern; faults are `(rule id, message)`.
    pub(super) fn new(specs: &[(Arc<Rule>, &RuleSpec)]) -> Result<Self, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let mut rules = Vec::new();
        let mut by_anchor: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (rule, spec) in specs {
            let Some(pattern) = &spec.pattern else { continue };
            match Regex::new(&format!("^(?:{pattern})")) {
                Ok(regex) => {
                    for anchor in &spec.anchors {
                        by_anchor.entry(anchor).or_default().push(rules.len());
                    }
                    rules.push(Pattern {
                        rule: rule.clone(),
                        regex,
                        lead: spec.lead,
                        min_len: spec.min_len,
                        spaced: spec.spaced,
                        min_entropy: spec.min_entropy,
                        check: spec.check,
                        confidence: spec.confidence,
                        weak: spec.weak_confidence,
                    });
                }
                Err(error) => faults.push((spec.id.clone(), error.to_string())),
            }
        }
        // The longest literal wins, so it also stands for its prefixes.
        let anchors: Vec<(usize, Vec<usize>)> = by_anchor
            .keys()
            .map(|anchor| {
                let rules =
                    by_anchor.iter().filter(|(other, _)| anchor.starts_with(**other)).flat_map(|(_, r)| r.clone());
                (anchor.len(), rules.collect())
            })
            .collect();
        let literals: Vec<&[u8]> = by_anchor.keys().map(|anchor| anchor.as_bytes()).collect();
        match Literals::new(&literals) {
            Ok(literals) if faults.is_empty() => Ok(Self { literals, anchors, rules }),
            Ok(_) => Err(faults),
            Err(message) => Err(vec![("-".to_owned(), message)]),
        }
    }

    pub(super) fn scan(&self, text: &[u8], sink: &mut Sink<'_>) {
        let (mut run_end, mut attempts) = (0, 0);
        self.literals.each(text, |literal, at| {
            let (_, rules) = &self.anchors[literal];
            if at >= run_end {
                run_end = at + token_run(&text[at..]);
                attempts = 0;
            }
            attempts += 1;
            if attempts > ATTEMPTS_PER_RUN {
                return;
            }
            for rule in rules {
                self.rules[*rule].attempt(text, at, run_end, sink);
            }
        });
    }
}

impl Pattern {
    fn attempt(&self, text: &[u8], at: usize, run_end: usize, sink: &mut Sink<'_>) {
        let mut start = at;
        while start > 0 && at - start < self.lead && (is_word(text[start - 1]) || text[start - 1] == b'-') {
            start -= 1;
        }
        let end = if self.spaced { (at + WINDOW).min(text.len()) } else { run_end };
        if end - start < self.min_len || !starts_word(text, start) {
            return;
        }
        let Some(found) = self.regex.find(&text[start..end]) else { return };
        let end = start + found.end();
        let value = found.as_bytes();
        if !ends_word(text, end) || entropy(value) < self.min_entropy || is_placeholder(value) {
            return;
        }
        let confidence = match self.check.map_or(Proof::Proven, |check| check.prove(value)) {
            Proof::Proven => Some(self.confidence),
            Proof::Unproven => self.weak,
            Proof::Refuted => None,
        };
        if let Some(confidence) = confidence {
            sink.push(&self.rule, confidence, start..end);
        }
    }
}

/// Length of the run of bytes that can be part of a token.
fn token_run(text: &[u8]) -> usize {
    let end = text.len().min(WINDOW);
    text[..end]
        .iter()
        .position(|b| {
            b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>' | b',' | b')' | b'(' | b'|')
        })
        .unwrap_or(end)
}
