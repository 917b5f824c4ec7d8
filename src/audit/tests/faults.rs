//! A disk that is full, or fails.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::disk::{Disk, JournalFile, RealDisk};
use super::*;

/// What the disk still does.
pub(super) struct Health {
    /// Bytes that can be written before the disk is full.
    room: AtomicU64,
    syncs: AtomicBool,
    truncates: AtomicBool,
}

struct FailingDisk(Arc<Health>);

struct FailingFile {
    file: Arc<dyn JournalFile>,
    health: Arc<Health>,
}

impl FailingDisk {
    fn new() -> (Arc<Self>, Arc<Health>) {
        let health = Arc::new(Health {
            room: AtomicU64::new(u64::MAX),
            syncs: AtomicBool::new(true),
            truncates: AtomicBool::new(true),
        });
        (Arc::new(Self(Arc::clone(&health))), health)
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        let file = RealDisk.create(path)?;
        Ok(Arc::new(FailingFile { file, health: Arc::clone(&self.0) }))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
}

impl JournalFile for FailingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let room = self.health.room.load(Ordering::Acquire);
        let fits = (bytes.len() as u64).min(room);
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.health.room.store(room - fits, Ordering::Release);
        self.file.write_at(&bytes[..usize::try_from(fits).unwrap()], offset)
    }
    fn sync(&self) -> io::Result<()> {
        if self.health.syncs.load(Ordering::Acquire) { self.file.sync() } else { Err(io::Error::other("i/o error")) }
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        let works = self.health.truncates.load(Ordering::Acquire);
        if works { self.file.truncate(length) } else { Err(io::Error::other("i/o error")) }
    }
}

fn failing(dir: &Path, sync: SyncMode) -> (Journal, Arc<Health>) {
    let (disk, health) = FailingDisk::new();
    let metrics = Arc::new(Metrics::new());
    (Journal::open_on(disk, dir, &config(sync), ManualClock::at(RECOVERY), metrics).unwrap(), health)
}

#[tokio::test]
async fn a_full_disk_refuses_requests_keeps_completions_and_recovers_by_itself() {
    for truncates in [true, false] {
        for room in [0, 1, 7, 30, 60, 90] {
            let dir = tempfile::tempdir().unwrap();
            let (journal, health) = failing(dir.path(), SyncMode::Interval);
            journal.begin(Box::new(event(1))).await.unwrap();
            health.truncates.store(truncates, Ordering::Release);
            health.room.store(room, Ordering::Release);
            journal.complete(completion(1));
            // A completion may have taken what room there was, so the first attempt fails at any of its bytes.
            let error = journal.begin(Box::new(event(2))).await.unwrap_err();
            assert!(matches!(error, JournalError::Io(_)), "{error}");
            assert!(journal.record(Box::new(event(3)), completion(3)).await.is_err());
            journal.complete(completion(2));
            assert!(journal.core.metrics.audit_write_failures.get() > 0);

            health.room.store(u64::MAX, Ordering::Release);
            until(|| journal.core.intake.lock().is_empty()).await;
            journal.begin(Box::new(event(4))).await.unwrap();
            let database = Database::default();
            let crashed = crash(dir.path());
            Shipping::start(&journal, &database, FAST).stop().await;
            assert_eq!(database.with_outcome(Outcome::Completed), [id(1)]);
            assert_eq!(database.0.lock().rows.keys().copied().collect::<Vec<_>>(), [id(1), id(4)]);
            assert_eq!((journal.status().backlog_records, journal.status().backlog_bytes), (0, 0));

            let (after, status) = recover(crashed.path()).await;
            assert_eq!(after.with_outcome(Outcome::Completed), [id(1)]);
            assert!(after.with_outcome(Outcome::Interrupted).contains(&id(4)));
            if truncates {
                assert_eq!(status.damaged, Vec::<String>::new());
                assert_eq!(after.len(), 2, "a refused request leaves no row");
            }
        }
    }
}

#[tokio::test]
async fn a_failed_sync_refuses_the_request_and_gives_up_the_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, health) = failing(dir.path(), SyncMode::Always);
    journal.begin(Box::new(event(1))).await.unwrap();
    health.syncs.store(false, Ordering::Release);
    assert!(matches!(journal.begin(Box::new(event(2))).await, Err(JournalError::Io(_))));
    health.syncs.store(true, Ordering::Release);
    journal.begin(Box::new(event(3))).await.unwrap();
    assert_eq!(super::super::segment::list(&journal.core.dir).unwrap().len(), 2);
    let (database, status) = recover(crash(dir.path()).path()).await;
    assert_eq!(database.with_outcome(Outcome::Interrupted), [id(1), id(3)]);
    assert_eq!(status.damaged, Vec::<String>::new());
}

#[tokio::test]
async fn a_failed_sync_at_the_interval_is_counted_and_gives_up_the_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, health) = failing(dir.path(), SyncMode::Interval);
    health.syncs.store(false, Ordering::Release);
    journal.begin(Box::new(event(1))).await.unwrap();
    until(|| journal.core.metrics.audit_write_failures.get() > 0).await;
    health.syncs.store(true, Ordering::Release);
    until(|| !journal.core.unsynced.lock().files.is_empty() || !journal.core.has_active_segment()).await;
    journal.begin(Box::new(event(2))).await.unwrap();
    assert_eq!(super::super::segment::list(&journal.core.dir).unwrap().len(), 2);
    assert_eq!(recover(crash(dir.path()).path()).await.0.len(), 2);
}

#[tokio::test]
async fn a_segment_that_vanishes_while_it_waits_does_not_stop_the_shipper() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), &config(SyncMode::Never));
    for n in 0..100 {
        journal.record(Box::new(event(n)), completion(n)).await.unwrap();
    }
    journal.close().await;
    drop(journal);
    let journal = open(dir.path(), &config(SyncMode::Never));
    let second = super::super::segment::list(&journal.core.dir).unwrap()[1];
    std::fs::remove_file(super::super::segment::path(&journal.core.dir, second)).unwrap();
    let database = Database::default();
    let shipping = Shipping::start(&journal, &database, FAST);
    until(|| journal.status().backlog_records == 0).await;
    shipping.stop().await;
    assert!(database.len() < 100 && database.len() > 50);
    assert_eq!(journal.status().backlog_bytes, 0);
    assert_eq!(journal.status().damaged.len(), 1);
}
