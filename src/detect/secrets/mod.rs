//! Credentials: token formats of providers, private keys, passwords in addresses and in assignments.

mod assignment;
mod check;
mod credentials;
mod placeholder;

use std::sync::Arc;

pub(super) use check::{Check, Proof};
pub(super) use placeholder::is_placeholder;

use super::Sink;
use super::pack::{Recognizer, RuleSpec};
use super::words::KeySet;
use crate::domain::Rule;
use assignment::Assignments;

/// A recogniser's rule with its two confidences.
pub(super) struct Known {
    pub rule: Arc<Rule>,
    pub confidence: f32,
    pub weak: Option<f32>,
}

/// All secret detectors that are code, compiled.
pub(super) struct Secrets {
    assignments: Option<Assignments>,
    url: Option<Known>,
    private_key: Option<Known>,
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
        Self {
            assignments: find(Recognizer::SecretAssignment).map(Assignments::new),
            url: find(Recognizer::UrlCredentials),
            private_key: find(Recognizer::PrivateKey),
        }
    }

    /// Keys of words at which [`Secrets::word`] must be asked.
    pub(super) fn keys(&self) -> Option<&KeySet> {
        self.assignments.as_ref().map(Assignments::keys)
    }

    /// Reads the assignment whose name holds the word at `at`; `done` is where the last one ended.
    pub(super) fn word(&self, text: &[u8], at: usize, done: &mut usize, sink: &mut Sink<'_>) {
        if let Some(assignments) = &self.assignments {
            assignments.word(text, at, done, sink);
        }
    }

    /// Finds what no word gives away.
    pub(super) fn scan(&self, text: &[u8], sink: &mut Sink<'_>) {
        if let Some(known) = &self.private_key {
            credentials::private_keys(text, known, sink);
        }
        if let Some(known) = &self.url {
            credentials::in_urls(text, known, sink);
        }
    }
}
