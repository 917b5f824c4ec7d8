//! What waits to be sent on one stream. Bounded: a client that reads slowly costs no more memory than this.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::event::{Event, Filter};
use crate::store::EventPosition;

/// Events that wait at most.
const ROOM: usize = 256;

#[derive(Clone)]
pub enum Item {
    Event(Arc<Event>),
    /// So many were left out here.
    Dropped(u64),
}

pub struct Queue {
    /// What the stream has already had.
    after: EventPosition,
    filter: Filter,
    waiting: Mutex<VecDeque<Item>>,
    arrived: Notify,
}

impl Queue {
    pub fn new(after: EventPosition, filter: Filter) -> Self {
        Self { after, filter, waiting: Mutex::default(), arrived: Notify::new() }
    }

    /// False when it had to be left out. The newest goes: what was sent before the gap has none in it.
    pub fn push(&self, event: &Arc<Event>) -> bool {
        let had = !event.late && event.position <= self.after;
        if had || !self.filter.wants(event) {
            return true;
        }
        let mut waiting = self.waiting.lock();
        let full = waiting.len() >= ROOM;
        match waiting.back_mut() {
            Some(Item::Dropped(count)) if full => *count += 1,
            _ if full => waiting.push_back(Item::Dropped(1)),
            _ => waiting.push_back(Item::Event(Arc::clone(event))),
        }
        drop(waiting);
        self.arrived.notify_one();
        !full
    }

    /// For one reader. Nothing is lost when the future is dropped.
    pub async fn next(&self) -> Item {
        loop {
            let next = self.waiting.lock().pop_front();
            match next {
                Some(item) => return item,
                None => self.arrived.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Kinds;
    use super::*;
    use crate::domain::{AdminEventId, Timestamp};
    use crate::store::{ActorType, AdminEventRecord, EventOutcome};

    fn event(n: i64, action: &str, late: bool) -> Arc<Event> {
        let record = AdminEventRecord {
            id: AdminEventId::new(),
            occurred_at: Timestamp::from_micros(n),
            actor_type: ActorType::User,
            actor_id: None,
            actor_email: None,
            action: action.to_owned(),
            target_type: None,
            target_id: None,
            outcome: EventOutcome::Success,
            ip: None,
            user_agent: None,
            request_id: None,
            before: None,
            after: None,
        };
        Arc::new(Event::of_act(record, late))
    }

    fn queue(after: i64, action: Option<&str>) -> Queue {
        let filter = Filter {
            kinds: Kinds::ALL,
            workspace_id: None,
            api_key_id: None,
            verdict: None,
            category: None,
            min_risk_score: 0,
            action: action.map(str::to_owned),
            outcome: None,
        };
        Queue::new(EventPosition::end_of(Timestamp::from_micros(after)), filter)
    }

    async fn next(queue: &Queue) -> String {
        match queue.next().await {
            Item::Event(event) => event.position.at.micros().to_string(),
            Item::Dropped(count) => format!("dropped {count}"),
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_where_it_would_have_been() {
        let queue = queue(0, None);
        let room = i64::try_from(ROOM).unwrap();
        let pushed = (1..=room + 3).filter(|n| queue.push(&event(*n, "a.b", false))).count();
        assert_eq!(pushed, ROOM);
        assert_eq!(next(&queue).await, "1");
        assert_eq!(next(&queue).await, "2");
        assert!(queue.push(&event(1000, "a.b", false)), "room again");
        for n in 3..=room {
            assert_eq!(next(&queue).await, n.to_string());
        }
        assert_eq!(next(&queue).await, "dropped 3");
        assert_eq!(next(&queue).await, "1000");
    }

    #[tokio::test]
    async fn what_a_stream_has_had_or_does_not_want_takes_no_room() {
        let queue = queue(5, Some("a.b"));
        for (n, action, late) in [(5, "a.b", false), (6, "c.d", false), (4, "a.b", true), (7, "a.b", false)] {
            assert!(queue.push(&event(n, action, late)));
        }
        assert_eq!(next(&queue).await, "4");
        assert_eq!(next(&queue).await, "7");
        assert!(queue.waiting.lock().is_empty());
    }
}
