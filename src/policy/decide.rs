use std::sync::Arc;

use super::PolicyLabel;
use super::compile::{KnownRules, ROLES};
use crate::detect::{CustomRules, Engine, ExactData, Waiting};
use crate::domain::{
    Action, AuditFinding, Category, Clock as _, Detector, Direction, Finding, Judged, Role, Rule, Severity,
    SystemClock, Timestamp, Verdict,
};
use crate::protocol::BinaryRule;

/// What a further category adds to the risk score.
const FURTHER_CATEGORY: f32 = 5.0;

/// A policy ready to run: one table of settings per group of roles, about a KiB for 200 rules.
#[derive(Debug)]
pub struct CompiledPolicy {
    pub(super) label: PolicyLabel,
    pub(super) shown: Box<str>,
    pub(super) known: Arc<KnownRules>,
    /// The document's own, sorted by id; their slots come after those of `known`.
    pub(super) own: Box<[Arc<Rule>]>,
    pub(super) custom: Option<CustomRules>,
    /// When each entry of the allow list ends.
    pub(super) allowed_until: Box<[Option<Timestamp>]>,
    /// By the slot of a rule.
    pub(super) tables: Box<[Box<[Setting]>]>,
    /// Index of the table that holds for each of `ROLES`.
    pub(super) table_of_role: [u8; ROLES.len()],
    /// By the slot of a rule; None when nothing is done about anything in answers.
    pub(super) answers: Option<Box<[Setting]>>,
    /// What tokens are called, by the types of what the policy tokenizes anywhere; None where it does not.
    pub(super) tokens: Option<Arc<[Box<str>]>>,
    pub(super) waiting: Waiting,
    pub(super) attacks_in_answers: bool,
    pub(super) escalate_at: Option<u8>,
    pub(super) binary: BinaryRule,
    pub(super) binary_answers: BinaryRule,
    pub(super) fails_open: bool,
    pub(super) block_message: Option<Box<str>>,
}

/// What a policy says about one finding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ruling {
    pub threshold: f32,
    /// From the threshold on.
    pub action: Action,
    /// `severity × confidence`, 0 where the policy allows the rule.
    pub risk: f32,
    /// The allow list covers it: nothing is done.
    pub allowed: bool,
}

/// What is done about findings of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Thousandths.
    pub(super) threshold: u16,
    pub(super) action: Action,
    pub(super) escalate: bool,
}

impl Setting {
    /// Of a policy that does not look.
    const ALLOWED: Self = Self { threshold: 0, action: Action::Allow, escalate: false };

    /// Of what the allow list covers; no confidence reaches it.
    const LOWERED: Self = Self { threshold: u16::MAX, ..Self::ALLOWED };

    fn is_reached(self, confidence: f32) -> bool {
        confidence >= f32::from(self.threshold) / 1000.0
    }
}

impl CompiledPolicy {
    #[must_use]
    pub const fn label(&self) -> &PolicyLabel {
        &self.label
    }

    /// The label in visible ASCII, for header fields.
    #[must_use]
    pub const fn shown(&self) -> &str {
        &self.shown
    }

    /// What to do with content that holds no readable text.
    #[must_use]
    pub const fn binary(&self) -> BinaryRule {
        self.binary
    }

    /// The same for answers.
    #[must_use]
    pub const fn binary_answers(&self) -> BinaryRule {
        self.binary_answers
    }

    /// Whether a request goes on uninspected when the inspection itself breaks (a defect of a detector), instead of being
    /// refused with 503 `guard_unavailable`.
    #[must_use]
    pub const fn fails_open(&self) -> bool {
        self.fails_open
    }

    /// What clients are told of a blocked request, if it is not the standard sentence.
    #[must_use]
    pub fn block_message(&self) -> Option<&str> {
        self.block_message.as_deref()
    }

    /// Judges findings; `role_of` tells the role of a finding's segment. Costs nothing without findings, and one hash
    /// look-up for each.
    ///
    /// The risk score is the highest `severity × confidence` of any finding whose rule is not allowed altogether, below
    /// its threshold or not (low counts 30, medium 55, high 80, critical 100), and 5 for every further category that was
    /// not let pass; at most 100. So it grades what the action only cuts in two.
    #[must_use]
    pub fn decide(&self, findings: Vec<Finding>, role_of: impl Fn(usize) -> Role) -> Verdict {
        self.judge(findings, |finding| self.setting(finding, role_of(finding.segment)))
    }

    /// What reversible tokens are called (`EMAIL_ADDRESS`); None when the policy tokenizes nothing.
    #[must_use]
    pub const fn tokens(&self) -> Option<&Arc<[Box<str>]>> {
        self.tokens.as_ref()
    }

    /// Whether the policy wants to know what is in answers.
    #[must_use]
    pub const fn looks_at_answers(&self) -> bool {
        self.answers.is_some()
    }

    /// Whether an attack in an answer changes anything; attacks are judged by the sentence.
    #[must_use]
    pub const fn asks_about_attacks_in_answers(&self) -> bool {
        self.attacks_in_answers
    }

    /// The organization's own rules, to be looked for besides those of the engine.
    #[must_use]
    pub const fn custom(&self) -> Option<&CustomRules> {
        self.custom.as_ref()
    }

    /// The sets of exact data that it looks for; they find nothing before they are loaded.
    pub fn exact_data(&self) -> impl Iterator<Item = &Arc<ExactData>> {
        self.custom.iter().flat_map(CustomRules::data)
    }

