//! Head and body of a request leave in one write.
//!
//! Pingora writes and flushes the two apart: two system calls, two packets, an upstream that wakes twice. By the time a head
//! is written its body is always there, so a [`Joined`] connection holds the head back until the body comes. Only for
//! upstreams without TLS: pingora hands out no other connection before it is encrypted.

use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::Result;
use pingora::connectors::http::custom::{Connection, Connector};
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::CustomALPN;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::Peer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Makes the connections of peers whose protocol is [`protocol`]; pingora pools them as the HTTP/1 they are.
#[derive(Clone)]
pub(super) struct Joining(Arc<TransportConnector>);

impl Joining {
    pub(super) fn new(conf: &ServerConf) -> Self {
        Self(Arc::new(TransportConnector::new(Some(ConnectorOptions::from_server_conf(conf)))))
    }
}

/// Sends a peer's connections through [`Joining`]; it is never on the wire.
pub(super) fn protocol() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"joined".to_vec()))
}

#[async_trait]
impl Connector for Joining {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<()>, bool)> {
        let inner = self.0.new_stream(peer).await?;
        Ok((Connection::Stream(Box::new(Joined { inner, head: Vec::new(), sent: 0, body: 0 })), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        (): (),
        _peer: &P,
        _idle_timeout: Option<Duration>,
    ) {
    }
}

#[derive(Debug)]
struct Joined {
    inner: Stream,
    /// A head that waits for its body; the first `sent` bytes are on their way.
    head: Vec<u8>,
    sent: usize,
    /// Bytes of the announced body that are still to come. None of them is taken for a head.
    body: u64,
}

impl Joined {
    fn count(&mut self, written: usize) -> usize {
        self.body = self.body.saturating_sub(written as u64);
        written
    }
}

/// The length of the body that `written` announces, if it is a whole head.
fn announced(written: &[u8]) -> Option<u64> {
    let lines = written.strip_suffix(b"\r\n\r\n")?.split(|&byte| byte == b'\n').skip(1);
    let mut lengths = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:").then_some(value)
    });
    std::str::from_utf8(lengths.next()?.trim_ascii()).ok()?.parse().ok()
}

impl AsyncWrite for Joined {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        if this.head.is_empty() {
            if this.body == 0
                && let Some(length @ 1..) = announced(bytes)
            {
                this.head.extend_from_slice(bytes);
                this.body = length;
                return Poll::Ready(Ok(bytes.len()));
            }
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
            return Poll::Ready(Ok(this.count(written)));
        }
        loop {
            let head = this.head.get(this.sent..).unwrap_or_default();
            let both = [IoSlice::new(head), IoSlice::new(bytes)];
            let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, &both))?;
            match written.checked_sub(head.len()) {
                None if written == 0 => return Poll::Ready(Err(Error::from(ErrorKind::WriteZero))),
                // Zero would say that the body cannot be written.
                None | Some(0) => this.sent += written,
                Some(of_body) => {
                    this.head.clear();
                    this.sent = 0;
                    return Poll::Ready(Ok(this.count(of_body)));
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.head.is_empty() { Pin::new(&mut this.inner).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl AsyncRead for Joined {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, into)
    }
}

#[async_trait]
impl Shutdown for Joined {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for Joined {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Joined {}

impl Peek for Joined {}

impl GetTimingDigest for Joined {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl GetProxyDigest for Joined {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Joined {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use pingora::protocols::l4::stream::Stream as Connection;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn joined() -> (Joined, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let inner: Stream = Box::new(Connection::from(near));
        (Joined { inner, head: Vec::new(), sent: 0, body: 0 }, far)
    }

    async fn arrived(far: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        far.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_head_waits_for_its_body_and_all_bytes_arrive_in_order() {
        let (mut near, mut far) = joined().await;
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n";
        // A body that is a head itself, over and over.
        let body: Vec<u8> =
            b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n".iter().copied().cycle().take(3_000_000).collect();
        for _ in 0..2 {
            near.write_all(head).await.unwrap();
            near.flush().await.unwrap();
            assert_eq!(far.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock, "it is held back");
            let sending = async {
                near.write_all(&body).await.unwrap();
                near.flush().await.unwrap();
            };
            let (bytes, ()) = tokio::join!(arrived(&mut far, head.len() + body.len()), sending);
            assert_eq!(bytes.split_at(head.len()), (head.as_slice(), body.as_slice()));
        }
    }

    #[tokio::test]
    async fn a_head_without_a_body_leaves_at_once() {
        let (mut near, mut far) = joined().await;
        for head in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"] {
            near.write_all(head.as_bytes()).await.unwrap();
            near.flush().await.unwrap();
            assert_eq!(arrived(&mut far, head.len()).await, head.as_bytes());
        }
    }

    #[test]
    fn only_a_whole_head_announces_a_body() {
        assert_eq!(announced(b"POST / HTTP/1.1\r\nContent-length:  7 \r\na: b\r\n\r\n"), Some(7));
        for other in [
            "POST / HTTP/1.1\r\ncontent-length: 7\r\n",
            "content-length: 7\r\n\r\n",
            "x\r\ncontent-length: x\r\n\r\n",
            "",
        ] {
            assert_eq!(announced(other.as_bytes()), None, "{other}");
        }
    }
}
