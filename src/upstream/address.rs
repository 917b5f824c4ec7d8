//! The addresses of an upstream: which there are, and which of them takes the next request.
//!
//! Names become addresses in the background, so that a request never waits for a name server; what is known of an address
//! is held in atomics, so that requests never wait for each other.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::config::{Balance, UpstreamConfig};

/// Between two resolutions: well within the lives that providers give their records (60 s and more).
pub(super) const REFRESH: Duration = Duration::from_secs(30);
/// Between two attempts while some name has no address at all.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// For one lookup.
pub(super) const LOOKUP: Duration = Duration::from_secs(5);
/// An ejection lasts at most `eject_for` times two to this power.
const MAX_DOUBLINGS: u32 = 5;
/// No `Retry-After` keeps an address out for longer.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Milliseconds of a clock that only goes forward.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(START.elapsed())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One address of an upstream and how it fares.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// The configured name that it was found under, by its place.
    name: usize,
    /// Requests under way.
    load: AtomicU32,
    /// In a row.
    failures: AtomicU32,
    /// Whose request may have provoked the last failure; zero is nobody's.
    doubtful: AtomicU64,
    /// In a row, as far as no answer has come between.
    ejections: AtomicU32,
    /// In milliseconds of [`now`]; zero is never.
    out_until: AtomicU64,
    /// The last health checks failed.
    unhealthy: AtomicBool,
}

impl Endpoint {
    fn new(address: SocketAddr, name: usize) -> Arc<Self> {
        Arc::new(Self {
            address,
            name,
            load: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            doubtful: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
            unhealthy: AtomicBool::new(false),
        })
    }

    fn is_available(&self) -> bool {
        let out_until = self.out_until.load(Ordering::Relaxed);
        !self.unhealthy.load(Ordering::Relaxed) && (out_until == 0 || out_until <= now())
    }

    /// An answer that is no failure.
    pub fn succeeded(&self) {
        // Reads alone in the ordinary case: writes would move the line between cores.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.ejections.load(Ordering::Relaxed) != 0 {
            self.ejections.store(0, Ordering::Relaxed);
        }
        if self.doubtful.load(Ordering::Relaxed) != 0 {
            self.doubtful.store(0, Ordering::Relaxed);
        }
    }

    /// A failure that the request may have provoked: it counts where the one before it was another organization's, so that
    /// no organization takes an address from the others. `org` is never zero.
    pub fn failed_doubtfully(&self, config: &UpstreamConfig, org: u64) -> bool {
        let before = self.doubtful.swap(org, Ordering::Relaxed);
        before != 0 && before != org && self.failed(config)
    }

    /// No connection, 502, 503 or 504: nothing that a request provokes. True when the address is left out from now on.
    pub fn failed(&self, config: &UpstreamConfig) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        // Requests that were under way when it was left out do not prolong that.
        if failures < config.eject_after.unwrap_or(UpstreamConfig::EJECT_AFTER).get() || !self.is_available() {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        let doublings = self.ejections.fetch_add(1, Ordering::Relaxed).min(MAX_DOUBLINGS);
        let pause = config.eject_for.unwrap_or(UpstreamConfig::EJECT_FOR).get();
        self.leave_out(pause.saturating_mul(1 << doublings));
        true
    }

    /// The upstream said with `Retry-After` when it wants to be asked again.
    pub fn wait(&self, pause: Duration) {
        self.leave_out(pause.min(MAX_WAIT));
    }

    fn leave_out(&self, pause: Duration) {
        self.out_until.fetch_max(now().saturating_add(millis(pause)), Ordering::Relaxed);
    }

    /// What the health checks say. True when that is news.
    pub(super) fn checked(&self, healthy: bool) -> bool {
        self.unhealthy.swap(!healthy, Ordering::Relaxed) == healthy
    }
}

/// Counts a request at an address for as long as it lives.
#[derive(Debug)]
pub struct Lease(Arc<Endpoint>);

