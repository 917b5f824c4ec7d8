use serde::{Deserialize, Serialize};

use super::Dialect;

/// What a workspace sets for itself; missing means the default. The gateway enforces it from the next request on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceConfig {
    /// Tell applications which categories and which policy refused a request (false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reveal: Option<bool>,
    /// The API shapes that its applications may speak (all).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 10)]
    pub allowed_dialects: Option<Vec<Dialect>>,
    /// The upstreams, by their configured names, that its applications may reach (all).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100, example = json!(["openai"]))]
    pub allowed_upstreams: Option<Vec<String>>,
    /// The largest request body in bytes; never more than the gateway's own `max_request_body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, example = 1_048_576)]
    pub max_request_body_bytes: Option<u64>,
    /// What upstreams are presented (`stored`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_credentials: Option<CredentialSource>,
}

/// Whose credential goes to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialSource {
    /// The workspace's own where one is stored, else the operator's where one is configured, else the client's.
    Stored,
    /// The client's, always.
    PassThrough,
}

impl WorkspaceConfig {
    #[must_use]
    pub fn reveals(&self) -> bool {
        self.reveal.unwrap_or(false)
    }

    #[must_use]
    pub fn passes_credentials_through(&self) -> bool {
        self.provider_credentials == Some(CredentialSource::PassThrough)
    }

    /// Whether its applications may call an upstream, and in that dialect.
    #[must_use]
    pub fn allows(&self, upstream: &str, dialect: Dialect) -> bool {
        self.allowed_upstreams.as_ref().is_none_or(|names| names.iter().any(|name| name == upstream))
            && self.allowed_dialects.as_ref().is_none_or(|dialects| dialects.contains(&dialect))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_allowed_and_an_empty_list_allows_nothing() {
        let mut config = WorkspaceConfig::default();
        assert!(config.allows("openai", Dialect::Openai));
        config.allowed_upstreams = Some(vec!["anthropic".to_owned()]);
        assert!(!config.allows("openai", Dialect::Openai) && config.allows("anthropic", Dialect::Anthropic));
        config.allowed_dialects = Some(Vec::new());
        assert!(!config.allows("anthropic", Dialect::Anthropic));
    }
}
