//! Candidates on their way into force, with what they were compared by.

use sqlx::types::Json;
use sqlx::types::uuid::Uuid;

use super::error::taken;
use super::statement::{TenantSql, tenant_sql};
use super::values::{Count, parsed, stored};
use super::{Change, Page, PageRequest, PolicyRecord, StoreError, TenantScope, TenantTx};
use crate::domain::{
    Action, Arm, ArmCounts, Assignment, AuditId, PolicyId, RolloutGuards, RolloutId, RolloutState, RuleDifference,
    Timestamp, UserId, WorkspaceId,
};

/// Samples of one rollout that are kept.
const MOST_SAMPLES: i64 = 1000;

#[derive(Clone, Debug, PartialEq)]
pub struct RolloutRecord {
    pub id: RolloutId,
    /// The policy.
    pub root_id: PolicyId,
    /// The version that was in force at the beginning.
    pub baseline_id: PolicyId,
    pub baseline_version: i64,
    /// The draft; its id stays its own when it is published.
    pub candidate_id: PolicyId,
    /// Provisional while it is a draft.
    pub candidate_version: i64,
    pub candidate_revision: i64,
    pub state: RolloutState,
    /// Counts begin anew with each change.
    pub run: i64,
    pub percentage: u8,
    pub assignment: Assignment,
    pub guards: RolloutGuards,
    /// Why it ended.
    pub reason: Option<String>,
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// How far a candidate is to go.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutPlan {
    /// [`RolloutState::Shadow`] or [`RolloutState::Canary`].
    pub state: RolloutState,
    /// Of a canary, 0 to 100.
    pub percentage: u8,
    pub assignment: Assignment,
    pub guards: RolloutGuards,
}

/// One request on which the policies differ.
#[derive(Clone, Debug, PartialEq)]
pub struct DifferenceSample {
    /// The row of the audit trail.
    pub request_id: AuditId,
    pub workspace_id: WorkspaceId,
    pub occurred_at: Timestamp,
    pub live_action: Action,
    pub candidate_action: Action,
    pub findings: serde_json::Value,
}

/// The rollouts of the organization.
pub struct PolicyRollouts<'t> {
    pub(super) tx: &'t mut TenantTx,
}

#[derive(sqlx::FromRow)]
struct Stored {
    id: RolloutId,
    root_id: PolicyId,
    baseline_id: PolicyId,
    baseline_version: i64,
    candidate_id: PolicyId,
    candidate_version: i64,
    candidate_revision: i64,
    state: String,
    run: i64,
    #[sqlx(try_from = "Count")]
    percentage: u8,
    assignment: String,
    guards: Json<RolloutGuards>,
    reason: Option<String>,
    created_by: Option<UserId>,
    created_at: Timestamp,
    updated_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// Neither the version in force nor the draft is another one by now.
    stands: bool,
}

const TABLE: &str = "policy_rollouts";

impl Stored {
    fn record(self) -> Result<RolloutRecord, StoreError> {
        let state = parsed(TABLE, "state", self.state)?;
        // Nobody tells a rollout that its policy or its draft was changed.
        let superseded = self.ended_at.is_none() && !self.stands;
        Ok(RolloutRecord {
            id: self.id,
            root_id: self.root_id,
            baseline_id: self.baseline_id,
            baseline_version: self.baseline_version,
            candidate_id: self.candidate_id,
            candidate_version: self.candidate_version,
            candidate_revision: self.candidate_revision,
            state: if superseded { RolloutState::Superseded } else { state },
            run: self.run,
            percentage: self.percentage,
            assignment: parsed(TABLE, "assignment", self.assignment)?,
            guards: self.guards.0,
            reason: self.reason,
            created_by: self.created_by,
            created_at: self.created_at,
            updated_at: self.updated_at,
            ended_at: self.ended_at,
        })
    }
}

impl RolloutRecord {
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.state, RolloutState::Shadow | RolloutState::Canary)
    }
}

