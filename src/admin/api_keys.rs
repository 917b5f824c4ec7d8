//! `/api-keys`: what applications present.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::extract::{
    Authorized, Filtered, InWorkspace, Input, Json, ListQuery, Path, Query, ReadApiKeys, WriteApiKeys, name_faults,
    nullable,
};
use super::problem::{Code, Fault, Problem};
use super::trail::Act;
use crate::authn::ApiKeySecret;
use crate::domain::{ApiKeyId, Timestamp, UserId, WorkspaceId};
use crate::store::{ApiKeyColumn, ApiKeyRecord, NewApiKey};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, revoke)).routes(routes!(rotate))
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The gateway and `POST /process`.
    Process,
    Metrics,
    Reports,
}

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Metrics => "metrics",
            Self::Reports => "reports",
        }
    }
}

/// Says what the key is for by its prefix; both work alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `snt_live_…`
    #[default]
    Live,
    /// `snt_test_…`
    Test,
}

/// A key as it can be shown: never the key itself.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ApiKey {
    id: ApiKeyId,
    workspace_id: WorkspaceId,
    #[schema(example = "Production API Key")]
    name: String,
    #[schema(example = "snt_live_4fQz")]
    key_prefix: String,
    #[schema(example = "x7Kp")]
    last_four: String,
    #[schema(value_type = Vec<Scope>, example = json!(["process"]))]
    scopes: Vec<String>,
    /// Null: no limit of its own.
    rate_limit_per_minute: Option<u32>,
    is_active: bool,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    created_by: Option<UserId>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<ApiKeyRecord> for ApiKey {
    fn from(record: ApiKeyRecord) -> Self {
        Self {
            id: record.id,
            workspace_id: record.workspace_id,
            name: record.name,
            key_prefix: record.key_prefix,
            last_four: record.last_four,
            scopes: record.scopes,
            rate_limit_per_minute: record.rate_limit_per_minute,
            is_active: record.is_active,
            expires_at: record.expires_at,
            last_used_at: record.last_used_at,
            revoked_at: record.revoked_at,
            created_by: record.created_by,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// A new key, the only time that it is shown.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ApiKeyCreated {
    #[serde(flatten)]
    record: ApiKey,
    /// Keep it now: it is stored as a hash only.
    #[schema(example = "snt_live_4fQzR8mN2vXc7LkT1yHbW5sGdJ9pEaUo3iZqKfx7Kp")]
    key: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"workspace_id": "0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23", "name": "Production API Key",
    "scopes": ["process"], "rate_limit_per_minute": 600}))]
pub struct ApiKeyCreate {
    workspace_id: WorkspaceId,
    #[schema(min_length = 1, max_length = 100, example = "Production API Key")]
    name: String,
    /// `["process"]` when missing.
    #[schema(min_items = 1, max_items = 3)]
    scopes: Option<Vec<Scope>>,
    #[schema(minimum = 1, maximum = 1_000_000, example = 600)]
    rate_limit_per_minute: Option<u32>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    mode: Option<Mode>,
}

impl Input for ApiKeyCreate {
    fn faults(&self) -> Vec<Fault> {
        name_faults("/name", &self.name)
    }
}

/// What is missing stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Production API Key", "rate_limit_per_minute": 1200}))]
pub struct ApiKeyUpdate {
    #[schema(min_length = 1, max_length = 100, example = "Production API Key")]
    name: Option<String>,
    #[schema(min_items = 1, max_items = 3)]
    scopes: Option<Vec<Scope>>,
    /// Null: no limit of its own.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate_limit_per_minute: Option<Option<u32>>,
}

