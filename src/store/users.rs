use super::{Page, PageRequest, StoreError, TenantTx};
use crate::domain::{OrgId, Timestamp, UserId};

#[derive(Clone, Debug, PartialEq)]
pub struct UserRecord {
    pub id: UserId,
    pub org_id: OrgId,
    pub email: String,
    pub full_name: String,
    /// `owner`, `admin`, `member`, `viewer`, `auditor`; `authn::Role` reads it.
    pub role: String,
    /// Granular grants beyond the role: `policies:write` …
    pub permissions: Vec<String>,
    pub is_active: bool,
    pub mfa_enabled: bool,
    pub sso_provider: Option<String>,
    pub must_change_password: bool,
    pub last_login_at: Option<Timestamp>,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewUser {
    pub id: UserId,
    pub email: String,
    pub full_name: String,
    pub role: String,
    pub permissions: Vec<String>,
    pub password_hash: String,
    pub must_change_password: bool,
    pub invited_by: Option<UserId>,
}

/// `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct UserPatch {
    pub full_name: Option<String>,
    pub role: Option<String>,
    pub permissions: Option<Vec<String>>,
    pub is_active: Option<bool>,
}

pub struct Users<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl Users<'_> {
    /// # Errors
    /// [`StoreError::Conflict`]`("email")` when the address has an account (addresses are unique over all organizations).
    pub async fn insert(&mut self, _user: NewUser) -> Result<UserRecord, StoreError> {
        let _ = &self.tx;
        todo!()
    }
    pub async fn find(&mut self, _id: UserId) -> Result<Option<UserRecord>, StoreError> {
        todo!()
    }
    pub async fn list(&mut self, _page: &PageRequest) -> Result<Page<UserRecord>, StoreError> {
        todo!()
    }
    /// # Errors
    /// [`StoreError::Conflict`]`("last owner")` when the patch would leave the organization without an active owner.
    pub async fn update(&mut self, _id: UserId, _patch: UserPatch) -> Result<Option<UserRecord>, StoreError> {
        todo!()
    }
    /// Soft delete; ends the person's sessions. False when there is no such user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("last owner")`.
    pub async fn remove(&mut self, _id: UserId) -> Result<bool, StoreError> {
        todo!()
    }
    pub async fn set_password(&mut self, _id: UserId, _hash: &str, _must_change: bool) -> Result<bool, StoreError> {
        todo!()
    }
    pub async fn count(&mut self) -> Result<u64, StoreError> {
        todo!()
    }
}