impl PolicyRollouts<'_> {
    /// Lets a draft of the policy judge beside the version in force. None when there is no such policy.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("draft_id")`; [`StoreError::Conflict`]: `("rollout of this policy")` while another one runs,
    /// `("draft")` when another version than the one it stands on is in force, `("approval")` for a canary that needs one.
    pub async fn start(
        &mut self,
        root: PolicyId,
        draft: PolicyId,
        plan: &RolloutPlan,
        by: UserId,
    ) -> Result<Option<RolloutRecord>, StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO policy_rollouts (org_id, id, root_id, baseline_id, candidate_id, candidate_revision, state,
                percentage, assignment, guards, created_by, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)"
        );
        self.tx.serialize().await?;
        let Some(live) = self.tx.policies().find(root).await? else { return Ok(None) };
        let candidate = self.tx.policy_drafts().find(draft).await?.filter(|draft| draft.root_id == root);
        let candidate = candidate.ok_or(StoreError::Missing("draft_id"))?;
        if candidate.parent_policy_id != Some(live.id) {
            return Err(StoreError::Conflict("draft"));
        }
        self.approved(&candidate, plan).await?;
        if let Some(last) = self.last(root).await? {
            if last.is_running() {
                return Err(StoreError::Conflict("rollout of this policy"));
            }
            if last.ended_at.is_none() {
                self.close(&last, RolloutState::Superseded, None).await?;
            }
        }
        let (id, now) = (RolloutId::new(), self.tx.now());
        self.tx
            .statement(INSERT)
            .bind(id)
            .bind(root)
            .bind(live.id)
            .bind(candidate.id)
            .bind(candidate.revision)
            .bind(plan.state.as_str())
            .bind(i64::from(plan.percentage))
            .bind(plan.assignment.as_str())
            .bind(Json(plan.guards))
            .bind(by)
            .bind(now)
            .execute()
            .await
            .map_err(taken("rollout of this policy"))?;
        self.show_percentage(candidate.id, plan.percentage).await?;
        self.last(root).await
    }

    /// The last rollout of a policy, running or not.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn last(&mut self, root: PolicyId) -> Result<Option<RolloutRecord>, StoreError> {
        const LAST: TenantSql = tenant_sql!(
            "SELECT r.id, r.root_id, r.baseline_id, b.version AS baseline_version, r.candidate_id,
                c.version AS candidate_version, r.candidate_revision, r.state, r.run, r.percentage, r.assignment, r.guards, r.reason,
                r.created_by, r.created_at, r.updated_at, r.ended_at,
                b.is_active AND b.deleted_at IS NULL AND c.is_draft AND c.deleted_at IS NULL
                    AND c.revision = r.candidate_revision AS stands
            FROM policy_rollouts r
            JOIN policies b ON b.org_id = r.org_id AND b.id = r.baseline_id
            JOIN policies c ON c.org_id = r.org_id AND c.id = r.candidate_id
            WHERE r.org_id = $1 AND r.root_id = $2
            ORDER BY r.id DESC
            LIMIT 1"
        );
        let stored: Option<Stored> = self.tx.statement(LAST).bind(root).optional().await?;
        stored.map(Stored::record).transpose()
    }

    /// Changes a running rollout; its counts begin anew. None when none runs.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("approval")` for a canary that needs one.
    pub async fn change(&mut self, root: PolicyId, plan: &RolloutPlan) -> Result<Option<RolloutRecord>, StoreError> {
        const CHANGE: TenantSql = tenant_sql!(
            "UPDATE policy_rollouts
            SET state = $3, percentage = $4, assignment = $5, guards = $6, run = run + 1, updated_at = $7
            WHERE org_id = $1 AND id = $2"
        );
        self.tx.serialize().await?;
        let Some(old) = self.running(root).await? else { return Ok(None) };
        let candidate = self.tx.policy_drafts().find(old.candidate_id).await?;
        self.approved(&candidate.ok_or(StoreError::Missing("draft_id"))?, plan).await?;
        let now = self.tx.now();
        self.tx
            .statement(CHANGE)
            .bind(old.id)
            .bind(plan.state.as_str())
            .bind(i64::from(plan.percentage))
            .bind(plan.assignment.as_str())
            .bind(Json(plan.guards))
            .bind(now)
            .execute()
            .await?;
        self.show_percentage(old.candidate_id, plan.percentage).await?;
        self.last(root).await
    }

    /// Takes a candidate back. None when none runs.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end(
        &mut self,
        root: PolicyId,
        state: RolloutState,
        reason: Option<&str>,
    ) -> Result<Option<RolloutRecord>, StoreError> {
        self.tx.serialize().await?;
        let Some(old) = self.running(root).await? else { return Ok(None) };
        self.close(&old, state, reason).await?;
        self.last(root).await
    }

    /// Publishes the candidate. None when none runs.
    ///
    /// # Errors
    /// Those of [`super::PolicyDrafts::publish`].
    pub async fn promote(&mut self, root: PolicyId) -> Result<Option<PolicyRecord>, StoreError> {
        const PROMOTED: TenantSql = tenant_sql!("UPDATE policies SET promoted_at = $3 WHERE org_id = $1 AND id = $2");
        self.tx.serialize().await?;
        let Some(rollout) = self.running(root).await? else { return Ok(None) };
        let now = self.tx.now();
        self.close(&rollout, RolloutState::Promoted, None).await?;
        self.tx.statement(PROMOTED).bind(rollout.candidate_id).bind(now).execute().await?;
        self.tx.policy_drafts().publish(rollout.candidate_id, rollout.candidate_revision).await
    }

    /// What both arms of a run have counted; the live one first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn counts(&mut self, rollout: RolloutId, run: i64) -> Result<[ArmCounts; 2], StoreError> {
        const COUNTS: TenantSql = tenant_sql!(
            "SELECT arm, requests, blocked, errors, overhead_us, compared, differing, newly_blocked, newly_passed
            FROM policy_rollout_counts
            WHERE org_id = $1 AND rollout_id = $2 AND run = $3"
        );
        let rows: Vec<CountRow> = self.tx.statement(COUNTS).bind(rollout).bind(run).all().await?;
        let counted: Vec<_> = rows.into_iter().map(CountRow::arm).collect::<Result<_, StoreError>>()?;
        Ok(Arm::ALL.map(|arm| counted.iter().find(|(of, _)| *of == arm).map(|(_, counts)| *counts).unwrap_or_default()))
    }

    /// What the policies differed in during a run; the most frequent first, at most 500.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn differences(
        &mut self,
        rollout: RolloutId,
        run: i64,
    ) -> Result<Vec<(RuleDifference, u64)>, StoreError> {
        const DIFFERENCES: TenantSql = tenant_sql!(
            "SELECT rule_id, live_action, candidate_action, requests
            FROM policy_differences
            WHERE org_id = $1 AND rollout_id = $2 AND run = $3
            ORDER BY requests DESC, rule_id, live_action, candidate_action
            LIMIT 500"
        );
        let rows: Vec<DifferenceRow> = self.tx.statement(DIFFERENCES).bind(rollout).bind(run).all().await?;
        let read = |row: DifferenceRow| {
            let difference = RuleDifference {
                rule_id: row.rule_id.into(),
                live_action: parsed("policy_differences", "live_action", row.live_action)?,
                candidate_action: parsed("policy_differences", "candidate_action", row.candidate_action)?,
            };
            Ok((difference, row.requests))
        };
        rows.into_iter().map(read).collect()
    }

    /// Requests on which the policies differed, newest first.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("cursor")`.
    pub async fn samples(
        &mut self,
        rollout: RolloutId,
        page: &PageRequest,
    ) -> Result<Page<DifferenceSample>, StoreError> {
        const SAMPLES: TenantSql = tenant_sql!(
            "SELECT request_id, workspace_id, occurred_at, live_action, candidate_action, findings
            FROM policy_difference_samples
            WHERE org_id = $1 AND rollout_id = $2 AND request_id < $3
            ORDER BY request_id DESC
            LIMIT $4"
        );
        let start = page.start::<Uuid>()?;
        let rows: Vec<SampleRow> = self.tx.statement(SAMPLES).bind(rollout).bind(start).bind(page.rows()).all().await?;
        let samples = rows.into_iter().map(SampleRow::sample).collect::<Result<Vec<_>, _>>()?;
        Ok(page.page(samples, |sample: &DifferenceSample| sample.request_id.uuid()))
    }

    /// Adds what one node has counted. Nothing of a run that is over.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn add(
        &mut self,
        (rollout, run): (RolloutId, i64),
        counts: &[(Arm, ArmCounts)],
        rules: impl Iterator<Item = (&RuleDifference, u64)>,
        samples: &[DifferenceSample],
    ) -> Result<(), StoreError> {
        const COUNT: TenantSql = tenant_sql!(
            "INSERT INTO policy_rollout_counts AS c (org_id, rollout_id, run, arm, requests, blocked, errors,
                overhead_us, compared, differing, newly_blocked, newly_passed)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            ON CONFLICT (org_id, rollout_id, run, arm) DO UPDATE SET
                requests = c.requests + excluded.requests,
                blocked = c.blocked + excluded.blocked,
                errors = c.errors + excluded.errors,
                overhead_us = c.overhead_us + excluded.overhead_us,
                compared = c.compared + excluded.compared,
                differing = c.differing + excluded.differing,
                newly_blocked = c.newly_blocked + excluded.newly_blocked,
                newly_passed = c.newly_passed + excluded.newly_passed"
        );
        const DIFFERENCE: TenantSql = tenant_sql!(
            "INSERT INTO policy_differences AS d (org_id, rollout_id, run, rule_id, live_action, candidate_action,
                requests)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (org_id, rollout_id, run, rule_id, live_action, candidate_action)
                DO UPDATE SET requests = d.requests + excluded.requests"
        );
        const SAMPLE: TenantSql = tenant_sql!(
            "INSERT INTO policy_difference_samples (org_id, rollout_id, run, request_id, workspace_id, occurred_at,
                live_action, candidate_action, findings)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (org_id, rollout_id, request_id) DO NOTHING"
        );
        const KEPT: TenantSql =
            tenant_sql!("SELECT COUNT(*) FROM policy_difference_samples WHERE org_id = $1 AND rollout_id = $2");
        for (arm, counts) in counts.iter().filter(|(_, counts)| *counts != ArmCounts::default()) {
            let ArmCounts { requests, blocked, errors, overhead_us, .. } = *counts;
            let ArmCounts { compared, differing, newly_blocked, newly_passed, .. } = *counts;
            let numbers = [requests, blocked, errors, overhead_us, compared, differing, newly_blocked, newly_passed];
            let count = self.tx.statement(COUNT).bind(rollout).bind(run).bind(arm.as_str());
            numbers.into_iter().fold(count, |count, number| count.bind(stored(number))).execute().await?;
        }
        for (rule, requests) in rules {
            self.tx
                .statement(DIFFERENCE)
                .bind(rollout)
                .bind(run)
                .bind(&*rule.rule_id)
                .bind(rule.live_action.as_str())
                .bind(rule.candidate_action.as_str())
                .bind(stored(requests))
                .execute()
                .await?;
        }
        if samples.is_empty() {
            return Ok(());
        }
        let (kept,): (i64,) = self.tx.statement(KEPT).bind(rollout).one().await?;
        let room = usize::try_from(MOST_SAMPLES.saturating_sub(kept)).unwrap_or(0);
        for sample in samples.iter().take(room) {
            self.tx
                .statement(SAMPLE)
                .bind(rollout)
                .bind(run)
                .bind(sample.request_id)
                .bind(sample.workspace_id)
                .bind(sample.occurred_at)
                .bind(sample.live_action.as_str())
                .bind(sample.candidate_action.as_str())
                .bind(Json(&sample.findings))
                .execute()
                .await?;
        }
        Ok(())
    }

    /// # Errors
    /// [`StoreError::Conflict`]`("approval")` when the candidate would act and the organization wants it to be approved.
    async fn approved(&mut self, candidate: &PolicyRecord, plan: &RolloutPlan) -> Result<(), StoreError> {
        let acts = plan.state == RolloutState::Canary && plan.percentage > 0;
        if acts && candidate.approved_by.is_none() && self.tx.organization().get().await?.requires_policy_approval() {
            return Err(StoreError::Conflict("approval"));
        }
        Ok(())
    }

    async fn running(&mut self, root: PolicyId) -> Result<Option<RolloutRecord>, StoreError> {
        Ok(self.last(root).await?.filter(RolloutRecord::is_running))
    }

    async fn close(
        &mut self,
        rollout: &RolloutRecord,
        state: RolloutState,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        const CLOSE: TenantSql = tenant_sql!(
            "UPDATE policy_rollouts SET state = $3, reason = $4, updated_at = $5, ended_at = $5
            WHERE org_id = $1 AND id = $2 AND ended_at IS NULL"
        );
        let now = self.tx.now();
        self.tx.statement(CLOSE).bind(rollout.id).bind(state.as_str()).bind(reason).bind(now).execute().await?;
        self.show_percentage(rollout.candidate_id, 0).await
    }

    /// What the version says of itself; and tells the nodes.
    async fn show_percentage(&mut self, candidate: PolicyId, percentage: u8) -> Result<(), StoreError> {
        const SHOW: TenantSql = tenant_sql!("UPDATE policies SET canary_percentage = $3 WHERE org_id = $1 AND id = $2");
        self.tx.statement(SHOW).bind(candidate).bind(i64::from(percentage)).execute().await?;
        let org = self.tx.scope().org_id();
        self.tx.record(Change::Policy { org });
        Ok(())
    }
}

