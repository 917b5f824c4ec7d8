//! `/saved-filters`: the query of a list under a name, for oneself or for everybody in the organization.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::admin_events::{EventConditions, EventList, SPAN, is_backwards};
use super::answer::{List, Tagged, Versioned};
use super::audit_logs::AuditConditions;
use super::extract::{
    Authorized, Filtered, IfMatch, Input, Json, ListQuery, Path, Query, ReadAudit, name_faults, read_kept,
};
use super::problem::{Fault, Problem};
use super::trail::{Act, WriteTx};
use crate::authn::{Permission, Session};
use crate::domain::{SavedFilterId, Timestamp, UserId};
use crate::store::{NewSavedFilter, SavedFilterColumn, SavedFilterPatch, SavedFilterRecord};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, remove))
}

/// The list that a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    AuditLogs,
    /// Only for those who may read them.
    AdminEvents,
}

impl Resource {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AuditLogs => "audit-logs",
            Self::AdminEvents => "admin-events",
        }
    }

    fn of(record: &SavedFilterRecord) -> Option<Self> {
        [Self::AuditLogs, Self::AdminEvents].into_iter().find(|resource| resource.as_str() == record.resource)
    }

    fn is_readable_by(self, session: &Session) -> bool {
        match self {
            Self::AuditLogs => session.authority.has(Permission::ReadAudit),
            Self::AdminEvents => session.authority.has(Permission::ReadAdminEvents),
        }
    }

    /// What the list itself would refuse in `query`, and a place in it, which no filter has.
    fn faults(self, query: &Map<String, Value>) -> Vec<Fault> {
        const AT: &str = "/query";
        let (mut faults, (from, to)) = match self {
            Self::AuditLogs => match read_kept::<Filtered<AuditConditions, EventList>>(query, AT) {
                Ok(read) => (Vec::new(), read.rows.span()),
                Err(faults) => (faults, (None, None)),
            },
            Self::AdminEvents => match read_kept::<Filtered<EventConditions, EventList>>(query, AT) {
                Ok(read) => (Vec::new(), read.rows.span()),
                Err(faults) => (faults, (None, None)),
            },
        };
        if is_backwards(from, to) {
            faults.push(Fault::at(format!("{AT}/to"), SPAN));
        }
        if query.contains_key("cursor") {
            faults.push(Fault::at(format!("{AT}/cursor"), "is of one walk through the list and cannot be kept"));
        }
        faults
    }
}

/// A list's query under a name.
#[derive(Serialize, utoipa::ToSchema)]
pub struct SavedFilter {
    id: SavedFilterId,
    #[schema(example = "Blocked, high risk")]
    name: String,
    #[schema(value_type = Resource, example = "audit-logs")]
    resource: String,
    /// Parameters of that list.
    #[schema(value_type = Object, example = json!({"action": "block", "min_risk_score": 70}))]
    query: Value,
    /// Whether everybody in the organization who may read the list sees it.
    shared: bool,
    created_by: UserId,
    version: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<SavedFilterRecord> for SavedFilter {
    fn from(record: SavedFilterRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            resource: record.resource,
            query: record.filter,
            shared: record.is_shared,
            created_by: record.user_id,
            version: record.version,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

impl Versioned for SavedFilter {
    fn version(&self) -> i64 {
        self.version
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedFilterCreate {
    #[schema(min_length = 1, max_length = 100, example = "Blocked, high risk")]
    name: String,
    resource: Resource,
    /// Parameters of that list, but no `cursor`.
    #[schema(value_type = Object, example = json!({"action": "block", "min_risk_score": 70}))]
    query: Map<String, Value>,
    /// Let everybody in the organization who may read the list see it (false).
    #[serde(default)]
    shared: bool,
}

impl Input for SavedFilterCreate {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = name_faults("/name", &self.name);
        faults.extend(self.resource.faults(&self.query));
        faults
    }
}

/// What is missing stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedFilterUpdate {
    #[schema(min_length = 1, max_length = 100, example = "Blocked, highest risk")]
    name: Option<String>,
    /// Replaces the whole of it.
    #[schema(value_type = Option<Object>, example = json!({"action": "block", "min_risk_score": 90}))]
    query: Option<Map<String, Value>>,
    shared: Option<bool>,
}

impl Input for SavedFilterUpdate {
    fn faults(&self) -> Vec<Fault> {
        self.name.as_ref().map(|name| name_faults("/name", name)).unwrap_or_default()
    }
}

type SavedFilterList = ListQuery<SavedFilterColumn>;

/// Saved filters
///
/// Your own and the shared ones, newest first when nothing else is asked for; only those of lists that you may read.
#[utoipa::path(get, path = "/saved-filters", tag = "audit", operation_id = "listSavedFilters",
    security(("session" = ["audit:read"])), params(SavedFilterList), responses(
    (status = 200, description = "A page of saved filters", body = List<SavedFilter>),
))]
async fn list(
    admin: Authorized<ReadAudit>,
    Query(query): Query<SavedFilterList>,
) -> Result<List<SavedFilter>, Problem> {
    let resources = [Resource::AuditLogs, Resource::AdminEvents]
        .map(|resource| resource.is_readable_by(&admin.session).then_some(resource.as_str()));
    let mut tx = admin.read().await?;
    let page = tx.saved_filters().list(admin.session.user.id, resources, query.sort(), &query.page()).await?;
    Ok(List::new(page, SavedFilter::from))
}

/// Save a filter
///
/// `query` takes what the list itself takes, and is refused where the list would refuse it. A filter of `admin-events`
/// needs the permission `admin_events:read` as well.
#[utoipa::path(post, path = "/saved-filters", tag = "audit", operation_id = "createSavedFilter",
    security(("session" = ["audit:read"])), responses(
    (status = 201, description = "Saved", body = SavedFilter),
    (status = 409, description = "You have one of that name for this list"),
))]
async fn create(
    admin: Authorized<ReadAudit>,
    Json(body): Json<SavedFilterCreate>,
) -> Result<Tagged<SavedFilter>, Problem> {
    if !body.resource.is_readable_by(&admin.session) {
        return Err(Problem::forbidden(Permission::ReadAdminEvents));
    }
    let filter = NewSavedFilter {
        id: SavedFilterId::new(),
        user_id: admin.session.user.id,
        resource: body.resource.as_str().to_owned(),
        name: body.name.trim().to_owned(),
        filter: Value::Object(body.query),
        is_shared: body.shared,
    };
    let mut tx = admin.write().await?;
    let record = SavedFilter::from(tx.saved_filters().insert(filter).await?);
    tx.commit(Act::new("saved_filter.create").on("saved_filter", record.id.uuid()).with(&record)).await?;
    Ok(Tagged(StatusCode::CREATED, record))
}

