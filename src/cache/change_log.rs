use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// Targets remembered one by one; beyond it everything loaded earlier counts as changed.
const MAX_TARGETS: usize = 16_384;

/// How far a value that was loaded earlier can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that it depends on has changed.
    Current,
    /// Something may have changed that this node was not told.
    Suspect,
    /// Something that it depends on has changed.
    Changed,
}

/// Remembers what changed when, in generations instead of time, so that a load that races with a change is found out:
/// whoever loads notes the generation *before* asking the database, and the value is good as long as nothing it depends
/// on was marked in a later one. Asking about an unchanged world costs one atomic load.
///
/// Memory is bounded: after [`MAX_TARGETS`] different targets the list is dropped and every earlier value is `Changed`.
pub struct ChangeLog<T> {
    generation: AtomicU64,
    marks: RwLock<Marks<T>>,
}

struct Marks<T> {
    /// The generation in which a target last changed.
    changed: HashMap<T, u64>,
    /// What was loaded before this generation is `Changed`.
    changed_before: u64,
    /// What was loaded before this generation is `Suspect`.
    suspect_before: u64,
}

impl<T: Hash + Eq> ChangeLog<T> {
    #[must_use]
    pub fn new() -> Self {
        Self {
            generation: AtomicU64::new(0),
            marks: RwLock::new(Marks { changed: HashMap::new(), changed_before: 0, suspect_before: 0 }),
        }
    }

    /// The present generation: what a load notes before it begins.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Marks one target; values that depend on it must be loaded anew.
    pub fn changed(&self, target: T) {
        let mut marks = self.marks.write();
        let generation = self.generation() + 1;
        if marks.changed.len() >= MAX_TARGETS {
            marks.changed = HashMap::new();
            marks.changed_before = generation;
        }
        marks.changed.insert(target, generation);
        // Under the lock: whoever sees the new generation also finds the mark.
        self.generation.store(generation, Ordering::Release);
    }

    /// Marks everything as possibly changed (notifications may have been missed).
    pub fn suspect_all(&self) {
        let mut marks = self.marks.write();
        let generation = self.generation() + 1;
        marks.suspect_before = generation;
        self.generation.store(generation, Ordering::Release);
    }

    /// Judges a value loaded in generation `seen` that depends on `targets`.
    #[must_use]
    pub fn standing(&self, seen: u64, targets: &[T]) -> Standing {
        if seen >= self.generation() {
            return Standing::Current;
        }
        let marks = self.marks.read();
        let changed = |target: &T| marks.changed.get(target).is_some_and(|generation| *generation > seen);
        if marks.changed_before > seen || targets.iter().any(changed) {
            Standing::Changed
        } else if marks.suspect_before > seen {
            Standing::Suspect
        } else {
            Standing::Current
        }
    }
}

impl<T: Hash + Eq> Default for ChangeLog<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_depends_on_a_target_changes_with_it() {
        let log = ChangeLog::new();
        let seen = log.generation();
        log.changed("a");
        assert_eq!(log.standing(seen, &["a", "b"]), Standing::Changed);
        assert_eq!(log.standing(seen, &["b"]), Standing::Current);
        assert_eq!(log.standing(log.generation(), &["a"]), Standing::Current);
    }

    #[test]
    fn a_known_change_outweighs_a_suspicion() {
        let log = ChangeLog::new();
        let seen = log.generation();
        log.suspect_all();
        assert_eq!(log.standing(seen, &["a"]), Standing::Suspect);
        log.changed("a");
        assert_eq!(log.standing(seen, &["a"]), Standing::Changed);
        assert_eq!(log.standing(seen + 1, &["a"]), Standing::Changed);
        assert_eq!(log.standing(seen + 1, &["b"]), Standing::Current);
    }

    #[test]
    fn marks_are_bounded_and_forgetting_them_errs_towards_changed() {
        let log = ChangeLog::new();
        log.changed(0);
        let seen = log.generation();
        for target in 1..=MAX_TARGETS {
            log.changed(target);
        }
        assert!(log.marks.read().changed.len() <= MAX_TARGETS);
        assert_eq!(log.standing(seen, &[usize::MAX]), Standing::Changed);
        assert_eq!(log.standing(log.generation(), &[0]), Standing::Current);
    }
}
