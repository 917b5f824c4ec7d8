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
    /// PEM file with further root certificates for this upstream's TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<std::path::PathBuf>,
    /// For the TCP connection; the TLS handshake may take as long again.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// Between two reads of an answer: how long a model may think.
    #[serde(default = "read_timeout")]
    pub read_timeout: HumanDuration,
    #[serde(default = "idle_timeout")]
    pub idle_timeout: HumanDuration,
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
    #[must_use]
    pub fn new(dialect: Dialect, url: impl Into<String>) -> Self {
        Self {
            dialect,
            url: url.into(),
            api_key: None,
            ca_file: None,
            connect_timeout: connect_timeout(),
            read_timeout: read_timeout(),
            idle_timeout: idle_timeout(),
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
