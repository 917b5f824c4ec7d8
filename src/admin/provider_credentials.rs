//! `/provider-credentials`: what a workspace presents to providers, in place of the operator's or its applications' own.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::extract::{
    Authorized, Filtered, InWorkspace, Input, Json, PageQuery, Path, Query, ReadProviderCredentials,
    WriteProviderCredentials, name_faults,
};
use super::problem::{Code, Fault, Problem};
use super::trail::Act;
use crate::authn::credential_place;
use crate::domain::{CredentialId, Secret, Timestamp, UserId, WorkspaceId};
use crate::store::{NewProviderCredential, ProviderCredentialRecord};
use crate::upstream::{Credential, Trial, try_credential};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove)).routes(routes!(test))
}

/// A credential as it can be shown: never the credential itself.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ProviderCredential {
    id: CredentialId,
    workspace_id: WorkspaceId,
    /// The configured name.
    #[schema(example = "openai")]
    upstream: String,
    #[schema(example = "Team account")]
    name: String,
    /// Empty for a short credential.
    #[schema(example = "x7Kp")]
    last_four: String,
    /// Names the key that it is encrypted with.
    #[schema(example = "9f1c2ab3")]
    key_id: String,
    created_by: Option<UserId>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<ProviderCredentialRecord> for ProviderCredential {
    fn from(record: ProviderCredentialRecord) -> Self {
        Self {
            id: record.id,
            workspace_id: record.workspace_id,
            upstream: record.upstream,
            name: record.name,
            last_four: record.last_four,
            key_id: record.key_id,
            created_by: record.created_by,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderCredentialCreate {
    workspace_id: WorkspaceId,
    /// The configured name of the upstream that takes it.
    #[schema(max_length = 100, example = "openai")]
    upstream: String,
    #[schema(min_length = 1, max_length = 100, example = "Team account")]
    name: String,
    /// Stored encrypted, and never shown again. For Bedrock an API key, or the key pair that requests are signed with:
    /// `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, with `:SESSION_TOKEN` after it for temporary credentials.
    #[schema(value_type = String, write_only, min_length = 8, max_length = 4096, example = "sk-proj-0123456789abcdef")]
    credential: Secret<String>,
}

impl Input for ProviderCredentialCreate {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = name_faults("/name", &self.name);
        if !self.credential.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            faults.push(Fault::at("/credential", "must be visible ASCII characters without spaces"));
        }
        faults
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ProviderCredentialQuery {
    /// Only those of this workspace.
    #[param(value_type = Option<uuid::Uuid>)]
    workspace_id: Option<WorkspaceId>,
}

/// Provider credentials
///
/// Newest first. The credentials themselves cannot be shown.
#[utoipa::path(get, path = "/provider-credentials", tag = "provider-credentials", operation_id = "listProviderCredentials",
    security(("session" = ["provider_credentials:read"])), params(ProviderCredentialQuery, PageQuery), responses(
    (status = 200, description = "A page of credentials", body = List<ProviderCredential>),
))]
async fn list(
    admin: Authorized<ReadProviderCredentials>,
    Query(Filtered { rows, page }): Query<Filtered<ProviderCredentialQuery, PageQuery>>,
) -> Result<List<ProviderCredential>, Problem> {
    let page = admin.read().await?.provider_credentials().list(rows.workspace_id, &page.into()).await?;
    Ok(List::new(page, ProviderCredential::from))
}

/// Give a workspace a provider credential
///
/// From the next request on the gateway presents it to the upstream, in place of the operator's or the application's own.
#[utoipa::path(post, path = "/provider-credentials", tag = "provider-credentials", operation_id = "createProviderCredential",
    security(("session" = ["provider_credentials:write"])), responses(
    (status = 201, description = "Stored", body = ProviderCredential),
    (status = 409, description = "The workspace has a credential for this upstream"),
))]
async fn create(
    admin: InWorkspace<WriteProviderCredentials>,
    State(api): State<Api>,
    Json(body): Json<ProviderCredentialCreate>,
) -> Result<(StatusCode, axum::Json<ProviderCredential>), Problem> {
    let Some(upstream) = api.state.config.upstreams.get(&body.upstream) else {
        return Err(Problem::validation(vec![Fault::at("/upstream", "is not the name of an upstream")]));
    };
    let text = body.credential.expose();
    if let Err(fault) = Credential::of(upstream, text) {
        return Err(Problem::validation(vec![Fault::at("/credential", fault)]));
    }
    admin.allow(body.workspace_id)?;
    let id = CredentialId::new();
    let place = credential_place(admin.session.scope.org_id(), body.workspace_id, &body.upstream, id);
    let new = NewProviderCredential {
        id,
        workspace_id: body.workspace_id,
        upstream: body.upstream,
        name: body.name.trim().to_owned(),
        // Four of a short credential would be too much of it.
        last_four: text.get(text.len().saturating_sub(4)..).filter(|_| text.len() >= 16).unwrap_or_default().to_owned(),
        ciphertext: api.state.sealer.seal(&place, text.as_bytes()).map_err(Problem::internal)?,
        key_id: api.state.sealer.key_id(),
        created_by: Some(admin.session.user.id),
    };
    let mut tx = admin.write().await?;
    let credential = ProviderCredential::from(tx.provider_credentials().insert(new).await?);
    let act = Act::new("provider_credential.create").on("provider_credential", id.uuid());
    tx.commit(act.with(&credential)).await?;
    Ok((StatusCode::CREATED, axum::Json(credential)))
}

