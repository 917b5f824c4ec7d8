//! `/audit-logs`: what the gateway remembers of every request.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::admin_events::{EventList, check_span};
use super::answer::List;
use super::export::{self, ExportQuery};
use super::extract::{Authorized, EraseAudit, Filtered, Input, Json, Path, Query, ReadAudit};
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::audit::{self, ChainReport, SignedCheckpoint, Trusted};
use crate::domain::{
    Action, AnswerRecord, ApiKeyId, AuditFinding, AuditId, Category, Coverage, Direction, Outcome, PolicyId, RequestId,
    Source, Timestamp, WorkspaceId,
};
use crate::store::{AuditFilter, AuditRow, EventColumn, Sort};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(histogram))
        .routes(routes!(export))
        .routes(routes!(verify))
        .routes(routes!(erase))
        .routes(routes!(checkpoints))
        .routes(routes!(get))
}

/// One request: what was found and done, never its text.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AuditLog {
    id: AuditId,
    /// As the application was told it.
    #[schema(value_type = String, example = "req_0193b5d0a5d17c3a8f2e4b6c8d0e1f23")]
    request_id: RequestId,
    workspace_id: Option<WorkspaceId>,
    api_key_id: Option<ApiKeyId>,
    occurred_at: Timestamp,
    /// The gateway node.
    node: String,
    source: Source,
    #[schema(example = "POST")]
    method: String,
    #[schema(example = "/v1/chat/completions")]
    path: String,
    #[schema(example = "openai")]
    dialect: Option<String>,
    upstream: Option<String>,
    model: Option<String>,
    /// The application's own name for its end user.
    user_id: Option<String>,
    client_ip: Option<String>,
    policy_id: Option<PolicyId>,
    policy_name: Option<String>,
    policy_version: Option<i64>,
    action: Action,
    direction: Direction,
    /// 0 to 100.
    risk_score: u8,
    pii_detected: bool,
    injection_detected: bool,
    /// Marked for human review.
    escalated: bool,
    categories: Vec<Category>,
    findings: Vec<AuditFinding>,
    coverage: Coverage,
    /// Why Sentinel refused.
    #[schema(example = "content_filter")]
    error_code: Option<String>,
    /// Null, like all that follows, while the request is running.
    outcome: Option<Outcome>,
    completed_at: Option<Timestamp>,
    /// What the application was told.
    status: Option<u16>,
    upstream_status: Option<u16>,
    duration_us: Option<u64>,
    /// Time not spent waiting for the upstream or the client.
    overhead_us: Option<u64>,
    /// Time to the first byte of the answer.
    ttfb_us: Option<u64>,
    response_bytes: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    /// What was found in the answer and done about it; null where nobody looked at one.
    answer: Option<AnswerRecord>,
    /// Its place in the chain of hashes of its node, from 1; null while the request is running.
    seq: Option<i64>,
    /// Whether its end user was erased.
    erased: bool,
}

impl From<AuditRow> for AuditLog {
    fn from(AuditRow { event, completion, link, erased }: AuditRow) -> Self {
        let done = completion.as_ref();
        Self {
            id: event.id,
            request_id: event.id.into(),
            workspace_id: event.workspace_id,
            api_key_id: event.api_key_id,
            occurred_at: event.occurred_at,
            node: event.node.to_string(),
            source: event.source,
            method: event.method.to_string(),
            path: event.path,
            dialect: event.dialect.as_deref().map(str::to_owned),
            upstream: event.upstream.as_deref().map(str::to_owned),
            model: event.model,
            user_id: event.user_id,
            client_ip: event.client_ip,
            policy_id: event.policy_id,
            policy_name: event.policy_name.as_deref().map(str::to_owned),
            policy_version: event.policy_version,
            action: event.action,
            direction: event.direction,
            risk_score: event.risk_score,
            pii_detected: event.pii_detected,
            injection_detected: event.injection_detected,
            escalated: event.escalated,
            categories: event.categories,
            findings: event.findings,
            coverage: event.coverage,
            error_code: done.and_then(|done| done.error_code.clone()).or(event.error_code),
            outcome: done.map(|done| done.outcome),
            completed_at: done.map(|done| done.completed_at),
            status: done.map(|done| done.status),
            upstream_status: done.and_then(|done| done.upstream_status),
            duration_us: done.map(|done| done.duration_us),
            overhead_us: done.map(|done| done.overhead_us),
            ttfb_us: done.and_then(|done| done.ttfb_us),
            response_bytes: done.map(|done| done.response_bytes),
            input_tokens: done.and_then(|done| done.input_tokens),
            output_tokens: done.and_then(|done| done.output_tokens),
            answer: completion.and_then(|done| done.answer).map(|answer| *answer),
            seq: link.map(|link| link.seq),
            erased: erased.is_anything(),
        }
    }
}

