//! `/auth`: registering, logging in, and the session that follows.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Authorized, Client, Input, Json, Myself, Stranger, name_faults};
use super::mfa::{self, LoginAnswer};
use super::problem::{Code, Fault, Problem};
use super::trail::{Act, Attempt, Who};
use super::users::User;
use crate::authn::{self, ClientInfo, Issued, Match, PasswordError, Permission, ThrottleError, WorkspacePermission};
use crate::config::Registration;
use crate::domain::{OrgId, Secret, UserId, WorkspaceId};
use crate::store::{LoginAccount, LoginMethod, NewOrganization, StoreError, TenantScope};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(me))
}

/// The first workspace of an organization.
const FIRST_WORKSPACE: &str = "default";

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    #[schema(max_length = 254, example = "founder@acme.com")]
    email: String,
    /// At least 12 characters, hard to guess, without your name, address or organization.
    #[schema(value_type = String, format = Password, example = "SecurePass123!")]
    password: Secret<String>,
    #[schema(min_length = 1, max_length = 200, example = "John Doe")]
    full_name: String,
    #[schema(min_length = 1, max_length = 100, example = "Acme Corp")]
    org_name: String,
}

impl Input for Register {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = email_faults("/email", &self.email);
        let about = [self.email.as_str(), &self.full_name, &self.org_name];
        let weakness = authn::weakness(self.password.expose(), &about);
        faults.extend(weakness.map(|detail| Fault::at("/password", detail)));
        faults.extend(name_faults("/full_name", &self.full_name));
        faults.extend(name_faults("/org_name", &self.org_name));
        faults
    }
}

/// Faults of an e-mail address: only what no address can be. Whether it is someone's, only a mail can tell.
pub(super) fn email_faults(pointer: &str, email: &str) -> Vec<Fault> {
    let good = email.split_once('@').is_some_and(|(local, domain)| {
        let plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || "@<>,;\"".contains(c));
        let dots = !domain.starts_with('.') && !domain.ends_with('.') && !domain.contains("..");
        (1..=64).contains(&local.len()) && !domain.is_empty() && plain(local) && plain(domain) && dots
    });
    if good { Vec::new() } else { vec![Fault::at(pointer, "must be an e-mail address")] }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    #[schema(example = "founder@acme.com")]
    email: String,
    #[schema(value_type = String, format = Password, max_length = 128, example = "SecurePass123!")]
    password: Secret<String>,
}

impl Input for Login {}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    #[schema(value_type = String, max_length = 200, example = "Zk1rQ0h3c0xwUjN2VGd5bUFlOFhkMm5KcVdpQmZVb0c")]
    refresh_token: Secret<String>,
}

impl Input for Refresh {}

/// Tokens to act for a person.
#[derive(Serialize, utoipa::ToSchema)]
pub struct TokenPair {
    /// For `Authorization: Bearer`.
    #[schema(example = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.…")]
    access_token: String,
    /// For `POST /auth/refresh`, once.
    refresh_token: String,
    #[schema(example = "bearer")]
    token_type: &'static str,
    /// Seconds that the access token lives.
    #[schema(example = 900)]
    expires_in: u64,
    user_id: UserId,
    org_id: OrgId,
    /// The password is temporary: everything but `GET /auth/me`, `POST /auth/logout` and `POST /auth/password` is refused
    /// until it has been changed.
    must_change_password: bool,
    /// The organization demands a second factor: everything but `GET /auth/me`, `POST /auth/logout`, `POST /auth/password`
    /// and enrolling one is refused until it is in force.
    must_enrol_mfa: bool,
}

impl From<Issued> for TokenPair {
    fn from(issued: Issued) -> Self {
        Self {
            access_token: issued.access_token.expose().clone(),
            refresh_token: issued.refresh_token.expose().to_owned(),
            token_type: "bearer",
            expires_in: issued.expires_in.as_secs(),
            user_id: issued.user_id,
            org_id: issued.org_id,
            must_change_password: issued.must_change_password,
            must_enrol_mfa: issued.must_enrol_mfa,
        }
    }
}

