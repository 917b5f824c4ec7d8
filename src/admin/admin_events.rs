//! `/admin-events`: who did what on the admin face.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::export::{self, ExportQuery};
use super::extract::{Authorized, Filtered, ListQuery, Query, ReadAdminEvents};
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::domain::{AdminEventId, Timestamp};
use crate::store::{ActorType, AdminEventFilter, AdminEventRecord, EventColumn, EventOutcome, Sort};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export))
}

/// One act on the admin face.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AdminEvent {
    id: AdminEventId,
    occurred_at: Timestamp,
    actor_type: ActorType,
    /// Null when nobody could be recognised, and for operators.
    actor_id: Option<uuid::Uuid>,
    #[schema(example = "founder@acme.com")]
    actor_email: Option<String>,
    /// `resource.verb`.
    #[schema(example = "policy.update")]
    action: String,
    #[schema(example = "policy")]
    target_type: Option<String>,
    target_id: Option<uuid::Uuid>,
    outcome: EventOutcome,
    ip: Option<String>,
    user_agent: Option<String>,
    /// As the caller was told it in `x-request-id`.
    #[schema(example = "req_0193b5d0a5d17c3a8f2e4b6c8d0e1f23")]
    request_id: Option<String>,
    /// The fields that changed, as they were. Secrets are left out, long values are named by their hash.
    #[schema(value_type = Option<Object>)]
    before: Option<serde_json::Value>,
    /// The same fields as they are; what was asked for, of an export or a refused attempt.
    #[schema(value_type = Option<Object>)]
    after: Option<serde_json::Value>,
}

/// The columns of a CSV export: all fields of [`AdminEvent`].
const COLUMNS: &[&str] = &[
    "id",
    "occurred_at",
    "actor_type",
    "actor_id",
    "actor_email",
    "action",
    "target_type",
    "target_id",
    "outcome",
    "ip",
    "user_agent",
    "request_id",
    "before",
    "after",
];

impl From<AdminEventRecord> for AdminEvent {
    fn from(record: AdminEventRecord) -> Self {
        Self {
            id: record.id,
            occurred_at: record.occurred_at,
            actor_type: record.actor_type,
            actor_id: record.actor_id,
            actor_email: record.actor_email,
            action: record.action,
            target_type: record.target_type,
            target_id: record.target_id,
            outcome: record.outcome,
            ip: record.ip,
            user_agent: record.user_agent,
            request_id: record.request_id,
            before: record.before,
            after: record.after,
        }
    }
}

/// All given conditions hold.
#[derive(Deserialize, Serialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventConditions {
    /// Not before.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>, example = "2026-11-24T00:00:00Z")]
    from: Option<Timestamp>,
    /// Before.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    to: Option<Timestamp>,
    /// The id of who acted.
    actor: Option<uuid::Uuid>,
    /// `resource.verb`.
    #[param(example = "policy.update")]
    action: Option<String>,
    /// The kind of thing that it was done to.
    #[param(example = "policy")]
    target_type: Option<String>,
    /// The id of the thing that it was done to.
    target: Option<uuid::Uuid>,
    #[param(inline)]
    outcome: Option<EventOutcome>,
}

impl EventConditions {
    fn filter(&self, sort: Sort<EventColumn>) -> Result<AdminEventFilter, Problem> {
        check_span(self.from, self.to)?;
        Ok(AdminEventFilter {
            from: self.from,
            to: self.to,
            actor_id: self.actor,
            action: self.action.clone(),
            target_type: self.target_type.clone(),
            target_id: self.target,
            outcome: self.outcome,
            sort,
        })
    }

    pub const fn span(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.from, self.to)
    }
}

pub type EventList = ListQuery<EventColumn>;

/// What is wrong with a span that ends before it begins.
pub const SPAN: &str = "must be later than `from`";

pub fn is_backwards(from: Option<Timestamp>, to: Option<Timestamp>) -> bool {
    from.zip(to).is_some_and(|(from, to)| from >= to)
}

/// Refuses a span that ends before it begins.
pub(super) fn check_span(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<(), Problem> {
    if is_backwards(from, to) { Err(Problem::query(vec![Fault::parameter("to", SPAN)])) } else { Ok(()) }
}

/// The audit trail of the admin face
///
/// Newest first when nothing else is asked for: every write, every read of audit data, every export, and refused attempts
/// of the organization's people. Listing is such a read and appears in the next list.
#[utoipa::path(get, path = "/admin-events", tag = "audit", operation_id = "listAdminEvents",
    security(("session" = ["admin_events:read"])), params(EventConditions, EventList), responses(
    (status = 200, description = "A page of events", body = List<AdminEvent>),
))]
async fn list(
    admin: Authorized<ReadAdminEvents>,
    Query(query): Query<Filtered<EventConditions, EventList>>,
) -> Result<List<AdminEvent>, Problem> {
    let filter = query.rows.filter(query.page.sort())?;
    let page = admin.read().await?.admin_events().list(&filter, &query.page.page()).await?;
    admin.record(Act::new("admin_event.list").with(&query)).await?;
    Ok(List::new(page, AdminEvent::from))
}

/// Export the audit trail of the admin face
///
/// Newest first, as one download of JSON lines or CSV. A download that breaks off is not whole.
#[utoipa::path(get, path = "/admin-events/export", tag = "audit", operation_id = "exportAdminEvents",
    security(("session" = ["admin_events:read"])), params(ExportQuery, EventConditions), responses(
    (status = 200, description = "The events", content((String = "application/jsonl"), (String = "text/csv"))),
))]
async fn export(
    admin: Authorized<ReadAdminEvents>,
    State(api): State<Api>,
    Query(query): Query<Filtered<EventConditions, ExportQuery>>,
) -> Result<Response, Problem> {
    let mut filter = query.rows.filter(Sort::default())?;
    // Up to now: what happens while the client reads, the record of this export first, is not part of it.
    filter.to.get_or_insert(api.state.clock.now());
    admin.record(Act::new("admin_event.export").with(&query)).await?;
    let (store, scope) = (api.state.store, admin.session.scope);
    let read = move |page| {
        let (store, filter) = (store.clone(), filter.clone());
        async move { Ok(store.read(scope).await?.admin_events().list(&filter, &page).await?) }
    };
    export::stream("admin-events", query.page.format.unwrap_or_default(), COLUMNS, read, AdminEvent::from).await
}
