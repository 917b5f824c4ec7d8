//! `/orgs/me/users`: the people of the caller's organization.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::auth::email_faults;
use super::extract::{
    Authorized, Input, InviteUsers, Json, ListQuery, Path, Query, ReadUsers, WriteUsers, name_faults,
};
use super::problem::{Code, Fault, Problem};
use super::trail::Act;
use crate::authn::{Authority, Permission, Role, authority_of, temporary_password};
use crate::domain::{OrgId, Timestamp, UserId};
use crate::store::{NewUser, TenantTx, UserColumn, UserPatch, UserRecord};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(invite)).routes(routes!(update, remove))
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct User {
    id: UserId,
    org_id: OrgId,
    #[schema(example = "engineer@acme.com")]
    email: String,
    #[schema(example = "Jane Smith")]
    full_name: String,
    #[schema(value_type = Role, example = "member")]
    role: String,
    /// Granted beyond the role.
    #[schema(value_type = Vec<Permission>, example = json!(["policies:write"]))]
    permissions: Vec<String>,
    is_active: bool,
    mfa_enabled: bool,
    sso_provider: Option<String>,
    /// The person has not replaced a temporary password yet.
    must_change_password: bool,
    last_login_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<UserRecord> for User {
    fn from(record: UserRecord) -> Self {
        Self {
            id: record.id,
            org_id: record.org_id,
            email: record.email,
            full_name: record.full_name,
            role: record.role,
            permissions: record.permissions,
            is_active: record.is_active,
            mfa_enabled: record.mfa_enabled,
            sso_provider: record.sso_provider,
            must_change_password: record.must_change_password,
            last_login_at: record.last_login_at,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// Who is invited, by whichever way.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "engineer@acme.com", "full_name": "Jane Smith", "role": "member",
    "permissions": ["policies:write"]}))]
pub struct Invite {
    #[schema(max_length = 254, example = "engineer@acme.com")]
    pub(super) email: String,
    #[schema(min_length = 1, max_length = 200, example = "Jane Smith")]
    pub(super) full_name: String,
    pub(super) role: Role,
    /// Granted beyond the role.
    #[serde(default)]
    #[schema(max_items = 50, example = json!(["policies:write"]))]
    pub(super) permissions: Vec<Permission>,
}

impl Input for Invite {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = email_faults("/email", &self.email);
        faults.extend(name_faults("/full_name", &self.full_name));
        faults
    }
}

/// A new person, with the password that is shown once.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Invited {
    #[serde(flatten)]
    user: User,
    /// To be given to the person; the first log-in asks for another.
    #[schema(example = "wK7mTq3ZrXh9PfYd2GsN")]
    temporary_password: String,
}

/// What is missing stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "member", "permissions": ["policies:write"]}))]
pub struct UserUpdate {
    #[schema(min_length = 1, max_length = 200)]
    full_name: Option<String>,
    role: Option<Role>,
    /// Replaces all that was granted beyond the role.
    #[schema(max_items = 50, example = json!(["policies:write"]))]
    permissions: Option<Vec<Permission>>,
    /// False: the person cannot log in, their sessions end, and the keys that they made are revoked for good.
    is_active: Option<bool>,
}

impl Input for UserUpdate {
    fn faults(&self) -> Vec<Fault> {
        self.full_name.as_ref().map(|name| name_faults("/full_name", name)).unwrap_or_default()
    }
}

type UserList = ListQuery<UserColumn>;

/// People
///
/// Newest first when nothing else is asked for. Who never logged in comes before everyone who did.
#[utoipa::path(get, path = "/orgs/me/users", tag = "users", operation_id = "listUsers",
    security(("session" = ["users:read"])), params(UserList), responses(
    (status = 200, description = "A page of people", body = List<User>),
))]
async fn list(admin: Authorized<ReadUsers>, Query(query): Query<UserList>) -> Result<List<User>, Problem> {
    let page = admin.read().await?.users().list_by(query.sort(), &query.page()).await?;
    Ok(List::new(page, User::from))
}

