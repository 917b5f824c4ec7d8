use sqlx::types::Json;

use super::error::taken;
use super::sort::{Value, sorted};
use super::statement::{TenantSql, tenant_sql};
use super::values::Count;
use super::{Change, Page, PageRequest, PolicyColumn, Sort, StoreError, TenantTx};
use crate::domain::{OrgId, PolicyId, Timestamp, UserId};

/// One version of a policy. Versions are immutable: replacing makes a new row whose `parent_policy_id` is the old one.
/// The `id` that the API shows is the policy's lineage: the id of its first version, which every version carries in `root_id`.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
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
    #[sqlx(json)]
    pub document: serde_json::Value,
    /// The organization's default: in force where a workspace names none.
    pub is_default: bool,
    /// True for the version in force of its lineage.
    pub is_active: bool,
    #[sqlx(try_from = "Count")]
    pub canary_percentage: u8,
    pub comment: Option<String>,
    /// Of a draft: who wrote it first.
    pub created_by: Option<UserId>,
    /// Of a draft: when it was last edited.
    pub created_at: Timestamp,
    /// Not in force and never was; see [`super::PolicyDrafts`].
    pub is_draft: bool,
    /// Made of reviewers' feedback.
    pub is_proposal: bool,
    /// Counts the edits of a draft, from 1.
    pub revision: i64,
    /// Who edited the draft last, if anybody did.
    pub updated_by: Option<UserId>,
    pub approved_by: Option<UserId>,
    pub approved_at: Option<Timestamp>,
    /// When a roll-back took the version out of force.
    pub rolled_back_at: Option<Timestamp>,
    /// Requests that reviewers found wrongly acted upon under this version.
    pub false_positives: i64,
    /// Of the requests under this version that reviewers judged; None when they judged none.
    pub false_positive_rate: Option<f64>,
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

/// The policies of the organization.
pub struct Policies<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, root_id, org_id, name, description, version, parent_policy_id, document, is_default, is_active, \
         canary_percentage, comment, created_by, created_at, is_draft, is_proposal, revision, updated_by, approved_by, \
         approved_at, rolled_back_at, false_positives, false_positive_rate"
    };
}
pub(super) use columns;

