//! Query parameters, read strictly; which page of a list.

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};

use super::super::Api;
use super::super::conform::{Contract, escaped};
use super::super::problem::{Code, Fault, Problem};
use super::body::NUL;
use crate::store::{Column, PageRequest, Sort};

/// Query parameters: unknown, repeated and unreadable ones are refused (400), all at once.
pub struct Query<T>(pub T);

impl<T: Parameters> FromRequestParts<Api> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        read_query(&parts.uri).map(Self)
    }
}

/// What an operation takes in its query.
pub trait Parameters: Sized {
    fn known() -> Vec<Parameter>;

    /// Of members that are all known.
    fn read(members: Members) -> Result<Self, serde_json::Error>;
}

type Members = serde_json::Map<String, Value>;

impl<T: DeserializeOwned + utoipa::IntoParams> Parameters for T {
    fn known() -> Vec<Parameter> {
        T::into_params(|| Some(ParameterIn::Query))
    }

    fn read(members: Members) -> Result<Self, serde_json::Error> {
        serde_json::from_value(Value::Object(members))
    }
}

/// Two groups of parameters: which rows, and how they are answered.
#[derive(Debug, Serialize)]
pub struct Filtered<A, B> {
    #[serde(flatten)]
    pub rows: A,
    #[serde(flatten)]
    pub page: B,
}

impl<A: Parameters, B: Parameters> Parameters for Filtered<A, B> {
    fn known() -> Vec<Parameter> {
        A::known().into_iter().chain(B::known()).collect()
    }

    fn read(members: Members) -> Result<Self, serde_json::Error> {
        let of_rows = A::known();
        let (rows, page) = members.into_iter().partition(|(name, _)| of_rows.iter().any(|known| known.name == *name));
        Ok(Self { rows: A::read(rows)?, page: B::read(page)? })
    }
}

fn read_query<T: Parameters>(uri: &Uri) -> Result<T, Problem> {
    let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::new(Code::InvalidQuery, "the query cannot be read"))?;
    let known = T::known();
    let mut faults = Vec::new();
    let mut values = Members::new();
    for (name, text) in pairs {
        let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
            faults.push(Fault::parameter(name, UNKNOWN));
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
        faults.extend(value_faults(parameter, &value).into_iter().map(|detail| Fault::parameter(&name, detail)));
        values.insert(name, value);
    }
    if !faults.is_empty() {
        return Err(Problem::query(faults));
    }
    T::read(values).map_err(|error| Problem::new(Code::InvalidQuery, format!("the query cannot be read: {error}")))
}

const UNKNOWN: &str = "is not a known parameter";

fn value_faults(parameter: &Parameter, value: &Value) -> Vec<String> {
    let Some(schema) = &parameter.schema else { return Vec::new() };
    Contract::new(schema, Vec::new()).faults(value, &[]).into_iter().map(|fault| fault.detail).collect()
}

/// Query parameters that are kept as JSON, read as strictly as `T` reads those of a request.
///
/// # Errors
/// Every fault, its pointer below `at`.
pub fn read_kept<T: Parameters>(members: &Members, at: &str) -> Result<T, Vec<Fault>> {
    let known = T::known();
    let mut faults = Vec::new();
    for (name, value) in members {
        let details = match known.iter().find(|parameter| parameter.name == *name) {
            None => vec![UNKNOWN.to_owned()],
            Some(_) if value.is_null() => vec!["must have a value".to_owned()],
            Some(parameter) => value_faults(parameter, value),
        };
        faults.extend(details.into_iter().map(|detail| Fault::at(format!("{at}/{}", escaped(name)), detail)));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    T::read(members.clone()).map_err(|error| vec![Fault::at(at, error.to_string())])
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

/// Which page of a list, and in which order.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, bound = "C: Column")]
pub struct ListQuery<C: Column> {
    pub sort: Option<Sort<C>>,
    pub limit: Option<u32>,
    /// Of a page with the same `sort`.
    pub cursor: Option<String>,
}

impl<C: Column> utoipa::IntoParams for ListQuery<C> {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let sort = ParameterBuilder::new()
            .name("sort")
            .parameter_in(ParameterIn::Query)
            .description(Some("The column to sort by, with `-` before it descending; `cursor` is of the same `sort`."))
            .required(utoipa::openapi::Required::False)
            .schema(Some(Sort::<C>::schema()));
        std::iter::once(sort.build()).chain(PageQuery::into_params(place)).collect()
    }
}

impl<C: Column> ListQuery<C> {
    pub fn sort(&self) -> Sort<C> {
        self.sort.unwrap_or_default()
    }

    pub fn page(&self) -> PageRequest {
        page(self.limit, self.cursor.clone())
    }
}

#[must_use]
fn page(limit: Option<u32>, cursor: Option<String>) -> PageRequest {
    PageRequest { limit: limit.unwrap_or(50), cursor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::UserColumn;

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

    #[test]
    fn two_groups_are_read_as_one_and_unknown_parameters_of_both_refused() {
        #[derive(Debug, Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields)]
        struct Which {
            min: Option<u8>,
        }
        type Both = Filtered<Which, ListQuery<UserColumn>>;
        let both: Both = read_query(&"/x?min=3&sort=-email&limit=7".parse().unwrap()).unwrap();
        assert_eq!((both.rows.min, both.page.page().limit), (Some(3), 7));
        assert_eq!(both.page.sort(), Sort { by: UserColumn::Email, descending: true });
        for refused in ["x=1", "sort=password_hash", "sort=email&sort=email", "min=300"] {
            let problem = read_query::<Both>(&format!("/x?{refused}").parse().unwrap()).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidQuery, "{refused}");
        }
        let kept = |value: Value| {
            let faults = read_kept::<Both>(value.as_object().unwrap(), "/query").err().unwrap_or_default();
            faults.into_iter().map(|fault| fault.pointer.unwrap()).collect::<Vec<_>>()
        };
        assert!(kept(serde_json::json!({"min": 3, "sort": "email"})).is_empty());
        let refused = kept(serde_json::json!({"min": "3", "sort": "x", "a/b": 1, "limit": null}));
        assert_eq!(refused, ["/query/a~1b", "/query/limit", "/query/min", "/query/sort"]);
    }
}
