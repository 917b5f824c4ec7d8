use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{Action, Role};

/// A policy as it is written, in YAML or JSON. It says only what differs from the preset that it extends.
///
/// Settings are painted over each other, field by field, in this order: the preset's `rules`, the document's `rules`, the
/// preset's `roles`, the document's `roles`; for answers, `answers` in place of `roles`. Within one of these the more specific name wins: category, then type, then
/// rule. So `pii: {action: block}` blocks all personal data, whatever the preset says about single types, and a
/// `threshold` alone leaves every action as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyDocument {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The preset that holds where the document says nothing; `balanced` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extends: Option<Preset>,
    /// What is done about findings, by category (`prompt_injection`, `jailbreak`, `prompt_extraction`, `pii`, `secrets`),
    /// type (`CREDIT_CARD`) or rule (`secrets.github_token`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, RuleSetting>,
    /// The same for text of one role only: `system`, `user`, `assistant`, `tool` (results of tools), `tool_definition`,
    /// `other`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, BTreeMap<String, RuleSetting>>)]
    pub roles: BTreeMap<Role, BTreeMap<String, RuleSetting>>,
    /// The same for what the model answers, painted last: preset's, then document's. What nobody says here is as `rules` has
    /// it, but for `tokenize`: what the model itself says has no token, and is flagged. A policy that allows everything here does not look at answers at all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, RuleSetting>,
    /// What is never to be put back into an answer: categories, types, rules. A document that would `tokenize` any of it does not
    /// compile; credentials and attacks are always meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never_restore: Option<Vec<String>>,
    /// Which requests are marked for human review, whatever is done with them. Replaces the preset's as a whole: `{}`
    /// marks none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Escalation>,
    /// What to do with content that holds no readable text (images, archives).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<BinaryContent>,
    /// The same for answers: speech, images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_answers: Option<BinaryContent>,
    /// What to do when the inspection itself breaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail: Option<FailMode>,
    /// What clients are told of a blocked request, instead of the standard sentence; 1 to 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_message: Option<String>,
}

/// A built-in policy, `config/policies/*.yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Blocks attacks and secrets, redacts identifiers, flags addresses and numbers of people.
    Balanced,
    /// Blocks personal data as well, at lower thresholds.
    Strict,
    /// Flags everything, blocks and redacts nothing.
    Monitor,
}

impl Preset {
    pub const ALL: [Self; 3] = [Self::Balanced, Self::Strict, Self::Monitor];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Strict => "strict",
            Self::Monitor => "monitor",
        }
    }
}

/// What is done about one kind of finding; what is left out stays as the layer below has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleSetting {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Findings of a lower confidence are let pass; 0 to 1, in steps of 0.001.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub threshold: Option<f64>,
}

/// When a request is marked for human review: either condition is enough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Escalation {
    /// The risk score is at least this; 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub min_risk_score: Option<u8>,
    /// Something was found, above its threshold, that is named here: categories, types, rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<String>>,
}

/// What to do with content that holds no readable text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BinaryContent {
    Refuse,
    /// Let it pass unread; the audit row's coverage says so.
    Pass,
}

/// What to do when the inspection itself breaks. It says nothing about bodies that cannot be read (those are refused) or
/// about an audit journal that cannot be written (the configuration says that).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailMode {
    /// Refuse the request: 503 `guard_unavailable`.
    Closed,
    /// Let it pass uninspected; the audit row's coverage says so.
    Open,
}
