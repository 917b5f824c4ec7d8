//! `/orgs/me/invitations`: people who are asked to join by a link that is mailed to them, and the link's other end.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::auth::{TokenPair, start_session};
use super::extract::{
    Authorized, Client, Input, InviteUsers, Json, PageQuery, Path, Query, ReadUsers, Stranger, name_faults,
};
use super::problem::{Code, Fault, Problem};
use super::trail::{Act, Who, WriteTx};
use super::users::{Invite, User, names, room_for_one};
use crate::authn::{self, Authority, Permission, RefreshToken, Role, authority_of};
use crate::domain::{InvitationId, OrgId, Secret, Timestamp, UserId};
use crate::mail::Mail;
use crate::store::{InvitationRecord, Invited, LoginMethod, NewInvitation, NewUser};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
        .routes(routes!(resend))
        .routes(routes!(accept))
}

/// How long a link is good.
const LINK_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// An invitation that has been neither accepted nor revoked.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Invitation {
    id: InvitationId,
    org_id: OrgId,
    #[schema(example = "engineer@acme.com")]
    email: String,
    #[schema(example = "Jane Smith")]
    full_name: String,
    #[schema(value_type = Role, example = "member")]
    role: String,
    #[schema(value_type = Vec<Permission>, example = json!(["policies:write"]))]
    permissions: Vec<String>,
    invited_by: UserId,
    /// Afterwards the link no longer works; `resend` makes another.
    expires_at: Timestamp,
    created_at: Timestamp,
}

impl From<InvitationRecord> for Invitation {
    fn from(record: InvitationRecord) -> Self {
        Self {
            id: record.id,
            org_id: record.org_id,
            email: record.email,
            full_name: record.full_name,
            role: record.role,
            permissions: record.permissions,
            invited_by: record.invited_by,
            expires_at: record.expires_at,
            created_at: record.created_at,
        }
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationAccept {
    /// From the link in the mail.
    #[schema(value_type = String, max_length = 200, example = "Zk1rQ0h3c0xwUjN2VGd5bUFlOFhkMm5KcVdpQmZVb0c")]
    token: Secret<String>,
    /// At least 12 characters, hard to guess, without your name or address.
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    password: Secret<String>,
    /// Instead of the name in the invitation.
    #[schema(min_length = 1, max_length = 200, example = "Jane Smith")]
    full_name: Option<String>,
}

impl Input for InvitationAccept {
    fn faults(&self) -> Vec<Fault> {
        self.full_name.as_ref().map(|name| name_faults("/full_name", name)).unwrap_or_default()
    }
}

/// Open invitations
///
/// Newest first; expired ones too, until they are sent again or revoked.
#[utoipa::path(get, path = "/orgs/me/invitations", tag = "users", operation_id = "listInvitations",
    security(("session" = ["users:read"])), params(PageQuery), responses(
    (status = 200, description = "A page of invitations", body = List<Invitation>),
))]
async fn list(admin: Authorized<ReadUsers>, Query(query): Query<PageQuery>) -> Result<List<Invitation>, Problem> {
    let page = admin.read().await?.invitations().list(&query.into()).await?;
    Ok(List::new(page, Invitation::from))
}

/// Invite a person by mail
///
/// Mails a link that works once and for seven days. The answer does not tell whether the address has an account elsewhere.
/// Nobody can give a role or permission that stands above their own. (`POST /orgs/me/users/invite` makes the account at once,
/// with a temporary password to be handed over.)
#[utoipa::path(post, path = "/orgs/me/invitations", tag = "users", operation_id = "createInvitation",
    security(("session" = ["users:invite"])), responses(
    (status = 201, description = "Invited; the mail is on its way", body = Invitation),
    (status = 409, description = "The address is in the organization, or has an open invitation"),
))]
async fn create(
    admin: Authorized<InviteUsers>,
    State(api): State<Api>,
    Json(body): Json<Invite>,
) -> Result<(StatusCode, axum::Json<Invitation>), Problem> {
    admin.session.authority.may_grant(None, &Authority::new(body.role, &body.permissions))?;
    let token = RefreshToken::generate();
    let mut tx = admin.write().await?;
    room_for_one(&mut tx).await?;
    if tx.users().find_by_email(&body.email).await?.is_some() {
        return Err(Problem::new(Code::Conflict, "the address is in the organization"));
    }
    let new = NewInvitation {
        id: InvitationId::new(),
        email: body.email,
        full_name: body.full_name.trim().to_owned(),
        role: body.role.as_str().to_owned(),
        permissions: names(body.permissions),
        token: token.hash(),
        invited_by: admin.session.user.id,
        expires_at: api.state.clock.now().plus(LINK_TTL),
    };
    let invitation = Invitation::from(tx.invitations().insert(new).await?);
    let organization = tx.organization().get().await?.name;
    let act = Act::new("invitation.create").on("invitation", invitation.id.uuid());
    tx.commit(act.with(&invitation)).await?;
    send(&api, &invitation, &organization, &token);
    Ok((StatusCode::CREATED, axum::Json(invitation)))
}

