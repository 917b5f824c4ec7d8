//! What handlers take: an authorized person, strict JSON, strict queries, ids, the version in `If-Match`, pages; and the
//! shapes that they answer with.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::path::Parameter;

use super::Api;
use super::conform::Contract;
use super::problem::{Code, Fault, Problem};
use crate::authn::{ClientInfo, Permission, Session};
use crate::store::{self, PageRequest, Store, TenantTx};

/// What an operation needs from the person who calls it.
pub trait Requires: Send + Sync + 'static {
    /// None: being logged in is enough.
    const PERMISSION: Option<Permission>;
    /// Allowed before a temporary password has been changed.
    const BEFORE_PASSWORD_CHANGE: bool = false;
}

macro_rules! requirements {
    ($($name:ident = $permission:expr),+ $(,)?) => {$(
        #[doc = concat!("Requires [`", stringify!($permission), "`].")]
        pub struct $name;
        impl Requires for $name {
            const PERMISSION: Option<Permission> = Some($permission);
        }
    )+};
}

requirements! {
    ReadOrganization = Permission::ReadOrganization,
    WriteOrganization = Permission::WriteOrganization,
    ReadStats = Permission::ReadStats,
    ReadUsers = Permission::ReadUsers,
    InviteUsers = Permission::InviteUsers,
    WriteUsers = Permission::WriteUsers,
    ReadWorkspaces = Permission::ReadWorkspaces,
    WriteWorkspaces = Permission::WriteWorkspaces,
    ReadApiKeys = Permission::ReadApiKeys,
    WriteApiKeys = Permission::WriteApiKeys,
    ReadPolicies = Permission::ReadPolicies,
    WritePolicies = Permission::WritePolicies,
    ReadAudit = Permission::ReadAudit,
}

/// Requires a session and nothing else, even while a temporary password is to be changed.
pub struct Myself;

impl Requires for Myself {
    const PERMISSION: Option<Permission> = None;
    const BEFORE_PASSWORD_CHANGE: bool = true;
}

/// A person who is logged in and may do `P`.
pub struct Authorized<P> {
    pub session: Session,
    store: Store,
    permission: PhantomData<P>,
}

impl<P> Authorized<P> {
    /// A read-only transaction in the person's organization.
    pub async fn read(&self) -> Result<TenantTx, Problem> {
        Ok(self.store.read(self.session.scope).await?)
    }

    pub async fn write(&self) -> Result<TenantTx, Problem> {
        Ok(self.store.write(self.session.scope).await?)
    }
}

impl<P: Requires> FromRequestParts<Api> for Authorized<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)
            .ok_or_else(|| Problem::unauthenticated("an access token is needed: `Authorization: Bearer …`"))?;
        let session = api.sessions.authenticate(token).await?;
        if session.user.must_change_password && !P::BEFORE_PASSWORD_CHANGE {
            let detail = "set a new password with `POST /auth/password` first";
            return Err(Problem::new(Code::PasswordChangeRequired, detail));
        }
        match P::PERMISSION {
            Some(permission) if !session.authority.has(permission) => Err(Problem::forbidden(permission)),
            _ => Ok(Self { session, store: api.state.store.clone(), permission: PhantomData }),
        }
    }
}

/// The token of `Authorization: Bearer`; the scheme is compared without case (RFC 9110).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A body that an operation takes.
pub trait Input: DeserializeOwned + utoipa::ToSchema {
    /// Pointers to parts that another compiler judges.
    const OPAQUE: &'static [&'static str] = &[];

    /// Faults that a schema cannot tell.
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

/// A JSON body that keeps its contract. Refused are: another media type (415), what is not JSON (400), and, all faults at
/// once (422), unknown fields, missing fields, wrong types and values out of bounds.
pub struct Json<T>(pub T);

impl<T: Input> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(Code::UnsupportedMediaType, "send the body as `application/json`"));
        }
        let bytes = Bytes::from_request(request, api).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let most = api.state.config.admin.max_request_body;
                Problem::new(Code::RequestTooLarge, format!("the body is larger than {most}"))
            }
            _ => Problem::new(Code::MalformedJson, "the body ended early"),
        })?;
        decode(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn decode<T: Input>(bytes: &[u8]) -> Result<T, Problem> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(Code::MalformedJson, format!("the body is not JSON: {error}")))?;
    let mut faults = Contract::of::<T>().faults(&value, T::OPAQUE);
    match serde_json::from_value::<T>(value) {
        Ok(input) => {
            faults.extend(input.faults());
            if faults.is_empty() { Ok(input) } else { Err(Problem::validation(faults)) }
        }
        Err(error) if faults.is_empty() => Err(Problem::validation(vec![Fault::at("", error.to_string())])),
        Err(_) => Err(Problem::validation(faults)),
    }
}

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

/// The id in the path. What is no id names nothing: 404.
pub struct Path<T>(pub T);

impl<T: FromStr + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let axum::extract::Path(text) =
            axum::extract::Path::<String>::from_request_parts(parts, api).await.map_err(|_| Problem::not_found())?;
        text.parse().map(Self).map_err(|_| Problem::not_found())
    }
}

/// The version that the client has seen. Missing: 428. A tag that no version ever had matches none: 412.
pub struct IfMatch(i64);

impl IfMatch {
    #[must_use]
    pub const fn version(&self) -> i64 {
        self.0
    }
}

impl FromRequestParts<Api> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        read_if_match(&parts.headers)?.ok_or_else(|| {
            Problem::new(Code::PreconditionRequired, "send `If-Match` with the `ETag` of the version to be changed")
        })
    }
}

