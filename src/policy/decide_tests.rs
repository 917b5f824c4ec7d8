use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::policy::sample_rules::{found, rules};
use crate::policy::{Compiler, Preset, parse};

fn judge(preset: Preset, role: Role, findings: &[(&str, f32)]) -> Verdict {
    let findings = findings.iter().map(|(rule, confidence)| found(rule, *confidence)).collect();
    Compiler::new(&rules()).preset(preset).decide(findings, |_| role)
}

fn action(preset: Preset, role: Role, rule: &str, confidence: f32) -> Action {
    judge(preset, role, &[(rule, confidence)]).action
}

#[test]
fn nothing_found_is_clean() {
    assert_eq!(judge(Preset::Strict, Role::User, &[]), Verdict::clean());
}

#[test]
fn balanced_blocks_attacks_and_secrets_redacts_identifiers_and_flags_the_ordinary() {
    for (rule, confidence, expected) in [
        ("injection.override_instructions", 0.7, Action::Block),
        ("injection.override_instructions", 0.69, Action::Allow),
        ("injection.dan", 0.8, Action::Block),
        ("injection.reveal_prompt", 0.8, Action::Block),
        ("secrets.private_key", 0.9, Action::Block),
        ("pii.credit_card", 0.5, Action::Redact),
        ("pii.us_ssn", 0.8, Action::Redact),
        ("pii.iban_code", 0.9, Action::Redact),
        ("pii.us_passport", 0.6, Action::Redact),
        ("pii.email_address", 0.9, Action::Flag),
        ("pii.phone_number", 0.9, Action::Flag),
        ("pii.ip_address", 0.9, Action::Flag),
        ("pii.mac_address", 0.9, Action::Flag),
        ("pii.date_of_birth", 0.9, Action::Flag),
        ("pii.us_ssn", 0.3, Action::Allow),
    ] {
        assert_eq!(action(Preset::Balanced, Role::User, rule, confidence), expected, "{rule} {confidence}");
    }
}

#[test]
fn the_reference_texts_card_number_is_detected_and_redacted_at_its_low_confidence() {
    let verdict = judge(Preset::Balanced, Role::User, &[("pii.credit_card_in_context", 0.55)]);
    assert!(verdict.pii_detected);
    assert_eq!(verdict.action, Action::Redact);
    assert_eq!(verdict.risk_score, 44);
}

#[test]
fn developers_text_is_judged_more_leniently_than_users_and_tools() {
    let rule = "injection.override_instructions";
    for role in [Role::System, Role::ToolDefinition] {
        assert_eq!(action(Preset::Balanced, role, rule, 0.89), Action::Allow, "{role:?}");
        assert_eq!(action(Preset::Balanced, role, rule, 0.9), Action::Block, "{role:?}");
        assert_eq!(action(Preset::Balanced, role, "secrets.private_key", 0.7), Action::Block, "{role:?}");
    }
    for role in [Role::User, Role::Assistant, Role::Tool, Role::Other] {
        assert_eq!(action(Preset::Balanced, role, rule, 0.7), Action::Block, "{role:?}");
    }
}

#[test]
fn strict_blocks_personal_data_and_monitor_blocks_nothing() {
    assert_eq!(action(Preset::Strict, Role::User, "pii.email_address", 0.4), Action::Block);
    assert_eq!(action(Preset::Strict, Role::User, "injection.dan", 0.5), Action::Block);
    for rule in rules() {
        for role in [Role::System, Role::User, Role::Tool, Role::ToolDefinition] {
            assert_eq!(action(Preset::Monitor, role, &rule.id, 1.0), Action::Flag, "{}", rule.id);
        }
    }
}

#[test]
fn answers_have_settings_of_their_own_and_hold_no_attacks() {
    let compiler = Compiler::new(&rules());
    let judge = |preset: Preset, rule: &str| compiler.preset(preset).decide_answer(vec![found(rule, 0.9)]).action;
    for (rule, balanced, strict, monitor) in [
        ("secrets.private_key", Action::Redact, Action::Block, Action::Flag),
        ("pii.credit_card", Action::Redact, Action::Block, Action::Flag),
        ("pii.email_address", Action::Flag, Action::Block, Action::Flag),
        ("injection.dan", Action::Allow, Action::Allow, Action::Allow),
    ] {
        let actions = Preset::ALL.map(|preset| judge(preset, rule));
        assert_eq!(actions, [balanced, strict, monitor], "{rule}");
    }
    assert!(!compiler.preset(Preset::Balanced).waiting.words, "an e-mail address is flagged, not waited for");
    assert!(compiler.preset(Preset::Strict).waiting.words);

    let own = |text: &str| compiler.compile(&parse(text).unwrap(), PolicyLabel::of_preset(Preset::Balanced)).unwrap();
    let policy = own("rules: { pii: { action: block } }");
    assert_eq!(
        policy.decide_answer(vec![found("pii.us_ssn", 0.9)]).action,
        Action::Block,
        "`rules` hold for answers too"
    );
    let policy = own("rules: { pii: { action: block } }\nanswers: { US_SSN: { action: flag } }");
    assert_eq!(policy.decide_answer(vec![found("pii.us_ssn", 0.9)]).action, Action::Flag);
    assert!(policy.looks_at_answers());
    let policy = own("answers: { pii: { action: allow }, secrets: { action: allow } }");
    assert!(!policy.looks_at_answers());
    assert_eq!(policy.decide_answer(vec![found("pii.us_ssn", 0.9)]).action, Action::Allow);
}

