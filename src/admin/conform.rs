//! Compares a JSON value with the schema that the OpenAPI document publishes for it, and lists every fault at once.
//!
//! `serde` stops at the first fault. Reading the published schema keeps the contract and the check one thing. Supported are
//! the keywords that `utoipa` writes for our types; details never quote the value.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};

use super::problem::Fault;

/// A schema with everything that it refers to.
pub struct Contract {
    root: Value,
    components: BTreeMap<String, Value>,
}

impl Contract {
    #[must_use]
    pub fn of<T: utoipa::ToSchema>() -> Self {
        let mut referred = Vec::new();
        T::schemas(&mut referred);
        Self::new(&T::schema(), referred)
    }

    #[must_use]
    pub fn new(root: &RefOr<Schema>, referred: Vec<(String, RefOr<Schema>)>) -> Self {
        let json = |schema: &RefOr<Schema>| serde_json::to_value(schema).unwrap_or_default();
        let components = referred.iter().map(|(name, schema)| (name.clone(), json(schema))).collect();
        Self { root: json(root), components }
    }

    /// Every way in which `value` departs from the schema. What lies at a pointer in `opaque` is not looked into.
    #[must_use]
    pub fn faults(&self, value: &Value, opaque: &[&str]) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.check(&self.root, value, "", opaque, &mut faults);
        faults
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, opaque: &[&str], faults: &mut Vec<Fault>) {
        if opaque.contains(&at) {
            return;
        }
        if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next()) {
            if let Some(schema) = self.components.get(name) {
                self.check(schema, value, at, opaque, faults);
            }
            return;
        }
        for part in list(schema, "allOf") {
            self.check(part, value, at, opaque, faults);
        }
        let choices = list(schema, "oneOf");
        if !choices.is_empty() {
            self.check_choices(choices, value, at, opaque, faults);
        }
        if !has_type(schema, value) {
            faults.push(Fault::at(at, format!("must be {}", type_names(schema))));
            return;
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !value.is_null()
            && !allowed.contains(value)
        {
            let names: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            faults.push(Fault::at(at, format!("must be one of {}", names.join(", "))));
        }
        match value {
            Value::String(text) => check_text(schema, text, at, faults),
            Value::Number(number) => check_number(schema, number, at, faults),
            Value::Array(items) => {
                check_count(schema, items.len(), at, faults);
                if let Some(schema) = schema.get("items") {
                    for (i, item) in items.iter().enumerate() {
                        self.check(schema, item, &format!("{at}/{i}"), opaque, faults);
                    }
                }
            }
            Value::Object(members) => self.check_object(schema, members, at, opaque, faults),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// One choice must fit. Of "null or something" the faults of the something are told.
    fn check_choices(&self, choices: &[Value], value: &Value, at: &str, opaque: &[&str], faults: &mut Vec<Fault>) {
        let mut best: Option<Vec<Fault>> = None;
        for choice in choices.iter().filter(|choice| value.is_null() || !is_null_schema(choice)) {
            let mut found = Vec::new();
            self.check(choice, value, at, opaque, &mut found);
            if best.as_ref().is_none_or(|best| found.len() < best.len()) {
                best = Some(found);
            }
        }
        faults.extend(best.unwrap_or_default());
    }

    fn check_object(
        &self,
        schema: &Value,
        members: &serde_json::Map<String, Value>,
        at: &str,
        opaque: &[&str],
        faults: &mut Vec<Fault>,
    ) {
        for name in list(schema, "required").iter().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                faults.push(Fault::at(format!("{at}/{}", escaped(name)), "is required"));
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        for (name, member) in members {
            let at = format!("{at}/{}", escaped(name));
            match (properties.and_then(|properties| properties.get(name)), others) {
                (Some(schema), _) => self.check(schema, member, &at, opaque, faults),
                (None, Some(Value::Bool(false))) => faults.push(Fault::at(at, "is not a known field")),
                (None, Some(schema @ Value::Object(_))) => self.check(schema, member, &at, opaque, faults),
                (None, _) => {}
            }
        }
    }
}

fn list<'a>(schema: &'a Value, keyword: &str) -> &'a [Value] {
    schema.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A member's name in a JSON pointer (RFC 6901).
pub fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_null_schema(schema: &Value) -> bool {
    types(schema) == ["null"]
}

fn has_type(schema: &Value, value: &Value) -> bool {
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|name| match *name {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            _ => true,
        })
}

fn type_names(schema: &Value) -> String {
    let named = |name: &str| match name {
        "null" => "null".to_owned(),
        "integer" | "array" | "object" => format!("an {name}"),
        name => format!("a {name}"),
    };
    types(schema).into_iter().map(named).collect::<Vec<_>>().join(" or ")
}

