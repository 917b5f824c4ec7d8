//! Errors of the admin face: RFC 9457 problem details. The only place that makes one.
//!
//! A handler returns a [`Problem`]; the outermost middleware gives it the request's id and writes it ([`Problem::render`]).
//! What a server error was caused by is in the log line with the same id, never in the answer.

mod code;

use std::fmt::Display;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

pub use code::Code;

use crate::authn::{AuthError, GrantError, PasswordError, Permission, SessionError, ThrottleError, Throttled};
use crate::domain::RequestId;
use crate::limits::{QuotaExceeded, TooMany};
use crate::policy::CompileError;
use crate::process::ProcessError;
use crate::store::StoreError;

/// One fault of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Fault {
    /// JSON pointer into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/password")]
    pub pointer: Option<String>,
    /// Name of the query parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    #[schema(example = "must have at least 12 characters")]
    pub detail: String,
}

impl Fault {
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), parameter: None, detail: detail.into() }
    }

    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: None, parameter: Some(name.into()), detail: detail.into() }
    }
}

/// The body of every error (RFC 9457), sent as `application/problem+json`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails {
    /// Where the code is explained, relative to this server.
    #[serde(rename = "type")]
    #[schema(example = "/problems/validation_failed")]
    kind: String,
    #[schema(example = "Validation failed")]
    title: &'static str,
    #[schema(example = 422)]
    status: u16,
    /// What went wrong this time, for people.
    #[schema(example = "the body has 1 fault")]
    detail: String,
    /// The path that was asked for.
    #[schema(example = "/auth/register")]
    instance: String,
    /// What went wrong, for programs; `GET /problems/{code}` explains it.
    #[schema(example = "validation_failed")]
    code: &'static str,
    /// Also in the header `x-request-id`; the log lines of the request carry it.
    #[schema(example = "req_0193b5d0a5d17c3a8f2e4b6c8d0e1f23")]
    request_id: String,
    /// Every fault of the body, query or headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
}

/// An error on its way out.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: String,
    errors: Vec<Fault>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts { code, detail: detail.into(), errors: Vec::new(), headers: Vec::new(), cause: None }))
    }

    /// A server error: `cause` goes to the log only.
    pub fn internal(cause: impl Display) -> Self {
        Self::new(Code::Internal, "the request could not be completed").because(cause)
    }

    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "there is no such thing here")
    }

    /// No valid access token.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, detail).with_header(header::WWW_AUTHENTICATE, BEARER)
    }

    /// The same for an unknown address, a wrong password and an inactive account.
    #[must_use]
    pub fn invalid_credentials() -> Self {
        Self::new(Code::InvalidCredentials, "address or password is wrong")
            .with_header(header::WWW_AUTHENTICATE, BEARER)
    }

    #[must_use]
    pub fn forbidden(permission: Permission) -> Self {
        Self::new(Code::PermissionDenied, format!("this needs the permission `{permission}`"))
    }

    /// Names the needed permission in the challenge (RFC 6750 3: `scope`) of an answer that refuses the credential.
    #[must_use]
    pub fn needing(self, permission: Option<Permission>) -> Self {
        let error = match self.0.code {
            Code::Unauthenticated => "",
            Code::PermissionDenied => ", error=\"insufficient_scope\"",
            _ => return self,
        };
        let Some(permission) = permission else { return self };
        match HeaderValue::from_str(&format!("Bearer realm=\"sentinel\"{error}, scope=\"{permission}\"")) {
            Ok(challenge) => self.with_header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => self,
        }
    }

    /// The operation is a WebSocket, the request none.
    #[must_use]
    pub fn upgrade_required() -> Self {
        Self::new(Code::UpgradeRequired, "this is a WebSocket: `Upgrade: websocket` is needed")
            .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
    }

    /// A body with faults, all of them.
    #[must_use]
    pub fn validation(errors: Vec<Fault>) -> Self {
        let s = if errors.len() == 1 { "" } else { "s" };
        let detail = format!("the body has {} fault{s}", errors.len());
        Self::new(Code::ValidationFailed, detail).with_errors(errors)
    }

    #[must_use]
    pub fn query(errors: Vec<Fault>) -> Self {
        Self::new(Code::InvalidQuery, "the query cannot be read").with_errors(errors)
    }

    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    fn with_errors(mut self, errors: Vec<Fault>) -> Self {
        self.0.errors = errors;
        self
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.retain(|(present, _)| *present != name);
        self.0.headers.push((name, value));
        self
    }

    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, seconds.into())
    }

    fn because(mut self, cause: impl Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// Writes `response` as a problem when it is an error, whoever made it; logs server errors. Other answers stay.
    pub fn render(mut response: Response, request_id: RequestId, path: &str) -> Response {
        let status = response.status();
        let problem = match response.extensions_mut().remove::<Self>() {
            Some(problem) => problem,
            // `GET /health` reports a failing node with 503 and its own body.
            None if !status.is_client_error() && !status.is_server_error() => return response,
            None if is_json(&response) => return response,
            None => Self::new(Code::of_status(status), status.canonical_reason().unwrap_or("error").to_lowercase()),
        };
        let Parts { code, detail, errors, headers, cause } = *problem.0;
        if code.status() >= 500 {
            let cause = cause.as_deref().unwrap_or("none given");
            tracing::error!(%request_id, code = code.as_str(), cause, "request failed");
        }
        let details = ProblemDetails {
            kind: format!("/problems/{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            detail,
            instance: path.to_owned(),
            code: code.as_str(),
            request_id: request_id.to_string(),
            errors,
        };
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut answer = Response::new(Body::from(body));
        *answer.status_mut() = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
            answer.headers_mut().insert(header::ALLOW, allow);
        }
        answer.headers_mut().extend(headers);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        answer
    }
}

