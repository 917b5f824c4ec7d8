//! `/auth/password`: changing a password, and setting a new one by a link that is mailed.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::auth::{check_password, email_faults};
use super::extract::{Authorized, Client, Input, Json, Myself, Stranger};
use super::problem::{Code, Fault, Problem};
use super::trail::{Act, Who, WriteTx};
use crate::authn::{self, RefreshToken};
use crate::domain::Secret;
use crate::mail::Mail;
use crate::store::{Origin, StoreError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(change)).routes(routes!(forgot)).routes(routes!(reset))
}

/// How long a link is good.
const LINK_TTL: Duration = Duration::from_secs(3600);

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    #[schema(value_type = String, format = Password, max_length = 128, example = "wK7mTq3ZrXh9PfYd2GsN")]
    current_password: Secret<String>,
    /// At least 12 characters, hard to guess, without your name or address.
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    new_password: Secret<String>,
}

impl Input for ChangePassword {
    fn faults(&self) -> Vec<Fault> {
        let same = self.current_password == self.new_password;
        same.then(|| Fault::at("/new_password", "must differ from the current one")).into_iter().collect()
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgotPassword {
    #[schema(max_length = 254, example = "founder@acme.com")]
    email: String,
}

impl Input for ForgotPassword {
    fn faults(&self) -> Vec<Fault> {
        email_faults("/email", &self.email)
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPassword {
    /// From the link in the mail.
    #[schema(value_type = String, max_length = 200, example = "Zk1rQ0h3c0xwUjN2VGd5bUFlOFhkMm5KcVdpQmZVb0c")]
    token: Secret<String>,
    /// At least 12 characters, hard to guess, without your name or address.
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    password: Secret<String>,
}

impl Input for ResetPassword {}

/// Change your password
///
/// Needed after a log-in with a temporary password, possible at any time. Ends your other sessions. Wrong current passwords
/// count as failed log-ins.
#[utoipa::path(post, path = "/auth/password", tag = "auth", operation_id = "changePassword", security(("session" = [])), responses(
    (status = 204, description = "Changed"),
    (status = 429, description = "`login_throttled`; see `Retry-After`"),
))]
async fn change(
    me: Authorized<Myself>,
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<ChangePassword>,
) -> Result<StatusCode, Problem> {
    let user = &me.session.user;
    if let Some(weakness) = authn::weakness(body.new_password.expose(), &[&user.email, &user.full_name]) {
        return Err(Problem::validation(vec![Fault::at("/new_password", weakness)]));
    }
    match check_password(&api, &stranger.attempt, &client, &user.email, body.current_password).await {
        Err(problem) if problem.code() == Code::InvalidCredentials => {
            return Err(Problem::validation(vec![Fault::at("/current_password", "is wrong")]));
        }
        checked => checked?,
    };
    let hash = api.passwords.hash(body.new_password).await?;
    let mut tx = me.write().await?;
    let mut users = tx.users();
    users.set_password(user.id, &hash, false).await?;
    users.end_sessions(user.id, Some(me.session.id)).await?;
    users.drop_password_resets(user.id).await?;
    tx.commit(Act::new("auth.change_password").on("user", user.id.uuid())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ask for a link to set a new password
///
/// Mails a link that works once and for an hour. The answer is the same, and takes as long, whether the address has an
/// account or not. An account has at most three such links at a time; requests beyond that send nothing.
#[utoipa::path(post, path = "/auth/password/forgot", tag = "auth", operation_id = "forgotPassword", responses(
    (status = 202, description = "If the address has an account, a mail is on its way"),
))]
async fn forgot(State(api): State<Api>, stranger: Stranger, Json(body): Json<ForgotPassword>) -> StatusCode {
    let maker = api.clone();
    api.state.mailer.send_later(async move {
        make_reset(&maker, &body.email, stranger.origin).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a link to set a new password could not be made");
            None
        })
    });
    StatusCode::ACCEPTED
}

/// The mail for an account that can log in by password; None for any other address.
async fn make_reset(api: &Api, email: &str, origin: Origin) -> Result<Option<Mail>, StoreError> {
    let Some(account) = api.state.store.find_login(email).await?.filter(|account| account.active) else {
        return Ok(None);
    };
    let token = RefreshToken::generate();
    let expires_at = api.state.clock.now().plus(LINK_TTL);
    let who = Who { origin, ..Who::default() };
    let mut tx = WriteTx::new(api.state.store.write(account.scope).await?, who);
    let Some(user) = tx.users().find(account.user_id).await? else { return Ok(None) };
    if !tx.users().add_password_reset(user.id, &token.hash(), expires_at).await? {
        tracing::info!(user_id = %user.id, "no further link to set a new password: enough are under way");
        return Ok(None);
    }
    tx.commit(Act::new("auth.request_reset").on("user", user.id.uuid())).await?;
    let (token, public_url) = (token.expose(), api.state.config.admin.public_url.trim_end_matches('/'));
    // Behind `#`, where no server and no referrer sees it.
    let text = format!(
        "Somebody, hopefully you, asked for a new password for your account at Sentinel.\n\
         \n\
         Set it within an hour, here:\n\
         \n\
         {public_url}/reset-password#token={token}\n\
         \n\
         or by sending the token and the new password to {public_url}/auth/password/reset\n\
         \n\
         The link works once. If it was not you, nothing has changed and there is nothing to do.\n"
    );
    let subject = "Set a new password for Sentinel".to_owned();
    Ok(Some(Mail { to: user.email, subject, text: Secret::new(text) }))
}

/// Set a new password by a link
///
/// The token from the mail works once. All sessions of the person end; a lock after failed log-ins ends, too.
#[utoipa::path(post, path = "/auth/password/reset", tag = "auth", operation_id = "resetPassword", responses(
    (status = 204, description = "Set"),
    (status = 400, description = "`invalid_reset_token`, or the body cannot be read"),
))]
async fn reset(
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<ResetPassword>,
) -> Result<StatusCode, Problem> {
    let invalid = || Problem::new(Code::InvalidResetToken, "the link is not valid; ask for another");
    let token = RefreshToken::hash_of(body.token.expose());
    let reset = api.state.store.resolve_password_reset(&token).await?.ok_or_else(invalid)?;
    if let Some(weakness) = authn::weakness(body.password.expose(), &[&reset.email, &reset.full_name]) {
        return Err(Problem::validation(vec![Fault::at("/password", weakness)]));
    }
    let hash = api.passwords.hash(body.password).await?;
    let who = Who::person(reset.user_id, &reset.email, stranger.origin);
    let mut tx = WriteTx::new(api.state.store.write(reset.scope).await?, who);
    let mut users = tx.users();
    if !users.use_password_reset(reset.user_id, &token).await? {
        return Err(invalid());
    }
    users.set_password(reset.user_id, &hash, false).await?;
    users.end_sessions(reset.user_id, None).await?;
    users.drop_password_resets(reset.user_id).await?;
    tx.commit(Act::new("auth.reset_password").on("user", reset.user_id.uuid())).await?;
    api.throttle.forgive(&reset.email, client.ip.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
