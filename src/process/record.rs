//! What `/process` answers and what the audit trail keeps of it.

use std::sync::Arc;
use std::time::Duration;

use super::{ProcessFinding, ProcessPolicy, ProcessResponse};
use crate::authn::Caller;
use crate::domain::{
    Action, AuditEvent, AuditFinding, Completion, Coverage, Direction, Outcome, RequestId, Source, Timestamp,
};
use crate::enforce::TextInspection;
use crate::policy::{Judges, PolicyLabel};

pub(super) const GUARD_UNAVAILABLE: &str = "guard_unavailable";
/// Characters of an application's name for its user that are kept.
const MAX_USER_ID: usize = 256;

/// A request of `caller`, or of nobody known, about which nothing has been decided: as it stands, it is a refusal.
pub(super) fn received(caller: Option<&Caller>, request_id: RequestId, at: Timestamp, node: &Arc<str>) -> AuditEvent {
    AuditEvent {
        id: request_id.audit_id(),
        org_id: caller.map(|caller| caller.org_id),
        workspace_id: caller.map(|caller| caller.workspace_id),
        api_key_id: caller.map(|caller| caller.key_id),
        occurred_at: at,
        node: Arc::clone(node),
        source: Source::Process,
        method: "POST".into(),
        path: "/process".to_owned(),
        dialect: None,
        upstream: None,
        model: None,
        user_id: None,
        client_ip: None,
        policy_id: None,
        policy_name: None,
        policy_version: None,
        action: Action::Block,
        direction: Direction::Input,
        risk_score: 0,
        pii_detected: false,
        injection_detected: false,
        escalated: false,
        categories: Vec::new(),
        findings: Vec::new(),
        coverage: Coverage::default(),
        error_code: Some(GUARD_UNAVAILABLE.to_owned()),
    }
}

pub(super) fn under(event: &mut AuditEvent, policy: &PolicyLabel) {
    event.policy_id = policy.id;
    event.policy_name = Some(Arc::clone(&policy.name));
    event.policy_version = Some(policy.version);
}

/// Fills in the verdict. The refusal's code goes, unless nothing was scanned.
pub(super) fn judged(event: &mut AuditEvent, inspection: &TextInspection) {
    let verdict = &inspection.verdict;
    let unscanned = inspection.coverage.scanned == 0 && inspection.coverage.received > 0;
    event.error_code = event.error_code.take().filter(|_| unscanned);
    event.action = verdict.action;
    event.risk_score = verdict.risk_score;
    event.pii_detected = verdict.pii_detected;
    event.injection_detected = verdict.injection_detected;
    event.escalated = verdict.escalate;
    event.categories.clone_from(&verdict.categories);
    event.findings.clone_from(&inspection.findings);
    event.coverage.clone_from(&inspection.coverage);
}

pub(super) fn completed(
    event: &AuditEvent,
    at: Timestamp,
    outcome: Outcome,
    status: u16,
    took: Duration,
) -> Completion {
    Completion {
        id: event.id,
        completed_at: at,
        outcome,
        status,
        upstream_status: None,
        duration_us: micros(took),
        overhead_us: micros(took),
        ttfb_us: None,
        response_bytes: 0,
        input_tokens: None,
        output_tokens: None,
        error_code: None,
        answer: None,
    }
}

pub(super) fn response(
    request_id: RequestId,
    judges: &Judges,
    inspection: TextInspection,
    took: Duration,
) -> ProcessResponse {
    let label = judges.acting.label();
    let verdict = inspection.verdict;
    ProcessResponse {
        blocked: verdict.blocked(),
        risk_score: verdict.risk_score,
        pii_detected: verdict.pii_detected,
        request_id,
        action: verdict.action,
        categories: verdict.categories,
        findings: inspection.findings.into_iter().map(finding).collect(),
        redacted_input: inspection.redacted,
        policy: ProcessPolicy { name: label.name.to_string(), version: label.version, canary: judges.is_canary() },
        latency_us: micros(took),
    }
}

fn finding(found: AuditFinding) -> ProcessFinding {
    ProcessFinding {
        detector: found.detector,
        rule_id: found.rule_id,
        category: found.category,
        entity: found.entity,
        confidence: found.confidence,
        action: found.action,
        start: found.start,
        end: found.end,
    }
}