const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"sentinel\"");

/// Seconds after which a client may try again when the database or the journal was away.
const AWAY: u64 = 5;

/// Seconds in which a full queue of passwords has shrunk.
const BUSY: u64 = 3;

/// SDKs obey it whatever the status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Rounded up: who comes back then is not too early.
fn whole_seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn is_json(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        // SCIM has its own form of errors.
        [&b"application/json"[..], b"application/scim+json"].iter().any(|json| kind.as_bytes().starts_with(json))
    })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict("last owner") => {
                Self::new(Code::Conflict, "the organization would be left without an active owner")
            }
            StoreError::Conflict("legal hold") => Self::new(Code::Conflict, "the audit trail is on legal hold"),
            StoreError::Conflict("policy") => Self::new(Code::Conflict, "a workspace still uses the policy"),
            StoreError::Conflict("approval") => Self::new(
                Code::ApprovalRequired,
                "the organization wants policies to be approved by somebody else: make a draft",
            ),
            StoreError::Conflict("author") => Self::new(Code::Conflict, "who wrote a draft cannot approve it"),
            StoreError::Conflict("draft") => Self::new(
                Code::Conflict,
                "another version came into force since the draft was written: edit the draft to stand on that one",
            ),
            StoreError::Conflict("credential") => Self::new(
                Code::Conflict,
                "the workspace has a credential for this upstream: delete it before giving another",
            ),
            StoreError::Conflict(what) => Self::new(Code::Conflict, format!("the {what} is already in use")),
            StoreError::Stale => {
                Self::new(Code::PreconditionFailed, "the object has changed since the version in `If-Match`")
            }
            StoreError::Missing("cursor") => {
                Self::query(vec![Fault::parameter("cursor", "is not the `next_cursor` of this list")])
            }
            StoreError::Missing("cursor of this sort") => {
                let detail = "was made with another `sort`; go on with that one, or begin without a cursor";
                Self::query(vec![Fault::parameter("cursor", detail)])
            }
            StoreError::Missing(what) => Self::validation(vec![Fault::at(format!("/{what}"), "does not exist")]),
            StoreError::Unavailable(_) => {
                Self::new(Code::DatabaseUnavailable, "the database cannot be reached at the moment")
                    .retry_after(AWAY)
                    .because(error)
            }
            StoreError::Corrupt { .. } | StoreError::Database(_) => Self::internal(error),
        }
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Token(crate::authn::TokenError::Unsigned) => Self::internal(error),
            SessionError::Token(_) | SessionError::Ended => Self::unauthenticated(error.to_string()),
            SessionError::Refresh | SessionError::Reused => {
                Self::new(Code::InvalidRefreshToken, "the refresh token is not valid; log in again")
                    .with_header(header::WWW_AUTHENTICATE, BEARER)
            }
            SessionError::Store(error) => error.into(),
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => {
                Self::new(Code::Overloaded, "too many passwords are being checked").retry_after(BUSY)
            }
            PasswordError::Hash(_) | PasswordError::Interrupted => Self::internal(error),
        }
    }
}

impl From<ThrottleError> for Problem {
    fn from(error: ThrottleError) -> Self {
        match error {
            ThrottleError::Throttled(throttled) => throttled.into(),
            ThrottleError::Store(error) => error.into(),
        }
    }
}

/// With the header fields of the IETF's draft on rate limits.
impl From<Throttled> for Problem {
    fn from(Throttled { retry_after, per_minute }: Throttled) -> Self {
        let seconds = whole_seconds(retry_after);
        let detail = format!("too many attempts to log in failed; the next one is possible in {seconds} s");
        let mut problem = Self::new(Code::LoginThrottled, detail).retry_after(seconds);
        let fields = [
            (RATE_LIMIT_POLICY, format!("\"login\";q={per_minute};w=60")),
            (RATE_LIMIT, format!("\"login\";r=0;t={seconds}")),
        ];
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_str(&value) {
                problem = problem.with_header(name, value);
            }
        }
        problem
    }
}

