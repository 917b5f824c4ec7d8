//! Requests a month of an organization, over all nodes: each counts its own at once and learns of the others' when a
//! background task writes and reads the counters in the database.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::SHARDS;
use crate::domain::{Month, OrgId};

/// The organization has used up its month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaExceeded;

/// What a node has counted of a month since it last wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten {
    pub org: OrgId,
    pub month: Month,
    pub requests: u64,
}

/// Counts requests of organizations. About 100 bytes for each that this process has seen.
pub struct MonthlyUsage {
    hasher: RandomState,
    shards: Box<[RwLock<HashMap<OrgId, Meter>>]>,
}

/// Two months, so that what was counted at the end of one is still written at the beginning of the next.
#[derive(Default)]
struct Meter {
    even: Tally,
    odd: Tally,
}

/// Both with their month in the upper bits: the first request of a new month begins at one.
#[derive(Default)]
struct Tally {
    /// Everybody's requests, as far as this node knows.
    seen: AtomicU64,
    /// Those of them that are in the database.
    written: AtomicU64,
}

const COUNT_BITS: u32 = 44;

fn packed(month: Month, count: u64) -> u64 {
    (u64::from(month.number()) << COUNT_BITS) | (count & ((1 << COUNT_BITS) - 1))
}

/// 0 when it is another month's.
fn count_in(packed: u64, month: Month) -> u64 {
    if packed >> COUNT_BITS == u64::from(month.number()) { packed & ((1 << COUNT_BITS) - 1) } else { 0 }
}

impl Tally {
    fn admit(&self, month: Month, limit: Option<u64>) -> Result<(), QuotaExceeded> {
        let one_more = |seen| {
            let count = count_in(seen, month);
            limit.is_none_or(|limit| count < limit).then(|| packed(month, count + 1))
        };
        self.seen.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map(drop).map_err(|_| QuotaExceeded)
    }

    fn unwritten(&self) -> Option<(Month, u64)> {
        let seen = self.seen.load(Ordering::Relaxed);
        let month = Month::from_number(u32::try_from(seen >> COUNT_BITS).unwrap_or(0));
        let new = count_in(seen, month).saturating_sub(count_in(self.written.load(Ordering::Relaxed), month));
        (new > 0).then_some((month, new))
    }

    /// Of one task only, which is why `written` needs no care.
    fn wrote(&self, month: Month, requests: u64, total: u64) {
        let mine = count_in(self.written.load(Ordering::Relaxed), month) + requests;
        self.written.store(packed(month, total.max(mine)), Ordering::Relaxed);
        let others = total.saturating_sub(mine);
        let with_others = |seen| {
            (seen >> COUNT_BITS == u64::from(month.number())).then(|| packed(month, count_in(seen, month) + others))
        };
        let _ = self.seen.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with_others);
    }
}

impl Meter {
    /// `counted` is what all nodes had counted when this one first saw the organization.
    fn new((month, requests): (Month, u64)) -> Self {
        let meter = Self::default();
        meter.of(month).seen.store(packed(month, requests), Ordering::Relaxed);
        meter.of(month).written.store(packed(month, requests), Ordering::Relaxed);
        meter
    }

    const fn of(&self, month: Month) -> &Tally {
        // Years end in December, an even month, and begin with an odd one.
        if month.number().is_multiple_of(2) { &self.even } else { &self.odd }
    }
}

impl MonthlyUsage {
    #[must_use]
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    /// Counts one request of `org` in `month` against `limit`. `counted` is what all nodes had counted when the
    /// organization was looked up; it is where counting begins on a node that has not seen it before.
    ///
    /// # Errors
    /// [`QuotaExceeded`] when the limit is used up; such a request is not counted.
    pub fn admit(
        &self,
        org: OrgId,
        month: Month,
        limit: Option<u64>,
        counted: (Month, u64),
    ) -> Result<(), QuotaExceeded> {
        let shard = self.shard(org);
        if let Some(meter) = shard.read().get(&org) {
            return meter.of(month).admit(month, limit);
        }
        shard.write().entry(org).or_insert_with(|| Meter::new(counted)).of(month).admit(month, limit)
    }

    /// What is to be written to the database.
    #[must_use]
    pub fn unwritten(&self) -> Vec<Unwritten> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for (org, meter) in shard.read().iter() {
                let tallies = [&meter.even, &meter.odd].into_iter().filter_map(Tally::unwritten);
                all.extend(tallies.map(|(month, requests)| Unwritten { org: *org, month, requests }));
            }
        }
        all
    }

    /// `total` is what the database has after `written` was added to it; without one the organization is gone.
    pub fn wrote(&self, written: Unwritten, total: Option<u64>) {
        let shard = self.shard(written.org);
        let Some(total) = total else {
            shard.write().remove(&written.org);
            return;
        };
        if let Some(meter) = shard.read().get(&written.org) {
            meter.of(written.month).wrote(written.month, written.requests, total);
        }
    }

    fn shard(&self, org: OrgId) -> &RwLock<HashMap<OrgId, Meter>> {
        let shard = usize::try_from(self.hasher.hash_one(org) % SHARDS as u64).unwrap_or(0);
        let Some(shard) = self.shards.get(shard) else {
            unreachable!("a remainder is smaller than its divisor");
        };
        shard
    }
}

