use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::domain::{Clock as _, ManualClock};

/// A database of keys that can be slow or away.
#[derive(Clone)]
struct Database(Arc<Inner>);

struct Inner {
    keys: Mutex<HashMap<KeyHash, ResolvedKey>>,
    away: AtomicBool,
    queries: AtomicUsize,
    /// An answer takes a permit and gives it back: none means that answers wait, with what was read when they were asked.
    answers: Semaphore,
}

impl KeySource for Database {
    fn resolve(&self, hash: KeyHash) -> impl Future<Output = Result<Option<ResolvedKey>, StoreError>> + Send + 'static {
        let inner = Arc::clone(&self.0);
        async move {
            let read = inner.keys.lock().get(&hash).cloned();
            inner.queries.fetch_add(1, Ordering::SeqCst);
            let _permit = inner.answers.acquire().await.unwrap();
            if inner.away.load(Ordering::SeqCst) {
                return Err(StoreError::Unavailable("away".to_owned()));
            }
            Ok(read)
        }
    }
}

impl Database {
    fn insert(&self, key: &ApiKeySecret, org: OrgId) {
        let resolved = ResolvedKey {
            scope: TenantScope::for_tests(org),
            key_id: ApiKeyId::new(),
            workspace_id: WorkspaceId::new(),
            scopes: vec!["process".to_owned()],
            rate_limit_per_minute: None,
            expires_at: None,
            key_active: true,
            workspace_active: true,
            org_active: true,
            config: crate::domain::WorkspaceConfig::default(),
            monthly_request_limit: None,
            counted: (Month::default(), 0),
        };
        self.0.keys.lock().insert(key.hash(), resolved);
    }

    fn change(&self, key: &ApiKeySecret, change: impl FnOnce(&mut ResolvedKey)) {
        change(self.0.keys.lock().get_mut(&key.hash()).unwrap());
    }

    fn queries(&self) -> usize {
        self.0.queries.load(Ordering::SeqCst)
    }

    fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
    }
}

struct World {
    database: Database,
    clock: Arc<ManualClock>,
    keys: Arc<Keys<Database>>,
    key: ApiKeySecret,
    org: OrgId,
}

impl World {
    /// One good key in the database, nothing in the cache.
    fn new() -> Self {
        let database = Database(Arc::new(Inner {
            keys: Mutex::default(),
            away: AtomicBool::new(false),
            queries: AtomicUsize::new(0),
            answers: Semaphore::new(1000),
        }));
        let clock = ManualClock::at(Timestamp::from_micros(1_000_000_000));
        let keys = Arc::new(Keys::new(database.clone(), clock.clone(), &Metrics::new()));
        let (key, org) = (ApiKeySecret::generate(true), OrgId::new());
        database.insert(&key, org);
        Self { database, clock, keys, key, org }
    }

    async fn ask(&self) -> Result<Arc<Caller>, AuthError> {
        self.keys.authenticate(self.key.expose(), KeyScope::Process).await
    }

    async fn is_refused(&self) -> bool {
        matches!(self.ask().await, Err(AuthError::Invalid))
    }

    fn key_changed(&self) -> Change {
        Change::ApiKey { org: self.org, hash: self.key.hash() }
    }
}

#[tokio::test]
async fn a_held_key_asks_the_database_once() {
    let world = World::new();
    for _ in 0..5 {
        assert_eq!(world.ask().await.unwrap().org_id, world.org);
    }
    assert_eq!(world.database.queries(), 1);
}

#[tokio::test]
async fn a_malformed_key_is_refused_without_a_look_up() {
    let world = World::new();
    for presented in ["", "snt_live_", "sk-abc", &format!("{}x", world.key.expose())] {
        let answer = world.keys.authenticate(presented, KeyScope::Process).await;
        assert!(matches!(answer, Err(AuthError::Invalid)), "{presented}");
    }
    assert_eq!(world.database.queries(), 0);
}

#[tokio::test]
async fn a_revoked_key_is_refused_on_the_next_request() {
    let world = World::new();
    world.ask().await.unwrap();
    world.database.change(&world.key, |key| key.key_active = false);
    world.keys.forget(&world.key_changed());
    assert!(world.is_refused().await);
    assert!(world.is_refused().await);
    assert_eq!(world.database.queries(), 2, "the refusal is held as well");
}

#[tokio::test]
async fn a_suspended_organization_refuses_all_its_keys() {
    let world = World::new();
    world.ask().await.unwrap();
    world.database.change(&world.key, |key| key.org_active = false);
    world.keys.forget(&Change::Organization { org: OrgId::new() });
    world.ask().await.unwrap();
    world.keys.forget(&Change::Organization { org: world.org });
    assert!(world.is_refused().await);
}

#[tokio::test]
async fn a_look_up_that_races_with_a_revocation_leaves_nothing_behind() {
    let world = World::new();
    let held_back = world.database.0.answers.acquire_many(1000).await.unwrap();
    let early = tokio::spawn({
        let (keys, key) = (Arc::clone(&world.keys), world.key.clone());
        async move { keys.authenticate(key.expose(), KeyScope::Process).await }
    });
    while world.database.queries() == 0 {
        tokio::task::yield_now().await;
    }
    // The row has been read; now the key is revoked, and the commit returns.
    world.database.change(&world.key, |key| key.key_active = false);
    world.keys.forget(&world.key_changed());
    // A request that begins now must not share the answer under way.
    let late = tokio::spawn({
        let (keys, key) = (Arc::clone(&world.keys), world.key.clone());
        async move { keys.authenticate(key.expose(), KeyScope::Process).await }
    });
    while world.database.queries() == 1 {
        tokio::task::yield_now().await;
    }
    drop(held_back);
    early.await.unwrap().unwrap();
    assert!(matches!(late.await.unwrap(), Err(AuthError::Invalid)));
    assert!(world.is_refused().await);
}

