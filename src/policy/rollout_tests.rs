use serde_json::json;

use super::*;
use crate::domain::{Judged, OrgId};
use crate::policy::sample_rules::{found, rules};
use crate::policy::{Compiler, PolicyLabel, read};

fn policy(document: serde_json::Value) -> Arc<CompiledPolicy> {
    let label = PolicyLabel { id: Some(PolicyId::new()), name: "p".into(), version: 1 };
    Arc::new(Compiler::new(&rules()).compile(&read(&document).unwrap(), label).unwrap())
}

fn rollout(candidate: serde_json::Value, canary: Option<Canary>) -> InForce {
    let scope = TenantScope::for_tests(OrgId::new());
    let (id, root) = (RolloutId::new(), PolicyId::new());
    let rollout = Rollout::new((id, 1), root, scope, policy(candidate), canary, true);
    InForce { live: policy(json!({})), rollout: Some(Arc::new(rollout)) }
}

fn place(_: usize) -> Place<'static> {
    Place { role: Role::User, path: "text".to_owned(), text: "0123456789".into() }
}

fn compare(in_force: &InForce, findings: &[(&str, f32)]) -> (Verdict, Comparison) {
    let judges = in_force.judges(ApiKeyId::new(), None);
    let findings: Vec<Finding> = findings.iter().map(|(rule, confidence)| found(rule, *confidence)).collect();
    let verdict = judges.acting.decide(findings, |_| Role::User);
    let comparison = judges.beside.unwrap().compare(&verdict, None, |_| Role::User, place);
    (verdict, comparison)
}

const ALL: Option<Canary> = Some(Canary { percentage: 100, by: Assignment::Caller });

#[test]
fn the_same_policy_never_differs_and_another_one_says_by_which_rule() {
    let cards = ("pii.credit_card", 0.9);
    let (_, same) = compare(&rollout(json!({}), None), &[cards, ("injection.dan", 0.9)]);
    assert!(!same.differs(), "{same:?}");

    let blocks = json!({"rules": {"CREDIT_CARD": {"action": "block"}}});
    for canary in [None, ALL] {
        let (verdict, comparison) = compare(&rollout(blocks.clone(), canary), &[cards, ("pii.email_address", 0.9)]);
        let acted = if canary.is_some() { Action::Block } else { Action::Redact };
        assert_eq!(verdict.action, acted, "the candidate acts only in a canary");
        assert_eq!((comparison.live, comparison.candidate), (Action::Redact, Action::Block));
        let rule_id = "pii.credit_card".into();
        let difference = RuleDifference { rule_id, live_action: Action::Redact, candidate_action: Action::Block };
        assert_eq!(comparison.rules, [difference]);
        let [finding] = comparison.findings.as_slice() else { panic!("{comparison:?}") };
        assert_eq!((finding.live_action, finding.candidate_action), (Some(Action::Redact), Some(Action::Block)));
        assert!(!serde_json::to_string(finding).unwrap().contains("0123"), "never the text");
    }
}

#[test]
fn what_only_the_candidate_looks_for_is_a_difference() {
    let in_force = rollout(json!({}), None);
    let judges = in_force.judges(ApiKeyId::new(), None);
    let own = vec![found("pii.us_ssn", 0.9)];
    let comparison = judges.beside.unwrap().compare(&Verdict::clean(), Some(own), |_| Role::User, place);
    assert_eq!((comparison.live, comparison.candidate), (Action::Allow, Action::Redact));
    assert_eq!(comparison.findings.first().unwrap().live_action, None);
}

