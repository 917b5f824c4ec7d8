//! `/auth/sso` and `/orgs/me/sso`: signing on with the organization's own OpenID Connect provider.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::auth::{TokenPair, start_session};
use super::extract::{Authorized, Client, Input, Json, Query, ReadOrganization, Stranger, WriteOrganization};
use super::problem::{Code, Fault, Problem};
use super::trail::{Act, Who, WriteTx};
use super::users::room_for_one;
use crate::authn::{Authority, Identity, OidcError, Provider, Role, authority_of, issuer_fault, sso_place};
use crate::config::Environment;
use crate::domain::{OrgId, Secret, Timestamp, UserId};
use crate::store::{LoginMethod, ProvisionedUser, SsoConnection, TenantTx, UserPatch, UserRecord};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(callback)).routes(routes!(get, set, remove))
}

/// How long a person may take at their provider.
const TTL: Duration = Duration::from_secs(600);
const COOKIE: &str = "sentinel_sso";
const COOKIE_CONTEXT: &str = "sso_cookie";

impl From<OidcError> for Problem {
    fn from(error: OidcError) -> Self {
        match error {
            OidcError::Provider(_) => Self::new(Code::SsoProviderUnavailable, error.to_string()),
            OidcError::Answer(_) => Self::new(Code::SsoFailed, error.to_string()),
        }
    }
}

/// A log-in on its way, in a cookie that binds it to the browser that began it.
#[derive(Serialize, Deserialize)]
struct Begun {
    slug: String,
    state: String,
    nonce: String,
    verifier: String,
    /// Microseconds since 1970.
    until: i64,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StartQuery {
    /// The `slug` of the organization.
    #[param(max_length = 100, example = "acme-corp")]
    org: String,
}

fn redirect_uri(api: &Api) -> String {
    format!("{}/auth/sso/callback", api.state.config.admin.public_url.trim_end_matches('/'))
}

fn is_development(api: &Api) -> bool {
    api.state.config.environment == Environment::Development
}

fn provider(api: &Api, org: OrgId, connection: &SsoConnection) -> Result<Provider, Problem> {
    let place = sso_place(org);
    let client_secret = api.state.sealer.open_text(&place, &connection.client_secret).map_err(Problem::internal)?;
    Ok(Provider {
        issuer: connection.issuer.clone(),
        client_id: connection.client_id.clone(),
        client_secret,
        redirect_uri: redirect_uri(api),
        groups_claim: connection.groups_claim.clone(),
    })
}

fn cookie(api: &Api, value: &str, seconds: u64) -> Result<HeaderValue, Problem> {
    let secure = if api.state.config.admin.public_url.starts_with("https:") { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).map_err(Problem::internal)
}

/// Sign on with your organization's provider
///
/// Leads the browser to the provider, which leads it back to `/auth/sso/callback`.
#[utoipa::path(get, path = "/auth/sso/start", tag = "auth", operation_id = "startSso", params(StartQuery), responses(
    (status = 303, description = "To the provider"),
    (status = 404, description = "There is no such organization, or it has no provider"),
    (status = 502, description = "`sso_provider_unavailable`"),
    (status = 503, description = "The database is away; see `Retry-After`"),
))]
async fn start(State(api): State<Api>, Query(query): Query<StartQuery>) -> Result<Response, Problem> {
    let scope = api.state.store.sign_on_scope(&query.org).await?.ok_or_else(Problem::not_found)?;
    let connection =
        api.state.store.read(scope).await?.identity().connection().await?.ok_or_else(Problem::not_found)?;
    let begun = api.providers()?.begin(&provider(&api, scope.org_id(), &connection)?).await?;
    let state = Begun {
        slug: query.org,
        state: begun.state,
        nonce: begun.nonce,
        verifier: begun.verifier.expose().clone(),
        until: api.state.clock.now().plus(TTL).micros(),
    };
    let plain = serde_json::to_vec(&state).map_err(Problem::internal)?;
    let sealed = api.state.sealer.seal(COOKIE_CONTEXT, &plain).map_err(Problem::internal)?;
    let cookie = cookie(&api, &URL_SAFE_NO_PAD.encode(sealed), TTL.as_secs())?;
    let location = HeaderValue::from_str(&begun.url).map_err(Problem::internal)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location), (header::SET_COOKIE, cookie)]).into_response())
}

fn failed(detail: &str) -> Problem {
    Problem::new(Code::SsoFailed, detail)
}

