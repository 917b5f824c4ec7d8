use std::time::Duration;

use sentinel::domain::{
    Action, AnswerRecord, ApiKeyId, AuditEvent, AuditFinding, AuditId, Category, Completion, Coverage, Detector,
    Direction, Erased, OrgId, Outcome, PolicyId, Role, Severity, SkipReason, Skipped, Source, Timestamp, View,
    ViewStop, Views, WorkspaceId,
};
use sentinel::store::{AuditFilter, AuditRow, DayCount};

use super::{DAY, START, World, all_pages, on_both_engines};

/// A row with every field set.
pub(super) fn full(org: OrgId, at: Timestamp) -> AuditRow {
    let id = AuditId::new();
    let event = AuditEvent {
        id,
        org_id: Some(org),
        workspace_id: Some(WorkspaceId::new()),
        api_key_id: Some(ApiKeyId::new()),
        occurred_at: at,
        node: "node-1".into(),
        source: Source::Gateway,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        dialect: Some("openai".into()),
        upstream: Some("openai".into()),
        model: Some("gpt-5 \u{1f600} 'quoted'".into()),
        user_id: Some("customer_123".into()),
        client_ip: Some("2001:db8::1".into()),
        policy_id: Some(PolicyId::new()),
        policy_name: Some("balanced".into()),
        policy_version: Some(7),
        action: Action::Redact,
        direction: Direction::Input,
        risk_score: 100,
        pii_detected: true,
        injection_detected: true,
        escalated: true,
        categories: vec![Category::PromptInjection, Category::Pii],
        findings: vec![AuditFinding {
            detector: Detector::Pii,
            rule_id: "pii.email_address".into(),
            category: Category::Pii,
            entity: "EMAIL_ADDRESS".into(),
            severity: Severity::Medium,
            confidence: 0.85,
            action: Action::Redact,
            direction: Direction::Input,
            role: Role::ToolDefinition,
            path: "messages[2].content[0].text".into(),
            start: 17,
            end: 33,
        }],
        coverage: Coverage {
            received: u64::from(u32::MAX) + 1,
            decoded: 2,
            scanned: 3,
            segments: 4,
            skipped: vec![Skipped { reason: SkipReason::DecoderLimit, path: "part".into(), bytes: 9 }],
            views: {
                let mut views = Views::default();
                views.read(View::Morse);
                views.stopped(View::Encoded, ViewStop::Depth);
                views
            },
        },
        error_code: Some("content_filter".into()),
    };
    let completion = Completion {
        id,
        completed_at: at.plus(Duration::from_micros(1_234_567)),
        outcome: Outcome::UpstreamFailed,
        status: 502,
        upstream_status: Some(500),
        duration_us: 1_234_567,
        overhead_us: 89,
        ttfb_us: Some(1_000),
        response_bytes: 4_096,
        input_tokens: Some(12),
        output_tokens: Some(34),
        error_code: Some("upstream_failed".into()),
        answer: Some(Box::new(AnswerRecord {
            action: Action::Redact,
            risk_score: 44,
            pii_detected: true,
            escalated: true,
            categories: event.categories.clone(),
            findings: event.findings.clone(),
            coverage: event.coverage.clone(),
        })),
    };
    AuditRow { event, completion: Some(completion), link: None, erased: Erased::default() }
}

/// A row with every optional field empty.
pub(super) fn bare(org: Option<OrgId>, at: Timestamp) -> AuditRow {
    let mut row = full(OrgId::new(), at);
    let event = &mut row.event;
    (event.org_id, event.workspace_id, event.api_key_id) = (org, None, None);
    (event.dialect, event.upstream, event.model) = (None, None, None);
    (event.user_id, event.client_ip, event.error_code) = (None, None, None);
    (event.policy_id, event.policy_name, event.policy_version) = (None, None, None);
    (event.pii_detected, event.injection_detected, event.escalated) = (false, false, false);
    (event.action, event.risk_score, event.source) = (Action::Allow, 0, Source::Process);
    (event.categories, event.findings, event.coverage) = (vec![], vec![], Coverage::default());
    AuditRow { completion: None, link: None, ..row }
}

async fn ship(world: &World, rows: &[AuditRow]) {
    world.store.ship_audit(rows).await.unwrap();
}

