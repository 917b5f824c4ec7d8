//! An organization's own rules and allow list: from the document to what the engine runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CompileError;
use super::compile::{KnownRules, Level};
use super::document::{CustomRule, DataRule, PolicyDocument, RuleSetting};
use super::nearest::hint;
use super::read::{below, fault};
use crate::detect::{CustomRules, CustomRulesBuilder};
use crate::domain::{Category, Detector, Rule, Severity, Timestamp};

const MAX_RULES: usize = 500;
const MAX_SETS: usize = 20;
const MAX_ALLOWED: usize = 1000;
const MAX_NAME: usize = 64;
const MAX_NOTE: usize = 500;

/// What a document adds to the rules of the engine.
#[derive(Default)]
pub(super) struct Own {
    /// Sorted by id.
    pub(super) rules: Vec<Arc<Rule>>,
    /// What each says about itself.
    pub(super) settings: Vec<RuleSetting>,
    /// When each entry of the allow list ends.
    pub(super) expiries: Vec<Option<Timestamp>>,
    builder: CustomRulesBuilder,
}

impl Own {
    /// Reads what `document` adds. Its faults are added to `faults`, what they are about is left out.
    pub(super) fn of(document: &PolicyDocument, known: &KnownRules, faults: &mut Vec<CompileError>) -> Self {
        let mut own = Self::default();
        if document.custom_rules.len() > MAX_RULES {
            faults.push(fault("/custom_rules", format!("more than {MAX_RULES} rules")));
        }
        for (name, rule) in &document.custom_rules {
            own.rule(name, rule, &below("/custom_rules", name), faults);
        }
        if document.exact_data.len() > MAX_SETS {
            faults.push(fault("/exact_data", format!("more than {MAX_SETS} sets")));
        }
        for (name, rule) in &document.exact_data {
            let number = own.head("data", name, rule, &below("/exact_data", name), faults);
            own.builder.data(number, name);
        }
        own.allow(document, known, faults);
        own
    }

    fn rule(&mut self, name: &str, custom: &CustomRule, pointer: &str, faults: &mut Vec<CompileError>) {
        let head = DataRule {
            category: custom.category,
            entity: custom.entity.clone(),
            severity: custom.severity,
            confidence: custom.confidence,
            action: custom.action,
        };
        let number = self.head("custom", name, &head, pointer, faults);
        if custom.description.as_ref().is_some_and(|text| text.chars().count() > MAX_NOTE) {
            faults.push(fault(below(pointer, "description"), format!("longer than {MAX_NOTE} characters")));
        }
        if custom.keywords.is_empty() && custom.phrases.is_empty() && custom.regexes.is_empty() {
            faults.push(fault(pointer, "looks for nothing: give `keywords`, `phrases` or `regexes`"));
        }
        type Add = fn(&mut CustomRulesBuilder, usize, &str) -> Result<(), String>;
        let kinds: [(&str, &[String], Add); 3] = [
            ("keywords", &custom.keywords, CustomRulesBuilder::keyword),
            ("phrases", &custom.phrases, CustomRulesBuilder::phrase),
            ("regexes", &custom.regexes, CustomRulesBuilder::regex),
        ];
        for (kind, texts, add) in kinds {
            for (index, text) in texts.iter().enumerate() {
                if let Err(detail) = add(&mut self.builder, number, text) {
                    faults.push(fault(format!("{pointer}/{kind}/{index}"), detail));
                }
            }
        }
    }

