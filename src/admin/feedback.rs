//! `/audit-logs/{id}/feedback`: what reviewers say of what was found in a request.

use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Authorized, Input, Json, Path, ReadAudit, ReviewAudit};
use super::problem::{Fault, Problem};
use super::trail::{Act, WriteTx};
use crate::domain::{Action, AuditId, PolicyId, Timestamp, UserId};
use crate::policy::{self, PolicyLabel};
use crate::store::{AuditRow, DraftOf, FeedbackRecord, FeedbackVerdict, NewPolicy, PolicyRecord};

/// How long a proposed exception lasts unless its draft is edited.
const LASTS: Duration = Duration::from_secs(90 * 86_400);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, give))
}

/// Whether what was acted upon was there.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"verdict": "false_positive", "comment": "a number of a form, no card"}))]
pub struct FeedbackInput {
    verdict: FeedbackVerdict,
    /// The rule that is meant; all that acted when nothing is said.
    #[schema(max_length = 200, example = "pii.credit_card")]
    rule_id: Option<String>,
    #[schema(max_length = 500)]
    comment: Option<String>,
    /// Of a false positive: what was found, in full, which the trail does not keep. With it a draft of the policy is proposed in
    /// whose allow list it stands for this rule, for 90 days.
    #[schema(max_length = 1000)]
    text: Option<String>,
}

impl Input for FeedbackInput {
    fn faults(&self) -> Vec<Fault> {
        match (self.verdict, &self.text) {
            (FeedbackVerdict::TruePositive, Some(_)) => {
                vec![Fault::at("/text", "is for false positives: a true one is no exception")]
            }
            (_, Some(text)) if text.trim().is_empty() => vec![Fault::at("/text", "is empty")],
            _ => Vec::new(),
        }
    }
}

/// What was said about one rule in a request.
#[derive(Serialize, utoipa::ToSchema)]
pub struct FeedbackItem {
    #[schema(example = "pii.credit_card")]
    rule_id: String,
    verdict: FeedbackVerdict,
    comment: Option<String>,
    /// The version of the policy that judged; null for a preset.
    policy_version_id: Option<PolicyId>,
    created_by: Option<UserId>,
    created_at: Timestamp,
}

impl From<FeedbackRecord> for FeedbackItem {
    fn from(record: FeedbackRecord) -> Self {
        Self {
            rule_id: record.rule_id,
            verdict: record.verdict,
            comment: record.comment,
            policy_version_id: record.policy_id,
            created_by: record.created_by,
            created_at: record.created_at,
        }
    }
}

/// What is kept, by rule.
#[derive(Serialize, utoipa::ToSchema)]
pub struct FeedbackAnswer {
    data: Vec<FeedbackItem>,
    /// The draft that proposes an exception; null when no text was given, or no stored policy judged.
    draft_id: Option<PolicyId>,
}

/// Feedback on a request
#[utoipa::path(get, path = "/audit-logs/{id}/feedback", tag = "audit", operation_id = "listFeedback",
    security(("session" = ["audit:read"])), params(("id" = AuditId, Path)), responses(
    (status = 200, description = "By rule", body = FeedbackAnswer),
))]
async fn list(admin: Authorized<ReadAudit>, Path(id): Path<AuditId>) -> Result<axum::Json<FeedbackAnswer>, Problem> {
    let mut tx = admin.read().await?;
    tx.audit_logs().find(id).await?.ok_or_else(Problem::not_found)?;
    let data = tx.feedback().of(id).await?.into_iter().map(FeedbackItem::from).collect();
    drop(tx);
    admin.record(Act::new("audit_feedback.read").on("audit_log", id.uuid())).await?;
    Ok(axum::Json(FeedbackAnswer { data, draft_id: None }))
}

