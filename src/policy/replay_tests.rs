use serde_json::{Value, json};

use super::*;
use crate::domain::{Category, Detector, Direction, PolicyId, Severity};
use crate::policy::sample_rules::rules;
use crate::policy::{Compiler, PolicyLabel, read};

struct Version {
    policy: CompiledPolicy,
    document: PolicyDocument,
}

impl Version {
    fn of(document: &Value) -> Self {
        let document = read(document).unwrap();
        let label = PolicyLabel { id: Some(PolicyId::new()), name: "p".into(), version: 1 };
        Self { policy: Compiler::new(&rules()).compile(&document, label).unwrap(), document }
    }

    fn replayed(&self) -> Replayed<'_> {
        Replayed { policy: &self.policy, document: &self.document }
    }

    /// A row as this policy would have left it.
    fn row(&self, found: &[(&str, Category, f32)]) -> ReplayRow {
        let findings = found.iter().map(|(rule, category, confidence)| {
            let mut finding = AuditFinding {
                detector: if rule.starts_with("custom.") { Detector::Custom } else { Detector::Pii },
                rule_id: (*rule).to_owned(),
                category: *category,
                entity: "X".to_owned(),
                severity: Severity::High,
                confidence: *confidence,
                action: Action::Allow,
                direction: Direction::Input,
                role: Role::User,
                path: "messages[0].content".to_owned(),
                start: 0,
                end: 4,
            };
            finding.action = self.policy.action_of_kept(&finding);
            finding
        });
        let findings: Vec<AuditFinding> = findings.collect();
        let action = findings.iter().map(|finding| finding.action).max().unwrap_or(Action::Allow);
        let (at, workspace) = (Timestamp::from_micros(1), Some(WorkspaceId::new()));
        ReplayRow { id: AuditId::new(), at, workspace, action, findings, answer: None }
    }
}

fn replay(candidate: &Version, then: &Version, rows: &[ReplayRow]) -> ReplayReport {
    let mut replay = Replay::of(candidate.replayed());
    rows.iter().for_each(|row| replay.row(row, Some(&then.replayed())));
    replay.report()
}

const CARD: (&str, Category, f32) = ("pii.credit_card", Category::Pii, 0.9);
const DAN: (&str, Category, f32) = ("injection.dan", Category::Jailbreak, 0.9);

#[test]
fn the_same_policy_makes_no_difference_and_another_one_says_where() {
    let then = Version::of(&json!({}));
    let rows = [then.row(&[CARD]), then.row(&[DAN, CARD]), then.row(&[])];
    let same = replay(&then, &then, &rows);
    assert_eq!((same.requests, same.differing, same.uncertain), (3, 0, 0));

    let candidate =
        Version::of(&json!({"rules": {"CREDIT_CARD": {"action": "block"}, "jailbreak": {"action": "flag"}}}));
    let report = replay(&candidate, &then, &rows);
    // The second one was blocked by the one rule and would be by the other.
    assert_eq!((report.differing, report.newly_blocked, report.newly_passed), (2, 1, 0));
    let rules: Vec<_> = report.rules.iter().map(|rule| (&*rule.difference.rule_id, rule.requests)).collect();
    assert_eq!(rules, [("pii.credit_card", 2), ("injection.dan", 1)]);
    assert_eq!((report.workspaces.len(), report.examples.len()), (2, 2));
    let monitor = Version::of(&json!({"extends": "monitor"}));
    assert_eq!(replay(&monitor, &then, &rows).newly_passed, 1);
}

#[test]
fn rows_do_not_know_what_an_allow_list_would_say_and_the_report_says_so() {
    let list = json!([{"text": "4111 1111 1111 1111", "rule": "CREDIT_CARD"}]);
    let then = Version::of(&json!({"allow_list": list}));
    let mut row = then.row(&[CARD]);
    // Covered by the list.
    row.findings[0].action = Action::Allow;
    row.action = Action::Allow;
    let report = replay(&then, &then, std::slice::from_ref(&row));
    assert_eq!((report.differing, report.uncertain), (0, 0));

    let without = Version::of(&json!({"rules": {"CREDIT_CARD": {"action": "block"}}}));
    let report = replay(&without, &then, &[row]);
    assert_eq!((report.newly_blocked, report.uncertain), (1, 1));
    let mut other = without.row(&[CARD]);
    other.findings[0].entity = "CREDIT_CARD".to_owned();
    let report = replay(&then, &without, &[other]);
    assert_eq!((report.newly_passed, report.uncertain), (1, 1));
}

