//! `/policies/{id}/replay`: what a draft would have made of requests that are over, or would make of texts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Authorized, Input, Json, Path, WritePolicies};
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::domain::{PolicyId, Role, Sensitive, Timestamp, WorkspaceId};
use crate::policy::{
    self, CompiledPolicy, PolicyDocument, PolicyLabel, Preset, Replay, ReplayReport, ReplayRow, Replayed,
};
use crate::store::{PolicyRecord, ReplayedRows, ReviewedRule, StoreError, TenantTx};

/// Rows that one replay looks at.
const MOST_ROWS: u64 = 100_000;
const MOST_TEXTS: usize = 1000;
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(replay)).routes(routes!(texts))
}

/// Which requests are judged anew.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"days": 7}))]
pub struct ReplayRequest {
    /// A draft of this policy; without one, the version in force.
    draft_id: Option<PolicyId>,
    /// How far back.
    #[serde(default = "week")]
    #[schema(minimum = 1, maximum = 366, default = 7)]
    days: u16,
    /// All requests of one workspace, whichever policy judged them; without it, those that this policy judged.
    workspace_id: Option<WorkspaceId>,
}

const fn week() -> u16 {
    7
}

impl Input for ReplayRequest {}

/// Texts to be judged by a draft and the version in force.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"texts": [{"id": "a", "text": "My credit card is 4532-1234-5678-9010"}]}))]
pub struct ReplayTexts {
    /// A draft of this policy; without one, the version in force.
    draft_id: Option<PolicyId>,
    #[schema(min_items = 1, max_items = 1000)]
    texts: Vec<ReplayText>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayText {
    /// What the report calls it; its number without one.
    #[schema(max_length = 200)]
    id: Option<String>,
    #[schema(value_type = String)]
    text: Sensitive<String>,
    role: Option<Role>,
}

impl Input for ReplayTexts {
    const TAKES_NUL: bool = true;

    fn faults(&self) -> Vec<Fault> {
        if (1..=MOST_TEXTS).contains(&self.texts.len()) {
            return Vec::new();
        }
        vec![Fault::at("/texts", format!("takes 1 to {MOST_TEXTS} texts"))]
    }
}

/// What a replay of stored decisions found.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RowReplay {
    #[serde(flatten)]
    report: ReplayReport,
    from: Timestamp,
    /// False when there were more rows than a replay looks at: those since `looked_back_to` were.
    complete: bool,
    looked_back_to: Timestamp,
    /// What reviewers said of the rules that differ.
    reviewed: Vec<Reviewed>,
    /// Of the newly blocked requests, how many reviewers would probably call false positives: by rule, with the share that they
    /// found under this policy so far. Null where they have judged none of these rules.
    estimated_false_positives: Option<f64>,
}

/// What reviewers said of a rule under this policy.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Reviewed {
    rule_id: String,
    reviewed: u64,
    false_positives: u64,
}

impl From<ReviewedRule> for Reviewed {
    fn from(rule: ReviewedRule) -> Self {
        let ReviewedRule { rule_id, reviewed, false_positives } = rule;
        Self { rule_id, reviewed, false_positives }
    }
}

/// The version that judged a row, None for a preset, and its name.
type JudgedBy = (Option<PolicyId>, Option<String>);

/// A document with what it compiles to.
struct Version {
    policy: CompiledPolicy,
    document: PolicyDocument,
}

impl Version {
    fn of(api: &Api, label: PolicyLabel, document: &serde_json::Value) -> Result<Self, Problem> {
        let (read, label) = (policy::read(document), label);
        let document = read?;
        Ok(Self { policy: policy::compile(&document, label, &api.state.engine)?, document })
    }

    fn of_record(api: &Api, record: &PolicyRecord) -> Result<Self, Problem> {
        let label = PolicyLabel { id: Some(record.id), name: record.name.as_str().into(), version: record.version };
        Self::of(api, label, &record.document)
    }

    const fn replayed(&self) -> Replayed<'_> {
        Replayed { policy: &self.policy, document: &self.document }
    }
}

/// The version in force, and the draft that is asked about.
async fn versions(
    tx: &mut TenantTx,
    id: PolicyId,
    draft: Option<PolicyId>,
) -> Result<(PolicyRecord, PolicyRecord), Problem> {
    let live = tx.policies().find(id).await?.ok_or_else(Problem::not_found)?;
    let candidate = match draft {
        None => live.clone(),
        Some(draft) => {
            let draft = tx.policy_drafts().find(draft).await?.filter(|draft| draft.root_id == id);
            draft.ok_or(StoreError::Missing("draft_id"))?
        }
    };
    Ok((live, candidate))
}

