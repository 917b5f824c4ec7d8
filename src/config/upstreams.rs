use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::HumanDuration;
use crate::domain::Dialect;

/// A server that requests are forwarded to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    pub dialect: Dialect,
    /// `https://host[:port][/prefix]` or `http://…`.
    pub url: String,
    /// The operator's own credential for this upstream, sent instead of whatever the client brought. Without one the
    /// client's own credential goes on.
    #[serde(default, serialize_with = "super::secrets::masked", skip_serializing_if = "Option::is_none")]
    pub api_key: Option<crate::domain::Secret<String>>,
    /// Where a credential travels; without it where servers of the dialect look for it ([`CredentialField`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_field: Option<CredentialField>,
    /// Makes the upstream an Azure OpenAI resource: `/v1/…` goes to its deployments, by the names of models, with this
    /// `api-version` where the client names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_api_version: Option<String>,
    /// The region that requests to Bedrock are signed for, where the host of `url` does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_region: Option<String>,
    /// PEM file with further root certificates for this upstream's TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<std::path::PathBuf>,
    /// PEM files with the certificate, followed by those that issued it, and the key that the upstream is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_file: Option<std::path::PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<std::path::PathBuf>,
    /// The name that TLS asks for and verifies, in place of the host of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// For the TCP connection; the TLS handshake may take as long again.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// Between two reads of an answer: how long a model may think.
    #[serde(default = "read_timeout")]
    pub read_timeout: HumanDuration,
    /// From the moment a request is sent to the end of its answer (no limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<HumanDuration>,
    #[serde(default = "idle_timeout")]
    pub idle_timeout: HumanDuration,
    /// `host:port` of each server that answers for `url`, in place of its host and port; `Host` and the name that TLS
    /// verifies stay those of `url`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// How one of several addresses is chosen.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Balance::is_default")]
    pub balance: Balance,
    /// Upstreams of the same dialect that take over, in this order, while this one has no address that works or no place.
    /// They are sent their own credential, never one that the client brought.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// Requests under way at the same time, per node; what is beyond goes to a fallback or is answered with 429 (no limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<std::num::NonZeroUsize>,
    /// Failures in a row after which an address is left out ([`Self::EJECT_AFTER`]): no connection, 502, 503 or 504. What a
    /// request may have provoked (500, an answer that breaks off or does not come) counts where the failure before it was
    /// another organization's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eject_after: Option<std::num::NonZeroU32>,
    /// For how long the first time; doubled each time after, up to 32 times ([`Self::EJECT_FOR`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eject_for: Option<HumanDuration>,
    /// A path that each address is asked for; what does not answer, or with a 5xx, is left out. Without one nothing is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    /// Between two of these questions ([`Self::HEALTH_INTERVAL`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_interval: Option<HumanDuration>,
}

/// Where a credential travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialField {
    /// `Authorization: Bearer`: OpenAI, Ollama, and Bedrock's API keys.
    Bearer,
    /// `X-API-Key`: Anthropic.
    XApiKey,
    /// `api-key`: Azure.
    ApiKey,
    /// `x-goog-api-key`: Gemini.
    XGoogApiKey,
    /// `?key=`: Gemini as well.
    KeyParameter,
}

/// How one of several addresses is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The one with the fewest requests under way.
    #[default]
    LeastLoaded,
    /// An API key stays with its address, whose prompt cache is warm, as long as that one works.
    ConsistentHash,
}

impl Balance {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `null` stands for the default.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

fn connect_timeout() -> HumanDuration {
    HumanDuration::secs(5)
}

fn read_timeout() -> HumanDuration {
    HumanDuration::secs(300)
}

fn idle_timeout() -> HumanDuration {
    HumanDuration::secs(60)
}

impl UpstreamConfig {
    pub const EJECT_AFTER: std::num::NonZeroU32 = std::num::NonZeroU32::new(5).unwrap();
    pub const EJECT_FOR: HumanDuration = HumanDuration::secs(10);
    pub const HEALTH_INTERVAL: HumanDuration = HumanDuration::secs(10);

    #[must_use]
    pub fn new(dialect: Dialect, url: impl Into<String>) -> Self {
        Self {
            dialect,
            url: url.into(),
            api_key: None,
            credential_field: None,
            azure_api_version: None,
            aws_region: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            sni: None,
            connect_timeout: connect_timeout(),
            read_timeout: read_timeout(),
            total_timeout: None,
            idle_timeout: idle_timeout(),
            addresses: Vec::new(),
            balance: Balance::default(),
            fallback: Vec::new(),
            max_concurrent: None,
            eject_after: None,
            eject_for: None,
            health_path: None,
            health_interval: None,
        }
    }
}

/// Sends a path to an upstream; `path` ends in `*` to match a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    pub path: String,
    pub upstream: String,
}

/// The public providers, and Ollama where it listens by default.
#[must_use]
pub fn default_upstreams() -> BTreeMap<String, UpstreamConfig> {
    [
        ("openai", Dialect::Openai, "https://api.openai.com"),
        ("anthropic", Dialect::Anthropic, "https://api.anthropic.com"),
        ("gemini", Dialect::Gemini, "https://generativelanguage.googleapis.com"),
        ("bedrock", Dialect::Bedrock, "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ("ollama", Dialect::Ollama, "http://127.0.0.1:11434"),
    ]
    .into_iter()
    .map(|(name, dialect, url)| (name.to_owned(), UpstreamConfig::new(dialect, url)))
    .collect()
}
