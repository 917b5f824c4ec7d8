//! What the tests of the journal share: requests, a database and disks that fail when told to.

mod faults;
mod files;
mod journal;
mod power;
mod shipper;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use super::shipper::{Pace, Sink, run};
use super::{Journal, JournalError};
use crate::config::{AuditConfig, ByteSize, SyncMode};
use crate::domain::{
    Action, AuditEvent, AuditId, Completion, Coverage, Direction, ManualClock, Outcome, Source, Timestamp,
};
use crate::store::{AuditRow, StoreError};
use crate::telemetry::Metrics;

pub(super) const RECOVERY: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

pub(super) fn id(n: u64) -> AuditId {
    AuditId::from_uuid(Uuid::from_u128(u128::from(n)))
}

pub(super) fn event(n: u64) -> AuditEvent {
    AuditEvent {
        id: id(n),
        org_id: None,
        workspace_id: None,
        api_key_id: None,
        occurred_at: Timestamp::from_micros(1_700_000_000_000_000 + n.cast_signed()),
        node: "node".into(),
        source: Source::Gateway,
        method: "POST".into(),
        path: format!("/v1/{n}"),
        dialect: None,
        upstream: None,
        model: Some("model".to_owned()),
        user_id: None,
        client_ip: None,
        policy_id: None,
        policy_name: None,
        policy_version: None,
        action: Action::Allow,
        direction: Direction::Input,
        risk_score: 0,
        pii_detected: false,
        injection_detected: false,
        escalated: false,
        categories: Vec::new(),
        findings: Vec::new(),
        coverage: Coverage::default(),
        error_code: None,
    }
}

pub(super) fn completion(n: u64) -> Completion {
    Completion {
        id: id(n),
        completed_at: Timestamp::from_micros(1_700_000_001_000_000 + n.cast_signed()),
        outcome: Outcome::Completed,
        status: 200,
        upstream_status: Some(200),
        duration_us: n,
        overhead_us: 20,
        ttfb_us: None,
        response_bytes: 7,
        input_tokens: None,
        output_tokens: None,
        error_code: None,
        answer: None,
    }
}

pub(super) fn config(sync: SyncMode) -> AuditConfig {
    AuditConfig { sync, segment_size: ByteSize::kib(2), batch: 64, ..AuditConfig::default() }
}

pub(super) fn try_open(dir: &Path, config: &AuditConfig) -> Result<Journal, JournalError> {
    Journal::open(dir, config, ManualClock::at(RECOVERY), Arc::new(Metrics::new()))
}

pub(super) fn open(dir: &Path, config: &AuditConfig) -> Journal {
    try_open(dir, config).unwrap()
}

/// What `kill -9` at this moment would leave: the files as they are.
pub(super) fn crash(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("journal")).unwrap();
    for entry in std::fs::read_dir(dir.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join("journal").join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Waits until `fact` is true.
pub(super) async fn until(fact: impl Fn() -> bool) {
    while !fact() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A database in memory, with the store's promises.
#[derive(Clone, Default)]
pub(super) struct Database(pub(super) Arc<Mutex<Tables>>);

#[derive(Default)]
pub(super) struct Tables {
    pub(super) rows: BTreeMap<AuditId, AuditRow>,
    /// Every row that arrived, and whether it was complete.
    pub(super) arrivals: Vec<(AuditId, bool)>,
    pub(super) calls: usize,
    pub(super) largest: usize,
    pub(super) away: bool,
    /// Every statement fails, but not for want of a connection.
    pub(super) broken: bool,
    pub(super) hangs: bool,
    pub(super) poison: HashSet<AuditId>,
}

impl Sink for Database {
    async fn ship(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        if self.0.lock().hangs {
            std::future::pending::<()>().await;
        }
        let mut tables = self.0.lock();
        tables.calls += 1;
        tables.largest = tables.largest.max(rows.len());
        if tables.away {
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        if tables.broken || rows.iter().any(|row| tables.poison.contains(&row.event.id)) {
            return Err(StoreError::Database("no".to_owned()));
        }
        let ids: HashSet<_> = rows.iter().map(|row| row.event.id).collect();
        assert_eq!(ids.len(), rows.len(), "an id is twice in one call");
        for row in rows {
            tables.arrivals.push((row.event.id, row.completion.is_some()));
            let kept = tables.rows.entry(row.event.id).or_insert_with(|| row.clone());
            if kept.completion.is_none() {
                kept.completion.clone_from(&row.completion);
            }
        }
        Ok(())
    }
}

impl Database {
    pub(super) fn len(&self) -> usize {
        self.0.lock().rows.len()
    }

    pub(super) fn completed(&self) -> usize {
        self.with_outcome(Outcome::Completed).len()
    }

    pub(super) fn with_outcome(&self, outcome: Outcome) -> Vec<AuditId> {
        let tables = self.0.lock();
        let rows = tables.rows.values();
        rows.filter(|row| row.completion.as_ref().is_some_and(|end| end.outcome == outcome))
            .map(|row| row.event.id)
            .collect()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Tables)) {
        change(&mut self.0.lock());
    }
}

/// As fast as it goes, so that no test waits.
pub(super) const FAST: Pace = Pace {
    hold: Duration::from_secs(3600),
    delay: Duration::from_millis(1),
    first_pause: Duration::from_millis(1),
    last_pause: Duration::from_millis(1),
    attempt: Duration::from_secs(3600),
    grace: Duration::from_secs(3600),
};

/// A running shipper.
pub(super) struct Shipping {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Shipping {
    pub(super) fn start(journal: &Journal, database: &Database, pace: Pace) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(Arc::clone(&journal.core), database.clone(), stopped, pace));
        Self { stop, task }
    }

    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// Opens what is in `dir`, ships it all, closes, and returns the rows.
pub(super) async fn recover(dir: &Path) -> (Database, super::JournalStatus) {
    let (journal, database) = (open(dir, &config(SyncMode::Never)), Database::default());
    let status = journal.status();
    Shipping::start(&journal, &database, FAST).stop().await;
    journal.close().await;
    (database, status)
}
