//! `/workspaces`: projects and environments of an organization.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::{List, Tagged, Versioned};
use super::extract::{
    Authorized, Filtered, IfMatch, InWorkspace, Input, Json, ListQuery, Path, Query, ReadWorkspaces, WriteWorkspaces,
    name_faults, nullable,
};
use super::problem::{Code, Fault, Problem};
use super::trail::Act;
use crate::domain::{OrgId, PolicyId, Timestamp, WorkspaceConfig, WorkspaceId, is_model_name};
use crate::store::{NewWorkspace, TenantTx, WorkspaceColumn, WorkspacePatch, WorkspaceRecord};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, remove))
        .routes(routes!(archive))
        .routes(routes!(unarchive))
        .routes(routes!(restore))
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Workspace {
    id: WorkspaceId,
    org_id: OrgId,
    #[schema(example = "Production")]
    name: String,
    #[schema(example = "production")]
    slug: String,
    description: Option<String>,
    #[schema(example = "production")]
    environment: String,
    /// The policy in force; null: the organization's default, then the preset `balanced`.
    policy_id: Option<PolicyId>,
    #[schema(value_type = Object)]
    config: serde_json::Value,
    is_active: bool,
    version: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<WorkspaceRecord> for Workspace {
    fn from(record: WorkspaceRecord) -> Self {
        Self {
            id: record.id,
            org_id: record.org_id,
            name: record.name,
            slug: record.slug,
            description: record.description,
            environment: record.environment,
            policy_id: record.policy_id,
            config: record.config,
            is_active: record.is_active,
            version: record.version,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

impl Versioned for Workspace {
    fn version(&self) -> i64 {
        self.version
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Production", "description": "What customers use", "environment": "production"}))]
pub struct WorkspaceCreate {
    #[schema(min_length = 1, max_length = 100, example = "Production")]
    name: String,
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// A label: `production` (the default), `staging`, `development` …
    #[schema(min_length = 1, max_length = 50, example = "production")]
    environment: Option<String>,
    policy_id: Option<PolicyId>,
    /// Overrides for this workspace.
    config: Option<WorkspaceConfig>,
}

/// As it is stored.
///
/// # Errors
/// 422: every upstream that the configuration does not have, and what cannot be the name of a model.
fn checked(api: &Api, config: &WorkspaceConfig) -> Result<serde_json::Value, Problem> {
    let names = config.allowed_upstreams.iter().flatten().enumerate();
    let mut faults: Vec<Fault> = names
        .filter(|(_, name)| !api.state.config.upstreams.contains_key(*name))
        .map(|(i, _)| Fault::at(format!("/config/allowed_upstreams/{i}"), "is not the name of an upstream"))
        .collect();
    faults.extend(model_faults(config));
    if faults.is_empty() { Ok(serde_json::json!(config)) } else { Err(Problem::validation(faults)) }
}

/// Aliases of one workspace.
const MAX_ALIASES: usize = 100;

fn model_faults(config: &WorkspaceConfig) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, globs) in [("allowed_models", &config.allowed_models), ("denied_models", &config.denied_models)] {
        for (i, glob) in globs.iter().flatten().enumerate() {
            if !is_model_name(&glob.replace(['*', '?'], "x")) {
                let message = "is not the name of a model, with `*` and `?` for what may differ";
                faults.push(Fault::at(format!("/config/{key}/{i}"), message));
            }
        }
    }
    let aliases = config.model_aliases.as_ref();
    if aliases.is_some_and(|aliases| aliases.len() > MAX_ALIASES) {
        faults.push(Fault::at("/config/model_aliases", format!("has more than {MAX_ALIASES} names")));
    }
    for (alias, model) in aliases.into_iter().flatten() {
        let pointer = || format!("/config/model_aliases/{}", alias.replace('~', "~0").replace('/', "~1"));
        if !is_model_name(alias) {
            faults.push(Fault::at(pointer(), "has a name that no model can have"));
        }
        if !is_model_name(model) {
            faults.push(Fault::at(pointer(), "is not the name of a model"));
        }
    }
    faults
}

impl Input for WorkspaceCreate {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = name_faults("/name", &self.name);
        if let Some(environment) = &self.environment {
            faults.extend(name_faults("/environment", environment));
        }
        faults
    }
}

/// What is missing stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Production EU", "config": {"reveal": true}}))]
pub struct WorkspaceUpdate {
    #[schema(min_length = 1, max_length = 100, example = "Production EU")]
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(max_length = 1000)]
    description: Option<Option<String>>,
    #[schema(min_length = 1, max_length = 50)]
    environment: Option<String>,
    /// Null: the organization's default.
    #[serde(default, deserialize_with = "nullable")]
    policy_id: Option<Option<PolicyId>>,
    /// Replaces the whole of it.
    config: Option<WorkspaceConfig>,
    /// False: its keys are refused.
    is_active: Option<bool>,
}

impl Input for WorkspaceUpdate {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.name.as_ref().map(|name| name_faults("/name", name)).unwrap_or_default();
        if let Some(environment) = &self.environment {
            faults.extend(name_faults("/environment", environment));
        }
        faults
    }
}

/// How long a deleted workspace can be restored.
const RESTORABLE: Duration = Duration::from_secs(30 * 86_400);

fn restorable_since(api: &Api) -> Timestamp {
    api.state.clock.now().minus(RESTORABLE)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WorkspaceQuery {
    /// Instead of those that are there, those that were deleted and can be restored (false).
    deleted: Option<bool>,
}

type WorkspaceList = ListQuery<WorkspaceColumn>;

/// Workspaces
///
/// Newest first when nothing else is asked for, archived ones too.
#[utoipa::path(get, path = "/workspaces", tag = "workspaces", operation_id = "listWorkspaces",
    security(("session" = ["workspaces:read"])), params(WorkspaceQuery, WorkspaceList), responses(
    (status = 200, description = "A page of workspaces", body = List<Workspace>),
))]
async fn list(
    admin: Authorized<ReadWorkspaces>,
    State(api): State<Api>,
    Query(Filtered { rows, page }): Query<Filtered<WorkspaceQuery, WorkspaceList>>,
) -> Result<List<Workspace>, Problem> {
    let deleted_since = rows.deleted.unwrap_or(false).then(|| restorable_since(&api));
    let mut tx = admin.read().await?;
    let page = tx.workspaces().list_by(page.sort(), deleted_since, &page.page()).await?;
    Ok(List::new(page, Workspace::from))
}

