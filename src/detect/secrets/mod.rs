//! Credentials: token formats of providers, private keys, passwords in addresses and in assignments.

mod assignment;
mod check;
mod credentials;
mod placeholder;
mod runs;

use std::ops::Range;
use std::sync::Arc;

pub(super) use check::{Check, Proof};
pub(super) use placeholder::{is_counted, is_placeholder};

use super::Sink;
use super::pack::{Recognizer, RuleSpec};
use super::words::{KeySet, key_of};
use crate::domain::Rule;
use assignment::Assignments;

/// A recogniser's rule with its two confidences.
pub(super) struct Known {
    pub rule: Arc<Rule>,
    pub confidence: f32,
    pub weak: Option<f32>,
}

/// The word in the frame of a private key.
const BEGIN: &[u8] = b"BEGIN";

/// Up to where a text is read already.
#[derive(Default)]
pub(super) struct Read {
    assignment: usize,
    key: usize,
}

/// All secret detectors that are code, compiled.
pub(super) struct Secrets {
    keys: KeySet,
    assignments: Option<Assignments>,
    url: Option<Known>,
    private_key: Option<Known>,
    telegram: Option<Known>,
    runs: Vec<(Known, runs::Read)>,
}

impl Secrets {
    pub(super) fn new(specs: &[(Arc<Rule>, &RuleSpec)]) -> Self {
        let find = |wanted: Recognizer| {
            specs.iter().find(|(_, spec)| spec.recognizer == Some(wanted)).map(|(rule, spec)| Known {
                rule: rule.clone(),
                confidence: spec.confidence,
                weak: spec.weak_confidence,
            })
        };
        let assignments = find(Recognizer::SecretAssignment).map(Assignments::new);
        let mut keys = KeySet::new();
        keys.insert(key_of(BEGIN));
        assignments.iter().for_each(|assignments| keys.extend(assignments.keys()));
        Self {
            keys,
            assignments,
            url: find(Recognizer::UrlCredentials),
            private_key: find(Recognizer::PrivateKey),
            telegram: find(Recognizer::TelegramToken),
            runs: runs::ALL.iter().filter_map(|(recognizer, read)| Some((find(*recognizer)?, *read))).collect(),
        }
    }

    /// Keys of words at which [`Secrets::word`] must be asked.
    pub(super) fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Reads what begins with the word at `at`: a private key, or the assignment whose name holds the word.
    pub(super) fn word(&self, text: &[u8], at: usize, key: u32, read: &mut Read, sink: &mut Sink<'_>) {
        if key == key_of(BEGIN)
            && let Some(known) = &self.private_key
        {
            credentials::private_key(text, at, &mut read.key, known, sink);
        } else if let Some(assignments) = &self.assignments {
            assignments.word(text, at, key, &mut read.assignment, sink);
        }
    }

    /// Whether a word in `text` says that a secret follows.
    pub(super) fn names_one(&self, text: &[u8]) -> bool {
        self.assignments.as_ref().is_some_and(|assignments| assignments.is_named(text))
    }

    /// Reads the address whose `:` is at `at`.
    pub(super) fn colon(&self, text: &[u8], at: usize, sink: &mut Sink<'_>) {
        if let Some(known) = &self.url
            && text.get(at + 1..at + 3) == Some(b"//")
        {
            credentials::in_url(text, at, known, sink);
        }
        if let Some(known) = &self.telegram
            && colon_in_token(text, at)
        {
            runs::telegram(text, at, known, sink);
        }
    }

    /// Reads what has no prefix, in a part of a text that holds long runs of letters and digits.
    pub(super) fn runs(&self, text: &[u8], region: Range<usize>, sink: &mut Sink<'_>) {
        runs::each(text, region, |run| {
            for (known, read) in &self.runs {
                read(text, run.clone(), known, sink);
            }
        });
    }
}

/// Most colons end a word.
fn colon_in_token(text: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| text.get(before));
    before.is_some_and(u8::is_ascii_digit) && text.get(at + 1).is_some_and(u8::is_ascii_alphanumeric)
}