async fn find(world: &World, row: &AuditRow) -> Option<AuditRow> {
    let found = world.read().await.audit_logs().find(row.event.id).await.unwrap()?;
    assert_eq!(found.link.is_some(), found.completion.is_some());
    Some(AuditRow { link: None, ..found })
}

async fn list(world: &World, filter: AuditFilter) -> Vec<AuditId> {
    let mut tx = world.read().await;
    let rows = all_pages!(request => tx.audit_logs().list(&filter, &request));
    rows.iter().map(|row| row.event.id).collect()
}

on_both_engines! {
    async fn every_field_reads_back_as_it_was_shipped(world: World) {
        let org = world.acme.org_id;
        let mut rows = vec![full(org, START), bare(Some(org), START)];
        for (outcome, action) in [
            (Outcome::Completed, Action::Allow),
            (Outcome::Refused, Action::Flag),
            (Outcome::Blocked, Action::Redact),
            (Outcome::ClientClosed, Action::Block),
            (Outcome::Interrupted, Action::Block),
        ] {
            let mut row = full(org, START);
            (row.event.action, row.event.direction) = (action, Direction::Output);
            row.completion = row.completion.map(|done| Completion {
                outcome, upstream_status: None, ttfb_us: None, input_tokens: None, output_tokens: None, error_code: None, answer: None, ..done
            });
            rows.push(row);
        }
        ship(&world, &rows).await;
        for row in rows {
            assert_eq!(find(&world, &row).await.as_ref(), Some(&row));
        }
    }

    async fn rows_of_nobody_and_of_others_are_not_seen(world: World) {
        let (mine, theirs, nobodys) =
            (full(world.acme.org_id, START), full(world.other.org_id, START), bare(None, START));
        ship(&world, &[mine.clone(), theirs.clone(), nobodys.clone()]).await;
        assert_eq!(find(&world, &theirs).await, None);
        assert_eq!(find(&world, &nobodys).await, None);
        assert_eq!(list(&world, AuditFilter::default()).await, [mine.event.id]);
        assert_eq!(world.read().await.audit_logs().stats(START).await.unwrap().requests, 1);
    }

    async fn shipping_again_completes_and_never_doubles_or_takes_back(world: World) {
        let complete = full(world.acme.org_id, START);
        let running = AuditRow { completion: None, ..complete.clone() };
        let mut interrupted = complete.clone();
        interrupted.completion.as_mut().unwrap().outcome = Outcome::Interrupted;
        for (shipped, expected) in [
            (&running, &running),
            (&running, &running),
            (&complete, &complete),
            (&running, &complete),
            (&interrupted, &complete),
        ] {
            ship(&world, std::slice::from_ref(shipped)).await;
            assert_eq!(find(&world, &complete).await.as_ref(), Some(expected));
        }
        assert_eq!(list(&world, AuditFilter::default()).await.len(), 1);
    }

    async fn one_batch_may_hold_a_row_twice(world: World) {
        let complete = full(world.acme.org_id, START);
        let running = AuditRow { completion: None, ..complete.clone() };
        let (other, last) = (full(world.acme.org_id, START), bare(Some(world.acme.org_id), START));
        ship(&world, &[running.clone(), other.clone(), complete.clone(), running, last]).await;
        assert_eq!(find(&world, &complete).await.as_ref(), Some(&complete));
        assert_eq!(find(&world, &other).await, Some(other));
        assert_eq!(list(&world, AuditFilter::default()).await.len(), 3);
    }

    async fn batches_of_any_size_arrive_whole(world: World) {
        ship(&world, &[]).await;
        let mut shipped = 0;
        for size in [1u64, 7, 8, 9, 73, 585, 1_100] {
            let rows: Vec<AuditRow> = (0..size).map(|_| bare(Some(world.acme.org_id), START)).collect();
            ship(&world, &rows).await;
            shipped += size;
            assert_eq!(world.read().await.audit_logs().stats(START).await.unwrap().requests, shipped, "{size}");
        }
    }

    async fn rows_are_listed_newest_first_even_those_of_one_moment(world: World) {
        let mut rows: Vec<AuditRow> =
            (0..7u32).map(|n| bare(Some(world.acme.org_id), START.plus(Duration::from_secs(u64::from(n / 3))))).collect();
        ship(&world, &rows).await;
        rows.sort_by_key(|row| std::cmp::Reverse((row.event.occurred_at, row.event.id)));
        let expected: Vec<AuditId> = rows.iter().map(|row| row.event.id).collect();
        assert_eq!(list(&world, AuditFilter::default()).await, expected);
    }

    async fn a_filter_keeps_what_meets_all_its_conditions(world: World) {
        let org = world.acme.org_id;
        let old = bare(Some(org), START.minus(DAY));
        let (first, mut second) = (full(org, START), full(org, START.plus(DAY)));
        second.event.action = Action::Block;
        second.event.categories = vec![Category::Jailbreak];
        second.event.risk_score = 40;
        second.event.user_id = Some("other".into());
        // Its request was let pass, its answer was not.
        let mut third = full(org, START.plus(2 * DAY));
        (third.event.user_id, third.event.risk_score) = (Some("third".into()), 39);
        third.event.categories = vec![];
        for row in [&mut second, &mut third] {
            let done = row.completion.as_mut().unwrap();
            let answer = done.answer.as_mut().unwrap();
            answer.categories = vec![Category::PromptExtraction];
            answer.findings.clear();
            answer.coverage.skipped.clear();
        }
        third.completion.as_mut().unwrap().outcome = Outcome::Blocked;
        third.event.action = Action::Allow;
        ship(&world, &[old.clone(), first.clone(), second.clone(), third.clone()]).await;
        let (old, first, second, third) = (old.event, first.event, second.event, third.event);
        let all = AuditFilter::default();
        let cases = [
            (all.clone(), vec![third.id, second.id, first.id, old.id]),
            (AuditFilter { from: Some(START), ..all.clone() }, vec![third.id, second.id, first.id]),
            (AuditFilter { to: Some(START), ..all.clone() }, vec![old.id]),
            (AuditFilter { from: Some(START), to: Some(START.plus(DAY)), ..all.clone() }, vec![first.id]),
            (AuditFilter { workspace_id: first.workspace_id, ..all.clone() }, vec![first.id]),
            (AuditFilter { api_key_id: second.api_key_id, ..all.clone() }, vec![second.id]),
            (AuditFilter { user_id: Some("other".into()), ..all.clone() }, vec![second.id]),
            (AuditFilter { action: Some(Action::Block), ..all.clone() }, vec![third.id, second.id]),
            (AuditFilter { category: Some(Category::Pii), ..all.clone() }, vec![first.id]),
            (AuditFilter { category: Some(Category::PromptExtraction), ..all.clone() }, vec![third.id, second.id]),
            (AuditFilter { category: Some(Category::Secrets), ..all.clone() }, vec![]),
            (AuditFilter { min_risk_score: Some(40), ..all.clone() }, vec![second.id, first.id]),
            (AuditFilter { min_risk_score: Some(41), action: Some(Action::Block), ..all.clone() }, vec![]),
            // Times that the databases cannot write are as good as the ends of time.
            (
                AuditFilter {
                    from: Some(Timestamp::from_micros(i64::MIN)),
                    to: Some(Timestamp::from_micros(i64::MAX)),
                    ..all
                },
                vec![third.id, second.id, first.id, old.id],
            ),
        ];
        for (filter, expected) in cases {
            assert_eq!(list(&world, filter.clone()).await, expected, "{filter:?}");
        }
    }

    async fn statistics_count_by_verdict_and_day(world: World) {
        let org = world.acme.org_id;
        let mut rows = vec![bare(Some(org), START.minus(DAY)), full(org, START), bare(Some(org), START.plus(DAY))];
        for (action, risk_score) in [(Action::Block, 90), (Action::Flag, 10)] {
            let mut row = bare(Some(org), START);
            (row.event.action, row.event.risk_score) = (action, risk_score);
            rows.push(row);
        }
        ship(&world, &rows).await;
        let stats = world.read().await.audit_logs().stats(START).await.unwrap();
        assert_eq!((stats.requests, stats.blocked, stats.redacted, stats.flagged), (4, 1, 1, 1));
        assert_eq!((stats.pii_detected, stats.injections_detected), (1, 1));
        assert!((stats.average_risk_score - 50.0).abs() < f64::EPSILON, "{}", stats.average_risk_score);
        let day = |day: &str, requests, blocked| DayCount { day: day.into(), requests, blocked };
        assert_eq!(stats.by_day, [day("2026-03-01", 3, 1), day("2026-03-02", 1, 0)]);
        let none = world.other().await.audit_logs().stats(START).await.unwrap();
        assert_eq!((none.requests, none.by_day.len()), (0, 0));
    }
}
