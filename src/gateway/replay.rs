//! A request body of any size, read before the upstream is contacted.
//!
//! Pingora sends a body that was read early only from its retry buffer, which gives up above 64 KiB. So once the body is
//! approved, a [`Replay`] takes the place of the client's session: it passes everything on to the real one and offers the
//! approved body as a retry buffer without a limit. The first attempt and every later one send the same bytes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use parking_lot::Mutex;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;

type Messages = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;
type Slot = Arc<Mutex<Option<Box<ServerSession>>>>;

/// Kept in the request's context: the way to get the real session back.
#[derive(Default)]
pub(super) struct Home(Option<Slot>);

struct Replay {
    /// Taken only by `drop`.
    real: Option<Box<ServerSession>>,
    body: Bytes,
    home: Slot,
}

impl Drop for Replay {
    fn drop(&mut self) {
        *self.home.lock() = self.real.take();
    }
}

/// From here on the upstream gets `body`, on every attempt.
pub(super) fn install(session: &mut Session, home: &mut Home, body: Bytes) {
    let slot = Slot::default();
    let nobody = Box::new(ServerSession::new_custom(Box::new(())));
    let real = std::mem::replace(&mut session.downstream_session, nobody);
    *session.downstream_session =
        ServerSession::new_custom(Box::new(Replay { real: Some(real), body, home: slot.clone() }));
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

    /// Only watches for the client leaving.
    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        self.real_mut().read_body_or_idle(true).await
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