impl Policies<'_> {
    /// Version 1 of a new policy. Made default, it takes that from the one before.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("policy name")`; `("approval")` where changes need one.
    pub async fn insert(&mut self, policy: NewPolicy) -> Result<PolicyRecord, StoreError> {
        self.tx.serialize().await?;
        self.unless_approval_is_needed().await?;
        let root = policy.id;
        self.put(policy, root, 1, None).await
    }

    /// The version in force.
    pub async fn find(&mut self, root: PolicyId) -> Result<Option<PolicyRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM policies WHERE org_id = $1 AND root_id = $2 AND is_active AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(root).optional().await?)
    }

    /// The versions in force of all policies; the newest policy first.
    pub async fn list(&mut self, page: &PageRequest) -> Result<Page<PolicyRecord>, StoreError> {
        self.list_by(Sort::default(), page).await
    }

    /// The versions in force of all policies.
    pub async fn list_by(
        &mut self,
        sort: Sort<PolicyColumn>,
        page: &PageRequest,
    ) -> Result<Page<PolicyRecord>, StoreError> {
        macro_rules! by {
            ($column:literal) => {
                sorted!(
                    ("SELECT ", columns!(), " FROM policies WHERE org_id = $1 AND is_active AND deleted_at IS NULL"),
                    $column,
                    "root_id"
                )
            };
        }
        let both = match sort.by {
            PolicyColumn::CreatedAt => by!("root_id"),
            PolicyColumn::Name => by!("name"),
            PolicyColumn::UpdatedAt => by!("created_at"),
        };
        let start = sort.start(page)?;
        let rows = start.bind(self.tx.statement(sort.of(both))).bind(page.rows()).all().await?;
        Ok(sort.page(page, rows, |policy: &PolicyRecord| {
            let value = match sort.by {
                PolicyColumn::CreatedAt => Value::Id,
                PolicyColumn::Name => Value::Text(policy.name.clone()),
                PolicyColumn::UpdatedAt => Value::Time(policy.created_at),
            };
            (value, policy.root_id.uuid())
        }))
    }

    /// All versions of one policy, newest first; none when there is no such policy.
    pub async fn versions(&mut self, root: PolicyId, page: &PageRequest) -> Result<Page<PolicyRecord>, StoreError> {
        const VERSIONS: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM policies
            WHERE org_id = $1 AND root_id = $2 AND version < $3 AND deleted_at IS NULL AND NOT is_draft
            ORDER BY version DESC
            LIMIT $4"
        );
        let start = page.start::<i64>()?;
        let rows = self.tx.statement(VERSIONS).bind(root).bind(start).bind(page.rows()).all().await?;
        Ok(page.page(rows, |policy: &PolicyRecord| policy.version))
    }

    /// One version of a policy, whether in force or not.
    pub async fn version(&mut self, root: PolicyId, version: i64) -> Result<Option<PolicyRecord>, StoreError> {
        const VERSION: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM policies
            WHERE org_id = $1 AND root_id = $2 AND version = $3 AND deleted_at IS NULL AND NOT is_draft"
        );
        Ok(self.tx.statement(VERSION).bind(root).bind(version).optional().await?)
    }

    /// The version with this id.
    pub async fn by_id(&mut self, id: PolicyId) -> Result<Option<PolicyRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM policies WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL AND NOT is_draft"
        );
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// The version in force of the policy with this name, upper and lower case being the same.
    pub async fn find_by_name(&mut self, name: &str) -> Result<Option<PolicyRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM policies WHERE org_id = $1 AND lower(name) = lower($2) AND is_active AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(name).optional().await?)
    }

    /// A new version, in force at once. `policy.id` is the id of the new version; name and default-ness come from `policy` too.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when `expected` is not the version in force; [`StoreError::Conflict`]`("policy name")`;
    /// `("approval")` where changes need one.
    pub async fn replace(
        &mut self,
        root: PolicyId,
        expected: i64,
        policy: NewPolicy,
    ) -> Result<Option<PolicyRecord>, StoreError> {
        self.tx.serialize().await?;
        let Some(current) = self.find(root).await? else { return Ok(None) };
        if current.version != expected {
            return Err(StoreError::Stale);
        }
        self.unless_approval_is_needed().await?;
        self.succeed(&current, policy, None).await.map(Some)
    }

    /// A new version equal to an earlier one, in force at once; the parent of the one in force when `to` is None. What was in
    /// force once needs no approval. Returns what was in force, and what is.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("version")` when there is no such version, or it is the one in force;
    /// [`StoreError::Conflict`]`("policy name")`.
    pub async fn roll_back(
        &mut self,
        root: PolicyId,
        to: Option<i64>,
        comment: Option<String>,
        by: Option<UserId>,
    ) -> Result<Option<(PolicyRecord, PolicyRecord)>, StoreError> {
        self.tx.serialize().await?;
        let Some(current) = self.find(root).await? else { return Ok(None) };
        let old: Option<PolicyRecord> = match to {
            Some(version) if version == current.version => None,
            Some(version) => self.version(root, version).await?,
            None => match current.parent_policy_id {
                Some(parent) => self.by_id(parent).await?,
                None => None,
            },
        };
        let old = old.ok_or(StoreError::Missing("version"))?;
        let policy = NewPolicy {
            id: PolicyId::new(),
            comment: Some(comment.unwrap_or_else(|| format!("rolled back to version {}", old.version))),
            created_by: by,
            // Which policy is the default is not of its versions.
            is_default: current.is_default,
            name: old.name,
            description: old.description,
            document: old.document,
        };
        let now = self.tx.now();
        let record = self.succeed(&current, policy, Some(now)).await?;
        Ok(Some((current, record)))
    }

    /// Puts `policy` in the place of the version in force.
    async fn succeed(
        &mut self,
        current: &PolicyRecord,
        policy: NewPolicy,
        rolled_back_at: Option<Timestamp>,
    ) -> Result<PolicyRecord, StoreError> {
        let version = self.next_version(current.root_id).await?;
        self.retire(current.id, rolled_back_at).await?;
        self.put(policy, current.root_id, version, Some(current.id)).await
    }

    pub(super) async fn retire(&mut self, id: PolicyId, rolled_back_at: Option<Timestamp>) -> Result<(), StoreError> {
        const RETIRE: TenantSql = tenant_sql!(
            "UPDATE policies SET is_active = FALSE, rolled_back_at = $3 WHERE org_id = $1 AND id = $2 AND is_active"
        );
        self.tx.statement(RETIRE).bind(id).bind(rolled_back_at).execute().await?;
        Ok(())
    }

    /// Not the one after the version in force: drafts have numbers too.
    pub(super) async fn next_version(&mut self, root: PolicyId) -> Result<i64, StoreError> {
        const LAST: TenantSql =
            tenant_sql!("SELECT COALESCE(MAX(version), 0) FROM policies WHERE org_id = $1 AND root_id = $2");
        let (last,): (i64,) = self.tx.statement(LAST).bind(root).one().await?;
        Ok(last + 1)
    }

    /// # Errors
    /// [`StoreError::Conflict`]`("approval")` where the organization lets nobody change what is in force alone.
    async fn unless_approval_is_needed(&mut self) -> Result<(), StoreError> {
        let needed = self.tx.organization().get().await?.requires_policy_approval();
        if needed { Err(StoreError::Conflict("approval")) } else { Ok(()) }
    }

    /// Soft delete of the whole lineage, drafts included. False when there is no such policy.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("policy")` while a live workspace names it; `("approval")` for the default policy where changes
    /// need one: another would be in force.
    pub async fn remove(&mut self, root: PolicyId) -> Result<bool, StoreError> {
        const USED: TenantSql =
            tenant_sql!("SELECT COUNT(*) FROM workspaces WHERE org_id = $1 AND policy_id = $2 AND deleted_at IS NULL");
        const REMOVE: TenantSql = tenant_sql!(
            "UPDATE policies SET deleted_at = $3 WHERE org_id = $1 AND root_id = $2 AND deleted_at IS NULL"
        );
        let scope = self.tx.scope();
        self.tx.serialize().await?;
        let Some(current) = self.find(root).await? else { return Ok(false) };
        if current.is_default {
            self.unless_approval_is_needed().await?;
        }
        let (used,): (i64,) = self.tx.statement(USED).bind(root).one().await?;
        if used > 0 {
            return Err(StoreError::Conflict("policy"));
        }
        let now = self.tx.now();
        let removed = self.tx.statement(REMOVE).bind(root).bind(now).execute().await? > 0;
        if removed {
            self.tx.record(Change::Policy { org: scope.org_id() });
        }
        Ok(removed)
    }

    async fn put(
        &mut self,
        policy: NewPolicy,
        root: PolicyId,
        version: i64,
        parent: Option<PolicyId>,
    ) -> Result<PolicyRecord, StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO policies (
                org_id, id, root_id, name, description, version, parent_policy_id, document, is_default, comment, created_by,
                created_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            RETURNING ",
            columns!()
        );
        if policy.is_default {
            self.clear_default().await?;
        }
        let now = self.tx.now();
        let record: PolicyRecord = self
            .tx
            .statement(INSERT)
            .bind(policy.id)
            .bind(root)
            .bind(policy.name)
            .bind(policy.description)
            .bind(version)
            .bind(parent)
            .bind(Json(policy.document))
            .bind(policy.is_default)
            .bind(policy.comment)
            .bind(policy.created_by)
            .bind(now)
            .one()
            .await
            .map_err(taken("policy name"))?;
        self.tx.record(Change::Policy { org: record.org_id });
        Ok(record)
    }

    pub(super) async fn clear_default(&mut self) -> Result<(), StoreError> {
        const CLEAR: TenantSql = tenant_sql!(
            "UPDATE policies SET is_default = FALSE WHERE org_id = $1 AND is_default AND is_active AND deleted_at IS NULL"
        );
        self.tx.statement(CLEAR).execute().await?;
        Ok(())
    }
}
