//! Lists come in pages that continue after the last row seen (keyset), never at an offset.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::types::uuid::Uuid;

use super::StoreError;
use crate::domain::Timestamp;

/// One page of a list, newest first unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// The opaque cursor of the next page, if there is one.
    pub next_cursor: Option<String>,
}

/// Where a page starts and how long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to 200; 0 means 50.
    pub limit: u32,
    /// `next_cursor` of the page before; refused with [`StoreError::Missing`]`("cursor")` when it is not one.
    pub cursor: Option<String>,
}

/// The last row of the page before. Without one, a value that every row is below, so that the statement always has the
/// same shape and the index is used from its end.
pub(super) trait Position: Sized {
    const FIRST: Self;
    fn write(&self) -> Vec<u8>;
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// Rows ordered by their id, which is ordered by time.
impl Position for Uuid {
    const FIRST: Self = Self::max();

    fn write(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Self::from_slice(bytes).ok()
    }
}

/// Versions of one thing.
impl Position for i64 {
    const FIRST: Self = Self::MAX;

    fn write(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

/// 9999-12-31T00:00:00Z: later than any row, and within what PostgreSQL and `chrono` can write.
pub(super) const END_OF_TIME: Timestamp = Timestamp::from_micros(253_402_214_400_000_000);

impl PageRequest {
    pub(super) fn start<P: Position>(&self) -> Result<P, StoreError> {
        let Some(cursor) = &self.cursor else { return Ok(P::FIRST) };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| StoreError::Missing("cursor"))?;
        P::read(&bytes).ok_or(StoreError::Missing("cursor"))
    }

    /// How many rows to ask for: one more than the page holds, which tells whether there is another page.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.length()) + 1
    }

    pub(super) fn page<T, P: Position>(&self, rows: Vec<T>, position: impl Fn(&T) -> P) -> Page<T> {
        self.cut(rows, |row| URL_SAFE_NO_PAD.encode(position(row).write()))
    }

    /// Cuts `rows`, of which there may be one too many; `cursor` leads to what follows a row.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>, cursor: impl Fn(&T) -> String) -> Page<T> {
        let length = usize::try_from(self.length()).unwrap_or(usize::MAX);
        let more = rows.len() > length;
        rows.truncate(length);
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(cursor);
        Page { data: rows, next_cursor }
    }

    const fn length(&self) -> u32 {
        match self.limit {
            0 => 50,
            1..=200 => self.limit,
            _ => 200,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(limit: u32, cursor: Option<&str>) -> PageRequest {
        PageRequest { limit, cursor: cursor.map(str::to_owned) }
    }

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_the_row_it_was_made_from(id: u128, extra in 1usize..4) {
            let id = Uuid::from_u128(id);
            let page = request(1, None).page(vec![id; 1 + extra], |row| *row);
            prop_assert_eq!(page.data.len(), 1);
            let next = request(1, page.next_cursor.as_deref());
            prop_assert_eq!(next.start::<Uuid>().unwrap(), id);
            prop_assert!(next.start::<i64>().is_err(), "of another list");
        }

        #[test]
        fn what_is_not_a_cursor_is_refused(text in "[ -~]{0,40}") {
            let start = request(1, Some(&text)).start::<i64>();
            let is_one = URL_SAFE_NO_PAD.decode(&text).is_ok_and(|bytes| bytes.len() == 8);
            prop_assert_eq!(start.is_ok(), is_one);
        }
    }

    #[test]
    fn a_page_that_ends_the_list_has_no_cursor() {
        let page = request(3, None).page(vec![1i64, 2, 3], |row| *row);
        assert_eq!((page.data.len(), page.next_cursor), (3, None));
    }

    #[test]
    fn lengths_are_kept_within_bounds() {
        let rows = |limit| request(limit, None).rows();
        assert_eq!([rows(0), rows(1), rows(200), rows(9999)], [51, 2, 201, 201]);
    }
}
