use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::decide::{CompiledPolicy, Setting};
use super::document::{BinaryContent, Escalation, FailMode, PolicyDocument, Preset, RuleSetting};
use super::nearest::hint;
use super::presets;
use super::read::{below, fault};
use super::{CompileError, PolicyLabel};
use crate::detect::{Engine, Waiting};
use crate::domain::{Action, Category, Role, Rule, label};
use crate::protocol::BinaryRule;

/// Types of things that begin like an ordinary word.
const BEGIN_AS_WORDS: [&str; 2] = ["EMAIL_ADDRESS", "DATE_OF_BIRTH"];
const MAX_DESCRIPTION: usize = 1000;
const MAX_BLOCK_MESSAGE: usize = 500;
/// A table for every role, in this order.
pub(super) const ROLES: [Role; 6] =
    [Role::System, Role::User, Role::Assistant, Role::Tool, Role::ToolDefinition, Role::Other];

/// Compiles one document.
///
/// # Errors
/// Every fault at once.
pub fn compile(
    document: &PolicyDocument,
    label: PolicyLabel,
    engine: &Engine,
) -> Result<CompiledPolicy, Vec<CompileError>> {
    Compiler::new(engine.rules()).compile(document, label)
}

/// Compiles documents against the rules of one engine; what they share is made once.
#[derive(Clone)]
pub struct Compiler {
    known: Arc<KnownRules>,
}

impl Compiler {
    #[must_use]
    pub fn new(rules: &[Arc<Rule>]) -> Self {
        Self { known: Arc::new(KnownRules::new(rules)) }
    }

    /// # Errors
    /// Every fault at once.
    pub fn compile(&self, document: &PolicyDocument, label: PolicyLabel) -> Result<CompiledPolicy, Vec<CompileError>> {
        let mut faults = Vec::new();
        let mut layers: Vec<&PolicyDocument> = presets::layers(document.extends.unwrap_or(Preset::Balanced)).collect();
        layers.push(document);
        let never = last(&layers, |layer| layer.never_restore.clone()).unwrap_or_default();
        self.check(document, &self.never_restored(&never), &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(self.assemble(&layers, label))
    }

    /// A preset, compiled.
    #[must_use]
    pub fn preset(&self, preset: Preset) -> CompiledPolicy {
        self.assemble(&presets::layers(preset).collect::<Vec<_>>(), PolicyLabel::of_preset(preset))
    }

    /// By slot: whether what is found is never put back into an answer.
    fn never_restored(&self, names: &[String]) -> Vec<bool> {
        let mut never = vec![false; self.known.slots()];
        let categories =
            Category::ALL.iter().filter(|category| !category.is_restorable()).map(|category| category.as_str());
        for slot in categories.chain(names.iter().map(String::as_str)).flat_map(|name| self.known.slots_of(name)) {
            if let Some(cell) = never.get_mut(*slot) {
                *cell = true;
            }
        }
        never
    }

    fn check(&self, document: &PolicyDocument, never: &[bool], faults: &mut Vec<CompileError>) {
        if document.description.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
            faults.push(fault("/description", format!("longer than {MAX_DESCRIPTION} characters")));
        }
        self.check_rules(&document.rules, "/rules", faults);
        self.check_tokens(&document.rules, "/rules", never, faults);
        for (index, name) in document.never_restore.iter().flatten().enumerate() {
            self.check_name(name, &format!("/never_restore/{index}"), faults);
        }
        for (role, rules) in &document.roles {
            let role = serde_json::to_value(role).ok().and_then(|name| name.as_str().map(str::to_owned));
            let pointer = below("/roles", &role.unwrap_or_default());
            self.check_rules(rules, &pointer, faults);
            self.check_tokens(rules, &pointer, never, faults);
        }
        self.check_rules(&document.answers, "/answers", faults);
        for (name, _) in document.answers.iter().filter(|(_, setting)| setting.action == Some(Action::Tokenize)) {
            let pointer = below(&below("/answers", name), "action");
            faults.push(fault(pointer, "an answer has nothing that could be put back: `redact` or `flag` it"));
        }
        if let Some(escalate) = &document.escalate {
            if escalate.min_risk_score.is_some_and(|score| !(1..=100).contains(&score)) {
                faults.push(fault("/escalate/min_risk_score", "a risk score is 1 to 100"));
            }
            for (index, name) in escalate.rules.iter().flatten().enumerate() {
                self.check_name(name, &format!("/escalate/rules/{index}"), faults);
            }
        }
        if let Some(message) = &document.block_message
            && (message.trim().is_empty()
                || message.chars().count() > MAX_BLOCK_MESSAGE
                || message.chars().any(char::is_control))
        {
            let detail = format!("one line of 1 to {MAX_BLOCK_MESSAGE} characters, without control characters");
            faults.push(fault("/block_message", detail));
        }
    }

