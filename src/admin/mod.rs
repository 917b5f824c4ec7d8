//! The REST API: one file per resource, thin handlers. The only user of axum.

use std::sync::Arc;

use crate::authn::KeyCache;
use crate::config::Config;
use crate::detect::Engine;
use crate::domain::SharedClock;
use crate::health::Health;
use crate::limits::RateLimiter;
use crate::process::Processor;
use crate::store::Store;
use crate::telemetry::Metrics;

/// What handlers need.
#[derive(Clone)]
pub struct AdminState {
    pub config: Arc<Config>,
    pub store: Store,
    pub keys: Arc<KeyCache>,
    pub engine: Arc<Engine>,
    pub limiter: Arc<RateLimiter>,
    pub processor: Processor,
    pub health: Health,
    pub metrics: Arc<Metrics>,
    pub clock: SharedClock,
}

/// The whole admin face.
pub fn router(_state: AdminState) -> axum::Router {
    todo!()
}

/// The OpenAPI 3.1 document, as committed in `admin/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    todo!()
}

/// Serves until `stop` turns true, then finishes what is under way.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    _listener: std::net::TcpListener,
    _state: AdminState,
    _stop: tokio::sync::watch::Receiver<bool>,
) -> std::io::Result<()> {
    todo!()
}
