//! From text to [`PolicyDocument`], with every fault at once: serde alone would stop at the first.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::CompileError;
use super::document::{AllowEntry, CustomRule, DataRule, Escalation, PolicyDocument, RuleSetting};
use super::nearest::hint;
use crate::domain::Role;

/// A document is short: a setting for every known rule takes a few KiB.
const MAX_BYTES: usize = 256 * 1024;

/// Reads a document from YAML or JSON text.
///
/// # Errors
/// Every fault that can be told without compiling: syntax (then alone), duplicate keys, unknown fields, wrong types.
pub fn parse(text: &str) -> Result<PolicyDocument, Vec<CompileError>> {
    let (document, faults) = read_all(text)?;
    if faults.is_empty() { Ok(document) } else { Err(faults) }
}

/// What can be read of a document, and every fault of it.
///
/// # Errors
/// When nothing can be read.
pub(super) fn read_all(text: &str) -> Result<(PolicyDocument, Vec<CompileError>), Vec<CompileError>> {
    if text.len() > MAX_BYTES {
        return Err(vec![fault("", format!("the document is longer than {} KiB", MAX_BYTES / 1024))]);
    }
    let mut faults = Vec::new();
    let value = value(text, &mut faults)?;
    let document = document(&value, &mut faults);
    Ok((document, faults))
}

/// Reads a document from JSON that has been parsed already.
///
/// # Errors
/// Every fault that can be told without compiling.
pub fn read(value: &Value) -> Result<PolicyDocument, Vec<CompileError>> {
    let mut faults = Vec::new();
    let document = document(value, &mut faults);
    if faults.is_empty() { Ok(document) } else { Err(faults) }
}

pub(super) fn fault(pointer: impl Into<String>, detail: impl Into<String>) -> CompileError {
    CompileError { pointer: pointer.into(), detail: detail.into() }
}

/// `pointer` and one more step (RFC 6901).
pub(super) fn below(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// JSON is tried first where the text looks like it: YAML reads some of JSON's escapes differently.
fn value(text: &str, faults: &mut Vec<CompileError>) -> Result<Value, Vec<CompileError>> {
    let syntax = |error: &dyn fmt::Display| vec![fault("", error.to_string())];
    if text.trim_start().starts_with('{') {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = Strict { pointer: String::new(), faults }.deserialize(&mut deserializer);
        return read.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| syntax(&error));
    }
    let deserializer = serde_yaml::Deserializer::from_str(text);
    Strict { pointer: String::new(), faults }.deserialize(deserializer).map_err(|error| syntax(&error))
}

fn document(value: &Value, faults: &mut Vec<CompileError>) -> PolicyDocument {
    let mut fields = Fields::of(value, "", faults);
    PolicyDocument {
        description: fields.take("description"),
        extends: fields.take("extends"),
        rules: fields.take_with("rules", rules).unwrap_or_default(),
        roles: fields.take_with("roles", roles).unwrap_or_default(),
        answers: fields.take_with("answers", rules).unwrap_or_default(),
        never_restore: fields.take("never_restore"),
        custom_rules: fields.take_with("custom_rules", custom_rules).unwrap_or_default(),
        exact_data: fields.take_with("exact_data", exact_data).unwrap_or_default(),
        allow_list: fields.take_with("allow_list", allow_list).unwrap_or_default(),
        escalate: fields.take_with("escalate", escalation),
        binary: fields.take("binary"),
        binary_answers: fields.take("binary_answers"),
        fail: fields.take("fail"),
        block_message: fields.take("block_message"),
    }
}

fn rules(value: &Value, pointer: &str, faults: &mut Vec<CompileError>) -> BTreeMap<String, RuleSetting> {
    let Some(map) = object(value, pointer, faults) else { return BTreeMap::new() };
    map.iter().map(|(name, value)| (name.clone(), setting(value, &below(pointer, name), faults))).collect()
}

fn setting(value: &Value, pointer: &str, faults: &mut Vec<CompileError>) -> RuleSetting {
    let mut fields = Fields::of(value, pointer, faults);
    RuleSetting { action: fields.take("action"), threshold: fields.take("threshold") }
}

fn roles(
    value: &Value,
    pointer: &str,
    faults: &mut Vec<CompileError>,
) -> BTreeMap<Role, BTreeMap<String, RuleSetting>> {
    let mut roles = BTreeMap::new();
    for (name, value) in object(value, pointer, faults).into_iter().flatten() {
        let pointer = below(pointer, name);
        match serde_json::from_value::<Role>(Value::String(name.clone())) {
            Ok(role) => {
                roles.insert(role, rules(value, &pointer, faults));
            }
            Err(error) => faults.push(fault(pointer, error.to_string())),
        }
    }
    roles
}

fn custom_rules(value: &Value, pointer: &str, faults: &mut Vec<CompileError>) -> BTreeMap<String, CustomRule> {
    let Some(map) = object(value, pointer, faults) else { return BTreeMap::new() };
    map.iter().map(|(name, value)| (name.clone(), custom_rule(value, &below(pointer, name), faults))).collect()
}

