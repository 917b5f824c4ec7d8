//! Stage 8: what we remember. A record is in the local journal before the upstream is contacted; a shipper copies records
//! to the database and releases segments.

use std::path::Path;
use std::sync::Arc;

use crate::config::AuditConfig;
use crate::domain::{AuditEvent, Completion, SharedClock};
use crate::store::Store;
use crate::telemetry::Metrics;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The backlog is at its bound and the configuration says `when_full: refuse`.
    #[error("the audit journal is full: {backlog} of {limit} bytes wait for the database")]
    Full { backlog: u64, limit: u64 },
    #[error("the audit journal cannot be written: {0}")]
    Io(String),
    #[error("the audit journal is closed")]
    Closed,
}

/// For `/health` and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalStatus {
    pub backlog_records: u64,
    pub backlog_bytes: u64,
    pub limit_bytes: u64,
    /// New requests are refused (or, with `when_full: allow`, not recorded).
    pub full: bool,
    /// The last attempt to ship failed.
    pub database_away: bool,
    /// Files that could not be read in full when the journal was opened, and what was cut.
    pub damaged: Vec<String>,
}

/// The node's append-only file of requests. Clones share it.
#[derive(Clone)]
pub struct Journal {}

impl Journal {
    /// Opens or makes the journal in `dir`; reads what an earlier run left there, to be shipped first. Only one process
    /// can have it open.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn open(
        _dir: &Path,
        _config: &AuditConfig,
        _clock: SharedClock,
        _metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        todo!()
    }

    /// The name that this node writes into its records: made once, kept in `dir`.
    #[must_use]
    pub fn node(&self) -> &str {
        todo!()
    }

    /// Returns when the record is in the file (and on the disk, with `sync: always`).
    ///
    /// # Errors
    /// [`JournalError`]: the request must be refused.
    pub async fn begin(&self, _event: AuditEvent) -> Result<(), JournalError> {
        todo!()
    }

    /// Completes a record; never waits.
    pub fn complete(&self, _completion: Completion) {
        todo!()
    }

    /// A request that is over when it is recorded (refused, blocked, `/process`): one record instead of two. Returns when it is in the file.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn record(&self, _event: AuditEvent, _completion: Completion) -> Result<(), JournalError> {
        todo!()
    }

    #[must_use]
    pub fn status(&self) -> JournalStatus {
        todo!()
    }

    /// Writes what is queued, syncs, stops the writer.
    pub async fn close(&self) {
        todo!()
    }
}

/// Copies journal records to the database until `stop` turns true, then once more what is complete, and returns.
/// Records whose completion an earlier run did not write are shipped as `interrupted`.
pub async fn ship(_journal: Journal, _store: Store, _stop: tokio::sync::watch::Receiver<bool>) {
    todo!()
}
