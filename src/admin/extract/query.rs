//! Query parameters, read strictly; which page of a list.

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::openapi::path::Parameter;

use super::super::Api;
use super::super::conform::Contract;
use super::super::problem::{Code, Fault, Problem};
use super::body::NUL;
use crate::store::PageRequest;

/// Query parameters: unknown, repeated and unreadable ones are refused (400), all at once.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + utoipa::IntoParams> FromRequestParts<Api> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        read_query(&parts.uri).map(Self)
    }
}

fn read_query<T: DeserializeOwned + utoipa::IntoParams>(uri: &Uri) -> Result<T, Problem> {
    let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::new(Code::InvalidQuery, "the query cannot be read"))?;
    let known = T::into_params(|| Some(utoipa::openapi::path::ParameterIn::Query));
    let mut faults = Vec::new();
    let mut values = serde_json::Map::new();
    for (name, text) in pairs {
        let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
            faults.push(Fault::parameter(name, "is not a known parameter"));
            continue;
        };
        if values.contains_key(&name) {
            faults.push(Fault::parameter(name, "is given more than once"));
            continue;
        }
        if text.contains('\0') {
            faults.push(Fault::parameter(name, NUL));
            continue;
        }
        let value = read_value(parameter, &text);
        if let Some(schema) = &parameter.schema {
            let found = Contract::new(schema, Vec::new()).faults(&value, &[]);
            faults.extend(found.into_iter().map(|fault| Fault::parameter(&name, fault.detail)));
        }
        values.insert(name, value);
    }
    if !faults.is_empty() {
        return Err(Problem::query(faults));
    }
    serde_json::from_value(Value::Object(values))
        .map_err(|error| Problem::new(Code::InvalidQuery, format!("the query cannot be read: {error}")))
}

/// Numbers and booleans when the parameter is one and the text can be read so, text otherwise.
fn read_value(parameter: &Parameter, text: &str) -> Value {
    let schema = serde_json::to_value(&parameter.schema).unwrap_or_default();
    let is = |name: &str| match schema.get("type") {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    };
    let read = if is("integer") {
        text.parse::<i64>().ok().map(Value::from)
    } else if is("boolean") {
        text.parse::<bool>().ok().map(Value::from)
    } else {
        None
    };
    read.unwrap_or_else(|| Value::from(text))
}

/// Which page of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// How many at most, 1 to 200 (50).
    #[param(minimum = 1, maximum = 200, example = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<PageQuery> for PageRequest {
    fn from(query: PageQuery) -> Self {
        page(query.limit, query.cursor)
    }
}

#[must_use]
pub fn page(limit: Option<u32>, cursor: Option<String>) -> PageRequest {
    PageRequest { limit: limit.unwrap_or(50), cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_strictly() {
        let read = |query: &str| read_query::<PageQuery>(&format!("/x?{query}").parse().unwrap());
        let page = read("limit=7&cursor=a%2Bb").unwrap();
        assert_eq!((page.limit, page.cursor.as_deref()), (Some(7), Some("a+b")));
        assert!(read("").unwrap().limit.is_none());
        for refused in
            ["limt=7", "limit=0", "limit=201", "limit=x", "limit=1&limit=2", "limit=-1", "limit=", "cursor=%00"]
        {
            assert_eq!(read(refused).unwrap_err().code(), Code::InvalidQuery, "{refused}");
        }
    }
}
