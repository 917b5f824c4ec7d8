//! When keys were last used, collected for a background task that writes it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::domain::{ApiKeyId, OrgId, Timestamp};

/// A use is noted to the second: finer would make every core write the same cache line.
const RESOLUTION_US: i64 = 1_000_000;
/// Keys waiting to be written; uses of further ones are not noted until there is room.
const MAX_WAITING: usize = 100_000;

/// The last use of one key.
pub(super) struct Usage {
    key: ApiKeyId,
    org: OrgId,
    /// Microseconds since 1970.
    last_used: AtomicI64,
    /// Waits to be written.
    waits: AtomicBool,
}

impl Usage {
    pub(super) const fn of(key: ApiKeyId, org: OrgId) -> Self {
        Self { key, org, last_used: AtomicI64::new(i64::MIN), waits: AtomicBool::new(false) }
    }
}

/// The keys that were used and not yet written.
#[derive(Default)]
pub(super) struct KeyUsage {
    waiting: Mutex<Vec<Arc<Usage>>>,
    /// What could not be written.
    unwritten: Mutex<HashMap<ApiKeyId, (OrgId, Timestamp)>>,
}

impl KeyUsage {
    pub(super) fn note(&self, usage: &Arc<Usage>, now: Timestamp) {
        let last = usage.last_used.load(Ordering::Relaxed);
        if now.micros().saturating_sub(last) < RESOLUTION_US {
            return;
        }
        usage.last_used.fetch_max(now.micros(), Ordering::AcqRel);
        if !usage.waits.swap(true, Ordering::AcqRel) {
            let mut waiting = self.waiting.lock();
            if waiting.len() < MAX_WAITING {
                waiting.push(Arc::clone(usage));
            } else {
                usage.waits.store(false, Ordering::Release);
            }
        }
    }

    /// Every key used since the last call, once, with its latest use.
    pub(super) fn take(&self) -> Vec<(ApiKeyId, OrgId, Timestamp)> {
        let mut used = std::mem::take(&mut *self.unwritten.lock());
        for usage in std::mem::take(&mut *self.waiting.lock()) {
            // Cleared before reading: a use in between is noted again.
            usage.waits.store(false, Ordering::Release);
            let at = Timestamp::from_micros(usage.last_used.load(Ordering::Acquire));
            let latest = used.entry(usage.key).or_insert((usage.org, at));
            latest.1 = latest.1.max(at);
        }
        used.into_iter().map(|(key, (org, at))| (key, org, at)).collect()
    }

    /// Keeps what could not be written for the next time.
    pub(super) fn put_back(&self, used: Vec<(ApiKeyId, OrgId, Timestamp)>) {
        let mut unwritten = self.unwritten.lock();
        for (key, org, at) in used {
            if unwritten.len() < MAX_WAITING {
                let latest = unwritten.entry(key).or_insert((org, at));
                latest.1 = latest.1.max(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_used_often_is_written_once_with_its_latest_use() {
        let (keys, at) = (KeyUsage::default(), Timestamp::from_micros);
        let (key, org) = (ApiKeyId::new(), OrgId::new());
        let usage = Arc::new(Usage::of(key, org));
        for micros in [1, 500, 3_000_000, 2_000_000] {
            keys.note(&usage, at(micros));
        }
        assert_eq!(keys.take(), [(key, org, at(3_000_000))]);
        assert_eq!(keys.take(), []);
        keys.note(&usage, at(5_000_000));
        assert_eq!(keys.take(), [(key, org, at(5_000_000))]);
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_unless_a_later_use_replaces_it() {
        let (keys, at) = (KeyUsage::default(), Timestamp::from_micros);
        let (key, org) = (ApiKeyId::new(), OrgId::new());
        keys.put_back(vec![(key, org, at(1))]);
        let usage = Arc::new(Usage::of(key, org));
        keys.note(&usage, at(7));
        assert_eq!(keys.take(), [(key, org, at(7))]);
    }
}
