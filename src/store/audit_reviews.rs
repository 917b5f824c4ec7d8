//! Requests that somebody is to look at: who, until when, and what came of it.

use serde::Serialize;
use sqlx::types::Json;

use super::engine::Tx;
use super::sort::{Value, sorted};
use super::statement::{TenantSql, tenant_sql};
use super::{AuditRow, Page, PageRequest, ReviewColumn, Sort, StoreError, TenantTx};
use crate::domain::{AuditId, ReviewCommentId, Timestamp, UserId};

/// The review of one request.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ReviewRecord {
    pub audit_id: AuditId,
    pub escalated_at: Timestamp,
    /// None: the policy.
    pub escalated_by: Option<UserId>,
    pub reason: Option<String>,
    pub assignee_id: Option<UserId>,
    pub due_at: Timestamp,
    /// None while it is open, like the others.
    pub outcome: Option<String>,
    pub resolved_at: Option<Timestamp>,
    pub resolved_by: Option<UserId>,
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ReviewComment {
    pub id: ReviewCommentId,
    pub author_id: UserId,
    pub body: String,
    pub created_at: Timestamp,
}

/// All given conditions hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReviewFilter {
    pub open: Option<bool>,
    /// Whose time is up at this moment.
    pub due_before: Option<Timestamp>,
    pub assignee_id: Option<UserId>,
    pub sort: Sort<ReviewColumn>,
}

/// What opens a review.
#[derive(Clone, Debug)]
pub struct Escalation {
    pub audit_id: AuditId,
    pub by: UserId,
    pub reason: Option<String>,
    pub assignee_id: Option<UserId>,
    pub due_at: Timestamp,
}

/// The reviews of the organization.
pub struct AuditReviews<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "audit_id, escalated_at, escalated_by, reason, assignee_id, due_at, outcome, resolved_at, resolved_by"
    };
}

impl AuditReviews<'_> {
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn find(&mut self, id: AuditId) -> Result<Option<ReviewRecord>, StoreError> {
        const FIND: TenantSql =
            tenant_sql!("SELECT ", columns!(), " FROM audit_reviews WHERE org_id = $1 AND audit_id = $2");
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// # Errors
    /// [`StoreError::Missing`]`("cursor")`.
    pub async fn list(&mut self, filter: ReviewFilter, page: &PageRequest) -> Result<Page<ReviewRecord>, StoreError> {
        macro_rules! by {
            ($column:literal) => {
                sorted!(
                    (
                        "SELECT ",
                        columns!(),
                        " FROM audit_reviews
                        WHERE org_id = $1
                            AND ($5 IS NULL OR (resolved_at IS NULL) = $5)
                            AND ($6 IS NULL OR due_at < $6)
                            AND ($7 IS NULL OR assignee_id = $7)"
                    ),
                    $column,
                    "audit_id"
                )
            };
        }
        let sort = filter.sort;
        let both = match sort.by {
            ReviewColumn::EscalatedAt => by!("escalated_at"),
            ReviewColumn::DueAt => by!("due_at"),
        };
        let statement = sort.start(page)?.bind(self.tx.statement(sort.of(both))).bind(page.rows());
        let rows = statement.bind(filter.open).bind(filter.due_before).bind(filter.assignee_id).all().await?;
        Ok(sort.page(page, rows, |review: &ReviewRecord| {
            let at = match sort.by {
                ReviewColumn::EscalatedAt => review.escalated_at,
                ReviewColumn::DueAt => review.due_at,
            };
            (Value::Time(at), review.audit_id.uuid())
        }))
    }

    /// Opens a review, or one that was resolved again. None when it is open.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn escalate(&mut self, escalation: Escalation) -> Result<Option<ReviewRecord>, StoreError> {
        const ESCALATE: TenantSql = tenant_sql!(
            "INSERT INTO audit_reviews (org_id, audit_id, escalated_at, escalated_by, reason, assignee_id, due_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (org_id, audit_id) DO UPDATE
            SET escalated_at = $3, escalated_by = $4, reason = $5, assignee_id = $6, due_at = $7,
                outcome = NULL, resolved_at = NULL, resolved_by = NULL
            WHERE audit_reviews.resolved_at IS NOT NULL
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        let opened = self.tx.statement(ESCALATE).bind(escalation.audit_id).bind(now).bind(escalation.by);
        let opened = opened.bind(escalation.reason).bind(escalation.assignee_id).bind(escalation.due_at);
        Ok(opened.optional().await?)
    }

    /// Gives an open review to somebody else, or another time; `None` leaves a field as it is. None when it is not open.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn update(
        &mut self,
        id: AuditId,
        assignee: Option<Option<UserId>>,
        due_at: Option<Timestamp>,
    ) -> Result<Option<ReviewRecord>, StoreError> {
        const UPDATE: TenantSql = tenant_sql!(
            "UPDATE audit_reviews
            SET assignee_id = CASE WHEN $3 THEN $4 ELSE assignee_id END, due_at = COALESCE($5, due_at)
            WHERE org_id = $1 AND audit_id = $2 AND resolved_at IS NULL
            RETURNING ",
            columns!()
        );
        let update = self.tx.statement(UPDATE).bind(id).bind(assignee.is_some()).bind(assignee.flatten());
        Ok(update.bind(due_at).optional().await?)
    }

    /// None when it is not open.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resolve(
        &mut self,
        id: AuditId,
        outcome: &str,
        by: UserId,
    ) -> Result<Option<ReviewRecord>, StoreError> {
        const RESOLVE: TenantSql = tenant_sql!(
            "UPDATE audit_reviews SET outcome = $3, resolved_at = $4, resolved_by = $5
            WHERE org_id = $1 AND audit_id = $2 AND resolved_at IS NULL
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        Ok(self.tx.statement(RESOLVE).bind(id).bind(outcome).bind(now).bind(by).optional().await?)
    }

    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn comment(&mut self, id: AuditId, author: UserId, body: &str) -> Result<ReviewComment, StoreError> {
        const COMMENT: TenantSql = tenant_sql!(
            "INSERT INTO audit_review_comments (org_id, id, audit_id, author_id, body, created_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            RETURNING id, author_id, body, created_at"
        );
        let now = self.tx.now();
        let comment = self.tx.statement(COMMENT).bind(ReviewCommentId::new()).bind(id).bind(author);
        Ok(comment.bind(body).bind(now).one().await?)
    }

    /// Oldest first, at most 200.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn comments(&mut self, id: AuditId) -> Result<Vec<ReviewComment>, StoreError> {
        const COMMENTS: TenantSql = tenant_sql!(
            "SELECT id, author_id, body, created_at FROM audit_review_comments
            WHERE org_id = $1 AND audit_id = $2
            ORDER BY id
            LIMIT 200"
        );
        Ok(self.tx.statement(COMMENTS).bind(id).all().await?)
    }
}