/// Replay stored decisions
///
/// Judges the findings that the audit trail has kept by a draft, and tells what would newly be blocked or pass. Texts are not kept:
/// rules that the draft adds find nothing here (`unseen_rules`), and where it changes the allow list some requests are `uncertain`.
/// At most 100,000 requests, the newest.
#[utoipa::path(post, path = "/policies/{id}/replay", tag = "policies", operation_id = "replayPolicy",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "What would be otherwise", body = RowReplay),
))]
async fn replay(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Path(id): Path<PolicyId>,
    Json(body): Json<ReplayRequest>,
) -> Result<axum::Json<RowReplay>, Problem> {
    let mut tx = admin.read().await?;
    let (_, candidate) = versions(&mut tx, id, body.draft_id).await?;
    if let Some(workspace) = body.workspace_id {
        tx.workspaces().find(workspace).await?.ok_or(StoreError::Missing("workspace_id"))?;
    }
    drop(tx);
    let candidate = Version::of_record(&api, &candidate)?;
    let asked = serde_json::json!({ "draft_id": body.draft_id, "days": body.days, "workspace_id": body.workspace_id });
    admin.record(Act::new("policy.replay").on("policy", id.uuid()).with(&asked)).await?;

    let from = api.state.clock.now().minus(DAY * u32::from(body.days));
    let mut tx = admin.read().await?;
    let rows = ReplayedRows { from, workspace: body.workspace_id, root: id };
    let mut replay = Replay::of(candidate.replayed());
    let mut then: HashMap<JudgedBy, Option<Arc<Version>>> = HashMap::new();
    let (mut after, mut looked, mut complete) = (None, 0, true);
    loop {
        let page = tx.policy_rollouts().decisions(rows, after).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.occurred_at, last.id));
        for row in page {
            looked += 1;
            let key = (row.policy_id, row.policy_name);
            let judged_by = match then.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let known = known(&api, &mut tx, &key).await?.map(Arc::new);
                    then.insert(key, known.clone());
                    known
                }
            };
            let (id, at, workspace) = (row.id, row.occurred_at, row.workspace_id);
            let row = ReplayRow { id, at, workspace, action: row.action, findings: row.findings, answer: row.answer };
            replay.row(&row, judged_by.as_deref().map(Version::replayed).as_ref());
        }
        if looked >= MOST_ROWS {
            complete = false;
            break;
        }
    }
    let report = replay.report();
    let reviewed = tx.policy_rollouts().reviewed(id).await?;
    let estimated_false_positives = estimate(&report, &reviewed);
    let differs = |rule: &ReviewedRule| report.rules.iter().any(|other| *other.difference.rule_id == *rule.rule_id);
    let reviewed = reviewed.into_iter().filter(differs).map(Reviewed::from).collect();
    let looked_back_to = if complete { from } else { after.map_or(from, |(at, _)| at) };
    Ok(axum::Json(RowReplay { report, from, complete, looked_back_to, reviewed, estimated_false_positives }))
}

/// The version that judged a row; None when it is gone, or this release cannot read it.
async fn known(api: &Api, tx: &mut TenantTx, (id, name): &JudgedBy) -> Result<Option<Version>, Problem> {
    let label = PolicyLabel { id: *id, name: name.as_deref().unwrap_or_default().into(), version: 0 };
    let document = match id {
        Some(id) => tx.policy_rollouts().document(*id).await?,
        None => Preset::ALL
            .into_iter()
            .find(|preset| Some(preset.as_str()) == name.as_deref())
            .map(|preset| serde_json::json!({ "extends": preset })),
    };
    Ok(document.and_then(|document| Version::of(api, label, &document).ok()))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate; 2^52 requests are far away")]
fn estimate(report: &ReplayReport, reviewed: &[ReviewedRule]) -> Option<f64> {
    let of_rule = |rule: &policy::ReplayedRule| {
        if rule.difference.candidate_action != crate::domain::Action::Block {
            return None;
        }
        let known = reviewed.iter().find(|known| *known.rule_id == *rule.difference.rule_id && known.reviewed > 0)?;
        Some(rule.requests as f64 * known.false_positives as f64 / known.reviewed as f64)
    };
    report.rules.iter().filter_map(of_rule).reduce(|sum, more| sum + more)
}

/// Replay texts
///
/// Scans texts under the version in force and a draft, and tells what they make of them. The texts are not kept. Registered values
/// (`exact_data`) are not looked for here.
#[utoipa::path(post, path = "/policies/{id}/replay/texts", tag = "policies", operation_id = "replayTexts",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "What would be otherwise; `live_action` is what the version in force does", body = ReplayReport),
))]
async fn texts(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Path(id): Path<PolicyId>,
    Json(body): Json<ReplayTexts>,
) -> Result<axum::Json<ReplayReport>, Problem> {
    let mut tx = admin.read().await?;
    let (live, candidate) = versions(&mut tx, id, body.draft_id).await?;
    drop(tx);
    let (live, candidate) = (Version::of_record(&api, &live)?, Version::of_record(&api, &candidate)?);
    let asked = serde_json::json!({ "draft_id": body.draft_id, "texts": body.texts.len() });
    admin.record(Act::new("policy.replay").on("policy", id.uuid()).with(&asked)).await?;
    let engine = Arc::clone(&api.state.engine);
    let report = tokio::task::spawn_blocking(move || {
        let mut replay = Replay::of(candidate.replayed());
        for (number, text) in (1_u64..).zip(body.texts) {
            let ReplayText { id, text, role } = text;
            let id = || id.unwrap_or_else(|| number.to_string());
            replay.text(&engine, &live.policy, &text.into_inner(), role.unwrap_or(Role::User), id);
        }
        replay.report()
    });
    Ok(axum::Json(report.await.map_err(Problem::internal)?))
}
