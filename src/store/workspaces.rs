use super::{Page, PageRequest, StoreError, TenantTx};
use crate::domain::{OrgId, PolicyId, Timestamp, WorkspaceId};

#[derive(Clone, Debug, PartialEq)]
pub struct WorkspaceRecord {
    pub id: WorkspaceId,
    pub org_id: OrgId,
    pub name: String,
    pub slug: String,
    pub description: Option<String>,
    /// `production`, `staging`, `development` …: a label.
    pub environment: String,
    /// The policy in force; None means the organization's default, then the preset `balanced`.
    pub policy_id: Option<PolicyId>,
    /// Overrides of the configuration (`{}` by default); `reveal` (bool) is read by the gateway.
    pub config: serde_json::Value,
    pub is_active: bool,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewWorkspace {
    pub id: WorkspaceId,
    pub name: String,
    pub description: Option<String>,
    pub environment: String,
    pub policy_id: Option<PolicyId>,
    pub config: serde_json::Value,
}

/// `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct WorkspacePatch {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub environment: Option<String>,
    pub policy_id: Option<Option<PolicyId>>,
    pub config: Option<serde_json::Value>,
    pub is_active: Option<bool>,
}

pub struct Workspaces<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl Workspaces<'_> {
    /// # Errors
    /// [`StoreError::Conflict`]`("workspace name")`; [`StoreError::Missing`]`("policy_id")`.
    pub async fn insert(&mut self, _workspace: NewWorkspace) -> Result<WorkspaceRecord, StoreError> {
        let _ = &self.tx;
        todo!()
    }
    pub async fn find(&mut self, _id: WorkspaceId) -> Result<Option<WorkspaceRecord>, StoreError> {
        todo!()
    }
    pub async fn list(&mut self, _page: &PageRequest) -> Result<Page<WorkspaceRecord>, StoreError> {
        todo!()
    }
    /// # Errors
    /// [`StoreError::Stale`] when `expected` is not the row's version.
    pub async fn update(
        &mut self,
        _id: WorkspaceId,
        _patch: WorkspacePatch,
        _expected: Option<i64>,
    ) -> Result<Option<WorkspaceRecord>, StoreError> {
        todo!()
    }
    /// Soft delete; revokes the workspace's keys. False when there is no such workspace.
    pub async fn remove(&mut self, _id: WorkspaceId) -> Result<bool, StoreError> {
        todo!()
    }
    pub async fn count(&mut self) -> Result<u64, StoreError> {
        todo!()
    }
}
