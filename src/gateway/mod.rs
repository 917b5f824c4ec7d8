//! The pingora adapter: walks a request through the stages, one file per group of hooks, no rule of its own.

mod admission;
mod anchor;
mod answer;
mod answering;
mod audit;
mod body;
mod certificates;
mod choose;
mod context;
mod forward;
mod framing;
mod hooks;
mod inspect;
mod joined;
mod models;
mod observe;
mod problem;
mod process;
mod query;
mod replay;
mod screen;
mod serve;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use pingora::proxy::Session;
use pingora::server::configuration::ServerConf;
use prometheus::Histogram;
use tokio::runtime::Handle;

use crate::audit::Journal;
use crate::authn::{KeyCache, ProviderCredentialCache};
use crate::config::GatewayConfig;
use crate::detect::Engine;
use crate::domain::SharedClock;
use crate::enforce::{AnswerLimits, Vault};
use crate::health::Health;
use crate::limits::{MonthlyUsage, RateLimiter};
use crate::policy::{CompiledPolicy, PolicyCache};
use crate::process::Processor;
use crate::protocol::ReadLimits;
use crate::telemetry::{AccessLog, Metrics, Traces};
use crate::upstream::{NoRoute, Upstreams};

pub use certificates::Certificates;
pub use serve::{Running, start};

use body::Unread;
use context::Context;
use forward::Destination;
use framing::{Head, HeadLimits};
use problem::Problem;

/// Everything that a request needs on its way.
#[derive(Clone)]
pub struct GatewayState {
    pub config: GatewayConfig,
    pub keys: Arc<KeyCache>,
    pub credentials: Arc<ProviderCredentialCache>,
    pub vault: Arc<Vault>,
    pub policies: Arc<PolicyCache>,
    pub engine: Arc<Engine>,
    pub limiter: Arc<RateLimiter>,
    pub usage: Arc<MonthlyUsage>,
    pub upstreams: Arc<Upstreams>,
    pub journal: Journal,
    pub processor: Processor,
    pub health: Health,
    pub metrics: Arc<Metrics>,
    pub access_log: Option<Arc<AccessLog>>,
    pub traces: Option<Arc<Traces>>,
    /// None: the listener speaks plain TCP.
    pub certificates: Option<Arc<Certificates>>,
    pub clock: SharedClock,
}

/// The state with what is made of it once; one per thread.
#[derive(Clone)]
struct Gate {
    state: GatewayState,
    /// In the order of [`Upstreams::all`].
    destinations: Arc<[Destination]>,
    head_limits: HeadLimits,
    read_limits: ReadLimits,
    scan_total: Histogram,
    answer_limits: AnswerLimits,
    answer_total: Histogram,
    /// Shared by the threads: what it holds is the roots of TLS.
    joining: joined::Joining,
    /// `POST`, for audit events.
    post: Arc<str>,
    /// Where database connections live.
    main: Option<Handle>,
    /// Set when this node is about to end: every answer is the last of its connection.
    leaving: Arc<AtomicBool>,
}

/// Why a request goes no further.
enum Stop {
    /// `trusted`: the connection's framing can be relied on.
    Refused { problem: Problem, trusted: bool },
    /// There is nobody to answer.
    Broken(Box<pingora::Error>),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Refused { problem, trusted: true }
    }
}

impl From<Box<pingora::Error>> for Stop {
    fn from(error: Box<pingora::Error>) -> Self {
        Self::Broken(error)
    }
}

