//! What differs between two policies, as it matters and not as it is written: defaults that are spelled out, the order of lists
//! and the form of numbers are no difference.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::document::{DataRule, PolicyDocument, Preset};
use super::read::{below, read};
use crate::domain::{Category, Severity};
use crate::store::PolicyRecord;

/// Characters of a value that a summary shows.
const SHOWN: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

/// One difference between two policies.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PolicyChange {
    /// JSON pointer into the policy: the later one, or the earlier one for what is removed.
    #[schema(example = "/document/rules/CREDIT_CARD/action")]
    pub pointer: String,
    pub kind: ChangeKind,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// The same in one line, for people.
    #[schema(example = "CREDIT_CARD action: redact → block")]
    pub summary: String,
}

/// What a policy says, without what the store adds.
#[derive(Clone, Copy, Debug)]
pub struct Stated<'p> {
    pub name: &'p str,
    pub description: Option<&'p str>,
    pub is_default: bool,
    pub document: &'p Value,
}

impl<'p> From<&'p PolicyRecord> for Stated<'p> {
    fn from(record: &'p PolicyRecord) -> Self {
        Self {
            name: &record.name,
            description: record.description.as_deref(),
            is_default: record.is_default,
            document: &record.document,
        }
    }
}

/// What `after` changes about `before`; about a document that says nothing when there is none before.
#[must_use]
pub fn diff(before: Option<Stated<'_>>, after: Stated<'_>) -> Vec<PolicyChange> {
    let mut changes = Changes(Vec::new());
    if let Some(before) = before {
        changes.compare("/name", Some(&before.name.into()), Some(&after.name.into()));
        let described = [before.description, after.description].map(|text| text.map(Value::from));
        changes.compare("/description", described[0].as_ref(), described[1].as_ref());
        changes.compare("/is_default", Some(&before.is_default.into()), Some(&after.is_default.into()));
    }
    let nothing = Value::Object(Map::new());
    let before = before.map_or(&nothing, |before| before.document);
    changes.compare(DOCUMENT, Some(&spelled_out(before)), Some(&spelled_out(after.document)));
    changes.0
}

const DOCUMENT: &str = "/document";

/// The document with its defaults; as it stands when this version cannot read it.
fn spelled_out(document: &Value) -> Value {
    let Ok(mut read) = read(document) else { return document.clone() };
    read.extends.get_or_insert(Preset::Balanced);
    for (name, rule) in &mut read.custom_rules {
        rule.category.get_or_insert(Category::Custom);
        rule.entity.get_or_insert_with(|| name.to_ascii_uppercase());
        rule.severity.get_or_insert(Severity::High);
        rule.confidence.get_or_insert(1.0);
    }
    for (name, rule) in &mut read.exact_data {
        let DataRule { category, entity, severity, confidence, action: _ } = rule;
        category.get_or_insert(Category::Custom);
        entity.get_or_insert_with(|| name.to_ascii_uppercase());
        severity.get_or_insert(Severity::High);
        confidence.get_or_insert(1.0);
    }
    as_value(&read)
}

fn as_value(document: &PolicyDocument) -> Value {
    serde_json::to_value(document).unwrap_or_default()
}

struct Changes(Vec<PolicyChange>);

impl Changes {
    fn compare(&mut self, pointer: &str, before: Option<&Value>, after: Option<&Value>) {
        let (none, no_items) = (Map::new(), Vec::new());
        match (before, after) {
            _ if before == after => {}
            (Some(Value::Object(before)), Some(Value::Object(after))) => self.members(pointer, before, after),
            (None, Some(Value::Object(after))) if is_opened(pointer) => self.members(pointer, &none, after),
            (Some(Value::Object(before)), None) if is_opened(pointer) => self.members(pointer, before, &none),
            (Some(Value::Array(before)), Some(Value::Array(after))) => self.items(pointer, before, after),
            (None, Some(Value::Array(after))) if is_opened(pointer) => self.items(pointer, &no_items, after),
            (Some(Value::Array(before)), None) if is_opened(pointer) => self.items(pointer, before, &no_items),
            _ => self.tell(pointer, before, after, None),
        }
    }

