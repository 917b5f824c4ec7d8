//! One file of the journal: a header that names it, then records until the end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::{self, HEAD};

/// Bytes before the first record: magic (8), version (u32), CRC32C of the rest (u32), number (u64).
pub(super) const HEADER: u64 = 24;
const MAGIC: [u8; 8] = *b"SNTAUDIT";
const VERSION: u32 = 1;
const EXTENSION: &str = "segment";
/// Bytes read at once; fits into a second-level cache together with what is done to it.
const WINDOW: usize = 256 << 10;

pub(super) fn header(number: u64) -> [u8; 24] {
    let mut header = [0; 24];
    let sum = header_sum(VERSION.to_le_bytes(), number.to_le_bytes()).to_le_bytes();
    let parts = MAGIC.into_iter().chain(VERSION.to_le_bytes()).chain(sum).chain(number.to_le_bytes());
    for (slot, byte) in header.iter_mut().zip(parts) {
        *slot = byte;
    }
    header
}

fn header_sum(version: [u8; 4], number: [u8; 8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&MAGIC), &version), &number)
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Intact,
    /// Not a header, or one with a flipped bit; the records behind it can still be found.
    Damaged,
    /// Written by a version of Sentinel that this one does not know.
    Foreign(u32),
}

fn read_header(bytes: &[u8]) -> Header {
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else { return Header::Damaged };
    let Some((version, rest)) = rest.split_first_chunk::<4>() else { return Header::Damaged };
    let Some((sum, rest)) = rest.split_first_chunk::<4>() else { return Header::Damaged };
    let Some((number, _)) = rest.split_first_chunk::<8>() else { return Header::Damaged };
    if *magic != MAGIC || header_sum(*version, *number) != u32::from_le_bytes(*sum) {
        return Header::Damaged;
    }
    match u32::from_le_bytes(*version) {
        VERSION => Header::Intact,
        version => Header::Foreign(version),
    }
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.{EXTENSION}"))
}

/// The numbers of the segments in `dir`, ascending.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What lies next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A record whose checksum is right.
    Record { payload: &'a [u8], length: u32 },
    /// Bytes that are no record; what follows is one, or the end.
    Damage { from: u64, to: u64 },
}

/// Reads the records of a segment in order, through a window, so that memory does not depend on the segment's size.
pub(super) struct SegmentReader {
    file: File,
    /// Where reading ends: the file's length, or what has been written so far.
    limit: u64,
    /// Offset in the file of the first unread byte of `window`.
    offset: u64,
    window: Vec<u8>,
    /// Index in `window` of its first unread byte.
    unread: usize,
}

impl SegmentReader {
    /// Reads up to `limit`, or to the end of the file.
    ///
    /// # Errors
    /// The file cannot be read, or a later version of Sentinel wrote it.
    pub(super) fn open(path: &Path, limit: Option<u64>) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = Self { file, limit: limit.unwrap_or(length), offset: 0, window: Vec::new(), unread: 0 };
        match read_header(reader.peek(HEADER as usize)?) {
            Header::Intact => reader.skip(HEADER as usize),
            // From the first byte, so that the damage is reported and the search for records begins.
            Header::Damaged => {}
            Header::Foreign(version) => {
                return Err(io::Error::other(format!("written in format {version}, this version knows {VERSION}")));
            }
        }
        Ok(reader)
    }

    /// Offset of the next unread byte.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on at `offset`, when that is further on.
    pub(super) fn seek(&mut self, offset: u64) {
        if offset > self.offset {
            self.window.clear();
            self.unread = 0;
            self.offset = offset;
        }
    }

    /// Moves the end of what may be read; it never moves back.
    pub(super) fn extend(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        let from = self.offset;
        let mut found = self.record_here()?;
        while found.is_none() && self.offset < self.limit {
            self.skip(1);
            found = self.record_here()?;
        }
        let to = self.offset;
        if to > from {
            return Ok(Some(Piece::Damage { from, to }));
        }
        let Some(length) = found else { return Ok(None) };
        let start = self.unread;
        self.skip(length);
        let payload = self.window.get(start + HEAD..start + length).unwrap_or_default();
        Ok(Some(Piece::Record { payload, length: u32::try_from(length).unwrap_or(u32::MAX) }))
    }

    /// Length of the record that begins at the next unread byte, if one does.
    fn record_here(&mut self) -> io::Result<Option<usize>> {
        let Some(payload) = record::plausible(self.peek(HEAD + 2)?) else { return Ok(None) };
        let length = HEAD + payload;
        Ok(record::intact(self.peek(length)?).then_some(length))
    }

    /// The next `wanted` bytes; fewer at the end.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.window.len() - self.unread < wanted {
            self.fill(wanted)?;
        }
        let rest = self.window.get(self.unread..).unwrap_or_default();
        Ok(rest.get(..wanted).unwrap_or(rest))
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        self.window.drain(..self.unread);
        self.unread = 0;
        let mut have = self.window.len();
        let behind = usize::try_from(self.limit.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        self.window.resize(wanted.max(WINDOW).min(behind).max(have), 0);
        while let Some(room) = self.window.get_mut(have..).filter(|room| !room.is_empty()) {
            match self.file.read_at(room, self.offset + have as u64) {
                // Shorter than it should be: the rest is missing, which the caller sees as damage or as the end.
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.window.truncate(have);
        if have < wanted {
            self.limit = self.offset + have as u64;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.unread = (self.unread + bytes).min(self.window.len());
        self.offset += bytes as u64;
    }
}
