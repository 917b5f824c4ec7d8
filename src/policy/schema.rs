//! The JSON Schema of the policy document, for editors: what a document may hold, with every name that can be said today.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::compile::ROLES;
use super::document::PolicyDocument;
use crate::domain::{Category, Rule};

/// Names that a document gives itself.
const OWN_NAMES: &str = "^((custom|data)\\.[a-z][a-z0-9_]{0,63}|[A-Z][A-Z0-9_]{0,63})$";

/// The schema (JSON Schema 2020-12), made of the types that documents are read into and of `rules`. A document that it accepts can
/// still have faults, which `sentinel policy lint` tells.
#[must_use]
pub fn schema(rules: &[Arc<Rule>]) -> Value {
    let mut parts = Vec::new();
    PolicyDocument::schemas(&mut parts);
    let definitions: Map<String, Value> =
        parts.into_iter().filter_map(|(name, part)| Some((name, here(serde_json::to_value(part).ok()?)))).collect();
    let mut schema = here(serde_json::to_value(PolicyDocument::schema()).unwrap_or_default());
    let mut names: Vec<&str> = Category::ALL.iter().map(|category| category.as_str()).collect();
    names.extend(rules.iter().flat_map(|rule| [&*rule.entity, &*rule.id]));
    names.sort_unstable();
    names.dedup();
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return schema };
    for field in ["rules", "answers"] {
        put(properties.get_mut(field), "propertyNames", json!({"$ref": "#/$defs/RuleName"}));
    }
    if let Some(roles) = properties.get_mut("roles") {
        put(Some(roles), "propertyNames", json!({"enum": ROLES}));
        put(roles.get_mut("additionalProperties"), "propertyNames", json!({"$ref": "#/$defs/RuleName"}));
    }
    put(properties.get_mut("custom_rules"), "propertyNames", json!({"pattern": "^[a-z][a-z0-9_]{0,63}$"}));
    put(properties.get_mut("exact_data"), "propertyNames", json!({"pattern": "^[a-z][a-z0-9_]{0,63}$"}));
    let Some(whole) = schema.as_object_mut() else { return schema };
    whole.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    whole.insert("title".to_owned(), json!("Sentinel policy"));
    let mut definitions = definitions;
    definitions.insert(
        "RuleName".to_owned(),
        json!({"description": "A category, a type or a rule.", "anyOf": [{"enum": names}, {"pattern": OWN_NAMES}]}),
    );
    whole.insert("$defs".to_owned(), Value::Object(definitions));
    schema
}

fn put(object: Option<&mut Value>, key: &str, value: Value) {
    if let Some(object) = object.and_then(Value::as_object_mut) {
        object.insert(key.to_owned(), value);
    }
}

/// References that lead into this document instead of the API's.
fn here(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value.as_str().and_then(|text| text.strip_prefix("#/components/schemas/")) {
                    Some(name) if key == "$ref" => *value = json!(format!("#/$defs/{name}")),
                    _ => *value = here(std::mem::take(value)),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = here(std::mem::take(value))),
        _ => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Engine;

    fn of_engine() -> Value {
        schema(Engine::builtin().unwrap().rules())
    }

    #[test]
    fn the_published_schema_is_the_one_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/admin/policy.schema.json");
        let published: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(published == of_engine(), "write it anew: make openapi");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_field_is_there() {
        let schema = of_engine();
        let text = schema.to_string();
        for (at, found) in text.match_indices("\"$ref\":\"") {
            let name = text[at + found.len()..].split('"').next().unwrap();
            let name = name.strip_prefix("#/$defs/").unwrap_or_else(|| panic!("{name}"));
            assert!(schema["$defs"][name].is_object(), "{name}");
        }
        assert_eq!(schema["additionalProperties"], false);
        for name in ["RuleSetting", "CustomRule", "AllowEntry", "Escalation"] {
            assert_eq!(schema["$defs"][name]["additionalProperties"], false, "{name}");
        }
        for field in
            ["rules", "roles", "answers", "custom_rules", "allow_list", "escalate", "binary", "fail", "extends"]
        {
            assert!(schema["properties"][field].is_object(), "{field}");
        }
        assert_eq!(schema["$defs"]["CustomRule"]["required"], json!(["action"]));
        let names = schema["$defs"]["RuleName"]["anyOf"][0]["enum"].as_array().unwrap();
        for name in ["pii", "CREDIT_CARD", "secrets.github_token", "injection.model"] {
            assert!(names.contains(&json!(name)), "{name}");
        }
    }
}
