use serde::{Deserialize, Serialize};

use crate::domain::Secret;

/// Traces of requests, sent to an OpenTelemetry collector by OTLP over HTTP (protobuf).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// `http(s)://host:port[/prefix]`; `/v1/traces` is added. None: no trace is recorded.
    pub endpoint: Option<String>,
    /// Header fields for the collector: `name=value,name=value`.
    #[serde(serialize_with = "super::secrets::masked")]
    pub headers: Option<Secret<String>>,
    /// Of the traces that begin here, the part that is recorded, 0 to 1. For others their beginning has decided.
    pub sample_ratio: f64,
    pub service_name: String,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self { endpoint: None, headers: None, sample_ratio: 1.0, service_name: "sentinel".into() }
    }
}

impl OtlpConfig {
    /// What `headers` holds; parts without a `=` are left out.
    pub fn header_fields(&self) -> impl Iterator<Item = (String, String)> {
        let text = self.headers.as_ref().map_or("", |headers| headers.expose().as_str());
        text.split(',').filter_map(|field| {
            let (name, value) = field.split_once('=')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        })
    }
}
