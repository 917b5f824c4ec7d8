//! The review queue: requests that a policy or a person escalated, until somebody says what came of them.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::extract::{Authorized, Filtered, Input, Json, ListQuery, Path, Query, ReadAudit, ReviewAudit, nullable};
use super::problem::{Code, Fault, Problem};
use super::trail::{Act, WriteTx};
use crate::domain::{AuditId, ReviewCommentId, Timestamp, UserId};
use crate::store::{Escalation, ReviewColumn, ReviewComment, ReviewFilter, ReviewRecord, TenantTx};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(escalate))
        .routes(routes!(get, update))
        .routes(routes!(comment))
        .routes(routes!(resolve))
}

/// What came of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewOutcome {
    /// It was what it looked like.
    Confirmed,
    /// It was harmless.
    FalsePositive,
    /// It was what it looked like, and is put up with.
    Accepted,
    /// It cannot be told.
    Inconclusive,
}

impl ReviewOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::FalsePositive => "false_positive",
            Self::Accepted => "accepted",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// The review of one request.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Review {
    /// The request, in the audit trail.
    audit_log_id: AuditId,
    escalated_at: Timestamp,
    /// Null: the policy.
    escalated_by: Option<UserId>,
    reason: Option<String>,
    assignee_id: Option<UserId>,
    due_at: Timestamp,
    /// Null while it is open, like the others.
    #[schema(value_type = Option<ReviewOutcome>)]
    outcome: Option<String>,
    resolved_at: Option<Timestamp>,
    resolved_by: Option<UserId>,
}

impl From<ReviewRecord> for Review {
    fn from(record: ReviewRecord) -> Self {
        Self {
            audit_log_id: record.audit_id,
            escalated_at: record.escalated_at,
            escalated_by: record.escalated_by,
            reason: record.reason,
            assignee_id: record.assignee_id,
            due_at: record.due_at,
            outcome: record.outcome,
            resolved_at: record.resolved_at,
            resolved_by: record.resolved_by,
        }
    }
}

/// What somebody said of a request under review.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Comment {
    id: ReviewCommentId,
    author_id: UserId,
    body: String,
    created_at: Timestamp,
}

impl From<ReviewComment> for Comment {
    fn from(comment: ReviewComment) -> Self {
        let ReviewComment { id, author_id, body, created_at } = comment;
        Self { id, author_id, body, created_at }
    }
}

/// A review with what was said.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ReviewDetails {
    #[serde(flatten)]
    review: Review,
    /// Oldest first; the first 200.
    comments: Vec<Comment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReviewStatus {
    Open,
    /// Open, and its time is up.
    Overdue,
    Resolved,
}

/// All given conditions hold.
#[derive(Deserialize, Serialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ReviewConditions {
    #[param(inline)]
    status: Option<ReviewStatus>,
    #[param(value_type = Option<uuid::Uuid>)]
    assignee_id: Option<UserId>,
}

#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "an unusual pattern"}))]
pub struct Escalate {
    #[schema(max_length = 2_000)]
    reason: Option<String>,
    /// A person of the organization.
    assignee_id: Option<UserId>,
    /// The organization's time for reviews from now on, when it is not given.
    due_at: Option<Timestamp>,
}

/// What is missing stays as it is.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"due_at": "2030-01-01T00:00:00Z"}))]
pub struct ReviewUpdate {
    #[serde(default, deserialize_with = "nullable")]
    assignee_id: Option<Option<UserId>>,
    due_at: Option<Timestamp>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"body": "asked the team that owns the key"}))]
pub struct NewComment {
    #[schema(min_length = 1, max_length = 4_000)]
    body: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"outcome": "confirmed"}))]
pub struct Resolve {
    outcome: ReviewOutcome,
    #[schema(min_length = 1, max_length = 4_000)]
    comment: Option<String>,
}

impl Input for Escalate {}
impl Input for ReviewUpdate {}
impl Input for NewComment {}
impl Input for Resolve {}

