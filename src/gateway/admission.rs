//! Who calls, and may they: credential → caller, scope, rate.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

use crate::authn::{AuthError, KEY_PREFIXES, KeyScope};
use crate::limits::Allowance;

use super::context::Context;
use super::problem::Problem;
use super::{Gate, anchor};

const SENTINEL_KEY: HeaderName = HeaderName::from_static("x-sentinel-key");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// The first value that looks like a Sentinel key: of `X-Sentinel-Key`, `X-API-Key`, `Authorization: Bearer`, and of
/// `x-goog-api-key`, where Gemini's SDKs put the key they are given.
pub(super) fn presented(headers: &HeaderMap) -> Option<&str> {
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

impl Gate {
    /// Finds the caller and counts the request against their limit.
    ///
    /// # Errors
    /// 401, 403, 429, or 503 when the database is needed and away.
    pub(super) async fn admit(&self, headers: &HeaderMap, context: &mut Context) -> Result<(), Problem> {
        let key = presented(headers).ok_or_else(Problem::invalid_key)?;
        let authenticating = self.state.keys.authenticate(key, KeyScope::Process);
        let caller = match anchor::on_main(self.main.as_ref(), authenticating).await {
            Ok(caller) => caller,
            Err(AuthError::Invalid) => return Err(Problem::invalid_key()),
            Err(AuthError::Scope(scope)) => return Err(Problem::missing_scope(scope)),
            Err(AuthError::Store(error)) => {
                tracing::error!(request.id = %context.id, %error, "an API key could not be looked up");
                self.state.metrics.failclosed.with_label_values(&["key"]).inc();
                return Err(Problem::unguarded());
            }
        };
        let caller = context.caller.insert(caller);
        if let Some(limit) = caller.rate_limit_per_minute {
            match self.state.limiter.admit(caller.key_id, limit, self.state.clock.now()) {
                Ok(allowance) => context.allowance = Some(allowance),
                Err(too_many) => {
                    self.state.metrics.rate_limited.with_label_values(&["key"]).inc();
                    context.allowance = Some(Allowance { limit, remaining: 0, reset: too_many.retry_after });
                    return Err(Problem::rate_limited(too_many.retry_after));
                }
            }
        }
        Ok(())
    }
}

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");

/// What is left of the key's limit, in OpenAI's header fields; an upstream's own are left alone.
///
/// # Errors
/// Never in practice: numbers are valid values.
pub(super) fn tell_allowance(head: &mut ResponseHeader, allowance: &Allowance) -> pingora::Result<()> {
    let upstream_tells = head
        .headers
        .keys()
        .any(|name| name.as_str().starts_with("x-ratelimit-") || name.as_str().starts_with("anthropic-ratelimit-"));
    if upstream_tells {
        return Ok(());
    }
    head.insert_header(LIMIT, u64::from(allowance.limit))?;
    head.insert_header(REMAINING, u64::from(allowance.remaining))?;
    head.insert_header(RESET, format!("{}ms", allowance.reset.as_millis()))
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
