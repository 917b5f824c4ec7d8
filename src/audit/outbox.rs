//! What is written and not yet shipped: the records in memory, and which segments hold how many of them.
//!
//! In the steady state the shipper takes records from the queue and never reads a file. When the queue is full (the database
//! is away) or when an earlier run left segments, the outbox only remembers the place from which on records must be read
//! back ([`Outbox::behind`]); memory stays bounded, order is kept.

use std::collections::{BTreeMap, VecDeque};

use super::record::Entry;
use super::segment::HEADER;

/// Records that wait in memory, and their bytes in the file. Beyond either they are read back from the files.
pub(super) const QUEUE: usize = 8192;
const QUEUE_BYTES: u64 = 8 << 20;

/// The place of a record that has to be paid off when it is shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) segment: u64,
    pub(super) bytes: u32,
}

/// A record on its way to the database.
#[derive(Debug, PartialEq)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) charge: Charge,
}

/// A place between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// Records of the segment before it.
    pub(super) records: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where its last whole record ends.
    pub(super) end: u64,
    /// Whole records in it.
    pub(super) records: u64,
    pub(super) unshipped: u64,
    pub(super) unshipped_bytes: u64,
    /// Has bytes that cannot be read; kept under another name for whoever wants to look.
    pub(super) damaged: bool,
}

/// What is next for the shipper.
pub(super) enum Taken {
    Items(Vec<Item>),
    /// The next records are in the files, from here on.
    Behind(Place),
    Nothing,
}

pub(super) struct Outbox {
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Segments below this were written by earlier runs.
    pub(super) first_own: u64,
    queue: VecDeque<Item>,
    queue_bytes: u64,
    behind: Option<Place>,
    /// The shipper sleeps until the queue has this many records.
    wake_at: usize,
}

impl Outbox {
    /// Starts with what earlier runs left.
    pub(super) fn new(segments: BTreeMap<u64, Segment>, first_own: u64) -> Self {
        let behind = segments.first_key_value().map(|(&segment, _)| Place { segment, offset: 0, records: 0 });
        Self { segments, first_own, queue: VecDeque::new(), queue_bytes: 0, behind, wake_at: usize::MAX }
    }

    pub(super) fn began(&mut self, segment: u64) {
        self.segments.insert(segment, Segment { end: HEADER, ..Segment::default() });
    }

    /// Notes records that have been written to `segment` from `offset` on. True: the shipper must be woken.
    pub(super) fn wrote(&mut self, segment: u64, mut offset: u64, items: impl Iterator<Item = (Entry, u32)>) -> bool {
        let Some(state) = self.segments.get_mut(&segment) else { return false };
        for (entry, bytes) in items {
            let records = state.records;
            state.records += 1;
            state.unshipped += 1;
            state.unshipped_bytes += u64::from(bytes);
            if self.behind.is_none() && self.queue.len() < QUEUE && self.queue_bytes < QUEUE_BYTES {
                self.queue_bytes += u64::from(bytes);
                self.queue.push_back(Item { entry, charge: Charge { segment, bytes } });
            } else if self.behind.is_none() {
                self.behind = Some(Place { segment, offset, records });
            }
            offset += u64::from(bytes);
        }
        state.end = offset;
        let wake = self.behind.is_some() || self.queue.len() >= self.wake_at;
        wake && std::mem::replace(&mut self.wake_at, usize::MAX) != usize::MAX
    }

    pub(super) fn take(&mut self, most: usize) -> Taken {
        if !self.queue.is_empty() {
            let items: Vec<_> = self.queue.drain(..most.min(self.queue.len())).collect();
            self.queue_bytes -= items.iter().map(|item| u64::from(item.charge.bytes)).sum::<u64>();
            return Taken::Items(items);
        }
        self.behind.map_or(Taken::Nothing, Taken::Behind)
    }

    /// Asks to be woken when the queue has `records`; false when it has them already.
    pub(super) fn wake_at(&mut self, records: usize) -> bool {
        let sleep = self.behind.is_none() && self.queue.len() < records;
        self.wake_at = if sleep { records } else { usize::MAX };
        sleep
    }

    /// Where `segment` ends, and the number of the one after it.
    pub(super) fn extent(&self, segment: u64) -> (Option<u64>, Option<u64>) {
        let end = self.segments.get(&segment).map(|state| state.end);
        (end, self.segments.range(segment + 1..).next().map(|(&next, _)| next))
    }

    /// Says that everything before `place` has been read. True when that is all there is: from now on records come by the
    /// queue again.
    pub(super) fn caught_up(&mut self, place: Place) -> bool {
        let last = self.segments.last_key_value();
        if last.is_none_or(|(&segment, state)| segment == place.segment && state.end <= place.offset) {
            self.behind = None;
            return true;
        }
        self.behind = Some(place);
        false
    }

    /// Says that everything before `place` has been read, and that reading goes on there.
    pub(super) fn read_to(&mut self, place: Place) {
        self.behind = Some(place);
    }

    /// Pays off a shipped record. Returns what it frees in the backlog.
    pub(super) fn shipped(&mut self, charge: Charge) -> Freed {
        let Some(state) = self.segments.get_mut(&charge.segment) else { return Freed::default() };
        let records = state.unshipped.min(1);
        state.unshipped -= records;
        let last = state.unshipped == 0;
        let bytes = if last { state.unshipped_bytes } else { state.unshipped_bytes.min(u64::from(charge.bytes)) };
        state.unshipped_bytes -= bytes;
        Freed { records, bytes }
    }

    /// Moves `place` to the end of its segment and pays off the records in between: they were counted, but cannot be read.
    pub(super) fn give_up(&mut self, place: &mut Place) -> Freed {
        let Some(state) = self.segments.get_mut(&place.segment) else { return Freed::default() };
        let missing = state.records.saturating_sub(place.records).min(state.unshipped);
        *place = Place { offset: state.end, records: state.records, ..*place };
        if missing == 0 {
            return Freed::default();
        }
        state.damaged = true;
        state.unshipped -= missing;
        // Their share of the bytes is not known record by record; what the others will not pay off is freed with the last.
        let bytes = if state.unshipped == 0 { std::mem::take(&mut state.unshipped_bytes) } else { 0 };
        Freed { records: missing, bytes }
    }

    /// Takes out the segments at the front of which every record has been shipped; with `last`, also the one being written.
    pub(super) fn done(&mut self, last: bool) -> Vec<(u64, Segment)> {
        let mut done = Vec::new();
        while let Some((&number, state)) = self.segments.first_key_value() {
            let written = self.segments.len() == 1 && number >= self.first_own;
            if state.unshipped > 0 || (written && !last) {
                break;
            }
            done.extend(self.segments.remove(&number).map(|segment| (number, segment)));
        }
        done
    }
}

/// What leaves the backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl std::ops::AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
impl Outbox {
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn is_behind(&self) -> bool {
        self.behind.is_some()
    }
}