impl Lease {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl std::ops::Deref for Lease {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The addresses of one upstream.
#[derive(Debug)]
pub(super) struct Addresses {
    /// What was configured: names, and IP addresses, which need no resolution.
    names: Vec<(String, u16)>,
    known: RwLock<Arc<[Arc<Endpoint>]>>,
    turn: AtomicUsize,
    /// The last look-up failed.
    failing: AtomicBool,
}

impl Addresses {
    pub(super) fn of(names: Vec<(String, u16)>) -> Self {
        let literal = |(place, (host, port)): (usize, &(String, u16))| {
            Some(Endpoint::new(SocketAddr::new(host.parse::<IpAddr>().ok()?, *port), place))
        };
        let known: Vec<Arc<Endpoint>> = names.iter().enumerate().filter_map(literal).collect();
        Self { names, known: RwLock::new(known.into()), turn: AtomicUsize::new(0), failing: AtomicBool::new(false) }
    }

    pub(super) fn known(&self) -> Arc<[Arc<Endpoint>]> {
        Arc::clone(&self.known.read())
    }

    pub(super) fn count(&self) -> usize {
        self.known.read().len()
    }

    /// Whether an address is neither ejected nor told to wait nor found unhealthy.
    pub(super) fn is_available(&self) -> bool {
        self.known.read().iter().any(|endpoint| endpoint.is_available())
    }

    /// The address for the next request. With none that is available one that is not: it may have come back, and nothing is
    /// lost by asking. `avoid` has just failed; `key` is what [`Balance::ConsistentHash`] goes by.
    pub(super) fn choose(
        &self,
        balance: Balance,
        key: impl FnOnce() -> u64,
        avoid: Option<SocketAddr>,
    ) -> Option<Lease> {
        let known = self.known.read();
        if let [only] = &**known {
            return Some(Lease::of(only));
        }
        let others = |endpoint: &&Arc<Endpoint>| avoid != Some(endpoint.address);
        let best = match balance {
            Balance::LeastLoaded => {
                // Those that are equally loaded take turns.
                let (after, before) = known.split_at(self.turn.fetch_add(1, Ordering::Relaxed) % known.len().max(1));
                let in_turn = before.iter().chain(after);
                in_turn
                    .filter(|endpoint| endpoint.is_available())
                    .filter(others)
                    .min_by_key(|endpoint| endpoint.load.load(Ordering::Relaxed))
            }
            Balance::ConsistentHash => {
                let key = key();
                // Rendezvous: only the keys of an address that goes move elsewhere.
                let weight = |endpoint: &&Arc<Endpoint>| {
                    let mut hasher = DefaultHasher::new();
                    (key, endpoint.address).hash(&mut hasher);
                    hasher.finish()
                };
                known.iter().filter(|endpoint| endpoint.is_available()).filter(others).max_by_key(weight)
            }
        };
        let last_resort = || {
            known
                .iter()
                .min_by_key(|endpoint| (avoid == Some(endpoint.address), endpoint.out_until.load(Ordering::Relaxed)))
        };
        best.or_else(last_resort).map(Lease::of)
    }

    /// Looks the names up once; what it has of a name stays when that fails.
    pub(super) async fn resolve(&self, upstream: &str) {
        if self.names.iter().all(|(host, _)| host.parse::<IpAddr>().is_ok()) {
            return;
        }
        let mut found: Vec<(SocketAddr, usize)> = Vec::new();
        let mut failure = None;
        for (place, (host, port)) in self.names.iter().enumerate() {
            match look_up(host, *port).await {
                Ok(addresses) => found.extend(addresses.into_iter().map(|address| (address, place))),
                Err(error) => {
                    let kept = self.known();
                    found.extend(kept.iter().filter(|kept| kept.name == place).map(|kept| (kept.address, place)));
                    failure = Some(error);
                }
            }
        }
        self.put(found);
        match failure {
            None if self.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!(upstream, "an upstream's name is resolved again");
            }
            // Once, not at every try: most installations use one or two of the providers that are configured.
            Some(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(upstream, error, addresses.kept = self.count(), "an upstream's name was not resolved");
            }
            _ => {}
        }
    }

