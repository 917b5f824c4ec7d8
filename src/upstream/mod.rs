//! Stage 7: where it goes. The route table (path → dialect and upstream) and the addresses of upstreams.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::domain::Dialect;

/// Where a path leads.
#[derive(Clone, Debug)]
pub struct Route {
    pub dialect: Dialect,
    pub upstream: Arc<Upstream>,
    /// The path to ask the upstream for (prefixes of Sentinel's stripped, the upstream's own prepended), without query.
    pub path: String,
    /// For metrics: the matched row of the table, not the path itself.
    pub label: &'static str,
}

/// One configured upstream.
#[derive(Debug)]
pub struct Upstream {
    pub name: String,
    pub dialect: Dialect,
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub config: crate::config::UpstreamConfig,
}

/// Why a request leads nowhere; `dialect` is the best guess for the shape of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// 404.
    UnknownPath { dialect: Dialect },
    /// 405.
    Method { dialect: Dialect, allow: &'static str },
}

/// The compiled routes and upstreams.
pub struct Upstreams {}

impl Upstreams {
    /// # Errors
    /// Every fault of `upstreams` and `routes`, with the path of its key.
    pub fn new(_config: &Config) -> Result<Arc<Self>, Vec<String>> {
        todo!()
    }

    /// `anthropic` says whether the request has an `anthropic-version` header.
    ///
    /// # Errors
    /// [`NoRoute`]: nothing is proxied blindly.
    pub fn route(&self, _method: &http::Method, _path: &str, _anthropic: bool) -> Result<Route, NoRoute> {
        todo!()
    }

    /// An address of the upstream from the last resolution; never waits, never panics.
    #[must_use]
    pub fn address(&self, _upstream: &Upstream) -> Option<SocketAddr> {
        todo!()
    }

    /// Resolves names now and then again, until `stop` turns true.
    pub async fn keep_resolved(self: Arc<Self>, _stop: tokio::sync::watch::Receiver<bool>) {
        todo!()
    }
}