#[derive(sqlx::FromRow)]
struct CountRow {
    arm: String,
    #[sqlx(try_from = "Count")]
    requests: u64,
    #[sqlx(try_from = "Count")]
    blocked: u64,
    #[sqlx(try_from = "Count")]
    errors: u64,
    #[sqlx(try_from = "Count")]
    overhead_us: u64,
    #[sqlx(try_from = "Count")]
    compared: u64,
    #[sqlx(try_from = "Count")]
    differing: u64,
    #[sqlx(try_from = "Count")]
    newly_blocked: u64,
    #[sqlx(try_from = "Count")]
    newly_passed: u64,
}

impl CountRow {
    fn arm(self) -> Result<(Arm, ArmCounts), StoreError> {
        let Self { arm, requests, blocked, errors, overhead_us, compared, differing, newly_blocked, newly_passed } =
            self;
        let counts =
            ArmCounts { requests, blocked, errors, overhead_us, compared, differing, newly_blocked, newly_passed };
        Ok((parsed("policy_rollout_counts", "arm", arm)?, counts))
    }
}

#[derive(sqlx::FromRow)]
struct DifferenceRow {
    rule_id: String,
    live_action: String,
    candidate_action: String,
    #[sqlx(try_from = "Count")]
    requests: u64,
}

