use super::{Store, StoreError, TenantScope};
use crate::domain::{SessionId, Timestamp, UserId};

/// SHA-256 of a refresh token.
pub type TokenHash = [u8; 32];

#[derive(Clone, Debug)]
pub struct NewSession {
    pub id: SessionId,
    pub user_id: UserId,
    pub refresh_hash: TokenHash,
    pub expires_at: Timestamp,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SessionRecord {
    pub id: SessionId,
    pub user_id: UserId,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// What presenting a refresh token came to.
#[derive(Clone, Debug)]
pub enum RefreshOutcome {
    /// The token was the session's current one and has been exchanged for the new one.
    Rotated { scope: TenantScope, session: SessionId, user: UserId },
    /// The token had been exchanged before: the whole session has been revoked.
    Reused,
    /// Unknown, expired, or of a revoked session or an inactive person.
    Refused,
}

impl Store {
    pub async fn open_session(&self, _scope: TenantScope, _session: NewSession) -> Result<SessionRecord, StoreError> {
        todo!()
    }
    /// Exchanges `presented` for `next` in one step.
    pub async fn rotate_session(
        &self,
        _presented: TokenHash,
        _next: TokenHash,
        _expires_at: Timestamp,
    ) -> Result<RefreshOutcome, StoreError> {
        todo!()
    }
    /// Ends one session of the organization.
    pub async fn revoke_session(&self, _scope: TenantScope, _session: SessionId) -> Result<bool, StoreError> {
        todo!()
    }
}
