//! Reads what is new in an organization's two trails, for all of its streams on this node.
//!
//! Rows are written by any node, and not in the order in which things happened: a request's row comes when it has been
//! answered, or two seconds after its verdict. So an event is sent once it is [`SETTLED`] old, in the order of the trails:
//! then "what came after this one" has an answer, and a stream can be resumed. What comes later still is looked for over
//! [`LOOK_BACK`] and sent when found.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::event::{Event, Kinds};
use super::live::Live;
use super::queue::Queue;
use crate::domain::Timestamp;
use crate::store::{EventPosition, Store, StoreError, TenantScope};

/// The age at which an event has its place: the shipper waits two seconds for a request's answer.
const SETTLED: Duration = Duration::from_secs(3);
/// How far back is looked for what came late.
const LOOK_BACK: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);
/// How many polls are between two looks back.
const LOOKS_EVERY: u32 = 10;
/// Rows of one reading.
const PAGE: u32 = 200;
/// Positions of each trail that a look back compares, and late events that it sends.
const COMPARED: u32 = 50_000;
const LATE: usize = 200;

pub struct Tail {
    pub scope: TenantScope,
    state: Mutex<State>,
    /// Changes when the standing of people may have.
    doubts: watch::Sender<u64>,
    over: watch::Sender<bool>,
}

struct State {
    /// Everything up to here has been sent to those who listen.
    frontier: EventPosition,
    listeners: Vec<Arc<Queue>>,
}

impl Tail {
    pub fn new(scope: TenantScope, now: Timestamp) -> Self {
        let frontier = EventPosition::end_of(now.minus(SETTLED));
        let state = Mutex::new(State { frontier, listeners: Vec::new() });
        Self { scope, state, doubts: watch::Sender::new(0), over: watch::Sender::new(false) }
    }

    pub fn frontier(&self) -> EventPosition {
        self.state.lock().frontier
    }

    /// Listens from `position` on. When others are ahead of it: where they are, and nothing is done.
    pub fn join(&self, position: EventPosition, queue: &Arc<Queue>) -> Option<EventPosition> {
        let mut state = self.state.lock();
        if position < state.frontier {
            return Some(state.frontier);
        }
        state.listeners.push(Arc::clone(queue));
        None
    }

    pub fn leave(&self, queue: &Arc<Queue>) {
        self.state.lock().listeners.retain(|other| !Arc::ptr_eq(other, queue));
    }

    pub fn doubt(&self) {
        self.doubts.send_modify(|count| *count += 1);
    }

    pub fn doubts(&self) -> watch::Receiver<u64> {
        self.doubts.subscribe()
    }

    pub fn end(&self) {
        self.over.send_replace(true);
    }

    /// Gives events to all who listen; the frontier moves in the same step. Returns how many found no room.
    fn publish(&self, events: Vec<Event>, frontier: Option<EventPosition>) -> u64 {
        let mut dropped = 0;
        let mut state = self.state.lock();
        for event in events {
            let event = Arc::new(event);
            for listener in &state.listeners {
                dropped += u64::from(!listener.push(&event));
            }
        }
        if let Some(frontier) = frontier {
            state.frontier = frontier;
        }
        dropped
    }
}

/// Runs as long as the organization has a stream here.
pub async fn follow(live: Arc<Live>, tail: Arc<Tail>) {
    let mut over = tail.over.subscribe();
    let mut stop = live.stop.clone();
    // What has been sent, or was there before anyone listened.
    let mut seen: Option<BTreeSet<EventPosition>> = None;
    let mut polls: u32 = 0;
    loop {
        tokio::select! {
            _ = over.wait_for(|over| *over) => return,
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(POLL) => {}
        }
        polls = polls.wrapping_add(1);
        if let Err(error) = poll(&live, &tail, &mut seen, polls.is_multiple_of(LOOKS_EVERY)).await {
            super::say(&error);
        }
    }
}

async fn poll(
    live: &Live,
    tail: &Tail,
    seen: &mut Option<BTreeSet<EventPosition>>,
    look_back: bool,
) -> Result<(), StoreError> {
    let count = |dropped| live.metrics.event_stream_dropped.inc_by(dropped);
    let begin = |frontier: EventPosition| EventPosition::end_of(frontier.at.minus(LOOK_BACK));
    let seen = match seen {
        Some(seen) => seen,
        None => {
            let frontier = tail.frontier();
            let mut tx = live.store.read(tail.scope).await?;
            let there = tx.event_stream().positions(begin(frontier), frontier, COMPARED).await?;
            seen.insert(there.into_iter().collect())
        }
    };
    let until = EventPosition::end_of(live.clock.now().minus(SETTLED));
    while tail.frontier() < until {
        let (events, read) = read(&live.store, tail.scope, tail.frontier(), until, Kinds::ALL).await?;
        seen.extend(events.iter().map(|event| event.position));
        count(tail.publish(events, Some(read)));
    }
    if !look_back {
        return Ok(());
    }
    let (from, frontier) = (begin(tail.frontier()), tail.frontier());
    *seen = seen.split_off(&from);
    let there = live.store.read(tail.scope).await?.event_stream().positions(from, frontier, COMPARED).await?;
    let mut late: Vec<EventPosition> = there.into_iter().filter(|position| !seen.contains(position)).collect();
    late.sort_unstable();
    for position in late.into_iter().take(LATE) {
        let mut events = Vec::new();
        let mut tx = live.store.read(tail.scope).await?;
        let mut stream = tx.event_stream();
        let rows = stream.verdicts(position.just_before(), position, 1).await?;
        events.extend(rows.into_iter().map(|row| Event::of_verdict(row, true)));
        let acts = stream.admin_events(position.just_before(), position, 1).await?;
        events.extend(acts.into_iter().map(|act| Event::of_act(act, true)));
        seen.insert(position);
        count(tail.publish(events, None));
    }
    Ok(())
}

/// Some events after one position and up to another, in order, and how far they reach.
pub async fn read(
    store: &Store,
    scope: TenantScope,
    after: EventPosition,
    until: EventPosition,
    kinds: Kinds,
) -> Result<(Vec<Event>, EventPosition), StoreError> {
    let mut tx = store.read(scope).await?;
    let mut stream = tx.event_stream();
    let verdicts = if kinds.verdicts { stream.verdicts(after, until, PAGE).await? } else { Vec::new() };
    let acts = if kinds.admin_events { stream.admin_events(after, until, PAGE).await? } else { Vec::new() };
    drop(tx);
    let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let (all_verdicts, all_acts) = (verdicts.len() < page, acts.len() < page);
    let verdicts: Vec<Event> = verdicts.into_iter().map(|row| Event::of_verdict(row, false)).collect();
    let acts: Vec<Event> = acts.into_iter().map(|act| Event::of_act(act, false)).collect();
    // Beyond the end of a full page its trail may have more that belongs between the other's.
    let last = |events: &[Event], all: bool| events.last().filter(|_| !all).map(|event| event.position);
    let reached = [last(&verdicts, all_verdicts), last(&acts, all_acts)].into_iter().flatten().min().unwrap_or(until);
    let mut events: Vec<Event> = verdicts.into_iter().chain(acts).filter(|event| event.position <= reached).collect();
    events.sort_by_key(|event| event.position);
    Ok((events, reached))
}
