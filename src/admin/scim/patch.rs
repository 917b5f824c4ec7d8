//! SCIM's PATCH, in the shapes that directories send it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ScimError;

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(example = json!({"Operations": [{"op": "replace", "path": "active", "value": false}]}))]
pub struct ScimPatch {
    #[serde(rename = "Operations", alias = "operations")]
    #[schema(min_items = 1)]
    operations: Vec<Operation>,
}

#[derive(Deserialize, utoipa::ToSchema)]
pub struct Operation {
    /// `add`, `replace` or `remove`, in any case.
    #[schema(example = "replace")]
    op: String,
    /// Missing: `value` is an object of attributes.
    #[schema(example = "active")]
    path: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    value: Value,
}

/// The attributes of a person that a directory sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub user_name: String,
    pub full_name: String,
    pub external_id: Option<String>,
    pub active: bool,
}

impl ScimPatch {
    /// # Errors
    /// [`ScimError`] for an operation that is none, or a value of the wrong kind. Attributes that Sentinel does not keep
    /// are left out.
    pub fn apply(self, to: &mut Attributes) -> Result<(), ScimError> {
        for operation in self.operations {
            let removes = match operation.op.to_ascii_lowercase().as_str() {
                "add" | "replace" => false,
                "remove" => true,
                _ => return Err(ScimError::invalid("invalidSyntax", "`op` is `add`, `replace` or `remove`")),
            };
            match (operation.path, operation.value) {
                (Some(path), _) if removes => {
                    if is(&path, "externalId") {
                        to.external_id = None;
                    }
                }
                (None, _) if removes => return Err(ScimError::invalid("noTarget", "`remove` needs a `path`")),
                (Some(path), value) => to.set(&path, value)?,
                (None, Value::Object(values)) => to.set_all("", values)?,
                (None, _) => {
                    return Err(ScimError::invalid("invalidValue", "`value` must be an object without a `path`"));
                }
            }
        }
        Ok(())
    }
}

fn is(path: &str, name: &str) -> bool {
    let path = path.strip_prefix(super::users::SCHEMA).and_then(|rest| rest.strip_prefix(':')).unwrap_or(path);
    path.eq_ignore_ascii_case(name)
}

impl Attributes {
    fn set_all(&mut self, below: &str, values: Map<String, Value>) -> Result<(), ScimError> {
        for (name, value) in values {
            let path = if below.is_empty() { name } else { format!("{below}.{name}") };
            self.set(&path, value)?;
        }
        Ok(())
    }

    fn set(&mut self, path: &str, value: Value) -> Result<(), ScimError> {
        if is(path, "active") {
            self.active = boolean(&value)?;
        } else if is(path, "userName") {
            self.user_name = text(path, value)?;
        } else if is(path, "externalId") {
            self.external_id = if value.is_null() { None } else { Some(text(path, value)?) };
        } else if is(path, "displayName") || is(path, "name.formatted") {
            self.full_name = text(path, value)?;
        } else if is(path, "name.givenName") {
            let (_, family) = self.full_name.split_once(' ').unwrap_or((&self.full_name, ""));
            self.full_name = joined(&text(path, value)?, family);
        } else if is(path, "name.familyName") {
            let (given, _) = self.full_name.split_once(' ').unwrap_or((&self.full_name, ""));
            self.full_name = joined(given, &text(path, value)?);
        } else if is(path, "name")
            && let Value::Object(parts) = value
        {
            self.set_all("name", parts)?;
        }
        Ok(())
    }
}

pub fn joined(given: &str, family: &str) -> String {
    format!("{} {}", given.trim(), family.trim()).trim().to_owned()
}

fn text(path: &str, value: Value) -> Result<String, ScimError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(ScimError::invalid("invalidValue", format!("`{path}` must be a string"))),
    }
}

/// Entra ID sends booleans as the words `True` and `False`.
pub fn boolean(value: &Value) -> Result<bool, ScimError> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(word) if word.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(word) if word.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(ScimError::invalid("invalidValue", "`active` must be a boolean")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(operations: Value) -> Result<Attributes, ScimError> {
        let mut person = Attributes {
            user_name: "jane@acme.com".into(),
            full_name: "Jane Smith".into(),
            external_id: Some("7".into()),
            active: true,
        };
        serde_json::from_value::<ScimPatch>(json!({"Operations": operations})).unwrap().apply(&mut person)?;
        Ok(person)
    }

    #[test]
    fn deactivation_is_understood_in_every_shape() {
        for operation in [
            json!({"op": "replace", "value": {"active": false}}),
            json!({"op": "Replace", "path": "active", "value": "False"}),
            json!({"op": "replace", "path": "active", "value": false}),
            json!({"op": "Add", "path": "urn:ietf:params:scim:schemas:core:2.0:User:active", "value": false}),
        ] {
            assert!(!patched(json!([operation])).unwrap().active, "{operation}");
        }
    }

    #[test]
    fn names_and_ids_change_and_unknown_attributes_do_not_matter() {
        let person = patched(json!([
            {"op": "Replace", "path": "name.familyName", "value": "Doe"},
            {"op": "Replace", "path": "title", "value": "CTO"},
            {"op": "remove", "path": "externalId"},
            {"op": "replace", "value": {"userName": "doe@acme.com", "name": {"givenName": "Joan"}}},
        ]));
        let expected = Attributes {
            user_name: "doe@acme.com".into(),
            full_name: "Joan Doe".into(),
            external_id: None,
            active: true,
        };
        assert_eq!(person.unwrap(), expected);
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for operation in [
            json!({"op": "move", "path": "active", "value": false}),
            json!({"op": "replace", "path": "active", "value": "maybe"}),
            json!({"op": "replace", "value": false}),
            json!({"op": "replace", "path": "userName", "value": 7}),
            json!({"op": "remove"}),
        ] {
            assert!(patched(json!([operation])).is_err(), "{operation}");
        }
    }
}