/// Create a workspace
///
/// API keys, policies and limits are set per workspace.
#[utoipa::path(post, path = "/workspaces", tag = "workspaces", operation_id = "createWorkspace",
    security(("session" = ["workspaces:write"])), responses(
    (status = 201, description = "Created", body = Workspace),
    (status = 409, description = "The name is in use"),
))]
async fn create(
    admin: Authorized<WriteWorkspaces>,
    State(api): State<Api>,
    Json(body): Json<WorkspaceCreate>,
) -> Result<Tagged<Workspace>, Problem> {
    let workspace = NewWorkspace {
        id: WorkspaceId::new(),
        name: body.name.trim().to_owned(),
        description: body.description,
        environment: body.environment.unwrap_or_else(|| "production".to_owned()),
        policy_id: body.policy_id,
        config: checked(&api, &body.config.unwrap_or_default())?,
    };
    let mut tx = admin.write().await?;
    room_for_another(&mut tx).await?;
    let record = Workspace::from(tx.workspaces().insert(workspace).await?);
    tx.commit(Act::new("workspace.create").on("workspace", record.id.uuid()).with(&record)).await?;
    Ok(Tagged(StatusCode::CREATED, record))
}

/// # Errors
/// `limit_reached`.
async fn room_for_another(tx: &mut TenantTx) -> Result<(), Problem> {
    let Some(limit) = tx.organization().get().await?.max_workspaces else { return Ok(()) };
    tx.serialize().await?;
    if tx.workspaces().count().await? >= u64::from(limit) {
        return Err(Problem::new(Code::LimitReached, "the organization has as many workspaces as its plan allows"));
    }
    Ok(())
}

/// A workspace
///
/// Its `ETag` is what `If-Match` takes.
#[utoipa::path(get, path = "/workspaces/{id}", tag = "workspaces", operation_id = "getWorkspace",
    security(("session" = ["workspaces:read"])), params(("id" = WorkspaceId, Path)), responses(
    (status = 200, description = "The workspace", body = Workspace),
))]
async fn get(admin: Authorized<ReadWorkspaces>, Path(id): Path<WorkspaceId>) -> Result<Tagged<Workspace>, Problem> {
    let record = admin.read().await?.workspaces().find(id).await?.ok_or_else(Problem::not_found)?;
    Ok(Tagged(StatusCode::OK, record.into()))
}