    /// What is known of an address that stays is kept.
    fn put(&self, mut found: Vec<(SocketAddr, usize)>) {
        found.sort_unstable();
        found.dedup_by_key(|(address, _)| *address);
        let known = self.known();
        if known.iter().map(|endpoint| endpoint.address).eq(found.iter().map(|(address, _)| *address)) {
            return;
        }
        let endpoint = |(address, name): (SocketAddr, usize)| {
            let before = known.iter().find(|endpoint| endpoint.address == address);
            before.map_or_else(|| Endpoint::new(address, name), Arc::clone)
        };
        *self.known.write() = found.into_iter().map(endpoint).collect();
    }
}

/// # Errors
/// Why the name has no address that may be used.
pub(super) async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.filter(|address| !is_link_local(address.ip())).collect();
            if found.is_empty() { Err("the name has no address that may be used".to_owned()) } else { Ok(found) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the name server did not answer in time".to_owned()),
    }
}

/// Where clouds answer with the machine's own credentials. Such an address is used only where the operator wrote it down as
/// one: no name leads there.
fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified(),
        // `fd00:ec2::/32` is how AWS numbers its metadata service on IPv6.
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local() || ip.is_unspecified() || ip.segments().starts_with(&[0xfd00, 0x0ec2])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::domain::Dialect;

    fn one(host: &str, port: u16) -> Addresses {
        Addresses::of(vec![(host.to_owned(), port)])
    }

    fn several(addresses: &[&str]) -> Addresses {
        Addresses::of(
            addresses
                .iter()
                .map(|address| address.parse::<SocketAddr>().unwrap())
                .map(|address| (address.ip().to_string(), address.port()))
                .collect(),
        )
    }

    fn next(addresses: &Addresses) -> Option<SocketAddr> {
        addresses.choose(Balance::LeastLoaded, || 0, None).map(|lease| lease.address)
    }

    fn config() -> UpstreamConfig {
        let mut config = UpstreamConfig::new(Dialect::Openai, "http://a");
        config.eject_after = NonZeroU32::new(2);
        config
    }

    #[test]
    fn an_ip_address_needs_no_resolution_and_a_name_has_none_before_it() {
        assert_eq!(next(&one("127.0.0.1", 80)), Some(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert_eq!(next(&one("::1", 80)), "[::1]:80".parse().ok());
        assert_eq!(next(&one("api.openai.com", 443)), None);
    }

    #[test]
    fn the_address_with_the_fewest_requests_is_chosen_and_equals_take_turns() {
        let addresses = several(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let leases: Vec<Lease> = (0..6).filter_map(|_| addresses.choose(Balance::LeastLoaded, || 0, None)).collect();
        let mut taken: Vec<SocketAddr> = leases.iter().map(|lease| lease.address).collect();
        taken.sort_unstable();
        assert!(taken.chunks(2).all(|pair| pair[0] == pair[1]), "two each: {taken:?}");
        let (kept, gone): (Vec<Lease>, Vec<Lease>) = leases.into_iter().partition(|lease| lease.address != taken[0]);
        drop(gone);
        assert_eq!((next(&addresses), kept.len()), (Some(taken[0]), 4));
    }

    #[test]
    fn a_key_stays_with_its_address_until_that_one_is_out() {
        let addresses = several(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let of = |key: u64| addresses.choose(Balance::ConsistentHash, || key, None).unwrap().address;
        let before: Vec<SocketAddr> = (0..60).map(of).collect();
        assert_eq!(before, (0..60).map(of).collect::<Vec<_>>());
        let gone = before[0];
        addresses.known().iter().find(|endpoint| endpoint.address == gone).unwrap().wait(Duration::from_secs(60));
        for (key, address) in before.iter().enumerate() {
            let after = of(key as u64);
            assert!(if *address == gone { after != gone } else { after == *address }, "only its keys move");
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_the_last_address_is_used_all_the_same() {
        let (addresses, config) = (several(&["10.0.0.1:1", "10.0.0.2:1"]), config());
        let known = addresses.known();
        assert!(!known[0].failed(&config));
        known[0].succeeded();
        assert!(!known[0].failed(&config), "not in a row");
        assert!(known[0].failed(&config));
        assert!(!known[0].failed(&config) && !known[0].failed(&config), "it is out already");
        assert!((0..4).all(|_| next(&addresses) == Some(known[1].address)));
        assert!(addresses.is_available());
        known[1].wait(Duration::from_secs(600));
        assert!(!addresses.is_available());
        assert_eq!(next(&addresses), Some(known[0].address), "the one that is back first");
        let spared = addresses.choose(Balance::LeastLoaded, || 0, Some(known[0].address)).unwrap();
        assert_eq!(spared.address, known[1].address);
    }

    #[test]
    fn one_organization_alone_takes_no_address_out() {
        let (addresses, config) = (several(&["10.0.0.1:1", "10.0.0.2:1"]), config());
        let known = addresses.known();
        assert!((0..50).all(|_| !known[0].failed_doubtfully(&config, 7)));
        assert!(!known[0].failed_doubtfully(&config, 8), "the first that counts of two");
        assert!(known[0].failed_doubtfully(&config, 7));
        assert!(!known[1].failed_doubtfully(&config, 7) && !known[1].failed_doubtfully(&config, 8));
        known[1].succeeded();
        assert!(!known[1].failed_doubtfully(&config, 7) && !known[1].failed_doubtfully(&config, 8), "not in a row");
    }

    #[test]
    fn an_ejection_ends_by_itself_and_the_next_takes_twice_as_long() {
        let (addresses, mut config) = (several(&["10.0.0.1:1"]), config());
        config.eject_after = NonZeroU32::new(1);
        config.eject_for = Some("1ms".parse().unwrap());
        let known = addresses.known();
        assert!(known[0].failed(&config));
        while !known[0].is_available() {
            std::hint::spin_loop();
        }
        config.eject_for = Some("1h".parse().unwrap());
        let before = now();
        assert!(known[0].failed(&config));
        let hours = (known[0].out_until.load(Ordering::Relaxed) - before) / 3_600_000;
        assert_eq!(hours, 2);
    }

    #[test]
    fn what_is_known_of_an_address_outlives_a_resolution() {
        let addresses = one("name", 1);
        let (a, b): (SocketAddr, SocketAddr) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        addresses.put(vec![(a, 0)]);
        addresses.known()[0].wait(Duration::from_secs(60));
        addresses.put(vec![(b, 0), (a, 0)]);
        assert_eq!(addresses.count(), 2);
        assert!((0..4).all(|_| next(&addresses) == Some(b)));
    }

    #[tokio::test]
    async fn the_last_good_addresses_stay_when_a_name_cannot_be_resolved() {
        // RFC 6761: `.invalid` never resolves.
        let addresses = one("sentinel.invalid", 1);
        addresses.put(vec![("10.0.0.1:1".parse().unwrap(), 0)]);
        addresses.resolve("test").await;
        assert_eq!(next(&addresses), "10.0.0.1:1".parse().ok());
    }

    #[tokio::test]
    async fn localhost_resolves() {
        let addresses = one("localhost", 7);
        addresses.resolve("test").await;
        assert!(next(&addresses).is_some_and(|address| address.ip().is_loopback() && address.port() == 7));
    }

    #[test]
    fn no_name_leads_to_where_clouds_keep_credentials() {
        for ip in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "::"] {
            assert!(is_link_local(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "2600::1"] {
            assert!(!is_link_local(ip.parse().unwrap()), "{ip}");
        }
        let explicit = one("169.254.169.254", 80);
        assert!(next(&explicit).is_some(), "the operator wrote it down");
    }
}
