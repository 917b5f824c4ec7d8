//! What a replay reads: the rows of the trail with what was found, and what reviewers said of it.

use sqlx::types::Json;

use super::page::END_OF_TIME;
use super::statement::{TenantSql, tenant_sql};
use super::values::{Count, parsed};
use super::{PolicyRollouts, StoreError};
use crate::domain::{Action, AnswerRecord, AuditFinding, AuditId, PolicyId, Timestamp, WorkspaceId};

/// Rows of a page.
const PAGE: i64 = 1000;

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayedRows {
    pub from: Timestamp,
    /// All rows of one workspace, whichever policy judged them.
    pub workspace: Option<WorkspaceId>,
    /// Without a workspace: those that this policy judged, in any version.
    pub root: PolicyId,
}

/// What of a row can be judged anew.
#[derive(Clone, Debug)]
pub struct StoredDecision {
    pub id: AuditId,
    pub occurred_at: Timestamp,
    pub workspace_id: Option<WorkspaceId>,
    /// The version that judged; None: a preset.
    pub policy_id: Option<PolicyId>,
    pub policy_name: Option<String>,
    pub action: Action,
    pub findings: Vec<AuditFinding>,
    pub answer: Option<Box<AnswerRecord>>,
}

/// What reviewers said of one rule.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ReviewedRule {
    pub rule_id: String,
    #[sqlx(try_from = "Count")]
    pub reviewed: u64,
    #[sqlx(try_from = "Count")]
    pub false_positives: u64,
}

#[derive(sqlx::FromRow)]
struct Stored {
    id: AuditId,
    occurred_at: Timestamp,
    workspace_id: Option<WorkspaceId>,
    policy_id: Option<PolicyId>,
    policy_name: Option<String>,
    action: String,
    findings: Json<Vec<AuditFinding>>,
    answer: Option<Json<Box<AnswerRecord>>>,
}

impl PolicyRollouts<'_> {
    /// A page of rows that ended in a decision, newest first, behind the last one of the page before. Empty at the end.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn decisions(
        &mut self,
        rows: ReplayedRows,
        after: Option<(Timestamp, AuditId)>,
    ) -> Result<Vec<StoredDecision>, StoreError> {
        const DECISIONS: TenantSql = tenant_sql!(
            "SELECT id, occurred_at, workspace_id, policy_id, policy_name, action, findings, answer
            FROM audit_logs
            WHERE org_id = $1
                AND (occurred_at, id) < ($2, $3)
                AND occurred_at >= $4
                AND (workspace_id = $5 OR ($5 IS NULL AND policy_id IN (
                    SELECT p.id FROM policies p WHERE p.org_id = $1 AND p.root_id = $6
                )))
                AND policy_name IS NOT NULL
            ORDER BY occurred_at DESC, id DESC
            LIMIT $7"
        );
        const LAST: AuditId = AuditId::from_uuid(sqlx::types::uuid::Uuid::max());
        let (at, id) = after.unwrap_or((END_OF_TIME, LAST));
        let epoch = Timestamp::from_micros(0);
        let stored: Vec<Stored> = self
            .tx
            .statement(DECISIONS)
            .bind(at)
            .bind(id)
            .bind(rows.from.max(epoch))
            .bind(rows.workspace)
            .bind(rows.root)
            .bind(PAGE)
            .all()
            .await?;
        let decision = |row: Stored| {
            Ok(StoredDecision {
                id: row.id,
                occurred_at: row.occurred_at,
                workspace_id: row.workspace_id,
                policy_id: row.policy_id,
                policy_name: row.policy_name,
                action: parsed("audit_logs", "action", row.action)?,
                findings: row.findings.0,
                answer: row.answer.map(|answer| answer.0),
            })
        };
        stored.into_iter().map(decision).collect()
    }

    /// What reviewers said of the findings of the policy's versions, by rule.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn reviewed(&mut self, root: PolicyId) -> Result<Vec<ReviewedRule>, StoreError> {
        const REVIEWED: TenantSql = tenant_sql!(
            "SELECT f.rule_id, COUNT(*) AS reviewed,
                COUNT(*) FILTER (WHERE f.verdict = 'false_positive') AS false_positives
            FROM audit_feedback f
            WHERE f.org_id = $1
                AND f.policy_id IN (SELECT p.id FROM policies p WHERE p.org_id = $1 AND p.root_id = $2)
            GROUP BY f.rule_id
            ORDER BY f.rule_id"
        );
        Ok(self.tx.statement(REVIEWED).bind(root).all().await?)
    }

    /// The document of one version or draft, deleted ones too.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn document(&mut self, id: PolicyId) -> Result<Option<serde_json::Value>, StoreError> {
        const DOCUMENT: TenantSql = tenant_sql!("SELECT document FROM policies WHERE org_id = $1 AND id = $2");
        let row: Option<(Json<serde_json::Value>,)> = self.tx.statement(DOCUMENT).bind(id).optional().await?;
        Ok(row.map(|(document,)| document.0))
    }
}