fn custom_rule(value: &Value, pointer: &str, faults: &mut Vec<CompileError>) -> CustomRule {
    let mut fields = Fields::of(value, pointer, faults);
    CustomRule {
        description: fields.take("description"),
        keywords: fields.take_with("keywords", texts).unwrap_or_default(),
        phrases: fields.take_with("phrases", texts).unwrap_or_default(),
        regexes: fields.take_with("regexes", texts).unwrap_or_default(),
        category: fields.take("category"),
        entity: fields.take("type"),
        severity: fields.take("severity"),
        confidence: fields.take("confidence"),
        action: fields.take("action"),
    }
}

fn exact_data(value: &Value, pointer: &str, faults: &mut Vec<CompileError>) -> BTreeMap<String, DataRule> {
    let mut sets = BTreeMap::new();
    for (name, value) in object(value, pointer, faults).into_iter().flatten() {
        let pointer = below(pointer, name);
        let mut fields = Fields::of(value, &pointer, faults);
        let set = DataRule {
            category: fields.take("category"),
            entity: fields.take("type"),
            severity: fields.take("severity"),
            confidence: fields.take("confidence"),
            action: fields.take("action"),
        };
        drop(fields);
        sets.insert(name.clone(), set);
    }
    sets
}

fn allow_list(value: &Value, pointer: &str, faults: &mut Vec<CompileError>) -> Vec<AllowEntry> {
    items(value, pointer, faults, |value, pointer, faults| {
        let mut fields = Fields::of(value, pointer, faults);
        AllowEntry {
            rule: fields.take("rule"),
            text: fields.take("text"),
            pattern: fields.take("pattern"),
            expires_at: fields.take("expires_at"),
            owner: fields.take("owner"),
            reason: fields.take("reason"),
        }
    })
}

fn texts(value: &Value, pointer: &str, faults: &mut Vec<CompileError>) -> Vec<String> {
    items(value, pointer, faults, |value, pointer, faults| {
        if !value.is_string() {
            faults.push(fault(pointer, format!("expected a string, found {}", kind(value))));
        }
        value.as_str().unwrap_or_default().to_owned()
    })
}

fn items<T>(
    value: &Value,
    pointer: &str,
    faults: &mut Vec<CompileError>,
    mut read: impl FnMut(&Value, &str, &mut Vec<CompileError>) -> T,
) -> Vec<T> {
    let Some(list) = value.as_array() else {
        faults.push(fault(pointer, format!("expected a list, found {}", kind(value))));
        return Vec::new();
    };
    let item = |(index, value): (usize, &Value)| read(value, &below(pointer, &index.to_string()), faults);
    list.iter().enumerate().map(item).collect()
}

fn escalation(value: &Value, pointer: &str, faults: &mut Vec<CompileError>) -> Escalation {
    let mut fields = Fields::of(value, pointer, faults);
    Escalation { min_risk_score: fields.take("min_risk_score"), rules: fields.take("rules") }
}

fn object<'v>(value: &'v Value, pointer: &str, faults: &mut Vec<CompileError>) -> Option<&'v Map<String, Value>> {
    let map = value.as_object();
    if map.is_none() {
        faults.push(fault(pointer, format!("expected a mapping, found {}", kind(value))));
    }
    map
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// The fields of one mapping, taken one by one; when dropped, what nobody asked for is a fault.
struct Fields<'v, 'f> {
    map: Option<&'v Map<String, Value>>,
    pointer: &'v str,
    known: Vec<&'static str>,
    faults: &'f mut Vec<CompileError>,
}

impl<'v, 'f> Fields<'v, 'f> {
    fn of(value: &'v Value, pointer: &'v str, faults: &'f mut Vec<CompileError>) -> Self {
        Self { map: object(value, pointer, faults), pointer, known: Vec::new(), faults }
    }

    fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        self.take_with(name, |value, pointer, faults| {
            T::deserialize(value).map_err(|error| faults.push(fault(pointer, error.to_string()))).ok()
        })
        .flatten()
    }

    fn take_with<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value, &str, &mut Vec<CompileError>) -> T,
    ) -> Option<T> {
        self.known.push(name);
        let value = self.map?.get(name).filter(|value| !value.is_null())?;
        Some(read(value, &below(self.pointer, name), self.faults))
    }
}

impl Drop for Fields<'_, '_> {
    fn drop(&mut self) {
        for name in self.map.into_iter().flat_map(Map::keys) {
            if !self.known.contains(&name.as_str()) {
                let hint = hint(name, self.known.iter().copied());
                let detail = format!("unknown field `{name}`{hint}; known are {}", self.known.join(", "));
                self.faults.push(fault(below(self.pointer, name), detail));
            }
        }
    }
}

