use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::custom::{Names, Own};
use super::decide::{CompiledPolicy, Setting};
use super::document::{BinaryContent, Escalation, FailMode, PolicyDocument, Preset, RuleSetting};
use super::presets;
use super::read::{below, fault, read_all};
use super::{CompileError, PolicyLabel};
use crate::detect::{Engine, Waiting};
use crate::domain::{Action, Category, Detector, Role, Rule, label};
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

/// Reads and compiles a document in YAML or JSON.
///
/// # Errors
/// Every fault at once, of reading and of compiling; what could not be read is not called missing besides.
pub fn compile_text(text: &str, label: PolicyLabel, engine: &Engine) -> Result<CompiledPolicy, Vec<CompileError>> {
    let (document, mut faults) = read_all(text)?;
    let is_within = |pointer: &str, other: &str| {
        pointer.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match compile(&document, label, engine) {
        Ok(policy) if faults.is_empty() => Ok(policy),
        Ok(_) => Err(faults),
        Err(more) => {
            let unread: Vec<String> = faults.iter().map(|fault| fault.pointer.clone()).collect();
            faults
                .extend(more.into_iter().filter(|fault| !unread.iter().any(|known| is_within(&fault.pointer, known))));
            Err(faults)
        }
    }
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
        let own = Own::of(document, &self.known, &mut faults);
        let mut layers: Vec<&PolicyDocument> = presets::layers(document.extends.unwrap_or(Preset::Balanced)).collect();
        layers.push(document);
        let never = last(&layers, |layer| layer.never_restore.clone()).unwrap_or_default();
        self.check(document, &own, &never, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        self.assemble(&layers, own, label).map_err(|fault| vec![fault])
    }

    /// A preset, compiled.
    #[must_use]
    pub fn preset(&self, preset: Preset) -> CompiledPolicy {
        let layers: Vec<_> = presets::layers(preset).collect();
        self.assemble(&layers, Own::default(), PolicyLabel::of_preset(preset))
            .unwrap_or_else(|fault| unreachable!("a preset has no rules of its own: {fault}"))
    }

    fn check(&self, document: &PolicyDocument, own: &Own, never: &[String], faults: &mut Vec<CompileError>) {
        let names = Names { known: &self.known, own: &own.rules };
        let never = never_restored(&names, never);
        if document.description.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
            faults.push(fault("/description", format!("longer than {MAX_DESCRIPTION} characters")));
        }
        check_rules(&names, &document.rules, "/rules", faults);
        check_tokens(&names, &document.rules, "/rules", &never, faults);
        check_own_tokens(document, &names, &never, faults);
        for (index, name) in document.never_restore.iter().flatten().enumerate() {
            check_name(&names, name, &format!("/never_restore/{index}"), faults);
        }
        for (role, rules) in &document.roles {
            let role = serde_json::to_value(role).ok().and_then(|name| name.as_str().map(str::to_owned));
            let pointer = below("/roles", &role.unwrap_or_default());
            check_rules(&names, rules, &pointer, faults);
            check_tokens(&names, rules, &pointer, &never, faults);
        }
        check_rules(&names, &document.answers, "/answers", faults);
        for (name, _) in document.answers.iter().filter(|(_, setting)| setting.action == Some(Action::Tokenize)) {
            let pointer = below(&below("/answers", name), "action");
            faults.push(fault(pointer, "an answer has nothing that could be put back: `redact` or `flag` it"));
        }
        if let Some(escalate) = &document.escalate {
            if escalate.min_risk_score.is_some_and(|score| !(1..=100).contains(&score)) {
                faults.push(fault("/escalate/min_risk_score", "a risk score is 1 to 100"));
            }
            for (index, name) in escalate.rules.iter().flatten().enumerate() {
                check_name(&names, name, &format!("/escalate/rules/{index}"), faults);
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

    /// Paints the layers over each other, the document's last. Names that no rule has paint nothing.
    fn assemble(
        &self,
        layers: &[&PolicyDocument],
        mut own: Own,
        label: PolicyLabel,
    ) -> Result<CompiledPolicy, CompileError> {
        let builder = own.take_builder();
        let painter = Painter { known: &self.known, own: &own, document: layers.len().saturating_sub(1) };
        let mut base = vec![Setting::UNSAID; self.known.slots()];
        // Those who wrote the rules of this category say what is done.
        if let Some(cell) = base.get_mut(self.known.rules.len() + position(Category::Custom)) {
            cell.action = Action::Allow;
        }
        base.resize(self.known.slots() + own.rules.len(), Setting::OWN);
        for (index, layer) in layers.iter().enumerate() {
            painter.paint(index, &mut base, &layer.rules, true);
        }
        let escalate = last(layers, |layer| layer.escalate.clone()).unwrap_or_default();
        painter.mark(&mut base, &escalate);

        let mut answers = base.clone();
        for setting in answers.iter_mut().filter(|setting| setting.action == Action::Tokenize) {
            setting.action = Action::Flag;
        }
        for (index, layer) in layers.iter().enumerate() {
            painter.paint(index, &mut answers, &layer.answers, false);
        }
        let any = |name: &str, asks: fn(&Setting) -> bool| {
            let slots = painter.names().get(name).map(|(_, slots)| slots).unwrap_or_default();
            slots.into_iter().filter_map(|slot| answers.get(slot)).any(asks)
        };
        let waiting =
            Waiting { words: BEGIN_AS_WORDS.iter().any(|name| any(name, |setting| setting.action >= Action::Redact)) };
        let mut attacks = Category::ALL.iter().filter(|category| category.is_attack());
        let attacks_in_answers = attacks
            .any(|category| any(category.as_str(), |setting| setting.action != Action::Allow || setting.escalate));
        let custom = Own::build(builder, |rule| {
            let slot = self.known.slot_of(rule, &own.rules);
            answers.get(slot).is_some_and(|setting| setting.action >= Action::Redact)
        })?;

        let mut tables = vec![base.into_boxed_slice()];
        let table_of_role = ROLES.map(|role| painter.table_of(role, layers, &mut tables));
        Ok(CompiledPolicy {
            shown: super::shown(&label.name, label.version).into(),
            label,
            known: Arc::clone(&self.known),
            tokens: tokens(&painter.names(), &tables),
            own: own.rules.clone().into(),
            allowed_until: own.expiries.clone().into(),
            custom,
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
        })
    }
}

/// Writes settings into tables.
struct Painter<'p> {
    known: &'p KnownRules,
    own: &'p Own,
    /// The layer that speaks about the organization's own rules.
    document: usize,
}

impl<'p> Painter<'p> {
    fn names(&self) -> Names<'p> {
        Names { known: self.known, own: &self.own.rules }
    }

    /// The index of the table that holds for `role`; equal tables are kept once.
    fn table_of(&self, role: Role, layers: &[&PolicyDocument], tables: &mut Vec<Box<[Setting]>>) -> u8 {
        let Some(mut table) = tables.first().cloned() else { return 0 };
        for (index, layer) in layers.iter().enumerate() {
            if let Some(settings) = layer.roles.get(&role) {
                self.paint(index, &mut table, settings, false);
            }
        }
        let index = tables.iter().position(|other| *other == table).unwrap_or(tables.len());
        if index == tables.len() {
            tables.push(table);
        }
        u8::try_from(index).unwrap_or(0)
    }

    /// Presets say nothing about rules that they do not know, not even by their category.
    fn paint(&self, layer: usize, table: &mut [Setting], settings: &BTreeMap<String, RuleSetting>, themselves: bool) {
        let of_document = layer == self.document;
        let names = Names { known: self.known, own: if of_document { &self.own.rules } else { &[] } };
        let own = if of_document && themselves { self.own.settings.as_slice() } else { &[] };
        for (slots, setting) in names.ordered(settings, own) {
            for slot in slots {
                if let Some(cell) = table.get_mut(slot) {
                    cell.paint(setting);
                }
            }
        }
    }

    fn mark(&self, table: &mut [Setting], escalate: &Escalation) {
        let names = Names { known: self.known, own: &self.own.rules };
        for slot in escalate.rules.iter().flatten().filter_map(|name| names.get(name)).flat_map(|(_, slots)| slots) {
            if let Some(cell) = table.get_mut(slot) {
                cell.escalate = true;
            }
        }
    }
}

fn check_rules(
    names: &Names<'_>,
    rules: &BTreeMap<String, RuleSetting>,
    pointer: &str,
    faults: &mut Vec<CompileError>,
) {
    for (name, setting) in rules {
        let pointer = below(pointer, name);
        check_name(names, name, &pointer, faults);
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

/// By slot: whether what is found is never put back into an answer.
fn never_restored(names: &Names<'_>, never: &[String]) -> Vec<bool> {
    let mut slots = vec![false; names.slots()];
    let categories =
        Category::ALL.iter().filter(|category| !category.is_restorable()).map(|category| category.as_str());
    let named = categories.chain(never.iter().map(String::as_str)).filter_map(|name| names.get(name));
    for slot in named.flat_map(|(_, slots)| slots) {
        if let Some(cell) = slots.get_mut(slot) {
            *cell = true;
        }
    }
    slots
}

/// Whether all that is tokenized may be put back.
fn check_tokens(
    names: &Names<'_>,
    rules: &BTreeMap<String, RuleSetting>,
    pointer: &str,
    never: &[bool],
    faults: &mut Vec<CompileError>,
) {
    for (name, _) in rules.iter().filter(|(_, setting)| setting.action == Some(Action::Tokenize)) {
        let Some((level, slots)) = names.get(name) else { continue };
        // Unless a more specific name says something else.
        let overruled = |slot: &usize| {
            rules.iter().any(|(other, setting)| {
                let other = names.get(other).filter(|(other, slots)| *other > level && slots.contains(slot));
                other.is_some() && setting.action.is_some_and(|action| action != Action::Tokenize)
            })
        };
        let stuck = || slots.iter().filter(|slot| never.get(**slot) == Some(&true) && !overruled(slot));
        let Some(first) = stuck().next() else { continue };
        let detail = if stuck().count() == slots.len() {
            format!("`{name}` must never be put back into an answer: `redact` or `block` it")
        } else {
            let rule = names.rule(*first).map_or("", |rule| &rule.id);
            format!("this takes in `{rule}`, which must never be put back into an answer: give that another action")
        };
        faults.push(fault(below(&below(pointer, name), "action"), detail));
    }
}

/// The same for what the organization's own rules say about themselves.
fn check_own_tokens(document: &PolicyDocument, names: &Names<'_>, never: &[bool], faults: &mut Vec<CompileError>) {
    let rules = document.custom_rules.iter().map(|(name, rule)| ("custom", "/custom_rules", name, rule.action));
    let sets = document.exact_data.iter().map(|(name, rule)| ("data", "/exact_data", name, rule.action));
    for (kind, pointer, name, _) in rules.chain(sets).filter(|(.., action)| *action == Some(Action::Tokenize)) {
        let slots = names.get(&format!("{kind}.{name}")).map(|(_, slots)| slots).unwrap_or_default();
        if slots.iter().any(|slot| never.get(*slot) == Some(&true)) {
            let detail = "what it finds must never be put back into an answer: `redact` or `block` it";
            faults.push(fault(below(&below(pointer, name), "action"), detail));
        }
    }
}

/// The types that are tokenized, as they stand in tokens.
fn tokens(names: &Names<'_>, tables: &[Box<[Setting]>]) -> Option<Arc<[Box<str>]>> {
    let tokenizes =
        |slot: usize| tables.iter().filter_map(|table| table.get(slot)).any(|cell| cell.action == Action::Tokenize);
    let rules = (0..names.slots()).filter(|slot| tokenizes(*slot)).filter_map(|slot| names.rule(slot));
    let mut labels: Vec<Box<str>> = rules.map(|rule| label(&rule.entity).into_boxed_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    (!labels.is_empty()).then(|| labels.into())
}

fn check_name(names: &Names<'_>, name: &str, pointer: &str, faults: &mut Vec<CompileError>) {
    if names.get(name).is_none() {
        faults.push(fault(pointer, format!("`{name}` is no category, type or rule{}", names.hint(name))));
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
    /// By slot.
    rules: Box<[Arc<Rule>]>,
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
pub(super) enum Level {
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
        Self { rules: rules.into(), by_id, named }
    }

    pub(super) fn named(&self, name: &str) -> Option<(Level, &[usize])> {
        self.named.get(name).map(|named| (named.level, named.slots.as_slice()))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(AsRef::as_ref)
    }

    pub(super) fn rule(&self, slot: usize) -> Option<&Rule> {
        self.rules.get(slot).map(|rule| &**rule)
    }

    pub(super) fn slots(&self) -> usize {
        self.by_id.len() + Category::ALL.len()
    }

    /// The slot of a rule; those of the document, sorted by id, come after all others.
    pub(super) fn slot_of(&self, rule: &Rule, own: &[Arc<Rule>]) -> usize {
        if rule.detector == Detector::Custom
            && let Ok(index) = own.binary_search_by(|other| other.id.cmp(&rule.id))
        {
            return self.slots() + index;
        }
        self.slot_of_id(&rule.id, rule.category)
    }

    /// The slot of a rule of the engine, by its id; that of its category where the engine has no such rule.
    pub(super) fn slot_of_id(&self, id: &str, category: Category) -> usize {
        self.by_id.get(id).copied().unwrap_or_else(|| self.by_id.len() + position(category))
    }
}

const fn position(category: Category) -> usize {
    match category {
        Category::PromptInjection => 0,
        Category::Jailbreak => 1,
        Category::PromptExtraction => 2,
        Category::Pii => 3,
        Category::Secrets => 4,
        Category::Custom => 5,
    }
}

impl Setting {
    /// Where no layer says anything; `balanced` leaves no such place.
    const UNSAID: Self = Self { threshold: 500, action: Action::Flag, escalate: false };
    /// Of the organization's own rules, which say themselves what is done.
    const OWN: Self = Self { threshold: 0, ..Self::UNSAID };

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
