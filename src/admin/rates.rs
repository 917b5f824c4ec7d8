//! How many requests the admin face takes: per network address, per session, per API key; and what is left, in headers.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

use super::trail::network;
use crate::config::AdminConfig;
use crate::domain::{SessionId, Timestamp};
use crate::limits::{Allowance, RateLimiter, TooMany};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The limits of the admin face on this node.
pub struct Rates {
    per_address: u32,
    per_session: u32,
    addresses: RateLimiter<IpAddr>,
    sessions: RateLimiter<SessionId>,
}

impl Rates {
    #[must_use]
    pub fn new(config: &AdminConfig) -> Self {
        Self {
            per_address: config.address_rate_limit,
            per_session: config.session_rate_limit,
            addresses: RateLimiter::new(),
            sessions: RateLimiter::new(),
        }
    }

    /// None: there is no such limit.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn address(&self, address: IpAddr, now: Timestamp) -> Result<Option<Allowance>, TooMany> {
        match self.per_address {
            0 => Ok(None),
            limit => self.addresses.admit(network(address), limit, now).map(Some),
        }
    }

    /// None: there is no such limit.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn session(&self, session: SessionId, now: Timestamp) -> Result<Option<Allowance>, TooMany> {
        match self.per_session {
            0 => Ok(None),
            limit => self.sessions.admit(session, limit, now).map(Some),
        }
    }
}

/// Of two allowances the one that ends first.
#[must_use]
pub fn tighter(one: Option<Allowance>, other: Option<Allowance>) -> Option<Allowance> {
    [one, other].into_iter().flatten().min_by_key(|allowance| allowance.remaining)
}

/// Writes `RateLimit-*`; seconds, rounded up.
pub fn write(headers: &mut HeaderMap, allowance: Allowance) {
    let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    headers.insert(LIMIT, allowance.limit.into());
    headers.insert(REMAINING, allowance.remaining.into());
    headers.insert(RESET, seconds(allowance.reset).into());
}