fn check_text(schema: &Value, text: &str, at: &str, faults: &mut Vec<Fault>) {
    let length = text.chars().count() as u64;
    if let Some(min) = schema.get("minLength").and_then(Value::as_u64)
        && length < min
    {
        let detail = if min == 1 { "must not be empty".into() } else { format!("must have at least {min} characters") };
        faults.push(Fault::at(at, detail));
    }
    if let Some(max) = schema.get("maxLength").and_then(Value::as_u64)
        && length > max
    {
        faults.push(Fault::at(at, format!("must have at most {max} characters")));
    }
    let readable = match schema.get("format").and_then(Value::as_str) {
        Some("uuid") => uuid::Uuid::try_parse(text).is_ok(),
        Some("date-time") => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        _ => true,
    };
    match schema.get("format").and_then(Value::as_str) {
        Some("uuid") if !readable => faults.push(Fault::at(at, "must be a UUID")),
        Some(_) if !readable => faults.push(Fault::at(at, "must be a time such as 2026-11-24T09:30:00Z")),
        _ => {}
    }
}

fn check_number(schema: &Value, number: &serde_json::Number, at: &str, faults: &mut Vec<Fault>) {
    let value = number.as_f64().unwrap_or(f64::NAN);
    if let Some(min) = schema.get("minimum").and_then(Value::as_f64)
        && value < min
    {
        faults.push(Fault::at(at, format!("must be at least {min}")));
    }
    if let Some(max) = schema.get("maximum").and_then(Value::as_f64)
        && value > max
    {
        faults.push(Fault::at(at, format!("must be at most {max}")));
    }
}

fn check_count(schema: &Value, count: usize, at: &str, faults: &mut Vec<Fault>) {
    let bound = |keyword| schema.get(keyword).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    if let Some(min) = bound("minItems")
        && count < min
    {
        faults.push(Fault::at(at, format!("must have at least {min} items")));
    }
    if let Some(max) = bound("maxItems")
        && count > max
    {
        faults.push(Fault::at(at, format!("must have at most {max} items")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(serde::Deserialize, utoipa::ToSchema)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Green,
    }

    #[derive(serde::Deserialize, utoipa::ToSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by their schema only")]
    struct Sample {
        #[schema(min_length = 1, max_length = 5)]
        name: String,
        #[schema(minimum = 1, maximum = 10)]
        count: Option<u32>,
        colour: Option<Colour>,
        owner: Option<crate::domain::UserId>,
        until: Option<crate::domain::Timestamp>,
        #[serde(default)]
        #[schema(max_items = 2)]
        tags: Vec<String>,
        #[serde(default)]
        document: Value,
    }

    fn faults(value: Value) -> Vec<(String, String)> {
        let faults = Contract::of::<Sample>().faults(&value, &["/document"]);
        faults.into_iter().map(|fault| (fault.pointer.unwrap(), fault.detail)).collect()
    }

    #[test]
    fn a_value_that_keeps_the_contract_has_no_faults() {
        assert_eq!(faults(json!({"name": "a"})), []);
        let full = json!({"name": "ünïcö", "count": 10, "colour": "green", "owner": "0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23",
            "until": "2026-11-24T09:30:00+01:00", "tags": ["a", "b"], "document": {"anything": [1]}});
        assert_eq!(faults(full), []);
        assert_eq!(faults(json!({"name": "a", "count": null, "colour": null, "owner": null})), []);
    }

    #[test]
    fn every_fault_is_listed_at_once_with_its_pointer() {
        let found = faults(json!({"count": 11, "colour": "blue", "owner": "me", "until": "tomorrow",
            "tags": ["a", 2, "c"], "document": 1, "na/me": 1}));
        let expected = [
            ("/colour", "must be one of red, green"),
            ("/count", "must be at most 10"),
            ("/name", "is required"),
            ("/na~1me", "is not a known field"),
            ("/owner", "must be a UUID"),
            ("/tags", "must have at most 2 items"),
            ("/tags/1", "must be a string"),
            ("/until", "must be a time such as 2026-11-24T09:30:00Z"),
        ];
        let mut found: Vec<_> = found.iter().map(|(at, detail)| (at.as_str(), detail.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn wrong_types_are_named_by_what_is_wanted() {
        assert_eq!(faults(json!([])), [(String::new(), "must be an object".into())]);
        let found = faults(json!({"name": "", "count": 1.5, "colour": 3, "tags": "a"}));
        assert!(found.contains(&("/name".into(), "must not be empty".into())), "{found:?}");
        assert!(found.contains(&("/count".into(), "must be an integer or null".into())), "{found:?}");
        assert!(found.contains(&("/colour".into(), "must be a string".into())), "{found:?}");
        assert!(found.contains(&("/tags".into(), "must be an array".into())), "{found:?}");
    }
}
