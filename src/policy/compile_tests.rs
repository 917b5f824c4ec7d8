use super::*;
use crate::policy::sample_rules::{found, rules};
use crate::policy::{parse, preset};

fn label() -> PolicyLabel {
    PolicyLabel { id: None, name: "test".into(), version: 1 }
}

fn compiled(text: &str) -> CompiledPolicy {
    Compiler::new(&rules()).compile(&parse(text).unwrap(), label()).unwrap()
}

fn faults(text: &str) -> Vec<(String, String)> {
    let faults = Compiler::new(&rules()).compile(&parse(text).unwrap(), label()).unwrap_err();
    faults.into_iter().map(|fault| (fault.pointer, fault.detail)).collect()
}

fn action(policy: &CompiledPolicy, role: Role, rule: &str, confidence: f32) -> Action {
    policy.decide(vec![found(rule, confidence)], |_| role).action
}

#[test]
fn every_preset_compiles_and_is_the_same_with_and_without_its_own_name_below_it() {
    let compiler = Compiler::new(&rules());
    for name in Preset::ALL {
        let document = preset(name.as_str()).unwrap();
        let policy = compiler.compile(&document, label()).unwrap();
        let on_itself = PolicyDocument { extends: Some(name), ..document };
        for other in [compiler.preset(name), compiler.compile(&on_itself, label()).unwrap()] {
            assert_eq!(policy.tables, other.tables, "{name:?}");
            assert_eq!(policy.answers, other.answers, "{name:?}");
            assert_eq!(policy.table_of_role, other.table_of_role, "{name:?}");
            assert_eq!(policy.binary(), other.binary(), "{name:?}");
            assert_eq!(policy.binary_answers(), other.binary_answers(), "{name:?}");
        }
    }
    assert_eq!(compiler.preset(Preset::Strict).label().to_string(), "strict@0");
}

#[test]
fn all_faults_come_at_once_and_say_what_was_probably_meant() {
    let text = "
        rules:
          promt_injection: { action: block }
          CREDIT_CARD: { threshold: 1.5 }
          pii: {}
        roles:
          user: { credit_card: { action: flag, threshold: -1 } }
        answers:
          pii: { threshold: 2 }
        escalate: { min_risk_score: 101, rules: [jailbreak, secrets.github_tokn] }
        block_message: \"  \"
    ";
    let expected = [
        ("/rules/CREDIT_CARD/threshold", "1.5 is not from 0 to 1"),
        ("/rules/pii", "sets nothing: give an `action`, a `threshold` or both"),
        ("/rules/promt_injection", "`promt_injection` is no category, type or rule (did you mean `prompt_injection`?)"),
        ("/roles/user/credit_card", "`credit_card` is no category, type or rule (did you mean `CREDIT_CARD`?)"),
        ("/roles/user/credit_card/threshold", "-1 is not from 0 to 1"),
        ("/answers/pii/threshold", "2 is not from 0 to 1"),
        ("/escalate/min_risk_score", "a risk score is 1 to 100"),
        (
            "/escalate/rules/1",
            "`secrets.github_tokn` is no category, type or rule (did you mean `secrets.github_token`?)",
        ),
        ("/block_message", "one line of 1 to 500 characters, without control characters"),
    ];
    assert_eq!(faults(text), expected.map(|(pointer, detail)| (pointer.to_owned(), detail.to_owned())));
}

#[test]
fn the_more_specific_name_wins_within_a_document() {
    let policy = compiled(
        "rules: { pii: { action: allow }, CREDIT_CARD: { action: redact }, pii.credit_card_in_context: { action: flag } }",
    );
    for (rule, expected) in [
        ("pii.us_ssn", Action::Allow),
        ("pii.credit_card", Action::Redact),
        ("pii.credit_card_in_context", Action::Flag),
        ("secrets.private_key", Action::Block),
    ] {
        assert_eq!(action(&policy, Role::User, rule, 1.0), expected, "{rule}");
    }
}

#[test]
fn a_documents_category_wins_over_a_presets_type() {
    let balanced = compiled("{}");
    assert_eq!(action(&balanced, Role::User, "pii.email_address", 1.0), Action::Flag);
    let policy = compiled("rules: { pii: { action: block } }");
    assert_eq!(action(&policy, Role::User, "pii.email_address", 1.0), Action::Block);
}

#[test]
fn a_threshold_alone_leaves_the_actions_as_they_are() {
    let policy = compiled("rules: { pii: { threshold: 0.9 } }");
    assert_eq!(action(&policy, Role::User, "pii.email_address", 0.9), Action::Flag);
    assert_eq!(action(&policy, Role::User, "pii.credit_card", 0.9), Action::Redact);
    assert_eq!(action(&policy, Role::User, "pii.credit_card", 0.89), Action::Allow);
}

