use serde::{Deserialize, Serialize};

use super::{ByteSize, HumanDuration};
use crate::domain::{ForwardedHeader, Network};

/// Who may create an organization by `POST /auth/register`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    #[default]
    Open,
    /// Only `sentinel bootstrap` creates organizations.
    Closed,
}

/// The face that people and Prometheus talk to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    pub listen: String,
    /// Proxies whose word is taken for the address of their client: networks, or single addresses.
    pub trusted_proxies: Vec<Network>,
    /// Where they say it.
    pub forwarded_header: ForwardedHeader,
    /// Address in links and in the OpenAPI document.
    pub public_url: String,
    pub registration: Registration,
    /// Worker threads.
    pub threads: usize,
    pub max_request_body: ByteSize,
    pub request_timeout: HumanDuration,
    /// Requests a minute from one IPv4 address or IPv6 /64; 0: no limit.
    pub address_rate_limit: u32,
    /// Requests a minute of one session; 0: no limit.
    pub session_rate_limit: u32,
    /// Live streams of events that are open at a time: on this node, and of one organization on it.
    pub event_streams: usize,
    pub event_streams_per_org: usize,
    /// Origins whose pages may call the API from a browser: `https://console.acme.com`. Empty: none.
    pub cors_origins: Vec<String>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8000".into(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            public_url: "http://localhost:8000".into(),
            registration: Registration::Open,
            threads: 4,
            max_request_body: ByteSize::mib(1),
            request_timeout: HumanDuration::secs(30),
            address_rate_limit: 6000,
            session_rate_limit: 1200,
            event_streams: 1000,
            event_streams_per_org: 50,
            cors_origins: Vec::new(),
        }
    }
}