#[derive(sqlx::FromRow)]
struct SampleRow {
    request_id: AuditId,
    workspace_id: WorkspaceId,
    occurred_at: Timestamp,
    live_action: String,
    candidate_action: String,
    findings: Json<serde_json::Value>,
}

impl SampleRow {
    fn sample(self) -> Result<DifferenceSample, StoreError> {
        const SAMPLES: &str = "policy_difference_samples";
        Ok(DifferenceSample {
            request_id: self.request_id,
            workspace_id: self.workspace_id,
            occurred_at: self.occurred_at,
            live_action: parsed(SAMPLES, "live_action", self.live_action)?,
            candidate_action: parsed(SAMPLES, "candidate_action", self.candidate_action)?,
            findings: self.findings.0,
        })
    }
}

/// The rollout of the policy that a workspace is under.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveRollout {
    pub id: RolloutId,
    pub run: i64,
    pub scope: TenantScope,
    pub state: RolloutState,
    pub percentage: u8,
    pub assignment: Assignment,
    pub candidate_id: PolicyId,
    pub revision: i64,
    pub name: String,
    pub version: i64,
    pub document: serde_json::Value,
}

/// Columns of [`EffectiveRollout`], from `r` (the rollout) and `c` (the candidate), which may not be there.
macro_rules! rollout_columns {
    () => {
        "r.id AS rollout_id, r.run, r.state, r.percentage, r.assignment, c.id AS candidate_id, c.revision AS candidate_revision, \
         c.name AS candidate_name, c.version AS candidate_version, c.document AS candidate_document"
    };
}
pub(super) use rollout_columns;