/// Change a workspace
///
/// It holds from the next request of its applications on.
#[utoipa::path(patch, path = "/workspaces/{id}", tag = "workspaces", operation_id = "updateWorkspace",
    security(("session" = ["workspaces:write"])),
    params(("id" = WorkspaceId, Path), ("If-Match" = String, Header, pattern = r#"^"[0-9]{1,18}"$"#, description = "The `ETag` of the version to be changed")), responses(
    (status = 200, description = "Changed", body = Workspace),
    (status = 409, description = "The name is in use"),
))]
async fn update(
    admin: InWorkspace<WriteWorkspaces>,
    State(api): State<Api>,
    Path(id): Path<WorkspaceId>,
    if_match: IfMatch,
    Json(body): Json<WorkspaceUpdate>,
) -> Result<Tagged<Workspace>, Problem> {
    let patch = WorkspacePatch {
        name: body.name.map(|name| name.trim().to_owned()),
        description: body.description,
        environment: body.environment,
        policy_id: body.policy_id,
        config: body.config.map(|config| checked(&api, &config)).transpose()?,
        is_active: body.is_active,
    };
    let mut tx = admin.write().await?;
    let old = Workspace::from(tx.workspaces().find(id).await?.ok_or_else(Problem::not_found)?);
    admin.allow(id)?;
    let record = tx.workspaces().update(id, patch, Some(if_match.version())).await?.ok_or_else(Problem::not_found)?;
    let record = Workspace::from(record);
    tx.commit(Act::new("workspace.update").on("workspace", id.uuid()).changed(&old, &record)).await?;
    Ok(Tagged(StatusCode::OK, record))
}

/// Delete a workspace
///
/// Its API keys are revoked with it, for good. The workspace can be restored for 30 days.
#[utoipa::path(delete, path = "/workspaces/{id}", tag = "workspaces", operation_id = "deleteWorkspace",
    security(("session" = ["workspaces:write"])), params(("id" = WorkspaceId, Path)), responses(
    (status = 204, description = "Deleted"),
))]
async fn remove(admin: Authorized<WriteWorkspaces>, Path(id): Path<WorkspaceId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let old = Workspace::from(tx.workspaces().find(id).await?.ok_or_else(Problem::not_found)?);
    if !tx.workspaces().remove(id).await? {
        return Err(Problem::not_found());
    }
    tx.commit(Act::new("workspace.delete").on("workspace", id.uuid()).without(&old)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Archive a workspace
///
/// Its keys are refused from their next request on, and work again once it is unarchived.
#[utoipa::path(post, path = "/workspaces/{id}/archive", tag = "workspaces", operation_id = "archiveWorkspace",
    security(("session" = ["workspaces:write"])), params(("id" = WorkspaceId, Path)), responses(
    (status = 200, description = "Archived; `is_active` is false", body = Workspace),
))]
async fn archive(
    admin: Authorized<WriteWorkspaces>,
    Path(id): Path<WorkspaceId>,
) -> Result<Tagged<Workspace>, Problem> {
    set_active(&admin, id, false).await
}

/// Unarchive a workspace
///
/// Its keys work again, except those that were revoked or have expired.
#[utoipa::path(post, path = "/workspaces/{id}/unarchive", tag = "workspaces", operation_id = "unarchiveWorkspace",
    security(("session" = ["workspaces:write"])), params(("id" = WorkspaceId, Path)), responses(
    (status = 200, description = "In use again", body = Workspace),
))]
async fn unarchive(
    admin: Authorized<WriteWorkspaces>,
    Path(id): Path<WorkspaceId>,
) -> Result<Tagged<Workspace>, Problem> {
    set_active(&admin, id, true).await
}

async fn set_active(
    admin: &Authorized<WriteWorkspaces>,
    id: WorkspaceId,
    is_active: bool,
) -> Result<Tagged<Workspace>, Problem> {
    let mut tx = admin.write().await?;
    let patch = WorkspacePatch { is_active: Some(is_active), ..WorkspacePatch::default() };
    let record = Workspace::from(tx.workspaces().update(id, patch, None).await?.ok_or_else(Problem::not_found)?);
    let action = if is_active { "workspace.unarchive" } else { "workspace.archive" };
    tx.commit(Act::new(action).on("workspace", id.uuid())).await?;
    Ok(Tagged(StatusCode::OK, record))
}

/// Restore a deleted workspace
///
/// Within 30 days. The keys that were revoked with it stay revoked: create others.
#[utoipa::path(post, path = "/workspaces/{id}/restore", tag = "workspaces", operation_id = "restoreWorkspace",
    security(("session" = ["workspaces:write"])), params(("id" = WorkspaceId, Path)), responses(
    (status = 200, description = "Restored", body = Workspace),
    (status = 409, description = "Another workspace has its name"),
))]
async fn restore(
    admin: Authorized<WriteWorkspaces>,
    State(api): State<Api>,
    Path(id): Path<WorkspaceId>,
) -> Result<Tagged<Workspace>, Problem> {
    let mut tx = admin.write().await?;
    room_for_another(&mut tx).await?;
    let record = tx.workspaces().restore(id, restorable_since(&api)).await?.ok_or_else(Problem::not_found)?;
    tx.commit(Act::new("workspace.restore").on("workspace", id.uuid())).await?;
    Ok(Tagged(StatusCode::OK, record.into()))
}
