use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use moka::future::Cache;
use parking_lot::Mutex;

use super::{ChangeLog, Standing};
use crate::domain::{SharedClock, Timestamp};

/// How long a value goes on after a refresh of it failed, and the refreshes of others after one found no database.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a request waits for the refresh of a value that may go on without it.
const REFRESH_WAIT: Duration = Duration::from_millis(250);
/// The same when the value is known to have changed: what goes on is not just old but wrong.
const CHANGED_WAIT: Duration = Duration::from_secs(2);
/// Loads under way before abandoned ones are looked for.
const PRUNE_FLIGHTS_AT: usize = 1024;

/// A value from the store and what it depends on.
pub struct Loaded<T, V> {
    pub value: V,
    pub depends_on: Box<[T]>,
}

/// What differs between caches.
pub struct Rules<E> {
    /// Entries held.
    pub capacity: u64,
    /// A value older than this is asked for again although no change was announced: the net below the notifications.
    pub refresh_after: Duration,
    /// Whether a held value goes on when its load failed with this error; the flag tells that it is known to have
    /// changed.
    pub outlives: fn(&E, bool) -> bool,
    /// The error of a load that took too long.
    pub late: fn() -> E,
}

/// Values of the store, held until something they depend on changes.
///
/// * Invalidated by [`ChangeLog`] marks, judged on every look-up, so that a load that races with a change leaves nothing
///   stale behind: after `changes().changed(t)` returned, no look-up that begins later is answered with what depended on `t`.
/// * Concurrent look-ups of one key share one load, and its error. Errors are not held.
/// * A value past `refresh_after` is asked for again by one look-up; the others go on with it meanwhile.
/// * Bounded: `capacity` entries (moka's `TinyLFU`), and as many loads as there are look-ups waiting.
pub struct FreshCache<K, T, V, E> {
    entries: Cache<K, Arc<Entry<T, V>>>,
    flights: Mutex<Flights<K, T, V, E>>,
    changes: ChangeLog<T>,
    clock: SharedClock,
    rules: Rules<E>,
    /// No refresh for age before this time (µs): the last one found the database away.
    next_refresh: AtomicI64,
}

struct Entry<T, V> {
    loaded: Loaded<T, V>,
    /// The latest generation in which the value was known to be true.
    seen: AtomicU64,
    /// When it wants to be asked for again (µs).
    refresh_at: AtomicI64,
}

type Flight<T, V, E> = Shared<BoxFuture<'static, Result<Arc<Entry<T, V>>, E>>>;
type WeakFlight<T, V, E> = WeakShared<BoxFuture<'static, Result<Arc<Entry<T, V>>, E>>>;

struct Flights<K, T, V, E> {
    /// By key: the generation noted before the load began, and the load. Weak, so that a load that nobody waits for any
    /// more is dropped.
    under_way: HashMap<K, (u64, WeakFlight<T, V, E>)>,
    prune_at: usize,
}