impl Gate {
    /// # Errors
    /// Faults of upstreams that only show when they are put to use.
    fn new(state: GatewayState, main: Option<Handle>) -> Result<Self, Vec<String>> {
        let config = &state.config;
        let mut destinations = Vec::with_capacity(state.upstreams.all().len());
        let mut faults = Vec::new();
        for upstream in state.upstreams.all() {
            match Destination::of(upstream, &state.metrics) {
                Ok(destination) => destinations.push(destination),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let read_limits = ReadLimits {
            max_decoded: config.max_decoded_body.as_usize(),
            max_ratio: config.max_decode_ratio,
            max_depth: config.max_json_depth,
        };
        Ok(Self {
            destinations: destinations.into(),
            head_limits: HeadLimits {
                headers: config.max_headers,
                bytes: config.max_head.as_usize(),
                target: config.max_target.as_usize(),
            },
            read_limits,
            answer_limits: AnswerLimits { read: read_limits, max_frame: config.max_answer.as_usize() },
            answer_total: state.metrics.scan_duration.with_label_values(&["output", "total"]),
            scan_total: state.metrics.scan_duration.with_label_values(&["input", "total"]),
            joining: joined::Joining::new(&ServerConf::default()),
            post: "POST".into(),
            main,
            leaving: Arc::default(),
            state,
        })
    }

    /// The way of a request up to the upstream. True when it was answered on the way.
    ///
    /// # Errors
    /// [`Stop`].
    async fn walk(&self, session: &mut Session, context: &mut Context) -> Result<bool, Stop> {
        self.check_head(session)?;
        let head = session.req_header();
        // Both parts are plain ASCII by now.
        let (path, query) = framing::split_target(head.raw_path());
        let path = std::str::from_utf8(path).unwrap_or_default();
        match path {
            // In boxes, like every branch that few requests take: a future is as large as its largest branch, and is copied.
            "/health" => return Box::pin(self.health(session, context)).await.map(|()| true),
            "/process" => return Box::pin(self.process(session, context)).await.map(|()| true),
            _ => {}
        }
        let anthropic = head.headers.contains_key("anthropic-version");
        let route = match self.state.upstreams.route(&head.method, path, anthropic) {
            Ok(route) => route,
            Err(NoRoute::UnknownPath { dialect }) => {
                context.dialect = dialect;
                return Err(Problem::unknown_path().into());
            }
            Err(NoRoute::Method { dialect, allow }) => {
                context.dialect = dialect;
                return Err(Problem::method(allow).into());
            }
        };
        context.dialect = route.dialect;
        context.label = route.label;
        let upstream = route.upstream.clone();
        context.route = Some(route);
        self.admit(&head.headers, context).await?;
        let allowed =
            context.caller.as_deref().is_some_and(|caller| caller.config.allows(&upstream.name, upstream.dialect));
        if !allowed {
            return Err(Problem::upstream_not_allowed().into());
        }
        context.credential = self.credential(context, &upstream).await?;
        let query = query::read(query, upstream.dialect, context.credential.is_some())?;
        let body = self.read_body(session, context).await?;
        let forward = self.inspect(&session.req_header().headers, context, body, &query.text).await?;
        context.forwarding.body = forward.clone();
        context.forwarding.query = query.forward;
        context.settle_model()?;
        // Before it is recorded, so that a request without a place costs one record, not two.
        self.take_place(context).await?;
        self.begin(session, context).await?;
        let now = std::time::Instant::now();
        context.forwarded_at = Some(now);
        let total = context.route.as_ref().and_then(|route| route.upstream.config.total_timeout);
        let deadline = total.and_then(|total| now.checked_add(total.get()));
        // An upstream that compresses although it was not asked to is undone before the answer is looked at.
        session.upstream_compression.adjust_decompression(true);
        let looks = context.policy.as_deref().is_some_and(CompiledPolicy::looks_at_answers);
        if looks || context.restorer.is_some() {
            context.screened.valve = Some(Arc::default());
        }
        let (valve, leaving) = (context.screened.valve.clone(), Arc::clone(&self.leaving));
        replay::install(session, &mut context.home, forward, deadline, valve, leaving);
        Ok(false)
    }

    fn check_head(&self, session: &Session) -> Result<(), Stop> {
        let head = session.req_header();
        let raw = session.as_http1().map(pingora::protocols::http::v1::server::HttpSession::get_headers_raw_bytes);
        let read = Head {
            version: head.version,
            method: &head.method,
            target: head.raw_path(),
            authority: head.uri.authority().map(http::uri::Authority::as_str),
            headers: &head.headers,
            raw: raw.as_deref(),
        };
        framing::check(&read, &self.head_limits).map_err(|fault| Stop::Refused {
            problem: Problem::new(fault.status, fault.code, fault.message),
            trusted: false,
        })
    }

    async fn read_body(&self, session: &mut Session, context: &mut Context) -> Result<Bytes, Stop> {
        let config = &self.state.config;
        let started = std::time::Instant::now();
        let own = context.caller.as_deref().and_then(|caller| caller.config.max_request_body_bytes);
        let most = own.unwrap_or(u64::MAX).min(config.max_request_body.as_u64());
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        let read = body::read_whole(session, limit, config.body_timeout.get()).await;
        context.body_wait = started.elapsed();
        context.received = read.as_ref().map_or(0, Bytes::len);
        read.map_err(|unread| match unread {
            Unread::TooLarge => Problem::too_large(most).into(),
            Unread::TooSlow => Stop::Refused { problem: Problem::too_slow(), trusted: false },
            Unread::Broken(error) => Stop::Broken(error),
        })
    }
}
