//! The pingora adapter: walks a request through the stages, one file per group of hooks, no rule of its own.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::audit::Journal;
use crate::authn::KeyCache;
use crate::config::GatewayConfig;
use crate::detect::Engine;
use crate::domain::SharedClock;
use crate::health::Health;
use crate::limits::RateLimiter;
use crate::policy::PolicyCache;
use crate::process::Processor;
use crate::telemetry::Metrics;
use crate::upstream::Upstreams;

/// Everything that a request needs on its way.
#[derive(Clone)]
pub struct GatewayState {
    pub config: GatewayConfig,
    pub keys: Arc<KeyCache>,
    pub policies: Arc<PolicyCache>,
    pub engine: Arc<Engine>,
    pub limiter: Arc<RateLimiter>,
    pub upstreams: Arc<Upstreams>,
    pub journal: Journal,
    pub processor: Processor,
    pub health: Health,
    pub metrics: Arc<Metrics>,
    pub clock: SharedClock,
}

/// A gateway that is listening.
pub struct Running {
    pub address: SocketAddr,
}

impl Running {
    /// No new connections, idle ones closed, requests in flight finished; false when `within` was over first.
    pub async fn drain(self, _within: Duration) -> bool {
        todo!()
    }
}

/// Starts on threads of its own (`config.threads`).
///
/// # Errors
/// When the listener cannot be used.
pub fn start(_listener: TcpListener, _state: GatewayState) -> std::io::Result<Running> {
    todo!()
}
