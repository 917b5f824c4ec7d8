//! `/policies/{id}/…`: what differs between versions, going back to one, trying a policy out, and policies as code.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::Tagged;
use super::extract::{Authorized, Input, Json, Path, Paths, Query, ReadPolicies, WritePolicies};
use super::policies::{Policy, policy_name_faults};
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::domain::PolicyId;
use crate::policy::{
    self, ApplyError, ApplyOutcome, CaseResult, Expected, PolicyCase, PolicyChange, PolicyDocument, PolicyLabel,
    Stated, Wanted,
};
use crate::store::{PolicyRecord, RuleImpact, StoreError, TenantTx};

/// Cases of one request.
const MAX_CASES: usize = 200;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(version))
        .routes(routes!(diff))
        .routes(routes!(roll_back))
        .routes(routes!(test))
        .routes(routes!(apply))
        .routes(routes!(impact))
}

/// What differs between two policies; what is written in another way but means the same does not.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PolicyDiff {
    /// The earlier version; null for a policy that says nothing.
    from: Option<i64>,
    /// The later version; null for a draft.
    to: Option<i64>,
    changes: Vec<PolicyChange>,
}

impl PolicyDiff {
    pub(super) fn between(from: Option<&PolicyRecord>, to: &PolicyRecord) -> Self {
        Self {
            from: from.map(|from| from.version),
            to: (!to.is_draft).then_some(to.version),
            changes: policy::diff(from.map(Stated::from), Stated::from(to)),
        }
    }
}

/// One version of a policy
#[utoipa::path(get, path = "/policies/{id}/versions/{version}", tag = "policies", operation_id = "getPolicyVersion",
    security(("session" = ["policies:read"])),
    params(("id" = PolicyId, Path), ("version" = i64, Path, minimum = 1)), responses(
    (status = 200, description = "The version; it never changes", body = Policy),
))]
async fn version(
    admin: Authorized<ReadPolicies>,
    Paths(id, version): Paths<PolicyId, i64>,
) -> Result<axum::Json<Policy>, Problem> {
    let mut tx = admin.read().await?;
    tx.policies().find(id).await?.ok_or_else(Problem::not_found)?;
    let record = tx.policies().version(id, version).await?.ok_or_else(Problem::not_found)?;
    Ok(axum::Json(record.into()))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    /// The earlier version; the one that `to` replaced when nothing is said.
    #[param(minimum = 1)]
    from: Option<i64>,
    /// The later version; the one in force when nothing is said.
    #[param(minimum = 1)]
    to: Option<i64>,
}

async fn named(tx: &mut TenantTx, id: PolicyId, name: &str, version: i64) -> Result<PolicyRecord, Problem> {
    let found = tx.policies().version(id, version).await?;
    found.ok_or_else(|| Problem::query(vec![Fault::parameter(name, "is no version of this policy")]))
}

/// What differs between two versions
///
/// Setting by setting, each with its JSON pointer and a line for people.
#[utoipa::path(get, path = "/policies/{id}/diff", tag = "policies", operation_id = "diffPolicy",
    security(("session" = ["policies:read"])), params(("id" = PolicyId, Path), DiffQuery), responses(
    (status = 200, description = "The differences", body = PolicyDiff),
))]
async fn diff(
    admin: Authorized<ReadPolicies>,
    Path(id): Path<PolicyId>,
    Query(query): Query<DiffQuery>,
) -> Result<axum::Json<PolicyDiff>, Problem> {
    let mut tx = admin.read().await?;
    let current = tx.policies().find(id).await?.ok_or_else(Problem::not_found)?;
    let to = match query.to {
        Some(version) => named(&mut tx, id, "to", version).await?,
        None => current,
    };
    let from = match (query.from, to.parent_policy_id) {
        (Some(version), _) => Some(named(&mut tx, id, "from", version).await?),
        (None, Some(parent)) => tx.policies().by_id(parent).await?,
        (None, None) => None,
    };
    Ok(axum::Json(PolicyDiff::between(from.as_ref(), &to)))
}

/// Which version to go back to.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"version": 1, "comment": "blocks too much"}))]
pub struct PolicyRollback {
    /// The one that the version in force replaced when nothing is said.
    #[schema(minimum = 1)]
    version: Option<i64>,
    /// Why.
    #[schema(max_length = 1000)]
    comment: Option<String>,
}

