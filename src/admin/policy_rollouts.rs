//! `/policies/{id}/rollout`: a draft beside the version in force, for a share of the traffic, in force.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::{List, Tagged};
use super::extract::{Authorized, Input, Json, PageQuery, Path, Query, ReadPolicies, WritePolicies};
use super::policies::Policy;
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::domain::{
    Action, ArmCounts, Assignment, AuditId, PolicyId, RolloutGuards, RolloutId, RolloutState, RuleDifference,
    Timestamp, UserId, WorkspaceId,
};
use crate::policy::SampledFinding;
use crate::store::{DifferenceSample, RolloutPlan, RolloutRecord, TenantTx};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(start, get, change, stop)).routes(routes!(promote)).routes(routes!(differences))
}

/// What a candidate is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStage {
    /// It only judges.
    Shadow,
    /// It acts on a share of the traffic.
    Canary,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"draft_id": "0192f0c1-2345-7abc-8def-0123456789ab", "stage": "shadow"}))]
pub struct RolloutStart {
    /// A draft of this policy that stands on the version in force.
    draft_id: PolicyId,
    stage: RolloutStage,
    /// Of a canary: how many of 100 callers or end users are under the candidate.
    #[serde(default)]
    #[schema(maximum = 100)]
    percentage: u8,
    #[serde(default)]
    assignment: Assignment,
    #[serde(default)]
    guards: RolloutGuards,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"stage": "canary", "percentage": 10}))]
pub struct RolloutChange {
    stage: RolloutStage,
    /// Of a canary: how many of 100 callers or end users are under the candidate.
    #[serde(default)]
    #[schema(maximum = 100)]
    percentage: u8,
    #[serde(default)]
    assignment: Assignment,
    #[serde(default)]
    guards: RolloutGuards,
}

impl Input for RolloutStart {
    fn faults(&self) -> Vec<Fault> {
        percentage_faults(self.stage, self.percentage)
    }
}

impl Input for RolloutChange {
    fn faults(&self) -> Vec<Fault> {
        percentage_faults(self.stage, self.percentage)
    }
}

fn percentage_faults(stage: RolloutStage, percentage: u8) -> Vec<Fault> {
    if stage == RolloutStage::Shadow && percentage > 0 {
        return vec![Fault::at("/percentage", "a shadow acts on nothing: leave it out, or begin a canary")];
    }
    Vec::new()
}

const fn plan(stage: RolloutStage, percentage: u8, assignment: Assignment, guards: RolloutGuards) -> RolloutPlan {
    let state = match stage {
        RolloutStage::Shadow => RolloutState::Shadow,
        RolloutStage::Canary => RolloutState::Canary,
    };
    RolloutPlan { state, percentage, assignment, guards }
}

/// A draft on its way into force.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Rollout {
    id: RolloutId,
    policy_id: PolicyId,
    /// The version that was in force when it began.
    baseline_version: i64,
    draft_id: PolicyId,
    /// Provisional while it is a draft.
    version: i64,
    state: RolloutState,
    percentage: u8,
    assignment: Assignment,
    guards: RolloutGuards,
    /// 1, 2, 3 …: what is counted begins anew with each change.
    run: i64,
    /// Why it ended, if a guard ended it.
    reason: Option<String>,
    created_by: Option<UserId>,
    created_at: Timestamp,
    updated_at: Timestamp,
    ended_at: Option<Timestamp>,
}

impl From<RolloutRecord> for Rollout {
    fn from(record: RolloutRecord) -> Self {
        Self {
            id: record.id,
            policy_id: record.root_id,
            baseline_version: record.baseline_version,
            draft_id: record.candidate_id,
            version: record.candidate_version,
            state: record.state,
            percentage: record.percentage,
            assignment: record.assignment,
            guards: record.guards,
            run: record.run,
            reason: record.reason,
            created_by: record.created_by,
            created_at: record.created_at,
            updated_at: record.updated_at,
            ended_at: record.ended_at,
        }
    }
}

/// A rollout with what it has counted since its last change.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RolloutReport {
    #[serde(flatten)]
    rollout: Rollout,
    /// Requests on which the version in force acts.
    live: ArmCounts,
    /// Requests on which the candidate acts.
    candidate: ArmCounts,
    /// By rule; the most frequent first, at most 500.
    differences: Vec<RuleDifferences>,
}

/// In how many requests the policies differ about a rule.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RuleDifferences {
    #[serde(flatten)]
    difference: RuleDifference,
    requests: u64,
}

async fn report(tx: &mut TenantTx, record: RolloutRecord) -> Result<RolloutReport, Problem> {
    let (id, run) = (record.id, record.run);
    let [live, candidate] = tx.policy_rollouts().counts(id, run).await?;
    let differences = tx.policy_rollouts().differences(id, run).await?;
    let differences =
        differences.into_iter().map(|(difference, requests)| RuleDifferences { difference, requests }).collect();
    Ok(RolloutReport { rollout: record.into(), live, candidate, differences })
}

/// A request on which the policies differ. Its text is not kept.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RolloutDifference {
    /// The row of the audit trail.
    request_id: AuditId,
    workspace_id: WorkspaceId,
    occurred_at: Timestamp,
    live_action: Action,
    candidate_action: Action,
    /// Of the rules that differ, at most 16.
    #[schema(value_type = Vec<SampledFinding>)]
    findings: serde_json::Value,
}

impl From<DifferenceSample> for RolloutDifference {
    fn from(sample: DifferenceSample) -> Self {
        let DifferenceSample { request_id, workspace_id, occurred_at, live_action, candidate_action, findings } =
            sample;
        Self { request_id, workspace_id, occurred_at, live_action, candidate_action, findings }
    }
}