#[test]
fn a_role_adjusts_the_rules_for_its_own_text_only() {
    let policy = compiled("roles: { tool: { pii: { action: block }, EMAIL_ADDRESS: { action: allow } } }");
    assert_eq!(action(&policy, Role::Tool, "pii.credit_card", 1.0), Action::Block);
    assert_eq!(action(&policy, Role::Tool, "pii.email_address", 1.0), Action::Allow);
    assert_eq!(action(&policy, Role::User, "pii.credit_card", 1.0), Action::Redact);
    assert!(policy.tables.len() <= 3, "roles with equal settings share a table");
}

#[test]
fn a_general_threshold_does_not_undo_the_presets_care_with_system_prompts() {
    let policy = compiled("rules: { prompt_injection: { threshold: 0.4 } }");
    assert_eq!(action(&policy, Role::User, "injection.override_instructions", 0.5), Action::Block);
    assert_eq!(action(&policy, Role::System, "injection.override_instructions", 0.85), Action::Allow);
}

#[test]
fn what_is_said_beside_the_rules_is_handed_down_and_overridden() {
    let balanced = compiled("{}");
    assert_eq!((balanced.binary(), balanced.fails_open()), (BinaryRule::Refuse, false));
    assert_eq!(balanced.binary_answers(), BinaryRule::Pass);
    assert_eq!(balanced.block_message(), None);
    let policy = compiled("extends: strict\nbinary: pass\nfail: open\nblock_message: Ask the help desk.");
    assert_eq!((policy.binary(), policy.fails_open()), (BinaryRule::Pass, true));
    assert_eq!(policy.block_message(), Some("Ask the help desk."));
}

#[test]
fn an_escalation_replaces_the_presets_as_a_whole() {
    let escalates = |text: &str, rule: &str, confidence| {
        compiled(text).decide(vec![found(rule, confidence)], |_| Role::User).escalate
    };
    assert!(escalates("{}", "secrets.github_token", 0.95));
    assert!(!escalates("escalate: {}", "secrets.github_token", 0.95));
    let named = "escalate: { rules: [EMAIL_ADDRESS, jailbreak] }";
    assert!(escalates(named, "pii.email_address", 0.5));
    assert!(!escalates(named, "pii.email_address", 0.4), "below its threshold");
    assert!(!escalates(named, "secrets.github_token", 0.95));
}

#[test]
fn a_finding_of_a_rule_made_later_is_judged_by_its_category() {
    let policy = compiled("{}");
    let mut finding = found("secrets.github_token", 0.9);
    finding.rule = Arc::new(Rule {
        id: "secrets.new".into(),
        detector: finding.rule.detector,
        category: Category::Secrets,
        entity: "NEW".into(),
        severity: finding.rule.severity,
    });
    assert_eq!(policy.decide(vec![finding], |_| Role::User).action, Action::Block);
}

#[test]
fn what_must_never_come_back_cannot_be_tokenized() {
    let policy = compiled("rules: {pii: {action: tokenize}, CREDIT_CARD: {action: redact}}");
    assert_eq!(action(&policy, Role::User, "pii.us_ssn", 0.9), Action::Tokenize);
    assert_eq!(action(&policy, Role::User, "pii.credit_card", 0.9), Action::Redact);
    let labels: Vec<&str> = policy.tokens().unwrap().iter().map(AsRef::as_ref).collect();
    assert!(labels.contains(&"EMAIL_ADDRESS") && !labels.contains(&"CREDIT_CARD"), "{labels:?}");
    let answer = policy.decide_answer(vec![found("pii.us_ssn", 0.9)]);
    assert_eq!(answer.action, Action::Flag, "nothing of an answer is tokenized");
    assert!(compiled("extends: balanced").tokens().is_none());

    let text = "
        never_restore: [CREDIT_CARD, US_SN]
        rules:
          secrets: { action: tokenize }
          secrets.github_token: { action: block }
          jailbreak: { action: tokenize }
          pii: { action: tokenize }
        roles:
          tool: { pii: { action: tokenize }, CREDIT_CARD: { action: redact }, pii.credit_card_in_context: { action: tokenize } }
          user: { pii: { action: tokenize }, CREDIT_CARD: { action: block } }
        answers:
          EMAIL_ADDRESS: { action: tokenize }
    ";
    let pointers: Vec<(String, bool)> =
        faults(text).into_iter().map(|(pointer, detail)| (pointer, detail.starts_with("this takes in"))).collect();
    let expected = [
        ("/rules/jailbreak/action", false),
        ("/rules/pii/action", true),
        ("/rules/secrets/action", true),
        ("/never_restore/1", false),
        ("/roles/tool/pii.credit_card_in_context/action", false),
        ("/answers/EMAIL_ADDRESS/action", false),
    ];
    assert_eq!(pointers, expected.map(|(pointer, part)| (pointer.to_owned(), part)));
}
