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

/// The policies of the organization.
pub struct Policies<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, root_id, org_id, name, description, version, parent_policy_id, document, is_default, is_active, \
         canary_percentage, comment, created_by, created_at"
    };
}
pub(super) use columns;

impl Policies<'_> {
    /// Version 1 of a new policy. Made default, it takes that from the one before.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("policy name")`.
    pub async fn insert(&mut self, policy: NewPolicy) -> Result<PolicyRecord, StoreError> {
        let scope = self.tx.scope();
        self.tx.tx.serialize(scope).await?;
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
            WHERE org_id = $1 AND root_id = $2 AND version < $3 AND deleted_at IS NULL
            ORDER BY version DESC
            LIMIT $4"
        );
        let start = page.start::<i64>()?;
        let rows = self.tx.statement(VERSIONS).bind(root).bind(start).bind(page.rows()).all().await?;
        Ok(page.page(rows, |policy: &PolicyRecord| policy.version))
    }

    /// A new version, in force at once. `policy.id` is the id of the new version; name and default-ness come from `policy` too.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when `expected` is not the version in force; [`StoreError::Conflict`]`("policy name")`.
    pub async fn replace(
        &mut self,
        root: PolicyId,
        expected: i64,
        policy: NewPolicy,
    ) -> Result<Option<PolicyRecord>, StoreError> {
        const LAST: TenantSql =
            tenant_sql!("SELECT COALESCE(MAX(version), 0) FROM policies WHERE org_id = $1 AND root_id = $2");
        const RETIRE: TenantSql =
            tenant_sql!("UPDATE policies SET is_active = FALSE WHERE org_id = $1 AND id = $2 AND is_active");
        let scope = self.tx.scope();
        self.tx.tx.serialize(scope).await?;
        let Some(current) = self.find(root).await? else { return Ok(None) };
        if current.version != expected {
            return Err(StoreError::Stale);
        }
        // Not `current.version`: after a roll-back the newest version is not the one in force.
        let (last,): (i64,) = self.tx.statement(LAST).bind(root).one().await?;
        self.tx.statement(RETIRE).bind(current.id).execute().await?;
        self.put(policy, root, last + 1, Some(current.id)).await.map(Some)
    }

    /// Soft delete of the whole lineage. False when there is no such policy.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("policy")` while a live workspace names it.
    pub async fn remove(&mut self, root: PolicyId) -> Result<bool, StoreError> {
        const USED: TenantSql =
            tenant_sql!("SELECT COUNT(*) FROM workspaces WHERE org_id = $1 AND policy_id = $2 AND deleted_at IS NULL");
        const REMOVE: TenantSql = tenant_sql!(
            "UPDATE policies SET deleted_at = $3 WHERE org_id = $1 AND root_id = $2 AND deleted_at IS NULL"
        );
        let scope = self.tx.scope();
        self.tx.tx.serialize(scope).await?;
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
        const CLEAR: TenantSql = tenant_sql!(
            "UPDATE policies SET is_default = FALSE WHERE org_id = $1 AND is_default AND is_active AND deleted_at IS NULL"
        );
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO policies (
                org_id, id, root_id, name, description, version, parent_policy_id, document, is_default, comment, created_by,
                created_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            RETURNING ",
            columns!()
        );
        if policy.is_default {
            self.tx.statement(CLEAR).execute().await?;
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
}