impl Input for ApiKeyUpdate {
    fn faults(&self) -> Vec<Fault> {
        self.name.as_ref().map(|name| name_faults("/name", name)).unwrap_or_default()
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// How long the old key still works, up to seven days; 0, when missing, revokes it at once.
    #[schema(maximum = 604_800, example = 3600)]
    grace_seconds: Option<u32>,
}

impl Input for Rotate {}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ApiKeyQuery {
    /// Only keys of this workspace.
    #[param(value_type = Option<uuid::Uuid>)]
    workspace_id: Option<WorkspaceId>,
}

type ApiKeyList = ListQuery<ApiKeyColumn>;

fn names(scopes: &[Scope]) -> Vec<String> {
    let all = [Scope::Process, Scope::Metrics, Scope::Reports];
    all.into_iter().filter(|scope| scopes.contains(scope)).map(|scope| scope.as_str().to_owned()).collect()
}

/// API keys
///
/// Newest first when nothing else is asked for; revoked ones too. A key that was never used comes before all that were.
/// The keys themselves are not stored and cannot be shown.
#[utoipa::path(get, path = "/api-keys", tag = "api-keys", operation_id = "listApiKeys",
    security(("session" = ["api_keys:read"])), params(ApiKeyQuery, ApiKeyList), responses(
    (status = 200, description = "A page of keys", body = List<ApiKey>),
))]
async fn list(
    admin: Authorized<ReadApiKeys>,
    Query(Filtered { rows, page }): Query<Filtered<ApiKeyQuery, ApiKeyList>>,
) -> Result<List<ApiKey>, Problem> {
    let mut tx = admin.read().await?;
    let page = tx.api_keys().list_by(page.sort(), rows.workspace_id, &page.page()).await?;
    Ok(List::new(page, ApiKey::from))
}

/// Create an API key
///
/// The answer is the only place where the key is ever shown.
#[utoipa::path(post, path = "/api-keys", tag = "api-keys", operation_id = "createApiKey",
    security(("session" = ["api_keys:write"])), responses(
    (status = 201, description = "Created", body = ApiKeyCreated),
))]
async fn create(
    admin: InWorkspace<WriteApiKeys>,
    State(api): State<Api>,
    Json(body): Json<ApiKeyCreate>,
) -> Result<(StatusCode, axum::Json<ApiKeyCreated>), Problem> {
    if body.expires_at.is_some_and(|at| at <= api.state.clock.now()) {
        return Err(Problem::validation(vec![Fault::at("/expires_at", "must lie in the future")]));
    }
    admin.allow(body.workspace_id)?;
    let secret = ApiKeySecret::generate(body.mode.unwrap_or_default() == Mode::Live);
    let key = NewApiKey {
        id: ApiKeyId::new(),
        workspace_id: body.workspace_id,
        name: body.name.trim().to_owned(),
        hash: secret.hash(),
        key_prefix: secret.display_prefix(),
        last_four: secret.last_four(),
        scopes: names(&body.scopes.unwrap_or_else(|| vec![Scope::Process])),
        rate_limit_per_minute: body.rate_limit_per_minute,
        expires_at: body.expires_at,
        rotated_from: None,
        created_by: Some(admin.session.user.id),
    };
    let mut tx = admin.write().await?;
    if let Some(limit) = tx.organization().get().await?.max_api_keys {
        tx.serialize().await?;
        if tx.api_keys().count().await? >= u64::from(limit) {
            return Err(Problem::new(Code::LimitReached, "the organization has as many API keys as its plan allows"));
        }
    }
    let record = ApiKey::from(tx.api_keys().insert(key).await?);
    tx.commit(Act::new("api_key.create").on("api_key", record.id.uuid()).with(&record)).await?;
    Ok(shown_once(record, &secret))
}

fn shown_once(record: ApiKey, secret: &ApiKeySecret) -> (StatusCode, axum::Json<ApiKeyCreated>) {
    (StatusCode::CREATED, axum::Json(ApiKeyCreated { record, key: secret.expose().to_owned() }))
}

/// An API key
///
/// Without the key itself.
#[utoipa::path(get, path = "/api-keys/{id}", tag = "api-keys", operation_id = "getApiKey",
    security(("session" = ["api_keys:read"])), params(("id" = ApiKeyId, Path)), responses(
    (status = 200, description = "The key's record", body = ApiKey),
))]
async fn get(admin: Authorized<ReadApiKeys>, Path(id): Path<ApiKeyId>) -> Result<axum::Json<ApiKey>, Problem> {
    let record = admin.read().await?.api_keys().find(id).await?.ok_or_else(Problem::not_found)?;
    Ok(axum::Json(record.into()))
}