    fn members(&mut self, pointer: &str, before: &Map<String, Value>, after: &Map<String, Value>) {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            self.compare(&below(pointer, name), before.get(name), after.get(name));
        }
    }

    /// Items of a list are told apart by what they are about, not by their place.
    fn items(&mut self, pointer: &str, before: &[Value], after: &[Value]) {
        let mut old: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, item) in before.iter().enumerate().rev() {
            old.entry(identity(item)).or_default().push(index);
        }
        for (index, item) in after.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            let same = old.get_mut(&identity(item)).and_then(Vec::pop).and_then(|index| before.get(index));
            match (same, item) {
                (Some(Value::Object(same)), Value::Object(members)) => {
                    for name in same.keys().chain(members.keys()).collect::<BTreeSet<_>>() {
                        if same.get(name) != members.get(name) {
                            self.tell(&below(&pointer, name), same.get(name), members.get(name), Some(item));
                        }
                    }
                }
                (Some(_), _) => {}
                (None, _) => self.tell(&pointer, None, Some(item), Some(item)),
            }
        }
        let mut gone: Vec<usize> = old.into_values().flatten().collect();
        gone.sort_unstable();
        for index in gone {
            self.tell(&format!("{pointer}/{index}"), before.get(index), None, before.get(index));
        }
    }

    /// `item` is the item of a list that the difference is about.
    fn tell(&mut self, pointer: &str, before: Option<&Value>, after: Option<&Value>, item: Option<&Value>) {
        let subject = subject(pointer, item);
        let (kind, summary) = match (before, after) {
            (None, after) => (ChangeKind::Added, format!("{subject}: {} (was not set)", shown(after))),
            (before, None) => (ChangeKind::Removed, format!("{subject}: no longer set (was {})", shown(before))),
            (before, after) => (ChangeKind::Changed, format!("{subject}: {} → {}", shown(before), shown(after))),
        };
        self.0.push(PolicyChange {
            pointer: pointer.to_owned(),
            kind,
            before: before.cloned(),
            after: after.cloned(),
            summary,
        });
    }
}

/// Whether what is missing there is the same as nothing in it, so that its parts are told and not the whole.
fn is_opened(pointer: &str) -> bool {
    let steps: Vec<&str> = pointer.split('/').skip(2).collect();
    match steps.first() {
        Some(&("rules" | "answers")) => steps.len() <= 2,
        Some(&"roles") => steps.len() <= 3,
        Some(&("custom_rules" | "exact_data" | "allow_list")) => steps.len() == 1,
        _ => false,
    }
}

/// What an entry of the allow list covers; anything else is itself.
fn identity(item: &Value) -> String {
    match item {
        Value::Object(members) => ["rule", "text", "pattern"]
            .map(|name| members.get(name).map(Value::to_string).unwrap_or_default())
            .join("\n"),
        other => other.to_string(),
    }
}

/// What a pointer is about, for people.
fn subject(pointer: &str, item: Option<&Value>) -> String {
    let steps: Vec<String> =
        pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).filter(|step| *step != "document").collect();
    match steps.as_slice() {
        ["extends"] => "preset".to_owned(),
        ["rules", name, field @ ..] => words(name, field),
        ["roles", role, name, field @ ..] => format!("{} in text of {role}", words(name, field)),
        ["answers", name, field @ ..] => format!("{} in answers", words(name, field)),
        ["custom_rules", name, field @ ..] => words(&format!("custom.{name}"), field),
        ["exact_data", name, field @ ..] => words(&format!("data.{name}"), field),
        ["allow_list", _, field @ ..] => {
            let member = |name: &str| item.and_then(|item| item.get(name)).and_then(Value::as_str);
            let covered = member("text").or_else(|| member("pattern")).unwrap_or_default();
            words(&format!("exception from {} for `{covered}`", member("rule").unwrap_or_default()), field)
        }
        other => other.join(" "),
    }
}