/// Invite a person
///
/// Nobody can give a role or permission that stands above their own. The temporary password is shown once.
#[utoipa::path(post, path = "/orgs/me/users/invite", tag = "users", operation_id = "inviteUser",
    security(("session" = ["users:invite"])), responses(
    (status = 201, description = "Invited", body = Invited),
    (status = 409, description = "The address has an account"),
))]
async fn invite(
    admin: Authorized<InviteUsers>,
    State(api): State<Api>,
    Json(body): Json<Invite>,
) -> Result<(StatusCode, axum::Json<Invited>), Problem> {
    admin.session.authority.may_grant(None, &Authority::new(body.role, &body.permissions))?;
    let password = temporary_password();
    let password_hash = api.passwords.hash(password.clone()).await?;
    let mut tx = admin.write().await?;
    room_for_one(&mut tx).await?;
    let user = NewUser {
        id: UserId::new(),
        email: body.email,
        full_name: body.full_name.trim().to_owned(),
        role: body.role.as_str().to_owned(),
        permissions: names(body.permissions),
        password_hash,
        must_change_password: true,
        invited_by: Some(admin.session.user.id),
    };
    let user = User::from(tx.users().insert(user).await?);
    tx.commit(Act::new("user.invite").on("user", user.id.uuid()).with(&user)).await?;
    let invited = Invited { user, temporary_password: password.expose().clone() };
    Ok((StatusCode::CREATED, axum::Json(invited)))
}

/// Whether the plan has room for one more person. Those who come at once are let in one after the other.
///
/// # Errors
/// `limit_reached`.
pub(super) async fn room_for_one(tx: &mut TenantTx) -> Result<(), Problem> {
    let Some(limit) = tx.organization().get().await?.max_users else { return Ok(()) };
    tx.serialize().await?;
    if tx.users().count().await? >= u64::from(limit) {
        return Err(Problem::new(Code::LimitReached, "the organization has as many people as its plan allows"));
    }
    Ok(())
}

/// As they are stored: sorted, each once.
pub(super) fn names(permissions: Vec<Permission>) -> Vec<String> {
    let sorted: std::collections::BTreeSet<_> = permissions.into_iter().collect();
    sorted.into_iter().map(|permission| permission.as_str().to_owned()).collect()
}

/// Change a person's role, permissions or standing
///
/// Nobody can change a person who stands above them, or raise anyone above themselves. The last owner stays one.
#[utoipa::path(patch, path = "/orgs/me/users/{id}", tag = "users", operation_id = "updateUser",
    security(("session" = ["users:write"])), params(("id" = UserId, Path)), responses(
    (status = 200, description = "Changed; it holds from the person's next request on", body = User),
    (status = 409, description = "The last owner"),
))]
async fn update(
    admin: Authorized<WriteUsers>,
    Path(id): Path<UserId>,
    Json(body): Json<UserUpdate>,
) -> Result<axum::Json<User>, Problem> {
    let mut tx = admin.write().await?;
    let person = tx.users().find(id).await?.ok_or_else(Problem::not_found)?;
    let old = authority_of(&person)?;
    let extra = body.permissions.clone().unwrap_or_else(|| known(&person));
    let new = Authority::new(body.role.unwrap_or_else(|| old.role()), &extra);
    admin.session.authority.may_grant(Some(&old), &new)?;
    let patch = UserPatch {
        full_name: body.full_name.map(|name| name.trim().to_owned()),
        role: body.role.map(|role| role.as_str().to_owned()),
        permissions: body.permissions.map(names),
        is_active: body.is_active,
    };
    let old = User::from(person);
    let person = User::from(tx.users().update(id, patch).await?.ok_or_else(Problem::not_found)?);
    tx.commit(Act::new("user.update").on("user", id.uuid()).changed(&old, &person)).await?;
    Ok(axum::Json(person))
}

fn known(person: &UserRecord) -> Vec<Permission> {
    person.permissions.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Remove a person
///
/// Their sessions end and the keys that they made are revoked. Nobody can remove a person who stands above them; the last owner stays.
#[utoipa::path(delete, path = "/orgs/me/users/{id}", tag = "users", operation_id = "removeUser",
    security(("session" = ["users:write"])), params(("id" = UserId, Path)), responses(
    (status = 204, description = "Removed"),
    (status = 409, description = "The last owner"),
))]
async fn remove(admin: Authorized<WriteUsers>, Path(id): Path<UserId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let person = tx.users().find(id).await?.ok_or_else(Problem::not_found)?;
    admin.session.authority.may_touch(&authority_of(&person)?)?;
    if !tx.users().remove(id).await? {
        return Err(Problem::not_found());
    }
    tx.commit(Act::new("user.remove").on("user", id.uuid()).without(&User::from(person))).await?;
    Ok(StatusCode::NO_CONTENT)
}
