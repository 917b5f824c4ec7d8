//! What reviewers say about the findings of a request.

use serde::{Deserialize, Serialize};

use super::statement::{TenantSql, tenant_sql};
use super::values::{Count, parsed};
use super::{StoreError, TenantTx};
use crate::domain::{AuditId, PolicyId, Timestamp, UserId};

/// Whether what a rule found was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackVerdict {
    TruePositive,
    FalsePositive,
}

impl FeedbackVerdict {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TruePositive => "true_positive",
            Self::FalsePositive => "false_positive",
        }
    }
}

/// What is said about one rule in one request; the last word stands.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedbackRecord {
    pub audit_log_id: AuditId,
    pub rule_id: String,
    /// The version that judged; None for a preset.
    pub policy_id: Option<PolicyId>,
    pub verdict: FeedbackVerdict,
    pub comment: Option<String>,
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
}

/// What reviewers found of one rule under all versions of a policy.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct RuleImpact {
    pub rule_id: String,
    #[sqlx(try_from = "Count")]
    pub true_positives: u64,
    #[sqlx(try_from = "Count")]
    pub false_positives: u64,
}

#[derive(sqlx::FromRow)]
struct Stored {
    audit_log_id: AuditId,
    rule_id: String,
    policy_id: Option<PolicyId>,
    verdict: String,
    comment: Option<String>,
    created_by: Option<UserId>,
    created_at: Timestamp,
}

impl Stored {
    fn record(self) -> Result<FeedbackRecord, StoreError> {
        Ok(FeedbackRecord {
            audit_log_id: self.audit_log_id,
            rule_id: self.rule_id,
            policy_id: self.policy_id,
            verdict: parsed("audit_feedback", "verdict", self.verdict)?,
            comment: self.comment,
            created_by: self.created_by,
            created_at: self.created_at,
        })
    }
}

/// The organization's feedback.
pub struct Feedback<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl Feedback<'_> {
    /// Keeps what is said about `rules` of a request, in the place of what was said before, and counts it for the version that
    /// judged. Returns what is kept, by rule.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put(
        &mut self,
        audit_log_id: AuditId,
        policy_id: Option<PolicyId>,
        rules: &[String],
        verdict: FeedbackVerdict,
        comment: Option<&str>,
        by: UserId,
    ) -> Result<Vec<FeedbackRecord>, StoreError> {
        const PUT: TenantSql = tenant_sql!(
            "INSERT INTO audit_feedback (org_id, audit_log_id, rule_id, policy_id, verdict, comment, created_by, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (org_id, audit_log_id, rule_id)
                DO UPDATE SET verdict = $5, comment = $6, created_by = $7, created_at = $8"
        );
        const COUNT: TenantSql = tenant_sql!(
            "SELECT COUNT(DISTINCT audit_log_id) AS reviewed,
                COUNT(DISTINCT CASE WHEN verdict = 'false_positive' THEN audit_log_id END) AS wrong
            FROM audit_feedback
            WHERE org_id = $1 AND policy_id = $2"
        );
        const KEEP: TenantSql = tenant_sql!(
            "UPDATE policies SET false_positives = $3, false_positive_rate = $4 WHERE org_id = $1 AND id = $2"
        );
        self.tx.serialize().await?;
        let now = self.tx.now();
        for rule in rules {
            let put = self.tx.statement(PUT).bind(audit_log_id).bind(rule.as_str()).bind(policy_id);
            put.bind(verdict.as_str()).bind(comment).bind(by).bind(now).execute().await?;
        }
        if let Some(policy) = policy_id {
            let (reviewed, wrong): (i64, i64) = self.tx.statement(COUNT).bind(policy).one().await?;
            self.tx.statement(KEEP).bind(policy).bind(wrong).bind(share(wrong, reviewed)).execute().await?;
        }
        let kept = self.of(audit_log_id).await?;
        Ok(kept.into_iter().filter(|record| rules.contains(&record.rule_id)).collect())
    }

    /// What was said about a request, by rule.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn of(&mut self, audit_log_id: AuditId) -> Result<Vec<FeedbackRecord>, StoreError> {
        const OF: TenantSql = tenant_sql!(
            "SELECT audit_log_id, rule_id, policy_id, verdict, comment, created_by, created_at
            FROM audit_feedback
            WHERE org_id = $1 AND audit_log_id = $2
            ORDER BY rule_id"
        );
        let stored: Vec<Stored> = self.tx.statement(OF).bind(audit_log_id).all().await?;
        stored.into_iter().map(Stored::record).collect()
    }

    /// What reviewers found of each rule under the versions of a policy; the rule with the most false positives first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn impact(&mut self, root: PolicyId) -> Result<Vec<RuleImpact>, StoreError> {
        const IMPACT: TenantSql = tenant_sql!(
            "SELECT f.rule_id,
                COUNT(*) FILTER (WHERE f.verdict = 'true_positive') AS true_positives,
                COUNT(*) FILTER (WHERE f.verdict = 'false_positive') AS false_positives
            FROM audit_feedback f
            JOIN policies p ON p.org_id = f.org_id AND p.id = f.policy_id
            WHERE f.org_id = $1 AND p.root_id = $2
            GROUP BY f.rule_id
            ORDER BY false_positives DESC, f.rule_id"
        );
        Ok(self.tx.statement(IMPACT).bind(root).all().await?)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share; 2^52 requests are far away")]
fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