#[test]
fn own_rules_are_judged_where_both_have_them_and_named_where_not() {
    let document = json!({"custom_rules": {"atlas": {"keywords": ["atlas"], "action": "block", "category": "pii"}}});
    let then = Version::of(&document);
    let row = then.row(&[("custom.atlas", Category::Pii, 1.0)]);
    assert_eq!(row.action, Action::Block);
    assert_eq!(replay(&then, &then, std::slice::from_ref(&row)).differing, 0);
    let plain = Version::of(&json!({}));
    let report = replay(&plain, &then, std::slice::from_ref(&row));
    assert_eq!((report.newly_passed, report.unseen_rules.len()), (1, 0), "a rule that is gone finds nothing");
    assert_eq!(replay(&then, &plain, &[plain.row(&[CARD])]).unseen_rules, ["custom.atlas"]);
}

#[test]
fn what_is_replaced_in_a_query_is_refused_and_a_field_of_that_name_is_not() {
    let then = Version::of(&json!({}));
    let mut row = then.row(&[CARD]);
    row.findings[0].path = QUERY.to_owned();
    let field = row.clone();
    row.action = Action::Block;
    for row in [&row, &field] {
        assert_eq!(replay(&then, &then, std::slice::from_ref(row)).differing, 0);
    }
    let flags = Version::of(&json!({"rules": {"CREDIT_CARD": {"action": "flag"}}}));
    let report = replay(&flags, &then, &[row.clone(), field]);
    assert_eq!((report.differing, report.newly_passed), (2, 1));
    let tokenizes = Version::of(&json!({"rules": {"CREDIT_CARD": {"action": "tokenize"}}}));
    let report = replay(&tokenizes, &then, &[row]);
    assert_eq!((report.differing, report.newly_passed), (1, 0), "still refused");
}

#[test]
fn answers_are_judged_by_what_is_said_of_answers() {
    let then = Version::of(&json!({}));
    let mut row = then.row(&[]);
    let mut finding = then.row(&[CARD]).findings.remove(0);
    (finding.direction, finding.role) = (Direction::Output, Role::Assistant);
    finding.action = then.policy.action_of_kept(&finding);
    let answer = AnswerRecord {
        action: finding.action,
        risk_score: 0,
        pii_detected: true,
        escalated: false,
        categories: Vec::new(),
        findings: vec![finding],
        coverage: crate::domain::Coverage::default(),
    };
    row.answer = Some(Box::new(answer));
    assert_eq!(replay(&then, &then, std::slice::from_ref(&row)).differing, 0);
    let blocks = Version::of(&json!({"answers": {"CREDIT_CARD": {"action": "block"}}}));
    assert_eq!(replay(&blocks, &then, &[row]).newly_blocked, 1);
}

#[test]
fn texts_are_scanned_under_both() {
    let engine = Engine::builtin().unwrap();
    let compile = |document: Value| {
        let document = read(&document).unwrap();
        let label = PolicyLabel { id: None, name: "p".into(), version: 1 };
        Version { policy: crate::policy::compile(&document, label, &engine).unwrap(), document }
    };
    let live = compile(json!({}));
    let candidate = compile(json!({"custom_rules": {"atlas": {"keywords": ["atlas"], "action": "block"}}}));
    let mut replay = Replay::of(candidate.replayed());
    for text in ["project atlas", "my card is 4111 1111 1111 1111", "nothing"] {
        replay.text(&engine, &live.policy, text, Role::User, || text.to_owned());
    }
    let report = replay.report();
    assert_eq!((report.requests, report.differing, report.newly_blocked), (3, 1, 1));
    let example =
        ReplayedRequest { id: "project atlas".to_owned(), live_action: Action::Allow, candidate_action: Action::Block };
    assert_eq!(report.examples, [example]);
}
