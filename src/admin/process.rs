//! `POST /process`: an application has one text scanned.

use std::sync::Arc;

use axum::extract::{Extension, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Client, Input, Json};
use super::problem::Problem;
use crate::authn::{AuthError, Caller, KeyScope, presented};
use crate::domain::RequestId;
use crate::process::{ProcessRequest, ProcessResponse};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(process))
}

impl Input for ProcessRequest {
    /// The text is judged and not stored; the audit trail replaces the character in `user_id`.
    const TAKES_NUL: bool = true;
}

/// An application whose key is good for `process` and whose rate limit is not used up.
struct Application(Arc<Caller>);

impl FromRequestParts<Api> for Application {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let state = &api.state;
        let key = presented(&parts.headers).ok_or(AuthError::Invalid)?;
        let caller = state.keys.authenticate(key, KeyScope::Process).await?;
        if let Some(per_minute) = caller.rate_limit_per_minute
            && let Err(too_many) = state.limiter.admit(caller.key_id, per_minute, state.clock.now())
        {
            state.metrics.rate_limited.with_label_values(&["key"]).inc();
            return Err(too_many.into());
        }
        Ok(Self(caller))
    }
}

/// Scan a text
///
/// Judges `user_input` by the workspace's policy, and records the request like any other. Nothing is sent anywhere. Needs
/// an API key with the scope `process`.
#[utoipa::path(post, path = "/process", tag = "process", operation_id = "process", security(("apiKey" = [])), responses(
    (status = 200, description = "Judged, blocked or not", body = ProcessResponse),
    (status = 429, description = "The key's limit is used up; see `Retry-After`"),
))]
async fn process(
    Application(caller): Application,
    State(api): State<Api>,
    Extension(request_id): Extension<RequestId>,
    Client(client): Client,
    Json(body): Json<ProcessRequest>,
) -> Result<Response, Problem> {
    let answer = api.state.processor.process(&caller, body, request_id, client.ip).await?;
    let policy = format!("{}@{}", answer.policy.name, answer.policy.version);
    let action = HeaderValue::from_static(answer.action.as_str());
    let mut response = axum::Json(answer).into_response();
    response.headers_mut().insert(HeaderName::from_static("x-sentinel-action"), action);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(HeaderName::from_static("x-sentinel-policy"), policy);
    }
    Ok(response)
}