/// [`IfMatch`] where it is welcome but not required.
pub struct MaybeIfMatch(pub Option<IfMatch>);

impl FromRequestParts<Api> for MaybeIfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        read_if_match(&parts.headers).map(Self)
    }
}

fn read_if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).filter(|tag| !tag.contains('"'));
    match (tag, text.starts_with("W/")) {
        (Some(tag), _) => {
            tag.parse().map(|version| Some(IfMatch(version))).map_err(|_| store::StoreError::Stale.into())
        }
        // A weak tag never matches (RFC 9110 8.8.3.2).
        (None, true) => Err(store::StoreError::Stale.into()),
        (None, false) => Err(Problem::new(Code::InvalidHeader, "`If-Match` takes one entity tag, such as \"3\"")),
    }
}

/// Where the request comes from.
pub struct Client(pub ClientInfo);

/// Bytes of the user agent that are kept.
const USER_AGENT: usize = 200;

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(ClientInfo {
            user_agent: user_agent.map(|agent| agent.chars().take(USER_AGENT).collect()),
            ip: address.map(|ConnectInfo(address)| address.ip().to_string()),
        }))
    }
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

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct List<T> {
    pub data: Vec<T>,
    /// Whether there is another page.
    pub has_more: bool,
    /// The `cursor` of the next page.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    pub fn new<R>(page: store::Page<R>, view: impl FnMut(R) -> T) -> Self {
        Self {
            data: page.data.into_iter().map(view).collect(),
            has_more: page.next_cursor.is_some(),
            next_cursor: page.next_cursor,
        }
    }
}

impl<T: Serialize> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}

/// Something that changes by versions.
pub trait Versioned {
    fn version(&self) -> i64;
}

/// An object with its `ETag`.
pub struct Tagged<T>(pub StatusCode, pub T);

impl<T: Versioned + Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let tag = HeaderValue::from_str(&format!("\"{}\"", self.1.version()));
        let mut response = (self.0, axum::Json(self.1)).into_response();
        if let Ok(tag) = tag {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// Reads a field that may be missing (None), null (`Some(None)`) or a value.
pub fn nullable<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Faults of a name: blank, or with control characters.
pub fn name_faults(pointer: &str, name: &str) -> Vec<Fault> {
    if name.trim().is_empty() {
        vec![Fault::at(pointer, "must not be blank")]
    } else if name.chars().any(char::is_control) {
        vec![Fault::at(pointer, "must not contain control characters")]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, utoipa::ToSchema)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[schema(min_length = 1)]
        name: String,
        #[serde(default, deserialize_with = "nullable")]
        #[schema(minimum = 1)]
        limit: Option<Option<u32>>,
    }

    impl Input for Sample {
        fn faults(&self) -> Vec<Fault> {
            name_faults("/name", &self.name)
        }
    }

    #[test]
    fn a_body_is_read_strictly() {
        let code = |body: &str| decode::<Sample>(body.as_bytes()).unwrap_err().code();
        assert_eq!(code("{\"name\": "), Code::MalformedJson);
        assert_eq!(code("\u{feff}{}"), Code::MalformedJson);
        for refused in ["[]", "{}", r#"{"name": ""}"#, r#"{"name": "a", "x": 1}"#, r#"{"name": "  "}"#] {
            assert_eq!(code(refused), Code::ValidationFailed, "{refused}");
        }
    }

    #[test]
    fn missing_null_and_a_value_are_three_things() {
        let limit = |body: &str| decode::<Sample>(body.as_bytes()).unwrap().limit;
        assert_eq!(limit(r#"{"name": "a"}"#), None);
        assert_eq!(limit(r#"{"name": "a", "limit": null}"#), Some(None));
        assert_eq!(limit(r#"{"name": "a", "limit": 7}"#), Some(Some(7)));
    }

    #[test]
    fn a_query_is_read_strictly() {
        let read = |query: &str| read_query::<PageQuery>(&format!("/x?{query}").parse().unwrap());
        let page = read("limit=7&cursor=a%2Bb").unwrap();
        assert_eq!((page.limit, page.cursor.as_deref()), (Some(7), Some("a+b")));
        assert!(read("").unwrap().limit.is_none());
        for refused in ["limt=7", "limit=0", "limit=201", "limit=x", "limit=1&limit=2", "limit=-1", "limit="] {
            assert_eq!(read(refused).unwrap_err().code(), Code::InvalidQuery, "{refused}");
        }
    }

    #[test]
    fn if_match_takes_one_strong_tag() {
        let read = |tag: &'static str| {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, HeaderValue::from_static(tag))]);
            read_if_match(&headers).map(|tag| tag.map(|tag| tag.version())).map_err(|problem| problem.code())
        };
        assert_eq!(read("\"3\""), Ok(Some(3)));
        assert_eq!(read("\"three\""), Err(Code::PreconditionFailed));
        assert_eq!(read("W/\"3\""), Err(Code::PreconditionFailed));
        for refused in ["*", "3", "\"1\", \"2\""] {
            assert_eq!(read(refused), Err(Code::InvalidHeader), "{refused}");
        }
        assert_eq!(read_if_match(&HeaderMap::new()).unwrap().map(|tag| tag.version()), None);
    }

    #[test]
    fn the_bearer_scheme_is_compared_without_case() {
        let with = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(with("bearer abc"), Some("abc".into()));
        assert_eq!(with("Bearer  abc "), Some("abc".into()));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("Bearer"), None);
    }
}
