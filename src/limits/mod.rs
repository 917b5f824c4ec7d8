//! Stage 2: may it come in. Requests a minute per key.

use std::time::Duration;

use crate::domain::{ApiKeyId, Timestamp};

/// A request that came too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    pub retry_after: Duration,
}

/// What is left of a limit, for headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub limit: u32,
    pub remaining: u32,
    pub reset: Duration,
}

/// Requests a minute, by the generic cell rate algorithm: one number per key, no window edges.
#[derive(Default)]
pub struct RateLimiter {}

impl RateLimiter {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one request of `key` at `now` against `per_minute` (a burst of the whole minute's worth is allowed).
    ///
    /// # Errors
    /// [`TooMany`] when the limit is used up.
    pub fn admit(&self, _key: ApiKeyId, _per_minute: u32, _now: Timestamp) -> Result<Allowance, TooMany> {
        todo!()
    }
}
