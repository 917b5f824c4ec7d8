//! The listener and the threads behind it.
//!
//! Each thread has a runtime, a pingora service and a pool of upstream connections of its own, over one listening socket:
//! nothing is shared that could be contended, and no task moves between threads.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::{HttpProxy, ProcessCustomSession, ProxyServiceBuilder};
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ShutdownWatch};
use pingora::services::Service as _;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::joined::Joining;
use super::{Certificates, Gate, GatewayState};

/// Per connection, and kept while it is idle; pingora's 64 KiB would be most of what an idle connection costs.
const READ_BUFFER: usize = 8 << 10;
/// Windows of HTTP/2: the default of 64 KiB costs a round trip for each 64 KiB of prompt.
const H2_STREAM_WINDOW: u32 = 1 << 20;
const H2_CONNECTION_WINDOW: u32 = 4 << 20;
const H2_STREAMS: u32 = 100;
/// How long a connection is new: not closed before its first request, even when the gateway stops.
const FRESH: Duration = Duration::from_secs(1);
/// After the last request: HTTP/2 answers are handed to the connection's task, which still has to write them.
const FLUSH: Duration = Duration::from_millis(100);

/// A gateway that is listening.
pub struct Running {
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    end: watch::Sender<bool>,
    work: Arc<Work>,
    leaving: Arc<AtomicBool>,
    leave_for: Duration,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Every answer ends its connection for `gateway.drain_delay`; then no new connections, idle ones closed, requests in
    /// flight finished. False when `within` was over first.
    pub async fn drain(self, within: Duration) -> bool {
        // Who is told so opens the next connection elsewhere; who is merely cut off may just have sent a request.
        self.leaving.store(true, Ordering::Release);
        tokio::time::sleep(self.leave_for).await;
        self.stop.send_replace(true);
        let over = async {
            loop {
                self.work.over().await;
                // Also for connections that were accepted last and whose requests are only now seen.
                tokio::time::sleep(FLUSH).await;
                if self.busy() == 0 {
                    return;
                }
            }
        };
        let finished = tokio::time::timeout(within + FLUSH, over).await.is_ok();
        self.end.send_replace(true);
        let threads = self.threads;
        // Joining waits for the threads, so it must not happen on the caller's.
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok())).await;
        finished && joined.unwrap_or(false)
    }

    /// Requests under way and listeners that are open.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.work.count.load(Ordering::Acquire)
    }
}

/// Starts on threads of its own (`config.threads`). Called inside a runtime, it makes that the one that database connections
/// belong to.
///
/// # Errors
/// When the listener cannot be used, or an upstream's credential or certificates.
pub fn start(listener: TcpListener, state: GatewayState) -> std::io::Result<Running> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let count = match state.config.threads {
        0 => std::thread::available_parallelism()?.get(),
        threads => threads,
    };
    let gate = Gate::new(state, Handle::try_current().ok())
        .map_err(|faults| std::io::Error::new(std::io::ErrorKind::InvalidInput, faults.join("\n")))?;
    let leaving = Arc::clone(&gate.leaving);
    let leave_for = gate.state.config.drain_delay.get();
    let work = Arc::new(Work::default());
    let (stop, stopped) = watch::channel(false);
    let (end, ended) = watch::channel(false);
    let mut threads = Vec::with_capacity(count);
    for number in 0..count {
        let listener = listener.try_clone()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (gate, stopped, mut ended) = (gate.clone(), stopped.clone(), ended.clone());
        let open = Work::begin(&work);
        let body = move || {
            runtime.block_on(async move {
                let service = tokio::spawn(listen(listener, address, gate, stopped, open));
                // The sender lives as long as the gateway does; its loss is an end as well.
                let _ = ended.wait_for(|end| *end).await;
                service.abort();
            });
        };
        threads.push(std::thread::Builder::new().name(format!("gateway-{number}")).spawn(body)?);
    }
    Ok(Running { address, stop, end, work, leaving, leave_for, threads })
}

async fn listen(listener: TcpListener, address: SocketAddr, gate: Gate, stopped: ShutdownWatch, open: Begun) {
    let config = &gate.state.config;
    let conf = Arc::new(ServerConf {
        upstream_keepalive_pool_size: config.upstream_pool,
        threads: 1,
        ..ServerConf::default()
    });
    let (head_within, idle_within) = (config.head_timeout.get(), config.keepalive_timeout.get());
    let work = open.0.clone();
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(idle_within);
    let mut h2 = default_h2_options();
    h2.initial_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_concurrent_streams(H2_STREAMS);
    let tls = gate.state.certificates.is_some();
    let door = Arc::new(Door { idle_within, head_within, options, h2, tls, work });
    // Every connection is "custom": that is how pingora hands over one that nothing was read from yet.
    let mut entry = HttpServerOptions::default();
    entry.force_custom = true;
    let enter: ProcessCustomSession<Gate, Joining> = Arc::new(move |proxy, stream, stop| {
        let (door, stop) = (door.clone(), stop.clone());
        Box::pin(async move { door.enter(proxy, stream, &stop).await })
    });
    let joining = gate.joining.clone();
    let settings = match gate.state.certificates.as_ref().map(Certificates::settings).transpose() {
        Ok(settings) => settings,
        // Never in practice; plain TCP in its place would be worse than no listener.
        Err(error) => return tracing::error!(%error, "gateway.tls cannot be used"),
    };
    let mut service =
        ProxyServiceBuilder::new(&conf, gate).name("gateway").custom(joining, enter).server_options(entry).build();
    let name = address.to_string();
    let mut endpoint = ListenerConfig::tcp(&name).l4_buffer(L4BufferSettings { read: Some(READ_BUFFER), write: None });
    if let Some(settings) = settings {
        endpoint = endpoint.tls(settings);
    }
    service.add_listener(endpoint);
    // Pingora adopts a socket that it finds under the name of a listener, instead of binding one.
    let mut sockets = Fds::new();
    sockets.add(name, listener.into_raw_fd());
    service.start_service(Some(Arc::new(parking_lot::Mutex::new(sockets))), stopped, 1).await;
    drop(open);
}

