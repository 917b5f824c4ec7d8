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