/// Begin a rollout
///
/// From the next request on the draft judges what the version in force judges, on every node. As a `shadow` it changes nothing;
/// as a `canary` it acts for `percentage` of the callers, or of the end users: always the same ones. Both judge every request,
/// and what they differ in is counted. A canary that passes a guard is taken back within seconds, by an event of the system.
/// Where the organization wants approval, a canary needs it. Whoever edits the draft, or puts another version in force, ends it.
#[utoipa::path(post, path = "/policies/{id}/rollout", tag = "policies", operation_id = "startRollout",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 201, description = "Begun", body = Rollout),
    (status = 409, description = "One runs already, the draft stands on another version, or it needs approval"),
))]
async fn start(
    admin: Authorized<WritePolicies>,
    Path(id): Path<PolicyId>,
    Json(body): Json<RolloutStart>,
) -> Result<(StatusCode, axum::Json<Rollout>), Problem> {
    let plan = plan(body.stage, body.percentage, body.assignment, body.guards);
    let mut tx = admin.write().await?;
    let started = tx.policy_rollouts().start(id, body.draft_id, &plan, admin.session.user.id).await?;
    let rollout = Rollout::from(started.ok_or_else(Problem::not_found)?);
    tx.commit(Act::new("policy_rollout.start").on("policy", id.uuid()).with(&rollout)).await?;
    Ok((StatusCode::CREATED, axum::Json(rollout)))
}

/// The last rollout of a policy
///
/// Running or not, with what it has counted since its last change. Nodes write their counts once a second.
#[utoipa::path(get, path = "/policies/{id}/rollout", tag = "policies", operation_id = "getRollout",
    security(("session" = ["policies:read"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "The rollout", body = RolloutReport),
))]
async fn get(admin: Authorized<ReadPolicies>, Path(id): Path<PolicyId>) -> Result<axum::Json<RolloutReport>, Problem> {
    let mut tx = admin.read().await?;
    let record = tx.policy_rollouts().last(id).await?.ok_or_else(Problem::not_found)?;
    Ok(axum::Json(report(&mut tx, record).await?))
}

/// Change a rollout
///
/// Another stage, share or guard; what is counted begins anew. A larger share keeps the callers that it had.
#[utoipa::path(put, path = "/policies/{id}/rollout", tag = "policies", operation_id = "changeRollout",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "As it runs now", body = Rollout),
    (status = 409, description = "A canary needs approval"),
))]
async fn change(
    admin: Authorized<WritePolicies>,
    Path(id): Path<PolicyId>,
    Json(body): Json<RolloutChange>,
) -> Result<axum::Json<Rollout>, Problem> {
    let plan = plan(body.stage, body.percentage, body.assignment, body.guards);
    let mut tx = admin.write().await?;
    let old = Rollout::from(tx.policy_rollouts().last(id).await?.ok_or_else(Problem::not_found)?);
    let changed = tx.policy_rollouts().change(id, &plan).await?.ok_or_else(Problem::not_found)?;
    let changed = Rollout::from(changed);
    tx.commit(Act::new("policy_rollout.change").on("policy", id.uuid()).changed(&old, &changed)).await?;
    Ok(axum::Json(changed))
}

/// Stop a rollout
///
/// The version in force judges everything again. The draft stays.
#[utoipa::path(delete, path = "/policies/{id}/rollout", tag = "policies", operation_id = "stopRollout",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 204, description = "Stopped"),
))]
async fn stop(admin: Authorized<WritePolicies>, Path(id): Path<PolicyId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let ended = tx.policy_rollouts().end(id, RolloutState::Stopped, None).await?.ok_or_else(Problem::not_found)?;
    tx.commit(Act::new("policy_rollout.stop").on("policy", id.uuid()).without(&Rollout::from(ended))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Promote a candidate
///
/// Publishes the draft of the running rollout, which ends.
#[utoipa::path(post, path = "/policies/{id}/rollout/promote", tag = "policies", operation_id = "promoteRollout",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "The version in force now", body = Policy),
    (status = 409, description = "It needs approval, or its name is in use"),
))]
async fn promote(admin: Authorized<WritePolicies>, Path(id): Path<PolicyId>) -> Result<Tagged<Policy>, Problem> {
    let mut tx = admin.write().await?;
    let old = Policy::from(tx.policies().find(id).await?.ok_or_else(Problem::not_found)?);
    let policy = Policy::from(tx.policy_rollouts().promote(id).await?.ok_or_else(Problem::not_found)?);
    tx.commit(Act::new("policy_rollout.promote").on("policy", id.uuid()).changed(&old, &policy)).await?;
    Ok(Tagged(StatusCode::OK, policy))
}

/// Requests on which the policies differ
///
/// Of the last rollout, newest first: some of them, at most a thousand. Each names a row of the audit trail.
#[utoipa::path(get, path = "/policies/{id}/rollout/differences", tag = "policies", operation_id = "listRolloutDifferences",
    security(("session" = ["policies:read"])), params(("id" = PolicyId, Path), PageQuery), responses(
    (status = 200, description = "A page of requests", body = List<RolloutDifference>),
))]
async fn differences(
    admin: Authorized<ReadPolicies>,
    Path(id): Path<PolicyId>,
    Query(query): Query<PageQuery>,
) -> Result<List<RolloutDifference>, Problem> {
    let mut tx = admin.read().await?;
    let record = tx.policy_rollouts().last(id).await?.ok_or_else(Problem::not_found)?;
    let page = tx.policy_rollouts().samples(record.id, &query.into()).await?;
    Ok(List::new(page, RolloutDifference::from))
}
