//! The end of organizations: deletion that can be taken back, and removal for good.

use std::time::Duration;

use sqlx::types::uuid::Uuid;

use super::engine::Mode;
use super::organizations::columns;
use super::statement::{TenantSql, tenant_sql};
use super::workspaces::distinct;
use super::{
    Change, NewAdminEvent, OrganizationRecord, Organizations, Page, PageRequest, Store, StoreError, TenantScope,
    TokenHash, admin_events,
};
use crate::domain::{OrgId, Timestamp};

/// How long a deleted organization can be restored; then it is removed for good.
pub const RESTORABLE: Duration = Duration::from_secs(30 * 86_400);
/// Organizations that one round of pruning removes.
const PURGED_AT_ONCE: i64 = 20;

/// How far the removal of an organization has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// It is not deleted, or not for long enough.
    Nothing,
    /// A part of its trails is gone; there is more.
    Part,
    All,
}

impl Organizations<'_> {
    /// Soft delete: its keys are refused from the next request on, and all its sessions end. Whoever has the token of
    /// `restore` can take it back. None when it is deleted.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete(&mut self, restore: Option<TokenHash>) -> Result<Option<OrganizationRecord>, StoreError> {
        const DELETE: TenantSql = tenant_sql!(
            "UPDATE organizations SET deleted_at = $2, restore_hash = $3, version = version + 1, updated_at = $2
            WHERE id = $1 AND deleted_at IS NULL
            RETURNING ",
            columns!()
        );
        const END: TenantSql =
            tenant_sql!("UPDATE sessions SET revoked_at = $2 WHERE org_id = $1 AND revoked_at IS NULL");
        let now = self.tx.now();
        let hash = restore.map(|hash| hash.to_vec());
        let deleted = self.tx.statement(DELETE).bind(now).bind(hash).optional().await?;
        if deleted.is_some() {
            self.tx.statement(END).bind(now).execute().await?;
            let org = self.tx.scope().org_id();
            self.tx.record(Change::Organization { org });
        }
        Ok(deleted)
    }

    /// Addresses of active owners, at most 50.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn owners(&mut self) -> Result<Vec<String>, StoreError> {
        const OWNERS: TenantSql = tenant_sql!(
            "SELECT email FROM users WHERE org_id = $1 AND role = 'owner' AND is_active AND deleted_at IS NULL
            ORDER BY id
            LIMIT 50"
        );
        let owners: Vec<(String,)> = self.tx.statement(OWNERS).all().await?;
        Ok(owners.into_iter().map(|(email,)| email).collect())
    }
}

#[derive(sqlx::FromRow)]
struct Deleted {
    id: OrgId,
}

impl Store {
    /// For whoever runs Sentinel: all organizations, deleted ones too, or those with this id, slug or name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Missing`]`("cursor")`.
    pub async fn operator_organizations(
        &self,
        named: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<(TenantScope, OrganizationRecord)>, StoreError> {
        const LIST: &str = concat!(
            "SELECT ",
            columns!(),
            " FROM organizations
            WHERE id < $1 AND ($2 IS NULL OR slug = $2 OR name = $2 OR id = $3)
            ORDER BY id DESC
            LIMIT $4"
        );
        let id = named.and_then(|text| text.parse::<OrgId>().ok());
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let list = tx.statement(LIST).bind(page.start::<Uuid>()?).bind(named).bind(id);
        let rows: Vec<OrganizationRecord> = list.bind(page.rows()).all().await?;
        tx.commit().await?;
        let Page { data, next_cursor } = page.page(rows, |organization| organization.id.uuid());
        let data = data.into_iter().map(|record| (TenantScope { org: record.id }, record)).collect();
        Ok(Page { data, next_cursor })
    }

    /// The deleted organization that a token restores, while it can be.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resolve_restore_token(&self, token: &TokenHash) -> Result<Option<TenantScope>, StoreError> {
        const RESOLVE: &str = "SELECT id FROM organizations WHERE restore_hash = $1 AND deleted_at > $2";
        let since = self.inner.clock.now().minus(RESTORABLE);
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let found: Option<Deleted> = tx.statement(RESOLVE).bind(&token[..]).bind(since).optional().await?;
        tx.commit().await?;
        Ok(found.map(|Deleted { id }| TenantScope { org: id }))
    }

