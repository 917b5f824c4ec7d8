//! Every condition of a search: what it finds, and that an index leads there.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel::domain::{Action, ApiKeyId, AuditId, Category, Outcome, PolicyId, Timestamp, WorkspaceId};
use sentinel::store::{AuditFilter, AuditRow, EventColumn, PageRequest, Sort};
use sqlx::{Connection as _, SqliteConnection};

use super::audit_logs::{bare, full};
use super::{START, World, on_both_engines};

const HOUR: Duration = Duration::from_secs(3600);

/// Rows of two organizations, a minute apart; a tenth of ours has findings.
async fn trail(world: &World, count: u64) -> Vec<AuditRow> {
    let workspaces = [WorkspaceId::new(), WorkspaceId::new(), WorkspaceId::new()];
    let keys: Vec<ApiKeyId> = (0..7).map(|_| ApiKeyId::new()).collect();
    let policies = [PolicyId::new(), PolicyId::new()];
    let pick = |n: u64, of: usize| usize::try_from(n).unwrap() % of;
    let row = |n: u64| {
        let at = START.plus(Duration::from_secs(60 * n));
        let found = n.is_multiple_of(10);
        let org = world.acme.org_id;
        let mut row = if found { full(org, at) } else { bare(Some(org), at) };
        let event = &mut row.event;
        event.workspace_id = Some(workspaces[pick(n, 3)]);
        event.api_key_id = Some(keys[pick(n, 7)]);
        event.user_id = (!n.is_multiple_of(3)).then(|| format!("user-{}", n % 101));
        event.model = Some(format!("model-{}", n % 11));
        event.upstream = Some(["openai", "anthropic", "vllm"][pick(n, 3)].into());
        event.policy_id = Some(policies[pick(n, 2)]);
        event.policy_version = Some(i64::try_from(1 + n / (count / 4 + 1)).unwrap());
        if found {
            event.action = [Action::Flag, Action::Redact, Action::Block][pick(n / 10, 3)];
            event.risk_score = u8::try_from(40 + n / 10 % 61).unwrap();
            event.categories = vec![[Category::Pii, Category::Secrets, Category::Jailbreak][pick(n / 10, 3)]];
            event.findings[0].rule_id = format!("rule.{}", n / 10 % 13);
            let done = row.completion.as_mut().unwrap();
            done.outcome = if (n / 10).is_multiple_of(17) { Outcome::Blocked } else { Outcome::Completed };
            let answer = done.answer.as_mut().unwrap();
            answer.categories = vec![Category::PromptExtraction];
            answer.findings[0].rule_id = format!("answer.{}", n / 10 % 2);
            answer.coverage.skipped.clear();
        }
        row
    };
    let rows: Vec<AuditRow> = (0..count).map(row).collect();
    for some in rows.chunks(500) {
        let theirs = |row: &AuditRow| {
            let mut row = row.clone();
            (row.event.id, row.event.org_id) = (AuditId::new(), Some(world.other.org_id));
            if let Some(done) = &mut row.completion {
                done.id = row.event.id;
            }
            row
        };
        world.store.ship_audit(some).await.unwrap();
        world.store.ship_audit(&some.iter().map(theirs).collect::<Vec<_>>()).await.unwrap();
    }
    rows
}

/// What the database knows of its tables when it has had the time to look.
async fn analyze(world: &World) {
    let url = world.database.config().url;
    if url.starts_with("sqlite") {
        let mut file = SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("ANALYZE").execute(&mut file).await.unwrap();
    } else {
        sqlx::query("VACUUM ANALYZE").execute(&mut world.database.admin().await).await.unwrap();
    }
}

