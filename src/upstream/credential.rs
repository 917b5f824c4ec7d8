//! How a credential travels, and whether a provider takes one.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Method, header};

use super::sigv4::AwsKey;
use super::{model, url};
use crate::config::{CredentialField, UpstreamConfig};
use crate::domain::{Dialect, Secret};

/// For the whole of one trial.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an upstream is presented, in the form that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A header field.
    Field(HeaderName, HeaderValue),
    /// The parameter `key` of the query.
    Parameter(Secret<String>),
    /// A signature of each request.
    Aws(Box<AwsKey>),
}

impl Credential {
    /// # Errors
    /// Why the text cannot be a credential of the upstream, without a word of it.
    pub fn of(upstream: &UpstreamConfig, text: &str) -> Result<Self, &'static str> {
        if upstream.dialect == Dialect::Bedrock && upstream.credential_field.is_none() && AwsKey::is_meant(text) {
            return AwsKey::of(upstream, text).map(|key| Self::Aws(Box::new(key)));
        }
        let (name, value) = match upstream.credential_field.unwrap_or_else(|| usual_field(upstream)) {
            CredentialField::Bearer => (header::AUTHORIZATION, format!("Bearer {text}")),
            CredentialField::XApiKey => (HeaderName::from_static("x-api-key"), text.to_owned()),
            CredentialField::ApiKey => (HeaderName::from_static("api-key"), text.to_owned()),
            CredentialField::XGoogApiKey => (HeaderName::from_static("x-goog-api-key"), text.to_owned()),
            CredentialField::KeyParameter => return Ok(Self::Parameter(text.to_owned().into())),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| "cannot stand in a header field")?;
        value.set_sensitive(true);
        Ok(Self::Field(name, value))
    }
}

fn usual_field(upstream: &UpstreamConfig) -> CredentialField {
    match upstream.dialect {
        Dialect::Openai if upstream.azure_api_version.is_some() => CredentialField::ApiKey,
        Dialect::Openai | Dialect::Ollama | Dialect::Bedrock => CredentialField::Bearer,
        Dialect::Anthropic => CredentialField::XApiKey,
        Dialect::Gemini => CredentialField::XGoogApiKey,
    }
}

/// What a provider says to a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The status of its answer.
    Answered(u16),
    Unreachable,
}

/// A question of Sentinel's own to an upstream, and who can ask it; to `address`, or wherever the name leads.
///
/// # Errors
/// What keeps it from being made: files that cannot be read, a name that leads nowhere.
pub(super) async fn question(
    upstream: &UpstreamConfig,
    address: Option<std::net::SocketAddr>,
    patience: Duration,
) -> Result<Question, String> {
    let url = url::parse(&upstream.url)?;
    let mut client = reqwest::Client::builder()
        .connect_timeout(upstream.connect_timeout.get())
        .timeout(patience)
        // What holds for requests of the gateway: nobody is followed, no proxy is asked.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    let read = async |key: &str, file: &std::path::Path| {
        tokio::fs::read(file).await.map_err(|error| format!("{key}: {error}"))
    };
    if let Some(file) = &upstream.ca_file {
        let roots = reqwest::Certificate::from_pem_bundle(&read("ca_file", file).await?);
        client = client.tls_certs_merge(roots.map_err(|error| format!("ca_file: {error}"))?);
    }
    if let (Some(certificate), Some(key)) = (&upstream.client_cert_file, &upstream.client_key_file) {
        let mut pem = read("client_cert_file", certificate).await?;
        pem.push(b'\n');
        pem.extend(read("client_key_file", key).await?);
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| format!("client_cert_file: {error}"))?;
        client = client.identity(identity);
    }
    // TLS verifies the host of the url, whatever the address and the field `Host` are.
    let name = upstream.sni.as_ref().unwrap_or(&url.host);
    let mut port = url.port;
    let mut host = name.clone();
    let address = match address {
        None if upstream.sni.is_some() => {
            let found = super::address::look_up(&url.host, url.port).await?;
            found.first().copied()
        }
        address => address,
    };
    if let Some(address) = address {
        port = address.port();
        if name.parse::<std::net::IpAddr>().is_ok() {
            host = address.ip().to_string();
        } else {
            client = client.resolve(name, address);
        }
    }
    if host.contains(':') {
        host = format!("[{host}]");
    }
    Ok(Question {
        client: client.build().map_err(|error| error.to_string())?,
        origin: format!("{}://{host}:{port}", if url.tls { "https" } else { "http" }),
        authority: url.authority(),
        prefix: url.prefix,
    })
}

/// Asks one upstream.
pub(super) struct Question {
    client: reqwest::Client,
    origin: String,
    authority: String,
    prefix: String,
}

