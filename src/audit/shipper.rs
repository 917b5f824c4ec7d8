//! Copies records into the database.
//!
//! One loop: take records (from memory, or from the files when the queue ran over or an earlier run left some), pair them to
//! rows, ship a batch, pay off the records, remove segments that hold nothing else. A batch that fails is tried until it
//! succeeds; meanwhile nothing is taken, so that memory stays bounded and the backlog grows on the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;

use super::journal::Core;
use super::outbox::Taken;
use super::reader::{Chunk, Reader};
use super::record::{self, Entry};
use super::recovery::{self, OPEN_FILE};
use super::rows::Rows;
use super::segment::{self, Piece, SegmentReader};
use crate::store::{AuditRow, Store, StoreError};

/// Where rows go; the store, or a stand-in.
pub trait Sink: Send + Sync {
    /// Writes all rows or none. Must be idempotent on the event's id: a row that is there is completed, never doubled, and a
    /// completion is never taken back. Ids are not repeated within one call.
    fn ship(&self, rows: &[AuditRow]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Sink for Store {
    async fn ship(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        self.ship_audit(rows).await
    }
}

/// The shipper's times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long a request waits for its completion before it is shipped without.
    pub(super) hold: Duration,
    /// How long a ready row waits for company.
    pub(super) delay: Duration,
    /// Pauses after failures double from the first to the last.
    pub(super) first_pause: Duration,
    pub(super) last_pause: Duration,
    /// How long one attempt may take.
    pub(super) attempt: Duration,
    /// How long everything may take after the stop.
    pub(super) grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(2),
            delay: Duration::from_millis(100),
            first_pause: Duration::from_millis(100),
            last_pause: Duration::from_secs(5),
            attempt: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}

/// Bytes of records after which a batch is full, however few rows it has.
const BATCH_BYTES: u64 = 8 << 20;
/// Single rows that fail in a round in which none succeeds, before the database is blamed and not the rows.
const SUSPECTS: usize = 16;

pub(super) async fn run<S: Sink>(core: Arc<Core>, sink: S, stop: watch::Receiver<bool>, pace: Pace) {
    if core.shipping.swap(true, Ordering::AcqRel) {
        tracing::error!("the audit journal is being shipped already");
        return;
    }
    let mut shipper = Shipper {
        core,
        sink,
        stop,
        pace,
        rows: Rows::default(),
        reader: Some(Reader::default()),
        failures: 0,
        snapshot: false,
    };
    shipper.restore().await;
    shipper.ship_until_stopped().await;
    shipper.ship_the_rest().await;
}

struct Shipper<S> {
    core: Arc<Core>,
    sink: S,
    stop: watch::Receiver<bool>,
    pace: Pace,
    rows: Rows,
    /// None only while a blocking thread has it.
    reader: Option<Reader>,
    /// Rounds in a row that shipped nothing.
    failures: u32,
    /// There is a file with open requests.
    snapshot: bool,
}

impl<S: Sink> Shipper<S> {
    async fn ship_until_stopped(&mut self) {
        while !self.stopped() {
            self.gather().await;
            self.rows.ripen(Instant::now(), self.pace.hold);
            let due = self.rows.ready_since().map(|since| since + self.pace.delay);
            if self.is_full() || due.is_some_and(|due| due <= Instant::now()) {
                let pause = if self.round().await { Duration::ZERO } else { self.pause() };
                self.sleep(Some(pause), usize::MAX).await;
            } else if self.rows.expects_more() {
                // Short even when only completions are waited for: they do not wake anyone.
                let room = self.batch().saturating_sub(self.rows.ready().len()).max(1);
                self.sleep(Some(self.pace.delay), room).await;
            } else {
                self.tidy().await;
                self.sleep(None, 1).await;
            }
        }
    }

    /// Once more everything, without patience.
    async fn ship_the_rest(&mut self) {
        let core = Arc::clone(&self.core);
        // Completions that no other record has carried into the file yet.
        let _ = tokio::task::spawn_blocking(move || core.flush_waiting()).await;
        let end = Instant::now() + self.pace.grace;
        loop {
            self.gather().await;
            self.rows.ripen(Instant::now(), Duration::ZERO);
            if self.rows.ready().is_empty() || Instant::now() >= end || !self.round().await {
                break;
            }
        }
        self.tidy().await;
        self.core.ship_ended.store(true, Ordering::Release);
        let left = self.rows.ready().len();
        if left > 0 {
            tracing::warn!(rows = left, "the database is away; audit records stay in the journal until the next start");
        }
    }

