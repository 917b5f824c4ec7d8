use serde::{Deserialize, Serialize};

use super::{Page, PageRequest, StoreError, TenantTx};
use crate::domain::{ApiKeyId, OrgId, Timestamp, UserId, WorkspaceId};

/// SHA-256 of an API key's text; the only form in which a key is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyHash(pub [u8; 32]);

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeyRecord {
    pub id: ApiKeyId,
    pub org_id: OrgId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    /// `snt_live_` and the first characters, for display.
    pub key_prefix: String,
    pub last_four: String,
    /// `process`, `metrics`, `reports`.
    pub scopes: Vec<String>,
    pub rate_limit_per_minute: Option<u32>,
    pub is_active: bool,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewApiKey {
    pub id: ApiKeyId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub hash: KeyHash,
    pub key_prefix: String,
    pub last_four: String,
    pub scopes: Vec<String>,
    pub rate_limit_per_minute: Option<u32>,
    pub expires_at: Option<Timestamp>,
    pub created_by: Option<UserId>,
}

pub struct ApiKeys<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl ApiKeys<'_> {
    /// # Errors
    /// [`StoreError::Missing`]`("workspace_id")` when the organization has no such live workspace.
    pub async fn insert(&mut self, _key: NewApiKey) -> Result<ApiKeyRecord, StoreError> {
        let _ = &self.tx;
        todo!()
    }
    pub async fn find(&mut self, _id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        todo!()
    }
    pub async fn list(
        &mut self,
        _workspace: Option<WorkspaceId>,
        _page: &PageRequest,
    ) -> Result<Page<ApiKeyRecord>, StoreError> {
        todo!()
    }
    /// Renames, and sets scopes or the limit; `None` leaves a field as it is.
    pub async fn update(
        &mut self,
        _id: ApiKeyId,
        _name: Option<String>,
        _scopes: Option<Vec<String>>,
        _rate_limit_per_minute: Option<Option<u32>>,
    ) -> Result<Option<ApiKeyRecord>, StoreError> {
        todo!()
    }
    /// From the next request on the key is refused. None when there is no such key; revoking twice keeps the first time.
    pub async fn revoke(&mut self, _id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        todo!()
    }
    /// Lets the key expire at `at` unless it does so earlier (rotation's grace).
    pub async fn expire_at(&mut self, _id: ApiKeyId, _at: Timestamp) -> Result<Option<ApiKeyRecord>, StoreError> {
        todo!()
    }
}