/// The log-in that this browser began, if this is its answer.
fn begun(api: &Api, headers: &HeaderMap, state: &str) -> Result<Begun, Problem> {
    let refused = || failed("this browser began no such log-in, or too long ago; begin again");
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE).ok_or_else(refused)?;
    let sealed = URL_SAFE_NO_PAD.decode(value).map_err(|_| refused())?;
    let plain = api.state.sealer.open(COOKIE_CONTEXT, &sealed).map_err(|_| refused())?;
    let begun: Begun = serde_json::from_slice(plain.expose()).map_err(|_| refused())?;
    let same = bool::from(begun.state.as_bytes().ct_eq(state.as_bytes()));
    if same && Timestamp::from_micros(begun.until) > api.state.clock.now() { Ok(begun) } else { Err(refused()) }
}

/// Come back from your provider
///
/// Needs the cookie of `/auth/sso/start`. Whoever has no account gets one with the organization's default role.
#[utoipa::path(get, path = "/auth/sso/callback", tag = "auth", operation_id = "finishSso", params(
    ("code" = Option<String>, Query, description = "The provider's code"),
    ("state" = Option<String>, Query, description = "What `/auth/sso/start` sent"),
    ("error" = Option<String>, Query, description = "Why the provider refuses"),
), responses(
    (status = 200, description = "Logged in", body = TokenPair),
    (status = 401, description = "`sso_failed`"),
    (status = 403, description = "`limit_reached`"),
    (status = 409, description = "The address belongs to another organization"),
    (status = 502, description = "`sso_provider_unavailable`"),
    (status = 503, description = "The database is away; see `Retry-After`"),
))]
async fn callback(
    State(api): State<Api>,
    Client(client): Client,
    stranger: Stranger,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    stranger.attempt.to("sso.sign_on");
    // Providers add parameters of their own; those that matter are read, the others are not.
    let query: HashMap<_, _> = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let begun = begun(&api, &headers, query.get("state").map(String::as_str).unwrap_or_default())?;
    let code = query.get("code").filter(|_| !query.contains_key("error"));
    let code = code.cloned().ok_or_else(|| failed("the provider refused the log-in"))?;
    let scope = api.state.store.sign_on_scope(&begun.slug).await?.ok_or_else(|| failed("the organization is gone"))?;
    let connection = api.state.store.read(scope).await?.identity().connection().await?;
    let connection = connection.ok_or_else(|| failed("the organization has no provider"))?;
    // RFC 9207: an answer of another provider.
    if query.get("iss").is_some_and(|issuer| *issuer != connection.issuer) {
        return Err(failed("the answer comes from another provider"));
    }
    let provider = provider(&api, scope.org_id(), &connection)?;
    let verifier = Secret::new(begun.verifier);
    let identity = api.providers()?.finish(&provider, code, begun.nonce, &verifier).await?;

    let who = Who { origin: stranger.origin.clone(), ..Who::default() };
    let mut tx = WriteTx::new(api.state.store.write(scope).await?, who);
    let person = person_of(&mut tx, &connection, &identity).await?;
    tx.commit(Act::new("sso.sign_on").on("user", person.id.uuid())).await?;
    let who = Who::person(person.id, &person.email, stranger.origin);
    let tokens = start_session(&api, LoginMethod::Sso, scope, person.id, who, client).await?;
    let gone = cookie(&api, "", 0)?;
    Ok(([(header::SET_COOKIE, gone)], axum::Json(tokens)).into_response())
}

fn role_of(name: &str) -> Result<Role, Problem> {
    name.parse().map_err(Problem::internal)
}

fn stands_above(role: Role, most: Role) -> bool {
    Authority::new(most, &[]).may_touch(&Authority::new(role, &[])).is_err()
}

/// The highest role that the groups map to, none of them above the maximum.
fn mapped_role(connection: &SsoConnection, groups: &[String], most: Role) -> Option<Role> {
    let roles = groups.iter().filter_map(|group| connection.role_mapping.get(group)?.parse().ok());
    let allowed = roles.filter(|role| *role != Role::Owner && !stands_above(*role, most));
    allowed.reduce(|best, role| if stands_above(role, best) { role } else { best })
}