const NOT_OPEN: &str = "the request has no open review";

fn not_open() -> Problem {
    Problem::new(Code::Conflict, NOT_OPEN)
}

/// The request must be the organization's, whatever else is wrong.
async fn check(
    tx: &mut TenantTx,
    id: AuditId,
    assignee: Option<UserId>,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Problem> {
    tx.audit_logs().find(id).await?.ok_or_else(Problem::not_found)?;
    let mut faults = Vec::new();
    if let Some(user) = assignee
        && tx.users().find(user).await?.is_none()
    {
        faults.push(Fault::at("/assignee_id", "is nobody of the organization"));
    }
    if due.is_some_and(|due| due <= now) {
        faults.push(Fault::at("/due_at", "must be later than now"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::validation(faults)) }
}

async fn commit(tx: WriteTx, id: AuditId, act: Act) -> Result<(), Problem> {
    Ok(tx.commit(act.on("audit_log", id.uuid())).await?)
}

/// The review queue
///
/// Requests that a policy or a person escalated; `sort=due_at` puts first what is due first.
#[utoipa::path(get, path = "/audit-logs/reviews", tag = "audit", operation_id = "listAuditReviews",
    security(("session" = ["audit:read"])), params(ReviewConditions, ListQuery<ReviewColumn>), responses(
    (status = 200, description = "A page of reviews", body = List<Review>),
))]
async fn list(
    admin: Authorized<ReadAudit>,
    State(api): State<Api>,
    Query(query): Query<Filtered<ReviewConditions, ListQuery<ReviewColumn>>>,
) -> Result<List<Review>, Problem> {
    let status = query.rows.status;
    let filter = ReviewFilter {
        open: status.map(|status| status != ReviewStatus::Resolved),
        due_before: (status == Some(ReviewStatus::Overdue)).then(|| api.state.clock.now()),
        assignee_id: query.rows.assignee_id,
        sort: query.page.sort(),
    };
    let page = admin.read().await?.audit_reviews().list(filter, &query.page.page()).await?;
    Ok(List::new(page, Review::from))
}

/// Escalate a request
///
/// Puts it into the review queue, or back into it when its review was resolved.
#[utoipa::path(post, path = "/audit-logs/{id}/escalate", tag = "audit", operation_id = "escalateAuditLog",
    security(("session" = ["audit:review"])), params(("id" = AuditId, Path)), responses(
    (status = 201, description = "In the queue", body = Review),
    (status = 409, description = "It is there already"),
))]
async fn escalate(
    admin: Authorized<ReviewAudit>,
    State(api): State<Api>,
    Path(id): Path<AuditId>,
    Json(body): Json<Escalate>,
) -> Result<(StatusCode, axum::Json<Review>), Problem> {
    let now = api.state.clock.now();
    let mut tx = admin.write().await?;
    check(&mut tx, id, body.assignee_id, body.due_at, now).await?;
    let hours = tx.audit_settings().get().await?.review_hours;
    let usual = now.plus(Duration::from_secs(3_600 * u64::from(hours)));
    let escalation = Escalation {
        audit_id: id,
        by: admin.session.user.id,
        reason: body.reason,
        assignee_id: body.assignee_id,
        due_at: body.due_at.unwrap_or(usual),
    };
    let opened = tx.audit_reviews().escalate(escalation).await?;
    let review = Review::from(opened.ok_or_else(|| Problem::new(Code::Conflict, "its review is open already"))?);
    commit(tx, id, Act::new("audit_review.open").with(&review)).await?;
    Ok((StatusCode::CREATED, axum::Json(review)))
}