/// Reads a JSON value from any format; a key that comes twice is a fault, not a silent choice between two values.
struct Strict<'f> {
    pointer: String,
    faults: &'f mut Vec<CompileError>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy document")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => Ok(Value::Number(number)),
            None => {
                self.faults.push(fault(self.pointer, "not a finite number"));
                Ok(Value::Null)
            }
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let pointer = below(&self.pointer, &list.len().to_string());
            match items.next_element_seed(Strict { pointer, faults: &mut *self.faults })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            let pointer = below(&self.pointer, &key);
            let value = entries.next_value_seed(Strict { pointer: pointer.clone(), faults: &mut *self.faults })?;
            if map.insert(key, value).is_some() {
                self.faults.push(fault(pointer, "the key is there twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

/// YAML's keys may be numbers or booleans (`on:`); they are read as their text and then refused as unknown names.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            other => Ok(Self(other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Action;
    use crate::policy::Preset;

    fn faults(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap_err().into_iter().map(|fault| (fault.pointer, fault.detail)).collect()
    }

    fn pointers(text: &str) -> Vec<String> {
        faults(text).into_iter().map(|(pointer, _)| pointer).collect()
    }

    #[test]
    fn yaml_and_json_read_alike_and_come_back_as_they_were() {
        let yaml = "extends: strict\nrules:\n  CREDIT_CARD: { action: block, threshold: 0.7 }\nroles:\n  tool: { pii: { action: flag } }\nbinary: pass\n";
        let json = r#"{"extends":"strict","rules":{"CREDIT_CARD":{"action":"block","threshold":0.7}},
            "roles":{"tool":{"pii":{"action":"flag"}}},"binary":"pass"}"#;
        let document = parse(yaml).unwrap();
        assert_eq!(document, parse(json).unwrap());
        assert_eq!(document.extends, Some(Preset::Strict));
        assert_eq!(document.rules["CREDIT_CARD"], RuleSetting { action: Some(Action::Block), threshold: Some(0.7) });
        let stored = serde_json::to_value(&document).unwrap();
        assert_eq!(stored, serde_json::from_str::<Value>(json).unwrap());
        assert_eq!(read(&stored).unwrap(), document);
        assert_eq!(serde_json::from_value::<PolicyDocument>(stored).unwrap(), document);
    }

    #[test]
    fn an_empty_document_is_the_default() {
        assert_eq!(parse("{}").unwrap(), PolicyDocument::default());
        assert_eq!(pointers(""), [""], "an empty file is not a document");
    }

    #[test]
    fn all_faults_come_at_once_with_their_pointers() {
        let text = "extends: balance\nrule: {}\nrules:\n  pii: { action: erase, treshold: 1 }\n  a/b~c: 7\nroles:\n  users: {}\n  user: []\nescalate: { min_risk_score: 300 }\nbinary: maybe\n";
        let mut pointers = pointers(text);
        pointers.sort();
        assert_eq!(
            pointers,
            [
                "/binary",
                "/escalate/min_risk_score",
                "/extends",
                "/roles/user",
                "/roles/users",
                "/rule",
                "/rules/a~1b~0c",
                "/rules/pii/action",
                "/rules/pii/treshold"
            ]
        );
    }

    #[test]
    fn a_mistyped_field_is_told_what_it_was_meant_to_be() {
        let [(pointer, detail)] = &faults("rules: { pii: { treshold: 1 } }")[..] else { panic!("one fault") };
        assert_eq!(pointer, "/rules/pii/treshold");
        assert_eq!(detail, "unknown field `treshold` (did you mean `threshold`?); known are action, threshold");
    }

    #[test]
    fn a_key_that_comes_twice_is_refused_in_both_formats() {
        for text in [
            "rules: { pii: { action: flag }, pii: { action: block } }",
            r#"{"rules": {"pii": {"action": "flag"}, "pii": {"action": "block"}}}"#,
            r#"{"rules": {"pii": {"action": "flag"}, "p\u0069i": {"action": "block"}}}"#,
        ] {
            assert_eq!(faults(text), [("/rules/pii".to_owned(), "the key is there twice".to_owned())], "{text}");
        }
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        let deep = format!("{{\"rules\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &(1..12).fold(String::new(), |text, n| {
                let (below, this) = (char::from(b'a' + n - 1), char::from(b'a' + n));
                text + &format!("{this}: &{this} [{}]\n", vec![format!("*{below}"); 9].join(","))
            });
        let long = format!("description: {}", "x".repeat(MAX_BYTES));
        for text in ["[]", "7", "{", "a: b: c", "rules: {} ---\n{}", "{} {}", "a: 1\n---\nb: 2", &deep, &bomb, &long] {
            assert!(parse(text).is_err(), "{}", &text[..text.len().min(60)]);
        }
        assert_eq!(pointers("rules: { pii: { threshold: .nan } }"), ["/rules/pii/threshold"]);
        assert_eq!(pointers("true: 1"), ["/true"]);
    }
}
