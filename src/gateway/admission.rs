//! Who calls, and may they: credential → caller, scope, rate.

use http::HeaderMap;
use pingora::http::ResponseHeader;

use crate::authn::{AuthError, KeyScope, presented};
use crate::limits::Allowance;

use super::context::Context;
use super::problem::Problem;
use super::{Gate, anchor};

impl Gate {
    /// Finds the caller and counts the request against the key's limit and the organization's.
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
        let month = context.received_at.month();
        if self.state.usage.admit(caller.org_id, month, caller.monthly_request_limit, caller.counted).is_err() {
            self.state.metrics.rate_limited.with_label_values(&["organization"]).inc();
            return Err(Problem::insufficient_quota());
        }
        Ok(())
    }
}

const LIMIT: &str = "x-ratelimit-limit-requests";
const REMAINING: &str = "x-ratelimit-remaining-requests";
const RESET: &str = "x-ratelimit-reset-requests";

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