/// Send an invitation again
///
/// With another link; the one before no longer works.
#[utoipa::path(post, path = "/orgs/me/invitations/{id}/resend", tag = "users", operation_id = "resendInvitation",
    security(("session" = ["users:invite"])), params(("id" = InvitationId, Path)), responses(
    (status = 200, description = "The mail is on its way", body = Invitation),
))]
async fn resend(
    admin: Authorized<InviteUsers>,
    State(api): State<Api>,
    Path(id): Path<InvitationId>,
) -> Result<axum::Json<Invitation>, Problem> {
    let token = RefreshToken::generate();
    let expires_at = api.state.clock.now().plus(LINK_TTL);
    let mut tx = admin.write().await?;
    let record = tx.invitations().find(id).await?.ok_or_else(Problem::not_found)?;
    admin.session.authority.may_grant(None, &authority(&record)?)?;
    let record = tx.invitations().renew(id, &token.hash(), expires_at).await?.ok_or_else(Problem::not_found)?;
    let organization = tx.organization().get().await?.name;
    let invitation = Invitation::from(record);
    tx.commit(Act::new("invitation.resend").on("invitation", id.uuid()).with(&invitation)).await?;
    send(&api, &invitation, &organization, &token);
    Ok(axum::Json(invitation))
}

/// Revoke an invitation
#[utoipa::path(delete, path = "/orgs/me/invitations/{id}", tag = "users", operation_id = "revokeInvitation",
    security(("session" = ["users:invite"])), params(("id" = InvitationId, Path)), responses(
    (status = 204, description = "Revoked; its link no longer works"),
))]
async fn revoke(admin: Authorized<InviteUsers>, Path(id): Path<InvitationId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let record = tx.invitations().find(id).await?.ok_or_else(Problem::not_found)?;
    if !tx.invitations().revoke(id).await? {
        return Err(Problem::not_found());
    }
    let act = Act::new("invitation.revoke").on("invitation", id.uuid());
    tx.commit(act.without(&Invitation::from(record))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accept an invitation
///
/// Makes the account and logs in. The token from the mail works once, and only while whoever sent it may still give what it
/// gives.
#[utoipa::path(post, path = "/auth/invitations/accept", tag = "auth", operation_id = "acceptInvitation", responses(
    (status = 201, description = "Joined and logged in", body = TokenPair),
    (status = 400, description = "`invalid_invitation`, or the body cannot be read"),
    (status = 403, description = "`sso_required`: sign on with the organization's provider instead; `limit_reached`"),
    (status = 409, description = "The address has an account"),
))]
async fn accept(
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<InvitationAccept>,
) -> Result<(StatusCode, axum::Json<TokenPair>), Problem> {
    stranger.attempt.to("invitation.accept");
    let invalid = || Problem::new(Code::InvalidInvitation, "the invitation is not valid; ask for another");
    let token = RefreshToken::hash_of(body.token.expose());
    let Invited { scope, invitation, org_name } =
        api.state.store.resolve_invitation(&token).await?.ok_or_else(invalid)?;
    let full_name = body.full_name.map_or(invitation.full_name.clone(), |name| name.trim().to_owned());
    if let Some(weakness) = authn::weakness(body.password.expose(), &[&invitation.email, &full_name, &org_name]) {
        return Err(Problem::validation(vec![Fault::at("/password", weakness)]));
    }
    let password_hash = api.passwords.hash(body.password).await?;
    let user = NewUser {
        id: UserId::new(),
        email: invitation.email.clone(),
        full_name,
        role: invitation.role.clone(),
        permissions: invitation.permissions.clone(),
        password_hash,
        must_change_password: false,
        invited_by: Some(invitation.invited_by),
    };
    let who = Who::person(user.id, &user.email, stranger.origin);
    let mut tx = WriteTx::new(api.state.store.write(scope).await?, who.clone());
    if user.role != Role::Owner.as_str() && tx.identity().login_demands().await?.sso {
        let detail = "this organization signs on with its own provider: `GET /auth/sso/start`";
        return Err(Problem::new(Code::SsoRequired, detail));
    }
    let inviter = tx.users().find(invitation.invited_by).await?.filter(|inviter| inviter.is_active);
    let inviter = authority_of(&inviter.ok_or_else(invalid)?)?;
    let may = inviter.has(Permission::InviteUsers) && inviter.may_grant(None, &authority(&invitation)?).is_ok();
    if !may || !tx.invitations().accept(invitation.id, &token).await? {
        return Err(invalid());
    }
    room_for_one(&mut tx).await?;
    let id = user.id;
    let user = User::from(tx.users().insert(user).await?);
    tx.commit(Act::new("invitation.accept").on("user", id.uuid()).with(&user)).await?;
    let tokens = start_session(&api, LoginMethod::Password, scope, id, who, client).await?;
    Ok((StatusCode::CREATED, axum::Json(tokens)))
}

/// What an invitation gives.
fn authority(record: &InvitationRecord) -> Result<Authority, Problem> {
    let role = record.role.parse().map_err(Problem::internal)?;
    let permissions: Vec<_> = record.permissions.iter().filter_map(|name| name.parse().ok()).collect();
    Ok(Authority::new(role, &permissions))
}

fn send(api: &Api, invitation: &Invitation, organization: &str, token: &RefreshToken) {
    let (token, public_url) = (token.expose(), api.state.config.admin.public_url.trim_end_matches('/'));
    // Behind `#`, where no server and no referrer sees it.
    let text = format!(
        "You are invited to {organization} at Sentinel.\n\
         \n\
         Accept within seven days, here:\n\
         \n\
         {public_url}/invitation#token={token}\n\
         \n\
         or by sending the token and a password to {public_url}/auth/invitations/accept\n\
         \n\
         The link works once. If you do not know what this is about, there is nothing to do.\n"
    );
    let subject = "An invitation to Sentinel".to_owned();
    let mail = Mail { to: invitation.email.clone(), subject, text: Secret::new(text) };
    api.state.mailer.send_later(async { Some(mail) });
}
