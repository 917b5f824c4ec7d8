//! Pairs begins with completions and keeps the rows that are ready to be shipped. No I/O.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::outbox::{Charge, Item};
use super::record::Entry;
use crate::domain::{AuditEvent, AuditId, Completion, Erased, Outcome, Timestamp};
use crate::store::AuditRow;

/// A request without its completion.
struct Open {
    event: Box<AuditEvent>,
    state: State,
}

enum State {
    /// Not shipped; waits a little for the completion, so that most requests are one write.
    Held(Charge),
    /// Among the ready rows, without its completion.
    Ready,
    /// In the database, without its completion.
    Shipped,
}

/// What has to be done when a ready row has been shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bill {
    charges: [Option<Charge>; 2],
    /// The row is in the database already, without its completion.
    repeated: bool,
}

#[derive(Default)]
pub(super) struct Rows {
    open: HashMap<AuditId, Open, RandomState>,
    /// When requests without a completion arrived, oldest first. May name some that have been completed since.
    held: VecDeque<(Instant, AuditId)>,
    ready: Vec<AuditRow>,
    bills: Vec<Bill>,
    ready_bytes: u64,
    /// When the first of the ready rows came.
    ready_since: Option<Instant>,
    /// Records that mean nothing any more.
    settled: Vec<Charge>,
}

impl Rows {
    pub(super) fn apply(&mut self, item: Item, now: Instant) {
        let Item { entry, charge } = item;
        match entry {
            Entry::Both(event, completion) => {
                self.push(*event, Some(completion), [Some(charge), None], false, now);
            }
            // The second time it is the same record: the list of open requests was written, its segment not yet removed.
            Entry::Begin(event) if self.open.contains_key(&event.id) => self.settled.push(charge),
            Entry::Begin(event) => {
                self.held.push_back((now, event.id));
                self.open.insert(event.id, Open { event, state: State::Held(charge) });
            }
            Entry::Completion(completion) => match self.open.remove(&completion.id) {
                // Its begin and its row are gone: shipped in full before a crash, or given up as unreadable.
                None => self.settled.push(charge),
                Some(open) => self.complete(open, completion, Some(charge), now),
            },
        }
    }

    fn complete(&mut self, open: Open, completion: Completion, charge: Option<Charge>, now: Instant) {
        match open.state {
            State::Held(begin) => self.push(*open.event, Some(completion), [Some(begin), charge], false, now),
            State::Shipped => self.push(*open.event, Some(completion), [None, charge], true, now),
            State::Ready => {
                let waiting = self.ready.iter_mut().zip(&mut self.bills);
                if let Some((row, bill)) = waiting.rev().find(|(row, _)| row.event.id == completion.id) {
                    row.completion = Some(completion);
                    bill.charges[1] = charge;
                }
            }
        }
    }

    fn push(
        &mut self,
        event: AuditEvent,
        completion: Option<Completion>,
        charges: [Option<Charge>; 2],
        repeated: bool,
        now: Instant,
    ) {
        self.ready.push(AuditRow { event, completion, link: None, erased: Erased::default() });
        self.ready_bytes += charges.iter().flatten().map(|charge| u64::from(charge.bytes)).sum::<u64>();
        self.bills.push(Bill { charges, repeated });
        self.ready_since.get_or_insert(now);
    }

    /// Takes back a request that an earlier run shipped without its completion.
    pub(super) fn restore(&mut self, event: Box<AuditEvent>) {
        self.open.insert(event.id, Open { event, state: State::Shipped });
    }

    /// Ends every open request: the node that served them is gone. The client may have been told nothing or a part; the
    /// status says 0, which no answer has.
    pub(super) fn interrupt(&mut self, at: Timestamp, now: Instant) {
        for (id, open) in std::mem::take(&mut self.open) {
            let completion = Completion {
                id,
                completed_at: at,
                outcome: Outcome::Interrupted,
                status: 0,
                upstream_status: None,
                duration_us: 0,
                overhead_us: 0,
                ttfb_us: None,
                response_bytes: 0,
                input_tokens: None,
                output_tokens: None,
                error_code: None,
                answer: None,
            };
            self.complete(open, completion, None, now);
        }
        self.held.clear();
    }

    /// Makes requests ready that have waited for their completion for `hold`.
    pub(super) fn ripen(&mut self, now: Instant, hold: Duration) {
        while let Some(&(since, id)) = self.held.front() {
            let open = self.open.get_mut(&id).filter(|open| matches!(open.state, State::Held(_)));
            if open.is_some() && since + hold > now {
                break;
            }
            self.held.pop_front();
            if let Some(open) = open
                && let State::Held(charge) = std::mem::replace(&mut open.state, State::Ready)
            {
                let event = (*open.event).clone();
                self.push(event, None, [Some(charge), None], false, now);
            }
        }
    }

    pub(super) fn ready(&self) -> &[AuditRow] {
        &self.ready
    }

    pub(super) fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    pub(super) fn ready_since(&self) -> Option<Instant> {
        self.ready_since
    }

    /// Requests wait for their completion, or rows to be shipped.
    pub(super) fn expects_more(&self) -> bool {
        !self.held.is_empty() || !self.ready.is_empty()
    }

    /// Forgets the first rows for which `shipped` is true, and returns what they pay off.
    pub(super) fn shipped(&mut self, shipped: &[bool], now: Instant) -> Vec<Charge> {
        let mut paid = self.take_settled();
        let mut marks = shipped.iter().copied().chain(std::iter::repeat(false));
        let (rows, bills) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.bills));
        self.ready_bytes = 0;
        for ((row, bill), shipped) in rows.into_iter().zip(bills).zip(&mut marks) {
            let charges = bill.charges.iter().flatten();
            if !shipped {
                self.ready_bytes += charges.map(|charge| u64::from(charge.bytes)).sum::<u64>();
                self.ready.push(row);
                self.bills.push(bill);
                continue;
            }
            paid.extend(charges);
            if row.completion.is_none()
                && let Some(open) = self.open.get_mut(&row.event.id)
            {
                open.state = State::Shipped;
            }
        }
        self.ready_since = (!self.ready.is_empty()).then_some(now);
        paid
    }

    /// Records that mean nothing any more, to be paid off.
    pub(super) fn take_settled(&mut self) -> Vec<Charge> {
        std::mem::take(&mut self.settled)
    }

    /// Changes which row is tried first.
    pub(super) fn rotate(&mut self, by: usize) {
        let by = by.min(self.ready.len());
        self.ready.rotate_left(by);
        self.bills.rotate_left(by);
    }

    /// The requests that are in the database without their completion.
    pub(super) fn shipped_open(&self) -> impl Iterator<Item = &AuditEvent> {
        let waiting = self.ready.iter().zip(&self.bills).filter(|(_, bill)| bill.repeated).map(|(row, _)| &row.event);
        let open = self.open.values().filter(|open| matches!(open.state, State::Shipped)).map(|open| &*open.event);
        open.chain(waiting)
    }
}
