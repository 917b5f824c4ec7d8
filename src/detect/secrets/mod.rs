//! Credentials: token formats of providers, private keys, passwords in addresses and in assignments.

mod assignment;
mod check;
mod credentials;
mod placeholder;

use std::sync::Arc;

pub(super) use check::{Check, Proof};
pub(super) use placeholder::is_placeholder;

use super::Sink;
use super::anchored::Anchored;
use super::pack::{Recognizer, RuleSpec};
use crate::domain::Rule;
use assignment::Assignments;

/// A recogniser's rule with its two confidences.
pub(super) struct Known {
    pub rule: Arc<Rule>,
    pub confidence: f32,
    pub weak: Option<f32>,
}

/// All secret detectors, compiled.
pub(super) struct Secrets {
    tokens: Anchored,
    assignments: Option<Assignments>,
    url: Option<Known>,
    private_key: Option<Known>,
}

impl Secrets {
    pub(super) fn new(specs: &[(Arc<Rule>, &RuleSpec)]) -> Result<Self, Vec<(String, String)>> {
        let find = |wanted: Recognizer| {
            specs.iter().find(|(_, spec)| spec.recognizer == Some(wanted)).map(|(rule, spec)| Known {
                rule: rule.clone(),
                confidence: spec.confidence,
                weak: spec.weak_confidence,
            })
        };
        let assignments = find(Recognizer::SecretAssignment)
            .map(|known| Assignments::new(known).map_err(|message| vec![("-".to_owned(), message)]))
            .transpose()?;
        Ok(Self {
            tokens: Anchored::new(specs)?,
            assignments,
            url: find(Recognizer::UrlCredentials),
            private_key: find(Recognizer::PrivateKey),
        })
    }

    pub(super) fn scan(&self, text: &[u8], sink: &mut Sink<'_>) {
        if text.len() < 8 {
            return;
        }
        self.tokens.scan(text, sink);
        if let Some(known) = &self.private_key {
            credentials::private_keys(text, known, sink);
        }
        if let Some(known) = &self.url {
            credentials::in_urls(text, known, sink);
        }
        if let Some(assignments) = &self.assignments {
            assignments.scan(text, sink);
        }
    }
}
