//! The request that benches of the audit trail record.

use sentinel::domain::{
    Action, AuditEvent, AuditFinding, AuditId, Category, Completion, Coverage, Detector, Direction, Outcome, Role,
    Severity, Source, Timestamp,
};

pub const AT: Timestamp = Timestamp::from_micros(1_790_000_000_123_456);

/// A request with two findings.
pub fn event() -> AuditEvent {
    let finding = AuditFinding {
        detector: Detector::Pii,
        rule_id: "pii.email_address".to_owned(),
        category: Category::Pii,
        entity: "EMAIL_ADDRESS".to_owned(),
        severity: Severity::Low,
        confidence: 0.85,
        action: Action::Flag,
        direction: Direction::Input,
        role: Role::User,
        path: "messages[1].content".to_owned(),
        start: 120,
        end: 141,
    };
    AuditEvent {
        id: AuditId::new(),
        org_id: None,
        workspace_id: None,
        api_key_id: None,
        occurred_at: AT,
        node: "0199e0d2-7f6b-7c3a-9d2e-4f5a6b7c8d9e".into(),
        source: Source::Gateway,
        method: "POST".into(),
        path: "/v1/chat/completions".to_owned(),
        dialect: Some("openai".into()),
        upstream: Some("openai".into()),
        model: Some("a-large-model".to_owned()),
        user_id: Some("user-4711".to_owned()),
        client_ip: Some("192.0.2.17".to_owned()),
        policy_id: None,
        policy_name: Some("balanced".into()),
        policy_version: Some(7),
        action: Action::Flag,
        direction: Direction::Input,
        risk_score: 20,
        pii_detected: true,
        injection_detected: false,
        escalated: false,
        categories: vec![Category::Pii],
        findings: vec![finding.clone(), finding],
        coverage: Coverage { received: 2048, decoded: 2048, scanned: 1900, segments: 3, ..Coverage::default() },
        error_code: None,
    }
}

/// Its end.
pub fn completion(id: AuditId) -> Completion {
    Completion {
        id,
        completed_at: AT,
        outcome: Outcome::Completed,
        status: 200,
        upstream_status: Some(200),
        duration_us: 812_345,
        overhead_us: 87,
        ttfb_us: Some(312_000),
        response_bytes: 4711,
        input_tokens: Some(512),
        output_tokens: Some(128),
        error_code: None,
        answer: None,
    }
}