/// Create an account and its organization
///
/// The account is the organization's owner; a first workspace, `default`, is made with it.
#[utoipa::path(post, path = "/auth/register", tag = "auth", operation_id = "register", responses(
    (status = 201, description = "Registered and logged in", body = TokenPair),
    (status = 403, description = "`registration_closed`"),
    (status = 409, description = "The address has an account"),
))]
async fn register(
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<Register>,
) -> Result<(StatusCode, axum::Json<TokenPair>), Problem> {
    stranger.attempt.to("organization.create");
    if api.state.config.admin.registration == Registration::Closed {
        return Err(Problem::new(Code::RegistrationClosed, "ask the operator of this installation"));
    }
    let organization = NewOrganization {
        name: body.org_name.trim().to_owned(),
        owner_email: body.email,
        owner_full_name: body.full_name.trim().to_owned(),
        owner_password_hash: api.passwords.hash(body.password).await?,
        workspace_name: FIRST_WORKSPACE.to_owned(),
    };
    let email = organization.owner_email.clone();
    let registered = api.state.store.register_by(Some(stranger.origin.clone()), organization).await?;
    let who = Who::person(registered.user_id, &email, stranger.origin);
    let tokens = start_session(&api, LoginMethod::Password, registered.scope, registered.user_id, who, client).await?;
    Ok((StatusCode::CREATED, axum::Json(tokens)))
}

/// Log in
///
/// The answer to an unknown address is the same, and takes as long, as that to a wrong password. After five failures in a
/// minute for one account from one address, or several from anywhere, the next attempt has to wait; after ten the account is
/// locked for half an hour. The installation's configuration may say otherwise.
#[utoipa::path(post, path = "/auth/login", tag = "auth", operation_id = "login", responses(
    (status = 200, description = "Logged in, or the second factor is still to come", body = LoginAnswer),
    (status = 401, description = "`invalid_credentials`"),
    (status = 429, description = "`login_throttled`; see `Retry-After`, `RateLimit` and `RateLimit-Policy`", headers(
        ("Retry-After" = u64, description = "Seconds until the next attempt"),
    )),
    (status = 403, description = "`sso_required`"),
    (status = 503, description = "`overloaded`, or the database is away; see `Retry-After`"),
))]
async fn login(
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<Login>,
) -> Result<axum::Json<LoginAnswer>, Problem> {
    stranger.attempt.to("auth.login");
    let account = check_password(&api, &stranger.attempt, &client, &body.email, body.password).await?;
    let who = Who::person(account.user_id, body.email.trim(), stranger.origin);
    Ok(axum::Json(mfa::after_password(&api, &account, who, client).await?))
}

/// Opens a session for a person who has proved who they are, by whatever means, and remembers that they logged in.
pub(super) async fn start_session(
    api: &Api,
    method: LoginMethod,
    scope: TenantScope,
    user: UserId,
    who: Who,
    client: ClientInfo,
) -> Result<TokenPair, Problem> {
    api.state.store.record_login(user, scope.org_id()).await?;
    let event = Act::new("auth.login").on("user", user.uuid()).by(who);
    Ok(api.sessions.open(method, scope, user, client, event).await?.into())
}

/// The active account of `email` when `password` is its password. Guesses are counted and slowed down; a refusal is recorded
/// in the organization of the account that was tried. A hash that is weaker than those of today is replaced on the way.
pub(super) async fn check_password(
    api: &Api,
    attempt: &Attempt,
    client: &ClientInfo,
    email: &str,
    password: Secret<String>,
) -> Result<LoginAccount, Problem> {
    let guess = api.throttle.admit(email, client.ip.as_deref()).await.inspect_err(|error| {
        if matches!(error, ThrottleError::Throttled(_)) {
            api.state.metrics.rate_limited.with_label_values(&["login"]).inc();
        }
    })?;
    let (account, matched) = match compare(api, attempt, email, password.clone()).await {
        Ok(compared) => compared,
        Err(problem) => {
            // Nobody has learned anything.
            api.throttle.withdraw(&guess);
            return Err(problem);
        }
    };
    let Some(account) = account.filter(|_| matched != Match::Wrong) else {
        api.throttle.failed(&guess).await?;
        return Err(Problem::invalid_credentials());
    };
    api.throttle.succeeded(&guess);
    if matched == Match::Outdated {
        // The log-in does not hang on it.
        if let Err(error) = upgrade_hash(api, &account, password).await {
            tracing::warn!(%error, "a password keeps its weaker hash until the next log-in");
        }
    }
    Ok(account)
}

