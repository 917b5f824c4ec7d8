//! Where an application's key is looked for, the same on both faces.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::KEY_PREFIXES;

const SENTINEL_KEY: HeaderName = HeaderName::from_static("x-sentinel-key");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// The first value that looks like a Sentinel key: of `X-Sentinel-Key`, `X-API-Key`, `Authorization: Bearer`, and of
/// `x-goog-api-key`, where Gemini's SDKs put the key they are given.
#[must_use]
pub fn presented(headers: &HeaderMap) -> Option<&str> {
    let plain = |name: HeaderName| headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).find(is_key);
    plain(SENTINEL_KEY)
        .or_else(|| plain(API_KEY))
        .or_else(|| headers.get_all(AUTHORIZATION).iter().filter_map(bearer).find(is_key))
        .or_else(|| plain(GOOGLE_KEY))
}

fn is_key(value: &&str) -> bool {
    KEY_PREFIXES.iter().any(|prefix| value.starts_with(prefix))
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "snt_live_0123456789";

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_key_is_found_in_each_of_its_places_and_in_their_order() {
        assert_eq!(presented(&headers(&[("x-sentinel-key", KEY)])), Some(KEY));
        assert_eq!(presented(&headers(&[("x-api-key", KEY)])), Some(KEY));
        assert_eq!(presented(&headers(&[("authorization", "Bearer snt_live_0123456789")])), Some(KEY));
        assert_eq!(presented(&headers(&[("authorization", "bearer  snt_live_0123456789")])), Some(KEY));
        assert_eq!(presented(&headers(&[("x-goog-api-key", KEY)])), Some(KEY));
        let both = headers(&[
            ("authorization", "Bearer snt_live_a"),
            ("x-api-key", "snt_live_b"),
            ("x-sentinel-key", "snt_test_c"),
        ]);
        assert_eq!(presented(&both), Some("snt_test_c"));
    }

    #[test]
    fn a_providers_key_in_the_same_place_is_passed_over() {
        let both = headers(&[("x-api-key", "sk-ant-1"), ("authorization", "Bearer snt_live_0123456789")]);
        assert_eq!(presented(&both), Some(KEY));
        assert_eq!(presented(&headers(&[("authorization", "Bearer sk-1"), ("x-api-key", "sk-2")])), None);
        assert_eq!(presented(&headers(&[("authorization", "Basic snt_live_0123456789")])), None);
        assert_eq!(presented(&headers(&[("x-api-key", "x snt_live_0123456789")])), None);
    }
}
