//! Reads records back from the segments: what earlier runs left, and what did not fit into memory.

use std::io;

use super::journal::Core;
use super::outbox::{Charge, Item, Place};
use super::record;
use super::segment::{self, Piece, SegmentReader};

/// Bytes of records after which a chunk ends.
const CHUNK: u64 = 4 << 20;

/// Records, and where reading stopped.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) items: Vec<Item>,
    /// Records with a right checksum that this version cannot understand, and why.
    pub(super) foreign: Vec<(Charge, String)>,
    /// After these items nothing of an earlier run is left: what is open now will not be completed by anyone.
    pub(super) earlier_runs_over: bool,
    bytes: u64,
}

impl Chunk {
    fn is_full(&self, most: usize) -> bool {
        self.items.len() + self.foreign.len() >= most || self.bytes >= CHUNK
    }
}

#[derive(Default)]
pub(super) struct Reader {
    /// The segment that is being read, and how many of its records have been.
    current: Option<(u64, SegmentReader, u64)>,
}

impl Reader {
    /// Reads up to `most` records from `place` on; stops early where earlier runs end. Blocks on the disk.
    pub(super) fn read(&mut self, core: &Core, mut place: Place, most: usize) -> Chunk {
        let mut chunk = Chunk::default();
        loop {
            let (end, next) = core.outbox.lock().extent(place.segment);
            if let Some(end) = end {
                let read = self.read_segment(core, &mut place, end, most, &mut chunk);
                if chunk.is_full(most) {
                    core.outbox.lock().read_to(place);
                    return chunk;
                }
                if read.is_err() || place.offset < end || next.is_some() {
                    Self::give_up(core, &mut place, read.err());
                }
            }
            let mut outbox = core.outbox.lock();
            let earlier = place.segment < outbox.first_own;
            if let Some(next) = next {
                place = Place { segment: next, offset: 0, records: 0 };
                outbox.read_to(place);
                if earlier && next >= outbox.first_own {
                    chunk.earlier_runs_over = true;
                    return chunk;
                }
            } else if outbox.caught_up(place) {
                chunk.earlier_runs_over = earlier;
                self.current = None;
                return chunk;
            }
        }
    }

    /// Goes to the end of the segment, over what is not there any more.
    fn give_up(core: &Core, place: &mut Place, error: Option<io::Error>) {
        let at = *place;
        let freed = core.outbox.lock().give_up(place);
        if freed.records > 0 {
            let cause = error.map_or_else(String::new, |error| format!(": {error}"));
            core.report_damage(format!(
                "segment {}: {} records after byte {} cannot be read{cause}",
                at.segment, freed.records, at.offset
            ));
            core.free(freed);
        }
    }

    fn read_segment(
        &mut self,
        core: &Core,
        place: &mut Place,
        end: u64,
        most: usize,
        chunk: &mut Chunk,
    ) -> io::Result<()> {
        let reader = match &mut self.current {
            Some((number, reader, records)) if *number == place.segment && *records == place.records => reader,
            _ => {
                let mut reader = SegmentReader::open(&segment::path(&core.dir, place.segment), Some(end))?;
                reader.seek(place.offset);
                &mut self.current.insert((place.segment, reader, place.records)).1
            }
        };
        reader.extend(end);
        let mut read = 0;
        while !chunk.is_full(most)
            && let Some(piece) = reader.next()?
        {
            // Damage was counted and reported when the journal was opened.
            if let Piece::Record { payload, length } = piece {
                let charge = Charge { segment: place.segment, bytes: length };
                match record::decode(payload) {
                    Ok(entry) => chunk.items.push(Item { entry, charge }),
                    Err(error) => chunk.foreign.push((charge, error.to_string())),
                }
                chunk.bytes += u64::from(length);
                read += 1;
            }
        }
        place.offset = reader.offset();
        place.records += read;
        if let Some((_, _, records)) = &mut self.current {
            *records = place.records;
        }
        Ok(())
    }
}