impl Default for MonthlyUsage {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER: Month = Month::from_number(202_611);
    const DECEMBER: Month = Month::from_number(202_612);
    const JANUARY: Month = Month::from_number(202_701);

    /// The database: what several nodes have added.
    fn sync(node: &MonthlyUsage, database: &mut u64, month: Month) {
        for unwritten in node.unwritten().into_iter().filter(|unwritten| unwritten.month == month) {
            *database += unwritten.requests;
            node.wrote(unwritten, Some(*database));
        }
    }

    #[test]
    fn the_limit_is_the_last_request_that_passes_and_the_next_month_begins_anew() {
        let (usage, org) = (MonthlyUsage::new(), OrgId::new());
        let admit = |month, limit| usage.admit(org, month, limit, (NOVEMBER, 1));
        assert_eq!((admit(NOVEMBER, Some(3)), admit(NOVEMBER, Some(3))), (Ok(()), Ok(())));
        assert_eq!(admit(NOVEMBER, Some(3)), Err(QuotaExceeded));
        assert_eq!(admit(NOVEMBER, Some(4)), Ok(()), "raised");
        assert_eq!(admit(NOVEMBER, Some(0)), Err(QuotaExceeded));
        assert_eq!(admit(NOVEMBER, None), Ok(()), "no limit");
        for month in [DECEMBER, JANUARY] {
            assert_eq!((admit(month, Some(1)), admit(month, Some(1))), (Ok(()), Err(QuotaExceeded)), "{month:?}");
        }
        assert_eq!(usage.admit(OrgId::new(), NOVEMBER, Some(1), (NOVEMBER, 0)), Ok(()), "another organization");
    }

    #[test]
    fn what_was_counted_before_midnight_is_written_after_it() {
        let (usage, org) = (MonthlyUsage::new(), OrgId::new());
        usage.admit(org, NOVEMBER, None, (NOVEMBER, 5)).unwrap();
        usage.admit(org, DECEMBER, None, (NOVEMBER, 5)).unwrap();
        let mut unwritten = usage.unwritten();
        unwritten.sort_by_key(|unwritten| unwritten.month);
        assert_eq!(
            unwritten.iter().map(|one| (one.month, one.requests)).collect::<Vec<_>>(),
            [(NOVEMBER, 1), (DECEMBER, 1)]
        );
        usage.wrote(unwritten[0], Some(6));
        usage.wrote(unwritten[1], Some(1));
        assert_eq!(usage.unwritten(), []);
    }

    #[test]
    fn two_nodes_count_together_and_lose_nothing() {
        let (one, two, org) = (MonthlyUsage::new(), MonthlyUsage::new(), OrgId::new());
        let mut database = 0;
        let mut admitted = 0;
        for round in 0..100 {
            for node in [&one, &two] {
                admitted += (0..7).filter(|_| node.admit(org, NOVEMBER, Some(100), (NOVEMBER, 0)).is_ok()).count();
            }
            sync(&one, &mut database, NOVEMBER);
            // A request between what is taken and what is said to be written is counted later.
            let [unwritten] = two.unwritten()[..] else { continue };
            admitted += usize::from(two.admit(org, NOVEMBER, Some(100), (NOVEMBER, 0)).is_ok());
            database += unwritten.requests;
            two.wrote(unwritten, Some(database));
            if round > 50 {
                break;
            }
        }
        sync(&one, &mut database, NOVEMBER);
        sync(&two, &mut database, NOVEMBER);
        assert_eq!(database, admitted as u64, "every admitted request once");
        assert!(
            (100..115).contains(&admitted),
            "no more beyond the limit than is admitted between two writes: {admitted}"
        );
    }

    #[test]
    fn threads_admit_exactly_the_limit_and_an_organization_that_is_gone_is_forgotten() {
        let (usage, org) = (MonthlyUsage::new(), OrgId::new());
        let admitted = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    (0..5000).filter(|_| usage.admit(org, NOVEMBER, Some(9999), (NOVEMBER, 0)).is_ok()).count()
                })
            });
            threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!(admitted, 9999);
        let [unwritten] = usage.unwritten()[..] else { panic!("one organization") };
        usage.wrote(unwritten, None);
        assert_eq!(usage.unwritten(), []);
    }
}
