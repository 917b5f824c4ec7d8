use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use prometheus::IntCounter;

use super::key::ApiKeySecret;
use super::key_usage::{KeyUsage, Usage};
use crate::cache::{FreshCache, Loaded, Rules, Standing};
use crate::domain::{ApiKeyId, Month, OrgId, SharedClock, Timestamp, WorkspaceConfig, WorkspaceId};
use crate::store::{Change, KeyHash, ResolvedKey, Store, StoreError, TenantScope};
use crate::telemetry::Metrics;

/// Known keys held; one takes about 400 bytes.
const CAPACITY: u64 = 50_000;
/// Unknown keys held, apart from the known ones so that a flood of them evicts none.
const UNKNOWN_CAPACITY: u64 = 10_000;
/// How long a key that the database did not know is refused without asking again.
const UNKNOWN_TTL: Duration = Duration::from_secs(10);
const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    Process,
    Metrics,
    Reports,
}

impl KeyScope {
    /// The name that keys carry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Metrics => "metrics",
            Self::Reports => "reports",
        }
    }
}

/// An application whose key was found and is good at this moment.
#[derive(Clone, Debug)]
pub struct Caller {
    pub scope: TenantScope,
    pub org_id: OrgId,
    pub workspace_id: WorkspaceId,
    pub key_id: ApiKeyId,
    pub scopes: Vec<String>,
    pub rate_limit_per_minute: Option<u32>,
    pub expires_at: Option<Timestamp>,
    /// What the workspace sets for itself.
    pub config: WorkspaceConfig,
    /// The organization's; None: no limit.
    pub monthly_request_limit: Option<u64>,
    /// Requests of the organization that all nodes had counted in a month when the key was looked up.
    pub counted: (Month, u64),
}

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Missing, malformed, unknown, revoked, expired, or of an inactive workspace or organization.
    #[error("invalid API key")]
    Invalid,
    /// The key is good, but not for this.
    #[error("the API key lacks the scope `{0}`")]
    Scope(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keys that were looked up lately, good and bad, so that a request on a warm cache asks no database.
///
/// * Forgotten when the store announces a change of the key or its organization (before the commit returns on this
///   node), asked for again after a minute without one, refused after expiry whatever is held.
/// * When the database is away, held keys go on working, unless they are known to have changed.
/// * Unknown keys are held apart, for ten seconds, until a key with that hash is made.
pub struct KeyCache(Keys<Store>);

impl KeyCache {
    /// Registers itself with `store.on_change`.
    #[must_use]
    pub fn new(store: Store, clock: SharedClock, metrics: &Metrics) -> Arc<Self> {
        let cache = Arc::new(Self(Keys::new(store, clock, metrics)));
        let listener = Arc::downgrade(&cache);
        cache.0.source.on_change(move |change| {
            if let Some(cache) = listener.upgrade() {
                cache.0.forget(change);
            }
        });
        cache
    }

    /// Finds who presents `presented`, and whether the key is good for `needed` at this moment.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(&self, presented: &str, needed: KeyScope) -> Result<Arc<Caller>, AuthError> {
        self.0.authenticate(presented, needed).await
    }

    /// Writes when keys were last used since the last call; to be called every few seconds and at the end. What cannot be
    /// written is kept for the next time.
    ///
    /// # Errors
    /// [`StoreError`], for the log.
    pub async fn flush_last_used(&self) -> Result<(), StoreError> {
        let used = self.0.usage.take();
        if used.is_empty() {
            return Ok(());
        }
        let written = self.0.source.touch_api_keys(&used).await;
        if written.is_err() {
            self.0.usage.put_back(used);
        }
        written
    }
}

/// Where keys are looked up; the store, but for tests.
trait KeySource: Clone + Send + Sync + 'static {
    fn resolve(&self, hash: KeyHash) -> impl Future<Output = Result<Option<ResolvedKey>, StoreError>> + Send + 'static;
}

impl KeySource for Store {
    fn resolve(&self, hash: KeyHash) -> impl Future<Output = Result<Option<ResolvedKey>, StoreError>> + Send + 'static {
        let store = self.clone();
        async move { store.resolve_api_key(&hash).await }
    }
}

/// What the truth about a key hangs on.
#[derive(PartialEq, Eq, Hash)]
enum DependsOn {
    Key(KeyHash),
    Organization(OrgId),
}

#[derive(Clone)]
enum Known {
    Good {
        caller: Arc<Caller>,
        usage: Arc<Usage>,
    },
    /// Revoked, or of an inactive workspace or organization.
    Refused,
}

#[derive(Clone, Debug)]
enum LookUpError {
    Unknown,
    Store(StoreError),
}

/// An unknown key: until when that is believed, and the generation before it was looked up.
#[derive(Clone, Copy)]
struct Unknown {
    until: Timestamp,
    seen: u64,
}

