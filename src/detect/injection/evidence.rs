//! Combinations of word groups and the log-odds that they contribute.
#![expect(clippy::indexing_slicing, reason = "group numbers are below 64, numbers of combinations below their count")]

use std::collections::BTreeMap;

use crate::detect::pack;

/// Words of a combination lie within so many words of each other.
const WITHIN: u32 = 8;

/// The groups that one sentence holds, and which follow which.
pub(in crate::detect) struct Groups {
    pub(in crate::detect) present: u64,
    /// `before[b]`: groups with a word that stands within [`WITHIN`] words before one of group `b`.
    before: [u64; 64],
    /// Numbers and groups of the last words; a number far back where there is none yet.
    recent: [(u32, u64); WITHIN as usize],
    last: (u32, u64),
    oldest: usize,
}

impl Groups {
    pub(in crate::detect) fn new() -> Self {
        Self { present: 0, before: [0; 64], recent: [(0, 0); WITHIN as usize], last: (0, 0), oldest: 0 }
    }

    /// Notes a word; numbers ascend.
    pub(in crate::detect) fn note(&mut self, number: u32, groups: u64) {
        if self.last.1 == groups {
            // The same word again only moves it.
            self.last.0 = number;
            return;
        }
        self.recent[self.oldest] = self.last;
        self.oldest = (self.oldest + 1) % self.recent.len();
        self.last = (number, groups);
        let earlier = self.recent.iter().fold(0, |all, (other, mask)| {
            if number.wrapping_sub(*other).wrapping_sub(1) < WITHIN { all | mask } else { all }
        });
        self.present |= groups;
        let mut rest = groups;
        while rest != 0 {
            self.before[rest.trailing_zeros() as usize] |= earlier;
            rest &= rest - 1;
        }
    }

    /// For each group those that stand closely before it.
    pub(in crate::detect) fn before(&self) -> &[u64; 64] {
        &self.before
    }

    fn follows(&self, a: u8, b: u8) -> bool {
        self.before[usize::from(b)] >> a & 1 == 1
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
    pub(super) weight: f32,
}

/// The most combinations of all rules together.
const TERMS: usize = 512;

/// All combinations, each with the number of its owner.
pub(super) struct Terms {
    all: Vec<(usize, Term)>,
    /// For every group combinations that need it; each stands at one of its groups, the one with the fewest.
    by_group: [Vec<u16>; 64],
}

impl Terms {
    /// Combinations in the order in which they are reported.
    pub(super) fn new(all: Vec<(usize, Term)>) -> Result<Self, String> {
        if all.len() > TERMS {
            return Err(format!("{} combinations are more than {TERMS}", all.len()));
        }
        let mut by_group = [const { Vec::new() }; 64];
        for (number, (_, term)) in all.iter().enumerate() {
            let fewest = term.groups.iter().min_by_key(|group| by_group[usize::from(**group)].len());
            if let Some(group) = fewest {
                by_group[usize::from(*group)].push(number as u16);
            }
        }
        Ok(Self { all, by_group })
    }

    /// Calls `found` with owner and weight of every combination that a sentence holds, in order.
    pub(super) fn each(&self, seen: &Groups, mut found: impl FnMut(usize, f32)) {
        let mut holding = [0u64; TERMS / 64];
        let mut present = seen.present;
        while present != 0 {
            for number in &self.by_group[present.trailing_zeros() as usize] {
                if self.all[usize::from(*number)].1.holds(seen) {
                    holding[usize::from(number >> 6)] |= 1 << (number & 63);
                }
            }
            present &= present - 1;
        }
        for (word, mut numbers) in holding.into_iter().enumerate() {
            while numbers != 0 {
                let (owner, term) = &self.all[word * 64 + numbers.trailing_zeros() as usize];
                found(*owner, term.weight);
                numbers &= numbers - 1;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(when: &str, words: &[(u32, u64)]) -> bool {
        let names = [("a", 0), ("b", 1), ("c", 2)].map(|(name, number)| (name.to_owned(), number)).into();
        let term = Term::compile(&pack::Evidence { when: when.to_owned(), weight: 1.0 }, &names).unwrap();
        let mut seen = Groups::new();
        words.iter().for_each(|(number, groups)| seen.note(*number, *groups));
        term.holds(&seen)
    }

    #[test]
    fn order_and_distance_count() {
        assert!(holds("a > b > c", &[(1, 1), (3, 2), (9, 4)]));
        assert!(!holds("a > b", &[(1, 2), (3, 1)]));
        assert!(holds("a & b", &[(1, 2), (3, 1)]));
        assert!(!holds("a & b", &[(1, 1), (10, 2)]));
        assert!(holds("a & b", &[(1, 1), (5, 1), (10, 2)]));
        assert!(!holds("a & b", &[(1, 3)]), "one word is no combination");
    }
}