fn words(name: &str, field: &[&str]) -> String {
    std::iter::once(name).chain(field.iter().copied()).collect::<Vec<_>>().join(" ")
}

fn shown(value: Option<&Value>) -> String {
    let text = match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(before: &Value, after: &Value) -> Vec<(String, String)> {
        let stated = |document| Stated { name: "p", description: None, is_default: false, document };
        let changes = diff(Some(stated(before)), stated(after));
        changes.into_iter().map(|change| (change.pointer.replace("/document", ""), change.summary)).collect()
    }

    #[test]
    fn what_says_the_same_in_other_words_does_not_differ() {
        let one = json!({"custom_rules": {"a": {"keywords": ["x1", "x2"], "action": "block"}}, "rules": {"pii": {"threshold": 1}}});
        let other = json!({"extends": "balanced", "rules": {"pii": {"threshold": 1.0}}, "allow_list": [],
            "custom_rules": {"a": {"keywords": ["x2", "x1"], "action": "block", "category": "custom", "type": "A",
                "severity": "high", "confidence": 1}}});
        assert_eq!(of(&one, &other), []);
        assert_eq!(of(&other, &one), []);
    }

    #[test]
    fn differences_are_told_where_they_are_and_in_words() {
        let before = json!({"rules": {"CREDIT_CARD": {"action": "redact"}, "pii": {"threshold": 0.5}},
            "allow_list": [{"rule": "EMAIL_ADDRESS", "text": "a@b.example", "owner": "ann"}, {"rule": "IP_ADDRESS", "text": "::1"}],
            "custom_rules": {"atlas": {"keywords": ["atlas"], "action": "flag"}}});
        let after = json!({"extends": "strict", "rules": {"CREDIT_CARD": {"action": "block"}, "secrets": {"action": "block"}},
            "roles": {"tool": {"pii": {"action": "allow"}}}, "answers": {"pii": {"threshold": 0.25}},
            "allow_list": [{"rule": "EMAIL_ADDRESS", "text": "a@b.example", "owner": "bob"}],
            "custom_rules": {"atlas": {"keywords": ["atlas", "titan"], "action": "block"}}, "block_message": "no"});
        let told = of(&before, &after);
        let expected = [
            ("/allow_list/0/owner", "exception from EMAIL_ADDRESS for `a@b.example` owner: ann → bob"),
            (
                "/allow_list/1",
                "exception from IP_ADDRESS for `::1`: no longer set (was {\"rule\":\"IP_ADDRESS\",\"text\":\"::1\"})",
            ),
            ("/answers/pii/threshold", "pii threshold in answers: 0.25 (was not set)"),
            ("/block_message", "block_message: no (was not set)"),
            ("/custom_rules/atlas/action", "custom.atlas action: flag → block"),
            ("/custom_rules/atlas/keywords/1", "custom.atlas keywords 1: titan (was not set)"),
            ("/extends", "preset: balanced → strict"),
            ("/roles/tool/pii/action", "pii action in text of tool: allow (was not set)"),
            ("/rules/CREDIT_CARD/action", "CREDIT_CARD action: redact → block"),
            ("/rules/pii/threshold", "pii threshold: no longer set (was 0.5)"),
            ("/rules/secrets/action", "secrets action: block (was not set)"),
        ];
        assert_eq!(told, expected.map(|(pointer, summary)| (pointer.to_owned(), summary.to_owned())));
    }

    #[test]
    fn the_policy_around_the_document_counts_too() {
        let document = json!({});
        let before = Stated { name: "a", description: None, is_default: false, document: &document };
        let after = Stated { name: "b", description: Some("d"), is_default: true, ..before };
        let pointers: Vec<_> = diff(Some(before), after).into_iter().map(|change| change.pointer).collect();
        assert_eq!(pointers, ["/name", "/description", "/is_default"]);
        assert_eq!(diff(None, after), [], "the first version says nothing that its preset does not");
    }
}
