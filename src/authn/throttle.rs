//! Guessing passwords is slow: failed log-ins are counted per account, per address and per both.
//!
//! An attempt counts as failed until it has succeeded, so that many at once are not more than many in a row. What is counted
//! is in the memory of the node; that an account is locked is in the database, for all nodes and beyond a restart.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::config::AuthConfig;
use crate::domain::{SharedClock, Timestamp};
use crate::store::{AccountHash, Store, StoreError};

/// Accounts and addresses that are remembered, about 64 bytes each; beyond it those with the fewest failures are forgotten.
const MOST: usize = 100_000;
/// The window of `logins_per_minute`.
const MINUTE: Duration = Duration::from_secs(60);
/// How soon a failure of an account, and one of an address, is forgotten.
const ACCOUNT_MEMORY: Duration = Duration::from_secs(3600);
const ADDRESS_MEMORY: Duration = Duration::from_secs(30);
/// Between an address's first wait and its being locked.
const ADDRESS_GRACE: u32 = 10;

/// A log-in that comes too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    pub retry_after: Duration,
    /// Log-ins a minute that may fail, for headers.
    pub per_minute: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    #[error("too many attempts to log in")]
    Throttled(Throttled),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An attempt to log in that may go on.
#[must_use = "an attempt that is not reported as succeeded stays counted as failed"]
pub struct Attempt {
    account: AccountHash,
    keys: [(Key, Rule); 3],
    /// Set when this is the attempt that locks the account, should it fail.
    locks_until: Option<Timestamp>,
}

/// Whom a count is about. Hashes: the table holds no address of anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key([u8; 16]);

impl Key {
    fn of(kind: &str, parts: [&[u8]; 2]) -> Self {
        let mut hash = Sha256::new_with_prefix(kind);
        for part in parts {
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(key)
    }
}

/// How failures are paid for.
#[derive(Clone, Copy)]
struct Rule {
    /// Failures without a wait.
    free: u32,
    /// Failures that lock.
    locks_at: u32,
    lock: Duration,
    /// How soon one failure is forgotten.
    memory: Duration,
}

impl Rule {
    /// How long nothing is tried after `failures`: from `free` on one second, doubled by each further one.
    fn wait(&self, failures: u32) -> Option<Duration> {
        if failures >= self.locks_at {
            Some(self.lock)
        } else if failures >= self.free {
            let doublings = (failures - self.free).min(20);
            Some(Duration::from_secs(1 << doublings).min(self.lock))
        } else {
            None
        }
    }
}

#[derive(Clone, Copy)]
struct Count {
    failures: u32,
    /// Since when the next failure to be forgotten has been fading.
    since: Timestamp,
    /// None: nobody has to wait, however the clocks of attempts that came at once stand to each other.
    open_at: Option<Timestamp>,
}

impl Count {
    fn faded(self, rule: Rule, now: Timestamp) -> Self {
        let micros = now.micros().saturating_sub(self.since.micros()).max(0).unsigned_abs();
        let memory = u64::try_from(rule.memory.as_micros()).unwrap_or(u64::MAX).max(1);
        let forgotten = u32::try_from(micros / memory).unwrap_or(u32::MAX);
        let since = self.since.plus(rule.memory.saturating_mul(forgotten)).min(now);
        Self { failures: self.failures.saturating_sub(forgotten), since, ..self }
    }
}

/// Counts failed log-ins.
pub struct LoginThrottle {
    store: Store,
    clock: SharedClock,
    counts: Mutex<HashMap<Key, Count>>,
    account: Rule,
    address: Rule,
    pair: Rule,
    per_minute: u32,
}

impl LoginThrottle {
    #[must_use]
    pub fn new(config: &AuthConfig, store: Store, clock: SharedClock) -> Self {
        let lock = config.lockout.get();
        let account = Rule {
            free: config.lockout_failures.div_ceil(2),
            locks_at: config.lockout_failures,
            lock,
            memory: ACCOUNT_MEMORY,
        };
        let per_address = match config.failures_per_address {
            0 => u32::MAX,
            failures => failures,
        };
        let address = Rule {
            free: per_address,
            locks_at: per_address.saturating_add(ADDRESS_GRACE),
            lock,
            memory: ADDRESS_MEMORY,
        };
        let interval = MINUTE / config.logins_per_minute.max(1);
        let pair = Rule { free: u32::MAX, locks_at: config.logins_per_minute, lock: interval, memory: interval };
        let per_minute = config.logins_per_minute;
        Self { store, clock, counts: Mutex::default(), account, address, pair, per_minute }
    }

