use sqlx::types::Json;

use super::page::END_OF_TIME;
use super::statement::{TenantSql, tenant_sql};
use super::values::{Count, OptionalCount, corrupt, parsed};
use super::{EventColumn, Sort, StoreError, TenantTx};
use crate::domain::{
    Action, AnswerRecord, ApiKeyId, AuditEvent, AuditFinding, AuditId, CHAIN_ORIGIN, Category, Completion, Coverage,
    Erased, Link, OrgId, PolicyId, Timestamp, WorkspaceId,
};

/// One line of the audit trail as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    pub event: AuditEvent,
    /// None while the request is running.
    pub completion: Option<Completion>,
    /// Place in the chain of (organization, node). None while the request is running, in rows of releases that had no chain,
    /// and when the row is about to be written.
    pub link: Option<Link>,
    /// Hashes of what was erased.
    pub erased: Erased,
}

/// All given conditions hold; `from` is included, `to` is not.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub workspace_id: Option<WorkspaceId>,
    pub api_key_id: Option<ApiKeyId>,
    pub user_id: Option<String>,
    pub action: Option<Action>,
    pub category: Option<Category>,
    /// With a finding of this rule, in the request or in its answer.
    pub rule_id: Option<String>,
    pub min_risk_score: Option<u8>,
    pub max_risk_score: Option<u8>,
    pub model: Option<String>,
    pub upstream: Option<String>,
    pub policy_id: Option<PolicyId>,
    pub policy_version: Option<i64>,
    pub id: Option<AuditId>,
    pub sort: Sort<EventColumn>,
}

/// Requests of one UTC day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayCount {
    /// `2026-11-24`.
    pub day: String,
    pub requests: u64,
    pub blocked: u64,
}

/// What `GET /orgs/me/stats` counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficStats {
    pub requests: u64,
    pub blocked: u64,
    /// Redacted or tokenized.
    pub redacted: u64,
    pub flagged: u64,
    pub pii_detected: u64,
    pub injections_detected: u64,
    pub average_risk_score: f64,
    pub by_day: Vec<DayCount>,
}

/// The requests of the organization.
pub struct AuditLogs<'t> {
    pub(super) tx: &'t mut TenantTx,
}

/// What is written when a row comes.
macro_rules! written {
    () => {
        "id, org_id, workspace_id, api_key_id, occurred_at, node, source, method, path, dialect, upstream, model, user_id, \
         client_ip, policy_id, policy_name, policy_version, action, direction, risk_score, pii_detected, \
         injection_detected, escalated, categories, findings, coverage, error_code, completed_at, outcome, status, \
         upstream_status, duration_us, overhead_us, ttfb_us, response_bytes, input_tokens, output_tokens, \
         completion_error_code, answer, seq, hash"
    };
}
pub(super) use written as written_audit_columns;

macro_rules! columns {
    () => {
        concat!($crate::store::audit_logs::written_audit_columns!(), ", user_id_hash, client_ip_hash")
    };
}
pub(super) use columns as audit_columns;