/// All given conditions hold.
#[derive(Deserialize, Serialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditConditions {
    /// Not before.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>, example = "2026-11-24T00:00:00Z")]
    from: Option<Timestamp>,
    /// Before.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    to: Option<Timestamp>,
    #[param(value_type = Option<uuid::Uuid>)]
    workspace_id: Option<WorkspaceId>,
    #[param(value_type = Option<uuid::Uuid>)]
    api_key_id: Option<ApiKeyId>,
    /// The application's own name for its end user.
    #[serde(serialize_with = "by_hash")]
    user_id: Option<String>,
    /// What was done with the request; `block` also finds requests whose answer was blocked.
    #[param(inline)]
    action: Option<Action>,
    /// With a finding of this kind, in the request or in its answer.
    #[param(inline)]
    category: Option<Category>,
    /// With a finding of this rule, in the request or in its answer.
    #[param(example = "pii.email_address")]
    rule_id: Option<String>,
    /// 0 to 100.
    #[param(minimum = 0, maximum = 100)]
    min_risk_score: Option<u8>,
    /// 0 to 100.
    #[param(minimum = 0, maximum = 100)]
    max_risk_score: Option<u8>,
    model: Option<String>,
    #[param(example = "openai")]
    upstream: Option<String>,
    #[param(value_type = Option<uuid::Uuid>)]
    policy_id: Option<PolicyId>,
    #[param(minimum = 1)]
    policy_version: Option<i64>,
    /// As the application was told it in `x-request-id`.
    #[param(value_type = Option<String>, example = "req_0193b5d0a5d17c3a8f2e4b6c8d0e1f23")]
    request_id: Option<String>,
}

/// In the trail of the admin face a search for an end user keeps no name, as it would outlive the user's erasure.
fn by_hash<S: serde::Serializer>(user_id: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let hash = |name: &String| Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    user_id.as_ref().map(|name| format!("sha256:{}", hash(name))).serialize(serializer)
}

impl AuditConditions {
    fn filter(&self, sort: Sort<EventColumn>) -> Result<AuditFilter, Problem> {
        check_span(self.from, self.to)?;
        let id = self.request_id.as_deref().map(|text| {
            let read = text.parse::<RequestId>().map(RequestId::audit_id);
            read.map_err(|_| Problem::query(vec![Fault::parameter("request_id", "is not the id of a request")]))
        });
        Ok(AuditFilter {
            from: self.from,
            to: self.to,
            workspace_id: self.workspace_id,
            api_key_id: self.api_key_id,
            user_id: self.user_id.clone(),
            action: self.action,
            category: self.category,
            rule_id: self.rule_id.clone(),
            min_risk_score: self.min_risk_score,
            max_risk_score: self.max_risk_score,
            model: self.model.clone(),
            upstream: self.upstream.clone(),
            policy_id: self.policy_id,
            policy_version: self.policy_version,
            id: id.transpose()?,
            sort,
        })
    }

    pub const fn span(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.from, self.to)
    }
}

/// The audit trail of requests
///
/// Newest first when nothing else is asked for. A request is listed when its record has reached the database, usually
/// within a second.
#[utoipa::path(get, path = "/audit-logs", tag = "audit", operation_id = "listAuditLogs",
    security(("session" = ["audit:read"])), params(AuditConditions, EventList), responses(
    (status = 200, description = "A page of requests", body = List<AuditLog>),
))]
async fn list(
    admin: Authorized<ReadAudit>,
    Query(query): Query<Filtered<AuditConditions, EventList>>,
) -> Result<List<AuditLog>, Problem> {
    let filter = query.rows.filter(query.page.sort())?;
    let mut tx = admin.read().await?;
    let page = tx.audit_logs().list(&filter, &query.page.page()).await?;
    drop(tx);
    admin.record(Act::new("audit_log.list").with(&query)).await?;
    Ok(List::new(page, AuditLog::from))
}

/// How wide the buckets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BucketWidth {
    Minute,
    Hour,
    #[default]
    Day,
}

