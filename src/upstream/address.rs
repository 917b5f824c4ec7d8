//! Names become addresses in the background, so that a request never waits for a name server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

/// Between two resolutions: well within the lives that providers give their records (60 s and more).
pub(super) const REFRESH: Duration = Duration::from_secs(30);
/// Between two attempts while some name has no address at all.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// For one lookup.
pub(super) const LOOKUP: Duration = Duration::from_secs(5);

/// The addresses of one upstream, taken in turn.
#[derive(Debug)]
pub(super) struct Addresses {
    /// None for an IP address, which needs no resolution.
    name: Option<(String, u16)>,
    known: RwLock<Arc<[SocketAddr]>>,
    turn: AtomicUsize,
    /// The last look-up failed.
    failing: AtomicBool,
}

impl Addresses {
    pub(super) fn of(host: &str, port: u16) -> Self {
        let (name, known) = match host.parse::<IpAddr>() {
            Ok(ip) => (None, vec![SocketAddr::new(ip, port)]),
            Err(_) => (Some((host.to_owned(), port)), Vec::new()),
        };
        Self { name, known: RwLock::new(known.into()), turn: AtomicUsize::new(0), failing: AtomicBool::new(false) }
    }

    pub(super) fn next(&self) -> Option<SocketAddr> {
        let known = self.known.read();
        match known.len() {
            0 | 1 => known.first().copied(),
            n => known.get(self.turn.fetch_add(1, Ordering::Relaxed) % n).copied(),
        }
    }

    /// Looks the name up once; keeps what it has when that fails.
    pub(super) async fn resolve(&self, upstream: &str) {
        let Some((host, port)) = &self.name else { return };
        let failure = match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host.as_str(), *port))).await {
            Ok(Ok(found)) => {
                let found: Vec<SocketAddr> = found.collect();
                if !found.is_empty() {
                    self.put(found);
                    if self.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!(upstream, "an upstream's name is resolved again");
                    }
                    return;
                }
                "the name has no address".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the name server did not answer in time".to_owned(),
        };
        // Once, not at every try: most installations use one or two of the providers that are configured.
        if self.failing.swap(true, Ordering::Relaxed) {
            return;
        }
        let kept = self.known.read().len();
        tracing::warn!(upstream, error = failure, addresses.kept = kept, "an upstream's name was not resolved");
    }

    fn put(&self, mut found: Vec<SocketAddr>) {
        found.sort_unstable();
        found.dedup();
        if **self.known.read() != *found {
            *self.known.write() = found.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_address_needs_no_resolution_and_a_name_has_none_before_it() {
        assert_eq!(Addresses::of("127.0.0.1", 80).next(), Some(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert_eq!(Addresses::of("::1", 80).next(), "[::1]:80".parse().ok());
        assert_eq!(Addresses::of("api.openai.com", 443).next(), None);
    }

    #[test]
    fn several_addresses_take_turns() {
        let addresses = Addresses::of("name", 1);
        let two: Vec<SocketAddr> = vec!["10.0.0.2:1".parse().unwrap(), "10.0.0.1:1".parse().unwrap()];
        addresses.put(two.clone());
        let taken: Vec<SocketAddr> = (0..4).filter_map(|_| addresses.next()).collect();
        assert_eq!(taken, [two[1], two[0], two[1], two[0]]);
    }

    #[tokio::test]
    async fn the_last_good_addresses_stay_when_a_name_cannot_be_resolved() {
        // RFC 6761: `.invalid` never resolves.
        let addresses = Addresses::of("sentinel.invalid", 1);
        addresses.put(vec!["10.0.0.1:1".parse().unwrap()]);
        addresses.resolve("test").await;
        assert_eq!(addresses.next(), "10.0.0.1:1".parse().ok());
    }

    #[tokio::test]
    async fn localhost_resolves() {
        let addresses = Addresses::of("localhost", 7);
        addresses.resolve("test").await;
        assert!(addresses.next().is_some_and(|address| address.ip().is_loopback() && address.port() == 7));
    }
}