    /// Reads which requests an earlier run shipped without their completion.
    async fn restore(&mut self) {
        let path = self.core.path(OPEN_FILE);
        let read = tokio::task::spawn_blocking(move || {
            let mut events = Vec::new();
            let mut reader = SegmentReader::open(&path, None)?;
            while let Some(piece) = reader.next()? {
                if let Piece::Record { payload, .. } = piece
                    && let Ok(Entry::Begin(event)) = record::decode(payload)
                {
                    events.push(event);
                }
            }
            std::io::Result::Ok(events)
        });
        match read.await {
            Ok(Ok(events)) => {
                self.snapshot = true;
                events.into_iter().for_each(|event| self.rows.restore(event));
            }
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                self.core.report_damage(format!("the list of open requests cannot be read: {error}"));
            }
            _ => {}
        }
        let outbox = self.core.outbox.lock();
        if outbox.segments.range(..outbox.first_own).next().is_none() {
            drop(outbox);
            self.rows.interrupt(self.core.clock.now(), Instant::now());
        }
    }

    fn batch(&self) -> usize {
        self.core.config.batch.max(1)
    }

    fn is_full(&self) -> bool {
        self.rows.ready().len() >= self.batch() || self.rows.ready_bytes() >= BATCH_BYTES
    }

    /// Takes records until there are rows for a batch, or no more records.
    async fn gather(&mut self) {
        let most = self.batch() * 2;
        while !self.is_full() {
            let taken = self.core.outbox.lock().take(most);
            let now = Instant::now();
            match taken {
                Taken::Nothing => return,
                Taken::Items(items) => items.into_iter().for_each(|item| self.rows.apply(item, now)),
                Taken::Behind(place) => {
                    let (core, mut reader) = (Arc::clone(&self.core), self.reader.take().unwrap_or_default());
                    let read = tokio::task::spawn_blocking(move || {
                        let chunk = reader.read(&core, place, most);
                        (reader, chunk)
                    });
                    // Cancelled only when the runtime is going down.
                    let Ok((reader, chunk)) = read.await else { return };
                    self.reader = Some(reader);
                    self.take_chunk(chunk, now);
                }
            }
        }
    }

    fn take_chunk(&mut self, chunk: Chunk, now: Instant) {
        chunk.items.into_iter().for_each(|item| self.rows.apply(item, now));
        for (charge, cause) in chunk.foreign {
            // Not thrown away: its segment is kept, because the record in it is intact and a later version may know it.
            self.core.report_damage(format!("segment {}: a record of another version: {cause}", charge.segment));
            let mut outbox = self.core.outbox.lock();
            outbox.segments.entry(charge.segment).and_modify(|segment| segment.damaged = true);
            drop(outbox);
            self.core.release(std::iter::once(charge));
        }
        if chunk.earlier_runs_over {
            self.rows.interrupt(self.core.clock.now(), now);
        }
    }

    /// Ships the first batch of ready rows. False: nothing could be shipped, and it is no use to try again at once.
    async fn round(&mut self) -> bool {
        let rows = self.rows.ready();
        let rows = rows.get(..self.batch()).unwrap_or(rows);
        let Attempts { shipped: mut gone, mut rejected, trouble } = self.ship_apart(rows).await;
        let any = gone.contains(&true);
        let suspects = rejected.len();
        // A row is blamed when others went through, or when the fault can be in nothing else.
        rejected.retain(|(_, error)| any || !matches!(error, StoreError::Database(_)));
        self.core.metrics.audit_rows.inc_by(gone.iter().filter(|shipped| **shipped).count() as u64);
        for (index, error) in &rejected {
            if let (Some(row), Some(gone)) = (self.rows.ready().get(*index), gone.get_mut(*index)) {
                *gone = self.reject(row, error);
            }
        }
        let moved = gone.contains(&true);
        let paid = self.rows.shipped(&gone, Instant::now());
        self.core.release(paid.into_iter());
        self.tidy().await;
        if moved {
            self.failures = 0;
        } else {
            self.rows.rotate(suspects);
            self.failures = self.failures.saturating_add(1);
        }
        self.note_trouble(trouble.filter(|_| !moved));
        moved
    }

