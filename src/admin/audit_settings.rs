//! `/orgs/me/audit-settings`: how long the audit trail is kept, a legal hold, how long a review may take.

use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Authorized, Input, Json, ManageAudit, ReadAudit, nullable};
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::store::AuditSettings;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get, update))
}

/// What the organization wants of its audit trail.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AuditSettingsView {
    /// Older requests are removed; null: as long as the organization's tier keeps them, which is also the most.
    retention_days: Option<u32>,
    /// While it holds, no request is removed or erased.
    legal_hold: bool,
    hold_reason: Option<String>,
    /// How long a review may take when nobody says otherwise.
    review_hours: u32,
}

impl From<AuditSettings> for AuditSettingsView {
    fn from(settings: AuditSettings) -> Self {
        let AuditSettings { retention_days, legal_hold, hold_reason, review_hours } = settings;
        Self { retention_days, legal_hold, hold_reason, review_hours }
    }
}

/// What is missing stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"retention_days": 365, "review_hours": 48}))]
pub struct AuditSettingsUpdate {
    #[serde(default, deserialize_with = "nullable")]
    #[schema(minimum = 1, maximum = 36_500)]
    retention_days: Option<Option<u32>>,
    legal_hold: Option<bool>,
    /// Goes with the hold.
    #[schema(min_length = 1, max_length = 500)]
    hold_reason: Option<String>,
    #[schema(minimum = 1, maximum = 8_760)]
    review_hours: Option<u32>,
}

impl Input for AuditSettingsUpdate {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.legal_hold == Some(true) && self.hold_reason.is_none() {
            faults.push(Fault::at("/hold_reason", "is needed for a legal hold"));
        }
        if self.legal_hold != Some(true) && self.hold_reason.is_some() {
            faults.push(Fault::at("/hold_reason", "comes with `legal_hold`"));
        }
        faults
    }
}

/// The settings of the audit trail
#[utoipa::path(get, path = "/orgs/me/audit-settings", tag = "audit", operation_id = "getAuditSettings",
    security(("session" = ["audit:read"])), responses(
    (status = 200, description = "The settings", body = AuditSettingsView),
))]
async fn get(admin: Authorized<ReadAudit>) -> Result<axum::Json<AuditSettingsView>, Problem> {
    Ok(axum::Json(admin.read().await?.audit_settings().get().await?.into()))
}

/// Change the settings of the audit trail
///
/// A shorter retention removes requests within the hour, for good.
#[utoipa::path(patch, path = "/orgs/me/audit-settings", tag = "audit", operation_id = "updateAuditSettings",
    security(("session" = ["audit:manage"])), responses(
    (status = 200, description = "Changed", body = AuditSettingsView),
))]
async fn update(
    admin: Authorized<ManageAudit>,
    Json(body): Json<AuditSettingsUpdate>,
) -> Result<axum::Json<AuditSettingsView>, Problem> {
    let mut tx = admin.write().await?;
    tx.serialize().await?;
    let old = tx.audit_settings().get().await?;
    let hold = body.legal_hold.unwrap_or(old.legal_hold);
    let settings = AuditSettings {
        retention_days: body.retention_days.unwrap_or(old.retention_days),
        legal_hold: hold,
        hold_reason: body.hold_reason.or(old.hold_reason.clone()).filter(|_| hold),
        review_hours: body.review_hours.unwrap_or(old.review_hours),
    };
    tx.audit_settings().set(&settings).await?;
    let (old, new) = (AuditSettingsView::from(old), AuditSettingsView::from(settings));
    tx.commit(Act::new("audit_settings.update").changed(&old, &new)).await?;
    Ok(axum::Json(new))
}
