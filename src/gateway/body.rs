//! Reading a request's body: whole, within a limit and a time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

/// Bodies up to this size are read before an early refusal, so that the connection can be used again.
const SETTLE: usize = 64 << 10;
/// After a refusal this much is still read and dropped: a connection that is closed over unread data resets, and the reset
/// can destroy the answer on its way.
const LINGER: usize = 4 << 20;
/// The time for either.
const PATIENCE: Duration = Duration::from_secs(2);
/// Without a declared length a body starts with room for this many of its first piece.
const GROWTH: usize = 4;

/// Why a body was not read.
#[derive(Debug)]
pub(super) enum Unread {
    TooLarge,
    TooSlow,
    /// The client left or broke the framing.
    Broken(Box<pingora::Error>),
}

/// The whole body in one piece: without a copy when it came in one, else in one allocation of the declared size.
///
/// # Errors
/// [`Unread`].
pub(super) async fn read_whole(session: &mut Session, limit: usize, within: Duration) -> Result<Bytes, Unread> {
    let declared = declared_length(session.req_header());
    if declared.is_some_and(|length| length > limit) {
        return Err(Unread::TooLarge);
    }
    if session.is_body_done() {
        return Ok(Bytes::new());
    }
    tokio::time::timeout(within, read(session, declared, limit)).await.unwrap_or(Err(Unread::TooSlow))
}

async fn read(session: &mut Session, declared: Option<usize>, limit: usize) -> Result<Bytes, Unread> {
    if expects_continue(session.req_header()) {
        // Any head that is written before the body's end turns keep-alive off, that of a 100 too.
        session.as_mut().set_close_on_response_before_downstream_finish(false);
        let sent = session.write_continue_response().await;
        session.as_mut().set_close_on_response_before_downstream_finish(true);
        sent.map_err(Unread::Broken)?;
    }
    let Some(first) = piece(session).await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(Unread::TooLarge);
    }
    if session.is_body_done() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(declared.unwrap_or_else(|| first.len().saturating_mul(GROWTH)).min(limit));
    whole.extend_from_slice(&first);
    while let Some(piece) = piece(session).await? {
        if whole.len().saturating_add(piece.len()) > limit {
            return Err(Unread::TooLarge);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

async fn piece(session: &mut Session) -> Result<Option<Bytes>, Unread> {
    session.read_request_body().await.map_err(|error| Unread::Broken(error.into_down()))
}

/// Reads and drops a small body that nobody wants. True when nothing of it is left on the connection.
pub(super) async fn settle(session: &mut Session) -> bool {
    if session.is_http2() || session.is_body_done() {
        return true;
    }
    let head = session.req_header();
    if expects_continue(head) || declared_length(head).is_none_or(|length| length > SETTLE) {
        return false;
    }
    discard(session, SETTLE).await
}

/// Reads and drops what is left of a large body after the answer was written.
pub(super) async fn linger(session: &mut Session) {
    if !session.is_http2() {
        discard(session, LINGER).await;
    }
}

async fn discard(session: &mut Session, mut bound: usize) -> bool {
    let reading = async {
        while let Ok(Some(piece)) = session.read_request_body().await {
            if piece.len() > bound {
                return false;
            }
            bound -= piece.len();
        }
        session.is_body_done()
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or(false)
}

fn declared_length(head: &RequestHeader) -> Option<usize> {
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn expects_continue(head: &RequestHeader) -> bool {
    head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