    /// How many bytes of a part of an answer are settled ([`Engine::settled`]), the organization's own rules included.
    #[must_use]
    pub fn settled(&self, engine: &Engine, text: &str, from: usize) -> usize {
        let settled = engine.settled(text, from, self.waiting);
        self.custom.as_ref().map_or(settled, |custom| settled.min(custom.settled(text).max(from)))
    }

    /// Judges findings in an answer, as [`decide`](Self::decide) does those in a request.
    #[must_use]
    pub fn decide_answer(&self, findings: Vec<Finding>) -> Verdict {
        let table = self.answers.as_deref().unwrap_or_default();
        self.judge(findings, |finding| table.get(self.slot(finding)).copied().unwrap_or(Setting::ALLOWED))
    }

    fn judge(&self, findings: Vec<Finding>, setting_of: impl Fn(&Finding) -> Setting) -> Verdict {
        if findings.is_empty() {
            return Verdict::clean();
        }
        let mut verdict = Verdict { findings: Vec::with_capacity(findings.len()), ..Verdict::clean() };
        let mut risk = 0f32;
        for finding in findings {
            let category = finding.rule.category;
            let setting = if self.is_allowed(&finding) { Setting::LOWERED } else { setting_of(&finding) };
            let reached = setting.is_reached(finding.confidence);
            let action = if reached { setting.action } else { Action::Allow };
            if setting.action != Action::Allow {
                risk = risk.max(weight(finding.rule.severity) * finding.confidence);
            }
            verdict.action = verdict.action.max(action);
            verdict.escalate |= reached && setting.escalate;
            verdict.pii_detected |= category == Category::Pii;
            verdict.injection_detected |= reached && category.is_attack();
            if action != Action::Allow && !verdict.categories.contains(&category) {
                verdict.categories.push(category);
            }
            verdict.findings.push(Judged { finding, action });
        }
        verdict.categories.sort_unstable();
        verdict.risk_score = score(risk, verdict.categories.len());
        verdict.escalate |= self.escalate_at.is_some_and(|least| verdict.risk_score >= least);
        verdict
    }

    /// The threshold and the action that hold for a finding in a request, what it counts in the risk score, and whether the allow
    /// list covers it.
    #[must_use]
    pub fn ruling(&self, finding: &Finding, role: Role) -> Ruling {
        let setting = self.setting(finding, role);
        let allowed = self.is_allowed(finding);
        let counts = !allowed && setting.action != Action::Allow;
        Ruling {
            threshold: f32::from(setting.threshold) / 1000.0,
            action: setting.action,
            risk: if counts { weight(finding.rule.severity) * finding.confidence } else { 0.0 },
            allowed,
        }
    }

    fn slot(&self, finding: &Finding) -> usize {
        self.known.slot_of(&finding.rule, &self.own)
    }

    /// Whether an entry of the allow list that has not ended covers it.
    fn is_allowed(&self, finding: &Finding) -> bool {
        let until = finding.allowed_by.and_then(|entry| self.allowed_until.get(usize::from(entry)));
        until.is_some_and(|until| until.is_none_or(|until| SystemClock.now() < until))
    }

    /// What is done about a finding that was kept without its text, which the allow list would have to see. Nothing about what
    /// the policy does not look for.
    #[must_use]
    pub(super) fn action_of_kept(&self, finding: &AuditFinding) -> Action {
        let AuditFinding { detector, category, confidence, direction, role, rule_id, .. } = finding;
        let own = self.own.binary_search_by(|other| (*other.id).cmp(rule_id.as_str())).ok();
        let slot = match (detector, own) {
            (Detector::Custom, None) => return Action::Allow,
            (Detector::Custom, Some(index)) => self.known.slots() + index,
            _ => self.known.slot_of_id(rule_id, *category),
        };
        let setting = match direction {
            Direction::Input => self.setting_at(slot, *role),
            Direction::Output => {
                self.answers.as_deref().and_then(|table| table.get(slot)).copied().unwrap_or(Setting::ALLOWED)
            }
        };
        if setting.is_reached(*confidence) { setting.action } else { Action::Allow }
    }

    fn setting(&self, finding: &Finding, role: Role) -> Setting {
        self.setting_at(self.slot(finding), role)
    }

    fn setting_at(&self, slot: usize, role: Role) -> Setting {
        let index = match role {
            Role::System => 0,
            Role::User => 1,
            Role::Assistant => 2,
            Role::Tool => 3,
            Role::ToolDefinition => 4,
            Role::Other => 5,
        };
        let table = self.table_of_role.get(index).and_then(|table| self.tables.get(usize::from(*table)));
        let setting = table.and_then(|table| table.get(slot));
        // Every table has a slot for every rule and category; a setting that blocks is the safe answer if one had not.
        setting.copied().unwrap_or(Setting { threshold: 0, action: Action::Block, escalate: false })
    }
}

const fn weight(severity: Severity) -> f32 {
    match severity {
        Severity::Low => 30.0,
        Severity::Medium => 55.0,
        Severity::High => 80.0,
        Severity::Critical => 100.0,
    }
}

fn score(risk: f32, categories: usize) -> u8 {
    let further = (1..categories).map(|_| FURTHER_CATEGORY).sum::<f32>();
    // The clamp keeps the cast exact.
    (risk + further).round().clamp(0.0, 100.0) as u8
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
