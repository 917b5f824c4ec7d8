//! What people may do in single workspaces beyond what they may do everywhere.

use sqlx::types::Json;
use sqlx::types::uuid::Uuid;

use super::error::missing;
use super::statement::{TenantSql, tenant_sql};
use super::{Page, PageRequest, StoreError, TenantTx};
use crate::domain::{Timestamp, UserId, WorkspaceId};

/// A person of a workspace.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct MemberRecord {
    pub user_id: UserId,
    pub workspace_id: WorkspaceId,
    pub email: String,
    pub full_name: String,
    /// In this workspace.
    #[sqlx(json)]
    pub permissions: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

pub struct WorkspaceMembers<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! select {
    () => {
        "SELECT m.user_id, m.workspace_id, u.email, u.full_name, m.permissions, m.created_at, m.updated_at
        FROM workspace_members m
        JOIN users u ON u.org_id = m.org_id AND u.id = m.user_id
        JOIN workspaces w ON w.org_id = m.org_id AND w.id = m.workspace_id
        WHERE m.org_id = $1 AND u.deleted_at IS NULL AND w.deleted_at IS NULL"
    };
}

impl WorkspaceMembers<'_> {
    /// Makes a person a member, or replaces what they may do.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when the organization has no such person or workspace.
    pub async fn set(
        &mut self,
        workspace: WorkspaceId,
        user: UserId,
        permissions: Vec<String>,
    ) -> Result<(), StoreError> {
        const SET: TenantSql = tenant_sql!(
            "INSERT INTO workspace_members (org_id, workspace_id, user_id, permissions, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $5)
            ON CONFLICT (org_id, workspace_id, user_id) DO UPDATE
            SET permissions = excluded.permissions, updated_at = excluded.updated_at"
        );
        let now = self.tx.now();
        let set = self.tx.statement(SET).bind(workspace).bind(user).bind(Json(permissions)).bind(now);
        set.execute().await.map_err(missing("member"))?;
        Ok(())
    }

    pub async fn find(&mut self, workspace: WorkspaceId, user: UserId) -> Result<Option<MemberRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(select!(), " AND m.workspace_id = $2 AND m.user_id = $3");
        Ok(self.tx.statement(FIND).bind(workspace).bind(user).optional().await?)
    }

    /// The newest account first.
    pub async fn list(&mut self, workspace: WorkspaceId, page: &PageRequest) -> Result<Page<MemberRecord>, StoreError> {
        const LIST: TenantSql = tenant_sql!(
            select!(),
            " AND m.workspace_id = $2 AND m.user_id < $3
            ORDER BY m.user_id DESC
            LIMIT $4"
        );
        let list = self.tx.statement(LIST).bind(workspace).bind(page.start::<Uuid>()?).bind(page.rows());
        let rows = list.all().await?;
        Ok(page.page(rows, |member: &MemberRecord| member.user_id.uuid()))
    }

    /// All that a person may do beyond their role, workspace by workspace.
    pub async fn of(&mut self, user: UserId) -> Result<Vec<MemberRecord>, StoreError> {
        const OF: TenantSql = tenant_sql!(select!(), " AND m.user_id = $2 ORDER BY m.workspace_id");
        Ok(self.tx.statement(OF).bind(user).all().await?)
    }

    /// False when the person is no member.
    pub async fn remove(&mut self, workspace: WorkspaceId, user: UserId) -> Result<bool, StoreError> {
        const REMOVE: TenantSql =
            tenant_sql!("DELETE FROM workspace_members WHERE org_id = $1 AND workspace_id = $2 AND user_id = $3");
        Ok(self.tx.statement(REMOVE).bind(workspace).bind(user).execute().await? == 1)
    }
}
