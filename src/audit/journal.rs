//! What the callers, the two threads and the shipper share.
//!
//! The road of a record: encoded by its caller without a lock, put into the intake under a short one, written by whichever
//! caller holds the writer next. Callers that come meanwhile find their record written and go on, so that one `write(2)`
//! carries many records (flat combining), and nobody waits for another thread to wake up: a hand-over costs more than the
//! write. Only `sync: always` hands over, because there a disk write is waited for anyway.
//!
//! Lock order: writer, then intake or outbox; intake and outbox are never held together.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::batch::Batch;
use super::disk::Disk;
use super::outbox::{Charge, Freed, Outbox};
use super::record::{self, Entry};
use super::writer::{Active, Writer};
use super::{JournalError, JournalStatus};
use crate::config::{AuditConfig, SyncMode, WhenFull};
use crate::domain::{AuditId, SharedClock};
use crate::telemetry::Metrics;

/// Bytes of the backlog that are kept free for the completion of each request under way, so that a request that was let in can
/// always be completed; a completion takes 150 bytes at most.
const RESERVED: u64 = 256;
/// A write buffer above this size is given back.
const SPARE: usize = 1 << 20;

thread_local! {
    /// Where a record is encoded: outside of every lock, and in memory that is warm.
    static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Records that wait to be written, and the count of all that wait to be shipped.
#[derive(Default)]
pub(super) struct Intake {
    bytes: Vec<u8>,
    /// The records in `bytes`, with their lengths.
    items: Vec<(Entry, u32)>,
    batch: Arc<Batch>,
    /// Requests that have begun here and are not completed. What is not in it has no completion to wait for: a second
    /// completion, or one of a request that was not recorded, is ignored.
    open: HashSet<AuditId, RandomState>,
    backlog: Freed,
    /// Size of the record that was refused last.
    refused: Option<u64>,
    pub(super) closed: bool,
    /// `sync: always`: somebody waits for the writer thread.
    pub(super) urgent: bool,
    pub(super) writer_asleep: bool,
}

impl Intake {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn has_room(&self, length: u64, limit: u64) -> bool {
        self.backlog.bytes + (self.open.len() as u64 + 1) * RESERVED + length <= limit
    }

    fn put(&mut self, entry: Entry, encoded: &[u8]) -> Arc<Batch> {
        self.bytes.extend_from_slice(encoded);
        self.items.push((entry, u32::try_from(encoded.len()).unwrap_or(u32::MAX)));
        self.backlog += Freed { records: 1, bytes: encoded.len() as u64 };
        Arc::clone(&self.batch)
    }

    fn free(&mut self, freed: Freed) {
        self.backlog.records = self.backlog.records.saturating_sub(freed.records);
        self.backlog.bytes = self.backlog.bytes.saturating_sub(freed.bytes);
    }
}

/// The writer with the buffers that it swaps with the intake's.
pub(super) struct Writing {
    writer: Writer,
    bytes: Vec<u8>,
    items: Vec<(Entry, u32)>,
}

/// Wakes the writer thread when a request is given up before its record was written.
struct Waiting<'c>(&'c Condvar);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Files that the syncing thread has to sync.
#[derive(Default)]
pub(super) struct Unsynced {
    pub(super) files: Vec<Arc<Active>>,
    pub(super) stop: bool,
}

pub(super) struct Core {
    pub(super) dir: PathBuf,
    pub(super) config: AuditConfig,
    pub(super) node: Arc<str>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) intake: Mutex<Intake>,
    /// Wakes the writer thread.
    pub(super) work: Condvar,
    writing: Mutex<Writing>,
    pub(super) outbox: Mutex<Outbox>,
    /// Wakes the shipper.
    pub(super) wake: Notify,
    pub(super) unsynced: Mutex<Unsynced>,
    /// Wakes the syncing thread.
    pub(super) sync_due: Condvar,
    pub(super) shipping: AtomicBool,
    /// The shipper came to its end and wrote down which requests are open.
    pub(super) ship_ended: AtomicBool,
    pub(super) database_away: AtomicBool,
    failing: AtomicBool,
    damaged: Mutex<Vec<String>>,
    /// Held for as long as the journal is open.
    _lock: File,
}

/// What opening found out.
pub(super) struct Opened {
    pub(super) dir: PathBuf,
    pub(super) node: String,
    pub(super) lock: File,
    pub(super) outbox: Outbox,
    pub(super) damaged: Vec<String>,
}