    /// Tries `rows` together; when the database does not want them, in ever smaller parts, to find those that it does not want.
    async fn ship_apart(&self, rows: &[AuditRow]) -> Attempts {
        let mut outcome = Attempts { shipped: vec![false; rows.len()], ..Attempts::default() };
        let whole = 0..rows.len();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop() {
            match self.attempt(rows.get(part.clone()).unwrap_or_default()).await {
                Ok(()) => outcome.shipped.iter_mut().take(part.end).skip(part.start).for_each(|mark| *mark = true),
                Err(error @ StoreError::Unavailable(_)) => {
                    outcome.trouble = Some(error.to_string());
                    break;
                }
                Err(error) if part.len() <= 1 => {
                    outcome.trouble = Some(error.to_string());
                    outcome.rejected.push((part.start, error));
                    if outcome.rejected.len() >= SUSPECTS && !outcome.shipped.contains(&true) {
                        break;
                    }
                }
                Err(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
            }
        }
        if outcome.shipped.contains(&true) {
            outcome.rejected = self.try_again(rows, outcome.rejected, &mut outcome.shipped).await;
        }
        outcome
    }

    /// A lock or a deadlock may have hit the row, not its content.
    async fn try_again(
        &self,
        rows: &[AuditRow],
        rejected: Vec<(usize, StoreError)>,
        shipped: &mut [bool],
    ) -> Vec<(usize, StoreError)> {
        let mut still = Vec::new();
        for (index, _) in rejected {
            match self.attempt(rows.get(index..=index).unwrap_or_default()).await {
                Ok(()) => shipped.iter_mut().skip(index).take(1).for_each(|mark| *mark = true),
                Err(StoreError::Unavailable(_)) => break,
                Err(error) => still.push((index, error)),
            }
        }
        still
    }

    async fn attempt(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        let mut stop = self.stop.clone();
        let (limit, grace) = (self.pace.attempt, self.pace.grace);
        let over = async move {
            let stopped = async {
                // Fails when the sender is gone, which means the same.
                let _ = stop.wait_for(|stop| *stop).await;
                tokio::time::sleep(grace).await;
            };
            let _ = tokio::time::timeout(limit, stopped).await;
        };
        tokio::select! {
            biased;
            outcome = self.sink.ship(rows) => outcome,
            () = over => Err(StoreError::Unavailable("no answer in time".to_owned())),
        }
    }

    /// Sets a row aside that the database will never take, so that it does not stop the others. False: it cannot be kept
    /// there either, and is tried again.
    fn reject(&self, row: &AuditRow, error: &StoreError) -> bool {
        let id = row.event.id;
        let line = json!({ "error": error.to_string(), "event": row.event, "completion": row.completion });
        self.core.metrics.audit_write_failures.inc();
        match recovery::keep_rejected(&self.core.dir, &line) {
            Ok(()) => {
                tracing::error!(audit.id = %id, %error, "the database does not take an audit row; it is in rejected.jsonl");
                true
            }
            Err(cause) => {
                tracing::error!(audit.id = %id, %error, %cause, "an audit row can neither be shipped nor set aside");
                false
            }
        }
    }

    /// Removes segments that are shipped. What is open in them is written down first: their begins are nowhere else.
    async fn tidy(&mut self) {
        self.core.release(self.rows.take_settled().into_iter());
        let stopping = self.stopped();
        let done = self.core.outbox.lock().done(false);
        if done.is_empty() && !stopping {
            return;
        }
        let mut open = segment::header(0).to_vec();
        let mut any = false;
        for event in self.rows.shipped_open() {
            any = record::encode(&mut Entry::Begin(Box::new(event.clone())), &mut open).is_ok() || any;
        }
        let (core, write) = (Arc::clone(&self.core), any || self.snapshot);
        self.snapshot = any;
        let tidied = tokio::task::spawn_blocking(move || {
            let path = core.path(OPEN_FILE);
            let kept = match (write, any) {
                (true, true) => super::disk::replace(&*core.disk, &path, &open),
                (true, false) => core.disk.remove(&path),
                (false, _) => Ok(()),
            };
            if let Err(error) = kept.or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }) {
                // Removing goes on: the rows are in the database, and a full disk needs the room. After a crash these
                // requests would stay without an end.
                core.failed("tidied", &error);
            }
            recovery::discard(&*core.disk, &core.dir, &done);
        });
        let _ = tidied.await;
    }

    fn note_trouble(&self, trouble: Option<String>) {
        let was_away = self.core.database_away.swap(trouble.is_some(), Ordering::AcqRel);
        match trouble {
            Some(cause) if !was_away => {
                tracing::warn!(%cause, "audit rows cannot be written to the database; they wait in the journal");
            }
            None if was_away => tracing::info!("audit rows are written to the database again"),
            _ => {}
        }
    }

    fn pause(&self) -> Duration {
        let doubled = self.pace.first_pause * 2u32.saturating_pow(self.failures.saturating_sub(1).min(16));
        doubled.min(self.pace.last_pause)
    }

    fn stopped(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Sleeps until `records` wait, the time is over, or the shipper has to stop.
    async fn sleep(&mut self, time: Option<Duration>, records: usize) {
        if time.is_some_and(|time| time.is_zero()) {
            return tokio::task::yield_now().await;
        }
        if records < usize::MAX && !self.core.outbox.lock().wake_at(records) {
            return;
        }
        let timer = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.core.wake.notified(), if records < usize::MAX => {}
            () = timer => {}
            _ = self.stop.changed() => {}
        }
    }
}

/// How a batch went.
#[derive(Default)]
struct Attempts {
    shipped: Vec<bool>,
    /// Single rows that failed, and why.
    rejected: Vec<(usize, StoreError)>,
    /// What to say when nothing went through.
    trouble: Option<String>,
}
