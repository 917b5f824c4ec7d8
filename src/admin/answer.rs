//! What handlers answer with: pages of lists, and objects with their version.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store;

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
        let next = self.next_cursor.clone().map(NextCursor);
        let mut response = axum::Json(self).into_response();
        if let Some(next) = next {
            response.extensions_mut().insert(next);
        }
        response
    }
}

/// Where a list goes on; the middleware makes `Link` of it, which knows the address.
#[derive(Clone)]
pub struct NextCursor(String);

impl NextCursor {
    /// `Link: <…>; rel="next"` (RFC 8288): the address of this page with the next page's cursor.
    #[must_use]
    pub fn link(&self, path: &str, query: Option<&str>) -> Option<HeaderValue> {
        let others =
            query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
        let others: String = others.map(|pair| format!("{pair}&")).collect();
        HeaderValue::from_str(&format!("<{path}?{others}cursor={}>; rel=\"next\"", self.0)).ok()
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
