use std::sync::Arc;

use crate::domain::{ApiKeyId, OrgId, SharedClock, Timestamp, WorkspaceId};
use crate::store::{Store, StoreError, TenantScope};

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    Process,
    Metrics,
    Reports,
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
    /// Tell clients categories and policy of a refusal.
    pub reveal: bool,
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
pub struct KeyCache {
    _store: Store,
    _clock: SharedClock,
}

impl KeyCache {
    /// Registers itself with `store.on_change`.
    #[must_use]
    pub fn new(store: Store, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self { _store: store, _clock: clock })
    }

    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(&self, _presented: &str, _needed: KeyScope) -> Result<Arc<Caller>, AuthError> {
        todo!()
    }
}