    /// Adds a rule, and returns the number that the engine is to know it by.
    fn head(
        &mut self,
        kind: &str,
        name: &str,
        head: &DataRule,
        pointer: &str,
        faults: &mut Vec<CompileError>,
    ) -> usize {
        if !is_name(name) {
            let detail = format!("a name is 1 to {MAX_NAME} lower-case letters, digits and `_`, a letter first");
            faults.push(fault(pointer, detail));
        }
        if head.entity.as_deref().is_some_and(|entity| !is_type(entity)) {
            let detail = format!("a type is 1 to {MAX_NAME} capitals, digits and `_`, a letter first");
            faults.push(fault(below(pointer, "type"), detail));
        }
        let confidence = head.confidence.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&confidence) {
            faults.push(fault(below(pointer, "confidence"), format!("{confidence} is not from 0 to 1")));
        }
        if head.action.is_none() {
            faults.push(fault(below(pointer, "action"), "is missing: what is done about it"));
        }
        let rule = Arc::new(Rule {
            id: format!("{kind}.{name}").into(),
            detector: Detector::Custom,
            category: head.category.unwrap_or(Category::Custom),
            entity: head.entity.clone().unwrap_or_else(|| name.to_ascii_uppercase()).into(),
            severity: head.severity.unwrap_or(Severity::High),
        });
        self.rules.push(Arc::clone(&rule));
        self.settings.push(RuleSetting { action: head.action, threshold: None });
        // Thousandths outlast the loss of precision.
        self.builder.rule(rule, confidence as f32)
    }

    fn allow(&mut self, document: &PolicyDocument, known: &KnownRules, faults: &mut Vec<CompileError>) {
        if document.allow_list.len() > MAX_ALLOWED {
            faults.push(fault("/allow_list", format!("more than {MAX_ALLOWED} entries")));
            return;
        }
        for (index, entry) in document.allow_list.iter().enumerate() {
            let pointer = format!("/allow_list/{index}");
            let mut bad = |step: &str, detail: String| faults.push(fault(format!("{pointer}{step}"), detail));
            for (step, note) in [("/owner", &entry.owner), ("/reason", &entry.reason)] {
                if note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE) {
                    bad(step, format!("longer than {MAX_NOTE} characters"));
                }
            }
            if entry.text.is_some() == entry.pattern.is_some() {
                bad("", "needs either a `text` or a `pattern`".to_owned());
            }
            if entry.text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                bad("/text", "is empty".to_owned());
            }
            let names = Names { known, own: &self.rules };
            let lowered = match &entry.rule {
                None => {
                    bad("/rule", "is missing: the rule or type that is lowered".to_owned());
                    Vec::new()
                }
                Some(name) => match names.get(name) {
                    Some((Level::Category, _)) => {
                        bad("/rule", format!("`{name}` is a whole category: name a rule or a type"));
                        Vec::new()
                    }
                    Some((_, slots)) => slots.into_iter().filter_map(|slot| names.rule(slot)).collect(),
                    None => {
                        bad("/rule", format!("`{name}` is no type or rule{}", names.hint(name)));
                        Vec::new()
                    }
                },
            };
            let ids = lowered.iter().map(|rule| &*rule.id);
            if let Err(detail) = self.builder.allow(ids, entry.text.as_deref(), entry.pattern.as_deref()) {
                bad("/pattern", detail);
            }
            self.expiries.push(entry.expires_at);
        }
    }

    /// What the engine runs; nothing when the document adds nothing.
    pub(super) fn build(
        builder: CustomRulesBuilder,
        acts: impl Fn(&Rule) -> bool,
    ) -> Result<Option<CustomRules>, CompileError> {
        if builder.is_empty() {
            return Ok(None);
        }
        builder.build(acts).map(Some).map_err(|detail| fault("/custom_rules", detail))
    }

    pub(super) fn take_builder(&mut self) -> CustomRulesBuilder {
        std::mem::take(&mut self.builder)
    }
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_type(entity: &str) -> bool {
    entity.bytes().all(|b| !b.is_ascii_lowercase()) && is_name(&entity.to_ascii_lowercase())
}

/// Everything that a document can name: the rules of the engine, and those of the document after them.
pub(super) struct Names<'n> {
    pub(super) known: &'n KnownRules,
    /// Sorted by id.
    pub(super) own: &'n [Arc<Rule>],
}

impl Names<'_> {
    /// What a name stands for.
    pub(super) fn get(&self, name: &str) -> Option<(Level, Vec<usize>)> {
        let found = self.known.named(name);
        let level = found.map(|(level, _)| level);
        let mut slots = found.map(|(_, slots)| slots.to_vec()).unwrap_or_default();
        let mut own_level = None;
        for (index, rule) in self.own.iter().enumerate() {
            let matched = if rule.category.as_str() == name {
                Level::Category
            } else if &*rule.entity == name {
                Level::Entity
            } else if &*rule.id == name {
                Level::Rule
            } else {
                continue;
            };
            if level.is_none_or(|level| level == matched) {
                slots.push(self.known.slots() + index);
                own_level = Some(matched);
            }
        }
        Some((level.or(own_level)?, slots))
    }

    /// What was probably meant.
    pub(super) fn hint(&self, name: &str) -> String {
        let own = self.own.iter().flat_map(|rule| [&*rule.id, &*rule.entity]);
        hint(name, self.known.names().chain(own))
    }

    /// How many places a table of settings has.
    pub(super) fn slots(&self) -> usize {
        self.known.slots() + self.own.len()
    }

    pub(super) fn rule(&self, slot: usize) -> Option<&Rule> {
        match slot.checked_sub(self.known.slots()) {
            Some(own) => self.own.get(own).map(|rule| &**rule),
            None => self.known.rule(slot),
        }
    }

    /// Settings in the order in which they are painted: the more specific later. What a rule says about itself comes before
    /// what is said about it by name.
    pub(super) fn ordered<'s>(
        &self,
        settings: &'s BTreeMap<String, RuleSetting>,
        own: &'s [RuleSetting],
    ) -> Vec<(Vec<usize>, &'s RuleSetting)> {
        let named = settings.iter().filter_map(|(name, setting)| {
            let (level, slots) = self.get(name)?;
            Some(((level, true), slots, setting))
        });
        let first = self.known.slots();
        let themselves =
            own.iter().enumerate().map(|(index, setting)| ((Level::Rule, false), vec![first + index], setting));
        let mut all: Vec<_> = themselves.chain(named).collect();
        all.sort_by_key(|(order, ..)| *order);
        all.into_iter().map(|(_, slots, setting)| (slots, setting)).collect()
    }
}
