//! One stream: catches up, then passes on, until something ends it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

use super::event::{EventMessage, Filter, Kinds};
use super::live::Place;
use super::queue::{Item, Queue};
use super::{may_watch, tail};
use crate::authn::{SessionError, Sessions};
use crate::domain::{SessionId, UserId};
use crate::store::EventPosition;

/// How often it is asked whether the session may still watch; a change that is heard of is asked about at once.
const RECHECK: Duration = Duration::from_secs(2);
const PING: Duration = Duration::from_secs(20);
/// A client that does not answer pings for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client may take to read one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A client has nothing to say.
const LONGEST: usize = 4096;

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed, or cannot be reached.
    Gone,
    Draining,
    Spoke,
    Failed,
    SessionEnded,
    PermissionLost,
}

impl End {
    /// Codes of RFC 6455 and of the registry of WebSocket close codes.
    const fn close(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Gone => None,
            Self::Draining => Some((close_code::AWAY, "the node stops")),
            Self::Spoke => Some((close_code::UNSUPPORTED, "nothing is read here")),
            Self::Failed => Some((close_code::ERROR, "internal error")),
            Self::SessionEnded => Some((3000, "the session has ended")),
            Self::PermissionLost => Some((3003, "the permission is gone")),
        }
    }
}

pub fn settings(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.max_message_size(LONGEST).max_frame_size(LONGEST)
}

/// Whose stream it is, and what it shows.
pub struct Connection {
    pub sessions: Arc<Sessions>,
    pub session: SessionId,
    pub user: UserId,
    pub kinds: Kinds,
}

impl Connection {
    /// `from`: the last event that the client has; without, it begins with what happens now.
    pub async fn run(self, socket: WebSocket, place: Place, filter: Filter, from: Option<EventPosition>) {
        let guard = Guard(tokio::spawn(self.guard(&place)));
        let mut stream = Stream { socket, guard, heard: Instant::now() };
        let end = match stream.serve(&place, filter, from).await {
            ControlFlow::Break(end) => end,
            ControlFlow::Continue(()) => End::Gone,
        };
        stream.close(end).await;
    }

    /// Ends when the stream must. A task of its own: its questions must not be given up whenever an event comes.
    fn guard(self, place: &Place) -> impl Future<Output = End> + Send + 'static {
        let mut stop = place.live.stop.clone();
        let mut doubts = place.tail.doubts();
        async move {
            let mut tick = interval(RECHECK);
            loop {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return End::Draining,
                    _ = tick.tick() => {}
                    changed = doubts.changed() => if changed.is_err() { return End::Failed },
                }
                match self.sessions.resolve(self.session, self.user).await {
                    Ok(session) if may_watch(&session, self.kinds) => {}
                    Ok(_) => return End::PermissionLost,
                    // Without its database there is nothing to show, either.
                    Err(SessionError::Store(error)) => super::say(&error),
                    Err(_) => return End::SessionEnded,
                }
            }
        }
    }
}

/// Does not outlive the stream.
struct Guard(JoinHandle<End>);

impl Guard {
    async fn ended(&mut self) -> End {
        (&mut self.0).await.unwrap_or(End::Failed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Stream {
    socket: WebSocket,
    guard: Guard,
    /// When the client last said anything.
    heard: Instant,
}

type Step = ControlFlow<End>;

impl Stream {
    async fn serve(&mut self, place: &Place, filter: Filter, from: Option<EventPosition>) -> Step {
        let mut position = from.unwrap_or_else(|| place.tail.frontier());
        let queue = loop {
            let queue = Arc::new(Queue::new(position, filter.clone()));
            let Some(ahead) = place.join(position, &queue) else { break queue };
            position = self.catch_up(place, &filter, position, ahead).await?;
        };
        let served = self.pass_on(&queue).await;
        place.tail.leave(&queue);
        served
    }

    /// From the store, as fast as the client reads.
    async fn catch_up(
        &mut self,
        place: &Place,
        filter: &Filter,
        after: EventPosition,
        until: EventPosition,
    ) -> ControlFlow<End, EventPosition> {
        let mut position = after;
        while position < until {
            let read = tail::read(&place.live.store, place.tail.scope, position, until, filter.kinds).await;
            let (events, reached) = match read {
                Ok(read) => read,
                Err(error) => {
                    super::say(&error);
                    return ControlFlow::Break(End::Failed);
                }
            };
            for event in events.iter().filter(|event| filter.wants(event)) {
                self.send(Message::Text(event.text.clone())).await?;
            }
            position = reached;
        }
        // Nobody looked whether the client spoke.
        self.heard = Instant::now();
        ControlFlow::Continue(position)
    }

    async fn pass_on(&mut self, queue: &Queue) -> Step {
        let mut ping = interval(PING);
        loop {
            tokio::select! {
                biased;
                end = self.guard.ended() => return ControlFlow::Break(end),
                received = self.socket.recv() => match received {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => self.heard = Instant::now(),
                    Some(Ok(Message::Text(_) | Message::Binary(_))) => return ControlFlow::Break(End::Spoke),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return ControlFlow::Break(End::Gone),
                },
                _ = ping.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return ControlFlow::Break(End::Gone);
                    }
                    self.send(Message::Ping(Bytes::new())).await?;
                }
                item = queue.next() => {
                    let text = match item {
                        Item::Event(event) => event.text.clone(),
                        Item::Dropped(count) => EventMessage::Dropped { count }.text(),
                    };
                    self.send(Message::Text(text)).await?;
                }
            }
        }
    }

    /// Waits for a client that reads slowly, but not for ever, and not when the stream must end.
    async fn send(&mut self, message: Message) -> Step {
        tokio::select! {
            biased;
            end = self.guard.ended() => ControlFlow::Break(end),
            sent = timeout(SEND_TIMEOUT, self.socket.send(message)) => match sent {
                Ok(Ok(())) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(End::Gone),
            },
        }
    }

    /// Says why, and waits a little for the client's own close.
    async fn close(mut self, end: End) {
        let Some((code, reason)) = end.close() else { return };
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let closing = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}
