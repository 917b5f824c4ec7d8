//! `/orgs/me/delete` and `/orgs/restore`: the end of an organization, and how it is taken back.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Authorized, Client, DeleteOrganization, Input, Json, Stranger};
use super::mfa::confirm_password;
use super::problem::{Code, Fault, Problem};
use super::trail::{Act, Who};
use crate::authn::RefreshToken;
use crate::domain::{Secret, Timestamp};
use crate::mail::Mail;
use crate::store::{OrganizationRecord, RESTORABLE, StoreError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(delete)).routes(routes!(restore))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganizationDeletion {
    /// The organization's name, as it is written.
    #[schema(max_length = 100, example = "Acme Corp")]
    name: String,
    /// Your password; left out by people who have none because they sign on with the organization's provider.
    #[schema(value_type = Option<String>, format = Password, max_length = 128, example = "SecurePass123!")]
    password: Option<Secret<String>>,
}

impl Input for OrganizationDeletion {}

/// What was deleted, and how to have it back.
#[derive(Serialize, utoipa::ToSchema)]
pub struct DeletedOrganization {
    deleted_at: Timestamp,
    /// Then it is removed for good.
    restorable_until: Timestamp,
    /// For `POST /orgs/restore`, once. Every owner is mailed it too.
    #[schema(example = "Zk1rQ0h3c0xwUjN2VGd5bUFlOFhkMm5KcVdpQmZVb0c")]
    restore_token: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganizationRestoration {
    /// Of the answer to `POST /orgs/me/delete`, or from the mail.
    #[schema(value_type = String, max_length = 200, example = "Zk1rQ0h3c0xwUjN2VGd5bUFlOFhkMm5KcVdpQmZVb0c")]
    token: Secret<String>,
}

impl Input for OrganizationRestoration {}

/// Delete your organization
///
/// Its API keys are refused from the next request on, all its sessions end, and nobody can log in. For 30 days the token of
/// the answer restores it; then everything is removed for good, the audit trails too. Export it before.
#[utoipa::path(post, path = "/orgs/me/delete", tag = "organization", operation_id = "deleteOrganization",
    security(("session" = ["org:delete"])), responses(
    (status = 200, description = "Deleted", body = DeletedOrganization),
    (status = 429, description = "`login_throttled`: too many wrong passwords; see `Retry-After`"),
))]
async fn delete(
    admin: Authorized<DeleteOrganization>,
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<OrganizationDeletion>,
) -> Result<axum::Json<DeletedOrganization>, Problem> {
    let user = &admin.session.user;
    let organization = admin.read().await?.organization().get().await?;
    let mut faults = Vec::new();
    if body.name != organization.name {
        faults.push(Fault::at("/name", "is not the organization's name"));
    }
    if body.password.is_none() && api.state.store.find_login(&user.email).await?.is_some() {
        faults.push(Fault::at("/password", "is missing"));
    }
    if !faults.is_empty() {
        return Err(Problem::validation(faults));
    }
    if let Some(password) = body.password {
        confirm_password(&api, &stranger.attempt, &client, user, password).await?;
    }
    let token = RefreshToken::generate();
    let mut tx = admin.write().await?;
    let owners = tx.organization().owners().await?;
    let deleted = tx.organization().delete(Some(token.hash())).await?;
    let deleted = deleted.ok_or_else(|| Problem::new(Code::Conflict, "the organization was deleted meanwhile"))?;
    tx.commit(Act::new("organization.delete").on("organization", deleted.id.uuid())).await?;
    let deleted_at = deleted.deleted_at.unwrap_or(deleted.updated_at);
    let restorable_until = deleted_at.plus(RESTORABLE);
    for owner in owners {
        let mail = notice(&api, owner, &deleted, &user.email, restorable_until, &token);
        api.state.mailer.send_later(async move { Some(mail) });
    }
    let restore_token = token.expose().to_owned();
    Ok(axum::Json(DeletedOrganization { deleted_at, restorable_until, restore_token }))
}

fn notice(
    api: &Api,
    to: String,
    organization: &OrganizationRecord,
    by: &str,
    until: Timestamp,
    token: &RefreshToken,
) -> Mail {
    let (name, token) = (&organization.name, token.expose());
    let public_url = api.state.config.admin.public_url.trim_end_matches('/');
    let text = format!(
        "{by} has deleted the organization {name} at Sentinel.\n\
         \n\
         Its API keys are refused and nobody can log in. On {until} everything is removed for good.\n\
         \n\
         Until then it can be restored by sending\n\
         \n\
         {{\"token\": \"{token}\"}}\n\
         \n\
         as application/json to {public_url}/orgs/restore, or by whoever runs this installation.\n"
    );
    Mail { to, subject: "Your organization at Sentinel was deleted".to_owned(), text: Secret::new(text) }
}

/// Restore a deleted organization
///
/// Its API keys work again; its people log in anew. The token works once, for 30 days after the deletion.
#[utoipa::path(post, path = "/orgs/restore", tag = "organization", operation_id = "restoreOrganization", responses(
    (status = 204, description = "Restored"),
    (status = 400, description = "`invalid_restore_token`, or the body cannot be read"),
))]
async fn restore(
    State(api): State<Api>,
    stranger: Stranger,
    Json(body): Json<OrganizationRestoration>,
) -> Result<StatusCode, Problem> {
    let invalid = || Problem::new(Code::InvalidRestoreToken, "the token restores no organization");
    let token = RefreshToken::hash_of(body.token.expose());
    let scope = api.state.store.resolve_restore_token(&token).await?.ok_or_else(invalid)?;
    let who = Who { origin: stranger.origin, ..Who::default() };
    let event = Act::new("organization.restore").on("organization", scope.org_id().uuid()).by(who);
    match api.state.store.restore_organization(scope, event).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        // Another request was faster.
        Err(StoreError::Missing(_)) => Err(invalid()),
        Err(error) => Err(error.into()),
    }
}
