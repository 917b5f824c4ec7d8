//! The header field that carries a credential, and whether a provider takes one.

use std::time::Duration;

use http::{HeaderName, HeaderValue, header};

use crate::config::UpstreamConfig;
use crate::domain::{Dialect, Secret};

/// For the whole of one trial.
const PATIENCE: Duration = Duration::from_secs(10);

/// The field in which a provider of `dialect` expects its credential. None when the text cannot stand in a field.
#[must_use]
pub fn credential_header(dialect: Dialect, key: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = match dialect {
        Dialect::Openai | Dialect::Ollama | Dialect::Bedrock => (header::AUTHORIZATION, format!("Bearer {key}")),
        Dialect::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
        Dialect::Gemini => (HeaderName::from_static("x-goog-api-key"), key.to_owned()),
    };
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// What a provider says to a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The status of its answer.
    Answered(u16),
    Unreachable,
}

/// For questions of Sentinel's own to an upstream.
///
/// # Errors
/// A `ca_file` that cannot be read.
pub(super) async fn client(upstream: &UpstreamConfig) -> Result<reqwest::ClientBuilder, String> {
    let client = reqwest::Client::builder()
        .connect_timeout(upstream.connect_timeout.get())
        // What holds for requests of the gateway: nobody is followed, no proxy is asked.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    let Some(file) = &upstream.ca_file else { return Ok(client) };
    let pem = tokio::fs::read(file).await.map_err(|error| format!("ca_file: {error}"))?;
    let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| format!("ca_file: {error}"))?;
    Ok(client.tls_certs_merge(roots))
}

/// Asks the provider for a list that costs nothing, and reads nothing but the answer's status.
///
/// # Errors
/// What keeps a client from being made: a `ca_file` that cannot be read.
pub async fn try_credential(upstream: &UpstreamConfig, credential: &Secret<String>) -> Result<Trial, String> {
    let path = match upstream.dialect {
        Dialect::Openai | Dialect::Anthropic => "/v1/models",
        Dialect::Gemini => "/v1beta/models?pageSize=1",
        Dialect::Bedrock => "/async-invoke?maxResults=1",
        Dialect::Ollama => "/api/tags",
    };
    let client = client(upstream).await?.timeout(PATIENCE).build().map_err(|error| error.to_string())?;
    let mut request = client.get(format!("{}{path}", upstream.url.trim_end_matches('/')));
    if let Some((name, value)) = credential_header(upstream.dialect, credential.expose()) {
        request = request.header(name, value);
    }
    if upstream.dialect == Dialect::Anthropic {
        request = request.header("anthropic-version", "2023-06-01");
    }
    let answer = request.send().await;
    Ok(answer.map_or(Trial::Unreachable, |answer| Trial::Answered(answer.status().as_u16())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_has_a_place_for_the_operators_credential() {
        for (dialect, name, value) in [
            (Dialect::Openai, "authorization", "Bearer k"),
            (Dialect::Ollama, "authorization", "Bearer k"),
            (Dialect::Bedrock, "authorization", "Bearer k"),
            (Dialect::Anthropic, "x-api-key", "k"),
            (Dialect::Gemini, "x-goog-api-key", "k"),
        ] {
            let (field, text) = credential_header(dialect, "k").unwrap();
            assert_eq!((field.as_str(), text.to_str().unwrap()), (name, value));
            assert!(text.is_sensitive());
        }
        assert!(credential_header(Dialect::Openai, "a\nb").is_none());
    }
}