/// Delete a provider credential
///
/// The gateway presents it no longer, from the next request on; what was stored of it is overwritten.
#[utoipa::path(delete, path = "/provider-credentials/{id}", tag = "provider-credentials",
    operation_id = "deleteProviderCredential",
    security(("session" = ["provider_credentials:write"])), params(("id" = CredentialId, Path)), responses(
    (status = 204, description = "Deleted"),
))]
async fn remove(
    admin: InWorkspace<WriteProviderCredentials>,
    Path(id): Path<CredentialId>,
) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let found = tx.provider_credentials().sealed(id).await?.ok_or_else(Problem::not_found)?;
    admin.allow(found.record.workspace_id)?;
    if !tx.provider_credentials().remove(id).await? {
        return Err(Problem::not_found());
    }
    let act = Act::new("provider_credential.delete").on("provider_credential", id.uuid());
    tx.commit(act.without(&ProviderCredential::from(found.record))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the provider said.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestResult {
    /// The provider takes the credential.
    Accepted,
    /// 401 or 403: it is wrong, or may not list what was asked for.
    Refused,
    /// Another answer, which says nothing about the credential.
    Unclear,
    /// No answer within ten seconds.
    Unreachable,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct ProviderCredentialTest {
    result: TestResult,
    /// The provider's status; null without an answer.
    #[schema(example = 200)]
    upstream_status: Option<u16>,
}

/// Test a provider credential
///
/// Asks the provider for a list that costs nothing. The answer's body is not read.
#[utoipa::path(post, path = "/provider-credentials/{id}/test", tag = "provider-credentials",
    operation_id = "testProviderCredential",
    security(("session" = ["provider_credentials:write"])), params(("id" = CredentialId, Path)), responses(
    (status = 200, description = "What the provider said", body = ProviderCredentialTest),
    (status = 409, description = "The upstream is no longer configured"),
))]
async fn test(
    admin: InWorkspace<WriteProviderCredentials>,
    State(api): State<Api>,
    Path(id): Path<CredentialId>,
) -> Result<axum::Json<ProviderCredentialTest>, Problem> {
    let found = admin.read().await?.provider_credentials().sealed(id).await?.ok_or_else(Problem::not_found)?;
    let record = found.record;
    admin.allow(record.workspace_id)?;
    let Some(upstream) = api.state.config.upstreams.get(&record.upstream) else {
        return Err(Problem::new(Code::Conflict, "the upstream is no longer configured"));
    };
    let place = credential_place(record.org_id, record.workspace_id, &record.upstream, record.id);
    let credential = api.state.sealer.open_text(&place, &found.ciphertext).map_err(Problem::internal)?;
    admin.record(Act::new("provider_credential.test").on("provider_credential", id.uuid())).await?;
    let now = api.state.clock.now().into();
    let trial = try_credential(upstream, &credential, now).await.map_err(Problem::internal)?;
    let (result, upstream_status) = match trial {
        Trial::Answered(status @ 200..=299) => (TestResult::Accepted, Some(status)),
        Trial::Answered(status @ (401 | 403)) => (TestResult::Refused, Some(status)),
        Trial::Answered(status) => (TestResult::Unclear, Some(status)),
        Trial::Unreachable => (TestResult::Unreachable, None),
    };
    Ok(axum::Json(ProviderCredentialTest { result, upstream_status }))
}
