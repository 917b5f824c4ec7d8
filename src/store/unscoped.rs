//! Every statement that runs outside one organization: resolving credentials, loading policies, shipping audit rows.

use super::{AuditRow, KeyHash, NewOrganization, Registered, Store, StoreError, TenantScope, UserRecord};
use crate::domain::{ApiKeyId, OrgId, PolicyId, Secret, SessionId, Timestamp, UserId, WorkspaceId};

/// An API key that exists, with everything its validity hangs on; the caller judges it against the clock.
#[derive(Clone, Debug)]
pub struct ResolvedKey {
    pub scope: TenantScope,
    pub key_id: ApiKeyId,
    pub workspace_id: WorkspaceId,
    pub scopes: Vec<String>,
    pub rate_limit_per_minute: Option<u32>,
    pub expires_at: Option<Timestamp>,
    /// Active, not revoked.
    pub key_active: bool,
    pub workspace_active: bool,
    pub org_active: bool,
    /// The workspace's `config.reveal`.
    pub reveal: bool,
}

/// What a log-in is checked against.
#[derive(Clone, Debug)]
pub struct LoginAccount {
    pub scope: TenantScope,
    pub user_id: UserId,
    pub password_hash: Secret<String>,
    pub active: bool,
    pub must_change_password: bool,
}

/// The policy that a workspace is under.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectivePolicy {
    pub id: PolicyId,
    pub root_id: PolicyId,
    pub name: String,
    pub version: i64,
    pub document: serde_json::Value,
}

impl Store {
    pub async fn resolve_api_key(&self, _hash: &KeyHash) -> Result<Option<ResolvedKey>, StoreError> {
        todo!()
    }
    /// Remembers when keys were last used; called in batches by a background task.
    pub async fn touch_api_keys(&self, _used: &[(ApiKeyId, OrgId, Timestamp)]) -> Result<(), StoreError> {
        todo!()
    }
    /// Addresses are compared without case.
    pub async fn find_login(&self, _email: &str) -> Result<Option<LoginAccount>, StoreError> {
        todo!()
    }
    /// A live session of an active person of an active organization, by the ids in an access token.
    pub async fn resolve_session(
        &self,
        _session: SessionId,
        _user: UserId,
    ) -> Result<Option<(TenantScope, UserRecord)>, StoreError> {
        todo!()
    }
    /// # Errors
    /// [`StoreError::Conflict`]`("email")`.
    pub async fn register(&self, _organization: NewOrganization) -> Result<Registered, StoreError> {
        todo!()
    }
    /// The scope of an organization, for the command line of whoever runs Sentinel: by slug, name or id.
    pub async fn operator_scope(&self, _organization: &str) -> Result<Option<TenantScope>, StoreError> {
        todo!()
    }
    /// The scope of a user's organization, after a log-in has been checked.
    pub async fn record_login(&self, _user: UserId, _org: OrgId) -> Result<(), StoreError> {
        todo!()
    }
    /// None: the workspace is under the preset `balanced`.
    pub async fn effective_policy(
        &self,
        _workspace: WorkspaceId,
        _scope: TenantScope,
    ) -> Result<Option<EffectivePolicy>, StoreError> {
        todo!()
    }
    /// Writes audit rows in one transaction. Idempotent on the event's id: a row that is there is completed, never doubled,
    /// and a completion is never taken back.
    pub async fn ship_audit(&self, _rows: &[AuditRow]) -> Result<(), StoreError> {
        todo!()
    }
}
