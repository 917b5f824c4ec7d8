//! Stage 8: what we remember. A record is in the local journal before the upstream is contacted; a shipper copies records
//! to the database and releases segments.
//!
//! `record` is one record's bytes, `segment` one file of them, `writer` appends; `journal` takes records from requests, with
//! `threads` for what no request waits for; `outbox` counts what is not shipped; `reader` reads back, `rows` pairs,
//! `shipper` ships; `recovery` opens what an earlier run left; `disk` is the way to the file system. `verify` checks the chains
//! that rows are part of, with what nodes have signed by `signer`; `retention` and `erasure` take away what is not to be kept.
//!
//! In `<data_dir>/journal/`: numbered segments, `open` (requests under way whose segments are gone), `rejected.jsonl` (rows
//! that the database would not take), `*.damaged` (shipped segments with unreadable bytes), `lock`.

mod batch;
mod disk;
mod erasure;
mod journal;
mod outbox;
mod reader;
mod record;
mod recovery;
mod retention;
mod rows;
mod segment;
mod shipper;
mod signer;
mod threads;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use self::disk::RealDisk;
pub use self::erasure::{Erasure, erase};
use self::journal::Core;
use self::record::Entry;
pub use self::retention::{Expired, expire, expire_all, retention_days};
use self::shipper::Pace;
pub use self::shipper::Sink;
pub use self::signer::{SignedCheckpoint, Signer};
use self::threads::Threads;
pub use self::verify::{
    ChainFault, ChainFaultKind, ChainRemoval, ChainReport, ChainStream, Trusted, sign_heads, verify,
};
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
    /// What of the files could not be read, and what was cut.
    pub damaged: Vec<String>,
}

/// The node's append-only file of requests. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Journal {
    core: Arc<Core>,
    threads: Arc<Threads>,
}

impl Journal {
    /// Opens or makes the journal in `dir`; reads what an earlier run left there, to be shipped first. Only one process
    /// can have it open.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn open(
        dir: &Path,
        config: &AuditConfig,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        Self::open_on(Arc::new(RealDisk), dir, config, clock, metrics)
    }

    fn open_on(
        disk: Arc<dyn disk::Disk>,
        dir: &Path,
        config: &AuditConfig,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let core = Arc::new(recovery::open(dir, config, clock, metrics, disk)?);
        let threads = Threads::start(&core).map_err(|error| JournalError::Io(error.to_string()))?;
        Ok(Self { core, threads: Arc::new(threads) })
    }

    /// The name that this node writes into its records: made once, kept in `dir`.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.core.node
    }

    /// Returns when the record is in the file (and on the disk, with `sync: always`).
    ///
    /// # Errors
    /// [`JournalError`]: the request must be refused.
    pub async fn begin(&self, event: Box<AuditEvent>) -> Result<(), JournalError> {
        self.core.append(Entry::Begin(event)).await
    }

    /// Completes a record; never waits. Without effect for a request that was not begun here or is completed already.
    pub fn complete(&self, completion: Completion) {
        self.core.append_later(completion.id, Entry::Completion(completion));
    }

    /// A request that is over when it is recorded (refused, blocked, `/process`): one record instead of two. Returns when it is in the file.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn record(&self, event: Box<AuditEvent>, completion: Completion) -> Result<(), JournalError> {
        self.core.append(Entry::Both(event, completion)).await
    }

    #[must_use]
    pub fn status(&self) -> JournalStatus {
        self.core.status()
    }

    /// Writes what is queued, syncs, stops the writer.
    pub async fn close(&self) {
        let threads = Arc::clone(&self.threads);
        if tokio::task::spawn_blocking(move || threads.stop()).await.is_err() {
            tracing::error!("the audit journal could not be closed in order");
        }
    }
}

/// Copies journal records to the database until `stop` turns true, then once more what there is, and returns within seconds
/// even if the database is away. Records whose completion an earlier run did not write are shipped as `interrupted`.
/// A journal is shipped once: a second call returns at once.
pub async fn ship(journal: Journal, store: Store, stop: tokio::sync::watch::Receiver<bool>) {
    ship_to(journal, store, stop).await;
}

/// [`ship`] into something else than the store.
pub async fn ship_to(journal: Journal, sink: impl Sink, stop: tokio::sync::watch::Receiver<bool>) {
    shipper::run(Arc::clone(&journal.core), sink, stop, Pace::default()).await;
}