impl BucketWidth {
    const fn seconds(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

#[derive(Deserialize, Serialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct HistogramQuery {
    /// `day` when not given.
    #[param(inline)]
    bucket: Option<BucketWidth>,
}

/// Requests of a bucket of time.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Bucket {
    /// Whole minutes, hours or days of UTC.
    start: Timestamp,
    requests: u64,
}

/// How many requests meet the conditions.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Histogram {
    /// The sum of all buckets.
    requests: u64,
    /// Oldest first, without those that are empty.
    data: Vec<Bucket>,
}

/// Buckets of an answer.
const MAX_BUCKETS: i64 = 2_000;
/// What is counted when `from` is not given.
const USUAL_BUCKETS: u32 = 30;

/// Count requests by time
///
/// The requests that meet the conditions, by minute, hour or day of UTC. Without `to` up to now, without `from` from 30 buckets
/// before `to`. At most 2,000 buckets.
#[utoipa::path(get, path = "/audit-logs/histogram", tag = "audit", operation_id = "countAuditLogs",
    security(("session" = ["audit:read"])), params(HistogramQuery, AuditConditions), responses(
    (status = 200, description = "The counts", body = Histogram),
))]
async fn histogram(
    admin: Authorized<ReadAudit>,
    State(api): State<Api>,
    Query(query): Query<Filtered<AuditConditions, HistogramQuery>>,
) -> Result<axum::Json<Histogram>, Problem> {
    let mut filter = query.rows.filter(Sort::default())?;
    let seconds = query.page.bucket.unwrap_or_default().seconds();
    let width = Duration::from_secs(seconds.into());
    let to = filter.to.unwrap_or_else(|| api.state.clock.now());
    let from = filter.from.unwrap_or_else(|| to.minus(USUAL_BUCKETS * width));
    if to.micros().saturating_sub(from.micros()) / 1_000_000 > MAX_BUCKETS * i64::from(seconds) {
        let detail = format!("makes more than {MAX_BUCKETS} buckets");
        return Err(Problem::query(vec![Fault::parameter("from", detail)]));
    }
    (filter.from, filter.to) = (Some(from), Some(to));
    let counts = admin.read().await?.audit_logs().histogram(&filter, width).await?;
    admin.record(Act::new("audit_log.count").with(&query)).await?;
    let data: Vec<Bucket> =
        counts.into_iter().map(|count| Bucket { start: count.start, requests: count.requests }).collect();
    Ok(axum::Json(Histogram { requests: data.iter().map(|bucket| bucket.requests).sum(), data }))
}

/// The columns of a CSV export: all fields of [`AuditLog`].
const COLUMNS: &[&str] = &[
    "id",
    "request_id",
    "workspace_id",
    "api_key_id",
    "occurred_at",
    "node",
    "source",
    "method",
    "path",
    "dialect",
    "upstream",
    "model",
    "user_id",
    "client_ip",
    "policy_id",
    "policy_name",
    "policy_version",
    "action",
    "direction",
    "risk_score",
    "pii_detected",
    "injection_detected",
    "escalated",
    "categories",
    "findings",
    "coverage",
    "error_code",
    "outcome",
    "completed_at",
    "status",
    "upstream_status",
    "duration_us",
    "overhead_us",
    "ttfb_us",
    "response_bytes",
    "input_tokens",
    "output_tokens",
    "answer",
    "seq",
    "erased",
];

/// Export the audit trail of requests
///
/// Newest first, as one download of JSON lines or CSV. A download that breaks off is not whole.
#[utoipa::path(get, path = "/audit-logs/export", tag = "audit", operation_id = "exportAuditLogs",
    security(("session" = ["audit:read"])), params(ExportQuery, AuditConditions), responses(
    (status = 200, description = "The requests", content((String = "application/jsonl"), (String = "text/csv"))),
))]
async fn export(
    admin: Authorized<ReadAudit>,
    State(api): State<Api>,
    Query(query): Query<Filtered<AuditConditions, ExportQuery>>,
) -> Result<Response, Problem> {
    let mut filter = query.rows.filter(Sort::default())?;
    // Up to now: what happens while the client reads is not part of it.
    filter.to.get_or_insert(api.state.clock.now());
    admin.record(Act::new("audit_log.export").with(&query)).await?;
    let (store, scope) = (api.state.store, admin.session.scope);
    let read = move |page| {
        let (store, filter) = (store.clone(), filter.clone());
        async move { Ok(store.read(scope).await?.audit_logs().list(&filter, &page).await?) }
    };
    export::stream("audit-logs", query.page.format.unwrap_or_default(), COLUMNS, read, AuditLog::from).await
}