    /// Lets an attempt to log in as `email` from `ip` through, or says when to come back. The same for addresses with and
    /// without an account.
    ///
    /// # Errors
    /// [`ThrottleError`].
    pub async fn admit(&self, email: &str, ip: Option<&str>) -> Result<Attempt, ThrottleError> {
        let account = account_hash(email);
        let now = self.clock.now();
        if let Some(until) = self.store.login_lockout(&account).await? {
            return Err(self.throttled(between(now, until)));
        }
        let keys = self.keys(&account, ip);
        let failures = self.count(&keys, now).map_err(|wait| self.throttled(wait))?;
        let locks_until = (failures >= self.account.locks_at).then(|| now.plus(self.account.lock));
        Ok(Attempt { account, keys, locks_until })
    }

    /// The password was right: nothing is held against the account any more, and the attempt not against the address.
    pub fn succeeded(&self, attempt: &Attempt) {
        self.take_back(attempt, true);
    }

    /// The password was not looked at.
    pub fn withdraw(&self, attempt: &Attempt) {
        self.take_back(attempt, false);
    }

    fn take_back(&self, attempt: &Attempt, forgive_account: bool) {
        let mut counts = self.counts.lock();
        for (i, (key, rule)) in attempt.keys.iter().enumerate() {
            let Some(count) = counts.get_mut(key) else { continue };
            count.failures = if i == 0 && forgive_account { 0 } else { count.failures.saturating_sub(1) };
            count.open_at = rule.wait(count.failures).map(|wait| count.since.plus(wait));
            if count.failures == 0 {
                counts.remove(key);
            }
        }
    }

    /// The password was wrong, or there is no such account.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the account cannot be locked everywhere; on this node it is.
    pub async fn failed(&self, attempt: &Attempt) -> Result<(), StoreError> {
        match attempt.locks_until {
            Some(until) => self.store.lock_login(&attempt.account, until).await,
            None => Ok(()),
        }
    }

    /// Ends the lock of an account, whose owner has proved from `ip` to be its owner in another way.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn forgive(&self, email: &str, ip: Option<&str>) -> Result<(), StoreError> {
        let account = account_hash(email);
        let [of_account, of_both, _] = self.keys(&account, ip);
        {
            let mut counts = self.counts.lock();
            counts.remove(&of_account.0);
            counts.remove(&of_both.0);
        }
        self.store.unlock_login(&account).await
    }

    /// The account first, the account from this address next.
    fn keys(&self, account: &AccountHash, ip: Option<&str>) -> [(Key, Rule); 3] {
        let network = ip.map(network).unwrap_or_default();
        [
            (Key::of("account", [account, &[]]), self.account),
            (Key::of("both", [account, &network]), self.pair),
            (Key::of("address", [&network, &[]]), self.address),
        ]
    }

    fn throttled(&self, retry_after: Duration) -> ThrottleError {
        ThrottleError::Throttled(Throttled { retry_after, per_minute: self.per_minute })
    }

    /// Counts one failure against all of `keys`, or against none when one has to wait: then for how long. Returns the
    /// failures of the first.
    fn count(&self, keys: &[(Key, Rule)], now: Timestamp) -> Result<u32, Duration> {
        let mut counts = self.counts.lock();
        let opens = keys.iter().filter_map(|(key, _)| counts.get(key)?.open_at);
        let waits = opens.map(|open_at| between(now, open_at));
        if let Some(wait) = waits.max().filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if counts.len() + keys.len() > MOST {
            forget_half(&mut counts);
        }
        let mut first = None;
        for (key, rule) in keys {
            let count = counts.entry(*key).or_insert(Count { failures: 0, since: now, open_at: None });
            *count = count.faded(*rule, now);
            if count.failures == 0 {
                count.since = now;
            }
            count.failures = count.failures.saturating_add(1);
            count.open_at = rule.wait(count.failures).map(|wait| now.plus(wait));
            first.get_or_insert(count.failures);
        }
        Ok(first.unwrap_or_default())
    }
}