struct Keys<S> {
    source: S,
    clock: SharedClock,
    known: FreshCache<KeyHash, DependsOn, Known, LookUpError>,
    unknown: Cache<KeyHash, Unknown>,
    usage: KeyUsage,
    hits: IntCounter,
    misses: IntCounter,
    negatives: IntCounter,
}

impl<S: KeySource> Keys<S> {
    fn new(source: S, clock: SharedClock, metrics: &Metrics) -> Self {
        let counter = |result| metrics.cache_requests.with_label_values(&["key", result]);
        Self {
            source,
            known: FreshCache::new(
                Arc::clone(&clock),
                Rules {
                    capacity: CAPACITY,
                    refresh_after: REFRESH_AFTER,
                    // A key that is known to have changed may have been revoked: it needs an answer.
                    outlives: |error, changed| {
                        !changed && matches!(error, LookUpError::Store(StoreError::Unavailable(_)))
                    },
                    late: || LookUpError::Store(StoreError::Unavailable("no answer in time".to_owned())),
                },
            ),
            unknown: Cache::builder().max_capacity(UNKNOWN_CAPACITY).time_to_live(UNKNOWN_TTL).build(),
            usage: KeyUsage::default(),
            clock,
            hits: counter("hit"),
            misses: counter("miss"),
            negatives: counter("negative"),
        }
    }

    fn forget(&self, change: &Change) {
        match change {
            Change::ApiKey { hash, .. } => self.known.changes().changed(DependsOn::Key(*hash)),
            Change::Organization { org } => self.known.changes().changed(DependsOn::Organization(*org)),
            Change::Policy { .. } | Change::ProviderCredential { .. } | Change::DataSet { .. } => {}
            Change::Everything => self.known.changes().suspect_all(),
        }
    }

    async fn authenticate(&self, presented: &str, needed: KeyScope) -> Result<Arc<Caller>, AuthError> {
        let hash = ApiKeySecret::parse(presented).map_err(|_| AuthError::Invalid)?.hash();
        let known = self.find(hash).await?;
        let Known::Good { caller, usage } = known else { return Err(AuthError::Invalid) };
        let now = self.clock.now();
        if caller.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(AuthError::Invalid);
        }
        if !caller.scopes.iter().any(|scope| scope == needed.as_str()) {
            return Err(AuthError::Scope(needed.as_str()));
        }
        self.usage.note(&usage, now);
        Ok(caller)
    }

    async fn find(&self, hash: KeyHash) -> Result<Known, AuthError> {
        if let Some(known) = self.known.held(&hash).await {
            self.hits.inc();
            return Ok(known);
        }
        // A large future that is seldom needed.
        Box::pin(self.look(hash)).await
    }

    async fn look(&self, hash: KeyHash) -> Result<Known, AuthError> {
        if self.is_unknown(&hash).await {
            self.negatives.inc();
            return Err(AuthError::Invalid);
        }
        self.misses.inc();
        let seen = self.known.changes().generation();
        match self.known.get(&hash, || look_up(self.source.resolve(hash), hash)).await {
            Ok(known) => Ok(known),
            Err(LookUpError::Unknown) => {
                let until = self.clock.now().plus(UNKNOWN_TTL);
                self.unknown.insert(hash, Unknown { until, seen }).await;
                Err(AuthError::Invalid)
            }
            Err(LookUpError::Store(error)) => Err(error.into()),
        }
    }

    async fn is_unknown(&self, hash: &KeyHash) -> bool {
        let Some(unknown) = self.unknown.get(hash).await else { return false };
        unknown.until > self.clock.now()
            && self.known.changes().standing(unknown.seen, &[DependsOn::Key(*hash)]) == Standing::Current
    }
}

async fn look_up(
    resolving: impl Future<Output = Result<Option<ResolvedKey>, StoreError>>,
    hash: KeyHash,
) -> Result<Loaded<DependsOn, Known>, LookUpError> {
    let key = resolving.await.map_err(LookUpError::Store)?.ok_or(LookUpError::Unknown)?;
    let org_id = key.scope.org_id();
    let value = if key.key_active && key.workspace_active && key.org_active {
        let usage = Usage::of(key.key_id, org_id);
        let caller = Caller {
            scope: key.scope,
            org_id,
            workspace_id: key.workspace_id,
            key_id: key.key_id,
            scopes: key.scopes,
            rate_limit_per_minute: key.rate_limit_per_minute,
            expires_at: key.expires_at,
            config: key.config,
            monthly_request_limit: key.monthly_request_limit,
            counted: key.counted,
        };
        Known::Good { caller: Arc::new(caller), usage: Arc::new(usage) }
    } else {
        Known::Refused
    };
    Ok(Loaded { value, depends_on: Box::new([DependsOn::Key(hash), DependsOn::Organization(org_id)]) })
}

#[cfg(test)]
#[path = "key_cache_tests.rs"]
mod tests;
