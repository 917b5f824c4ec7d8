//! What `GET /health` answers, the same on both faces.

use serde::Serialize;

use crate::audit::Journal;
use crate::store::Store;

/// `ok`: everything works. `degraded`: requests are served, something waits. `failing`: requests are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    Ok,
    Degraded,
    Failing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AuditHealth {
    pub backlog_records: u64,
    pub backlog_bytes: u64,
    pub limit_bytes: u64,
    pub full: bool,
}

/// The body of `GET /health`; 200 unless `failing`, then 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HealthReport {
    pub status: HealthStatus,
    pub version: &'static str,
    /// `ok` or `unavailable`.
    pub database: &'static str,
    pub audit: AuditHealth,
}

#[derive(Clone)]
pub struct Health {
    pub store: Store,
    pub journal: Journal,
}

impl Health {
    /// Asks the database once; waits at most a second for it.
    pub async fn report(&self) -> HealthReport {
        let ping = tokio::time::timeout(std::time::Duration::from_secs(1), self.store.ping()).await;
        let database = matches!(ping, Ok(Ok(())));
        let journal = self.journal.status();
        let status = match (database, journal.full) {
            (_, true) => HealthStatus::Failing,
            (false, false) => HealthStatus::Degraded,
            (true, false) => HealthStatus::Ok,
        };
        HealthReport {
            status,
            version: env!("CARGO_PKG_VERSION"),
            database: if database { "ok" } else { "unavailable" },
            audit: AuditHealth {
                backlog_records: journal.backlog_records,
                backlog_bytes: journal.backlog_bytes,
                limit_bytes: journal.limit_bytes,
                full: journal.full,
            },
        }
    }
}