/// Every condition by itself, and some together, made to fit the row.
fn filters(row: &AuditRow, span: Duration) -> Vec<(&'static str, AuditFilter)> {
    let event = &row.event;
    let from = event.occurred_at.minus(span);
    let all = AuditFilter { from: Some(from), to: Some(event.occurred_at.plus(span)), ..AuditFilter::default() };
    let hour = AuditFilter { from: Some(event.occurred_at.minus(HOUR)), ..all.clone() };
    let with = |change: &dyn Fn(&mut AuditFilter)| {
        let mut filter = all.clone();
        change(&mut filter);
        filter
    };
    let policy = |filter: &mut AuditFilter| {
        (filter.policy_id, filter.policy_version) = (event.policy_id, event.policy_version);
    };
    let category = event.categories.first().copied();
    let rule = event.findings.first().map(|finding| finding.rule_id.clone());
    vec![
        ("everything", all.clone()),
        ("time", hour.clone()),
        ("id", with(&|filter| filter.id = Some(event.id))),
        ("user", with(&|filter| filter.user_id.clone_from(&event.user_id))),
        ("nobody", with(&|filter| filter.user_id = Some("nobody".to_owned()))),
        ("workspace", with(&|filter| filter.workspace_id = event.workspace_id)),
        ("key", with(&|filter| filter.api_key_id = event.api_key_id)),
        ("model", with(&|filter| filter.model.clone_from(&event.model))),
        ("upstream", with(&|filter| filter.upstream = event.upstream.as_deref().map(str::to_owned))),
        ("policy", with(&policy)),
        ("policy, any version", with(&|filter| filter.policy_id = event.policy_id)),
        ("action", with(&|filter| filter.action = Some(event.action))),
        ("block", with(&|filter| filter.action = Some(Action::Block))),
        ("category", with(&|filter| filter.category = category)),
        ("category of answers", with(&|filter| filter.category = Some(Category::PromptExtraction))),
        ("rule", with(&|filter| filter.rule_id.clone_from(&rule))),
        ("rule of answers", with(&|filter| filter.rule_id = Some("answer.1".to_owned()))),
        ("unknown rule", with(&|filter| filter.rule_id = Some("rule".to_owned()))),
        ("risk from 80", with(&|filter| filter.min_risk_score = Some(80))),
        ("risk from 93", with(&|filter| filter.min_risk_score = Some(93))),
        ("risk to 45", with(&|filter| (filter.min_risk_score, filter.max_risk_score) = (Some(41), Some(45)))),
        (
            "user and model",
            with(&|filter| {
                (filter.user_id, filter.model) = (event.user_id.clone(), event.model.clone());
            }),
        ),
        (
            "rule, category, action, risk, workspace",
            with(&|filter| {
                (filter.rule_id, filter.category, filter.action) = (rule.clone(), category, Some(event.action));
                (filter.min_risk_score, filter.workspace_id) = (Some(event.risk_score.min(50)), event.workspace_id);
            }),
        ),
        ("category and time", AuditFilter { category, ..hour }),
    ]
}

fn meets(row: &AuditRow, filter: &AuditFilter) -> bool {
    let event = &row.event;
    let done = row.completion.as_ref();
    let answer = done.and_then(|done| done.answer.as_deref());
    let blocked = done.is_some_and(|done| done.outcome == Outcome::Blocked);
    let mut rules = event.findings.iter().chain(answer.iter().flat_map(|answer| &answer.findings));
    let mut categories = event.categories.iter().chain(answer.iter().flat_map(|answer| &answer.categories));
    let is = |wanted: &Option<String>, value: Option<&str>| wanted.is_none() || wanted.as_deref() == value;
    filter.from.is_none_or(|from| event.occurred_at >= from)
        && filter.to.is_none_or(|to| event.occurred_at < to)
        && (filter.id.is_none() || filter.id == Some(event.id))
        && is(&filter.user_id, event.user_id.as_deref())
        && is(&filter.model, event.model.as_deref())
        && is(&filter.upstream, event.upstream.as_deref())
        && (filter.workspace_id.is_none() || filter.workspace_id == event.workspace_id)
        && (filter.api_key_id.is_none() || filter.api_key_id == event.api_key_id)
        && (filter.policy_id.is_none() || filter.policy_id == event.policy_id)
        && (filter.policy_version.is_none() || filter.policy_version == event.policy_version)
        && filter.action.is_none_or(|action| event.action == action || action == Action::Block && blocked)
        && filter.category.is_none_or(|wanted| categories.any(|category| *category == wanted))
        && filter.rule_id.as_ref().is_none_or(|wanted| rules.any(|finding| finding.rule_id == *wanted))
        && filter.min_risk_score.is_none_or(|least| event.risk_score >= least)
        && filter.max_risk_score.is_none_or(|most| event.risk_score <= most)
}

