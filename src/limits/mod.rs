//! Stage 2: may it come in. Requests a minute per key, requests a month per organization.

mod monthly;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::{ApiKeyId, Timestamp};

pub use monthly::{MonthlyUsage, QuotaExceeded, Unwritten};

const MINUTE_NS: u128 = 60_000_000_000;
/// Enough that two cores seldom want the same lock.
const SHARDS: usize = 64;
/// Keys in a shard before it is swept for the first time.
const SWEEP_AT: usize = 64;

/// A request that came too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// After this long a request is admitted, if none comes before it.
    pub retry_after: Duration,
}

/// What is left of a limit, for headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Requests a minute.
    pub limit: u32,
    /// Requests that would be admitted right now.
    pub remaining: u32,
    /// Until all of `limit` would be.
    pub reset: Duration,
}

/// Requests a minute, by the generic cell rate algorithm: one number per key, no window edges.
///
/// Memory: about 40 bytes for every key used in the last minute; a key that could again use all of its limit is
/// forgotten when its shard has doubled.
pub struct RateLimiter<K = ApiKeyId> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K>>]>,
}

struct Shard<K> {
    /// By key, when its limit is whole again (ns since 1970): the algorithm's "theoretical arrival time".
    whole_at: HashMap<K, u128>,
    sweep_at: usize,
}

