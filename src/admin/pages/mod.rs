//! Where links lead that are mailed to people: a page to set a new password on, and one to accept an invitation on.

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

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) fn pages() -> Router<Api> {
    Router::new()
        .route("/page.css", get(async || answer("text/css; charset=utf-8", include_str!("page.css"))))
        .route("/page.js", get(async || answer(SCRIPT, include_str!("page.js"))))
        .route("/reset-password", get(async || answer(HTML, include_str!("reset_password.html"))))
        .route("/invitation", get(async || answer(HTML, include_str!("invitation.html"))))
}

fn answer(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)], text)
}