/// Forgets the half with the fewest failures: who makes up accounts to fill the table loses those first.
fn forget_half(counts: &mut HashMap<Key, Count>) {
    let mut all: Vec<(u32, Key)> = counts.iter().map(|(key, count)| (count.failures, *key)).collect();
    all.sort_unstable();
    for (_, key) in all.iter().take(all.len().div_ceil(2)) {
        counts.remove(key);
    }
}

fn between(now: Timestamp, later: Timestamp) -> Duration {
    Duration::from_micros(later.micros().saturating_sub(now.micros()).max(0).unsigned_abs())
}

/// As the store compares addresses: without case and surrounding space.
fn account_hash(email: &str) -> AccountHash {
    Sha256::digest(email.trim().to_lowercase().as_bytes()).into()
}

/// The part of an address that one customer of a provider has: all of IPv4, the first 64 bits of IPv6.
fn network(ip: &str) -> Vec<u8> {
    match ip.parse() {
        Ok(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Ok(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.octets().to_vec(),
            None => ip.octets().into_iter().take(8).collect(),
        },
        Err(_) => ip.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::DatabaseConfig;
    use crate::domain::{Clock as _, ManualClock};

    const HERE: Option<&str> = Some("192.0.2.1");
    const SECOND: Duration = Duration::from_secs(1);

    struct World {
        throttle: LoginThrottle,
        clock: Arc<ManualClock>,
        store: Store,
    }

    async fn world(change: impl FnOnce(&mut AuthConfig)) -> World {
        let clock = ManualClock::at(Timestamp::from_micros(1_772_366_400_000_000));
        let database = DatabaseConfig { url: "sqlite::memory:".into(), ..DatabaseConfig::default() };
        let store = Store::connect(&database, clock.clone()).await.unwrap();
        let mut config = AuthConfig::default();
        change(&mut config);
        World { throttle: LoginThrottle::new(&config, store.clone(), clock.clone()), clock, store }
    }

    impl World {
        async fn wait(&self, email: &str, ip: Option<&str>) -> Duration {
            match self.throttle.admit(email, ip).await {
                Err(ThrottleError::Throttled(throttled)) => throttled.retry_after,
                Err(error) => panic!("{error}"),
                Ok(attempt) => {
                    self.throttle.failed(&attempt).await.unwrap();
                    Duration::ZERO
                }
            }
        }
    }

    #[tokio::test]
    async fn attempts_at_once_do_not_wait_for_each_other_whoever_read_the_clock_first() {
        let World { throttle, clock, .. } = world(|_| {}).await;
        let earlier = clock.now();
        let keys = throttle.keys(&account_hash("a@acme.com"), HERE);
        assert_eq!(throttle.count(&keys, earlier.plus(SECOND)), Ok(1));
        assert_eq!(throttle.count(&keys, earlier), Ok(2));
    }

    #[tokio::test]
    async fn five_failures_a_minute_from_one_address_and_then_one_each_twelve_seconds() {
        let world = world(|config| config.lockout_failures = 1000).await;
        for _ in 0..5 {
            assert_eq!(world.wait("a@acme.com", HERE).await, Duration::ZERO);
        }
        assert_eq!(world.wait(" A@acme.com", HERE).await, 12 * SECOND);
        assert_eq!(world.wait("a@acme.com", Some("192.0.2.2")).await, Duration::ZERO, "another address");
        assert_eq!(world.wait("b@acme.com", HERE).await, Duration::ZERO, "another account");
        world.clock.advance(12 * SECOND);
        assert_eq!(world.wait("a@acme.com", HERE).await, Duration::ZERO);
        assert_eq!(world.wait("a@acme.com", HERE).await, 12 * SECOND);
        world.clock.advance(MINUTE);
        for _ in 0..5 {
            assert_eq!(world.wait("a@acme.com", HERE).await, Duration::ZERO);
        }
    }

    #[tokio::test]
    async fn the_waits_of_an_account_double_and_the_tenth_failure_locks_it_wherever_it_comes_from() {
        let world = world(|_| {}).await;
        let mut waits = Vec::new();
        for i in 0..10 {
            let ip = format!("192.0.2.{i}");
            let wait = world.wait("a@acme.com", Some(&ip)).await;
            if !wait.is_zero() {
                world.clock.advance(wait);
                assert_eq!(world.wait("a@acme.com", Some(&ip)).await, Duration::ZERO);
            }
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16]);
        let lock = 30 * 60;
        assert_eq!(world.wait("a@acme.com", Some("198.51.100.7")).await.as_secs(), lock);
        // A node that has just started knows of it.
        let config = AuthConfig::default();
        let other = LoginThrottle::new(&config, world.store.clone(), world.clock.clone());
        assert!(
            matches!(other.admit("a@acme.com", HERE).await, Err(ThrottleError::Throttled(t)) if t.retry_after.as_secs() == lock)
        );
        world.clock.advance(Duration::from_secs(lock));
        assert_eq!(world.wait("a@acme.com", HERE).await, Duration::ZERO);
        assert_eq!(world.wait("a@acme.com", Some("192.0.2.99")).await.as_secs(), lock, "once more locks again");
        world.throttle.forgive("A@acme.com", None).await.unwrap();
        assert_eq!(world.wait("a@acme.com", Some("192.0.2.99")).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn a_success_clears_the_account_and_does_not_count() {
        let world = world(|_| {}).await;
        for _ in 0..100 {
            let attempt = world.throttle.admit("a@acme.com", HERE).await.unwrap();
            world.throttle.succeeded(&attempt);
        }
        assert!(world.throttle.counts.lock().is_empty());
        for _ in 0..4 {
            assert_eq!(world.wait("a@acme.com", Some("192.0.2.2")).await, Duration::ZERO);
        }
        let attempt = world.throttle.admit("a@acme.com", HERE).await.unwrap();
        world.throttle.succeeded(&attempt);
        for _ in 0..4 {
            assert_eq!(world.wait("a@acme.com", HERE).await, Duration::ZERO, "the account begins anew");
        }
    }

    #[tokio::test]
    async fn many_attempts_at_once_are_no_more_than_many_in_a_row() {
        let world = world(|_| {}).await;
        let mut under_way = Vec::new();
        for i in 0..50 {
            under_way.extend(world.throttle.admit("a@acme.com", Some(&format!("192.0.2.{i}"))).await);
        }
        assert_eq!(under_way.len(), 5);
    }

    #[tokio::test]
    async fn an_address_that_tries_many_accounts_has_to_wait() {
        let world = world(|_| {}).await;
        for i in 0..30 {
            assert_eq!(world.wait(&format!("{i}@acme.com"), Some("2001:db8::1")).await, Duration::ZERO);
        }
        assert_eq!(world.wait("x@acme.com", Some("2001:db8::2")).await, SECOND, "of the same network");
        assert_eq!(world.wait("x@acme.com", Some("2001:db8:0:1::1")).await, Duration::ZERO);
        assert_eq!(world.wait("y@acme.com", None).await, Duration::ZERO);
        world.clock.advance(ADDRESS_MEMORY);
        assert_eq!(world.wait("x@acme.com", Some("2001:db8::2")).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn addresses_are_not_counted_where_a_proxy_hides_them() {
        let world = world(|config| config.failures_per_address = 0).await;
        for i in 0..200 {
            assert_eq!(world.wait(&format!("{i}@acme.com"), HERE).await, Duration::ZERO);
        }
    }

    #[tokio::test]
    async fn the_table_is_bounded_and_forgets_the_least_guilty() {
        let world = world(|_| {}).await;
        for _ in 0..4 {
            assert_eq!(world.wait("guessed@acme.com", None).await, Duration::ZERO);
        }
        let now = world.clock.now();
        for i in 0..MOST {
            let key = Key::of("account", [&i.to_be_bytes(), &[]]);
            let _ = world.throttle.count(&[(key, world.throttle.account)], now);
        }
        let counts = world.throttle.counts.lock();
        assert!(counts.len() <= MOST, "{}", counts.len());
        let guessed = Key::of("account", [&account_hash("guessed@acme.com"), &[]]);
        assert_eq!(counts.get(&guessed).map(|count| count.failures), Some(4));
    }
}
