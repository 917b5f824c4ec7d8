//! `/policy-drafts`: versions of policies that are not in force yet.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::{List, Tagged, Versioned};
use super::extract::{Authorized, IfMatch, Json, Path, Query, ReadPolicies, WritePolicies};
use super::policies::{Policy, PolicyInput};
use super::policy_versions::PolicyDiff;
use super::problem::Problem;
use super::trail::Act;
use crate::domain::{PolicyId, Timestamp, UserId};
use crate::policy::PolicyDocument;
use crate::store::{DraftOf, PageRequest, PolicyRecord};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(create_of))
        .routes(routes!(get, replace, remove))
        .routes(routes!(diff))
        .routes(routes!(approve))
        .routes(routes!(publish))
}

/// A version of a policy that is not in force.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PolicyDraft {
    /// The draft; the `version_id` of the version that it becomes.
    id: PolicyId,
    /// The policy that it is a draft of; null for a new one.
    policy_id: Option<PolicyId>,
    /// The version that it stands on; null for a new policy.
    parent_policy_id: Option<PolicyId>,
    #[schema(example = "support desk")]
    name: String,
    description: Option<String>,
    #[schema(value_type = PolicyDocument)]
    document: serde_json::Value,
    is_default: bool,
    /// Why.
    comment: Option<String>,
    /// Counts its edits, from 1; also its `ETag`.
    revision: i64,
    /// Made of reviewers' feedback.
    is_proposal: bool,
    created_by: Option<UserId>,
    /// Who edited it last, if anybody did.
    updated_by: Option<UserId>,
    updated_at: Timestamp,
    /// Who else looked at this revision, if anybody did.
    approved_by: Option<UserId>,
    approved_at: Option<Timestamp>,
}

impl From<PolicyRecord> for PolicyDraft {
    fn from(record: PolicyRecord) -> Self {
        Self {
            id: record.id,
            policy_id: (record.root_id != record.id).then_some(record.root_id),
            parent_policy_id: record.parent_policy_id,
            name: record.name,
            description: record.description,
            document: record.document,
            is_default: record.is_default,
            comment: record.comment,
            revision: record.revision,
            is_proposal: record.is_proposal,
            created_by: record.created_by,
            updated_by: record.updated_by,
            updated_at: record.created_at,
            approved_by: record.approved_by,
            approved_at: record.approved_at,
        }
    }
}

impl Versioned for PolicyDraft {
    fn version(&self) -> i64 {
        self.revision
    }
}

/// Which drafts.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DraftQuery {
    /// Of one policy.
    #[param(value_type = Option<uuid::Uuid>)]
    policy_id: Option<PolicyId>,
    /// How many at most, 1 to 200 (50).
    #[param(minimum = 1, maximum = 200, example = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Drafts of policies
///
/// The newest first.
#[utoipa::path(get, path = "/policy-drafts", tag = "policies", operation_id = "listPolicyDrafts",
    security(("session" = ["policies:read"])), params(DraftQuery), responses(
    (status = 200, description = "A page of drafts", body = List<PolicyDraft>),
))]
async fn list(admin: Authorized<ReadPolicies>, Query(query): Query<DraftQuery>) -> Result<List<PolicyDraft>, Problem> {
    let page = PageRequest { limit: query.limit.unwrap_or(0), cursor: query.cursor };
    let page = admin.read().await?.policy_drafts().list(query.policy_id, &page).await?;
    Ok(List::new(page, PolicyDraft::from))
}

/// Draft a new policy
///
/// Its document is compiled like that of a policy, but it is not in force before it is published.
#[utoipa::path(post, path = "/policy-drafts", tag = "policies", operation_id = "createPolicyDraft",
    security(("session" = ["policies:write"])), responses(
    (status = 201, description = "Created", body = PolicyDraft),
))]
async fn create(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Json(body): Json<PolicyInput>,
) -> Result<Tagged<PolicyDraft>, Problem> {
    insert(&admin, &api, DraftOf::NewPolicy, body).await
}

/// Draft a new version of a policy
#[utoipa::path(post, path = "/policies/{id}/drafts", tag = "policies", operation_id = "draftPolicyVersion",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 201, description = "Created", body = PolicyDraft),
))]
async fn create_of(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Path(id): Path<PolicyId>,
    Json(body): Json<PolicyInput>,
) -> Result<Tagged<PolicyDraft>, Problem> {
    admin.read().await?.policies().find(id).await?.ok_or_else(Problem::not_found)?;
    insert(&admin, &api, DraftOf::Policy(id), body).await
}

async fn insert(
    admin: &Authorized<WritePolicies>,
    api: &Api,
    of: DraftOf,
    body: PolicyInput,
) -> Result<Tagged<PolicyDraft>, Problem> {
    let policy = body.compiled(api, PolicyId::new(), admin.session.user.id)?;
    let mut tx = admin.write().await?;
    let draft = PolicyDraft::from(tx.policy_drafts().insert(of, policy).await?);
    tx.commit(Act::new("policy_draft.create").on("policy_draft", draft.id.uuid()).with(&draft)).await?;
    Ok(Tagged(StatusCode::CREATED, draft))
}

/// A draft of a policy
#[utoipa::path(get, path = "/policy-drafts/{id}", tag = "policies", operation_id = "getPolicyDraft",
    security(("session" = ["policies:read"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "The draft", body = PolicyDraft),
))]
async fn get(admin: Authorized<ReadPolicies>, Path(id): Path<PolicyId>) -> Result<Tagged<PolicyDraft>, Problem> {
    let draft = admin.read().await?.policy_drafts().find(id).await?.ok_or_else(Problem::not_found)?;
    Ok(Tagged(StatusCode::OK, draft.into()))
}

