//! A request body of any size, read before the upstream is contacted.
//!
//! Pingora sends a body that was read early only from its retry buffer, which gives up above 64 KiB. So once the body is
//! approved, a [`Replay`] takes the place of the client's session: it passes everything on to the real one and offers the
//! approved body as a retry buffer without a limit. The first attempt and every later one send the same bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, OrErr as _, Result};

use super::screen::{Resolved, Settled};

type Messages = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;
type Slot = Arc<Mutex<Option<Box<ServerSession>>>>;

/// Kept in the request's context: the way to get the real session back.
#[derive(Default)]
pub(super) struct Home(Option<Slot>);

/// How an answer that is looked at gets past the head: filters of bodies set it, the stand-in obeys.
#[derive(Default)]
pub(super) struct Valve(Mutex<State>);

#[derive(Default)]
struct State {
    /// The head waits for the verdict.
    held: bool,
    head: Option<NewHead>,
    /// Goes out before what comes next.
    added: Option<Bytes>,
    /// The answer ends with what is there: the upstream is let go.
    cut: bool,
    /// A look that takes too long for this thread, and what it came to.
    job: Option<Job>,
    settled: Option<Settled>,
}

/// A look at an answer, to be taken elsewhere.
pub(super) type Job = Box<dyn FnOnce() -> Resolved + Send>;

/// What a verdict makes of a head.
pub(super) enum NewHead {
    Changed { length: usize, action: HeaderValue, rewritten: bool },
    Instead(Box<ResponseHeader>),
}

impl Valve {
    pub(super) fn hold(&self) {
        self.0.lock().held = true;
    }

    pub(super) fn open(&self, head: Option<NewHead>) {
        let mut state = self.0.lock();
        state.held = false;
        state.head = head;
    }

    pub(super) fn add(&self, bytes: Bytes) {
        self.0.lock().added = Some(bytes);
    }

    pub(super) fn cut(&self) {
        self.0.lock().cut = true;
    }

    /// The head stays held until `job` is done.
    pub(super) fn defer(&self, job: Job) {
        self.0.lock().job = Some(job);
    }

    /// What a deferred look came to.
    pub(super) fn settled(&self) -> Option<Settled> {
        self.0.lock().settled.take()
    }

    fn job(&self) -> Option<Job> {
        self.0.lock().job.take()
    }

    fn resolve(&self, resolved: Resolved) {
        let mut state = self.0.lock();
        state.held = false;
        state.head = resolved.head;
        state.added = Some(resolved.body);
        state.cut |= resolved.cut;
        state.settled = Some(resolved.settled);
    }
}

struct Replay {
    /// Taken only by `drop`.
    real: Option<Box<ServerSession>>,
    body: Bytes,
    /// When the upstream has had its time.
    deadline: Option<Instant>,
    home: Slot,
    valve: Option<Arc<Valve>>,
    leaving: Arc<AtomicBool>,
    /// A head that is held.
    head: Option<Box<ResponseHeader>>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        *self.home.lock() = self.real.take();
    }
}

/// From here on the upstream gets `body`, on every attempt.
pub(super) fn install(
    session: &mut Session,
    home: &mut Home,
    body: Bytes,
    deadline: Option<Instant>,
    valve: Option<Arc<Valve>>,
    leaving: Arc<AtomicBool>,
) {
    let slot = Slot::default();
    let nobody = Box::new(ServerSession::new_custom(Box::new(())));
    let real = std::mem::replace(&mut session.downstream_session, nobody);
    let replay = Replay { real: Some(real), body, deadline, home: slot.clone(), valve, leaving, head: None };
    *session.downstream_session = ServerSession::new_custom(Box::new(replay));
    home.0 = Some(slot);
}

/// Gives the connection back to pingora, or keep-alive would be lost. A second call does nothing.
pub(super) fn restore(session: &mut Session, home: &mut Home) {
    let Some(slot) = home.0.take() else { return };
    // Drops the `Replay`, which fills the slot.
    *session.downstream_session = ServerSession::new_custom(Box::new(()));
    let real = slot.lock().take();
    if let Some(real) = real {
        session.downstream_session = real;
    }
}

impl Replay {
    fn real(&self) -> &ServerSession {
        match &self.real {
            Some(real) => real,
            None => unreachable!("only `drop` takes it"),
        }
    }

    fn real_mut(&mut self) -> &mut ServerSession {
        match &mut self.real {
            Some(real) => real,
            None => unreachable!("only `drop` takes it"),
        }
    }

