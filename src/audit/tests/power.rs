//! Power cuts: what was not synced may be lost, torn, or on the disk out of order.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::super::disk::{Disk, JournalFile};
use super::*;

/// What was done to the disk, in order.
#[derive(Clone, Debug)]
enum Step {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Sync(PathBuf),
    SyncDir,
    /// The caller was told that this request is recorded.
    Acknowledged(u64),
}

#[derive(Clone, Default)]
struct RecordingDisk(Arc<Mutex<Vec<Step>>>);

struct RecordingFile(PathBuf, Arc<Mutex<Vec<Step>>>);

impl Disk for RecordingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        self.0.lock().push(Step::Create(path.to_owned()));
        Ok(Arc::new(RecordingFile(path.to_owned(), Arc::clone(&self.0))))
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.0.lock().push(Step::SyncDir);
        Ok(())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl JournalFile for RecordingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.1.lock().push(Step::Write(self.0.clone(), offset, bytes.to_vec()));
        Ok(bytes.len())
    }
    fn sync(&self) -> io::Result<()> {
        self.1.lock().push(Step::Sync(self.0.clone()));
        Ok(())
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A small generator of reproducible numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

/// One of the states that the disk may be in when the power goes after `steps`.
fn after_power_cut(steps: &[Step], dice: &mut Dice) -> BTreeMap<PathBuf, Vec<u8>> {
    let dir_synced = steps.iter().rposition(|step| matches!(step, Step::SyncDir));
    let mut files = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Create(path) if dir_synced.is_some_and(|synced| at < synced) || dice.roll(2) == 0 => {
                files.insert(path.clone(), Vec::new());
            }
            Step::Write(path, offset, bytes) => {
                let Some(file) = files.get_mut(path) else { continue };
                let synced = steps[at..].iter().any(|later| matches!(later, Step::Sync(synced) if synced == path));
                let kept = match dice.roll(4) {
                    _ if synced => &bytes[..],
                    0 => &bytes[..],
                    1 => &bytes[..dice.roll(bytes.len() + 1)],
                    2 => &bytes[dice.roll(bytes.len())..],
                    _ => &[],
                };
                // Size and content are two things to a file system: a hole reads as zeros.
                let start = usize::try_from(*offset).unwrap()
                    + if kept.is_empty() || kept[0] == bytes[0] { 0 } else { bytes.len() - kept.len() };
                file.resize(file.len().max(start + kept.len()), 0u8);
                file[start..start + kept.len()].copy_from_slice(kept);
            }
            _ => {}
        }
    }
    files
}

async fn recorded(sync: SyncMode, requests: u64) -> Vec<Step> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("node"), "node").unwrap();
    let disk = RecordingDisk::default();
    let config = AuditConfig { segment_size: ByteSize::kib(1), ..config(sync) };
    let metrics = Arc::new(Metrics::new());
    let journal =
        Journal::open_on(Arc::new(disk.clone()), dir.path(), &config, ManualClock::at(RECOVERY), metrics).unwrap();
    for n in 0..requests {
        if n % 3 == 0 {
            journal.record(Box::new(event(n)), completion(n)).await.unwrap();
        } else {
            journal.begin(Box::new(event(n))).await.unwrap();
            journal.complete(completion(n));
        }
        disk.0.lock().push(Step::Acknowledged(n));
    }
    journal.close().await;
    std::mem::take(&mut *disk.0.lock())
}

/// Restarts in each state and returns the rows' ids.
async fn restart(files: BTreeMap<PathBuf, Vec<u8>>) -> Vec<AuditId> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("journal")).unwrap();
    std::fs::write(dir.path().join("node"), "node").unwrap();
    for (path, bytes) in files {
        std::fs::write(dir.path().join("journal").join(path.file_name().unwrap()), bytes).unwrap();
    }
    let (database, _) = recover(dir.path()).await;
    let tables = database.0.lock();
    for row in tables.rows.values() {
        let n = u64::try_from(row.event.id.uuid().as_u128()).unwrap();
        assert_eq!(row.event, event(n), "a record came out that was never written");
    }
    tables.rows.keys().copied().collect()
}

#[tokio::test]
async fn with_sync_always_no_power_cut_loses_an_acknowledged_request() {
    let steps = recorded(SyncMode::Always, 40).await;
    let mut dice = Dice(7);
    for cut in 0..=steps.len() {
        for _ in 0..3 {
            let found = restart(after_power_cut(&steps[..cut], &mut dice)).await;
            for step in &steps[..cut] {
                if let Step::Acknowledged(n) = step {
                    assert!(found.contains(&id(*n)), "request {n} is lost when the power goes after step {cut}");
                }
            }
        }
    }
}

#[tokio::test]
async fn with_sync_interval_a_power_cut_loses_nothing_that_was_synced() {
    let mut steps = recorded(SyncMode::Interval, 40).await;
    // The thread's own time is not the point: a sync after twenty requests, as the interval would make it.
    steps.retain(|step| !matches!(step, Step::Sync(_) | Step::SyncDir));
    let at = steps.iter().position(|step| matches!(step, Step::Acknowledged(19))).unwrap() + 1;
    let paths: Vec<_> = steps[..at]
        .iter()
        .filter_map(|step| if let Step::Create(path) = step { Some(path.clone()) } else { None })
        .collect();
    steps.splice(at..at, paths.into_iter().map(Step::Sync).chain([Step::SyncDir]));
    let mut dice = Dice(11);
    let mut lost = 0;
    for _ in 0..100 {
        let found = restart(after_power_cut(&steps, &mut dice)).await;
        assert!((0..20).all(|n| found.contains(&id(n))));
        lost += (20..40).filter(|n| !found.contains(&id(*n))).count();
    }
    assert!(lost > 0, "the power cuts cut nothing");
}