/// A saved filter
///
/// Your own or a shared one; its `ETag` is what `If-Match` takes.
#[utoipa::path(get, path = "/saved-filters/{id}", tag = "audit", operation_id = "getSavedFilter",
    security(("session" = ["audit:read"])), params(("id" = SavedFilterId, Path)), responses(
    (status = 200, description = "The saved filter", body = SavedFilter),
))]
async fn get(admin: Authorized<ReadAudit>, Path(id): Path<SavedFilterId>) -> Result<Tagged<SavedFilter>, Problem> {
    let record = admin.read().await?.saved_filters().find(id, admin.session.user.id).await?;
    let (record, _) = visible(record, &admin.session)?;
    Ok(Tagged(StatusCode::OK, record.into()))
}

/// One whose list the person may read.
fn visible(record: Option<SavedFilterRecord>, session: &Session) -> Result<(SavedFilterRecord, Resource), Problem> {
    let record = record.ok_or_else(Problem::not_found)?;
    let resource = Resource::of(&record).filter(|resource| resource.is_readable_by(session));
    Ok((record, resource.ok_or_else(Problem::not_found)?))
}

/// One that the person may change: their own, or a shared one when they may change the organization.
async fn editable(
    tx: &mut WriteTx,
    id: SavedFilterId,
    session: &Session,
) -> Result<(SavedFilterRecord, Resource), Problem> {
    let found = visible(tx.saved_filters().find(id, session.user.id).await?, session)?;
    if found.0.user_id != session.user.id && !session.authority.has(Permission::WriteOrganization) {
        return Err(Problem::forbidden(Permission::WriteOrganization));
    }
    Ok(found)
}

/// Change a saved filter
///
/// Your own; a shared one of somebody else with the permission `org:write` as well. Its list stays the same.
#[utoipa::path(patch, path = "/saved-filters/{id}", tag = "audit", operation_id = "updateSavedFilter",
    security(("session" = ["audit:read"])),
    params(("id" = SavedFilterId, Path), ("If-Match" = String, Header, pattern = r#"^"[0-9]{1,18}"$"#, description = "The `ETag` of the version to be changed")), responses(
    (status = 200, description = "Changed", body = SavedFilter),
    (status = 409, description = "Its maker has another of that name for this list"),
))]
async fn update(
    admin: Authorized<ReadAudit>,
    Path(id): Path<SavedFilterId>,
    if_match: IfMatch,
    Json(body): Json<SavedFilterUpdate>,
) -> Result<Tagged<SavedFilter>, Problem> {
    let mut tx = admin.write().await?;
    let (old, resource) = editable(&mut tx, id, &admin.session).await?;
    let faults = body.query.as_ref().map(|query| resource.faults(query)).unwrap_or_default();
    if !faults.is_empty() {
        return Err(Problem::validation(faults));
    }
    let patch = SavedFilterPatch {
        name: body.name.map(|name| name.trim().to_owned()),
        filter: body.query.map(Value::Object),
        is_shared: body.shared,
    };
    let record = SavedFilter::from(tx.saved_filters().update(id, if_match.version(), patch).await?);
    let act = Act::new("saved_filter.update").on("saved_filter", id.uuid());
    tx.commit(act.changed(&SavedFilter::from(old), &record)).await?;
    Ok(Tagged(StatusCode::OK, record))
}

/// Delete a saved filter
///
/// Your own; a shared one of somebody else with the permission `org:write` as well.
#[utoipa::path(delete, path = "/saved-filters/{id}", tag = "audit", operation_id = "deleteSavedFilter",
    security(("session" = ["audit:read"])), params(("id" = SavedFilterId, Path)), responses(
    (status = 204, description = "Deleted"),
))]
async fn remove(admin: Authorized<ReadAudit>, Path(id): Path<SavedFilterId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let (old, _) = editable(&mut tx, id, &admin.session).await?;
    if !tx.saved_filters().remove(id).await? {
        return Err(Problem::not_found());
    }
    let act = Act::new("saved_filter.delete").on("saved_filter", id.uuid());
    tx.commit(act.without(&SavedFilter::from(old))).await?;
    Ok(StatusCode::NO_CONTENT)
}