    fn check_rules(&self, rules: &BTreeMap<String, RuleSetting>, pointer: &str, faults: &mut Vec<CompileError>) {
        for (name, setting) in rules {
            let pointer = below(pointer, name);
            self.check_name(name, &pointer, faults);
            if let Some(threshold) = setting.threshold
                && !(0.0..=1.0).contains(&threshold)
            {
                faults.push(fault(below(&pointer, "threshold"), format!("{threshold} is not from 0 to 1")));
            }
            if *setting == RuleSetting::default() {
                faults.push(fault(pointer, "sets nothing: give an `action`, a `threshold` or both"));
            }
        }
    }

    /// Whether all that is tokenized may be put back.
    fn check_tokens(
        &self,
        rules: &BTreeMap<String, RuleSetting>,
        pointer: &str,
        never: &[bool],
        faults: &mut Vec<CompileError>,
    ) {
        let named = |name: &str| self.known.named.get(name);
        for (name, _) in rules.iter().filter(|(_, setting)| setting.action == Some(Action::Tokenize)) {
            let Some(this) = named(name) else { continue };
            // Unless a more specific name says something else.
            let overruled = |slot: &usize| {
                rules.iter().any(|(other, setting)| {
                    let other = named(other).filter(|other| other.level > this.level && other.slots.contains(slot));
                    other.is_some() && setting.action.is_some_and(|action| action != Action::Tokenize)
                })
            };
            let stuck: Vec<usize> = this
                .slots
                .iter()
                .filter(|slot| never.get(**slot) == Some(&true) && !overruled(slot))
                .copied()
                .collect();
            let Some(first) = stuck.first() else { continue };
            let detail = if stuck.len() == this.slots.len() {
                format!("`{name}` must never be put back into an answer: `redact` or `block` it")
            } else {
                let rule = self.known.by_id.iter().find(|(_, slot)| *slot == first).map_or("", |(rule, _)| rule);
                format!("this takes in `{rule}`, which must never be put back into an answer: give that another action")
            };
            faults.push(fault(below(&below(pointer, name), "action"), detail));
        }
    }

    fn check_name(&self, name: &str, pointer: &str, faults: &mut Vec<CompileError>) {
        if !self.known.named.contains_key(name) {
            let hint = hint(name, self.known.named.keys().map(AsRef::as_ref));
            let detail = format!("`{name}` is no category, type or rule{hint}");
            faults.push(fault(pointer, detail));
        }
    }

    /// Paints the layers over each other. Names that no rule has paint nothing.
    fn assemble(&self, layers: &[&PolicyDocument], label: PolicyLabel) -> CompiledPolicy {
        let mut base = vec![Setting::UNSAID; self.known.slots()];
        for layer in layers {
            self.paint(&mut base, &layer.rules);
        }
        let escalate = last(layers, |layer| layer.escalate.clone()).unwrap_or_default();
        self.mark(&mut base, &escalate);

        let mut answers = base.clone();
        for setting in answers.iter_mut().filter(|setting| setting.action == Action::Tokenize) {
            setting.action = Action::Flag;
        }
        for layer in layers {
            self.paint(&mut answers, &layer.answers);
        }
        let any = |name: &str, asks: fn(&Setting) -> bool| {
            let slots = self.known.named.get(name).into_iter().flat_map(|named| &named.slots);
            slots.filter_map(|slot| answers.get(*slot)).any(asks)
        };
        let waiting =
            Waiting { words: BEGIN_AS_WORDS.iter().any(|name| any(name, |setting| setting.action >= Action::Redact)) };
        let mut attacks = Category::ALL.iter().filter(|category| category.is_attack());
        let attacks_in_answers = attacks
            .any(|category| any(category.as_str(), |setting| setting.action != Action::Allow || setting.escalate));

        let mut tables = vec![base.into_boxed_slice()];
        let table_of_role = ROLES.map(|role| self.table_of(role, layers, &mut tables));
        CompiledPolicy {
            shown: super::shown(&label.name, label.version).into(),
            label,
            known: Arc::clone(&self.known),
            tokens: self.tokens(&tables),
            tables: tables.into_boxed_slice(),
            table_of_role,
            answers: answers.iter().any(|setting| setting.action != Action::Allow).then(|| answers.into_boxed_slice()),
            waiting,
            attacks_in_answers,
            escalate_at: escalate.min_risk_score,
            binary: binary(last(layers, |layer| layer.binary)),
            binary_answers: binary(last(layers, |layer| layer.binary_answers)),
            fails_open: last(layers, |layer| layer.fail) == Some(FailMode::Open),
            block_message: last(layers, |layer| layer.block_message.clone()).map(String::into_boxed_str),
        }
    }

    fn tokens(&self, tables: &[Box<[Setting]>]) -> Option<Arc<[Box<str>]>> {
        let tokenizes = |slot: &usize| {
            tables.iter().filter_map(|table| table.get(*slot)).any(|cell| cell.action == Action::Tokenize)
        };
        let types = self.known.named.iter().filter(|(_, named)| named.level == Level::Entity);
        let mut labels: Vec<Box<str>> = types
            .filter(|(_, named)| named.slots.iter().any(tokenizes))
            .map(|(entity, _)| label(entity).into_boxed_str())
            .collect();
        labels.sort_unstable();
        labels.dedup();
        (!labels.is_empty()).then(|| labels.into())
    }