impl Input for PolicyRollback {}

/// Go back to an earlier version
///
/// Makes a new version equal to that one, in force on the next request. Needs no approval, since that version was in force.
#[utoipa::path(post, path = "/policies/{id}/rollback", tag = "policies", operation_id = "rollbackPolicy",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "The new version", body = Policy),
    (status = 409, description = "The name that it had is in use"),
))]
async fn roll_back(
    admin: Authorized<WritePolicies>,
    Path(id): Path<PolicyId>,
    Json(body): Json<PolicyRollback>,
) -> Result<Tagged<Policy>, Problem> {
    let mut tx = admin.write().await?;
    let by = Some(admin.session.user.id);
    let rolled = tx.policies().roll_back(id, body.version, body.comment, by).await?.ok_or_else(Problem::not_found)?;
    let (old, record) = (Policy::from(rolled.0), Policy::from(rolled.1));
    tx.commit(Act::new("policy.rollback").on("policy", id.uuid()).changed(&old, &record)).await?;
    Ok(Tagged(StatusCode::OK, record))
}

/// Texts, and what is to be done about them.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"cases": [{"name": "a harmless question", "input": "What is the weather like?",
    "role": "user", "expect": {"action": "allow"}}]}))]
pub struct PolicyTest {
    #[schema(min_items = 1, max_items = 200)]
    cases: Vec<PolicyCase>,
    /// A document to be tried in the place of the policy's.
    #[schema(value_type = Option<PolicyDocument>)]
    document: Option<serde_json::Value>,
    /// The version to be tried; the one in force when nothing is said.
    #[schema(minimum = 1)]
    version: Option<i64>,
}

impl Input for PolicyTest {
    const OPAQUE: &'static [&'static str] = &["/document"];
    const TAKES_NUL: bool = true;

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !(1..=MAX_CASES).contains(&self.cases.len()) {
            faults.push(Fault::at("/cases", format!("takes 1 to {MAX_CASES} cases")));
        }
        for (index, _) in self.cases.iter().enumerate().filter(|(_, case)| case.expect == Expected::default()) {
            let detail = "expects nothing: give `action`, `category` or `escalate`";
            faults.push(Fault::at(format!("/cases/{index}/expect"), detail));
        }
        faults
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct PolicyTestReport {
    passed: usize,
    failed: usize,
    results: Vec<CaseResult>,
}

/// Try a policy out
///
/// Runs texts through a policy, or a document in its place, and compares what it does with what is expected. Changes nothing,
/// and keeps no text. Sets of registered values find nothing here.
#[utoipa::path(post, path = "/policies/{id}/test", tag = "policies", operation_id = "testPolicy",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "What came of each case", body = PolicyTestReport),
))]
async fn test(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Path(id): Path<PolicyId>,
    Json(body): Json<PolicyTest>,
) -> Result<axum::Json<PolicyTestReport>, Problem> {
    let mut tx = admin.read().await?;
    let current = tx.policies().find(id).await?.ok_or_else(Problem::not_found)?;
    let policy = match body.version {
        Some(version) => tx.policies().version(id, version).await?.ok_or(StoreError::Missing("version"))?,
        None => current,
    };
    drop(tx);
    let label = PolicyLabel { id: None, name: policy.name.into(), version: policy.version };
    let document = body.document.unwrap_or(policy.document);
    let compiled = policy::compile_text(&document.to_string(), label, &api.state.engine)?;
    let engine = Arc::clone(&api.state.engine);
    let running = tokio::task::spawn_blocking(move || policy::run_cases(&engine, &compiled, &body.cases));
    let results = running.await.map_err(Problem::internal)?;
    let passed = results.iter().filter(|result| result.passed).count();
    let failed = results.len() - passed;
    let counts = json!({"passed": passed, "failed": failed});
    admin.record(Act::new("policy.test").on("policy", id.uuid()).with(&counts)).await?;
    Ok(axum::Json(PolicyTestReport { passed, failed, results }))
}

/// A policy as it is to be; what is missing stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "support desk", "document": {"extends": "balanced", "rules": {"pii": {"action": "redact"}}},
    "comment": "from the repository", "dry_run": false}))]
