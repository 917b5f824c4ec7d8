use serde::{Deserialize, Serialize};

use super::{StoreError, TenantScope, TenantTx};
use crate::domain::{OrgId, Timestamp, UserId, WorkspaceId};

/// What an organization pays for; decides its default limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    #[default]
    Free,
    Starter,
    Pro,
    Enterprise,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OrganizationRecord {
    pub id: OrgId,
    pub name: String,
    pub slug: String,
    pub tier: Tier,
    pub is_active: bool,
    pub billing_email: Option<String>,
    pub max_users: Option<u32>,
    pub max_workspaces: Option<u32>,
    pub max_api_keys: Option<u32>,
    pub monthly_request_limit: Option<u64>,
    /// Free-form settings of the organization (`{}` by default).
    pub settings: serde_json::Value,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
}

/// An organization with its first owner and first workspace, all or nothing.
#[derive(Clone, Debug)]
pub struct NewOrganization {
    pub name: String,
    pub owner_email: String,
    pub owner_full_name: String,
    pub owner_password_hash: String,
    /// Name of the first workspace: `default`.
    pub workspace_name: String,
}

/// What [`super::Store::register`] made.
#[derive(Clone, Debug)]
pub struct Registered {
    pub scope: TenantScope,
    pub org_id: OrgId,
    pub user_id: UserId,
    pub workspace_id: WorkspaceId,
}

/// `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct OrganizationPatch {
    pub name: Option<String>,
    pub billing_email: Option<Option<String>>,
    pub settings: Option<serde_json::Value>,
}

pub struct Organizations<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl Organizations<'_> {
    pub async fn get(&mut self) -> Result<OrganizationRecord, StoreError> {
        let _ = &self.tx;
        todo!()
    }
    /// # Errors
    /// [`StoreError::Stale`] when `expected` is given and is not the row's version.
    pub async fn update(
        &mut self,
        _patch: OrganizationPatch,
        _expected: Option<i64>,
    ) -> Result<OrganizationRecord, StoreError> {
        todo!()
    }
}