/// Change an API key's name, scopes or limit
///
/// It holds from the key's next request on.
#[utoipa::path(patch, path = "/api-keys/{id}", tag = "api-keys", operation_id = "updateApiKey",
    security(("session" = ["api_keys:write"])), params(("id" = ApiKeyId, Path)), responses(
    (status = 200, description = "Changed", body = ApiKey),
))]
async fn update(
    admin: InWorkspace<WriteApiKeys>,
    Path(id): Path<ApiKeyId>,
    Json(body): Json<ApiKeyUpdate>,
) -> Result<axum::Json<ApiKey>, Problem> {
    let name = body.name.map(|name| name.trim().to_owned());
    let scopes = body.scopes.as_deref().map(names);
    let mut tx = admin.write().await?;
    let old = ApiKey::from(tx.api_keys().find(id).await?.ok_or_else(Problem::not_found)?);
    admin.allow(old.workspace_id)?;
    let record = tx.api_keys().update(id, name, scopes, body.rate_limit_per_minute).await?;
    let record = ApiKey::from(record.ok_or_else(Problem::not_found)?);
    tx.commit(Act::new("api_key.update").on("api_key", id.uuid()).changed(&old, &record)).await?;
    Ok(axum::Json(record))
}

/// Revoke an API key
///
/// Its next request is refused. A revoked key stays in the list and cannot be restored.
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "api-keys", operation_id = "revokeApiKey",
    security(("session" = ["api_keys:write"])), params(("id" = ApiKeyId, Path)), responses(
    (status = 204, description = "Revoked"),
))]
async fn revoke(admin: InWorkspace<WriteApiKeys>, Path(id): Path<ApiKeyId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let found = tx.api_keys().find(id).await?.ok_or_else(Problem::not_found)?;
    admin.allow(found.workspace_id)?;
    let revoked = ApiKey::from(tx.api_keys().revoke(id).await?.ok_or_else(Problem::not_found)?);
    tx.commit(Act::new("api_key.revoke").on("api_key", id.uuid()).without(&revoked)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace an API key
///
/// Makes a key like this one; the old one works for `grace_seconds` more.
#[utoipa::path(post, path = "/api-keys/{id}/rotate", tag = "api-keys", operation_id = "rotateApiKey",
    security(("session" = ["api_keys:write"])), params(("id" = ApiKeyId, Path)), responses(
    (status = 201, description = "The new key", body = ApiKeyCreated),
    (status = 409, description = "The key is revoked or has expired"),
))]
async fn rotate(
    admin: InWorkspace<WriteApiKeys>,
    State(api): State<Api>,
    Path(id): Path<ApiKeyId>,
    Json(body): Json<Rotate>,
) -> Result<(StatusCode, axum::Json<ApiKeyCreated>), Problem> {
    let now = api.state.clock.now();
    let grace = Duration::from_secs(u64::from(body.grace_seconds.unwrap_or(0)));
    let mut tx = admin.write().await?;
    let old = tx.api_keys().find(id).await?.ok_or_else(Problem::not_found)?;
    admin.allow(old.workspace_id)?;
    if !old.is_active || old.revoked_at.is_some() || old.expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::new(Code::Conflict, "the key is revoked or has expired: create another"));
    }
    let secret = ApiKeySecret::generate(old.key_prefix.starts_with(crate::authn::KEY_PREFIXES[0]));
    let key = NewApiKey {
        id: ApiKeyId::new(),
        workspace_id: old.workspace_id,
        name: old.name,
        hash: secret.hash(),
        key_prefix: secret.display_prefix(),
        last_four: secret.last_four(),
        scopes: old.scopes,
        rate_limit_per_minute: old.rate_limit_per_minute,
        expires_at: old.expires_at,
        rotated_from: Some(old.id),
        created_by: Some(admin.session.user.id),
    };
    let record = ApiKey::from(tx.api_keys().insert(key).await?);
    if grace.is_zero() {
        tx.api_keys().revoke(id).await?;
    } else {
        tx.api_keys().expire_at(id, now.plus(grace)).await?;
    }
    tx.commit(Act::new("api_key.rotate").on("api_key", id.uuid()).with(&record)).await?;
    Ok(shown_once(record, &secret))
}
