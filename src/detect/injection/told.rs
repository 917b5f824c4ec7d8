//! What weighs for an injection rule in one sentence, by the names that the rule packs use.

use std::collections::BTreeMap;

use super::evidence::{Groups, Term};
use super::{EVEN, Lexicon, MOST_AGAINST, OTHERS, role_offset};
use crate::detect::pack::{Evidence, Pack};
use crate::domain::{Detector, Role};

/// The evidence of all rules, as it is written; compiled only for this.
pub(in crate::detect) struct Told {
    rules: Vec<(String, Vec<(String, Term)>)>,
    common: Vec<(String, Term)>,
}

impl Told {
    pub(in crate::detect) fn new<'p>(packs: impl Iterator<Item = &'p Pack> + Clone) -> Self {
        let mut names = BTreeMap::new();
        for (name, _) in packs.clone().flat_map(|pack| &pack.groups) {
            let next = names.len();
            names.entry(name.clone()).or_insert(u8::try_from(next).unwrap_or(u8::MAX));
        }
        let terms = |evidence: &[Evidence]| -> Vec<(String, Term)> {
            let compiled = evidence.iter().map(|one| Some((one.when.clone(), Term::compile(one, &names).ok()?)));
            compiled.flatten().collect()
        };
        let of_injection = packs.clone().filter(|pack| pack.detector == Detector::Injection);
        let rules = of_injection.flat_map(|pack| &pack.rules).map(|rule| (rule.id.clone(), terms(&rule.evidence)));
        Self { rules: rules.collect(), common: packs.flat_map(|pack| terms(&pack.common)).collect() }
    }

    /// What weighs for rule `id` in `window`; the sum is near the log-odds of its confidence (the sentence before counts a little
    /// as well).
    pub(in crate::detect) fn weights(
        &self,
        lexicon: &Lexicon,
        window: &[u8],
        id: &str,
        role: Role,
    ) -> Vec<(String, f32)> {
        let mut seen = Groups::new();
        lexicon.each_hit(window, |number, groups| seen.note(number, groups));
        let holding = |terms: &[(String, Term)]| -> Vec<(String, f32)> {
            let holding = terms.iter().filter(|(_, term)| term.holds(&seen));
            holding.map(|(when, term)| (when.clone(), term.weight)).collect()
        };
        let mut weights = Vec::new();
        let mut others = 0.0;
        for (rule, terms) in &self.rules {
            let held = holding(terms);
            if rule == id {
                weights = held;
            } else {
                others += held.iter().map(|(_, weight)| weight).sum::<f32>().max(0.0);
            }
        }
        let against = holding(&self.common).iter().map(|(_, weight)| weight).sum::<f32>().max(MOST_AGAINST);
        weights.extend([
            ("(other rules)".to_owned(), OTHERS * others),
            ("(common evidence)".to_owned(), against),
            ("(role)".to_owned(), role_offset(role)),
            ("(even odds)".to_owned(), -EVEN),
        ]);
        weights.retain(|(_, weight)| *weight != 0.0);
        weights
    }
}