fn starts(rows: &[&AuditRow]) -> Vec<(Timestamp, u64)> {
    let width = i64::try_from(HOUR.as_micros()).unwrap();
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(Timestamp::from_micros(row.event.occurred_at.micros() / width * width)).or_default() += 1;
    }
    counts.into_iter().collect()
}

async fn listed(world: &World, filter: &AuditFilter) -> Vec<AuditId> {
    let (mut tx, mut found) = (world.read().await, Vec::new());
    let mut page = PageRequest { limit: 190, cursor: None };
    loop {
        let rows = tx.audit_logs().list(filter, &page).await.unwrap();
        found.extend(rows.data.iter().map(|row| row.event.id));
        match rows.next_cursor {
            Some(next) => page.cursor = Some(next),
            None => return found,
        }
    }
}

/// No plan reads a whole table. `unweighed`: the database knows nothing of the rows yet, and takes the index that was meant.
async fn plans(world: &World, row: &AuditRow, unweighed: bool) {
    for (name, filter) in filters(row, 24 * HOUR) {
        let page = PageRequest { limit: 50, cursor: None };
        let listed = world.read().await.audit_logs().plan_of_list(&filter, &page).await.unwrap().join("\n");
        let counted = world.read().await.audit_logs().plan_of_histogram(&filter).await.unwrap().join("\n");
        // SQLite's words.
        let weighs = !listed.contains("SEARCH");
        if weighs && unweighed {
            continue;
        }
        for plan in [&listed, &counted] {
            for scan in ["Seq Scan", "SCAN audit_logs", "SCAN audit_terms", "SCAN x"] {
                assert!(!plan.contains(scan), "{name}:\n{plan}");
            }
            assert!(plan.contains("Index") || plan.contains("USING"), "{name}:\n{plan}");
        }
        let index = match name {
            "everything" | "time" | "policy, any version" => "audit_logs_page",
            "id" => "sqlite_autoindex_audit_logs_1",
            "user" | "nobody" | "user and model" => "audit_logs_user",
            "workspace" => "audit_logs_workspace",
            "key" => "audit_logs_api_key",
            "model" => "audit_logs_model",
            "upstream" => "audit_logs_upstream",
            "policy" => "audit_logs_policy",
            "risk to 45" => "audit_logs_page",
            _ => "SEARCH audit_terms USING PRIMARY KEY",
        };
        if unweighed {
            assert!(listed.contains(index) && counted.contains(index), "{name}:\n{listed}\n{counted}");
            assert!(!listed.contains("USE TEMP B-TREE"), "a page ends where it is full: {name}:\n{listed}");
        }
    }
}

on_both_engines! {
    async fn each_condition_finds_and_counts_the_rows_that_meet_it(world: World) {
        let rows = trail(&world, 2_000).await;
        for chosen in [&rows[1_210], &rows[1_000]] {
            for (name, filter) in filters(chosen, 1000 * HOUR) {
                let mut expected: Vec<&AuditRow> = rows.iter().filter(|row| meets(row, &filter)).collect();
                let found = world.read().await.audit_logs().histogram(&filter, HOUR).await.unwrap();
                let found: Vec<(Timestamp, u64)> = found.iter().map(|count| (count.start, count.requests)).collect();
                assert_eq!(found, starts(&expected), "{name}");
                for descending in [false, true] {
                    expected.sort_by_key(|row| (row.event.occurred_at, row.event.id));
                    if descending {
                        expected.reverse();
                    }
                    let filter = AuditFilter { sort: Sort { by: EventColumn::OccurredAt, descending }, ..filter.clone() };
                    let expected: Vec<AuditId> = expected.iter().map(|row| row.event.id).collect();
                    assert_eq!(listed(&world, &filter).await, expected, "{name}");
                }
            }
        }
    }

    async fn an_index_leads_to_what_each_condition_asks_for(world: World) {
        let rows = trail(&world, 12_000).await;
        plans(&world, &rows[7_000], true).await;
        analyze(&world).await;
        plans(&world, &rows[7_000], false).await;
    }
}
