use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

use super::key_cache::Caller;
use super::seal::{SealError, Sealer, credential_place};
use crate::cache::{FreshCache, Loaded, Rules};
use crate::domain::{OrgId, Secret, SharedClock, WorkspaceId};
use crate::store::{Change, Store, StoreError};
use crate::telemetry::Metrics;

/// Workspaces held; one without credentials takes about 200 bytes.
const CAPACITY: u64 = 50_000;
const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// Why it is not known whether a workspace has a credential; the request is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a provider credential: {0}")]
    Sealed(#[from] SealError),
}

/// One workspace's credentials by the name of the upstream.
struct Held(Vec<(String, Secret<String>)>);

/// The credentials of every workspace that was asked for lately, decrypted.
///
/// * Forgotten when the store announces a change of the organization's credentials (before the commit returns on this
///   node), and asked for again after a minute without one.
/// * When the database is away, what is held goes on, unless it is known to have changed.
pub struct ProviderCredentialCache {
    store: Store,
    sealer: Arc<Sealer>,
    /// Depends on the organization.
    held: FreshCache<WorkspaceId, OrgId, Arc<Held>, CredentialError>,
    hits: IntCounter,
    misses: IntCounter,
}

impl ProviderCredentialCache {
    /// Registers itself with `store.on_change`.
    #[must_use]
    pub fn new(store: Store, sealer: Arc<Sealer>, clock: SharedClock, metrics: &Metrics) -> Arc<Self> {
        let counter = |result| metrics.cache_requests.with_label_values(&["credential", result]);
        let rules = Rules {
            capacity: CAPACITY,
            refresh_after: REFRESH_AFTER,
            outlives: |error, changed| !changed && matches!(error, CredentialError::Store(StoreError::Unavailable(_))),
            late: || StoreError::Unavailable("no answer in time".to_owned()).into(),
        };
        let (hits, misses) = (counter("hit"), counter("miss"));
        let cache = Arc::new(Self { store, sealer, held: FreshCache::new(clock, rules), hits, misses });
        let listener = Arc::downgrade(&cache);
        cache.store.on_change(move |change| {
            if let Some(cache) = listener.upgrade() {
                cache.forget(change);
            }
        });
        cache
    }

    fn forget(&self, change: &Change) {
        match change {
            Change::ProviderCredential { org } => self.held.changes().changed(*org),
            Change::Everything => self.held.changes().suspect_all(),
            Change::ApiKey { .. } | Change::Organization { .. } | Change::Policy { .. } | Change::DataSet { .. } => {}
        }
    }

    /// What the caller's workspace presents to `upstream`; None when it has nothing of its own.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn get(&self, caller: &Caller, upstream: &str) -> Result<Option<Secret<String>>, CredentialError> {
        let workspace = caller.workspace_id;
        let held = if let Some(held) = self.held.held(&workspace).await {
            self.hits.inc();
            held
        } else {
            self.misses.inc();
            let (store, sealer, scope) = (self.store.clone(), Arc::clone(&self.sealer), caller.scope);
            self.held.get(&workspace, || load(store, sealer, workspace, scope)).await?
        };
        Ok(held.0.iter().find(|(name, _)| name == upstream).map(|(_, credential)| credential.clone()))
    }
}

async fn load(
    store: Store,
    sealer: Arc<Sealer>,
    workspace: WorkspaceId,
    scope: crate::store::TenantScope,
) -> Result<Loaded<OrgId, Arc<Held>>, CredentialError> {
    let org = scope.org_id();
    let mut held = Vec::new();
    for credential in store.workspace_credentials(workspace, scope).await? {
        let record = credential.record;
        let place = credential_place(org, workspace, &record.upstream, record.id);
        held.push((record.upstream, sealer.open_text(&place, &credential.ciphertext)?));
    }
    Ok(Loaded { value: Arc::new(Held(held)), depends_on: Box::new([org]) })
}
