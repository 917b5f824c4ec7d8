use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use prometheus::IntCounter;
use serde_json::Value;

use super::compile::Compiler;
use super::data::DataSets;
use super::decide::CompiledPolicy;
use super::document::Preset;
use super::read::read;
use super::rollout::{InForce, Rollout};
use super::rollouts::Rollouts;
use super::{CompileError, PolicyLabel};
use crate::authn::Caller;
use crate::cache::{FreshCache, Loaded, Rules};
use crate::detect::Engine;
use crate::domain::{OrgId, PolicyId, SharedClock, SystemClock, WorkspaceId};
use crate::store::{Change, EffectivePolicy, EffectiveRollout, Store, StoreError};
use crate::telemetry::Metrics;

/// Workspaces held; one takes about 200 bytes, its policy not counted.
const CAPACITY: u64 = 50_000;
/// Compiled versions held apart from the workspaces that use them; about 2 KiB each.
const VERSIONS: u64 = 20_000;
const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// Why no policy could be had; the request is refused with 503 `guard_unavailable`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the stored policy does not compile: {0}")]
    Uncompilable(String),
}

/// The compiled policy of every workspace that was asked for lately.
///
/// * Forgotten when the store announces a change of the organization or one of its policies (before the commit returns on
///   this node), and asked for again after a minute without one.
/// * When the database is away, or what is stored does not compile, the last good policy stays; it is tried again every
///   second, and at once after the next change.
/// * A version is immutable: it is compiled once, however many workspaces are under it. Workspaces without a policy
///   share one `balanced`.
pub struct PolicyCache {
    store: Store,
    policies: Policies,
    data: Arc<DataSets>,
}

impl PolicyCache {
    /// Registers itself with `store.on_change`.
    #[must_use]
    pub fn new(store: Store, engine: Arc<Engine>, metrics: Arc<Metrics>) -> Arc<Self> {
        let policies = Policies::new(Compiler::new(engine.rules()), Arc::new(SystemClock), &metrics);
        let data = DataSets::new(store.clone());
        let cache = Arc::new(Self { store, policies, data });
        let listener = Arc::downgrade(&cache);
        cache.store.on_change(move |change| {
            if let Some(cache) = listener.upgrade() {
                cache.policies.forget(change);
                cache.data.follow(change);
            }
        });
        cache
    }

    /// What `caller`'s workspace is under. A warm cache asks no database; when the database is away the last
    /// good policy stays.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn get(&self, caller: &Caller) -> Result<InForce, PolicyError> {
        let (store, workspace, scope) = (self.store.clone(), caller.workspace_id, caller.scope);
        let load = || async move { store.effective_policy(workspace, scope).await };
        let mut policy = self.policies.get(caller.org_id, workspace, load).await?;
        if policy.live.exact_data().any(|data| data.content().is_none()) {
            // Once for a version of a policy.
            Box::pin(self.data.ready(&policy.live, scope)).await?;
        }
        if let Some(rollout) = &policy.rollout
            && rollout.candidate().exact_data().any(|data| data.content().is_none())
            && let Err(error) = Box::pin(self.data.ready(rollout.candidate(), scope)).await
        {
            tracing::warn!(rollout.id = %rollout.id, %error, "a candidate waits for its exact data");
            policy.rollout = None;
        }
        Ok(policy)
    }

    /// Writes what rollouts have counted, and takes those back whose guards say so.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: what could not be written is kept for the next time.
    pub async fn flush_rollouts(&self) -> Result<(), StoreError> {
        self.policies.versions.rollouts.flush(&self.store).await
    }
}

/// The cache without its store.
struct Policies {
    /// Depends on the organization.
    by_workspace: FreshCache<WorkspaceId, OrgId, InForce, PolicyError>,
    versions: Versions,
    hits: IntCounter,
    misses: IntCounter,
    failures: IntCounter,
}

