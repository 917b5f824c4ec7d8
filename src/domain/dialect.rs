use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// The API shape that a client speaks: how its requests, answers and errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI and every server compatible with it.
    Openai,
    Anthropic,
    Gemini,
    Bedrock,
    Ollama,
}

impl Dialect {
    /// [`as_str`](Self::as_str) without a copy.
    #[must_use]
    pub fn shared(self) -> Arc<str> {
        use Dialect::{Anthropic, Bedrock, Gemini, Ollama, Openai};
        static NAMES: LazyLock<[Arc<str>; 5]> =
            LazyLock::new(|| [Openai, Anthropic, Gemini, Bedrock, Ollama].map(|dialect| dialect.as_str().into()));
        let [openai, anthropic, gemini, bedrock, ollama] = &*NAMES;
        Arc::clone(match self {
            Self::Openai => openai,
            Self::Anthropic => anthropic,
            Self::Gemini => gemini,
            Self::Bedrock => bedrock,
            Self::Ollama => ollama,
        })
    }

    /// The name used in configuration, metrics and audit rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Ollama => "ollama",
        }
    }
}
