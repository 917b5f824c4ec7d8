//! `/workspaces/{id}/members`: what people may do in one workspace beyond what they may do everywhere.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::extract::{Authorized, Input, Json, PageQuery, Path, Paths, Query, ReadUsers, WriteUsers};
use super::problem::Problem;
use super::trail::Act;
use super::users::names;
use crate::authn::{Authority, Permission, WorkspacePermission, authority_of};
use crate::domain::{Timestamp, UserId, WorkspaceId};
use crate::store::MemberRecord;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(set, remove))
}

/// A person of a workspace.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Member {
    /// The person's.
    id: UserId,
    workspace_id: WorkspaceId,
    #[schema(example = "engineer@acme.com")]
    email: String,
    #[schema(example = "Jane Smith")]
    full_name: String,
    /// In this workspace, beyond what the person may do everywhere.
    #[schema(value_type = Vec<WorkspacePermission>, example = json!(["api_keys:write"]))]
    permissions: Vec<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<MemberRecord> for Member {
    fn from(record: MemberRecord) -> Self {
        Self {
            id: record.user_id,
            workspace_id: record.workspace_id,
            email: record.email,
            full_name: record.full_name,
            permissions: record.permissions,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberUpdate {
    /// Replaces all that was granted in this workspace.
    #[schema(min_items = 1, max_items = 10, example = json!(["api_keys:write"]))]
    permissions: Vec<WorkspacePermission>,
}

impl Input for MemberUpdate {}

/// People of a workspace
///
/// Those who may do more in it than their role says.
#[utoipa::path(get, path = "/workspaces/{id}/members", tag = "workspaces", operation_id = "listWorkspaceMembers",
    security(("session" = ["users:read"])), params(("id" = WorkspaceId, Path), PageQuery), responses(
    (status = 200, description = "A page of people", body = List<Member>),
))]
async fn list(
    admin: Authorized<ReadUsers>,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<PageQuery>,
) -> Result<List<Member>, Problem> {
    let mut tx = admin.read().await?;
    tx.workspaces().find(id).await?.ok_or_else(Problem::not_found)?;
    let page = tx.workspace_members().list(id, &query.into()).await?;
    Ok(List::new(page, Member::from))
}

/// Let a person do more in a workspace
///
/// Nobody can grant what they may not do themselves, or change a person who stands above them.
#[utoipa::path(put, path = "/workspaces/{id}/members/{user_id}", tag = "workspaces", operation_id = "setWorkspaceMember",
    security(("session" = ["users:write"])), params(("id" = WorkspaceId, Path), ("user_id" = UserId, Path)), responses(
    (status = 200, description = "Granted; it holds from the person's next request on", body = Member),
))]
async fn set(
    admin: Authorized<WriteUsers>,
    Paths(workspace, user): Paths<WorkspaceId, UserId>,
    Json(body): Json<MemberUpdate>,
) -> Result<axum::Json<Member>, Problem> {
    let permissions: Vec<Permission> = body.permissions.into_iter().map(Permission::from).collect();
    let mut tx = admin.write().await?;
    tx.workspaces().find(workspace).await?.ok_or_else(Problem::not_found)?;
    let person = authority_of(&tx.users().find(user).await?.ok_or_else(Problem::not_found)?)?;
    let more: Vec<Permission> = person.permissions().iter().chain(&permissions).copied().collect();
    admin.session.authority.may_grant(Some(&person), &Authority::new(person.role(), &more))?;
    let before = tx.workspace_members().find(workspace, user).await?.map(Member::from);
    tx.workspace_members().set(workspace, user, names(permissions)).await?;
    let member = tx.workspace_members().find(workspace, user).await?.ok_or_else(Problem::not_found)?;
    let member = Member::from(member);
    let act = Act::new("workspace.set_member").on("workspace", workspace.uuid());
    let act = match &before {
        Some(before) => act.changed(before, &member),
        None => act.with(&member),
    };
    tx.commit(act).await?;
    Ok(axum::Json(member))
}

/// Take back what a person was granted in a workspace
///
/// What they may do everywhere stays.
#[utoipa::path(delete, path = "/workspaces/{id}/members/{user_id}", tag = "workspaces",
    operation_id = "removeWorkspaceMember",
    security(("session" = ["users:write"])), params(("id" = WorkspaceId, Path), ("user_id" = UserId, Path)), responses(
    (status = 204, description = "Taken back"),
))]
async fn remove(
    admin: Authorized<WriteUsers>,
    Paths(workspace, user): Paths<WorkspaceId, UserId>,
) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let member = tx.workspace_members().find(workspace, user).await?.ok_or_else(Problem::not_found)?;
    let person = tx.users().find(user).await?.ok_or_else(Problem::not_found)?;
    admin.session.authority.may_touch(&authority_of(&person)?)?;
    tx.workspace_members().remove(workspace, user).await?;
    let act = Act::new("workspace.remove_member").on("workspace", workspace.uuid());
    tx.commit(act.without(&Member::from(member))).await?;
    Ok(StatusCode::NO_CONTENT)
}