/// An application's name for its user, cut to what is kept.
pub(super) fn short(mut user_id: String) -> String {
    if let Some((end, _)) = user_id.char_indices().nth(MAX_USER_ID) {
        user_id.truncate(end);
    }
    user_id
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ApiKeyId, Category, Detector, Finding, Judged, OrgId, PolicyId, Role, Rule, Severity, Verdict, WorkspaceId,
    };
    use crate::policy::{Compiler, PolicyDocument};
    use crate::store::TenantScope;

    fn caller() -> Caller {
        let org_id = OrgId::new();
        Caller {
            scope: TenantScope::for_tests(org_id),
            org_id,
            workspace_id: WorkspaceId::new(),
            key_id: ApiKeyId::new(),
            scopes: vec!["process".to_owned()],
            rate_limit_per_minute: None,
            expires_at: None,
            config: crate::domain::WorkspaceConfig::default(),
            monthly_request_limit: None,
            counted: (crate::domain::Month::default(), 0),
        }
    }

    fn redacting() -> TextInspection {
        let rule = Arc::new(Rule {
            id: "pii.credit_card".into(),
            detector: Detector::Pii,
            category: Category::Pii,
            entity: "CREDIT_CARD".into(),
            severity: Severity::High,
        });
        let finding = AuditFinding {
            detector: rule.detector,
            rule_id: rule.id.to_string(),
            category: rule.category,
            entity: rule.entity.to_string(),
            severity: rule.severity,
            confidence: 0.5,
            action: Action::Redact,
            direction: Direction::Input,
            role: Role::User,
            path: String::new(),
            start: 8,
            end: 27,
        };
        let judged = Judged {
            finding: Finding { rule, confidence: 0.5, span: 8..27, segment: 0, allowed_by: None },
            action: Action::Redact,
        };
        TextInspection {
            verdict: Verdict {
                action: Action::Redact,
                risk_score: 40,
                categories: vec![Category::Pii],
                pii_detected: true,
                findings: vec![judged],
                ..Verdict::clean()
            },
            findings: vec![finding],
            coverage: Coverage { received: 27, decoded: 27, scanned: 27, segments: 1, ..Coverage::default() },
            redacted: "card is [CREDIT_CARD]".to_owned(),
            comparison: None,
        }
    }

    #[test]
    fn the_record_says_who_what_and_under_which_policy() {
        let (caller, request_id, now) = (caller(), RequestId::new(), Timestamp::from_micros(5));
        let label = PolicyLabel { id: Some(PolicyId::new()), name: "support".into(), version: 7 };
        let mut event = received(Some(&caller), request_id, now, &"node-a".into());
        assert_eq!((event.action, event.error_code.as_deref()), (Action::Block, Some("guard_unavailable")));
        under(&mut event, &label);
        judged(&mut event, &redacting());

        assert_eq!(event.id, request_id.audit_id());
        assert_eq!((event.org_id, event.api_key_id), (Some(caller.org_id), Some(caller.key_id)));
        assert_eq!((event.policy_id, event.policy_version), (label.id, Some(7)));
        assert_eq!((event.action, event.risk_score, event.pii_detected), (Action::Redact, 40, true));
        assert_eq!((event.error_code.as_deref(), event.findings.len(), event.coverage.scanned), (None, 1, 27));

        let completion = completed(&event, now, Outcome::Completed, 200, Duration::from_millis(2));
        assert_eq!((completion.id, completion.duration_us, completion.overhead_us), (event.id, 2000, 2000));
    }

    #[test]
    fn a_text_let_through_unscanned_says_so() {
        let mut event = received(Some(&caller()), RequestId::new(), Timestamp::from_micros(5), &"node-a".into());
        let mut inspection = redacting();
        inspection.verdict = Verdict::clean();
        inspection.coverage.scanned = 0;
        judged(&mut event, &inspection);
        assert_eq!((event.action, event.error_code.as_deref()), (Action::Allow, Some("guard_unavailable")));
    }

    #[test]
    fn the_answer_has_the_fields_that_applications_read() {
        let label = PolicyLabel { id: None, name: "support".into(), version: 7 };
        let policy = Compiler::new(&[]).compile(&PolicyDocument::default(), label).unwrap();
        let request_id = RequestId::new();
        let judges = Judges { acting: Arc::new(policy), beside: None };
        let answer = response(request_id, &judges, redacting(), Duration::from_micros(41));
        assert_eq!(
            serde_json::to_value(&answer).unwrap(),
            serde_json::json!({
                "blocked": false, "risk_score": 40, "pii_detected": true, "request_id": request_id.to_string(),
                "action": "redact", "categories": ["pii"],
                "findings": [{"detector": "pii", "rule_id": "pii.credit_card", "category": "pii", "type": "CREDIT_CARD",
                    "confidence": 0.5, "action": "redact", "start": 8, "end": 27}],
                "redacted_input": "card is [CREDIT_CARD]",
                "policy": {"name": "support", "version": 7, "canary": false}, "latency_us": 41,
            })
        );
    }

    #[test]
    fn a_long_user_id_is_cut_on_a_character() {
        assert_eq!(short("é".repeat(300)), "é".repeat(256));
        assert_eq!(short("customer_123".to_owned()), "customer_123");
    }
}
