//! Stage 7: where it goes. The route table (path → dialect and upstream) and the addresses of upstreams.

mod address;
mod credential;
mod health;
mod model;
mod path;
mod sigv4;
mod table;
mod url;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Config;
use crate::domain::Dialect;

pub use address::{Endpoint, Lease};
pub use credential::{Credential, Trial, try_credential};
pub use model::PathModel;
pub use path::is_strict;
pub use sigv4::AwsKey;

use address::Addresses;
use table::Row;

/// Where a path leads.
#[derive(Clone, Debug)]
pub struct Route {
    pub dialect: Dialect,
    pub upstream: Arc<Upstream>,
    /// The path as clients of the dialect write it (prefixes of Sentinel's stripped), without query.
    pub path: String,
    /// For metrics: the matched row of the table, not the path itself.
    pub label: &'static str,
}

/// One configured upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Its place among [`Upstreams::all`].
    pub index: usize,
    pub name: Arc<str>,
    pub dialect: Dialect,
    pub tls: bool,
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
    /// What a `Host` header says: the port only where it is not the scheme's own, an IPv6 address in brackets.
    pub authority: String,
    /// The path of the configured url, without a slash at its end.
    pub prefix: String,
    pub config: crate::config::UpstreamConfig,
    addresses: Addresses,
    /// Requests under way, on this node.
    under_way: AtomicUsize,
}

/// A request's place at an upstream, for as long as it lives.
#[derive(Debug)]
pub struct Place(Arc<Upstream>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// None when `max_concurrent` requests are under way.
    #[must_use]
    pub fn admit(self: &Arc<Self>) -> Option<Place> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        // Made first, so that it takes back what was counted.
        let place = Place(Arc::clone(self));
        self.config.max_concurrent.is_none_or(|most| before < most.get()).then_some(place)
    }

    /// The path that it is sent for a [`Route::path`]. None where Azure's path needs a model and the request names none.
    #[must_use]
    pub fn path_for(&self, path: &str, model: Option<&str>) -> Option<String> {
        let azure = self.config.azure_api_version.as_ref().and_then(|_| path.strip_prefix("/v1/"));
        let Some(rest) = azure else { return Some([&self.prefix, path].concat()) };
        // What a deployment answers; everything else is the resource's.
        let of_deployment = ["chat/completions", "completions", "embeddings", "images/", "audio/"];
        if of_deployment.iter().any(|start| rest.starts_with(start)) {
            return Some([&self.prefix, "/openai/deployments/", &model::encoded(model?), "/", rest].concat());
        }
        Some([&self.prefix, "/openai/", rest].concat())
    }

    /// The query that it is sent: what it needs is added.
    #[must_use]
    pub fn query_for<'q>(&self, query: &'q str, credential: Option<&Credential>) -> Cow<'q, str> {
        credential::query_with(&self.config, query, credential)
    }

    /// The name that TLS asks for and verifies.
    #[must_use]
    pub fn sni(&self) -> &str {
        self.config.sni.as_deref().unwrap_or(&self.host)
    }

    /// Whether it has an address that is neither ejected nor told to wait nor found unhealthy.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.addresses.is_available()
    }

    /// How many addresses it has, as last resolved.
    #[must_use]
    pub fn address_count(&self) -> usize {
        self.addresses.count()
    }

    /// The address for a request, from the last resolution; never waits. `key` is what consistent hashing goes by; `avoid`
    /// has just failed. None while no name has been resolved.
    pub fn choose(&self, key: impl FnOnce() -> u64, avoid: Option<SocketAddr>) -> Option<Lease> {
        self.addresses.choose(self.config.balance, key, avoid)
    }
}

/// Why a request leads nowhere; `dialect` is the best guess for the shape of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// 404.
    UnknownPath { dialect: Dialect },
    /// 405.
    Method { dialect: Dialect, allow: &'static str },
}

/// A route of the operator's.
#[derive(Debug)]
struct Configured {
    path: String,
    /// `path` ended in `*`.
    prefix: bool,
    upstream: Arc<Upstream>,
}