/// Edit a draft
///
/// It then stands on the version that is in force now, and needs a new approval.
#[utoipa::path(put, path = "/policy-drafts/{id}", tag = "policies", operation_id = "replacePolicyDraft",
    security(("session" = ["policies:write"])),
    params(("id" = PolicyId, Path), ("If-Match" = String, Header, pattern = r#"^"[0-9]{1,18}"$"#, description = "The `ETag` of the draft")), responses(
    (status = 200, description = "The draft as it is now", body = PolicyDraft),
))]
async fn replace(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Path(id): Path<PolicyId>,
    if_match: IfMatch,
    Json(body): Json<PolicyInput>,
) -> Result<Tagged<PolicyDraft>, Problem> {
    let policy = body.compiled(&api, id, admin.session.user.id)?;
    let mut tx = admin.write().await?;
    let old = PolicyDraft::from(tx.policy_drafts().find(id).await?.ok_or_else(Problem::not_found)?);
    let edited = tx.policy_drafts().edit(id, if_match.version(), policy).await?.ok_or_else(Problem::not_found)?;
    let draft = PolicyDraft::from(edited);
    tx.commit(Act::new("policy_draft.update").on("policy_draft", id.uuid()).changed(&old, &draft)).await?;
    Ok(Tagged(StatusCode::OK, draft))
}

/// Throw a draft away
#[utoipa::path(delete, path = "/policy-drafts/{id}", tag = "policies", operation_id = "deletePolicyDraft",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 204, description = "Deleted"),
))]
async fn remove(admin: Authorized<WritePolicies>, Path(id): Path<PolicyId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let old = PolicyDraft::from(tx.policy_drafts().discard(id).await?.ok_or_else(Problem::not_found)?);
    tx.commit(Act::new("policy_draft.delete").on("policy_draft", id.uuid()).without(&old)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a draft would change
///
/// Against the version in force now.
#[utoipa::path(get, path = "/policy-drafts/{id}/diff", tag = "policies", operation_id = "diffPolicyDraft",
    security(("session" = ["policies:read"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "The differences", body = PolicyDiff),
))]
async fn diff(admin: Authorized<ReadPolicies>, Path(id): Path<PolicyId>) -> Result<axum::Json<PolicyDiff>, Problem> {
    let mut tx = admin.read().await?;
    let draft = tx.policy_drafts().find(id).await?.ok_or_else(Problem::not_found)?;
    let current = tx.policies().find(draft.root_id).await?;
    Ok(axum::Json(PolicyDiff::between(current.as_ref(), &draft)))
}

/// Approve a draft
///
/// By somebody who neither wrote it nor edited it last. Where the organization's settings have
/// `require_policy_approval: true`, nothing is published without.
#[utoipa::path(post, path = "/policy-drafts/{id}/approve", tag = "policies", operation_id = "approvePolicyDraft",
    security(("session" = ["policies:write"])),
    params(("id" = PolicyId, Path), ("If-Match" = String, Header, pattern = r#"^"[0-9]{1,18}"$"#, description = "The `ETag` of the draft that was looked at")), responses(
    (status = 200, description = "The draft, approved", body = PolicyDraft),
    (status = 409, description = "It is the caller's own"),
))]
async fn approve(
    admin: Authorized<WritePolicies>,
    Path(id): Path<PolicyId>,
    if_match: IfMatch,
) -> Result<Tagged<PolicyDraft>, Problem> {
    let mut tx = admin.write().await?;
    let approved = tx.policy_drafts().approve(id, if_match.version(), admin.session.user.id).await?;
    let draft = PolicyDraft::from(approved.ok_or_else(Problem::not_found)?);
    tx.commit(Act::new("policy_draft.approve").on("policy_draft", id.uuid()).with(&draft)).await?;
    Ok(Tagged(StatusCode::OK, draft))
}

/// Publish a draft
///
/// It becomes the newest version, in force on the next request. Refused when another version than the one that it stands on is
/// in force: what that one changed would be lost.
#[utoipa::path(post, path = "/policy-drafts/{id}/publish", tag = "policies", operation_id = "publishPolicyDraft",
    security(("session" = ["policies:write"])),
    params(("id" = PolicyId, Path), ("If-Match" = String, Header, pattern = r#"^"[0-9]{1,18}"$"#, description = "The `ETag` of the draft")), responses(
    (status = 200, description = "The version in force", body = Policy),
    (status = 409, description = "The approval is missing, another version came into force, or the name is in use"),
))]
async fn publish(
    admin: Authorized<WritePolicies>,
    Path(id): Path<PolicyId>,
    if_match: IfMatch,
) -> Result<Tagged<Policy>, Problem> {
    let mut tx = admin.write().await?;
    let draft = tx.policy_drafts().find(id).await?.ok_or_else(Problem::not_found)?;
    let before = tx.policies().find(draft.root_id).await?.map(Policy::from);
    let published = tx.policy_drafts().publish(id, if_match.version()).await?.ok_or_else(Problem::not_found)?;
    let record = Policy::from(published);
    let act = Act::new("policy_draft.publish").on("policy", record.id().uuid());
    let act = match before {
        Some(before) => act.changed(&before, &record),
        None => act.with(&record),
    };
    tx.commit(act).await?;
    Ok(Tagged(StatusCode::OK, record))
}