impl<K: Copy + Eq + Hash> RateLimiter<K> {
    #[must_use]
    pub fn new() -> Self {
        let shard = || Mutex::new(Shard { whole_at: HashMap::new(), sweep_at: SWEEP_AT });
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Counts one request of `key` at `now` against `per_minute` (a burst of the whole minute's worth is allowed). A
    /// limit of 0 admits nothing.
    ///
    /// # Errors
    /// [`TooMany`] when the limit is used up; such a request is not counted.
    pub fn admit(&self, key: K, per_minute: u32, now: Timestamp) -> Result<Allowance, TooMany> {
        let now = u128::try_from(now.micros()).unwrap_or(0) * 1000;
        let shard = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        let Some(shard) = self.shards.get(shard) else {
            unreachable!("a remainder is smaller than its divisor");
        };
        let mut shard = shard.lock();
        let (whole_at, allowance) = decide(shard.whole_at.get(&key).copied(), per_minute, now)?;
        if shard.whole_at.len() >= shard.sweep_at && !shard.whole_at.contains_key(&key) {
            shard.whole_at.retain(|_, whole_at| *whole_at > now);
            shard.whole_at.shrink_to(SWEEP_AT);
            shard.sweep_at = SWEEP_AT.max(2 * shard.whole_at.len());
        }
        shard.whole_at.insert(key, whole_at);
        Ok(allowance)
    }
}

impl<K: Copy + Eq + Hash> Default for RateLimiter<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// The algorithm: every request moves the time at which the limit is whole again by one interval, and is admitted as long
/// as that time is at most `limit` intervals away. Nanoseconds.
fn decide(whole_at: Option<u128>, limit: u32, now: u128) -> Result<(u128, Allowance), TooMany> {
    if limit == 0 {
        return Err(TooMany { retry_after: Duration::from_secs(60) });
    }
    let interval = MINUTE_NS / u128::from(limit);
    let burst = interval * u128::from(limit);
    // More than a minute away: the clock was set back, and waiting for it to catch up would lock the key out.
    let whole_at = whole_at.filter(|whole_at| *whole_at <= now + MINUTE_NS).unwrap_or(now);
    let before = whole_at.clamp(now, now + burst);
    let after = before + interval;
    if after > now + burst {
        return Err(TooMany { retry_after: nanos(after - burst - now) });
    }
    let remaining = (burst - (after - now)) / interval;
    let remaining = u32::try_from(remaining).unwrap_or(limit);
    Ok((after, Allowance { limit, remaining, reset: nanos(after - now) }))
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    const START: i64 = 1_700_000_000_000_000;

    #[test]
    fn a_whole_minutes_worth_may_come_at_once_and_then_one_at_a_time() {
        let (limiter, key) = (RateLimiter::new(), ApiKeyId::new());
        let at = |seconds: i64| Timestamp::from_micros(START + seconds * 1_000_000);
        for left in (0..6).rev() {
            assert_eq!(limiter.admit(key, 6, at(0)).unwrap().remaining, left);
        }
        assert_eq!(limiter.admit(key, 6, at(0)), Err(TooMany { retry_after: Duration::from_secs(10) }));
        assert_eq!(limiter.admit(key, 6, at(9)), Err(TooMany { retry_after: Duration::from_secs(1) }));
        let allowance = limiter.admit(key, 6, at(10)).unwrap();
        assert_eq!(allowance, Allowance { limit: 6, remaining: 0, reset: Duration::from_secs(60) });
        assert!(limiter.admit(key, 6, at(11)).is_err());
        assert_eq!(limiter.admit(key, 6, at(80)).unwrap().remaining, 5, "whole again after a minute's silence");
    }

    #[test]
    fn keys_have_limits_of_their_own_and_zero_admits_nothing() {
        let (limiter, now) = (RateLimiter::new(), Timestamp::from_micros(START));
        let key = ApiKeyId::new();
        limiter.admit(key, 1, now).unwrap();
        assert!(limiter.admit(key, 1, now).is_err());
        assert!(limiter.admit(ApiKeyId::new(), 1, now).is_ok());
        assert!(limiter.admit(ApiKeyId::new(), 0, now).is_err());
    }

    #[test]
    fn a_clock_set_back_by_a_year_locks_nobody_out() {
        let (limiter, key) = (RateLimiter::new(), ApiKeyId::new());
        let now = Timestamp::from_micros(START);
        limiter.admit(key, 60, now).unwrap();
        let earlier = now.minus(Duration::from_secs(365 * 86_400));
        assert_eq!(limiter.admit(key, 60, earlier).unwrap().remaining, 59);
        assert_eq!(limiter.admit(key, 60, earlier).unwrap().remaining, 58);
    }

    #[test]
    fn a_lowered_limit_holds_from_the_next_request() {
        let (limiter, key) = (RateLimiter::new(), ApiKeyId::new());
        let now = Timestamp::from_micros(START);
        for _ in 0..600 {
            limiter.admit(key, 600, now).unwrap();
        }
        assert_eq!(limiter.admit(key, 6, now), Err(TooMany { retry_after: Duration::from_secs(10) }));
    }

    #[test]
    fn keys_that_fell_silent_are_forgotten() {
        let limiter = RateLimiter::new();
        let held = || limiter.shards.iter().map(|shard| shard.lock().whole_at.len()).sum::<usize>();
        for step in 0..100_000 {
            // 1000 keys a second, each silent for good and whole again after a second.
            let now = Timestamp::from_micros(START + step * 1000);
            limiter.admit(ApiKeyId::new(), 60, now).unwrap();
        }
        assert!(held() < 3 * SHARDS * SWEEP_AT, "{} of 100000 keys are held", held());
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        /// In any stretch of time no more than one burst and the rate times the stretch is admitted, and whoever waits as
        /// long as told is admitted.
        #[test]
        fn the_rate_holds_over_every_stretch(
            limit in 1u32..5000,
            gaps in prop::collection::vec(0u64..200_000_000, 1..300),
        ) {
            let interval = MINUTE_NS / u128::from(limit);
            let mut now = 1_700_000_000_000_000_000u128;
            let (begun, mut admitted, mut whole_at) = (now, 0u128, None);
            for gap in gaps {
                now += u128::from(gap);
                match decide(whole_at, limit, now) {
                    Ok((next, allowance)) => {
                        whole_at = Some(next);
                        admitted += 1;
                        prop_assert!(allowance.remaining < limit);
                        prop_assert!(allowance.reset <= Duration::from_secs(60));
                    }
                    Err(refused) => {
                        prop_assert!(decide(whole_at, limit, now + refused.retry_after.as_nanos()).is_ok());
                        prop_assert!(decide(whole_at, limit, now + refused.retry_after.as_nanos() - 1).is_err());
                    }
                }
                prop_assert!(admitted <= u128::from(limit) + (now - begun) / interval);
            }
        }

        /// What `remaining` promises is kept, to the request.
        #[test]
        fn remaining_is_what_would_be_admitted_now(limit in 1u32..500, used in 0u32..500, gap in 0u64..60_000_000_000) {
            let mut now = 1_700_000_000_000_000_000u128;
            let mut whole_at = None;
            for _ in 0..used {
                if let Ok((next, _)) = decide(whole_at, limit, now) {
                    whole_at = Some(next);
                }
            }
            now += u128::from(gap);
            if let Ok((next, allowance)) = decide(whole_at, limit, now) {
                whole_at = Some(next);
                let mut more = 0;
                while let Ok((next, _)) = decide(whole_at, limit, now) {
                    whole_at = Some(next);
                    more += 1;
                }
                prop_assert_eq!(more, allowance.remaining);
            }
        }

        #[test]
        fn a_steady_pace_at_the_limit_is_never_refused(limit in 1u32..100_000, requests in 1usize..300) {
            let pace = MINUTE_NS.div_ceil(u128::from(limit));
            let mut now = 1_700_000_000_000_000_000u128;
            let mut whole_at = None;
            for _ in 0..requests {
                let (next, _) = decide(whole_at, limit, now).unwrap();
                whole_at = Some(next);
                now += pace;
            }
        }
    }
}