/// Check the audit trail
///
/// Every row against the chain of hashes that it is part of, and the chains against what nodes have signed. Reads all rows: a
/// million takes seconds. What is not intact is named, in an answer that is 200 all the same.
#[utoipa::path(get, path = "/audit-logs/verify", tag = "audit", operation_id = "verifyAuditLogs",
    security(("session" = ["audit:read"])), responses(
    (status = 200, description = "What was found", body = ChainReport),
))]
async fn verify(admin: Authorized<ReadAudit>, State(api): State<Api>) -> Result<axum::Json<ChainReport>, Problem> {
    let report = audit::verify(&api.state.store, admin.session.scope, &Trusted::default()).await?;
    admin.record(Act::new("audit_log.verify")).await?;
    Ok(axum::Json(report))
}

/// Who is erased: one end user, or everyone.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user_id": "customer_123"}))]
pub struct EraseUsers {
    /// The application's own name for its end user.
    #[schema(min_length = 1)]
    user_id: Option<String>,
    /// Instead of one user all of the organization's.
    #[serde(default)]
    everyone: bool,
}

impl Input for EraseUsers {
    fn faults(&self) -> Vec<Fault> {
        if self.user_id.is_some() == self.everyone {
            return vec![Fault::at("", "names either a `user_id` or `everyone`")];
        }
        Vec::new()
    }
}

/// What was erased.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ErasedUsers {
    /// Requests that named the user.
    requests: u64,
}

/// Erase end users
///
/// Removes the names and addresses of one end user, or of all, from the audit trail, for good. Hashes stay in their place: the
/// chain of the trail remains verifiable. A request that reaches the database later is not erased.
#[utoipa::path(post, path = "/audit-logs/erase", tag = "audit", operation_id = "eraseAuditUsers",
    security(("session" = ["audit:erase"])), responses(
    (status = 200, description = "Erased", body = ErasedUsers),
    (status = 409, description = "The trail is on legal hold"),
))]
async fn erase(
    admin: Authorized<EraseAudit>,
    State(api): State<Api>,
    Json(body): Json<EraseUsers>,
) -> Result<axum::Json<ErasedUsers>, Problem> {
    let whom = body.user_id.as_deref().map_or(audit::Erasure::Everyone, audit::Erasure::User);
    // Before and after: an erasure that breaks off is an act as well.
    admin.record(Act::new("audit_log.erase").with(&serde_json::json!({ "everyone": body.everyone }))).await?;
    let requests = audit::erase(&api.state.store, admin.session.scope, whom).await?;
    let erased = ErasedUsers { requests };
    admin.record(Act::new("audit_log.erased").with(&erased)).await?;
    Ok(axum::Json(erased))
}

/// All checkpoints.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Checkpoints {
    data: Vec<SignedCheckpoint>,
}

/// What nodes have signed
///
/// How far each chain of the audit trail had come at a time, with the public key to check it. To be kept elsewhere: a trail
/// that was cut or written anew does not fit them any more (`sentinel audit verify --checkpoints FILE`).
#[utoipa::path(get, path = "/audit-logs/checkpoints", tag = "audit", operation_id = "listAuditCheckpoints",
    security(("session" = ["audit:read"])), responses(
    (status = 200, description = "By node, oldest first", body = Checkpoints),
))]
async fn checkpoints(admin: Authorized<ReadAudit>) -> Result<axum::Json<Checkpoints>, Problem> {
    let points = admin.read().await?.audit_logs().checkpoints().await?;
    admin.record(Act::new("audit_checkpoint.list")).await?;
    Ok(axum::Json(Checkpoints { data: points.into_iter().map(SignedCheckpoint::from).collect() }))
}

/// One request of the audit trail
///
/// By the id in `x-request-id`, as a UUID.
#[utoipa::path(get, path = "/audit-logs/{id}", tag = "audit", operation_id = "getAuditLog",
    security(("session" = ["audit:read"])), params(("id" = AuditId, Path)), responses(
    (status = 200, description = "The request", body = AuditLog),
))]
async fn get(admin: Authorized<ReadAudit>, Path(id): Path<AuditId>) -> Result<axum::Json<AuditLog>, Problem> {
    let row = admin.read().await?.audit_logs().find(id).await?.ok_or_else(Problem::not_found)?;
    admin.record(Act::new("audit_log.read").on("audit_log", id.uuid())).await?;
    Ok(axum::Json(row.into()))
}
