//! Opening a journal: the lock, the node's name, and a look at what an earlier run left.
//!
//! The look sums every record but decodes none, and keeps nothing but counts: 1 GiB takes a fraction of a second when it is
//! in the page cache, as it is after `kill -9`. The shipper reads the records themselves later, a few at a time.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::JournalError;
use super::disk::{self, Disk};
use super::journal::{Core, Opened};
use super::outbox::{Outbox, Segment};
use super::segment::{self, Piece, SegmentReader};
use crate::config::AuditConfig;
use crate::domain::{AuditId, SharedClock};
use crate::telemetry::Metrics;

/// The requests that are in the database, but without their completion, and whose records are in no segment any more.
pub(super) const OPEN_FILE: &str = "open";
/// Rows that the database would not take.
pub(super) const REJECTED_FILE: &str = "rejected.jsonl";
const LOCK_FILE: &str = "lock";
const NODE_FILE: &str = "node";
const DAMAGED: &str = "damaged";

pub(super) fn open(
    data_dir: &Path,
    config: &AuditConfig,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    disk: Arc<dyn Disk>,
) -> Result<Core, JournalError> {
    let dir = data_dir.join("journal");
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| JournalError::Io(format!("{path}: {error}"))
    };
    disk::make_dir(&dir).map_err(at(&dir))?;
    let lock = lock(&dir.join(LOCK_FILE))?;
    let node_file = data_dir.join(NODE_FILE);
    let node = node(&*disk, &node_file).map_err(at(&node_file))?;
    let (outbox, damaged) = look(&*disk, &dir)?;
    for damage in &damaged {
        tracing::error!(%damage, "the audit journal is damaged");
    }
    let opened = Opened { dir, node, lock, outbox, damaged };
    Ok(Core::new(opened, config.clone(), clock, metrics, disk))
}

fn lock(path: &Path) -> Result<File, JournalError> {
    let failed = |cause: &dyn std::fmt::Display| JournalError::Io(format!("{}: {cause}", path.display()));
    let file = disk::private().write(true).create(true).open(path).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed(&"another process has this journal open")),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// Reads the node's name, or makes one. It says nothing about the machine.
fn node(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let name = AuditId::new().to_string();
    disk::replace(disk, path, format!("{name}\n").as_bytes())?;
    Ok(name)
}

fn look(disk: &dyn Disk, dir: &Path) -> Result<(Outbox, Vec<String>), JournalError> {
    let failed = |error: io::Error| JournalError::Io(format!("{}: {error}", dir.display()));
    let numbers = segment::list(dir).map_err(failed)?;
    let mut next = numbers.last().copied().max(last_damaged(dir).map_err(failed)?).unwrap_or(0) + 1;
    let (mut segments, mut damaged) = (BTreeMap::new(), Vec::new());
    let mut expected = numbers.first().copied();
    for (&number, scan) in numbers.iter().zip(scan_all(dir, &numbers)) {
        let path = segment::path(dir, number);
        let scan = scan.map_err(|error| JournalError::Io(format!("{}: {error}", path.display())))?;
        if let Some(missing) = expected.filter(|&expected| expected < number) {
            damaged.push(format!("segments {missing} to {} are missing", number - 1));
        }
        expected = Some(number + 1);
        let Scan { mut segment, holes, length } = scan;
        let (cut, middle) = (length - segment.end, holes - (length - segment.end));
        if cut > 0 {
            damaged.push(format!("segment {number}: the last {cut} bytes are no whole record"));
        }
        if middle > 0 {
            damaged.push(format!("segment {number}: {middle} bytes between records cannot be read"));
        }
        // The torn tail of the last segment is what a crash leaves of a record that nobody was promised. Anything else is kept.
        let torn = cut > 0 && middle == 0 && next == number + 1;
        segment.damaged = holes > 0 && !torn;
        if torn && segment.records > 0 {
            File::options().write(true).open(&path).and_then(|file| file.set_len(segment.end)).map_err(failed)?;
        }
        if segment.records == 0 {
            discard(disk, dir, &[(number, segment)]);
        } else {
            segments.insert(number, segment);
        }
    }
    // A number is not used twice while a file has it.
    next = next.max(1);
    Ok((Outbox::new(segments, next), damaged))
}

fn last_damaged(dir: &Path) -> io::Result<Option<u64>> {
    let mut last = None;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        last = last.max(name.to_str().and_then(|name| name.strip_suffix(DAMAGED)?.strip_suffix('.')?.parse().ok()));
    }
    Ok(last)
}

struct Scan {
    segment: Segment,
    /// Bytes that belong to no record.
    holes: u64,
    length: u64,
}

/// Looks at all segments, on two threads: summing is bound by copying from the page cache.
fn scan_all(dir: &Path, numbers: &[u64]) -> Vec<io::Result<Scan>> {
    let scan_half =
        |numbers: &[u64]| numbers.iter().map(|&number| scan(&segment::path(dir, number))).collect::<Vec<_>>();
    let (front, back) = numbers.split_at(numbers.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| scan_half(front));
        let back = scan_half(back);
        let mut all = other.join().unwrap_or_else(|_| scan_half(front));
        all.extend(back);
        all
    })
}

fn scan(path: &Path) -> io::Result<Scan> {
    let length = std::fs::metadata(path)?.len();
    let mut reader = SegmentReader::open(path, None)?;
    let mut segment = Segment { end: reader.offset(), ..Segment::default() };
    let mut holes = 0;
    loop {
        match reader.next()? {
            None => break,
            Some(Piece::Damage { from, to }) => {
                holes += to - from;
                continue;
            }
            Some(Piece::Record { length, .. }) => {
                segment.records += 1;
                segment.unshipped_bytes += u64::from(length);
            }
        }
        segment.end = reader.offset();
    }
    segment.unshipped = segment.records;
    Ok(Scan { segment, holes, length })
}

/// Removes segments that are not needed any more; damaged ones are kept under another name.
pub(super) fn discard(disk: &dyn Disk, dir: &Path, segments: &[(u64, Segment)]) {
    for (number, segment) in segments {
        let path = segment::path(dir, *number);
        let done = if segment.damaged { disk.rename(&path, &path.with_extension(DAMAGED)) } else { disk.remove(&path) };
        if let Err(error) =
            done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        {
            // It is shipped once more after the next start, which changes nothing in the database.
            tracing::warn!(%error, segment = number, "a shipped segment of the audit journal cannot be removed");
        }
    }
}

/// Keeps a row that the database would not take, with the reason.
///
/// # Errors
/// The row is not safe, and must be kept elsewhere.
pub(super) fn keep_rejected(dir: &Path, row: &serde_json::Value) -> io::Result<()> {
    let mut file = disk::private().append(true).create(true).open(dir.join(REJECTED_FILE))?;
    file.write_all(format!("{row}\n").as_bytes())?;
    file.sync_data()
}
