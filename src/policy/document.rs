use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{Action, Category, Role, Severity, Timestamp};

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
    /// The organization's own rules, by name: lower-case letters, digits and `_`, at most 64. What rule `atlas` finds is called
    /// `custom.atlas`, and that name can be used wherever rules are named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_rules: BTreeMap<String, CustomRule>,
    /// What is done about the organization's registered values (`sentinel data import`), by the name of the set: lower-case
    /// letters, digits and `_`. What set `customers` finds is called `data.customers`. A set that is not there finds nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exact_data: BTreeMap<String, DataRule>,
    /// Texts for which a rule is not to act.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_list: Vec<AllowEntry>,
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

impl PolicyDocument {
    /// Whether scans under both find the same, so that one scan is enough to judge by both.
    #[must_use]
    pub fn looks_for_the_same(&self, other: &Self) -> bool {
        self.custom_rules == other.custom_rules
            && self.exact_data == other.exact_data
            && self.allow_list == other.allow_list
    }
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

/// A rule of an organization's own, found in the text as it stands and in all its other readings (look-alike characters undone,
/// base64 decoded, …), in requests and in answers. Its `action` is as if it stood in the document's `rules`; presets have no say
/// in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CustomRule {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words as they are written, punctuation included; upper and lower case are the same, and they are not found inside of longer
    /// words. 2 characters to 200 bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Words that follow each other, whatever stands between them but letters and digits (up to 16 bytes).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phrases: Vec<String>,
    /// Regular expressions in the syntax of Rust's `regex` crate: linear time, without look-around and backreferences. At most
    /// 1,000 bytes each and 200 in a document. In an answer that streams, a match is waited for up to 1,024 bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regexes: Vec<String>,
    /// What kind of trouble it is; `custom` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// The type of thing found, which also names what a redaction leaves: capitals, digits and `_`, at most 64; the rule's name
    /// in capitals by default.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Z][A-Z0-9_]{0,63}$")]
    pub entity: Option<String>,
    /// `high` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How sure a match is, 0 to 1; it weighs in the risk score and is compared with thresholds. 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub confidence: Option<f64>,
    /// What is done about it; needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true, nullable = false)]
    pub action: Option<Action>,
}

/// What is done about registered values; see [`CustomRule`] for the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataRule {
    /// `custom` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// The type of thing found; the set's name in capitals by default.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Z][A-Z0-9_]{0,63}$")]
    pub entity: Option<String>,
    /// `high` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// 0 to 1; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub confidence: Option<f64>,
    /// What is done about it; needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true, nullable = false)]
    pub action: Option<Action>,
}

/// An entry of the allow list: what the rule has found and the entry covers is let pass, and stays in the audit row. It takes
/// nothing from what other rules find in the same place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AllowEntry {
    /// The rule (`pii.email_address`) or type (`EMAIL_ADDRESS`) that is lowered; a whole category cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true, nullable = false)]
    pub rule: Option<String>,
    /// What was found, in full. Either this or `pattern`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A regular expression that matches all of what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// From then on the entry covers nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Why it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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
