//! `If-Match`: the version that the client has seen.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::super::Api;
use super::super::problem::{Code, Problem};
use crate::store::StoreError;

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
        (Some(tag), _) => tag.parse().map(|version| Some(IfMatch(version))).map_err(|_| StoreError::Stale.into()),
        // A weak tag never matches (RFC 9110 8.8.3.2).
        (None, true) => Err(StoreError::Stale.into()),
        (None, false) => Err(Problem::new(Code::InvalidHeader, "`If-Match` takes one entity tag, such as \"3\"")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

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
}
