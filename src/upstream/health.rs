//! Asks the addresses of an upstream how they are.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Upstream, credential};
use crate::config::UpstreamConfig;

/// A single answer that is lost takes no address out.
const FAILURES: u32 = 2;

/// What is kept of an address between two questions.
struct Asked {
    client: reqwest::Client,
    /// In a row.
    failures: u32,
}

/// Asks until it is dropped; returns at once where nothing is to be asked.
pub(super) async fn keep(upstream: &Arc<Upstream>) {
    let Some(path) = &upstream.config.health_path else { return };
    let interval = upstream.config.health_interval.unwrap_or(UpstreamConfig::HEALTH_INTERVAL).get();
    let mut asked: HashMap<SocketAddr, Asked> = HashMap::new();
    loop {
        let known = upstream.addresses.known();
        asked.retain(|address, _| known.iter().any(|endpoint| endpoint.address == *address));
        for endpoint in known.iter() {
            if let std::collections::hash_map::Entry::Vacant(place) = asked.entry(endpoint.address) {
                match client(upstream, endpoint.address).await {
                    Ok(client) => drop(place.insert(Asked { client, failures: 0 })),
                    Err(error) => tracing::warn!(upstream = &*upstream.name, error, "health cannot be asked for"),
                }
            }
        }
        // All at the same time: one that hangs does not delay what is learnt of the others.
        let answers = known.iter().map(async |endpoint| {
            let known = asked.get(&endpoint.address)?;
            Some((endpoint, is_well(upstream, endpoint.address, path, &known.client).await))
        });
        for (endpoint, well) in futures_util::future::join_all(answers).await.into_iter().flatten() {
            let Some(asked) = asked.get_mut(&endpoint.address) else { continue };
            asked.failures = if well { 0 } else { asked.failures.saturating_add(1) };
            let news = (well || asked.failures >= FAILURES) && endpoint.checked(well);
            if news {
                tracing::warn!(upstream = &*upstream.name, address = %endpoint.address, healthy = well, "an address changed");
            }
        }
        tokio::time::sleep(interval).await;
    }
}

/// # Errors
/// What keeps it from being made.
async fn client(upstream: &Upstream, address: SocketAddr) -> Result<reqwest::Client, String> {
    let config = &upstream.config;
    let timeout = config.connect_timeout.get();
    let client = credential::client(config).await?.timeout(timeout).resolve(&upstream.host, address);
    client.build().map_err(|error| error.to_string())
}

async fn is_well(upstream: &Upstream, address: SocketAddr, path: &str, client: &reqwest::Client) -> bool {
    let scheme = if upstream.tls { "https" } else { "http" };
    // A name leads to the address by the client's own table; TLS goes on to verify the name.
    let url = if upstream.host.parse::<IpAddr>().is_ok() {
        format!("{scheme}://{address}{path}")
    } else {
        format!("{scheme}://{}:{}{path}", upstream.host, address.port())
    };
    let answer = client.get(url).header(http::header::HOST, &upstream.authority).send().await;
    answer.is_ok_and(|answer| !answer.status().is_server_error())
}
