use sqlx::types::Json;
use sqlx::types::uuid::Uuid;

use super::error::taken;
use super::sort::{Value, sorted};
use super::statement::{TenantSql, tenant_sql};
use super::{Change, Page, PageRequest, Sort, StoreError, TenantTx, WorkspaceColumn};
use crate::domain::{OrgId, PolicyId, Timestamp, WorkspaceId};

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
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
    /// Overrides of the configuration (`{}` by default), as `domain::WorkspaceConfig` reads them.
    #[sqlx(json)]
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

/// The projects and environments of the organization.
pub struct Workspaces<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, org_id, name, slug, description, environment, policy_id, config, is_active, version, created_at, updated_at"
    };
}

/// The statement of [`Workspaces::insert`], which registration uses too.
pub(super) const INSERT: TenantSql = tenant_sql!(
    "INSERT INTO workspaces (
        org_id, id, name, slug, description, environment, policy_id, config, created_at, updated_at
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
    RETURNING ",
    columns!()
);

impl Workspaces<'_> {
    /// # Errors
    /// [`StoreError::Conflict`]`("workspace name")`; [`StoreError::Missing`]`("policy_id")`.
    pub async fn insert(&mut self, workspace: NewWorkspace) -> Result<WorkspaceRecord, StoreError> {
        if let Some(policy) = workspace.policy_id {
            self.require_policy(policy).await?;
        }
        let slug = self.free_slug(&workspace.name, workspace.id).await?;
        let now = self.tx.now();
        self.tx
            .statement(INSERT)
            .bind(workspace.id)
            .bind(workspace.name)
            .bind(slug)
            .bind(workspace.description)
            .bind(workspace.environment)
            .bind(workspace.policy_id)
            .bind(Json(workspace.config))
            .bind(now)
            .one()
            .await
            .map_err(taken("workspace name"))
    }

    pub async fn find(&mut self, id: WorkspaceId) -> Result<Option<WorkspaceRecord>, StoreError> {
        const FIND: TenantSql =
            tenant_sql!("SELECT ", columns!(), " FROM workspaces WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL");
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// Newest first.
    pub async fn list(&mut self, page: &PageRequest) -> Result<Page<WorkspaceRecord>, StoreError> {
        self.list_by(Sort::default(), None, page).await
    }

    /// Those that are there, or instead those that were deleted after a time.
    pub async fn list_by(
        &mut self,
        sort: Sort<WorkspaceColumn>,
        deleted_since: Option<Timestamp>,
        page: &PageRequest,
    ) -> Result<Page<WorkspaceRecord>, StoreError> {
        macro_rules! by {
            ($column:literal) => {
                sorted!(
                    (
                        "SELECT ",
                        columns!(),
                        " FROM workspaces
                        WHERE org_id = $1
                            AND (($5 IS NULL AND deleted_at IS NULL) OR deleted_at > $5)"
                    ),
                    $column,
                    "id"
                )
            };
        }
        let both = match sort.by {
            WorkspaceColumn::CreatedAt => by!("created_at"),
            WorkspaceColumn::Name => by!("name"),
        };
        let start = sort.start(page)?;
        let statement = start.bind(self.tx.statement(sort.of(both))).bind(page.rows()).bind(deleted_since);
        let rows = statement.all().await?;
        Ok(sort.page(page, rows, |workspace: &WorkspaceRecord| {
            let value = match sort.by {
                WorkspaceColumn::CreatedAt => Value::Time(workspace.created_at),
                WorkspaceColumn::Name => Value::Text(workspace.name.clone()),
            };
            (value, workspace.id.uuid())
        }))
    }

    /// # Errors
    /// [`StoreError::Stale`] when `expected` is given and is not the row's version; [`StoreError::Conflict`]`("workspace name")`;
    /// [`StoreError::Missing`]`("policy_id")`.
    pub async fn update(
        &mut self,
        id: WorkspaceId,
        patch: WorkspacePatch,
        expected: Option<i64>,
    ) -> Result<Option<WorkspaceRecord>, StoreError> {
        const UPDATE: TenantSql = tenant_sql!(
            "UPDATE workspaces
            SET name = COALESCE($3, name),
                description = CASE WHEN $4 THEN $5 ELSE description END,
                environment = COALESCE($6, environment),
                policy_id = CASE WHEN $7 THEN $8 ELSE policy_id END,
                config = COALESCE($9, config),
                is_active = COALESCE($10, is_active),
                version = version + 1,
                updated_at = $11
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL
                AND ($12 IS NULL OR version = $12)
            RETURNING ",
            columns!()
        );
        if let Some(Some(policy)) = patch.policy_id {
            self.require_policy(policy).await?;
        }
        let now = self.tx.now();
        let updated = self
            .tx
            .statement(UPDATE)
            .bind(id)
            .bind(patch.name)
            .bind(patch.description.is_some())
            .bind(patch.description.flatten())
            .bind(patch.environment)
            .bind(patch.policy_id.is_some())
            .bind(patch.policy_id.flatten())
            .bind(patch.config.map(Json))
            .bind(patch.is_active)
            .bind(now)
            .bind(expected)
            .optional()
            .await
            .map_err(taken("workspace name"))?;
        if updated.is_none() {
            return if self.find(id).await?.is_some() { Err(StoreError::Stale) } else { Ok(None) };
        }
        let org = self.tx.scope().org_id();
        self.tx.record(Change::Organization { org });
        if patch.policy_id.is_some() {
            self.tx.record(Change::Policy { org });
        }
        Ok(updated)
    }

    /// Soft delete; revokes the workspace's keys. False when there is no such workspace.
    pub async fn remove(&mut self, id: WorkspaceId) -> Result<bool, StoreError> {
        const REMOVE: TenantSql = tenant_sql!(
            "UPDATE workspaces
            SET deleted_at = $3, is_active = FALSE, version = version + 1, updated_at = $3
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        const REVOKE: TenantSql = tenant_sql!(
            "UPDATE api_keys
            SET revoked_at = $3, is_active = FALSE, updated_at = $3
            WHERE org_id = $1 AND workspace_id = $2 AND revoked_at IS NULL"
        );
        let now = self.tx.now();
        let removed = self.tx.statement(REMOVE).bind(id).bind(now).execute().await? == 1;
        if removed {
            self.tx.statement(REVOKE).bind(id).bind(now).execute().await?;
            let org = self.tx.scope().org_id();
            self.tx.record(Change::Organization { org });
        }
        Ok(removed)
    }

    /// Takes back a deletion after `since`; the workspace's keys stay revoked. None when nothing was deleted since then.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("workspace name")` when the name was given to another meanwhile.
    pub async fn restore(&mut self, id: WorkspaceId, since: Timestamp) -> Result<Option<WorkspaceRecord>, StoreError> {
        const RESTORE: TenantSql = tenant_sql!(
            "UPDATE workspaces
            SET deleted_at = NULL, is_active = TRUE, version = version + 1, updated_at = $4
            WHERE org_id = $1 AND id = $2 AND deleted_at > $3
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        let restored = self.tx.statement(RESTORE).bind(id).bind(since).bind(now).optional().await;
        let restored = restored.map_err(taken("workspace name"))?;
        if restored.is_some() {
            let org = self.tx.scope().org_id();
            self.tx.record(Change::Organization { org });
        }
        Ok(restored)
    }

    pub async fn count(&mut self) -> Result<u64, StoreError> {
        const COUNT: TenantSql =
            tenant_sql!("SELECT COUNT(*) FROM workspaces WHERE org_id = $1 AND deleted_at IS NULL");
        let (count,): (i64,) = self.tx.statement(COUNT).one().await?;
        Ok(count.unsigned_abs())
    }

    /// In line with [`super::Policies::remove`], so that no policy is removed between this look and the write.
    async fn require_policy(&mut self, root: PolicyId) -> Result<(), StoreError> {
        let scope = self.tx.scope();
        self.tx.tx.serialize(scope).await?;
        self.tx.policies().find(root).await?.map(|_| ()).ok_or(StoreError::Missing("policy_id"))
    }

    async fn free_slug(&mut self, name: &str, id: WorkspaceId) -> Result<String, StoreError> {
        const TAKEN: TenantSql =
            tenant_sql!("SELECT COUNT(*) FROM workspaces WHERE org_id = $1 AND slug = $2 AND deleted_at IS NULL");
        let slug = slug(name);
        let (taken,): (i64,) = self.tx.statement(TAKEN).bind(slug.as_str()).one().await?;
        Ok(if taken == 0 { slug } else { distinct(&slug, id.uuid()) })
    }
}

/// A name as part of an address: lower-case letters and digits of ASCII, joined by hyphens, at most 48.
pub(super) fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.to_lowercase().chars() {
        if slug.len() >= 48 {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "unnamed".to_owned() } else { slug.to_owned() }
}

/// The slug with random digits of the row's id.
pub(super) fn distinct(slug: &str, id: Uuid) -> String {
    let (_, low) = id.as_u64_pair();
    format!("{slug}-{:08x}", low & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_short_plain_and_never_empty() {
        for (name, expected) in
            [("Acme Corp", "acme-corp"), ("  --Ünïcode!  ", "n-code"), ("東京", "unnamed"), ("a", "a"), ("", "unnamed")]
        {
            assert_eq!(slug(name), expected, "{name}");
        }
        assert_eq!(slug(&"x".repeat(300)).len(), 48);
        let id = Uuid::from_u128(0x1234_5678_9abc_def0);
        assert_eq!(distinct("acme", id), "acme-9abcdef0");
    }
}
