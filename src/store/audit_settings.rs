//! What an organization wants of its audit trail.

use super::statement::{TenantSql, tenant_sql};
use super::values::{Count, OptionalCount};
use super::{StoreError, TenantTx};

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditSettings {
    /// None: as long as its tier keeps rows.
    #[sqlx(try_from = "OptionalCount")]
    pub retention_days: Option<u32>,
    /// While it holds, nothing is removed or erased.
    pub legal_hold: bool,
    pub hold_reason: Option<String>,
    /// How long a review may take.
    #[sqlx(try_from = "Count")]
    pub review_hours: u32,
}

impl Default for AuditSettings {
    /// Those of an organization that has set nothing; the migration knows the same.
    fn default() -> Self {
        Self { retention_days: None, legal_hold: false, hold_reason: None, review_hours: 72 }
    }
}

/// The settings of the organization.
pub struct AuditSettingsOf<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl AuditSettingsOf<'_> {
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn get(&mut self) -> Result<AuditSettings, StoreError> {
        const GET: TenantSql = tenant_sql!(
            "SELECT retention_days, legal_hold, hold_reason, review_hours FROM audit_settings WHERE org_id = $1"
        );
        Ok(self.tx.statement(GET).optional().await?.unwrap_or_default())
    }

    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn set(&mut self, settings: &AuditSettings) -> Result<(), StoreError> {
        const SET: TenantSql = tenant_sql!(
            "INSERT INTO audit_settings (org_id, retention_days, legal_hold, hold_reason, review_hours)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (org_id) DO UPDATE
            SET retention_days = $2, legal_hold = $3, hold_reason = $4, review_hours = $5"
        );
        let set = self.tx.statement(SET).bind(settings.retention_days.map(i64::from)).bind(settings.legal_hold);
        set.bind(settings.hold_reason.as_deref()).bind(i64::from(settings.review_hours)).execute().await?;
        Ok(())
    }
}