impl Policies {
    fn new(compiler: Compiler, clock: SharedClock, metrics: &Metrics) -> Self {
        let counter = |result| metrics.cache_requests.with_label_values(&["policy", result]);
        Self {
            by_workspace: FreshCache::new(
                clock,
                Rules {
                    capacity: CAPACITY,
                    refresh_after: REFRESH_AFTER,
                    outlives: |_, _| true,
                    late: || StoreError::Unavailable("no answer in time".to_owned()).into(),
                },
            ),
            versions: Versions {
                default: Arc::new(compiler.preset(Preset::Balanced)),
                compiled: Cache::new(VERSIONS),
                rollouts: Arc::default(),
                compiler,
            },
            hits: counter("hit"),
            misses: counter("miss"),
            failures: metrics.failclosed.with_label_values(&["policy"]),
        }
    }

    fn forget(&self, change: &Change) {
        match change {
            Change::Policy { org } | Change::Organization { org } => self.by_workspace.changes().changed(*org),
            Change::ApiKey { .. } | Change::ProviderCredential { .. } | Change::DataSet { .. } => {}
            Change::Everything => self.by_workspace.changes().suspect_all(),
        }
    }

    async fn get<F>(&self, org: OrgId, workspace: WorkspaceId, load: impl FnOnce() -> F) -> Result<InForce, PolicyError>
    where
        F: Future<Output = Result<Option<EffectivePolicy>, StoreError>> + Send + 'static,
    {
        if let Some(policy) = self.by_workspace.held(&workspace).await {
            self.hits.inc();
            return Ok(policy);
        }
        self.misses.inc();
        let loaded = self.by_workspace.get(&workspace, || {
            let (versions, effective) = (self.versions.clone(), load());
            async move {
                let value = versions.in_force(effective.await?).await?;
                Ok(Loaded { value, depends_on: Box::new([org]) })
            }
        });
        // A large future that is seldom needed.
        Box::pin(loaded).await.inspect_err(|_| self.failures.inc())
    }
}

/// Compiled versions of policies; immutable, so nothing invalidates them.
#[derive(Clone)]
struct Versions {
    compiler: Compiler,
    default: Arc<CompiledPolicy>,
    /// By version; of drafts, which can be edited, by revision.
    compiled: Cache<(PolicyId, Option<i64>), Arc<CompiledPolicy>>,
    rollouts: Arc<Rollouts>,
}

impl Versions {
    async fn in_force(&self, effective: Option<EffectivePolicy>) -> Result<InForce, PolicyError> {
        let Some(EffectivePolicy { id, root_id, name, version, document, rollout }) = effective else {
            return Ok(InForce { live: Arc::clone(&self.default), rollout: None });
        };
        let live = self.compiled((id, None), name, version, &document).await?;
        let rollout = match rollout {
            None => None,
            Some(rollout) => self.rollout(root_id, &document, rollout).await,
        };
        Ok(InForce { live, rollout })
    }

    /// None, and a line in the log, when the candidate does not compile.
    async fn rollout(&self, root: PolicyId, live: &Value, effective: EffectiveRollout) -> Option<Arc<Rollout>> {
        let EffectiveRollout { candidate_id, revision, version, document, .. } = &effective;
        let key = (*candidate_id, Some(*revision));
        let candidate = self.compiled(key, effective.name.clone(), *version, document).await.ok()?;
        let same = match (read(live), read(document)) {
            (Ok(live), Ok(candidate)) => live.looks_for_the_same(&candidate),
            _ => false,
        };
        Some(self.rollouts.of(&effective, root, candidate, same))
    }

    async fn compiled(
        &self,
        key: (PolicyId, Option<i64>),
        name: String,
        version: i64,
        document: &Value,
    ) -> Result<Arc<CompiledPolicy>, PolicyError> {
        if let Some(policy) = self.compiled.get(&key).await {
            return Ok(policy);
        }
        let (id, _) = key;
        let label = PolicyLabel { id: Some(id), name: name.into(), version };
        let policy = self.compile(label, document).map(Arc::new).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let faults = faults.join("; ");
            tracing::error!(policy.version_id = %id, faults, "a stored policy does not compile");
            PolicyError::Uncompilable(faults)
        })?;
        self.compiled.insert(key, Arc::clone(&policy)).await;
        Ok(policy)
    }

    fn compile(&self, label: PolicyLabel, document: &Value) -> Result<CompiledPolicy, Vec<CompileError>> {
        self.compiler.compile(&read(document)?, label)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