impl From<GrantError> for Problem {
    fn from(error: GrantError) -> Self {
        Self::new(Code::GrantNotAllowed, error.to_string())
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => Self::new(Code::InvalidApiKey, "the API key is missing or not valid")
                .with_header(header::WWW_AUTHENTICATE, BEARER),
            AuthError::Scope(_) => Self::new(Code::PermissionDenied, error.to_string()),
            AuthError::Store(error) => error.into(),
        }
    }
}

impl From<TooMany> for Problem {
    fn from(TooMany { retry_after }: TooMany) -> Self {
        let seconds = whole_seconds(retry_after);
        Self::new(Code::RateLimitExceeded, format!("the limit is used up for {seconds} s")).retry_after(seconds)
    }
}

impl From<QuotaExceeded> for Problem {
    fn from(_: QuotaExceeded) -> Self {
        Self::new(Code::InsufficientQuota, "the organization has used up its requests of this month")
            .with_header(SHOULD_RETRY, HeaderValue::from_static("false"))
    }
}

impl From<ProcessError> for Problem {
    fn from(error: ProcessError) -> Self {
        Self::new(Code::GuardUnavailable, "the text cannot be judged at the moment").retry_after(AWAY).because(error)
    }
}

/// Faults of the policy document in the field `document`.
impl From<Vec<CompileError>> for Problem {
    fn from(errors: Vec<CompileError>) -> Self {
        let fault = |error: CompileError| Fault::at(format!("/document{}", error.pointer), error.detail);
        Self::validation(errors.into_iter().map(fault).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn rendered(response: impl IntoResponse) -> (Response, serde_json::Value) {
        let response = Problem::render(response.into_response(), RequestId::new(), "/workspaces");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 16).await.unwrap();
        (Response::from_parts(parts, Body::empty()), serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_problem_has_all_members_and_its_media_type() {
        let faults = vec![Fault::at("/name", "is required"), Fault::at("/config", "must be an object")];
        let (response, body) = rendered(Problem::validation(faults)).await;
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(body["type"], "/problems/validation_failed");
        assert_eq!(body["code"], "validation_failed");
        assert_eq!(body["status"], 422);
        assert_eq!(body["instance"], "/workspaces");
        assert_eq!(body["detail"], "the body has 2 faults");
        assert!(body["request_id"].as_str().unwrap().starts_with("req_"));
        assert_eq!(body["errors"][1], serde_json::json!({"pointer": "/config", "detail": "must be an object"}));
    }

    #[tokio::test]
    async fn a_server_error_does_not_tell_its_cause() {
        let cause = "relation users: password authentication failed";
        for problem in [
            Problem::from(StoreError::Database(cause.into())),
            Problem::from(StoreError::Unavailable(cause.into())),
            Problem::internal(cause),
        ] {
            let (response, body) = rendered(problem).await;
            assert!(response.status().is_server_error());
            assert!(!body.to_string().contains("password"), "{body}");
        }
    }

    #[tokio::test]
    async fn store_errors_become_the_answers_of_the_contract() {
        let table = [
            (StoreError::Conflict("email"), 409, "conflict"),
            (StoreError::Conflict("last owner"), 409, "conflict"),
            (StoreError::Stale, 412, "precondition_failed"),
            (StoreError::Missing("policy_id"), 422, "validation_failed"),
            (StoreError::Missing("cursor"), 400, "invalid_query"),
            (StoreError::Unavailable(String::new()), 503, "database_unavailable"),
            (StoreError::Database(String::new()), 500, "internal_error"),
        ];
        for (error, status, code) in table {
            let text = error.to_string();
            let (response, body) = rendered(Problem::from(error)).await;
            assert_eq!((response.status().as_u16(), body["code"].as_str().unwrap()), (status, code), "{text}");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{text}");
        }
    }

    #[tokio::test]
    async fn errors_that_the_framework_makes_become_problems_and_keep_allow() {
        let (response, body) = rendered((StatusCode::METHOD_NOT_ALLOWED, [("allow", "GET,HEAD")])).await;
        assert_eq!((response.status().as_u16(), body["code"].as_str()), (405, Some("method_not_allowed")));
        assert_eq!(response.headers()["allow"], "GET,HEAD");
        let (response, _) = rendered((StatusCode::PAYLOAD_TOO_LARGE, "length limit exceeded")).await;
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }

    #[tokio::test]
    async fn every_401_says_how_to_authenticate() {
        for problem in [
            Problem::unauthenticated("no access token"),
            SessionError::Reused.into(),
            SessionError::Ended.into(),
            AuthError::Invalid.into(),
        ] {
            let (response, _) = rendered(problem).await;
            assert_eq!(response.status(), 401);
            assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"sentinel\"");
        }
    }
}