    /// The index of the table that holds for `role`; equal tables are kept once.
    fn table_of(&self, role: Role, layers: &[&PolicyDocument], tables: &mut Vec<Box<[Setting]>>) -> u8 {
        let Some(mut table) = tables.first().cloned() else { return 0 };
        for settings in layers.iter().filter_map(|layer| layer.roles.get(&role)) {
            self.paint(&mut table, settings);
        }
        let index = tables.iter().position(|other| *other == table).unwrap_or(tables.len());
        if index == tables.len() {
            tables.push(table);
        }
        u8::try_from(index).unwrap_or(0)
    }

    fn paint(&self, table: &mut [Setting], settings: &BTreeMap<String, RuleSetting>) {
        let mut named: Vec<(&Named, &RuleSetting)> = settings
            .iter()
            .filter_map(|(name, setting)| Some((self.known.named.get(name.as_str())?, setting)))
            .collect();
        named.sort_by_key(|(named, _)| named.level);
        for (named, setting) in named {
            for slot in &named.slots {
                if let Some(cell) = table.get_mut(*slot) {
                    cell.paint(setting);
                }
            }
        }
    }

    fn mark(&self, table: &mut [Setting], escalate: &Escalation) {
        let names = escalate.rules.iter().flatten();
        for slot in names.filter_map(|name| self.known.named.get(name.as_str())).flat_map(|named| &named.slots) {
            if let Some(cell) = table.get_mut(*slot) {
                cell.escalate = true;
            }
        }
    }
}

/// What the uppermost layer that says something says.
fn binary(content: Option<BinaryContent>) -> BinaryRule {
    match content {
        Some(BinaryContent::Pass) => BinaryRule::Pass,
        Some(BinaryContent::Refuse) | None => BinaryRule::Refuse,
    }
}

fn last<T>(layers: &[&PolicyDocument], said: impl Fn(&PolicyDocument) -> Option<T>) -> Option<T> {
    layers.iter().rev().find_map(|layer| said(layer))
}

/// The rules of an engine, numbered. After them comes one slot per category, for findings of a rule that is not among
/// them.
#[derive(Debug)]
pub(super) struct KnownRules {
    by_id: HashMap<Box<str>, usize>,
    named: HashMap<Box<str>, Named>,
}

/// What a name in a document stands for.
#[derive(Debug)]
struct Named {
    level: Level,
    slots: Vec<usize>,
}

/// Later ones are painted over earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Category,
    Entity,
    Rule,
}

impl KnownRules {
    fn new(rules: &[Arc<Rule>]) -> Self {
        let by_id = rules.iter().enumerate().map(|(slot, rule)| (rule.id.clone(), slot)).collect();
        let mut named: HashMap<Box<str>, Named> = HashMap::new();
        for category in Category::ALL {
            let of_category = rules.iter().enumerate().filter(|(_, rule)| rule.category == category);
            let mut slots: Vec<usize> = of_category.map(|(slot, _)| slot).collect();
            slots.push(rules.len() + position(category));
            named.insert(category.as_str().into(), Named { level: Level::Category, slots });
        }
        for (level, name) in
            [(Level::Entity, (|rule| &rule.entity) as fn(&Rule) -> &Box<str>), (Level::Rule, |rule| &rule.id)]
        {
            for (slot, rule) in rules.iter().enumerate() {
                let named = named.entry(name(rule).clone()).or_insert_with(|| Named { level, slots: Vec::new() });
                // A type that is called like its category, say, is the category.
                if named.level == level {
                    named.slots.push(slot);
                }
            }
        }
        Self { by_id, named }
    }

    fn slots_of(&self, name: &str) -> &[usize] {
        self.named.get(name).map(|named| &*named.slots).unwrap_or_default()
    }

    fn slots(&self) -> usize {
        self.by_id.len() + Category::ALL.len()
    }

    pub(super) fn slot(&self, rule: &Rule) -> usize {
        self.by_id.get(&rule.id).copied().unwrap_or_else(|| self.by_id.len() + position(rule.category))
    }
}

const fn position(category: Category) -> usize {
    match category {
        Category::PromptInjection => 0,
        Category::Jailbreak => 1,
        Category::PromptExtraction => 2,
        Category::Pii => 3,
        Category::Secrets => 4,
    }
}

impl Setting {
    /// Where no layer says anything; `balanced` leaves no such place.
    const UNSAID: Self = Self { threshold: 500, action: Action::Flag, escalate: false };

    fn paint(&mut self, setting: &RuleSetting) {
        self.action = setting.action.unwrap_or(self.action);
        if let Some(threshold) = setting.threshold {
            // The clamp keeps the cast exact.
            self.threshold = (threshold.clamp(0.0, 1.0) * 1000.0).round() as u16;
        }
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