/// Say whether a finding was right
///
/// Counts for the version of the policy that judged. What is said again replaces what was said before. A false positive with its
/// `text` proposes an exception, as a draft that others can look at before it is published.
#[utoipa::path(post, path = "/audit-logs/{id}/feedback", tag = "audit", operation_id = "giveFeedback",
    security(("session" = ["audit:review"])), params(("id" = AuditId, Path)), responses(
    (status = 200, description = "What is kept", body = FeedbackAnswer),
))]
async fn give(
    admin: Authorized<ReviewAudit>,
    State(api): State<Api>,
    Path(id): Path<AuditId>,
    Json(body): Json<FeedbackInput>,
) -> Result<axum::Json<FeedbackAnswer>, Problem> {
    let mut tx = admin.write().await?;
    let row = tx.audit_logs().find(id).await?.ok_or_else(Problem::not_found)?;
    let mut rules = acted(&row);
    if let Some(wanted) = &body.rule_id {
        rules.retain(|rule| rule == wanted);
    }
    if rules.is_empty() {
        return Err(Problem::validation(vec![Fault::at("/rule_id", "no such rule acted in this request")]));
    }
    let (comment, by) = (body.comment.as_deref(), &admin.session.user);
    let kept = tx.feedback().put(id, row.event.policy_id, &rules, body.verdict, comment, by.id).await?;
    let draft_id = match (&body.text, rules.as_slice()) {
        (None, _) => None,
        (Some(text), [rule]) => {
            let entry = json!({"rule": rule, "text": text, "owner": by.email, "reason": body.comment,
                "expires_at": api.state.clock.now().plus(LASTS)});
            propose(&mut tx, &api, row.event.policy_id, entry, by.id).await?
        }
        (Some(_), _) => {
            let detail = format!("is needed with a text; these acted: {}", rules.join(", "));
            return Err(Problem::validation(vec![Fault::at("/rule_id", detail)]));
        }
    };
    let answer = FeedbackAnswer { data: kept.into_iter().map(FeedbackItem::from).collect(), draft_id };
    tx.commit(Act::new("audit_feedback.create").on("audit_log", id.uuid()).with(&answer)).await?;
    Ok(axum::Json(answer))
}

/// The rules that something was done about, in the request or in its answer.
fn acted(row: &AuditRow) -> Vec<String> {
    let answer = row.completion.as_ref().and_then(|done| done.answer.as_ref());
    let findings = row.event.findings.iter().chain(answer.iter().flat_map(|answer| &answer.findings));
    let acted = findings.filter(|finding| finding.action != Action::Allow);
    let mut rules: Vec<String> = acted.map(|finding| finding.rule_id.clone()).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// Adds an entry to the allow list of the policy's open proposal, or of a new one on the version in force.
async fn propose(
    tx: &mut WriteTx,
    api: &Api,
    version: Option<PolicyId>,
    entry: Value,
    by: UserId,
) -> Result<Option<PolicyId>, Problem> {
    let Some(version) = version else { return Ok(None) };
    let Some(judged) = tx.policies().by_id(version).await? else { return Ok(None) };
    let root = judged.root_id;
    let Some(current) = tx.policies().find(root).await? else { return Ok(None) };
    let open = tx.policy_drafts().open_proposal(root).await?;
    let base = open.as_ref().unwrap_or(&current);
    let Some(document) = with_exception(base, &entry, api.state.clock.now()) else {
        return Ok(open.map(|open| open.id));
    };
    let label = PolicyLabel { id: None, name: base.name.as_str().into(), version: 0 };
    policy::compile_text(&document.to_string(), label, &api.state.engine).map_err(|faults| {
        let fault = |fault: policy::CompileError| Fault::at("/text", format!("makes no exception: {fault}"));
        Problem::validation(faults.into_iter().map(fault).collect())
    })?;
    let policy = NewPolicy {
        id: PolicyId::new(),
        name: base.name.clone(),
        description: base.description.clone(),
        document,
        is_default: base.is_default,
        comment: Some("exceptions from reviewers' feedback".to_owned()),
        created_by: Some(by),
    };
    let draft = match &open {
        Some(open) => tx.policy_drafts().edit(open.id, open.revision, policy).await?,
        None => Some(tx.policy_drafts().insert(DraftOf::Proposal(root), policy).await?),
    };
    Ok(draft.map(|draft| draft.id))
}

/// The document with the entry, in the place of one that has ended; None when its allow list covers that already.
fn with_exception(base: &PolicyRecord, entry: &Value, now: Timestamp) -> Option<Value> {
    let mut document = base.document.clone();
    let list = document.as_object_mut()?.entry("allow_list").or_insert_with(|| json!([])).as_array_mut()?;
    let same = |other: &Value| ["rule", "text"].iter().all(|name| other.get(name) == entry.get(name));
    let ended = |other: &Value| {
        let end = other.get("expires_at").and_then(|end| Timestamp::deserialize(end).ok());
        end.is_some_and(|end| end <= now)
    };
    if list.iter().any(|other| same(other) && !ended(other)) {
        return None;
    }
    list.retain(|other| !same(other));
    list.push(entry.clone());
    Some(document)
}
