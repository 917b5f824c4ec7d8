//! Rules made of a literal anchor and a regular expression that is tried only there.
#![expect(
    clippy::indexing_slicing,
    reason = "rule and anchor ids index the tables they were made from; windows are clamped to the text"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use regex_automata::{meta, util::syntax};

use super::Sink;
use super::bytes::{ends_word, entropy, is_word, starts_word};
use super::literals::Literals;
use super::pack::RuleSpec;
use super::secrets::{Check, Proof, is_counted, is_placeholder};
use super::words::{KeySet, hash, key_of};
use crate::domain::Rule;

/// The longest match looked for, in bytes.
const WINDOW: usize = 4096;
/// Attempts within one unbroken run of token bytes. Real tokens sit at the start of their run; the bound keeps hostile runs linear.
const ATTEMPTS_PER_RUN: usize = 12;
const BUCKETS: usize = 256;

/// Compiled pattern rules.
pub(super) struct Anchored {
    /// Anchors that start with a letter, with the key of their first word, sorted by bucket.
    words: Vec<(u32, Box<[u8]>, Vec<u16>)>,
    /// Where each bucket begins in them.
    buckets: Vec<usize>,
    keys: KeySet,
    /// Anchors that start with anything else.
    symbols: Literals,
    symbol_rules: Vec<Vec<u16>>,
    rules: Vec<Pattern>,
}

/// Where the current run of token bytes ends, and how often it was tried.
#[derive(Default)]
pub(super) struct Run {
    end: usize,
    attempts: usize,
}

struct Pattern {
    rule: Arc<Rule>,
    regex: meta::Regex,
    lead: usize,
    min_len: usize,
    spaced: bool,
    grouped: bool,
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
        let mut by_anchor: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
        for (rule, spec) in specs {
            let Some(pattern) = &spec.pattern else { continue };
            match compile(pattern) {
                Ok(regex) => {
                    for anchor in &spec.anchors {
                        by_anchor.entry(anchor).or_default().push(u16::try_from(rules.len()).unwrap_or(u16::MAX));
                    }
                    rules.push(Pattern {
                        rule: rule.clone(),
                        grouped: regex.captures_len() > 1,
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
                Err(error) => faults.push((spec.id.clone(), error)),
            }
        }
        let (words, symbols): (Vec<_>, Vec<_>) =
            by_anchor.into_iter().partition(|(anchor, _)| anchor.starts_with(|c: char| c.is_ascii_alphabetic()));
        let literals: Vec<&[u8]> = symbols.iter().map(|(anchor, _)| anchor.as_bytes()).collect();
        let symbols_found = Literals::new(&literals);
        let mut keys = KeySet::new();
        let mut by_key = Vec::new();
        for (anchor, rules) in words {
            for key in keys_of(anchor.as_bytes()) {
                keys.insert(key);
                by_key.push((key, anchor.as_bytes().into(), rules.clone()));
            }
        }
        by_key.sort_by_key(|(key, _, _)| bucket(*key));
        let buckets = (0..=BUCKETS).map(|number| by_key.partition_point(|(key, _, _)| bucket(*key) < number)).collect();
        match symbols_found {
            Ok(literals) if faults.is_empty() => Ok(Self {
                words: by_key,
                buckets,
                keys,
                symbols: literals,
                symbol_rules: symbols.into_iter().map(|(_, rules)| rules).collect(),
                rules,
            }),
            Ok(_) => Err(faults),
            Err(message) => Err(vec![("-".to_owned(), message)]),
        }
    }

    /// Keys of words at which [`Anchored::word`] must be asked.
    pub(super) fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Whether a token may begin with, or already has begun with, `run`. What only names a credential is none.
    pub(super) fn may_begin(&self, run: &[u8]) -> bool {
        let begins = |anchor: &[u8]| anchor.starts_with(run) || run.starts_with(anchor);
        let whole = |rule: &u16| !self.rules[usize::from(*rule)].grouped;
        self.words.iter().any(|(_, anchor, rules)| begins(anchor) && rules.iter().any(whole))
    }

    /// Tries the rules whose anchor stands at the word start `at`.
    pub(super) fn word(&self, text: &[u8], at: usize, key: u32, run: &mut Run, sink: &mut Sink<'_>) {
        if at < run.end && run.attempts > ATTEMPTS_PER_RUN {
            return;
        }
        let own = self.buckets[bucket(key)]..self.buckets[bucket(key) + 1];
        for (_, anchor, rules) in self.words[own].iter().filter(|(other, _, _)| *other == key) {
            if text[at..].starts_with(anchor) {
                self.attempt(text, at, rules, run, sink);
            }
        }
    }

    /// Finds the anchors that do not start with a letter.
    pub(super) fn scan_symbols(&self, text: &[u8], sink: &mut Sink<'_>) {
        let mut run = Run::default();
        self.symbols.each(text, |literal, at| self.attempt(text, at, &self.symbol_rules[literal], &mut run, sink));
    }

    fn attempt(&self, text: &[u8], at: usize, rules: &[u16], run: &mut Run, sink: &mut Sink<'_>) {
        if at >= run.end {
            *run = Run { end: at + token_run(&text[at..]), attempts: 0 };
        }
        for rule in rules {
            let rule = &self.rules[usize::from(*rule)];
            if rule.lead == 0 && !starts_word(text, at) {
                continue;
            }
            run.attempts += 1;
            if run.attempts > ATTEMPTS_PER_RUN {
                return;
            }
            rule.attempt(text, at, run.end, sink);
        }
    }
}

/// Without the automata that look for where a match begins, and with small tables: it begins at the anchor, few anchors are met,
/// and there are hundreds of patterns.
fn compile(pattern: &str) -> Result<meta::Regex, String> {
    let config = meta::Config::new().utf8_empty(false).hybrid(false).dfa(false).onepass_size_limit(Some(8 << 10));
    let bytes = syntax::Config::new().utf8(false);
    let built = meta::Builder::new().configure(config).syntax(bytes).build(&format!("^(?:{pattern})"));
    built.map_err(|error| error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string))
}

fn bucket(key: u32) -> usize {
    (hash(key) as usize) & (BUCKETS - 1)
}

/// Keys under which words that begin with the anchor can be met: a key has four letters, so a shorter anchor of letters only may be
/// continued by any.
fn keys_of(anchor: &[u8]) -> Vec<u32> {
    let mut keys = vec![key_of(anchor)];
    if anchor.len() == 3 && anchor.iter().all(u8::is_ascii_alphabetic) {
        keys.extend((b'a'..=b'z').map(|letter| key_of(&[anchor, &[letter]].concat())));
    }
    keys
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
        let window = &text[start..end];
        // With a group, the group is the credential, and what is around it names it.
        let found = if self.grouped {
            let mut groups = self.regex.create_captures();
            self.regex.captures(window, &mut groups);
            groups.get_group(1)
        } else {
            self.regex.find(window).map(|found| found.span())
        };
        let Some(found) = found else { return };
        let value = &window[found.range()];
        let (start, end) = (start + found.start, start + found.end);
        if !ends_word(text, end) || entropy(value) < self.min_entropy || is_placeholder(value) || is_counted(value) {
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