impl AuditLogs<'_> {
    pub async fn find(&mut self, id: AuditId) -> Result<Option<AuditRow>, StoreError> {
        const FIND: TenantSql = tenant_sql!("SELECT ", columns!(), " FROM audit_logs WHERE org_id = $1 AND id = $2");
        let stored: Option<Stored> = self.tx.statement(FIND).bind(id).optional().await?;
        stored.map(Stored::row).transpose()
    }

    /// What happened since `from`; days are UTC, oldest first, without those on which nothing happened.
    pub async fn stats(&mut self, from: Timestamp) -> Result<TrafficStats, StoreError> {
        const TOTALS: TenantSql = tenant_sql!(
            "SELECT
                COUNT(*) AS requests,
                COUNT(*) FILTER (WHERE action = 'block' OR outcome = 'blocked') AS blocked,
                COUNT(*) FILTER (WHERE action IN ('redact', 'tokenize')) AS redacted,
                COUNT(*) FILTER (WHERE action = 'flag') AS flagged,
                COUNT(*) FILTER (WHERE pii_detected) AS pii_detected,
                COUNT(*) FILTER (WHERE injection_detected) AS injections_detected,
                CAST(COALESCE(SUM(risk_score), 0) AS BIGINT) AS risk
            FROM audit_logs
            WHERE org_id = $1 AND occurred_at >= $2"
        );
        const DAYS_POSTGRES: TenantSql = tenant_sql!(
            "SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
                COUNT(*) AS requests, COUNT(*) FILTER (WHERE action = 'block' OR outcome = 'blocked') AS blocked
            FROM audit_logs
            WHERE org_id = $1 AND occurred_at >= $2
            GROUP BY day
            ORDER BY day"
        );
        const DAYS_SQLITE: TenantSql = tenant_sql!(
            "SELECT strftime('%Y-%m-%d', occurred_at / 1000000, 'unixepoch') AS day,
                COUNT(*) AS requests, COUNT(*) FILTER (WHERE action = 'block' OR outcome = 'blocked') AS blocked
            FROM audit_logs
            WHERE org_id = $1 AND occurred_at >= $2
            GROUP BY day
            ORDER BY day"
        );
        let from = from.clamp(Timestamp::from_micros(0), END_OF_TIME);
        let totals: Totals = self.tx.statement(TOTALS).bind(from).one().await?;
        let days = self.tx.tx.either(DAYS_POSTGRES, DAYS_SQLITE);
        let by_day: Vec<Day> = self.tx.statement(days).bind(from).all().await?;
        Ok(TrafficStats {
            requests: totals.requests,
            blocked: totals.blocked,
            redacted: totals.redacted,
            flagged: totals.flagged,
            pii_detected: totals.pii_detected,
            injections_detected: totals.injections_detected,
            average_risk_score: mean(totals.risk, totals.requests),
            by_day: by_day
                .into_iter()
                .map(|day| DayCount { day: day.day, requests: day.requests, blocked: day.blocked })
                .collect(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean of scores; 2^52 requests are far away")]
fn mean(sum: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum as f64 / count as f64 }
}

#[derive(sqlx::FromRow)]
struct Totals {
    #[sqlx(try_from = "Count")]
    requests: u64,
    #[sqlx(try_from = "Count")]
    blocked: u64,
    #[sqlx(try_from = "Count")]
    redacted: u64,
    #[sqlx(try_from = "Count")]
    flagged: u64,
    #[sqlx(try_from = "Count")]
    pii_detected: u64,
    #[sqlx(try_from = "Count")]
    injections_detected: u64,
    #[sqlx(try_from = "Count")]
    risk: u64,
}

#[derive(sqlx::FromRow)]
struct Day {
    day: String,
    #[sqlx(try_from = "Count")]
    requests: u64,
    #[sqlx(try_from = "Count")]
    blocked: u64,
}

/// A row as the table holds it.
#[derive(sqlx::FromRow)]
pub(super) struct Stored {
    id: AuditId,
    org_id: Option<OrgId>,
    workspace_id: Option<WorkspaceId>,
    api_key_id: Option<ApiKeyId>,
    occurred_at: Timestamp,
    node: String,
    source: String,
    method: String,
    path: String,
    dialect: Option<String>,
    upstream: Option<String>,
    model: Option<String>,
    user_id: Option<String>,
    client_ip: Option<String>,
    policy_id: Option<PolicyId>,
    policy_name: Option<String>,
    policy_version: Option<i64>,
    action: String,
    direction: String,
    #[sqlx(try_from = "Count")]
    risk_score: u8,
    pii_detected: bool,
    injection_detected: bool,
    escalated: bool,
    categories: Json<Vec<Category>>,
    findings: Json<Vec<AuditFinding>>,
    coverage: Json<Coverage>,
    error_code: Option<String>,
    completed_at: Option<Timestamp>,
    outcome: Option<String>,
    #[sqlx(try_from = "OptionalCount")]
    status: Option<u16>,
    #[sqlx(try_from = "OptionalCount")]
    upstream_status: Option<u16>,
    #[sqlx(try_from = "OptionalCount")]
    duration_us: Option<u64>,
    #[sqlx(try_from = "OptionalCount")]
    overhead_us: Option<u64>,
    #[sqlx(try_from = "OptionalCount")]
    ttfb_us: Option<u64>,
    #[sqlx(try_from = "OptionalCount")]
    response_bytes: Option<u64>,
    #[sqlx(try_from = "OptionalCount")]
    input_tokens: Option<u64>,
    #[sqlx(try_from = "OptionalCount")]
    output_tokens: Option<u64>,
    completion_error_code: Option<String>,
    answer: Option<Json<Box<AnswerRecord>>>,
    seq: Option<i64>,
    hash: Option<Vec<u8>>,
    user_id_hash: Option<Vec<u8>>,
    client_ip_hash: Option<Vec<u8>>,
}

impl Stored {
    pub(super) fn row(self) -> Result<AuditRow, StoreError> {
        let completion = match (self.completed_at, self.outcome, self.status) {
            (None, ..) => None,
            (Some(completed_at), Some(outcome), Some(status)) => Some(Completion {
                id: self.id,
                completed_at,
                outcome: parsed(TABLE, "outcome", outcome)?,
                status,
                upstream_status: self.upstream_status,
                duration_us: self.duration_us.unwrap_or(0),
                overhead_us: self.overhead_us.unwrap_or(0),
                ttfb_us: self.ttfb_us,
                response_bytes: self.response_bytes.unwrap_or(0),
                input_tokens: self.input_tokens,
                output_tokens: self.output_tokens,
                error_code: self.completion_error_code,
                answer: self.answer.map(|answer| answer.0),
            }),
            _ => return Err(corrupt(TABLE, "completed_at", "set without an outcome and a status")),
        };
        let event = AuditEvent {
            id: self.id,
            org_id: self.org_id,
            workspace_id: self.workspace_id,
            api_key_id: self.api_key_id,
            occurred_at: self.occurred_at,
            node: self.node.into(),
            source: parsed(TABLE, "source", self.source)?,
            method: self.method.into(),
            path: self.path,
            dialect: self.dialect.map(Into::into),
            upstream: self.upstream.map(Into::into),
            model: self.model,
            user_id: self.user_id,
            client_ip: self.client_ip,
            policy_id: self.policy_id,
            policy_name: self.policy_name.map(Into::into),
            policy_version: self.policy_version,
            action: parsed(TABLE, "action", self.action)?,
            direction: parsed(TABLE, "direction", self.direction)?,
            risk_score: self.risk_score,
            pii_detected: self.pii_detected,
            injection_detected: self.injection_detected,
            escalated: self.escalated,
            categories: self.categories.0,
            findings: self.findings.0,
            coverage: self.coverage.0,
            error_code: self.error_code,
        };
        let link = match (self.seq, self.hash) {
            (None, None) => None,
            // A row without one of the two was tampered with: it has a place, and a hash that nothing has.
            (seq, hash) => Some(Link {
                seq: seq.unwrap_or(0),
                hash: hash.and_then(|hash| hash.try_into().ok()).unwrap_or(CHAIN_ORIGIN),
            }),
        };
        // What is no hash is none: the row then does not fit its chain.
        let erased = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| bytes.try_into().ok());
        let erased = Erased { user_id: erased(self.user_id_hash), client_ip: erased(self.client_ip_hash) };
        Ok(AuditRow { event, completion, link, erased })
    }
}

const TABLE: &str = "audit_logs";
