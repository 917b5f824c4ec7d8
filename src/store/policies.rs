use super::{Page, PageRequest, StoreError, TenantTx};
use crate::domain::{OrgId, PolicyId, Timestamp, UserId};

/// One version of a policy. Versions are immutable: replacing makes a new row whose `parent_policy_id` is the old one.
/// The `id` that the API shows is the policy's lineage: the id of its first version, which every version carries in `root_id`.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRecord {
    /// Id of this version.
    pub id: PolicyId,
    /// Id of the policy: the same for all its versions.
    pub root_id: PolicyId,
    pub org_id: OrgId,
    pub name: String,
    pub description: Option<String>,
    /// 1, 2, 3 …
    pub version: i64,
    pub parent_policy_id: Option<PolicyId>,
    /// The `PolicyDocument` as JSON.
    pub document: serde_json::Value,
    /// The organization's default: in force where a workspace names none.
    pub is_default: bool,
    /// True for the version in force of its lineage.
    pub is_active: bool,
    pub canary_percentage: u8,
    pub comment: Option<String>,
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewPolicy {
    pub id: PolicyId,
    pub name: String,
    pub description: Option<String>,
    pub document: serde_json::Value,
    pub is_default: bool,
    pub comment: Option<String>,
    pub created_by: Option<UserId>,
}

pub struct Policies<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl Policies<'_> {
    /// Version 1 of a new policy. Made default, it takes that from the one before.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("policy name")`.
    pub async fn insert(&mut self, _policy: NewPolicy) -> Result<PolicyRecord, StoreError> {
        let _ = &self.tx;
        todo!()
    }
    /// The version in force.
    pub async fn find(&mut self, _root: PolicyId) -> Result<Option<PolicyRecord>, StoreError> {
        todo!()
    }
    /// The versions in force of all policies.
    pub async fn list(&mut self, _page: &PageRequest) -> Result<Page<PolicyRecord>, StoreError> {
        todo!()
    }
    /// All versions of one policy, newest first.
    pub async fn versions(&mut self, _root: PolicyId, _page: &PageRequest) -> Result<Page<PolicyRecord>, StoreError> {
        todo!()
    }
    /// A new version, in force at once. `policy.id` is the id of the new version; name and default-ness come from `policy` too.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when `expected` is not the version in force.
    pub async fn replace(
        &mut self,
        _root: PolicyId,
        _expected: i64,
        _policy: NewPolicy,
    ) -> Result<Option<PolicyRecord>, StoreError> {
        todo!()
    }
    /// Soft delete of the whole lineage. False when there is no such policy.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("policy")` while a live workspace names it.
    pub async fn remove(&mut self, _root: PolicyId) -> Result<bool, StoreError> {
        todo!()
    }
}