    /// Takes back a deletion that is not older than [`RESTORABLE`], with its event. Its keys work again; sessions do not.
    /// When its slug was given to another meanwhile, it gets one of its own.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("organization")` when it is not deleted, or was too long ago.
    pub async fn restore_organization(
        &self,
        scope: TenantScope,
        event: NewAdminEvent,
    ) -> Result<OrganizationRecord, StoreError> {
        const FIND: &str = "
            SELECT o.slug, (
                SELECT COUNT(*) FROM organizations other WHERE other.slug = o.slug AND other.deleted_at IS NULL
            ) AS taken
            FROM organizations o
            WHERE o.id = $1 AND o.deleted_at > $2";
        const RESTORE: TenantSql = tenant_sql!(
            "UPDATE organizations
            SET deleted_at = NULL, restore_hash = NULL, slug = $2, version = version + 1, updated_at = $3
            WHERE id = $1 AND deleted_at > $4
            RETURNING ",
            columns!()
        );
        let now = self.inner.clock.now();
        let since = now.minus(RESTORABLE);
        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        let found: Option<(String, i64)> = tx.statement(FIND).bind(scope.org_id()).bind(since).optional().await?;
        let (slug, taken) = found.ok_or(StoreError::Missing("organization"))?;
        let slug = if taken == 0 { slug } else { distinct(&slug, scope.org_id().uuid()) };
        let mut tx = self.enter(tx, scope).await?;
        let restored: Option<OrganizationRecord> =
            tx.statement(RESTORE).bind(slug).bind(now).bind(since).optional().await?;
        let restored = restored.ok_or(StoreError::Missing("organization"))?;
        tx.record(Change::Organization { org: scope.org_id() });
        tx.admin_events().insert(event).await?;
        tx.commit().await?;
        Ok(restored)
    }

    /// Removes everything of an organization that was deleted before `before`, in as many transactions as it takes; `event`
    /// stays, outside any organization. False when there is no such organization.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; what was removed before stays removed.
    pub async fn purge_organization(
        &self,
        org: OrgId,
        before: Timestamp,
        event: NewAdminEvent,
    ) -> Result<bool, StoreError> {
        loop {
            let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
            let purged = tx.purge(org, before).await?;
            if purged == Purged::All {
                admin_events::insert_without_organization(&mut tx, event, self.inner.clock.now()).await?;
                tx.commit().await?;
                return Ok(true);
            }
            tx.commit().await?;
            if purged == Purged::Nothing {
                return Ok(false);
            }
        }
    }

    /// Removes organizations that can no longer be restored. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; what was removed before stays removed.
    pub async fn purge_deleted(&self) -> Result<u64, StoreError> {
        // A legal hold outlives the organization.
        const FIND: &str = "
            SELECT o.id FROM organizations o
            WHERE o.deleted_at < $1
                AND NOT EXISTS (SELECT 1 FROM audit_settings s WHERE s.org_id = o.id AND s.legal_hold)
            ORDER BY o.deleted_at
            LIMIT $2";
        let before = self.inner.clock.now().minus(RESTORABLE);
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let deleted: Vec<Deleted> = tx.statement(FIND).bind(before).bind(PURGED_AT_ONCE).all().await?;
        tx.commit().await?;
        let mut removed = 0;
        for Deleted { id } in deleted {
            let event = NewAdminEvent::by_system("organization.purge", id);
            removed += u64::from(self.purge_organization(id, before, event).await?);
        }
        Ok(removed)
    }
}
