//! Personal data: candidates are digit runs, `@` and `:`; each is judged by check digits, ranges, shape and the words around it.

mod address;
mod context;
mod dates;
mod digits;
mod national;
mod network;
mod numbers;
mod phone;

use std::sync::Arc;

use super::Sink;
pub(super) use super::checks::nino_prefix as is_nino_prefix;
use super::pack::{Recognizer, RuleSpec};
use super::words::KeySet;
use crate::domain::Rule;
use context::Context;
pub(super) use numbers::may_go_on_as_iban;

/// A recogniser's rule with its two confidences.
pub(super) struct Known {
    pub rule: Arc<Rule>,
    pub confidence: f32,
    pub weak: Option<f32>,
}

/// The rules of the recognisers that the packs turn on.
#[derive(Default)]
pub(super) struct KnownRules {
    email: Option<Known>,
    phone: Option<Known>,
    card: Option<Known>,
    ssn: Option<Known>,
    itin: Option<Known>,
    iban: Option<Known>,
    ip: Option<Known>,
    mac: Option<Known>,
    passport: Option<Known>,
    license: Option<Known>,
    nhs: Option<Known>,
    nino: Option<Known>,
    aba: Option<Known>,
    crypto: Option<Known>,
    birth: Option<Known>,
    /// What is told by a shape, a check and words alone.
    national: Vec<(Recognizer, Known)>,
}

/// All detectors of personal data, compiled.
pub(super) struct Pii {
    known: KnownRules,
    context: Context,
}

impl Pii {
    pub(super) fn new(specs: &[(Arc<Rule>, &RuleSpec)]) -> Result<Self, Vec<(String, String)>> {
        let mut known = KnownRules::default();
        let mut words = Vec::new();
        let mut faults = Vec::new();
        for (rule, spec) in specs {
            let Some(recognizer) = spec.recognizer else { continue };
            let slot = match recognizer {
                Recognizer::Email => &mut known.email,
                Recognizer::Phone => &mut known.phone,
                Recognizer::CreditCard => &mut known.card,
                Recognizer::UsSsn => &mut known.ssn,
                Recognizer::UsItin => &mut known.itin,
                Recognizer::Iban => &mut known.iban,
                Recognizer::IpAddress => &mut known.ip,
                Recognizer::MacAddress => &mut known.mac,
                Recognizer::UsPassport => &mut known.passport,
                Recognizer::UsDriverLicense => &mut known.license,
                Recognizer::UkNhs => &mut known.nhs,
                Recognizer::UkNino => &mut known.nino,
                Recognizer::AbaRouting => &mut known.aba,
                Recognizer::Crypto => &mut known.crypto,
                Recognizer::DateOfBirth => &mut known.birth,
                secret if secret as usize >= Recognizer::PERSONAL => {
                    faults.push((spec.id.clone(), "this recognizer belongs to secrets".to_owned()));
                    continue;
                }
                national => {
                    words.extend(spec.context.iter().map(|word| (national, word.as_str())));
                    let rule = Known { rule: rule.clone(), confidence: spec.confidence, weak: spec.weak_confidence };
                    known.national.push((national, rule));
                    continue;
                }
            };
            *slot = Some(Known { rule: rule.clone(), confidence: spec.confidence, weak: spec.weak_confidence });
            words.extend(spec.context.iter().map(|word| (recognizer, word.as_str())));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let context = Context::new(&words).map_err(|message| vec![("-".to_owned(), message)])?;
        Ok(Self { known, context })
    }

    /// Keys of words that may begin a word of context.
    pub(super) fn keys(&self) -> &KeySet {
        self.context.keys()
    }

    /// `context` holds where such words stand, ascending.
    pub(super) fn scan(&self, text: &[u8], context: &[usize], sink: &mut Sink<'_>) {
        if let Some(known) = &self.known.email {
            address::emails(text, known, sink);
        }
        digits::scan(text, &self.known, &self.context, context, sink);
    }
    /// Reads the address around the `:` at `at`; `done` is where the last one ended.
    pub(super) fn colon(&self, text: &[u8], at: usize, done: &mut usize, sink: &mut Sink<'_>) {
        if self.known.ip.is_some() || self.known.mac.is_some() {
            network::colon_address(text, at, done, &self.known, sink);
        }
    }
}
