//! `/roles`: the table of what each role may do.

use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Authorized, LoggedIn};
use crate::authn::{Permission, Role};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// All roles and all permissions.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RoleTable {
    /// The highest first.
    data: Vec<RoleRow>,
    /// Every permission that there is; each can be granted to a person beyond the role.
    permissions: Vec<PermissionRow>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct RoleRow {
    role: Role,
    permissions: Vec<Permission>,
    /// The roles that it can give to others, and whose people it can change.
    grants: Vec<Role>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct PermissionRow {
    name: Permission,
    #[schema(example = "Create, replace and delete policies.")]
    description: &'static str,
}

/// Roles and what they may do
///
/// The table by which every request is judged.
#[utoipa::path(get, path = "/roles", tag = "users", operation_id = "listRoles", security(("session" = [])), responses(
    (status = 200, description = "The table", body = RoleTable),
))]
async fn list(_: Authorized<LoggedIn>) -> axum::Json<RoleTable> {
    let row = |role: Role| RoleRow { role, permissions: role.permissions().to_vec(), grants: role.gives().collect() };
    let permission = |name: &Permission| PermissionRow { name: *name, description: name.meaning().trim() };
    axum::Json(RoleTable {
        data: Role::ALL.into_iter().map(row).collect(),
        permissions: Permission::ALL.iter().map(permission).collect(),
    })
}
