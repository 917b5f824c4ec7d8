//! Asks the addresses of an upstream how they are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Upstream;
use super::credential::{Question, question};
use crate::config::UpstreamConfig;

/// A single answer that is lost takes no address out.
const FAILURES: u32 = 2;

/// What is kept of an address between two questions.
struct Asked {
    question: Question,
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
                let patience = upstream.config.connect_timeout.get();
                match question(&upstream.config, Some(endpoint.address), patience).await {
                    Ok(question) => drop(place.insert(Asked { question, failures: 0 })),
                    Err(error) => tracing::warn!(upstream = &*upstream.name, error, "health cannot be asked for"),
                }
            }
        }
        // All at the same time: one that hangs does not delay what is learnt of the others.
        let answers = known.iter().map(async |endpoint| {
            let known = asked.get(&endpoint.address)?;
            Some((endpoint, is_well(&known.question, path).await))
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

async fn is_well(question: &Question, path: &str) -> bool {
    question.get("", path).send().await.is_ok_and(|answer| !answer.status().is_server_error())
}