impl Core {
    pub(super) fn new(
        opened: Opened,
        config: AuditConfig,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        disk: Arc<dyn Disk>,
    ) -> Self {
        let Opened { dir, node, lock, outbox, damaged } = opened;
        let mut backlog = Freed::default();
        for segment in outbox.segments.values() {
            backlog += Freed { records: segment.unshipped, bytes: segment.unshipped_bytes };
        }
        let writer = Writer::new(Arc::clone(&disk), dir.clone(), config.segment_size.as_u64(), outbox.first_own);
        let core = Self {
            dir,
            config,
            node: node.into(),
            clock,
            metrics,
            disk,
            intake: Mutex::new(Intake { backlog, ..Intake::default() }),
            work: Condvar::new(),
            writing: Mutex::new(Writing { writer, bytes: Vec::new(), items: Vec::new() }),
            outbox: Mutex::new(outbox),
            wake: Notify::new(),
            unsynced: Mutex::default(),
            sync_due: Condvar::new(),
            shipping: AtomicBool::new(false),
            ship_ended: AtomicBool::new(false),
            database_away: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            damaged: Mutex::new(damaged),
            _lock: lock,
        };
        core.gauge(backlog);
        core
    }

    /// Takes a record that its request waits for. Returns when it is in the file, and on the disk with `sync: always`.
    pub(super) async fn append(&self, entry: Entry) -> Result<(), JournalError> {
        let Some(batch) = ENCODED.with_borrow_mut(|encoded| self.enqueue(entry, encoded))? else { return Ok(()) };
        if self.config.sync == SyncMode::Always {
            self.work.notify_one();
            return batch.wait().await;
        }
        let waiting = Waiting(&self.work);
        let mut again = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut again, true) {
                return Poll::Ready(());
            }
            // Other requests that are ready come first, and one write carries the records of all.
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        std::mem::forget(waiting);
        self.written(&batch)
    }

    /// None: the journal is full and the configuration lets the request pass.
    fn enqueue(&self, mut entry: Entry, encoded: &mut Vec<u8>) -> Result<Option<Arc<Batch>>, JournalError> {
        encoded.clear();
        record::encode(&mut entry, encoded).map_err(|error| JournalError::Io(error.to_string()))?;
        let mut intake = self.intake.lock();
        if intake.closed {
            return Err(JournalError::Closed);
        }
        let (length, limit) = (encoded.len() as u64, self.config.max_backlog.as_u64());
        if !intake.has_room(length, limit) {
            intake.refused = Some(length);
            let backlog = intake.backlog.bytes;
            drop(intake);
            return self.no_room(backlog, limit).map(|()| None);
        }
        intake.open.extend(entry.opens());
        intake.urgent = self.config.sync == SyncMode::Always;
        Ok(Some(intake.put(entry, encoded)))
    }

    fn no_room(&self, backlog: u64, limit: u64) -> Result<(), JournalError> {
        match self.config.when_full {
            WhenFull::Refuse => Err(JournalError::Full { backlog, limit }),
            WhenFull::Allow => {
                self.metrics.failopen.with_label_values(&["audit"]).inc();
                Ok(())
            }
        }
    }

    /// Takes a record that nobody waits for; it is written with the next one, or by the writer thread.
    pub(super) fn append_later(&self, id: AuditId, entry: Entry) {
        if let Err(error) = ENCODED.with_borrow_mut(|encoded| self.enqueue_later(id, entry, encoded)) {
            self.metrics.audit_write_failures.inc();
            tracing::error!(audit.id = %id, %error, "the end of a request cannot be recorded");
        }
    }

    fn enqueue_later(&self, id: AuditId, mut entry: Entry, encoded: &mut Vec<u8>) -> Result<(), postcard::Error> {
        encoded.clear();
        record::encode(&mut entry, encoded)?;
        let mut intake = self.intake.lock();
        if intake.closed || !intake.open.remove(&id) {
            return Ok(());
        }
        intake.put(entry, encoded);
        if std::mem::take(&mut intake.writer_asleep) {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Sees to it that `batch` has been written.
    fn written(&self, batch: &Batch) -> Result<(), JournalError> {
        let mut writing = self.writing.lock();
        batch.outcome().unwrap_or_else(|| {
            // Batches are only taken by the holder of the writer, who settles them: this one still waits.
            self.flush(&mut writing);
            batch.outcome().unwrap_or(Err(JournalError::Closed))
        })
    }

    /// Writes what waits. False: it could not be written, and the completions in it wait again.
    pub(super) fn flush_waiting(&self) -> bool {
        self.flush(&mut self.writing.lock())
    }

    fn flush(&self, writing: &mut Writing) -> bool {
        let (batch, backlog) = {
            let mut intake = self.intake.lock();
            if intake.items.is_empty() {
                return true;
            }
            std::mem::swap(&mut intake.bytes, &mut writing.bytes);
            std::mem::swap(&mut intake.items, &mut writing.items);
            (std::mem::take(&mut intake.batch), intake.backlog)
        };
        self.gauge(backlog);
        let appended = writing.writer.append(&writing.bytes, self.config.sync == SyncMode::Always);
        let written = appended.is_ok();
        match appended {
            Ok(appended) => {
                let wake = {
                    let mut outbox = self.outbox.lock();
                    if appended.began {
                        outbox.began(appended.segment);
                    }
                    outbox.wrote(appended.segment, appended.offset, writing.items.drain(..))
                };
                if wake {
                    self.wake.notify_one();
                }
                if let Some(active) = appended.unsynced
                    && self.config.sync == SyncMode::Interval
                {
                    self.unsynced.lock().files.push(active);
                    self.sync_due.notify_one();
                }
                if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::AcqRel) {
                    tracing::info!("the audit journal can be written again");
                }
                batch.settle(Ok(()));
            }
            Err(error) => {
                self.failed("written", &error);
                self.give_back(writing);
                batch.settle(Err(error.to_string().into()));
            }
        }
        writing.bytes.clear();
        writing.bytes.shrink_to(SPARE);
        written
    }

    /// After a failed write: records that their requests wait for are forgotten, the requests are refused; completions belong to
    /// records that are in the journal, and wait for the next attempt.
    fn give_back(&self, writing: &mut Writing) {
        let mut intake = self.intake.lock();
        let (mut bytes, mut items, mut start) = (Vec::new(), Vec::new(), 0);
        for (entry, length) in writing.items.drain(..) {
            let end = start + length as usize;
            if matches!(entry, Entry::Completion(_)) {
                bytes.extend_from_slice(writing.bytes.get(start..end).unwrap_or_default());
                items.push((entry, length));
            } else {
                intake.free(Freed { records: 1, bytes: u64::from(length) });
                if let Some(id) = entry.opens() {
                    intake.open.remove(&id);
                }
            }
            start = end;
        }
        bytes.append(&mut intake.bytes);
        items.append(&mut intake.items);
        intake.bytes = bytes;
        intake.items = items;
        self.gauge(intake.backlog);
    }

    pub(super) fn failed(&self, what: &str, error: &std::io::Error) {
        self.metrics.audit_write_failures.inc();
        if !self.failing.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "the audit journal cannot be {what}; requests are refused until it can");
        }
    }

    /// After a failed sync nothing more is written to that segment.
    pub(super) fn sync_failed(&self, active: &Active, error: &std::io::Error) {
        self.failed("synced", error);
        self.writing.lock().writer.abandon(active.number);
    }

    /// Pays off records that are in the database.
    pub(super) fn release(&self, charges: impl Iterator<Item = Charge>) {
        let mut freed = Freed::default();
        {
            let mut outbox = self.outbox.lock();
            charges.for_each(|charge| freed += outbox.shipped(charge));
        }
        self.free(freed);
    }

    pub(super) fn free(&self, freed: Freed) {
        let mut intake = self.intake.lock();
        intake.free(freed);
        self.gauge(intake.backlog);
    }

    fn gauge(&self, backlog: Freed) {
        self.metrics.audit_queue_depth.set(i64::try_from(backlog.records).unwrap_or(i64::MAX));
        self.metrics.audit_backlog_bytes.set(i64::try_from(backlog.bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn status(&self) -> JournalStatus {
        let limit = self.config.max_backlog.as_u64();
        let (backlog, full) = {
            let intake = self.intake.lock();
            (intake.backlog, intake.refused.is_some_and(|length| !intake.has_room(length, limit)))
        };
        JournalStatus {
            backlog_records: backlog.records,
            backlog_bytes: backlog.bytes,
            limit_bytes: limit,
            full,
            database_away: self.database_away.load(Ordering::Acquire),
            damaged: self.damaged.lock().clone(),
        }
    }

    pub(super) fn report_damage(&self, what: String) {
        tracing::error!(damage = %what, "the audit journal is damaged");
        self.damaged.lock().push(what);
    }

    /// The last act, when nothing is accepted any more and the threads are gone.
    pub(super) fn finish(&self) {
        if !self.flush_waiting() {
            tracing::error!(
                "the audit journal could not be written when it was closed; some requests will be interrupted"
            );
        }
        self.writing.lock().writer.finish();
        if !self.ship_ended.load(Ordering::Acquire) {
            return;
        }
        let done = self.outbox.lock().done(true);
        super::recovery::discard(&*self.disk, &self.dir, &done);
    }

    pub(super) fn sync(&self, active: &Active) {
        if let Err(error) = active.sync(&*self.disk, &self.dir) {
            self.sync_failed(active, &error);
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.dir).join(name)
    }
}

/// How long a completion may wait for company: what `kill -9` may turn into an interrupted request.
pub(super) const FLUSH_DELAY: Duration = Duration::from_millis(4);

#[cfg(test)]
impl Core {
    pub(super) fn has_active_segment(&self) -> bool {
        self.writing.lock().writer.has_active()
    }
}
