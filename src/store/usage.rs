//! Requests of organizations, counted by month over all nodes.

use super::statement::{TenantSql, tenant_sql};
use super::{Organizations, Store, StoreError, TenantScope};
use crate::domain::{Month, OrgId};

impl Store {
    /// Adds requests that this node has admitted; called in batches by a background task. Returns the month's count over
    /// all nodes; none when the organization is gone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: whether they were added is then unknown.
    pub async fn add_requests(&self, org: OrgId, month: Month, requests: u64) -> Result<Option<u64>, StoreError> {
        const ADD: TenantSql = tenant_sql!(
            "INSERT INTO usage_counters (org_id, month, requests)
            SELECT id, $2, $3 FROM organizations WHERE id = $1
            ON CONFLICT (org_id, month) DO UPDATE SET requests = usage_counters.requests + excluded.requests
            RETURNING requests"
        );
        let mut tx = self.write(TenantScope { org }).await?;
        let requests = i64::try_from(requests).unwrap_or(i64::MAX);
        let add = tx.statement(ADD).bind(i64::from(month.number())).bind(requests);
        let total: Option<(i64,)> = add.optional().await?;
        tx.commit().await?;
        Ok(total.map(|(total,)| total.unsigned_abs()))
    }
}

impl Organizations<'_> {
    /// Requests that were admitted in this month, as far as the nodes have told.
    pub async fn requests_this_month(&mut self) -> Result<u64, StoreError> {
        const COUNTED: TenantSql = tenant_sql!("SELECT requests FROM usage_counters WHERE org_id = $1 AND month = $2");
        let month = self.tx.now().month();
        let counted: Option<(i64,)> = self.tx.statement(COUNTED).bind(i64::from(month.number())).optional().await?;
        Ok(counted.map_or(0, |(requests,)| requests.unsigned_abs()))
    }
}