/// The review of a request
#[utoipa::path(get, path = "/audit-logs/{id}/review", tag = "audit", operation_id = "getAuditReview",
    security(("session" = ["audit:read"])), params(("id" = AuditId, Path)), responses(
    (status = 200, description = "The review, with what was said", body = ReviewDetails),
))]
async fn get(admin: Authorized<ReadAudit>, Path(id): Path<AuditId>) -> Result<axum::Json<ReviewDetails>, Problem> {
    let mut tx = admin.read().await?;
    let review = tx.audit_reviews().find(id).await?.ok_or_else(Problem::not_found)?;
    let comments = tx.audit_reviews().comments(id).await?;
    Ok(axum::Json(ReviewDetails { review: review.into(), comments: comments.into_iter().map(Comment::from).collect() }))
}

/// Assign a review, or give it more time
#[utoipa::path(patch, path = "/audit-logs/{id}/review", tag = "audit", operation_id = "updateAuditReview",
    security(("session" = ["audit:review"])), params(("id" = AuditId, Path)), responses(
    (status = 200, description = "Changed", body = Review),
    (status = 409, description = "It is not open"),
))]
async fn update(
    admin: Authorized<ReviewAudit>,
    State(api): State<Api>,
    Path(id): Path<AuditId>,
    Json(body): Json<ReviewUpdate>,
) -> Result<axum::Json<Review>, Problem> {
    let mut tx = admin.write().await?;
    check(&mut tx, id, body.assignee_id.flatten(), body.due_at, api.state.clock.now()).await?;
    let old = Review::from(tx.audit_reviews().find(id).await?.ok_or_else(not_open)?);
    let changed = tx.audit_reviews().update(id, body.assignee_id, body.due_at).await?;
    let review = Review::from(changed.ok_or_else(not_open)?);
    commit(tx, id, Act::new("audit_review.update").changed(&old, &review)).await?;
    Ok(axum::Json(review))
}

/// Comment on a request under review
#[utoipa::path(post, path = "/audit-logs/{id}/comments", tag = "audit", operation_id = "commentAuditReview",
    security(("session" = ["audit:review"])), params(("id" = AuditId, Path)), responses(
    (status = 201, description = "Said", body = Comment),
    (status = 409, description = "It was never escalated"),
))]
async fn comment(
    admin: Authorized<ReviewAudit>,
    State(api): State<Api>,
    Path(id): Path<AuditId>,
    Json(body): Json<NewComment>,
) -> Result<(StatusCode, axum::Json<Comment>), Problem> {
    let mut tx = admin.write().await?;
    check(&mut tx, id, None, None, api.state.clock.now()).await?;
    let unknown = || Problem::new(Code::Conflict, "the request has no review");
    tx.audit_reviews().find(id).await?.ok_or_else(unknown)?;
    let comment = Comment::from(tx.audit_reviews().comment(id, admin.session.user.id, &body.body).await?);
    // What was said stands in the review.
    commit(tx, id, Act::new("audit_review.comment")).await?;
    Ok((StatusCode::CREATED, axum::Json(comment)))
}

/// Say what came of a review
#[utoipa::path(post, path = "/audit-logs/{id}/resolve", tag = "audit", operation_id = "resolveAuditLog",
    security(("session" = ["audit:review"])), params(("id" = AuditId, Path)), responses(
    (status = 200, description = "Resolved", body = Review),
    (status = 409, description = "It is not open"),
))]
async fn resolve(
    admin: Authorized<ReviewAudit>,
    State(api): State<Api>,
    Path(id): Path<AuditId>,
    Json(body): Json<Resolve>,
) -> Result<axum::Json<Review>, Problem> {
    let (mut tx, by) = (admin.write().await?, admin.session.user.id);
    check(&mut tx, id, None, None, api.state.clock.now()).await?;
    let resolved = tx.audit_reviews().resolve(id, body.outcome.as_str(), by).await?;
    let review = Review::from(resolved.ok_or_else(not_open)?);
    if let Some(text) = &body.comment {
        tx.audit_reviews().comment(id, by, text).await?;
    }
    commit(tx, id, Act::new("audit_review.resolve").with(&review)).await?;
    Ok(axum::Json(review))
}
