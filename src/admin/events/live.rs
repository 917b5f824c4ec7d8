//! The streams that are open on this node, and the one reader that each organization with a stream has.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::AdminState;
use super::super::problem::{Code, Problem};
use super::queue::Queue;
use super::tail::{self, Tail};
use crate::domain::{OrgId, SharedClock};
use crate::store::{Change, EventPosition, Store, TenantScope};
use crate::telemetry::Metrics;

/// Seconds after which a place may have become free.
const FULL: u64 = 10;

/// Everything that streams on this node.
pub struct Live {
    pub store: Store,
    pub clock: SharedClock,
    pub metrics: Arc<Metrics>,
    /// Turns true when the node drains.
    pub stop: watch::Receiver<bool>,
    most: usize,
    most_per_org: usize,
    rooms: Mutex<HashMap<OrgId, Room>>,
    /// How many streams are open.
    open: watch::Sender<usize>,
}

/// An organization with open streams.
struct Room {
    tail: Arc<Tail>,
    streams: usize,
}

impl Live {
    pub fn new(state: &AdminState, stop: watch::Receiver<bool>) -> Arc<Self> {
        let live = Arc::new(Self {
            store: state.store.clone(),
            clock: Arc::clone(&state.clock),
            metrics: Arc::clone(&state.metrics),
            stop,
            most: state.config.admin.event_streams,
            most_per_org: state.config.admin.event_streams_per_org,
            rooms: Mutex::default(),
            open: watch::Sender::new(0),
        });
        let weak: Weak<Self> = Arc::downgrade(&live);
        state.store.on_change(move |change| {
            if let Some(live) = weak.upgrade() {
                live.heard(change);
            }
        });
        live
    }

    /// People's standing may have changed: their streams ask.
    fn heard(&self, change: &Change) {
        let rooms = self.rooms.lock();
        match change {
            Change::Organization { org } => rooms.get(org).into_iter().for_each(|room| room.tail.doubt()),
            Change::Everything => rooms.values().for_each(|room| room.tail.doubt()),
            _ => {}
        }
    }

    /// A place for one stream.
    ///
    /// # Errors
    /// 429 when the organization has as many streams as it may have here, 503 when the node has.
    pub fn enter(self: &Arc<Self>, scope: TenantScope) -> Result<Place, Problem> {
        let mut rooms = self.rooms.lock();
        if rooms.values().map(|room| room.streams).sum::<usize>() >= self.most {
            return Err(Problem::new(Code::Overloaded, "this node has as many streams as it takes").retry_after(FULL));
        }
        let org = scope.org_id();
        let streams = rooms.get(&org).map_or(0, |room| room.streams);
        if streams >= self.most_per_org {
            let detail = "the organization has as many streams as it can have";
            return Err(Problem::new(Code::TooManyStreams, detail).retry_after(FULL));
        }
        let room = rooms.entry(org).or_insert_with(|| {
            let tail = Arc::new(Tail::new(scope, self.clock.now()));
            tokio::spawn(tail::follow(Arc::clone(self), Arc::clone(&tail)));
            Room { tail, streams: 0 }
        });
        room.streams += 1;
        let tail = Arc::clone(&room.tail);
        drop(rooms);
        self.open.send_modify(|open| *open += 1);
        self.metrics.event_streams.inc();
        Ok(Place { live: Arc::clone(self), tail })
    }

    /// Waits until no stream is open.
    pub async fn closed(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// One stream's place, given back when dropped.
pub struct Place {
    pub live: Arc<Live>,
    pub tail: Arc<Tail>,
}

impl Place {
    /// Begins to receive what comes after `queue`'s position, unless there is more before that: then up to where.
    pub fn join(&self, position: EventPosition, queue: &Arc<Queue>) -> Option<EventPosition> {
        self.tail.join(position, queue)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut rooms = self.live.rooms.lock();
        let org = self.tail.scope.org_id();
        if let Some(room) = rooms.get_mut(&org) {
            room.streams -= 1;
            if room.streams == 0 {
                room.tail.end();
                rooms.remove(&org);
            }
        }
        drop(rooms);
        self.live.metrics.event_streams.dec();
        self.live.open.send_modify(|open| *open -= 1);
    }
}
