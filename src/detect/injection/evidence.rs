//! Combinations of word groups and the log-odds that they contribute.
#![expect(clippy::indexing_slicing, reason = "group numbers are below 64, the size of the table")]

use std::collections::BTreeMap;

use crate::detect::pack;

/// Words of a combination lie within so many words of each other.
const WITHIN: u32 = 8;

/// The groups that one sentence holds, and which follow which.
pub(super) struct Groups {
    pub present: u64,
    /// `after[a]`: groups that follow a word of group `a` within [`WITHIN`] words.
    after: [u64; 64],
    recent: [(u32, u64); WITHIN as usize],
    count: usize,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self { present: 0, after: [0; 64], recent: [(0, 0); WITHIN as usize], count: 0 }
    }

    /// Notes a word; numbers ascend.
    pub(super) fn note(&mut self, number: u32, groups: u64) {
        let slots = self.recent.len();
        for (earlier, mask) in self.recent.iter().take(self.count) {
            if number > *earlier && number - earlier <= WITHIN {
                let mut rest = *mask;
                while rest != 0 {
                    self.after[rest.trailing_zeros() as usize] |= groups;
                    rest &= rest - 1;
                }
            }
        }
        self.present |= groups;
        // A word that repeats the last one only moves it.
        if self.count > 0 && self.recent[(self.count - 1) % slots].1 == groups && self.count <= slots {
            self.recent[self.count - 1].0 = number;
        } else if self.count < slots {
            self.recent[self.count] = (number, groups);
            self.count += 1;
        } else {
            self.recent.rotate_left(1);
            self.recent[slots - 1] = (number, groups);
        }
    }

    fn follows(&self, a: u8, b: u8) -> bool {
        self.after[usize::from(a)] >> b & 1 == 1
    }
}

enum Relation {
    /// Each follows the one before it.
    Order,
    /// Each is near the one before it.
    Near,
}

/// One combination.
pub(super) struct Term {
    required: u64,
    groups: Vec<u8>,
    relation: Relation,
    pub weight: f32,
}

impl Term {
    pub(super) fn compile(evidence: &pack::Evidence, names: &BTreeMap<String, u8>) -> Result<Self, String> {
        let order = evidence.when.contains('>');
        if order && evidence.when.contains('&') {
            return Err(format!("`{}` mixes `>` and `&`", evidence.when));
        }
        let groups = evidence
            .when
            .split(['>', '&'])
            .map(|name| names.get(name.trim()).copied().ok_or_else(|| format!("no group is called `{}`", name.trim())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            required: groups.iter().fold(0, |mask, group| mask | 1 << group),
            groups,
            relation: if order { Relation::Order } else { Relation::Near },
            weight: evidence.weight,
        })
    }

    pub(super) fn holds(&self, seen: &Groups) -> bool {
        seen.present & self.required == self.required
            && self.groups.windows(2).all(|pair| match self.relation {
                Relation::Order => seen.follows(pair[0], pair[1]),
                Relation::Near => seen.follows(pair[0], pair[1]) || seen.follows(pair[1], pair[0]),
            })
    }
}
