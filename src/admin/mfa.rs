//! `/auth/mfa`: the second factor, and the step of a log-in that asks for it.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::auth::{TokenPair, check_password, start_session};
use super::extract::{Authorized, Client, Enrolling, Input, Json, Stranger};
use super::problem::{Code, Fault, Problem};
use super::trail::{Act, Attempt, Who};
use crate::authn::{ClientInfo, RecoveryCodes, TotpSecret, mfa_place};
use crate::domain::{Secret, Timestamp, UserId};
use crate::store::{LoginAccount, LoginMethod, TenantScope, UserRecord};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(enrol))
        .routes(routes!(confirm))
        .routes(routes!(verify))
        .routes(routes!(regenerate))
        .routes(routes!(disable))
}

/// How long a person may look for their second factor.
const TOKEN_TTL: Duration = Duration::from_secs(300);
/// Seconds after which locked codes are looked at again.
const LOCKED: u64 = 900;
const TOKEN_CONTEXT: &str = "mfa_token";

/// What a log-in comes to.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum LoginAnswer {
    Tokens(TokenPair),
    MfaRequired(MfaRequired),
}

/// The password was right; the second factor is still to come, by `POST /auth/mfa/verify`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct MfaRequired {
    #[schema(example = true)]
    mfa_required: bool,
    /// For `POST /auth/mfa/verify`.
    mfa_token: String,
    /// Seconds that the token lives.
    #[schema(example = 300)]
    expires_in: u64,
}

/// Who has shown a password and not yet a second factor.
#[derive(Serialize, Deserialize)]
struct Pending {
    user: UserId,
    /// Microseconds since 1970.
    until: i64,
}

/// The rest of a log-in whose password has been checked: tokens, or the question for the second factor.
pub(super) async fn after_password(
    api: &Api,
    account: &LoginAccount,
    who: Who,
    client: ClientInfo,
) -> Result<LoginAnswer, Problem> {
    let mut tx = api.state.store.read(account.scope).await?;
    let person = tx.users().find(account.user_id).await?.ok_or_else(Problem::invalid_credentials)?;
    // Owners keep their password: a provider that fails must not lock the organization out.
    if person.role != "owner" && tx.identity().login_demands().await?.sso {
        let detail = "this organization signs on with its own provider: `GET /auth/sso/start`";
        return Err(Problem::new(Code::SsoRequired, detail));
    }
    tx.commit().await?;
    if person.mfa_enabled {
        let until = api.state.clock.now().plus(TOKEN_TTL).micros();
        let pending = serde_json::to_vec(&Pending { user: person.id, until }).map_err(Problem::internal)?;
        let sealed = api.state.sealer.seal(TOKEN_CONTEXT, &pending).map_err(Problem::internal)?;
        return Ok(LoginAnswer::MfaRequired(MfaRequired {
            mfa_required: true,
            mfa_token: URL_SAFE_NO_PAD.encode(sealed),
            expires_in: TOKEN_TTL.as_secs(),
        }));
    }
    start_session(api, LoginMethod::Password, account.scope, account.user_id, who, client)
        .await
        .map(LoginAnswer::Tokens)
}

/// Checks a code of the authenticator app or, where they are taken, a recovery code. Each works once; wrong ones are counted
/// over all log-ins of the person.
async fn check_code(
    api: &Api,
    scope: TenantScope,
    user: UserId,
    code: &Secret<String>,
    recovery: bool,
) -> Result<(), Problem> {
    let mut tx = api.state.store.write(scope).await?;
    if !tx.users().count_mfa_try(user).await? {
        let detail = "too many wrong codes; none is looked at for a quarter of an hour";
        return Err(Problem::new(Code::MfaLocked, detail).retry_after(LOCKED));
    }
    tx.commit().await?;

    let code: String = code.expose().chars().filter(|c| !c.is_whitespace()).collect();
    let mut tx = api.state.store.write(scope).await?;
    let sealed = tx.users().mfa(user).await?.and_then(|mfa| mfa.mfa_secret).ok_or_else(wrong_code)?;
    let secret = api.state.sealer.open(&mfa_place(user), &sealed).map_err(Problem::internal)?;
    let step = TotpSecret::from_bytes(secret).step_of(&code, api.state.clock.now());
    let taken = match step {
        Some(step) => tx.users().take_totp_step(user, step).await?,
        None if recovery => tx.users().take_recovery_code(user, &RecoveryCodes::hash_of(user, &code)).await?,
        None => false,
    };
    tx.commit().await?;
    if taken { Ok(()) } else { Err(wrong_code()) }
}

