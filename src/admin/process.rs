//! `POST /process`: an application has one text scanned.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Input, Json, origin};
use super::problem::Problem;
use super::trail::Attempt;
use crate::authn::{AuthError, Caller, KeyScope, presented};
use crate::domain::RequestId;
use crate::process::{ProcessRequest, ProcessResponse};
use crate::store::Origin;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(process))
}

impl Input for ProcessRequest {
    /// The text is judged and not stored; the audit trail replaces the character in `user_id`.
    const TAKES_NUL: bool = true;
}

/// A text of an application whose key is good for `process` and whose rate limit is not used up. What is refused on the
/// way here has its audit row, as on the gateway.
struct Scan {
    caller: Arc<Caller>,
    body: ProcessRequest,
    request_id: RequestId,
    client_ip: Option<String>,
}

impl FromRequest<Api> for Scan {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let begun = Instant::now();
        let Origin { ip: client_ip, .. } = origin(request.headers(), request.extensions());
        let request_id = request.extensions().get::<RequestId>().copied().unwrap_or_else(RequestId::new);
        let refused = async |caller: Option<&Caller>, problem: Problem| {
            let (code, client_ip) = (problem.code(), client_ip.clone());
            let processor = &api.state.processor;
            processor.refused(caller, request_id, client_ip, code.as_str(), code.status(), begun.elapsed()).await;
            problem
        };
        let caller = match caller(request.headers(), api).await {
            Ok(caller) => caller,
            Err(problem) => return Err(refused(None, problem).await),
        };
        if let Some(per_minute) = caller.rate_limit_per_minute {
            match api.state.limiter.admit(caller.key_id, per_minute, api.state.clock.now()) {
                Ok(allowance) => {
                    if let Some(attempt) = request.extensions().get::<Attempt>() {
                        attempt.allow(Some(allowance));
                    }
                }
                Err(too_many) => {
                    api.state.metrics.rate_limited.with_label_values(&["key"]).inc();
                    return Err(refused(Some(&caller), too_many.into()).await);
                }
            }
        }
        let month = api.state.clock.now().month();
        let counted = api.state.usage.admit(caller.org_id, month, caller.monthly_request_limit, caller.counted);
        if let Err(exceeded) = counted {
            api.state.metrics.rate_limited.with_label_values(&["organization"]).inc();
            return Err(refused(Some(&caller), exceeded.into()).await);
        }
        match Json::<ProcessRequest>::from_request(request, api).await {
            Ok(Json(body)) => Ok(Self { caller, body, request_id, client_ip }),
            Err(problem) => Err(refused(Some(&caller), problem).await),
        }
    }
}

async fn caller(headers: &HeaderMap, api: &Api) -> Result<Arc<Caller>, Problem> {
    let key = presented(headers).ok_or(AuthError::Invalid)?;
    Ok(api.state.keys.authenticate(key, KeyScope::Process).await?)
}

/// Scan a text
///
/// Judges `user_input` by the workspace's policy, and records the request like any other. Nothing is sent anywhere. Needs
/// an API key with the scope `process`.
#[utoipa::path(post, path = "/process", tag = "process", operation_id = "process", security(("apiKey" = [])),
    request_body = ProcessRequest, responses(
    (status = 200, description = "Judged, blocked or not", body = ProcessResponse),
    (status = 429, description = "The key's limit is used up (see `Retry-After`), or `insufficient_quota`: the organization's of this month"),
))]
async fn process(State(api): State<Api>, scan: Scan) -> Result<Response, Problem> {
    let answer = api.state.processor.process(&scan.caller, scan.body, scan.request_id, scan.client_ip).await?;
    let policy = format!("{}@{}", answer.policy.name, answer.policy.version);
    let action = HeaderValue::from_static(answer.action.as_str());
    let mut response = axum::Json(answer).into_response();
    response.headers_mut().insert(HeaderName::from_static("x-sentinel-action"), action);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(HeaderName::from_static("x-sentinel-policy"), policy);
    }
    Ok(response)
}
