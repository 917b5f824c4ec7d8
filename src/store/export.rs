//! What an export of a whole organization reads and no list shows.

use sqlx::types::uuid::Uuid;

use super::statement::{TenantSql, tenant_sql};
use super::{Page, PageRequest, PolicyRecord, SavedFilterRecord, StoreError, TenantTx, policies, saved_filters};

/// The organization as an export reads it.
pub struct Exports<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl Exports<'_> {
    /// All versions of all policies, newest first.
    pub async fn policies(&mut self, page: &PageRequest) -> Result<Page<PolicyRecord>, StoreError> {
        const LIST: TenantSql = tenant_sql!(
            "SELECT ",
            policies::columns!(),
            " FROM policies WHERE org_id = $1 AND id < $2 AND deleted_at IS NULL ORDER BY id DESC LIMIT $3"
        );
        let rows = self.tx.statement(LIST).bind(page.start::<Uuid>()?).bind(page.rows()).all().await?;
        Ok(page.page(rows, |policy: &PolicyRecord| policy.id.uuid()))
    }

    /// Everybody's saved filters, newest first.
    pub async fn saved_filters(&mut self, page: &PageRequest) -> Result<Page<SavedFilterRecord>, StoreError> {
        const LIST: TenantSql = tenant_sql!(
            "SELECT ",
            saved_filters::columns!(),
            " FROM saved_filters WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        );
        let rows = self.tx.statement(LIST).bind(page.start::<Uuid>()?).bind(page.rows()).all().await?;
        Ok(page.page(rows, |filter: &SavedFilterRecord| filter.id.uuid()))
    }
}