#[tokio::test]
async fn requests_that_miss_at_once_share_one_look_up() {
    let world = World::new();
    let held_back = world.database.0.answers.acquire_many(1000).await.unwrap();
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let (keys, key) = (Arc::clone(&world.keys), world.key.clone());
            tokio::spawn(async move { keys.authenticate(key.expose(), KeyScope::Process).await })
        })
        .collect();
    while world.database.queries() == 0 {
        tokio::task::yield_now().await;
    }
    drop(held_back);
    for answer in asking {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(world.database.queries(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_remembered_briefly_and_until_it_is_made() {
    let world = World::new();
    let unknown = ApiKeySecret::generate(true);
    let ask = || world.keys.authenticate(unknown.expose(), KeyScope::Process);
    assert!(matches!(ask().await, Err(AuthError::Invalid)));
    assert!(matches!(ask().await, Err(AuthError::Invalid)));
    assert_eq!(world.database.queries(), 1);

    world.clock.advance(UNKNOWN_TTL);
    assert!(matches!(ask().await, Err(AuthError::Invalid)));
    assert_eq!(world.database.queries(), 2);

    world.database.insert(&unknown, world.org);
    world.keys.forget(&Change::ApiKey { org: world.org, hash: unknown.hash() });
    ask().await.unwrap();
}

#[tokio::test]
async fn unknown_keys_do_not_take_the_room_of_good_ones() {
    let world = World::new();
    world.ask().await.unwrap();
    for _ in 0..200 {
        let flood = ApiKeySecret::generate(false);
        assert!(world.keys.authenticate(flood.expose(), KeyScope::Process).await.is_err());
        assert!(world.keys.known.held(&flood.hash()).await.is_none());
    }
    let queries = world.database.queries();
    world.ask().await.unwrap();
    assert_eq!(world.database.queries(), queries);
}

#[tokio::test]
async fn a_key_expires_by_the_clock_although_it_is_held() {
    let world = World::new();
    let expires_at = world.clock.now().plus(Duration::from_secs(30));
    world.database.change(&world.key, |key| key.expires_at = Some(expires_at));
    world.ask().await.unwrap();
    world.clock.advance(Duration::from_secs(29));
    world.ask().await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert!(world.is_refused().await);
    assert_eq!(world.database.queries(), 1);
}

#[tokio::test]
async fn a_key_serves_only_the_scopes_it_has() {
    let world = World::new();
    let answer = world.keys.authenticate(world.key.expose(), KeyScope::Metrics).await;
    assert!(matches!(answer, Err(AuthError::Scope("metrics"))));
}

#[tokio::test]
async fn a_change_that_was_not_announced_is_noticed_after_a_minute() {
    let world = World::new();
    world.ask().await.unwrap();
    world.database.change(&world.key, |key| key.key_active = false);
    world.ask().await.unwrap();
    world.clock.advance(REFRESH_AFTER);
    assert!(world.is_refused().await);
}

#[tokio::test]
async fn a_key_deleted_unannounced_is_refused_after_a_minute() {
    let world = World::new();
    world.ask().await.unwrap();
    world.database.0.keys.lock().clear();
    world.clock.advance(REFRESH_AFTER);
    assert!(world.is_refused().await);
    assert!(world.is_refused().await);
}

#[tokio::test]
async fn held_keys_go_on_while_the_database_is_away() {
    let world = World::new();
    world.ask().await.unwrap();
    world.database.set_away(true);
    for _ in 0..5 {
        world.clock.advance(REFRESH_AFTER);
        world.ask().await.unwrap();
        world.ask().await.unwrap();
    }
    assert_eq!(world.database.queries(), 6, "one attempt for each time it was due");
    // Missed notifications are a reason to ask, not to refuse.
    world.keys.forget(&Change::Everything);
    world.ask().await.unwrap();

    world.database.set_away(false);
    world.database.change(&world.key, |key| key.key_active = false);
    world.keys.forget(&Change::Everything);
    assert!(world.is_refused().await);
}

#[tokio::test]
async fn a_key_known_to_have_changed_needs_the_database() {
    let world = World::new();
    world.ask().await.unwrap();
    world.database.set_away(true);
    world.keys.forget(&world.key_changed());
    assert!(matches!(world.ask().await, Err(AuthError::Store(StoreError::Unavailable(_)))));
    world.keys.forget(&Change::Everything);
    assert!(matches!(world.ask().await, Err(AuthError::Store(StoreError::Unavailable(_)))));
    world.database.set_away(false);
    world.ask().await.unwrap();
}

/// Real time is paused: the wait for a database that does not answer costs the test nothing.
#[tokio::test(start_paused = true)]
async fn a_database_that_hangs_holds_no_held_key_up_for_long() {
    let world = World::new();
    world.ask().await.unwrap();
    let _hangs = world.database.0.answers.acquire_many(1000).await.unwrap();
    world.clock.advance(REFRESH_AFTER);
    let begun = tokio::time::Instant::now();
    world.ask().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(250));
    world.ask().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(250), "the next one does not wait again");
}

#[tokio::test]
async fn the_last_use_of_a_key_is_collected() {
    let world = World::new();
    let caller = world.ask().await.unwrap();
    world.clock.advance(Duration::from_secs(2));
    world.ask().await.unwrap();
    assert_eq!(world.keys.usage.take(), [(caller.key_id, world.org, world.clock.now())]);
    assert_eq!(world.keys.usage.take(), []);
}