/// What has to end before a drain is over.
#[derive(Default)]
struct Work {
    count: AtomicUsize,
    changed: Notify,
}

/// One piece of it, over when dropped.
struct Begun(Arc<Work>);

impl Work {
    fn begin(work: &Arc<Self>) -> Begun {
        work.count.fetch_add(1, Ordering::AcqRel);
        Begun(work.clone())
    }

    async fn over(&self) {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

tokio::task_local! {
    /// Set by the first hook of an HTTP/1 request.
    static HEAD_COMPLETE: Arc<AtomicBool>;
}

/// The head of this task's request has arrived.
pub(super) fn head_is_complete() {
    // HTTP/2 has no such flag: its heads arrive in frames that the connection bounds.
    let _ = HEAD_COMPLETE.try_with(|flag| flag.store(true, Ordering::Release));
}

/// Takes a new connection until its first bytes are there.
///
/// Pingora reads as many bytes as the preface of HTTP/2 has before it decides which HTTP it is, and sets no time for them:
/// a connection that sends less would be kept for ever.
struct Door {
    idle_within: Duration,
    head_within: Duration,
    options: HttpServerOptions,
    h2: H2Options,
    tls: bool,
    work: Arc<Work>,
}

/// `PRI * HTTP/2.0`, two blank lines, `SM`; no request of HTTP/1 is shorter.
const PREFACE: usize = 24;

impl Door {
    async fn enter(self: Arc<Self>, proxy: Arc<Proxy>, mut stream: Stream, stop: &ShutdownWatch) -> Option<Stream> {
        let mut preface = [0; PREFACE];
        let greeted = tokio::time::Instant::now() + FRESH;
        let mut stopped = stop.clone();
        let begun = Work::begin(&self.work);
        tokio::select! {
            // A request that is already here is still answered.
            biased;
            // What is read is put back for pingora to read again.
            peeked = tokio::time::timeout(self.idle_within, stream.try_peek(&mut preface)) => {
                if !matches!(peeked, Ok(Ok(_))) {
                    return None;
                }
            }
            // Whoever has just come is about to say something.
            () = async {
                let _ = stopped.wait_for(|stop| *stop).await;
                tokio::time::sleep_until(greeted).await;
            } => return None,
        }
        drop(begun);
        if !self.tls {
            let front = Front { proxy, door: self, request: None };
            return Arc::new(front).process_new(stream, stop).await;
        }
        // Nothing can be peeked at behind TLS: what is waited for is the first request.
        let (within, request) = (self.idle_within, Arc::new(AtomicBool::new(false)));
        let front = Arc::new(Front { proxy, door: self, request: Some(request.clone()) });
        let served = front.process_new(stream, stop);
        tokio::pin!(served);
        tokio::select! {
            biased;
            left = &mut served => return left,
            () = tokio::time::sleep(within) => {}
        }
        if request.load(Ordering::Acquire) { served.await } else { None }
    }
}

type Proxy = HttpProxy<Gate, Joining>;

/// Stands before the proxy on every request: counts them, and gives up on heads that do not come.
struct Front {
    proxy: Arc<Proxy>,
    door: Arc<Door>,
    /// Set by the connection's first request, where somebody waits for it.
    request: Option<Arc<AtomicBool>>,
}

#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        stop: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let _begun = Work::begin(&self.door.work);
        if let Some(request) = &self.request {
            request.store(true, Ordering::Release);
        }
        if session.is_http2() {
            return self.proxy.process_new_http(session, stop).await;
        }
        let complete = Arc::new(AtomicBool::new(false));
        let request = HEAD_COMPLETE.scope(complete.clone(), self.proxy.process_new_http(session, stop));
        tokio::pin!(request);
        tokio::select! {
            biased;
            reused = &mut request => return reused,
            () = tokio::time::sleep(self.door.head_within) => {}
        }
        // From here on the hooks have limits of their own.
        if complete.load(Ordering::Acquire) { request.await } else { None }
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.door.h2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.door.options)
    }
}