#[test]
fn the_strongest_action_is_the_verdicts_and_its_categories_are_sorted_and_unique() {
    let found = [("secrets.private_key", 0.9), ("pii.email_address", 0.9), ("pii.us_ssn", 0.9), ("injection.dan", 0.2)];
    let verdict = judge(Preset::Balanced, Role::User, &found);
    assert!(verdict.blocked());
    assert_eq!(verdict.categories, [Category::Pii, Category::Secrets]);
    assert_eq!(verdict.risk_score, 95, "90 for the key, 5 for the second category");
    assert!(verdict.escalate, "at 90 and above");
    assert!(!verdict.injection_detected, "below its threshold");
    let actions: Vec<Action> = verdict.findings.iter().map(|judged| judged.action).collect();
    assert_eq!(actions, [Action::Block, Action::Flag, Action::Redact, Action::Allow]);
}

#[test]
fn what_the_policy_allows_is_still_reported_as_seen_but_is_no_risk() {
    let document = parse("rules: { pii: { action: allow }, jailbreak: { action: allow } }").unwrap();
    let label = PolicyLabel { id: None, name: "lenient".into(), version: 3 };
    let policy = Compiler::new(&rules()).compile(&document, label).unwrap();
    let verdict = policy.decide(vec![found("pii.us_ssn", 1.0), found("injection.dan", 1.0)], |_| Role::User);
    assert_eq!((verdict.action, verdict.risk_score, verdict.categories.len()), (Action::Allow, 0, 0));
    assert!(verdict.pii_detected && verdict.injection_detected);
    assert_eq!(policy.label().to_string(), "lenient@3");
}

#[test]
fn a_suspicion_below_the_threshold_shows_in_the_risk_score() {
    let verdict = judge(Preset::Balanced, Role::User, &[("injection.override_instructions", 0.5)]);
    assert_eq!((verdict.action, verdict.risk_score), (Action::Allow, 40));
}

#[test]
fn each_finding_is_judged_by_the_role_of_its_own_segment() {
    let mut second = found("injection.dan", 0.8);
    second.segment = 1;
    let findings = vec![found("injection.dan", 0.8), second];
    let policy = Compiler::new(&rules()).preset(Preset::Balanced);
    let verdict = policy.decide(findings, |segment| if segment == 0 { Role::System } else { Role::User });
    let actions: Vec<Action> = verdict.findings.iter().map(|judged| judged.action).collect();
    assert_eq!(actions, [Action::Allow, Action::Block]);
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// More findings never make a verdict weaker, and the parts of a verdict agree with each other.
    #[test]
    fn verdicts_grow_with_their_findings(
        picks in prop::collection::vec((0usize..17, 0f32..=1.0), 1..8),
        preset in 0usize..3,
    ) {
        let rules = rules();
        let policy = Compiler::new(&rules).preset(Preset::ALL[preset]);
        let findings: Vec<Finding> = picks
            .iter()
            .map(|(rule, confidence)| Finding { rule: Arc::clone(&rules[*rule]), confidence: *confidence, span: 0..1, segment: 0, allowed_by: None })
            .collect();
        let part = policy.decide(findings[1..].to_vec(), |_| Role::User);
        let whole = policy.decide(findings, |_| Role::User);
        prop_assert!(whole.action >= part.action && whole.risk_score >= part.risk_score);
        prop_assert!(whole.risk_score <= 100);
        prop_assert!(whole.escalate >= part.escalate);
        prop_assert_eq!(whole.action, whole.findings.iter().map(|judged| judged.action).max().unwrap());
        prop_assert_eq!(whole.categories.is_empty(), whole.action == Action::Allow);
        prop_assert!(whole.categories.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