fn wrong_code() -> Problem {
    Problem::new(Code::WrongSecondFactor, "the code is wrong, was used before, or has passed")
}

/// A person's password once more, before their second factor changes or their organization goes.
pub(super) async fn confirm_password(
    api: &Api,
    attempt: &Attempt,
    client: &ClientInfo,
    user: &UserRecord,
    password: Secret<String>,
) -> Result<(), Problem> {
    match check_password(api, attempt, client, &user.email, password).await {
        Ok(account) if account.user_id == user.id => Ok(()),
        Err(problem) if problem.code() != Code::InvalidCredentials => Err(problem),
        _ => Err(Problem::validation(vec![Fault::at("/password", "is wrong")])),
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MfaCode {
    /// Six digits.
    #[schema(value_type = String, min_length = 6, max_length = 10, example = "287082")]
    code: Secret<String>,
}

impl Input for MfaCode {}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MfaVerify {
    /// Of the answer to `POST /auth/login`.
    #[schema(value_type = String, max_length = 500)]
    mfa_token: Secret<String>,
    /// Six digits, or a recovery code.
    #[schema(value_type = String, max_length = 40, example = "287082")]
    code: Secret<String>,
}

impl Input for MfaVerify {}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MfaPassword {
    #[schema(value_type = String, format = Password, max_length = 128, example = "correct horse battery staple")]
    password: Secret<String>,
}

impl Input for MfaPassword {}

/// What an authenticator app needs; shown once.
#[derive(Serialize, utoipa::ToSchema)]
pub struct MfaEnrolment {
    /// For typing.
    #[schema(example = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")]
    secret: String,
    /// For a QR code.
    #[schema(
        example = "otpauth://totp/Sentinel:jane%40acme.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Sentinel"
    )]
    otpauth_url: String,
}

/// Codes that each replace the second factor once; shown once.
#[derive(Serialize, utoipa::ToSchema)]
pub struct MfaRecoveryCodes {
    #[schema(example = json!(["mzxw-6ytb-oi7q-a2lk"]))]
    recovery_codes: Vec<String>,
}

/// Begin to enrol a second factor
///
/// It is in force once `POST /auth/mfa/confirm` has seen a code of it. Beginning again replaces the secret.
#[utoipa::path(post, path = "/auth/mfa/enrol", tag = "auth", operation_id = "enrolMfa", security(("session" = [])), responses(
    (status = 200, description = "The secret", body = MfaEnrolment),
    (status = 409, description = "A second factor is in force"),
))]
async fn enrol(me: Authorized<Enrolling>, State(api): State<Api>) -> Result<axum::Json<MfaEnrolment>, Problem> {
    let user = &me.session.user;
    let secret = TotpSecret::generate();
    let sealed = api.state.sealer.seal(&mfa_place(user.id), secret.expose()).map_err(Problem::internal)?;
    let mut tx = me.write().await?;
    if !tx.users().offer_mfa(user.id, &sealed).await? {
        return Err(Problem::new(Code::Conflict, "a second factor is in force; disable it first"));
    }
    tx.commit(Act::new("mfa.enrol").on("user", user.id.uuid())).await?;
    Ok(axum::Json(MfaEnrolment { secret: secret.base32(), otpauth_url: secret.otpauth_url(&user.email) }))
}

/// Put the second factor in force
///
/// Your other sessions end. The recovery codes are shown once.
#[utoipa::path(post, path = "/auth/mfa/confirm", tag = "auth", operation_id = "confirmMfa", security(("session" = [])), responses(
    (status = 200, description = "In force", body = MfaRecoveryCodes),
    (status = 401, description = "`invalid_mfa_code`, or no valid session"),
    (status = 409, description = "Nothing to confirm: not begun, or in force"),
    (status = 429, description = "`mfa_locked`; see `Retry-After`"),
))]
async fn confirm(
    me: Authorized<Enrolling>,
    State(api): State<Api>,
    Json(body): Json<MfaCode>,
) -> Result<axum::Json<MfaRecoveryCodes>, Problem> {
    let user = &me.session.user;
    let nothing = || Problem::new(Code::Conflict, "there is nothing to confirm: begin with `POST /auth/mfa/enrol`");
    let mfa = me.read().await?.users().mfa(user.id).await?.ok_or_else(Problem::not_found)?;
    if mfa.mfa_enabled || mfa.mfa_secret.is_none() {
        return Err(nothing());
    }
    check_code(&api, me.session.scope, user.id, &body.code, false).await?;
    let codes = RecoveryCodes::generate();
    let mut tx = me.write().await?;
    if !tx.users().enable_mfa(user.id).await? {
        return Err(nothing());
    }
    tx.users().set_recovery_codes(user.id, &codes.hashes(user.id)).await?;
    tx.users().end_sessions(user.id, Some(me.session.id)).await?;
    tx.commit(Act::new("mfa.confirm").on("user", user.id.uuid())).await?;
    Ok(axum::Json(MfaRecoveryCodes { recovery_codes: codes.into_codes() }))
}

