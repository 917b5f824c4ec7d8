//! Which parts of a text the model looks at: the first letters of all words, weighed, over the last 256 bytes. The sums fall out of
//! the pass over words that the other detectors need anyway.
#![expect(
    clippy::indexing_slicing,
    reason = "hash bits are shifted to the size of the table; the ring has four places"
)]

use crate::detect::words::{HASH_BITS, hash};

pub(super) const KEY_BITS: u32 = 14;
pub(super) const KEYS: usize = 1 << KEY_BITS;
/// Blocks of 64 bytes that a sum covers.
pub(super) const SPAN: usize = 4;

#[inline]
pub(super) fn slot(key: u32) -> u16 {
    (hash(key) >> (HASH_BITS - KEY_BITS)) as u16
}

/// The weights of a model without a gate.
static WEIGHTLESS: [i8; KEYS] = [0; KEYS];

/// What the words with a key weigh.
pub(super) fn weight_of(table: &[i8]) -> impl Fn(u32) -> i32 {
    // It always has this length; without knowing so every look into it compares.
    let table = table.first_chunk::<KEYS>().unwrap_or(&WEIGHTLESS);
    move |key| i32::from(table[usize::from(slot(key)) & (KEYS - 1)])
}

/// Marks the blocks whose words, with those of the blocks before, weigh more than a limit.
pub(in crate::detect) struct Gate {
    limit: i32,
    ring: [i32; SPAN],
    at: usize,
    sum: i32,
    pub(in crate::detect) marks: Vec<usize>,
}

impl Gate {
    pub(super) const fn new(limit: i32) -> Self {
        Self { limit, ring: [0; SPAN], at: 0, sum: 0, marks: Vec::new() }
    }

    /// What the words weigh that start in the 64 bytes at `base`.
    #[inline]
    pub(in crate::detect) fn block(&mut self, base: usize, own: i32) {
        self.sum += own - self.ring[self.at & (SPAN - 1)];
        self.ring[self.at & (SPAN - 1)] = own;
        self.at += 1;
        if self.sum > self.limit {
            self.marks.push(base);
        }
    }
}
