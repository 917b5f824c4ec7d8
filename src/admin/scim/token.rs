//! `/orgs/me/scim-token`: the token of the organization's directory.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Api;
use super::super::extract::{Authorized, WriteUsers};
use super::super::problem::Problem;
use super::super::trail::Act;
use crate::authn::{Authority, RefreshToken, Role};
use crate::domain::{Timestamp, UserId};
use crate::store::ScimTokenRecord;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get, create, revoke))
}

/// The directory's token, but not its text.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ScimToken {
    created_by: UserId,
    created_at: Timestamp,
    /// Where the directory sends people.
    #[schema(example = "https://sentinel.acme.com/scim/v2")]
    base_url: String,
}

impl ScimToken {
    fn of(record: ScimTokenRecord, api: &Api) -> Self {
        Self { created_by: record.created_by, created_at: record.created_at, base_url: base_url(api) }
    }
}

/// A token that was made now.
#[derive(Serialize, utoipa::ToSchema)]
pub struct NewScimToken {
    #[serde(flatten)]
    record: ScimToken,
    /// Shown once.
    #[schema(example = "snt_scim_Zk1rQ0h3c0xwUjN2VGd5bUFlOFhkMm5KcVdpQmZVb0c")]
    token: String,
}

pub(super) fn base_url(api: &Api) -> String {
    format!("{}/scim/v2", api.state.config.admin.public_url.trim_end_matches('/'))
}

/// Your directory's token
///
/// When it was made and by whom; its text is never shown again.
#[utoipa::path(get, path = "/orgs/me/scim-token", tag = "organization", operation_id = "getScimToken",
    security(("session" = ["users:write"])), responses(
    (status = 200, description = "The token's record", body = ScimToken),
    (status = 404, description = "There is none"),
))]
async fn get(admin: Authorized<WriteUsers>, State(api): State<Api>) -> Result<axum::Json<ScimToken>, Problem> {
    let record = admin.read().await?.identity().scim_token().await?.ok_or_else(Problem::not_found)?;
    Ok(axum::Json(ScimToken::of(record, &api)))
}

/// Create or rotate your directory's token
///
/// The one before stops working at once. Who creates it must be an admin: a directory may change anyone below owners.
#[utoipa::path(post, path = "/orgs/me/scim-token", tag = "organization", operation_id = "createScimToken",
    security(("session" = ["users:write"])), responses(
    (status = 201, description = "Created, and shown once", body = NewScimToken),
))]
async fn create(
    admin: Authorized<WriteUsers>,
    State(api): State<Api>,
) -> Result<(StatusCode, axum::Json<NewScimToken>), Problem> {
    admin.session.authority.may_grant(None, &Authority::new(Role::Admin, &[]))?;
    let token = format!("snt_scim_{}", RefreshToken::generate().expose());
    let mut tx = admin.write().await?;
    let hash = RefreshToken::hash_of(&token);
    let record = tx.identity().set_scim_token(hash, admin.session.user.id).await?;
    let org = admin.session.scope.org_id().uuid();
    tx.commit(Act::new("scim_token.create").on("organization", org)).await?;
    Ok((StatusCode::CREATED, axum::Json(NewScimToken { record: ScimToken::of(record, &api), token })))
}

/// Revoke your directory's token
///
/// It stops working at once; the people that it made stay.
#[utoipa::path(delete, path = "/orgs/me/scim-token", tag = "organization", operation_id = "revokeScimToken",
    security(("session" = ["users:write"])), responses(
    (status = 204, description = "Revoked"),
    (status = 404, description = "There is none"),
))]
async fn revoke(admin: Authorized<WriteUsers>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    if !tx.identity().remove_scim_token().await? {
        return Err(Problem::not_found());
    }
    let org = admin.session.scope.org_id().uuid();
    tx.commit(Act::new("scim_token.revoke").on("organization", org)).await?;
    Ok(StatusCode::NO_CONTENT)
}
