//! What Sentinel is compared with: pingora passing requests through, with its defaults and no hooks.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::Result;
use pingora::listeners::ListenerConfig;
use pingora::proxy::{ProxyHttp, Session};
use pingora::server::Fds;
use pingora::server::configuration::ServerConf;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use pingora::upstreams::peer::HttpPeer;

struct PassThrough(SocketAddr);

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

/// Passes requests on `listener` to `upstream` on `threads` worker threads of one runtime, as pingora's own server does.
/// Returns when the process ends; meant for a thread or a process of its own.
pub fn serve_passthrough(listener: TcpListener, upstream: SocketAddr, threads: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let name = listener.local_addr().expect("a bound listener").to_string();
        listener.set_nonblocking(true).expect("a socket");
        let conf = Arc::new(ServerConf { threads: threads.max(1), ..ServerConf::default() });
        let mut service = Service::new("pass-through".into(), pingora::proxy::http_proxy(&conf, PassThrough(upstream)));
        service.add_listener(ListenerConfig::tcp(&name));
        let mut sockets = Fds::new();
        sockets.add(name, listener.into_raw_fd());
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        service.start_service(Some(Arc::new(parking_lot::Mutex::new(sockets))), stopped, 1).await;
    });
}