    /// What of `tasks` goes out now.
    fn through(&mut self, valve: &Valve, tasks: Vec<HttpTask>) -> Result<Vec<HttpTask>> {
        let mut state = valve.0.lock();
        let mut out = Vec::with_capacity(tasks.len() + 2);
        for task in tasks {
            match task {
                HttpTask::Header(head, end) if head.status.is_informational() => out.push(HttpTask::Header(head, end)),
                HttpTask::Header(head, end) => {
                    let replaced = matches!(state.head, Some(NewHead::Instead(_)));
                    if end && !replaced {
                        // Without a body there is nothing to wait for.
                        out.push(HttpTask::Header(head, end));
                    } else {
                        self.head = Some(head);
                    }
                }
                HttpTask::Failed(error) => out.push(HttpTask::Failed(error)),
                // Empty, as the filter keeps it all; the end opens the valve.
                _ if state.held => {}
                other => {
                    release(&mut self.head, &mut state, &mut out)?;
                    out.push(other);
                }
            }
        }
        if !state.held {
            release(&mut self.head, &mut state, &mut out)?;
        }
        if state.cut {
            out.retain(|task| match task {
                HttpTask::Header(..) => true,
                HttpTask::Body(Some(bytes), _) => !bytes.is_empty(),
                _ => false,
            });
            match out.last_mut() {
                Some(HttpTask::Body(_, end)) => *end = true,
                _ => out.push(HttpTask::Body(None, true)),
            }
        }
        Ok(out)
    }
}

/// The held head, as the verdict wants it, and what was added.
fn release(head: &mut Option<Box<ResponseHeader>>, state: &mut State, out: &mut Vec<HttpTask>) -> Result<()> {
    if let Some(mut head) = head.take() {
        match state.head.take() {
            None => {}
            Some(NewHead::Instead(instead)) => head = instead,
            Some(NewHead::Changed { length, action, rewritten }) => {
                head.remove_header(&TRANSFER_ENCODING);
                head.insert_header(CONTENT_LENGTH, length)?;
                head.insert_header("x-sentinel-action", action)?;
                if rewritten {
                    for name in ["content-md5", "content-digest", "repr-digest", "digest", "etag"] {
                        head.remove_header(name);
                    }
                }
            }
        }
        out.push(HttpTask::Header(head, false));
    }
    if let Some(bytes) = state.added.take() {
        out.push(HttpTask::Body(Some(bytes), false));
    }
    Ok(())
}

#[async_trait]
impl CustomSession for Replay {
    // The body.
    fn is_body_done(&mut self) -> bool {
        true
    }

    fn is_body_empty(&mut self) -> bool {
        self.body.is_empty()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        (!self.body.is_empty()).then(|| self.body.clone())
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Only watches for the client leaving, and the time. Pingora waits here for as long as it waits for the upstream, which
    /// has no limit of its own for a whole exchange.
    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        let deadline = self.deadline;
        let idle = self.real_mut().read_body_or_idle(true);
        let Some(deadline) = deadline else { return idle.await };
        match tokio::time::timeout_at(deadline.into(), idle).await {
            Ok(read) => read,
            Err(_) => Err(Error::explain(ErrorType::HTTPStatus(504), "the upstream's time is over")),
        }
    }

    // Everything else is the real session's.
    fn req_header(&self) -> &RequestHeader {
        self.real().req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.real_mut().req_header_mut()
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.real_mut().drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.real_mut().write_response_header(head).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, _end: bool) -> Result<()> {
        self.real_mut().write_response_header_ref(head).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.real_mut().write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.real_mut().write_response_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        if self.leaving.load(Ordering::Acquire) {
            // In time for the head of an answer that has not begun.
            self.real_mut().set_keepalive(None);
        }
        let Some(valve) = self.valve.clone() else { return self.real_mut().response_duplex_vec(tasks).await };
        let mut tasks = self.through(&valve, tasks)?;
        if let Some(job) = valve.job() {
            let done = tokio::task::spawn_blocking(job).await;
            valve.resolve(done.or_err(ErrorType::InternalError, "looking at an answer")?);
            tasks.extend(self.through(&valve, vec![HttpTask::Body(None, true)])?);
        }
        if tasks.is_empty() {
            return Ok(false);
        }
        self.real_mut().response_duplex_vec(tasks).await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.real_mut().set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.real().get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.real_mut().set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.real().get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.real_mut().set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.real().get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.real().request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.real().response_written()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.real_mut().shutdown().await;
    }

    async fn finish(&mut self) -> Result<()> {
        self.real_mut().finish_body().await
    }

    fn body_bytes_sent(&self) -> usize {
        self.real().body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.real().body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.real().digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.real_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.real().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.real().server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.real().to_h1_raw()
    }

    fn is_upgrade_req(&self) -> bool {
        self.real().is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.real().was_upgraded()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: Messages) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
