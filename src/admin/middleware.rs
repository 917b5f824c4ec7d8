//! What happens around every handler, from outside in: the request's id, the log line, the metric and the headers of every
//! answer; panics; the time limit.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tower_http::timeout::TimeoutLayer;

use super::Api;
use super::answer::NextCursor;
use super::problem::Problem;
use super::trail::{self, Attempt};
use super::{extract, idempotency, rates};
use crate::domain::RequestId;

/// On every answer, whatever it is.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// On every answer that does not set them itself. Answers of the API are data: never cached, framed, sniffed or run.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Puts all layers around `router`.
pub fn around(router: Router<Api>, api: &Api) -> Router<Api> {
    let admin = &api.state.config.admin;
    let router = router
        .layer(from_fn_with_state(api.clone(), idempotency::once))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, admin.request_timeout.get()))
        // What panicked may have had a customer's text in its message: it is not repeated here.
        .layer(CatchPanicLayer::custom(|_| Problem::internal("a handler panicked").into_response()))
        .layer(from_fn_with_state(api.clone(), account));
    let origins: Vec<_> = admin.cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() { router } else { router.layer(cors(origins)) }
}

/// Lets pages of `origins` call the API. Tokens travel in headers, never in cookies: no credentials mode.
fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    let asked = [header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH, idempotency::KEY, API_KEY];
    let told = [
        "etag",
        "link",
        "retry-after",
        "x-request-id",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "idempotency-replayed",
    ];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(asked)
        .expose_headers(told.map(HeaderName::from_static))
        .max_age(Duration::from_secs(600))
}

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// A year, once a browser has seen this installation over TLS.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Names the request, and accounts for its answer.
async fn account(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::new();
    request.extensions_mut().insert(id);
    let attempt = Attempt::default();
    request.extensions_mut().insert(attempt.clone());
    let origin = extract::origin(request.headers(), request.extensions());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);

    let query = request.uri().query().map(str::to_owned);
    // Load balancers and Prometheus ask often, and cost nothing.
    let counted = !route.ends_with("/health") && !route.ends_with("/metrics");
    let address = origin.ip.as_deref().and_then(|ip| ip.parse().ok()).filter(|_| counted);
    let admitted = address.map_or(Ok(None), |address| api.rates.address(address, api.state.clock.now()));
    let response = match admitted {
        Ok(allowance) => {
            attempt.allow(allowance);
            next.run(request).await
        }
        Err(too_many) => {
            api.state.metrics.rate_limited.with_label_values(&["ip"]).inc();
            Problem::from(too_many).into_response()
        }
    };
    // Refused applications are in the audit trail of requests.
    if matches!(response.status().as_u16(), 401 | 403) && !route.ends_with("/process") {
        let code = response.extensions().get::<Problem>().map(|problem| problem.code().as_str());
        let tried =
            json!({ "method": is_common(method.as_str()).then_some(method.as_str()), "route": route, "code": code });
        trail::refused(&api, &attempt, origin, tried).await;
    }
    let mut response = Problem::render(response, id, &path);

    let status = response.status().as_u16();
    let class = format!("{}xx", status / 100);
    let named = if is_common(method.as_str()) { method.as_str() } else { "other" };
    api.state.metrics.admin_requests.with_label_values(&[named, route, &class]).inc();
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::info!(request_id = %id, method = named, route, status, duration_us = micros, "admin request");

    let link = response.extensions().get::<NextCursor>().and_then(|next| next.link(&path, query.as_deref()));
    let headers = response.headers_mut();
    if let Some(link) = link {
        headers.insert(header::LINK, link);
    }
    if let Some(allowance) = attempt.allowance() {
        rates::write(headers, allowance);
    }
    if api.state.config.admin.public_url.starts_with("https://") {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    response
}

/// Methods are a metric's label: a client's own inventions are not.
fn is_common(method: &str) -> bool {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&method)
}