/// Finish a log-in with the second factor
///
/// Each code works once. After five wrong ones none is looked at for a quarter of an hour.
#[utoipa::path(post, path = "/auth/mfa/verify", tag = "auth", operation_id = "verifyMfa", responses(
    (status = 200, description = "Logged in", body = TokenPair),
    (status = 401, description = "`invalid_mfa_code`, or `invalid_mfa_token`: log in again"),
    (status = 429, description = "`mfa_locked`; see `Retry-After`"),
))]
async fn verify(
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<MfaVerify>,
) -> Result<axum::Json<TokenPair>, Problem> {
    let invalid = || Problem::new(Code::InvalidMfaToken, "the token is not valid or has expired; log in again");
    let sealed = URL_SAFE_NO_PAD.decode(body.mfa_token.expose()).map_err(|_| invalid())?;
    let pending = api.state.sealer.open(TOKEN_CONTEXT, &sealed).map_err(|_| invalid())?;
    let pending: Pending = serde_json::from_slice(pending.expose()).map_err(|_| invalid())?;
    if Timestamp::from_micros(pending.until) <= api.state.clock.now() {
        return Err(invalid());
    }
    let (scope, person) = api.state.store.resolve_person(pending.user).await?.ok_or_else(invalid)?;
    stranger.attempt.to("auth.login");
    stranger.attempt.by(scope, person.id, &person.email);
    if !person.mfa_enabled {
        return Err(invalid());
    }
    check_code(&api, scope, person.id, &body.code, true).await?;
    let who = Who::person(person.id, &person.email, stranger.origin);
    start_session(&api, LoginMethod::Password, scope, person.id, who, client).await.map(axum::Json)
}

/// Replace your recovery codes
///
/// The old ones no longer work.
#[utoipa::path(post, path = "/auth/mfa/recovery-codes", tag = "auth", operation_id = "regenerateRecoveryCodes",
    security(("session" = [])), responses(
    (status = 200, description = "New codes, shown once", body = MfaRecoveryCodes),
    (status = 409, description = "No second factor is in force"),
))]
async fn regenerate(
    me: Authorized<Enrolling>,
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<MfaPassword>,
) -> Result<axum::Json<MfaRecoveryCodes>, Problem> {
    let user = &me.session.user;
    confirm_password(&api, &stranger.attempt, &client, user, body.password).await?;
    let codes = RecoveryCodes::generate();
    let mut tx = me.write().await?;
    if !tx.users().mfa(user.id).await?.is_some_and(|mfa| mfa.mfa_enabled) {
        return Err(Problem::new(Code::Conflict, "no second factor is in force"));
    }
    tx.users().set_recovery_codes(user.id, &codes.hashes(user.id)).await?;
    tx.commit(Act::new("mfa.regenerate_codes").on("user", user.id.uuid())).await?;
    Ok(axum::Json(MfaRecoveryCodes { recovery_codes: codes.into_codes() }))
}

/// Remove your second factor
///
/// Where the organization demands one, nothing else works until another is enrolled.
#[utoipa::path(post, path = "/auth/mfa/disable", tag = "auth", operation_id = "disableMfa", security(("session" = [])), responses(
    (status = 204, description = "Removed, with its recovery codes"),
    (status = 409, description = "No second factor is in force"),
))]
async fn disable(
    me: Authorized<Enrolling>,
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    Json(body): Json<MfaPassword>,
) -> Result<StatusCode, Problem> {
    let user = &me.session.user;
    confirm_password(&api, &stranger.attempt, &client, user, body.password).await?;
    let mut tx = me.write().await?;
    if !tx.users().disable_mfa(user.id).await? {
        return Err(Problem::new(Code::Conflict, "no second factor is in force"));
    }
    tx.commit(Act::new("mfa.disable").on("user", user.id.uuid())).await?;
    Ok(StatusCode::NO_CONTENT)
}
