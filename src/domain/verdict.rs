//! What a policy makes of findings.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::finding::{Category, Finding};

/// What is done with a message; ordered by strength: allow, flag, tokenize, redact, block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Allow,
    /// Let it pass, but say so in the audit row and in `x-sentinel-action`.
    Flag,
    /// Replace the found bytes, forward the rest.
    Redact,
    /// Refuse the message.
    Block,
    // Last, because the journal's records know an action by its place.
    /// Replace the found bytes by a token, forward the rest, and put them back where the answer repeats the token.
    Tokenize,
}

impl PartialOrd for Action {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Action {
    fn cmp(&self, other: &Self) -> Ordering {
        self.strength().cmp(&other.strength())
    }
}

impl Action {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Flag => "flag",
            Self::Redact => "redact",
            Self::Block => "block",
            Self::Tokenize => "tokenize",
        }
    }

    const fn strength(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Flag => 1,
            Self::Tokenize => 2,
            Self::Redact => 3,
            Self::Block => 4,
        }
    }
}

/// A finding with what the policy wants done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub finding: Finding,
    pub action: Action,
}

/// The decision about one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The strongest action of any finding.
    pub action: Action,
    /// A mark for human review, whatever the action.
    pub escalate: bool,
    /// 0 to 100.
    pub risk_score: u8,
    /// Every category with a finding that the policy did not allow; sorted, without repeats.
    pub categories: Vec<Category>,
    /// Personal data was found, whatever the action.
    pub pii_detected: bool,
    /// Injection, jailbreak or extraction was found above the policy's threshold.
    pub injection_detected: bool,
    pub findings: Vec<Judged>,
}

impl Verdict {
    /// Nothing found.
    #[must_use]
    pub const fn clean() -> Self {
        Self {
            action: Action::Allow,
            escalate: false,
            risk_score: 0,
            categories: Vec::new(),
            pii_detected: false,
            injection_detected: false,
            findings: Vec::new(),
        }
    }

    #[must_use]
    pub fn blocked(&self) -> bool {
        self.action == Action::Block
    }
}