impl Question {
    /// A GET of a path below `prefix`, which may have a query.
    pub(super) fn get(&self, prefix: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{prefix}{path}", self.origin)).header(header::HOST, &self.authority)
    }
}

/// Asks the provider for a list that costs nothing, and reads nothing but the answer's status.
///
/// # Errors
/// What keeps it from being asked: files that cannot be read.
pub async fn try_credential(
    upstream: &UpstreamConfig,
    credential: &Secret<String>,
    now: SystemTime,
) -> Result<Trial, String> {
    let path = match upstream.dialect {
        Dialect::Openai if upstream.azure_api_version.is_some() => "/openai/models",
        Dialect::Openai | Dialect::Anthropic => "/v1/models",
        Dialect::Gemini => "/v1beta/models?pageSize=1",
        Dialect::Bedrock => "/async-invoke?maxResults=1",
        Dialect::Ollama => "/api/tags",
    };
    let credential = Credential::of(upstream, credential.expose())?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = query_with(upstream, query, Some(&credential));
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let question = question(upstream, None, PATIENCE).await?;
    let mut request = question.get(&question.prefix, &target);
    match &credential {
        Credential::Field(name, value) => request = request.header(name, value),
        Credential::Parameter(_) => {}
        Credential::Aws(key) => {
            let host = HeaderValue::try_from(&question.authority).map_err(|error| error.to_string())?;
            let url = format!("{}{}{target}", question.origin, question.prefix);
            let covered = http::HeaderMap::from_iter([(header::HOST, host)]);
            for (name, value) in key.sign(&Method::GET, &url, &covered, b"", now)? {
                request = request.header(name, value);
            }
        }
    }
    if upstream.dialect == Dialect::Anthropic {
        request = request.header("anthropic-version", "2023-06-01");
    }
    let answer = request.send().await;
    Ok(answer.map_or(Trial::Unreachable, |answer| Trial::Answered(answer.status().as_u16())))
}

/// The query that an upstream is sent: what it needs is added.
pub(super) fn query_with<'q>(
    upstream: &UpstreamConfig,
    query: &'q str,
    credential: Option<&Credential>,
) -> Cow<'q, str> {
    let version = upstream.azure_api_version.as_deref();
    let names_version = || query.split('&').any(|pair| pair.starts_with("api-version="));
    let version = version.filter(|_| !names_version()).map(|version| format!("api-version={version}"));
    let key = match credential {
        Some(Credential::Parameter(key)) => Some(format!("key={}", model::encoded(key.expose()))),
        _ => None,
    };
    if version.is_none() && key.is_none() {
        return Cow::Borrowed(query);
    }
    let own = Some(query.to_owned()).filter(|query| !query.is_empty());
    Cow::Owned([own, version, key].into_iter().flatten().collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_has_a_place_for_a_credential() {
        let mut azure = UpstreamConfig::new(Dialect::Openai, "https://a");
        azure.azure_api_version = Some("2024-10-21".to_owned());
        let plain = |dialect| UpstreamConfig::new(dialect, "https://a");
        for (upstream, name, value) in [
            (plain(Dialect::Openai), "authorization", "Bearer k"),
            (plain(Dialect::Ollama), "authorization", "Bearer k"),
            (plain(Dialect::Bedrock), "authorization", "Bearer k"),
            (plain(Dialect::Anthropic), "x-api-key", "k"),
            (plain(Dialect::Gemini), "x-goog-api-key", "k"),
            (azure, "api-key", "k"),
        ] {
            let Ok(Credential::Field(field, text)) = Credential::of(&upstream, "k") else { panic!("{upstream:?}") };
            assert_eq!((field.as_str(), text.to_str().unwrap()), (name, value));
            assert!(text.is_sensitive());
        }
        assert!(Credential::of(&plain(Dialect::Openai), "a\nb").is_err());
        let mut gemini = plain(Dialect::Gemini);
        gemini.credential_field = Some(CredentialField::KeyParameter);
        let credential = Credential::of(&gemini, "a+b").unwrap();
        assert!(!format!("{credential:?}").contains("a+b"));
        assert_eq!(query_with(&gemini, "alt=sse", Some(&credential)), "alt=sse&key=a%2Bb");
    }

    #[test]
    fn azure_is_told_a_version_once() {
        let mut azure = UpstreamConfig::new(Dialect::Openai, "https://a");
        assert_eq!(query_with(&azure, "a=b", None), "a=b");
        azure.azure_api_version = Some("2024-10-21".to_owned());
        assert_eq!(query_with(&azure, "", None), "api-version=2024-10-21");
        assert_eq!(query_with(&azure, "a=b", None), "a=b&api-version=2024-10-21");
        assert_eq!(query_with(&azure, "api-version=1&a=b", None), "api-version=1&a=b");
    }
}