pub struct PolicyApply {
    /// Which policy it is; upper and lower case are the same.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    #[schema(max_length = 1000)]
    description: Option<String>,
    #[schema(value_type = PolicyDocument)]
    document: serde_json::Value,
    is_default: Option<bool>,
    /// Why.
    #[schema(max_length = 1000)]
    comment: Option<String>,
    /// Leave a draft instead of putting it in force.
    #[serde(default)]
    draft: bool,
    /// Tell what would change, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

impl Input for PolicyApply {
    const OPAQUE: &'static [&'static str] = &["/document"];

    fn faults(&self) -> Vec<Fault> {
        policy_name_faults(&self.name)
    }
}

/// What was done, or would be.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PolicyApplied {
    outcome: ApplyOutcome,
    /// Against what was in force.
    changes: Vec<PolicyChange>,
    /// The policy as it is now; null after a dry run.
    policy: Option<Policy>,
}

/// Apply a policy
///
/// Makes the policy with that name what is sent, and nothing when it is: for policies that are kept as files. So it can be
/// repeated.
#[utoipa::path(post, path = "/policies/apply", tag = "policies", operation_id = "applyPolicy",
    security(("session" = ["policies:write"])), responses(
    (status = 200, description = "What was done", body = PolicyApplied),
    (status = 409, description = "The organization wants a draft and an approval"),
))]
async fn apply(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Json(body): Json<PolicyApply>,
) -> Result<axum::Json<PolicyApplied>, Problem> {
    let wanted = Wanted {
        name: body.name.trim().to_owned(),
        description: body.description,
        document: body.document,
        is_default: body.is_default,
        comment: body.comment,
        draft: body.draft,
        author: Some(admin.session.user.id),
    };
    let mut tx = admin.write().await?;
    let applied = policy::apply(&mut tx, &api.state.engine, wanted).await.map_err(|error| match error {
        ApplyError::Faults(faults) => Problem::from(faults),
        ApplyError::Store(error) => error.into(),
    })?;
    let (outcome, changes) = (applied.outcome, applied.changes);
    let record = Policy::from(applied.record);
    let before = applied.before.map(Policy::from);
    if body.dry_run {
        return Ok(axum::Json(PolicyApplied { outcome, changes, policy: None }));
    }
    if let Some(action) = outcome.event() {
        let act = Act::new(action).on("policy", record.id().uuid());
        let act = match before {
            Some(before) => act.changed(&before, &record),
            None => act.with(&record),
        };
        tx.commit(act).await?;
    }
    Ok(axum::Json(PolicyApplied { outcome, changes, policy: Some(record) }))
}

/// What reviewers found of one rule under all versions of a policy.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RuleFeedback {
    #[schema(example = "pii.email_address")]
    rule_id: String,
    /// Requests in which it was right.
    true_positives: u64,
    /// Requests in which it was not.
    false_positives: u64,
    /// Of those that were judged, 0 to 1.
    false_positive_rate: f64,
}

impl From<RuleImpact> for RuleFeedback {
    fn from(impact: RuleImpact) -> Self {
        let RuleImpact { rule_id, true_positives, false_positives } = impact;
        let count = |number: u64| u32::try_from(number).map_or(f64::from(u32::MAX), f64::from);
        let judged = count(true_positives + false_positives).max(1.0);
        Self { rule_id, true_positives, false_positives, false_positive_rate: count(false_positives) / judged }
    }
}

/// What reviewers found of a policy.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PolicyImpact {
    /// The rule with the most false positives first; those that nobody judged are left out.
    rules: Vec<RuleFeedback>,
}

/// What reviewers found of a policy, by rule
///
/// Under all its versions; the versions themselves tell their own `false_positives`.
#[utoipa::path(get, path = "/policies/{id}/impact", tag = "policies", operation_id = "getPolicyImpact",
    security(("session" = ["policies:read"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "The figures", body = PolicyImpact),
))]
async fn impact(
    admin: Authorized<ReadPolicies>,
    Path(id): Path<PolicyId>,
) -> Result<axum::Json<PolicyImpact>, Problem> {
    let mut tx = admin.read().await?;
    tx.policies().find(id).await?.ok_or_else(Problem::not_found)?;
    let rules = tx.feedback().impact(id).await?.into_iter().map(RuleFeedback::from).collect();
    Ok(axum::Json(PolicyImpact { rules }))
}
