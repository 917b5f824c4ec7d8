//! The segment being written: appends, and what is done when an append fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::{self, Disk, JournalFile};
use super::segment::{self, HEADER};

/// A segment file with marks for what is not synced.
pub(super) struct Active {
    pub(super) number: u64,
    file: Arc<dyn JournalFile>,
    dirty: AtomicBool,
    /// Its name is on the disk; without it a synced file is still lost.
    named: AtomicBool,
}

impl Active {
    /// Syncs what has been written so far.
    pub(super) fn sync(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        // Cleared first: what is written meanwhile marks it again.
        if self.dirty.swap(false, Ordering::AcqRel) {
            self.file.sync()?;
        }
        if !self.named.load(Ordering::Acquire) {
            disk.sync_dir(dir)?;
            self.named.store(true, Ordering::Release);
        }
        Ok(())
    }
}

pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_size: u64,
    /// None after a failure that makes the file doubtful, until the next append begins a new one.
    active: Option<Arc<Active>>,
    end: u64,
    next_number: u64,
}

/// Where an append went.
pub(super) struct Appended {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// The segment that was begun for it.
    pub(super) began: bool,
    /// It has bytes that are not synced and had none before: whoever syncs must be told.
    pub(super) unsynced: Option<Arc<Active>>,
}

impl Writer {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segment_size: u64, next_number: u64) -> Self {
        Self { disk, dir, segment_size, active: None, end: HEADER, next_number }
    }

    /// Appends whole records; all of them are in the file when it returns, or none.
    ///
    /// # Errors
    /// What the file system says. The records are cut off again; when even that fails, or when a sync failed, the segment is
    /// given up and the next append begins another: after a failed `fsync` the kernel may have thrown the pages away while
    /// it calls them clean, so that a second one proves nothing.
    pub(super) fn append(&mut self, bytes: &[u8], sync: bool) -> io::Result<Appended> {
        let length = bytes.len() as u64;
        if self.end > HEADER && self.end + length > self.segment_size {
            self.active = None;
        }
        let (active, began) = match &self.active {
            Some(active) => (Arc::clone(active), false),
            None => (self.begin()?, true),
        };
        let written = disk::write_all(&*active.file, bytes, self.end);
        let newly_dirty = written.is_ok() && !active.dirty.swap(true, Ordering::AcqRel);
        let synced = written.is_ok() && sync;
        let outcome = if synced { active.sync(&*self.disk, &self.dir) } else { written };
        if let Err(error) = outcome {
            if active.file.truncate(self.end).is_err() || synced {
                self.active = None;
            }
            // A segment without a record is not known to anyone yet: the next attempt makes it anew.
            if began {
                self.active = None;
                self.next_number = active.number;
            }
            return Err(error);
        }
        let (segment, offset) = (active.number, self.end);
        self.end += length;
        Ok(Appended { segment, offset, began, unsynced: (newly_dirty && !sync).then_some(active) })
    }

    fn begin(&mut self) -> io::Result<Arc<Active>> {
        let number = self.next_number;
        let file = self.disk.create(&segment::path(&self.dir, number))?;
        disk::write_all(&*file, &segment::header(number), 0)?;
        let active = Arc::new(Active { number, file, dirty: AtomicBool::new(false), named: AtomicBool::new(false) });
        self.next_number = number + 1;
        self.end = HEADER;
        self.active = Some(Arc::clone(&active));
        Ok(active)
    }

    /// Gives up the segment `number`, if it is the one being written.
    pub(super) fn abandon(&mut self, number: u64) {
        self.active.take_if(|active| active.number == number);
    }

    /// Ends the segment being written, whichever it is.
    pub(super) fn finish(&mut self) {
        self.active = None;
    }
}

#[cfg(test)]
impl Writer {
    pub(super) const fn has_active(&self) -> bool {
        self.active.is_some()
    }
}