/// The person behind an identity: known by the provider's subject, else by address, else made now.
async fn person_of(tx: &mut TenantTx, connection: &SsoConnection, identity: &Identity) -> Result<UserRecord, Problem> {
    let email = identity.email.as_deref().ok_or_else(|| failed("the provider does not tell the address"))?;
    let domain = email.rsplit_once('@').map(|(_, domain)| domain.to_lowercase()).unwrap_or_default();
    if !connection.email_domains.contains(&domain) {
        return Err(failed("the address is not of a domain that may sign on here"));
    }
    if identity.email_verified == Some(false) {
        return Err(failed("the provider has not verified the address"));
    }
    let most = role_of(&connection.max_role)?;
    let mapped = mapped_role(connection, &identity.groups, most);
    let known = match tx.users().find_by_subject(&connection.issuer, &identity.subject).await? {
        Some(person) => Some(person),
        None => tx.users().find_by_email(email).await?,
    };
    let Some(person) = known else { return make(tx, connection, identity, email, mapped).await };
    // Whoever runs the provider could otherwise become anyone, owners included.
    if Authority::new(most, &[]).may_touch(&authority_of(&person)?).is_err() {
        return Err(failed("people of this role log in with their password"));
    }
    if !person.is_active {
        return Err(failed("the account is not active"));
    }
    if person.sso_provider.as_ref().is_none_or(|issuer| *issuer != connection.issuer) {
        tx.users().link_subject(person.id, &connection.issuer, &identity.subject).await?;
    } else if tx.users().find_by_subject(&connection.issuer, &identity.subject).await?.is_none() {
        return Err(failed("the address belongs to another person at the provider"));
    }
    match mapped {
        Some(role) if role.as_str() != person.role => {
            let patch = UserPatch { role: Some(role.as_str().to_owned()), ..UserPatch::default() };
            tx.users().update(person.id, patch).await?.ok_or_else(Problem::not_found)
        }
        _ => Ok(person),
    }
}

async fn make(
    tx: &mut TenantTx,
    connection: &SsoConnection,
    identity: &Identity,
    email: &str,
    mapped: Option<Role>,
) -> Result<UserRecord, Problem> {
    room_for_one(tx).await?;
    let role = mapped.map_or_else(|| connection.default_role.clone(), |role| role.as_str().to_owned());
    let name = identity.name.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or(email);
    let user = ProvisionedUser {
        id: UserId::new(),
        email: email.to_owned(),
        full_name: name.chars().take(200).collect(),
        role,
        is_active: true,
        external_id: None,
    };
    let person = tx.users().provision(user).await?.user;
    tx.users().link_subject(person.id, &connection.issuer, &identity.subject).await?;
    Ok(person)
}

/// The organization's provider. Its secret is never shown.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Sso {
    #[schema(example = "https://login.acme.com")]
    issuer: String,
    client_id: String,
    #[schema(example = json!(["acme.com"]))]
    email_domains: Vec<String>,
    #[schema(value_type = Role, example = "member")]
    default_role: String,
    #[schema(value_type = Role, example = "admin")]
    max_role: String,
    groups_claim: Option<String>,
    #[schema(value_type = BTreeMap<String, Role>)]
    role_mapping: BTreeMap<String, String>,
    sso_required: bool,
    /// To be registered at the provider.
    #[schema(example = "https://sentinel.acme.com/auth/sso/callback")]
    redirect_uri: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Sso {
    pub(super) fn of(connection: SsoConnection, api: &Api) -> Self {
        Self {
            issuer: connection.issuer,
            client_id: connection.client_id,
            email_domains: connection.email_domains,
            default_role: connection.default_role,
            max_role: connection.max_role,
            groups_claim: connection.groups_claim,
            role_mapping: connection.role_mapping,
            sso_required: connection.sso_required,
            redirect_uri: redirect_uri(api),
            created_at: connection.created_at,
            updated_at: connection.updated_at,
        }
    }
}

const fn member() -> Role {
    Role::Member
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SsoSettings {
    /// `https://…`; in development also `http` on this machine.
    #[schema(max_length = 500, example = "https://login.acme.com")]
    issuer: String,
    #[schema(min_length = 1, max_length = 200)]
    client_id: String,
    /// May be left out while the issuer stays.
    #[schema(value_type = Option<String>, format = Password, min_length = 1, max_length = 1000)]
    client_secret: Option<Secret<String>>,
    /// Addresses of other domains are refused.
    #[schema(min_items = 1, max_items = 50, example = json!(["acme.com"]))]
    email_domains: Vec<String>,
    /// Of people who have no account yet and no mapped group. Not `owner`.
    #[serde(default = "member")]
    #[schema(default = "member")]
    default_role: Role,
    /// Nobody signs on with a role above it. Not `owner`.
    #[serde(default = "member")]
    #[schema(default = "member")]
    max_role: Role,
    /// The claim with the groups of a person.
    #[schema(min_length = 1, max_length = 100, example = "groups")]
    groups_claim: Option<String>,
    /// Group to role; of several the highest counts, at every log-in.
    #[serde(default)]
    role_mapping: BTreeMap<String, Role>,
    /// Passwords no longer log in, but for owners; sessions that one opened end.
    #[serde(default)]
    sso_required: bool,
}

impl Input for SsoSettings {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut allowed = |pointer: String, role: Role| {
            if role == Role::Owner {
                faults.push(Fault::at(pointer, "must not be `owner`"));
            } else if stands_above(role, self.max_role) {
                faults.push(Fault::at(pointer, "must not stand above `max_role`"));
            }
        };
        allowed("/max_role".to_owned(), self.max_role);
        allowed("/default_role".to_owned(), self.default_role);
        for (group, role) in &self.role_mapping {
            let group = group.replace('~', "~0").replace('/', "~1");
            allowed(format!("/role_mapping/{group}"), *role);
        }
        if !self.role_mapping.is_empty() && self.groups_claim.is_none() {
            faults.push(Fault::at("/groups_claim", "is needed by `role_mapping`"));
        }
        if self.role_mapping.len() > 200 {
            faults.push(Fault::at("/role_mapping", "must have at most 200 groups"));
        }
        for (at, domain) in self.email_domains.iter().enumerate() {
            let good = !domain.is_empty()
                && domain.len() <= 253
                && domain.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '.');
            if !good {
                faults.push(Fault::at(format!("/email_domains/{at}"), "must be a domain such as `acme.com`"));
            }
        }
        faults
    }
}