#[test]
fn counts_are_by_arm_and_what_cannot_be_written_is_kept() {
    let in_force = rollout(json!({"rules": {"CREDIT_CARD": {"action": "block"}}}), None);
    let rollout = in_force.rollout.clone().unwrap();
    let (_, comparison) = compare(&in_force, &[("pii.credit_card", 0.9)]);
    for _ in 0..40 {
        let (request, workspace) = (AuditId::new(), WorkspaceId::new());
        rollout.compared(Arm::Live, comparison.clone(), request, workspace, Timestamp::from_micros(1));
        rollout.finished(Arm::Live, false, false, Duration::from_micros(7));
    }
    rollout.finished(Arm::Candidate, true, true, Duration::from_micros(7));
    let pending = rollout.take().unwrap();
    let expected = ArmCounts {
        requests: 40,
        overhead_us: 280,
        compared: 40,
        differing: 40,
        newly_blocked: 40,
        ..ArmCounts::default()
    };
    assert_eq!(pending.live, expected);
    assert_eq!((pending.candidate.requests, pending.candidate.blocked, pending.candidate.errors), (1, 1, 1));
    assert_eq!((pending.samples.len(), pending.rules.values().sum::<u64>()), (WAITING_SAMPLES, 40));
    assert_eq!(rollout.take(), None);
    rollout.give_back(pending.clone());
    assert_eq!(rollout.take(), Some(pending));
}

#[test]
fn a_share_is_kept_within_two_points_and_by_the_same_callers() {
    let candidate = json!({});
    for by in [Assignment::Caller, Assignment::User] {
        let mut before = Vec::new();
        let in_force = rollout(candidate.clone(), Some(Canary { percentage: 0, by }));
        let base = in_force.rollout.as_ref().unwrap();
        let callers: Vec<ApiKeyId> = (0..10_000).map(|_| ApiKeyId::new()).collect();
        for percentage in [0, 1, 10, 37, 90, 100] {
            let canary = Some(Canary { percentage, by });
            let key = (base.id, i64::from(percentage));
            let next = Rollout::new(key, base.root, base.scope, Arc::clone(base.candidate()), canary, true);
            let in_force = InForce { live: Arc::clone(&in_force.live), rollout: Some(Arc::new(next)) };
            assert_eq!(in_force.asks_for_user(), by == Assignment::User && (1..100).contains(&percentage));
            let one = callers.first().copied().unwrap();
            let acts = |number: usize| match by {
                Assignment::Caller => in_force.judges(callers[number], Some("everybody")).is_canary(),
                Assignment::User => in_force.judges(one, Some(&format!("user-{number}"))).is_canary(),
            };
            let chosen: Vec<usize> = (0..callers.len()).filter(|number| acts(*number)).collect();
            assert!(chosen.len().abs_diff(usize::from(percentage) * 100) <= 200, "{percentage}: {}", chosen.len());
            assert!((0..callers.len()).filter(|number| acts(*number)).eq(chosen.iter().copied()), "not sticky");
            assert!(before.iter().all(|number| chosen.binary_search(number).is_ok()), "a larger share keeps its own");
            before = chosen;
        }
    }
}

#[test]
fn parts_of_a_request_are_one_comparison() {
    let in_force = rollout(json!({"rules": {"EMAIL_ADDRESS": {"action": "redact"}}}), None);
    let (_, mut whole) = compare(&in_force, &[]);
    let (_, part) = compare(&in_force, &[("pii.email_address", 0.9)]);
    whole.join(part, |action| if action == Action::Redact { Action::Block } else { action });
    assert_eq!((whole.live, whole.candidate), (Action::Flag, Action::Block));
    assert!(whole.differs());
}

#[test]
fn a_million_findings_make_few_samples() {
    let in_force = rollout(json!({"rules": {"CREDIT_CARD": {"action": "block"}}}), None);
    let judges = in_force.judges(ApiKeyId::new(), None);
    let finding = |at: usize| Judged {
        finding: Finding { span: at..at + 1, ..found("pii.credit_card", 0.9) },
        action: Action::Redact,
    };
    let verdict = Verdict { findings: (0..1000).map(finding).collect(), action: Action::Redact, ..Verdict::clean() };
    let comparison = judges.beside.unwrap().compare(&verdict, None, |_| Role::User, place);
    assert_eq!(comparison.findings.len(), SAMPLED_FINDINGS);
}