/// All of it or nothing.
#[derive(sqlx::FromRow)]
pub(super) struct RolloutColumns {
    rollout_id: Option<RolloutId>,
    run: Option<i64>,
    state: Option<String>,
    percentage: Option<i64>,
    assignment: Option<String>,
    candidate_id: Option<PolicyId>,
    candidate_revision: Option<i64>,
    candidate_name: Option<String>,
    candidate_version: Option<i64>,
    candidate_document: Option<Json<serde_json::Value>>,
}

impl RolloutColumns {
    pub(super) fn rollout(self, scope: TenantScope) -> Result<Option<EffectiveRollout>, StoreError> {
        let Self {
            rollout_id: Some(id),
            run: Some(run),
            state: Some(state),
            percentage: Some(percentage),
            assignment: Some(assignment),
            candidate_id: Some(candidate_id),
            candidate_revision: Some(revision),
            candidate_name: Some(name),
            candidate_version: Some(version),
            candidate_document: Some(Json(document)),
        } = self
        else {
            return Ok(None);
        };
        Ok(Some(EffectiveRollout {
            id,
            run,
            scope,
            state: parsed(TABLE, "state", state)?,
            percentage: u8::try_from(percentage).unwrap_or(0),
            assignment: parsed(TABLE, "assignment", assignment)?,
            candidate_id,
            revision,
            name,
            version,
            document,
        }))
    }
}