/// Your organization's sign-on provider
///
/// Without its secret, which is never shown again.
#[utoipa::path(get, path = "/orgs/me/sso", tag = "organization", operation_id = "getSso",
    security(("session" = ["org:read"])), responses(
    (status = 200, description = "The provider", body = Sso),
    (status = 404, description = "None is set up"),
))]
async fn get(admin: Authorized<ReadOrganization>, State(api): State<Api>) -> Result<axum::Json<Sso>, Problem> {
    let connection = admin.read().await?.identity().connection().await?.ok_or_else(Problem::not_found)?;
    Ok(axum::Json(Sso::of(connection, &api)))
}

/// Set up or change the sign-on provider
///
/// The provider is asked to describe itself before anything is saved. Nobody can let others sign on above themselves.
#[utoipa::path(put, path = "/orgs/me/sso", tag = "organization", operation_id = "setSso",
    security(("session" = ["org:write"])), responses(
    (status = 200, description = "Saved", body = Sso),
))]
async fn set(
    admin: Authorized<WriteOrganization>,
    State(api): State<Api>,
    Json(body): Json<SsoSettings>,
) -> Result<axum::Json<Sso>, Problem> {
    admin.session.authority.may_grant(None, &Authority::new(body.max_role, &[]))?;
    if let Some(fault) = issuer_fault(&body.issuer, is_development(&api)) {
        return Err(Problem::validation(vec![Fault::at("/issuer", fault)]));
    }
    let org = admin.session.scope.org_id();
    let before = admin.read().await?.identity().connection().await?;
    let client_secret = match (&body.client_secret, before) {
        (Some(secret), _) => {
            api.state.sealer.seal(&sso_place(org), secret.expose().as_bytes()).map_err(Problem::internal)?
        }
        // Never to another provider: it would learn the secret.
        (None, Some(before)) if before.issuer == body.issuer => before.client_secret,
        (None, _) => return Err(Problem::validation(vec![Fault::at("/client_secret", "is needed for this issuer")])),
    };
    if let Err(error) = api.providers()?.check(&body.issuer).await {
        tracing::info!(%error, "a sign-on provider does not describe itself");
        return Err(Problem::validation(vec![Fault::at("/issuer", "does not answer as an OpenID Connect provider")]));
    }
    let now = api.state.clock.now();
    let connection = SsoConnection {
        issuer: body.issuer,
        client_id: body.client_id,
        client_secret,
        email_domains: body.email_domains.iter().map(|domain| domain.to_lowercase()).collect(),
        default_role: body.default_role.as_str().to_owned(),
        max_role: body.max_role.as_str().to_owned(),
        groups_claim: body.groups_claim,
        role_mapping: body.role_mapping.into_iter().map(|(group, role)| (group, role.as_str().to_owned())).collect(),
        sso_required: body.sso_required,
        created_at: now,
        updated_at: now,
    };
    let mut tx = admin.write().await?;
    let connection = tx.identity().set_connection(connection).await?;
    if connection.sso_required {
        tx.identity().end_password_sessions().await?;
    }
    let sso = Sso::of(connection, &api);
    tx.commit(Act::new("sso.update").on("organization", org.uuid()).with(&sso)).await?;
    Ok(axum::Json(sso))
}

/// Remove the sign-on provider
///
/// People who have no password can no longer log in.
#[utoipa::path(delete, path = "/orgs/me/sso", tag = "organization", operation_id = "removeSso",
    security(("session" = ["org:write"])), responses(
    (status = 204, description = "Removed"),
    (status = 404, description = "None is set up"),
))]
async fn remove(admin: Authorized<WriteOrganization>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    if !tx.identity().remove_connection().await? {
        return Err(Problem::not_found());
    }
    let org = admin.session.scope.org_id().uuid();
    tx.commit(Act::new("sso.remove").on("organization", org)).await?;
    Ok(StatusCode::NO_CONTENT)
}
