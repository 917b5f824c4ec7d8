use super::{Page, PageRequest, StoreError, TenantTx};
use crate::domain::{Action, ApiKeyId, AuditEvent, AuditId, Category, Completion, Timestamp, WorkspaceId};

/// One line of the audit trail as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    pub event: AuditEvent,
    /// None while the request is running.
    pub completion: Option<Completion>,
    /// Position in the chain of (organization, node); filled by a later release together with the hashes.
    pub seq: Option<i64>,
}

/// All given conditions hold.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub workspace_id: Option<WorkspaceId>,
    pub api_key_id: Option<ApiKeyId>,
    pub user_id: Option<String>,
    pub action: Option<Action>,
    pub category: Option<Category>,
    pub min_risk_score: Option<u8>,
}

/// Requests of one UTC day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayCount {
    /// `2026-11-24`.
    pub day: String,
    pub requests: u64,
    pub blocked: u64,
}

/// What `GET /orgs/me/stats` counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficStats {
    pub requests: u64,
    pub blocked: u64,
    pub redacted: u64,
    pub flagged: u64,
    pub pii_detected: u64,
    pub injections_detected: u64,
    pub average_risk_score: f64,
    pub by_day: Vec<DayCount>,
}

pub struct AuditLogs<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl AuditLogs<'_> {
    pub async fn find(&mut self, _id: AuditId) -> Result<Option<AuditRow>, StoreError> {
        let _ = &self.tx;
        todo!()
    }
    /// Newest first.
    pub async fn list(&mut self, _filter: &AuditFilter, _page: &PageRequest) -> Result<Page<AuditRow>, StoreError> {
        todo!()
    }
    pub async fn stats(&mut self, _from: Timestamp) -> Result<TrafficStats, StoreError> {
        todo!()
    }
}
