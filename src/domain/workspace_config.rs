use std::borrow::Cow;
use std::collections::BTreeMap;

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
    /// The models that its applications may use (all); `*` stands for any run of characters, `?` for one, case does not
    /// matter. With this or `denied_models` a request must name its model where it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100, example = json!(["gpt-4o*", "claude-*"]))]
    pub allowed_models: Option<Vec<String>>,
    /// Models that they may not use, written alike; this list wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100, example = json!(["*-preview"]))]
    pub denied_models: Option<Vec<String>>,
    /// Models by the names that applications ask for; what a name stands for is sent, and is what the lists are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!({"fast": "gpt-4o-mini"}))]
    pub model_aliases: Option<BTreeMap<String, String>>,
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

    /// Whether it says anything about models.
    #[must_use]
    pub const fn rules_models(&self) -> bool {
        self.limits_models() || self.model_aliases.is_some()
    }

    /// Whether it leaves out any model.
    #[must_use]
    pub const fn limits_models(&self) -> bool {
        self.allowed_models.is_some() || self.denied_models.is_some()
    }

    /// The model that is sent for one that is asked for. Gemini's `models/` stays before the name.
    #[must_use]
    pub fn model_for<'m>(&self, asked: &'m str) -> Cow<'m, str> {
        let name = bare(asked);
        match self.model_aliases.as_ref().and_then(|aliases| aliases.get(name)) {
            Some(other) => Cow::Owned([asked.strip_suffix(name).unwrap_or_default(), other].concat()),
            None => Cow::Borrowed(asked),
        }
    }

    /// Whether a model, as [`model_for`](Self::model_for) has it, may be used.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        let name = bare(model);
        let listed = |globs: &Vec<String>| globs.iter().any(|glob| is_match(glob.as_bytes(), name.as_bytes()));
        self.allowed_models.as_ref().is_none_or(listed) && !self.denied_models.as_ref().is_some_and(listed)
    }
}

/// Whether a text can be the name of a model: those of providers, also as paths and resource names, have no spaces, and what
/// has is a text in the wrong place.
#[must_use]
pub fn is_model_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/@+".contains(&b);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(plain)
}

/// Gemini's resource names are those of its models with this before them.
fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

/// Whether `text` is what `glob` stands for. Linear but for the last `*` of the glob, which is tried at each place.
fn is_match(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Where the last `*` stands, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (glob.get(at), text.get(seen)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((at, seen));
                at += 1;
            }
            (Some(b'?'), Some(_)) => (at, seen) = (at + 1, seen + 1),
            (Some(wanted), Some(byte)) if wanted.eq_ignore_ascii_case(byte) => (at, seen) = (at + 1, seen + 1),
            _ => match star {
                Some((place, taken)) if taken < text.len() => {
                    star = Some((place, taken + 1));
                    (at, seen) = (place + 1, taken + 1);
                }
                _ => return false,
            },
        }
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

    #[test]
    fn the_name_of_a_model_is_told_from_a_text_in_its_place() {
        for name in ["gpt-4o-mini", "anthropic.claude-3:0", "meta-llama/Llama-3.1-8B", "models/gemini-pro@001"] {
            assert!(is_model_name(name), "{name}");
        }
        for text in ["my card is 4111", "jane.doe@example.com, please", "é", ""] {
            assert!(!is_model_name(text), "{text}");
        }
    }

    #[test]
    fn globs_match_whole_names_in_any_case() {
        for (glob, text, expected) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "GPT-4O", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-4o*", "gpt-4o-mini", true),
            ("*mini", "gpt-4o-mini-mini", true),
            ("*claude*v?:*", "eu.anthropic.claude-3-v1:0", true),
            ("*claude*v?:*", "eu.anthropic.claude-3:0", false),
            ("**a*b", "aaab", true),
            ("?", "", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "abcbd", false),
        ] {
            assert_eq!(is_match(glob.as_bytes(), text.as_bytes()), expected, "{glob} {text}");
        }
    }

    #[test]
    fn the_lists_are_about_what_is_sent_and_denying_wins() {
        let list = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let mut config = WorkspaceConfig::default();
        assert!(config.allows_model("anything") && !config.rules_models());
        config.model_aliases = Some(BTreeMap::from([("fast".to_owned(), "gpt-4o-mini".to_owned())]));
        assert!(config.rules_models() && !config.limits_models());
        assert_eq!(config.model_for("fast"), "gpt-4o-mini");
        assert_eq!(config.model_for("models/fast"), "models/gpt-4o-mini");
        assert_eq!(config.model_for("gpt-4o-mini"), "gpt-4o-mini", "no alias of an alias");
        config.allowed_models = list(&["gpt-4o*"]);
        config.denied_models = list(&["*-realtime"]);
        assert!(config.allows_model(&config.model_for("fast")) && !config.allows_model("fast"));
        assert!(config.allows_model("models/gpt-4o") && !config.allows_model("gpt-4o-realtime"));
        config.allowed_models = list(&[]);
        assert!(!config.allows_model("gpt-4o"));
    }
}