/// First segments that no upstream may be named after: the built-in table and Sentinel's own paths use them.
const RESERVED: [&str; 8] = ["v1", "v1beta", "model", "api", "process", "health", "metrics", "w"];
/// Methods of routes whose paths Sentinel knows nothing about.
const ANY_METHOD: &str = "GET, POST, PUT, PATCH, DELETE";
const CONFIGURED_LABEL: &str = "configured";
const NAMED_LABEL: &str = "/{upstream}/*";

/// The compiled routes and upstreams.
#[derive(Debug)]
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    configured: Vec<Configured>,
    /// Rows of the built-in table whose upstream is configured.
    table: Vec<(&'static Row, Arc<Upstream>)>,
}

impl Upstreams {
    /// # Errors
    /// Every fault of `upstreams` and `routes`, with the path of its key.
    pub fn new(config: &Config) -> Result<Arc<Self>, Vec<String>> {
        let mut faults = Vec::new();
        let mut all: Vec<Arc<Upstream>> = Vec::with_capacity(config.upstreams.len());
        for (name, upstream) in &config.upstreams {
            if RESERVED.contains(&name.as_str()) {
                faults.push(format!("upstreams.{name}: the name is reserved for the gateway's own paths"));
            } else if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                faults.push(format!("upstreams.{name}: a name is made of letters, digits, `-` and `_`"));
            }
            for (key, file) in [
                ("ca_file", &upstream.ca_file),
                ("client_cert_file", &upstream.client_cert_file),
                ("client_key_file", &upstream.client_key_file),
            ] {
                if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
                    faults.push(format!("upstreams.{name}.{key}: {} is not a file", file.display()));
                }
            }
            if let Some(Err(fault)) = upstream.api_key.as_ref().map(|key| Credential::of(upstream, key.expose())) {
                faults.push(format!("upstreams.{name}.api_key: {fault}"));
            }
            let mut names = Vec::with_capacity(upstream.addresses.len());
            for (place, address) in upstream.addresses.iter().enumerate() {
                match url::host_and_port(address) {
                    Ok((host, Some(port))) => names.push((host, port)),
                    Ok((_, None)) => faults.push(format!("upstreams.{name}.addresses[{place}]: needs a port")),
                    Err(fault) => faults.push(format!("upstreams.{name}.addresses[{place}]: {fault}")),
                }
            }
            for (place, fallback) in upstream.fallback.iter().enumerate() {
                let fault = match config.upstreams.get(fallback) {
                    _ if fallback == name => "is the upstream itself",
                    None => "there is no such upstream",
                    Some(other) if other.dialect != upstream.dialect => "speaks another dialect",
                    Some(_) => continue,
                };
                faults.push(format!("upstreams.{name}.fallback[{place}]: {fault}"));
            }
            if upstream.health_path.as_ref().is_some_and(|path| !is_strict(path.as_bytes())) {
                faults.push(format!("upstreams.{name}.health_path: is not a plain path"));
            }
            match url::parse(&upstream.url) {
                Ok(url) => all.push(Arc::new(Upstream {
                    index: all.len(),
                    name: name.as_str().into(),
                    dialect: upstream.dialect,
                    tls: url.tls,
                    addresses: Addresses::of(if names.is_empty() { vec![(url.host.clone(), url.port)] } else { names }),
                    under_way: AtomicUsize::new(0),
                    authority: url.authority(),
                    host: url.host,
                    port: url.port,
                    prefix: url.prefix,
                    config: upstream.clone(),
                })),
                Err(fault) => faults.push(format!("upstreams.{name}.url: {fault}")),
            }
        }
        let by_name = |name: &str| all.iter().find(|upstream| *upstream.name == *name).cloned();

        let mut configured = Vec::with_capacity(config.routes.len());
        for (index, route) in config.routes.iter().enumerate() {
            let (path, prefix) = route.path.strip_suffix('*').map_or((route.path.as_str(), false), |path| (path, true));
            let whole = if prefix { format!("{path}x") } else { path.to_owned() };
            if !is_strict(whole.as_bytes()) {
                faults.push(format!(
                    "routes[{index}].path: `{}` is not a plain path, with `*` at most at its end",
                    route.path
                ));
            } else if matches!(path, "/process" | "/health") {
                faults.push(format!("routes[{index}].path: `{path}` is answered by the gateway itself"));
            }
            match by_name(&route.upstream) {
                Some(upstream) => configured.push(Configured { path: path.to_owned(), prefix, upstream }),
                None if config.upstreams.contains_key(&route.upstream) => {}
                None => faults.push(format!("routes[{index}].upstream: there is no upstream `{}`", route.upstream)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let table = table::ROWS.iter().filter_map(|row| Some((row, by_name(row.upstream)?))).collect();
        Ok(Arc::new(Self { all, configured, table }))
    }

    /// Every upstream, in the order of [`Upstream::index`].
    #[must_use]
    pub fn all(&self) -> &[Arc<Upstream>] {
        &self.all
    }

    /// `anthropic` says whether the request has an `anthropic-version` header.
    ///
    /// # Errors
    /// [`NoRoute`]: nothing is proxied blindly.
    pub fn route(&self, method: &http::Method, path: &str, anthropic: bool) -> Result<Route, NoRoute> {
        if !is_strict(path.as_bytes()) {
            return Err(NoRoute::UnknownPath { dialect: guess(path, anthropic) });
        }
        let checked = |allow: &'static str, upstream: &Arc<Upstream>, rest: &str, label: &'static str| {
            if !allow.split(", ").any(|allowed| allowed == method.as_str()) {
                return Err(NoRoute::Method { dialect: upstream.dialect, allow });
            }
            Ok(Route { dialect: upstream.dialect, upstream: upstream.clone(), path: rest.to_owned(), label })
        };
        for route in &self.configured {
            if if route.prefix { path.starts_with(&route.path) } else { path == route.path } {
                return checked(ANY_METHOD, &route.upstream, path, CONFIGURED_LABEL);
            }
        }
        for (row, upstream) in &self.table {
            if row.matches(path, anthropic) {
                return checked(row.allow, upstream, path, row.pattern);
            }
        }
        // `is_strict` has seen to it that there is a leading slash.
        let named = path.get(1..).and_then(|path| path.find('/').map(|slash| path.split_at(slash)));
        if let Some((upstream, rest)) =
            named.and_then(|(name, rest)| Some((self.all.iter().find(|upstream| *upstream.name == *name)?, rest)))
            // What is said over a WebSocket cannot be inspected yet.
            && !rest.starts_with("/v1/realtime")
        {
            return checked(ANY_METHOD, upstream, rest, NAMED_LABEL);
        }
        Err(NoRoute::UnknownPath { dialect: guess(path, anthropic) })
    }

    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.all.iter().find(|upstream| *upstream.name == *name)
    }

    /// Resolves every name once, all at the same time; returns within [`address::LOOKUP`]. Meant to be awaited before
    /// listening, so that the first requests find addresses.
    pub async fn resolve(&self) {
        futures_util::future::join_all(self.all.iter().map(|upstream| upstream.addresses.resolve(&upstream.name)))
            .await;
    }

    /// Asks the addresses of every upstream with a `health_path` how they are, until `stop` turns true.
    pub async fn keep_checked(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let checks = futures_util::future::join_all(self.all.iter().map(health::keep));
        // Where nothing is to be checked there is only the stop to wait for.
        let checks = async {
            checks.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = checks => {}
            // An error means that the sender is gone, which ends this as well.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Resolves names now and then again, until `stop` turns true. The last good addresses stay while a name cannot be
    /// resolved; one that never could be is tried more often.
    pub async fn keep_resolved(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        loop {
            self.resolve().await;
            let complete = self.all.iter().all(|upstream| upstream.address_count() > 0);
            let pause = if complete { address::REFRESH } else { address::RETRY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                stopped = stop.wait_for(|stop| *stop) => {
                    // An error means that the sender is gone, which ends this as well.
                    let _ = stopped;
                    return;
                }
            }
        }
    }
}

/// The dialect in whose shape an unknown path is answered.
fn guess(path: &str, anthropic: bool) -> Dialect {
    if anthropic || path.starts_with("/v1/messages") || path.starts_with("/anthropic/") {
        Dialect::Anthropic
    } else if path.starts_with("/v1beta/") || path.starts_with("/gemini/") {
        Dialect::Gemini
    } else if path.starts_with("/model/") || path.starts_with("/bedrock/") {
        Dialect::Bedrock
    } else if path.starts_with("/api/") || path.starts_with("/ollama/") {
        Dialect::Ollama
    } else {
        Dialect::Openai
    }
}

#[cfg(test)]
mod tests;
