//! `/orgs/me`: the caller's own organization.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::{Tagged, Versioned};
use super::auth::email_faults;
use super::extract::{
    Authorized, Input, Json, MaybeIfMatch, Query, ReadOrganization, ReadStats, WriteOrganization, name_faults, nullable,
};
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::domain::{OrgId, Timestamp};
use crate::store::{OrganizationPatch, OrganizationRecord, Tier};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get, update)).routes(routes!(stats))
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Organization {
    id: OrgId,
    #[schema(example = "Acme Corp")]
    name: String,
    #[schema(example = "acme-corp")]
    slug: String,
    tier: Tier,
    is_active: bool,
    billing_email: Option<String>,
    /// No bound when null, like the others.
    max_users: Option<u32>,
    max_workspaces: Option<u32>,
    max_api_keys: Option<u32>,
    /// Requests in a calendar month (UTC).
    monthly_request_limit: Option<u64>,
    /// Requests that all nodes have admitted in this month, as of a second ago.
    requests_this_month: u64,
    #[schema(value_type = Object)]
    settings: serde_json::Value,
    version: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Organization {
    pub(super) fn new(record: OrganizationRecord, requests_this_month: u64) -> Self {
        Self {
            id: record.id,
            name: record.name,
            slug: record.slug,
            tier: record.tier,
            is_active: record.is_active,
            billing_email: record.billing_email,
            max_users: record.max_users,
            max_workspaces: record.max_workspaces,
            max_api_keys: record.max_api_keys,
            monthly_request_limit: record.monthly_request_limit,
            requests_this_month,
            settings: record.settings,
            version: record.version,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

impl Versioned for Organization {
    fn version(&self) -> i64 {
        self.version
    }
}

/// What is missing stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Acme Corporation", "billing_email": "billing@acme.com"}))]
pub struct OrganizationUpdate {
    #[schema(min_length = 1, max_length = 100, example = "Acme Corporation")]
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(max_length = 254)]
    billing_email: Option<Option<String>>,
    #[schema(value_type = Option<Object>)]
    settings: Option<serde_json::Value>,
}

impl Input for OrganizationUpdate {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.name.as_ref().map(|name| name_faults("/name", name)).unwrap_or_default();
        if let Some(Some(email)) = &self.billing_email {
            faults.extend(email_faults("/billing_email", email));
        }
        faults
    }
}

/// Your organization
///
/// Its plan, limits and settings.
#[utoipa::path(get, path = "/orgs/me", tag = "organization", operation_id = "getOrganization",
    security(("session" = ["org:read"])), responses(
    (status = 200, description = "The organization; `ETag` is its version", body = Organization),
))]
async fn get(admin: Authorized<ReadOrganization>) -> Result<Tagged<Organization>, Problem> {
    let mut tx = admin.read().await?;
    let record = tx.organization().get().await?;
    let requests = tx.organization().requests_this_month().await?;
    Ok(Tagged(StatusCode::OK, Organization::new(record, requests)))
}

/// Change your organization's settings
///
/// `If-Match` is honoured when sent.
#[utoipa::path(patch, path = "/orgs/me", tag = "organization", operation_id = "updateOrganization",
    security(("session" = ["org:write"])),
    params(("If-Match" = Option<String>, Header, pattern = r#"^"[0-9]{1,18}"$"#, description = "The `ETag` of the version to be changed")), responses(
    (status = 200, description = "Changed", body = Organization),
))]
async fn update(
    admin: Authorized<WriteOrganization>,
    MaybeIfMatch(expected): MaybeIfMatch,
    Json(body): Json<OrganizationUpdate>,
) -> Result<Tagged<Organization>, Problem> {
    let patch = OrganizationPatch {
        name: body.name.map(|name| name.trim().to_owned()),
        billing_email: body.billing_email,
        settings: body.settings,
    };
    let mut tx = admin.write().await?;
    let requests = tx.organization().requests_this_month().await?;
    let old = Organization::new(tx.organization().get().await?, requests);
    let record = tx.organization().update(patch, expected.map(|tag| tag.version())).await?;
    let record = Organization::new(record, requests);
    tx.commit(Act::new("organization.update").on("organization", record.id.uuid()).changed(&old, &record)).await?;
    Ok(Tagged(StatusCode::OK, record))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StatsQuery {
    /// How many days back, 1 to 366 (30).
    #[param(minimum = 1, maximum = 366, example = 30)]
    days: Option<u32>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Day {
    /// In UTC.
    #[schema(example = "2026-11-24")]
    day: String,
    requests: u64,
    blocked: u64,
}

/// What happened between `from` and `to`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Stats {
    from: Timestamp,
    to: Timestamp,
    /// People and workspaces now.
    users: u64,
    workspaces: u64,
    requests: u64,
    blocked: u64,
    /// Redacted or tokenized.
    redacted: u64,
    flagged: u64,
    /// Requests with personal data in them, whatever was done about it.
    pii_detected: u64,
    /// Requests with injection, jailbreak or extraction in them.
    injections_detected: u64,
    /// 0 to 100.
    average_risk_score: f64,
    by_day: Vec<Day>,
}

/// Usage statistics
///
/// Counts of requests and of what was found in them.
#[utoipa::path(get, path = "/orgs/me/stats", tag = "organization", operation_id = "getStats",
    security(("session" = ["stats:read"])), params(StatsQuery), responses(
    (status = 200, description = "The figures", body = Stats),
))]
async fn stats(
    admin: Authorized<ReadStats>,
    State(api): State<Api>,
    Query(query): Query<StatsQuery>,
) -> Result<axum::Json<Stats>, Problem> {
    let to = api.state.clock.now();
    let from = to.minus(Duration::from_secs(u64::from(query.days.unwrap_or(30)) * 86_400));
    let mut tx = admin.read().await?;
    let traffic = tx.audit_logs().stats(from).await?;
    Ok(axum::Json(Stats {
        from,
        to,
        users: tx.users().count().await?,
        workspaces: tx.workspaces().count().await?,
        requests: traffic.requests,
        blocked: traffic.blocked,
        redacted: traffic.redacted,
        flagged: traffic.flagged,
        pii_detected: traffic.pii_detected,
        injections_detected: traffic.injections_detected,
        average_risk_score: traffic.average_risk_score,
        by_day: traffic
            .by_day
            .into_iter()
            .map(|day| Day { day: day.day, requests: day.requests, blocked: day.blocked })
            .collect(),
    }))
}
