//! What a detector says it saw. What is done about it is the policy's business ([`super::Verdict`]).

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A family of detection rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    Pii,
    Secrets,
    Injection,
    /// Rules that an organization wrote itself.
    Custom,
}

/// What kind of trouble a finding is; the unit that policies speak about and that applications are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Instructions that try to override those of the application.
    PromptInjection,
    /// Attempts to talk the model out of its rules.
    Jailbreak,
    /// Attempts to make the model reveal its instructions.
    PromptExtraction,
    /// Personal data.
    Pii,
    /// Credentials.
    Secrets,
    /// What an organization's own rules are about, unless they say otherwise.
    Custom,
}

impl Category {
    pub const ALL: [Self; 6] =
        [Self::PromptInjection, Self::Jailbreak, Self::PromptExtraction, Self::Pii, Self::Secrets, Self::Custom];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PromptInjection => "prompt_injection",
            Self::Jailbreak => "jailbreak",
            Self::PromptExtraction => "prompt_extraction",
            Self::Pii => "pii",
            Self::Secrets => "secrets",
            Self::Custom => "custom",
        }
    }

    /// Injection, jailbreak and extraction: text that attacks the model.
    #[must_use]
    pub const fn is_attack(self) -> bool {
        matches!(self, Self::PromptInjection | Self::Jailbreak | Self::PromptExtraction)
    }
}

impl Category {
    /// Whether what is found may go on as a token that becomes the value again. A credential that the provider repeats
    /// would be handed to whoever reads the answer; an attack is no value.
    #[must_use]
    pub const fn is_restorable(self) -> bool {
        match self {
            Self::Pii | Self::Custom => true,
            Self::PromptInjection | Self::Jailbreak | Self::PromptExtraction | Self::Secrets => false,
        }
    }
}

/// How bad it would be if the finding is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// Towards the model, or back from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Input,
    Output,
}

/// Who speaks in a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageRole)]
pub enum Role {
    System,
    User,
    Assistant,
    /// The result of a tool: data from outside.
    Tool,
    /// Name, description or schema of a tool that the model may call.
    ToolDefinition,
    /// Anything else: metadata, parameters, unknown fields, object keys.
    Other,
}

/// A detection rule as findings refer to it; made once when the engine is compiled.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Dotted and stable, `detector.name`: `pii.email_address`, `secrets.github_token`, `injection.override_instructions`.
    pub id: Box<str>,
    pub detector: Detector,
    pub category: Category,
    /// The type of thing found; personal data as Presidio names it (`EMAIL_ADDRESS`).
    pub entity: Box<str>,
    pub severity: Severity,
}

/// One thing that a detector saw in one segment of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub rule: Arc<Rule>,
    /// 0 to 1.
    pub confidence: f32,
    /// Byte offsets into the UTF-8 text of the segment, on character boundaries.
    pub span: Range<usize>,
    /// Index of the segment in its document.
    pub segment: usize,
    /// The entry of the policy's allow list that it falls under.
    pub allowed_by: Option<u16>,
}

/// How a type of thing is called where one stood: `US_SSN`. Rule packs are written by people: what would need escaping in JSON
/// becomes `_`.
#[must_use]
pub fn label(entity: &str) -> String {
    entity.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