impl<K, T, V, E> FreshCache<K, T, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    #[must_use]
    pub fn new(clock: SharedClock, rules: Rules<E>) -> Self {
        Self {
            entries: Cache::builder().max_capacity(rules.capacity).build(),
            flights: Mutex::new(Flights { under_way: HashMap::new(), prune_at: PRUNE_FLIGHTS_AT }),
            changes: ChangeLog::new(),
            clock,
            rules,
            next_refresh: AtomicI64::new(i64::MIN),
        }
    }

    /// Where changes are reported to.
    pub const fn changes(&self) -> &ChangeLog<T> {
        &self.changes
    }

    /// The held value, if it needs no look at the database.
    pub async fn held(&self, key: &K) -> Option<V> {
        let entry = self.entries.get(key).await?;
        (self.standing(&entry) == Standing::Current && !entry.is_due(self.clock.now()))
            .then(|| entry.loaded.value.clone())
    }

    /// The value of `key`; `load` is run when it is not held, or no longer true.
    ///
    /// # Errors
    /// What `load` failed with, unless `Rules::outlives` lets the held value go on.
    pub async fn get<L, F>(&self, key: &K, load: L) -> Result<V, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Loaded<T, V>, E>> + Send + 'static,
    {
        let arrived = self.changes.generation();
        let Some(entry) = self.entries.get(key).await else {
            return self.load_once(key, arrived, load).await.map(|entry| entry.loaded.value.clone());
        };
        let standing = self.standing(&entry);
        let now = self.clock.now();
        if standing == Standing::Current && !self.takes_refresh(&entry, now) {
            return Ok(entry.loaded.value.clone());
        }
        match self.reload(key, arrived, standing == Standing::Changed, load).await {
            Ok(fresh) => Ok(fresh.loaded.value.clone()),
            Err(error) if (self.rules.outlives)(&error, standing == Standing::Changed) => {
                let retry = now.plus(RETRY_AFTER);
                entry.seen.fetch_max(arrived, Ordering::AcqRel);
                entry.refresh_at.store(retry.micros(), Ordering::Release);
                self.next_refresh.store(retry.micros(), Ordering::Release);
                Ok(entry.loaded.value.clone())
            }
            Err(error) => {
                self.entries.invalidate(key).await;
                Err(error)
            }
        }
    }

    /// Loads anew; waits briefly if there is something to go on with.
    async fn reload<L, F>(&self, key: &K, arrived: u64, changed: bool, load: L) -> Result<Arc<Entry<T, V>>, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Loaded<T, V>, E>> + Send + 'static,
    {
        let fresh = self.load_once(key, arrived, load);
        let late = (self.rules.late)();
        if (self.rules.outlives)(&late, changed) {
            let wait = if changed { CHANGED_WAIT } else { REFRESH_WAIT };
            tokio::time::timeout(wait, fresh).await.unwrap_or(Err(late))
        } else {
            fresh.await
        }
    }

    /// Joins the load of `key` that is under way, if it began late enough to see every change before `arrived`; else
    /// begins one.
    async fn load_once<L, F>(&self, key: &K, arrived: u64, load: L) -> Result<Arc<Entry<T, V>>, E>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Loaded<T, V>, E>> + Send + 'static,
    {
        let flight = {
            let mut flights = self.flights.lock();
            match flights.joinable(key, arrived) {
                Some(flight) => flight,
                None => {
                    let seen = self.changes.generation();
                    let flight = self.depart(key.clone(), seen, load());
                    flights.announce(key.clone(), seen, &flight);
                    flight
                }
            }
        };
        let result = flight.clone().await;
        self.flights.lock().land(key, &flight);
        result
    }

    fn depart<F>(&self, key: K, seen: u64, load: F) -> Flight<T, V, E>
    where
        F: Future<Output = Result<Loaded<T, V>, E>> + Send + 'static,
    {
        let entries = self.entries.clone();
        let clock = Arc::clone(&self.clock);
        let refresh_after = self.rules.refresh_after;
        async move {
            let loaded = load.await?;
            let entry = Arc::new(Entry {
                loaded,
                seen: AtomicU64::new(seen),
                refresh_at: AtomicI64::new(clock.now().plus(refresh_after).micros()),
            });
            entries.insert(key, Arc::clone(&entry)).await;
            Ok(entry)
        }
        .boxed()
        .shared()
    }

    fn standing(&self, entry: &Entry<T, V>) -> Standing {
        let generation = self.changes.generation();
        let seen = entry.seen.load(Ordering::Acquire);
        let standing = self.changes.standing(seen, &entry.loaded.depends_on);
        if standing == Standing::Current && seen < generation {
            entry.seen.fetch_max(generation, Ordering::AcqRel);
        }
        standing
    }

    /// True for the one look-up that is to ask again for a value past its time.
    fn takes_refresh(&self, entry: &Entry<T, V>, now: Timestamp) -> bool {
        let due = entry.refresh_at.load(Ordering::Acquire);
        // A lease, not a flag: when the look-up is cancelled, another takes over a second later.
        let lease = now.plus(RETRY_AFTER).micros();
        due <= now.micros()
            && self.next_refresh.load(Ordering::Acquire) <= now.micros()
            && entry.refresh_at.compare_exchange(due, lease, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl<T, V> Entry<T, V> {
    fn is_due(&self, now: Timestamp) -> bool {
        self.refresh_at.load(Ordering::Acquire) <= now.micros()
    }
}

impl<K: Hash + Eq, T, V, E: Clone> Flights<K, T, V, E> {
    fn joinable(&self, key: &K, arrived: u64) -> Option<Flight<T, V, E>> {
        let (seen, flight) = self.under_way.get(key)?;
        if *seen >= arrived { flight.upgrade() } else { None }
    }

    fn announce(&mut self, key: K, seen: u64, flight: &Flight<T, V, E>) {
        if self.under_way.len() >= self.prune_at {
            self.under_way.retain(|_, (_, flight)| flight.upgrade().is_some());
            self.prune_at = PRUNE_FLIGHTS_AT.max(2 * self.under_way.len());
        }
        if let Some(weak) = flight.downgrade() {
            self.under_way.insert(key, (seen, weak));
        }
    }

    /// Forgets a load that has ended, unless a later one has taken its place.
    fn land(&mut self, key: &K, flight: &Flight<T, V, E>) {
        let same = |weak: &WeakFlight<T, V, E>| weak.upgrade().is_some_and(|other| other.ptr_eq(flight));
        if self.under_way.get(key).is_some_and(|(_, weak)| same(weak)) {
            self.under_way.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::domain::ManualClock;

    type Numbers = FreshCache<u32, u32, u32, &'static str>;

    fn numbers() -> Arc<Numbers> {
        let clock = ManualClock::at(Timestamp::from_micros(0));
        let rules = Rules {
            capacity: 100,
            refresh_after: Duration::from_secs(60),
            outlives: |_, changed| !changed,
            late: || "late",
        };
        Arc::new(FreshCache::new(clock, rules))
    }

    async fn number(value: u32) -> Result<Loaded<u32, u32>, &'static str> {
        Ok(Loaded { value, depends_on: Box::new([value]) })
    }

    #[tokio::test]
    async fn errors_are_shared_but_not_held() {
        let numbers = numbers();
        assert_eq!(numbers.get(&1, || async { Err("no") }).await, Err("no"));
        assert_eq!(numbers.get(&1, || number(7)).await, Ok(7));
        assert_eq!(numbers.held(&1).await, Some(7));
    }

    #[tokio::test]
    async fn a_load_goes_on_when_the_look_up_that_began_it_is_cancelled() {
        let (numbers, gate) = (numbers(), Arc::new(Semaphore::new(0)));
        let load = {
            let gate = Arc::clone(&gate);
            || async move {
                gate.acquire().await.map_err(|_| "closed")?.forget();
                number(7).await
            }
        };
        let mut first = Box::pin(numbers.get(&1, load));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(numbers.get(&1, || async { Err("a second load began") }));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        gate.add_permits(1);
        assert_eq!(second.await, Ok(7));
        assert!(numbers.flights.lock().under_way.is_empty());
    }

    #[tokio::test]
    async fn abandoned_loads_are_dropped_and_swept() {
        let numbers = numbers();
        for key in 0..3 * u32::try_from(PRUNE_FLIGHTS_AT).unwrap() {
            let mut abandoned = Box::pin(numbers.get(&key, std::future::pending));
            assert!(futures_util::poll!(&mut abandoned).is_pending());
        }
        assert!(numbers.flights.lock().under_way.len() <= PRUNE_FLIGHTS_AT);
    }

    #[tokio::test]
    async fn what_a_change_made_untrue_is_not_held_any_more() {
        let numbers = numbers();
        numbers.get(&1, || number(7)).await.unwrap();
        numbers.get(&2, || number(8)).await.unwrap();
        numbers.changes().changed(7);
        assert_eq!(numbers.held(&1).await, None);
        assert_eq!(numbers.held(&2).await, Some(8));
        assert_eq!(numbers.get(&1, || async { Err("away") }).await, Err("away"));
        assert_eq!(numbers.get(&1, || number(9)).await, Ok(9));
    }
}
