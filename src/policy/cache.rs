use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use prometheus::IntCounter;

use super::compile::Compiler;
use super::data::DataSets;
use super::decide::CompiledPolicy;
use super::document::Preset;
use super::read::read;
use super::{CompileError, PolicyLabel};
use crate::authn::Caller;
use crate::cache::{FreshCache, Loaded, Rules};
use crate::detect::Engine;
use crate::domain::{OrgId, PolicyId, SharedClock, SystemClock, WorkspaceId};
use crate::store::{Change, EffectivePolicy, Store, StoreError};
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

    /// The policy that `caller`'s workspace is under. A warm cache asks no database; when the database is away the last
    /// good policy stays.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn get(&self, caller: &Caller) -> Result<Arc<CompiledPolicy>, PolicyError> {
        let (store, workspace, scope) = (self.store.clone(), caller.workspace_id, caller.scope);
        let load = || async move { store.effective_policy(workspace, scope).await };
        let policy = self.policies.get(caller.org_id, workspace, load).await?;
        if policy.exact_data().any(|data| data.content().is_none()) {
            // Once for a version of a policy.
            Box::pin(self.data.ready(&policy, scope)).await?;
        }
        Ok(policy)
    }
}

/// The cache without its store.
struct Policies {
    /// Depends on the organization.
    by_workspace: FreshCache<WorkspaceId, OrgId, Arc<CompiledPolicy>, PolicyError>,
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

    async fn get<F>(
        &self,
        org: OrgId,
        workspace: WorkspaceId,
        load: impl FnOnce() -> F,
    ) -> Result<Arc<CompiledPolicy>, PolicyError>
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
                let value = versions.compiled(effective.await?).await?;
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
    compiled: Cache<PolicyId, Arc<CompiledPolicy>>,
}

impl Versions {
    async fn compiled(&self, effective: Option<EffectivePolicy>) -> Result<Arc<CompiledPolicy>, PolicyError> {
        let Some(effective) = effective else { return Ok(Arc::clone(&self.default)) };
        let id = effective.id;
        if let Some(policy) = self.compiled.get(&id).await {
            return Ok(policy);
        }
        let policy = self.compile(effective).map(Arc::new).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let faults = faults.join("; ");
            tracing::error!(policy.version_id = %id, faults, "a stored policy does not compile");
            PolicyError::Uncompilable(faults)
        })?;
        self.compiled.insert(id, Arc::clone(&policy)).await;
        Ok(policy)
    }

    fn compile(&self, effective: EffectivePolicy) -> Result<CompiledPolicy, Vec<CompileError>> {
        let label = PolicyLabel { id: Some(effective.id), name: effective.name.into(), version: effective.version };
        self.compiler.compile(&read(&effective.document)?, label)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
