use serde::{Deserialize, Serialize};

use super::{ByteSize, HumanDuration, TlsConfig};
use crate::domain::{ForwardedHeader, Network};

/// The face that applications talk to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    pub listen: String,
    pub tls: TlsConfig,
    /// Proxies whose word is taken for the address of their client: networks, or single addresses.
    pub trusted_proxies: Vec<Network>,
    /// Where they say it.
    pub forwarded_header: ForwardedHeader,
    /// Worker threads; 0 means one per core.
    pub threads: usize,
    /// How much of a request body is read before it is refused with 413. One body is held in memory per request in flight.
    pub max_request_body: ByteSize,
    /// How large a compressed body may become; beyond it 413.
    pub max_decoded_body: ByteSize,
    /// How many times its own size a compressed body may become.
    pub max_decode_ratio: u32,
    /// Nesting of arrays and objects in a JSON body; beyond it 400.
    pub max_json_depth: u32,
    /// Where the policy looks at answers: how much of one that is not streamed is held until it was looked at, and of one
    /// event of a stream. Beyond it the policy's `fail` decides.
    pub max_answer: ByteSize,
    /// Header fields of one request; beyond it 431.
    pub max_headers: usize,
    /// Bytes of one request's head; beyond it 431.
    pub max_head: ByteSize,
    /// Bytes of the request target; beyond it 414.
    pub max_target: ByteSize,
    /// For the complete head of a request, the wait for it on a fresh connection included.
    pub head_timeout: HumanDuration,
    /// For the complete body of a request.
    pub body_timeout: HumanDuration,
    /// How long an idle connection is kept.
    pub keepalive_timeout: HumanDuration,
    /// How long a client may take to read a piece of an answer.
    pub write_timeout: HumanDuration,
    /// After SIGTERM: how long everybody is still served, each answer being the last of its connection.
    pub drain_delay: HumanDuration,
    /// After that: how long requests in flight may take to finish.
    pub drain_timeout: HumanDuration,
    /// Idle connections to upstreams, per worker thread.
    pub upstream_pool: usize,
    /// The status of a policy's refusal: 400, or 403. SDKs resend on anything from 500 up and on 408, 409 and 429.
    pub block_status: u16,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".into(),
            tls: TlsConfig::default(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            threads: 0,
            max_request_body: ByteSize::mib(16),
            max_decoded_body: ByteSize::mib(64),
            max_decode_ratio: 200,
            max_json_depth: 64,
            max_answer: ByteSize::mib(32),
            max_headers: 100,
            max_head: ByteSize::kib(32),
            max_target: ByteSize::kib(8),
            head_timeout: HumanDuration::secs(70),
            body_timeout: HumanDuration::secs(60),
            keepalive_timeout: HumanDuration::secs(60),
            write_timeout: HumanDuration::secs(60),
            drain_delay: HumanDuration::secs(1),
            drain_timeout: HumanDuration::secs(30),
            upstream_pool: 512,
            block_status: 400,
        }
    }
}