/// Without an active account the password is compared with a hash that is nobody's, which takes as long.
async fn compare(
    api: &Api,
    attempt: &Attempt,
    email: &str,
    password: Secret<String>,
) -> Result<(Option<LoginAccount>, Match), Problem> {
    let account = api.state.store.find_login(email).await?;
    if let Some(account) = &account {
        attempt.by(account.scope, account.user_id, email.trim());
    }
    let account = account.filter(|account| account.active);
    let stored = account.as_ref().map(|account| account.password_hash.clone());
    let matched = api.passwords.verify(password, stored).await?;
    Ok((account, matched))
}

async fn upgrade_hash(api: &Api, account: &LoginAccount, password: Secret<String>) -> Result<(), UpgradeError> {
    let hash = api.passwords.hash(password).await?;
    let mut tx = api.state.store.write(account.scope).await?;
    tx.users().upgrade_hash(account.user_id, account.password_hash.expose(), &hash).await?;
    Ok(tx.commit().await?)
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum UpgradeError {
    Password(#[from] PasswordError),
    Store(#[from] StoreError),
}

/// Exchange a refresh token for new tokens
///
/// Each refresh token works once. One that is presented again ends its session, for one of the two who had it stole it.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", operation_id = "refresh", responses(
    (status = 200, description = "New tokens", body = TokenPair),
    (status = 401, description = "`invalid_refresh_token`"),
))]
async fn refresh(
    State(api): State<Api>,
    stranger: Stranger,
    Json(body): Json<Refresh>,
) -> Result<axum::Json<TokenPair>, Problem> {
    stranger.attempt.to("auth.refresh");
    let issued = api.sessions.refresh(body.refresh_token.expose()).await;
    if matches!(issued, Err(authn::SessionError::Reused)) {
        tracing::warn!("a refresh token was used twice; its session has been ended");
    }
    Ok(axum::Json(issued?.into()))
}

/// End this session
///
/// Its access and refresh tokens are refused from now on.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", operation_id = "logout", security(("session" = [])), responses(
    (status = 204, description = "Logged out"),
))]
async fn logout(me: Authorized<Myself>) -> Result<StatusCode, Problem> {
    let mut tx = me.write().await?;
    tx.revoke_session(me.session.id).await?;
    tx.commit(Act::new("auth.logout").on("session", me.session.id.uuid())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is logged in.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Me {
    #[serde(flatten)]
    user: User,
    /// Everything the person may do, by role and beyond it.
    effective_permissions: Vec<Permission>,
    /// What they may do beyond that in single workspaces.
    workspaces: Vec<InOneWorkspace>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct InOneWorkspace {
    workspace_id: WorkspaceId,
    #[schema(value_type = Vec<WorkspacePermission>, example = json!(["api_keys:write"]))]
    permissions: Vec<String>,
}

/// The person who is logged in
///
/// With everything that they may do.
#[utoipa::path(get, path = "/auth/me", tag = "auth", operation_id = "getMe", security(("session" = [])), responses(
    (status = 200, description = "You", body = Me),
))]
async fn me(me: Authorized<Myself>) -> Result<axum::Json<Me>, Problem> {
    let effective_permissions = me.session.authority.permissions().iter().copied().collect();
    let memberships = me.read().await?.workspace_members().of(me.session.user.id).await?;
    let workspaces = memberships
        .into_iter()
        .map(|member| InOneWorkspace { workspace_id: member.workspace_id, permissions: member.permissions })
        .collect();
    Ok(axum::Json(Me { user: me.session.user.into(), effective_permissions, workspaces }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_address_can_be_is_refused() {
        for good in ["founder@acme.com", "a.b+c@sub.acme.co", "o'neill@localhost", "jörg@bücher.example"] {
            assert_eq!(email_faults("/email", good), [], "{good}");
        }
        for bad in ["", "acme.com", "@acme.com", "a@", "a b@acme.com", "a@b@c", "a@.com", "a@acme..com", "a\n@acme.com"]
        {
            assert_eq!(email_faults("/email", bad).len(), 1, "{bad:?}");
        }
    }
}