#[derive(Serialize)]
struct Told {
    org: String,
    id: String,
    /// Microseconds.
    at: i64,
}

/// Opens reviews of the rows that a policy escalated, if there are none.
pub(super) async fn open(tx: &mut Tx, rows: &[&AuditRow]) -> Result<(), StoreError> {
    const POSTGRES: &str = "
        INSERT INTO audit_reviews (org_id, audit_id, escalated_at, due_at)
        SELECT e.org, e.id, e.at, e.at + COALESCE(s.review_hours, 72) * INTERVAL '1 hour'
        FROM (
            SELECT org, id, TIMESTAMPTZ 'epoch' + at * INTERVAL '1 microsecond' AS at
            FROM jsonb_to_recordset($1) AS t(org UUID, id UUID, at BIGINT)
        ) e
        LEFT JOIN audit_settings s ON s.org_id = e.org
        ON CONFLICT DO NOTHING";
    const SQLITE: &str = "
        INSERT INTO audit_reviews (org_id, audit_id, escalated_at, due_at)
        SELECT unhex(e.value ->> 'org'), unhex(e.value ->> 'id'), e.value ->> 'at',
            (e.value ->> 'at') + COALESCE(s.review_hours, 72) * 3600000000
        FROM json_each($1) e
        LEFT JOIN audit_settings s ON s.org_id = unhex(e.value ->> 'org')
        WHERE true
        ON CONFLICT DO NOTHING";
    let escalated = rows.iter().filter(|row| {
        let answer = row.completion.as_ref().and_then(|done| done.answer.as_deref());
        row.event.escalated || answer.is_some_and(|answer| answer.escalated)
    });
    let told: Vec<Told> = escalated
        .filter_map(|row| {
            let org = row.event.org_id?.uuid().simple().to_string();
            Some(Told { org, id: row.event.id.uuid().simple().to_string(), at: row.event.occurred_at.micros() })
        })
        .collect();
    if !told.is_empty() {
        tx.statement(tx.either(POSTGRES, SQLITE)).bind(Json(told)).execute().await?;
    }
    Ok(())
}
