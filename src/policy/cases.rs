//! Test cases of a policy: texts, and what is to be done about them.

use serde::{Deserialize, Serialize};

use super::CompiledPolicy;
use crate::detect::Engine;
use crate::domain::{Action, Category, Role};

/// A text and what the policy is to do about it; at least one thing is expected.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "cards are blocked", "input": "4111 1111 1111 1111", "expect": {"action": "block", "category": "pii"}}))]
pub struct PolicyCase {
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub name: Option<String>,
    #[schema(max_length = 65536)]
    pub input: String,
    /// Who speaks; `user` by default.
    #[serde(default = "user")]
    pub role: Role,
    pub expect: Expected,
}

/// What is to be done. What is left out is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Something of this kind is found that the policy does not let pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Whether it is marked for human review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<bool>,
}

const fn user() -> Role {
    Role::User
}

/// What came of a case; its input is not repeated.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CaseResult {
    /// The case's, or its number.
    pub name: String,
    pub passed: bool,
    pub expected: Expected,
    pub action: Action,
    pub categories: Vec<Category>,
    pub escalated: bool,
    /// 0 to 100.
    pub risk_score: u8,
    /// What acted, by the ids of the rules.
    pub rules: Vec<String>,
}

/// Runs cases as requests; the sets of registered values (`exact_data`) of an uncached policy find nothing.
#[must_use]
pub fn run_cases(engine: &Engine, policy: &CompiledPolicy, cases: &[PolicyCase]) -> Vec<CaseResult> {
    cases.iter().enumerate().map(|(index, case)| run(engine, policy, case, index)).collect()
}

fn run(engine: &Engine, policy: &CompiledPolicy, case: &PolicyCase, index: usize) -> CaseResult {
    let mut findings = Vec::new();
    if !case.input.is_empty() {
        engine.scan_with(&case.input, 0, case.role, policy.custom(), &mut findings);
    }
    let verdict = policy.decide(findings, |_| case.role);
    let acted = verdict.findings.iter().filter(|judged| judged.action != Action::Allow);
    let mut rules: Vec<String> = acted.map(|judged| judged.finding.rule.id.to_string()).collect();
    rules.sort_unstable();
    rules.dedup();
    let Expected { action, category, escalate } = case.expect;
    let passed = action.is_none_or(|action| action == verdict.action)
        && category.is_none_or(|category| verdict.categories.contains(&category))
        && escalate.is_none_or(|escalate| escalate == verdict.escalate);
    CaseResult {
        name: case.name.clone().unwrap_or_else(|| format!("case {}", index + 1)),
        passed,
        expected: case.expect,
        action: verdict.action,
        categories: verdict.categories,
        escalated: verdict.escalate,
        risk_score: verdict.risk_score,
        rules,
    }
}

/// Reads a file of cases, a YAML or JSON list.
///
/// # Errors
/// What is wrong, with its place.
pub fn read_cases(text: &str) -> Result<Vec<PolicyCase>, String> {
    let cases: Vec<PolicyCase> = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    match cases.iter().position(|case| case.expect == Expected::default()) {
        Some(index) => Err(format!("case {} expects nothing: give `action`, `category` or `escalate`", index + 1)),
        None => Ok(cases),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{PolicyLabel, Preset, compile_text};

    #[test]
    fn cases_pass_and_fail_by_what_the_policy_does() {
        let engine = Engine::rules_only().unwrap();
        let text = "roles: { tool: { EMAIL_ADDRESS: { action: block } } }";
        let policy = compile_text(text, PolicyLabel::of_preset(Preset::Balanced), &engine).unwrap();
        let cases = "
- { name: mail, input: write to ada@example.com, expect: { action: flag, category: pii } }
- { input: write to ada@example.com, role: tool, expect: { action: block, escalate: false } }
- { name: wrong, input: a harmless text, expect: { category: secrets } }
- { name: nothing, input: '', expect: { action: allow } }";
        let results = run_cases(&engine, &policy, &read_cases(cases).unwrap());
        let told: Vec<_> = results.iter().map(|result| (result.name.as_str(), result.passed, result.action)).collect();
        let expected = [
            ("mail", true, Action::Flag),
            ("case 2", true, Action::Block),
            ("wrong", false, Action::Allow),
            ("nothing", true, Action::Allow),
        ];
        assert_eq!(told, expected);
        assert_eq!(results[0].rules, ["pii.email_address"]);
        assert!(read_cases("- { input: a, expect: {} }").unwrap_err().contains("expects nothing"));
        assert!(read_cases("- { input: a, expect: { action: erase } }").is_err());
    }
}
