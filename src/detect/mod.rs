//! Stage 4: what is in it. Text in, findings out; pure and synchronous, compiled once, shared by all tenants.
//!
//! Personal data and secrets are searched in the original bytes: a vector search or a byte class finds candidates (a digit run, an
//! `@`, the start of a token), a validator judges each. Injection rules are scored sentence by sentence. Text that is not plain
//! ASCII is folded first, and read a second time in a normalised view when it holds invisible or look-alike characters ([`views`]).

mod anchored;
mod bytes;
mod checks;
mod injection;
mod literals;
mod pack;
mod pii;
mod secrets;
mod sink;
mod views;

use std::sync::Arc;

use crate::domain::{Detector, Finding, Role, Rule};
use injection::Injection;
use pack::{Pack, RuleSpec};
use pii::Pii;
use secrets::Secrets;
use sink::Sink;

/// The packs that are built in.
const BUILTIN: &[(&str, &str)] = &[
    ("pii.yaml", include_str!("../../config/detectors/pii.yaml")),
    ("secrets.yaml", include_str!("../../config/detectors/secrets.yaml")),
    ("injection.yaml", include_str!("../../config/detectors/injection.yaml")),
];

/// Shorter texts cannot hold anything, in bytes.
const SHORTEST: usize = 4;
/// Text is folded and scored in pieces of at most this many bytes, so that memory does not grow with the text.
const PIECE: usize = 16 * 1024;

/// A fault of a rule pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pack}: {rule}: {message}")]
pub struct PackError {
    pub pack: String,
    pub rule: String,
    pub message: String,
}

/// All detectors, compiled.
pub struct Engine {
    rules: Vec<Arc<Rule>>,
    pii: Pii,
    secrets: Secrets,
    injection: Injection,
}

impl Engine {
    /// Compiles the rule packs that are built in (`config/detectors/*.yaml`).
    ///
    /// # Errors
    /// Every fault at once; a test proves that the built-in packs have none.
    pub fn builtin() -> Result<Self, Vec<PackError>> {
        Self::from_packs(BUILTIN)
    }

    /// Compiles `(name, yaml)` packs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_packs(packs: &[(&str, &str)]) -> Result<Self, Vec<PackError>> {
        let packs = pack::parse(packs)?;
        let (mut pii, mut secrets, mut injection) = (Vec::new(), Vec::new(), Vec::new());
        let mut rules = Vec::new();
        let mut owners = std::collections::BTreeMap::new();
        for (name, pack) in &packs {
            for spec in &pack.rules {
                let rule = rule_of(pack, spec);
                rules.push(rule.clone());
                owners.insert(spec.id.as_str(), name.as_str());
                match pack.detector {
                    Detector::Pii => pii.push((rule, spec)),
                    Detector::Secrets => secrets.push((rule, spec)),
                    Detector::Injection => injection.push((rule, spec)),
                }
            }
        }
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let mut faults = Vec::new();
        let mut collect = |found: Vec<(String, String)>| {
            faults.extend(found.into_iter().map(|(rule, message)| PackError {
                pack: owners.get(rule.as_str()).map_or("-", |name| *name).to_owned(),
                rule,
                message,
            }));
        };
        let pii = Pii::new(&pii).map_err(&mut collect);
        let secrets = Secrets::new(&secrets).map_err(&mut collect);
        let lexicon_packs: Vec<&Pack> = packs.iter().map(|(_, pack)| pack).collect();
        let injection = Injection::new(&injection, &lexicon_packs).map_err(&mut collect);
        match (pii, secrets, injection) {
            (Ok(pii), Ok(secrets), Ok(injection)) => Ok(Self { rules, pii, secrets, injection }),
            _ => Err(faults),
        }
    }

    /// Every rule that a finding can name, sorted by id.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Appends what is found in `text`. `segment` is copied into the findings; `role` weighs injection rules. Linear in the text.
    pub fn scan(&self, text: &str, segment: usize, role: Role, out: &mut Vec<Finding>) {
        if text.len() < SHORTEST {
            return;
        }
        let mut sink = Sink::new(text, segment, out);
        self.pii.scan(text.as_bytes(), &mut sink);
        sink.settle();
        self.secrets.scan(text.as_bytes(), &mut sink);
        sink.settle();
        let mut score = self.injection.start(role);
        views::with_scratch(|scratch| {
            for (offset, piece) in views::pieces(text, PIECE) {
                sink.shift(offset);
                if piece.is_ascii() {
                    score.scan(piece.as_bytes(), &mut sink);
                    continue;
                }
                let odd = views::fold(piece, &mut scratch.folded);
                score.scan(&scratch.folded, &mut sink);
                if odd {
                    views::normalise(piece, &mut scratch.view);
                    sink.through(&scratch.view, |text, sink| {
                        score.scan(text, sink);
                        self.pii.scan(text, sink);
                        self.secrets.scan(text, sink);
                    });
                }
            }
        });
        sink.settle_attacks();
    }
}

fn rule_of(pack: &Pack, spec: &RuleSpec) -> Arc<Rule> {
    Arc::new(Rule {
        id: spec.id.as_str().into(),
        detector: pack.detector,
        category: spec.category,
        entity: spec.entity.as_str().into(),
        severity: spec.severity,
    })
}

#[cfg(test)]
mod tests;
