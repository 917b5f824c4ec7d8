//! `/reset-password`: where the link leads that is mailed to a person who forgot their password.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Api;

/// Itself, its style and its script, and one request to this server.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; \
     frame-ancestors 'none'",
);

pub(super) fn page() -> Router<Api> {
    Router::new()
        .route("/reset-password", get(async || answer("text/html; charset=utf-8", include_str!("page.html"))))
        .route("/reset-password.css", get(async || answer("text/css; charset=utf-8", include_str!("page.css"))))
        .route("/reset-password.js", get(async || answer("text/javascript; charset=utf-8", include_str!("page.js"))))
}

fn answer(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)], text)
}
