//! `/scim/v2`: people provisioned by the organization's directory (RFC 7643, 7644), and the token that it presents.
//!
//! Errors have SCIM's own form and media type; what is wrong with Sentinel itself stays a problem.

mod discovery;
mod patch;
mod token;
mod users;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use super::extract::{bearer, origin};
use super::problem::Problem;
use super::trail::{Who, WriteTx};
use crate::authn::RefreshToken;
use crate::store::{Actor, ActorType, Store, StoreError, TenantScope, TenantTx};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().merge(users::routes()).merge(discovery::routes()).merge(token::routes())
}

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/scim+json");

/// What SCIM answers when it refuses.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScimErrorBody {
    #[schema(example = json!(["urn:ietf:params:scim:api:messages:2.0:Error"]))]
    schemas: [&'static str; 1],
    /// The HTTP status, as text.
    #[schema(example = "404")]
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "uniqueness")]
    scim_type: Option<&'static str>,
    detail: String,
}

#[derive(Debug)]
pub enum ScimError {
    Refused(StatusCode, Option<&'static str>, String),
    Problem(Problem),
}

impl ScimError {
    fn invalid(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::Refused(StatusCode::BAD_REQUEST, Some(kind), detail.into())
    }

    fn not_found() -> Self {
        Self::Refused(StatusCode::NOT_FOUND, None, "there is no such resource here".to_owned())
    }

    fn forbidden(detail: &str) -> Self {
        Self::Refused(StatusCode::FORBIDDEN, None, detail.to_owned())
    }
}

impl From<Problem> for ScimError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for ScimError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict("last owner") => Self::forbidden("the last owner stays"),
            StoreError::Conflict(what) => {
                Self::Refused(StatusCode::CONFLICT, Some("uniqueness"), format!("the {what} is already in use"))
            }
            other => Self::Problem(other.into()),
        }
    }
}

impl IntoResponse for ScimError {
    fn into_response(self) -> Response {
        let (status, scim_type, detail) = match self {
            Self::Problem(problem) => return problem.into_response(),
            Self::Refused(status, scim_type, detail) => (status, scim_type, detail),
        };
        let schemas = ["urn:ietf:params:scim:api:messages:2.0:Error"];
        let body = ScimErrorBody { schemas, status: status.as_u16().to_string(), scim_type, detail };
        let mut response = Scim(status, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"sentinel scim\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A SCIM answer.
struct Scim<T>(StatusCode, T);

impl<T: Serialize> IntoResponse for Scim<T> {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.1).unwrap_or_default();
        (self.0, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
    }
}

/// A directory whose token is good.
struct Directory {
    scope: TenantScope,
    store: Store,
    who: Who,
}

impl Directory {
    async fn read(&self) -> Result<TenantTx, ScimError> {
        Ok(self.store.read(self.scope).await?)
    }

    async fn write(&self) -> Result<WriteTx, ScimError> {
        Ok(WriteTx::new(self.store.write(self.scope).await?, self.who.clone()))
    }
}

impl FromRequestParts<Api> for Directory {
    type Rejection = ScimError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ScimError> {
        let store = api.state.store.clone();
        let scope = match bearer(&parts.headers) {
            Some(token) => store.resolve_scim_token(&RefreshToken::hash_of(token)).await?,
            None => None,
        };
        let refused = || ScimError::Refused(StatusCode::UNAUTHORIZED, None, "the token is not valid".to_owned());
        let actor = Actor { kind: ActorType::System, email: Some("directory".to_owned()), ..Actor::default() };
        let who = Who { actor, origin: origin(&parts.headers, &parts.extensions) };
        Ok(Self { scope: scope.ok_or_else(refused)?, store, who })
    }
}

/// A body that a directory sends. What Sentinel does not know in it is left out, as RFC 7644 wants.
struct ScimJson<T>(T);

impl<T: DeserializeOwned> FromRequest<Api> for ScimJson<T> {
    type Rejection = ScimError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ScimError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !["application/scim+json", "application/json"].contains(&kind.as_str()) {
            let detail = "send the body as `application/scim+json`".to_owned();
            return Err(ScimError::Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, detail));
        }
        let most = api.state.config.admin.max_request_body;
        let body: Body = request.into_body();
        let bytes = axum::body::to_bytes(body, most.as_usize()).await.map_err(|_| {
            ScimError::Refused(StatusCode::PAYLOAD_TOO_LARGE, None, format!("the body is larger than {most}"))
        })?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ScimError::invalid("invalidSyntax", format!("the body is not JSON: {error}")))?;
        let input =
            serde_json::from_value(value).map_err(|error| ScimError::invalid("invalidValue", error.to_string()))?;
        Ok(Self(input))
    }
}
