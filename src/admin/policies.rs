//! `/policies`: an organization's own rules.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::{List, Tagged, Versioned};
use super::extract::{
    Authorized, IfMatch, Input, Json, ListQuery, PageQuery, Path, Query, ReadPolicies, WritePolicies, name_faults,
};
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::domain::{PolicyId, Timestamp, UserId};
use crate::policy::{self, PolicyDocument, PolicyLabel};
use crate::store::{NewPolicy, PolicyColumn, PolicyRecord};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, replace, remove)).routes(routes!(versions))
}

/// One version of a policy.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Policy {
    /// The policy, whatever its version.
    id: PolicyId,
    /// This version; versions never change.
    version_id: PolicyId,
    /// 1, 2, 3 …
    version: i64,
    /// The version that this one replaced.
    parent_policy_id: Option<PolicyId>,
    #[schema(example = "support desk")]
    name: String,
    description: Option<String>,
    #[schema(value_type = PolicyDocument)]
    document: serde_json::Value,
    /// In force where a workspace names none.
    is_default: bool,
    /// True for the version in force.
    is_active: bool,
    /// Percent of the traffic that this version judges while it is a candidate.
    canary_percentage: u8,
    /// Why it was changed.
    comment: Option<String>,
    created_by: Option<UserId>,
    created_at: Timestamp,
    /// A draft: no version yet, and the one kind that can be edited. Only exports show both.
    is_draft: bool,
    /// Who else looked at it before it came into force, if anybody did.
    approved_by: Option<UserId>,
    approved_at: Option<Timestamp>,
    /// When a roll-back took it out of force.
    rolled_back_at: Option<Timestamp>,
    /// Requests that reviewers found wrongly acted upon under this version.
    false_positives: i64,
    /// Of the requests under this version that reviewers judged, 0 to 1; null while they judged none.
    false_positive_rate: Option<f64>,
}

impl From<PolicyRecord> for Policy {
    fn from(record: PolicyRecord) -> Self {
        Self {
            id: record.root_id,
            version_id: record.id,
            version: record.version,
            parent_policy_id: record.parent_policy_id,
            name: record.name,
            description: record.description,
            document: record.document,
            is_default: record.is_default,
            is_active: record.is_active,
            canary_percentage: record.canary_percentage,
            comment: record.comment,
            created_by: record.created_by,
            created_at: record.created_at,
            is_draft: record.is_draft,
            approved_by: record.approved_by,
            approved_at: record.approved_at,
            rolled_back_at: record.rolled_back_at,
            false_positives: record.false_positives,
            false_positive_rate: record.false_positive_rate,
        }
    }
}

impl Policy {
    pub(super) const fn id(&self) -> PolicyId {
        self.id
    }
}

impl Versioned for Policy {
    fn version(&self) -> i64 {
        self.version
    }
}

/// A policy as it is to be.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "support desk", "description": "What the support desk may send",
    "document": {"extends": "balanced", "rules": {"pii": {"action": "redact"}, "CREDIT_CARD": {"action": "block"}}},
    "is_default": false, "comment": "block cards"}))]
pub struct PolicyInput {
    /// At most 64 letters, digits, spaces, `_`, `-` and `.`: it is shown in the header `x-sentinel-policy`.
    #[schema(min_length = 1, max_length = 64, example = "support desk")]
    name: String,
    #[schema(max_length = 1000)]
    description: Option<String>,
    #[schema(value_type = PolicyDocument)]
    document: serde_json::Value,
    /// Make it the organization's default.
    #[serde(default)]
    is_default: bool,
    /// Why it is changed.
    #[schema(max_length = 1000, example = "block personal data as well")]
    comment: Option<String>,
}

impl Input for PolicyInput {
    /// Judged by the policy compiler.
    const OPAQUE: &'static [&'static str] = &["/document"];

    fn faults(&self) -> Vec<Fault> {
        policy_name_faults(&self.name)
    }
}

pub(super) fn policy_name_faults(name: &str) -> Vec<Fault> {
    let faults = name_faults("/name", name);
    if faults.is_empty() && !policy::is_policy_name(name.trim()) {
        return vec![Fault::at("/name", "takes letters, digits, spaces, `_`, `-` and `.`")];
    }
    faults
}

impl PolicyInput {
    /// The policy to be stored, once the compiler has accepted it; its every fault otherwise.
    pub(super) fn compiled(self, api: &Api, id: PolicyId, author: UserId) -> Result<NewPolicy, Problem> {
        let label = PolicyLabel { id: Some(id), name: self.name.trim().into(), version: 0 };
        policy::compile_text(&self.document.to_string(), label, &api.state.engine)?;
        Ok(NewPolicy {
            id,
            name: self.name.trim().to_owned(),
            description: self.description,
            document: self.document,
            is_default: self.is_default,
            comment: self.comment,
            created_by: Some(author),
        })
    }
}

type PolicyList = ListQuery<PolicyColumn>;

/// Policies
///
/// The version in force of each, the newest policy first when nothing else is asked for; `updated_at` is the time at which
/// that version was made.
#[utoipa::path(get, path = "/policies", tag = "policies", operation_id = "listPolicies",
    security(("session" = ["policies:read"])), params(PolicyList), responses(
    (status = 200, description = "A page of policies", body = List<Policy>),
))]
async fn list(admin: Authorized<ReadPolicies>, Query(query): Query<PolicyList>) -> Result<List<Policy>, Problem> {
    let page = admin.read().await?.policies().list_by(query.sort(), &query.page()).await?;
    Ok(List::new(page, Policy::from))
}

/// Create a policy
///
/// The document is compiled first: every fault comes back at once, with its JSON pointer. A default policy is in force on
/// the next request wherever a workspace names none.
#[utoipa::path(post, path = "/policies", tag = "policies", operation_id = "createPolicy",
    security(("session" = ["policies:write"])), responses(
    (status = 201, description = "Created, version 1", body = Policy),
    (status = 409, description = "The name is in use, or the organization wants a draft and an approval"),
))]
async fn create(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Json(body): Json<PolicyInput>,
) -> Result<Tagged<Policy>, Problem> {
    let policy = body.compiled(&api, PolicyId::new(), admin.session.user.id)?;
    let mut tx = admin.write().await?;
    let record = Policy::from(tx.policies().insert(policy).await?);
    tx.commit(Act::new("policy.create").on("policy", record.id.uuid()).with(&record)).await?;
    Ok(Tagged(StatusCode::CREATED, record))
}

/// A policy
///
/// The version in force; its `ETag` is what `If-Match` takes.
#[utoipa::path(get, path = "/policies/{id}", tag = "policies", operation_id = "getPolicy",
    security(("session" = ["policies:read"])), params(("id" = PolicyId, Path)), responses(
    (status = 200, description = "The policy", body = Policy),
))]
async fn get(admin: Authorized<ReadPolicies>, Path(id): Path<PolicyId>) -> Result<Tagged<Policy>, Problem> {
    let record = admin.read().await?.policies().find(id).await?.ok_or_else(Problem::not_found)?;
    Ok(Tagged(StatusCode::OK, record.into()))
}

/// Replace a policy
///
/// Makes a new version, in force on the next request; the old one stays readable.
#[utoipa::path(put, path = "/policies/{id}", tag = "policies", operation_id = "replacePolicy",
    security(("session" = ["policies:write"])),
    params(("id" = PolicyId, Path), ("If-Match" = String, Header, pattern = r#"^"[0-9]{1,18}"$"#, description = "The `ETag` of the version to be replaced")), responses(
    (status = 200, description = "The new version", body = Policy),
    (status = 409, description = "The name is in use, or the organization wants a draft and an approval"),
))]
async fn replace(
    admin: Authorized<WritePolicies>,
    State(api): State<Api>,
    Path(id): Path<PolicyId>,
    if_match: IfMatch,
    Json(body): Json<PolicyInput>,
) -> Result<Tagged<Policy>, Problem> {
    let policy = body.compiled(&api, PolicyId::new(), admin.session.user.id)?;
    let mut tx = admin.write().await?;
    let old = Policy::from(tx.policies().find(id).await?.ok_or_else(Problem::not_found)?);
    let record = tx.policies().replace(id, if_match.version(), policy).await?.ok_or_else(Problem::not_found)?;
    let record = Policy::from(record);
    tx.commit(Act::new("policy.update").on("policy", id.uuid()).changed(&old, &record)).await?;
    Ok(Tagged(StatusCode::OK, record))
}

/// Delete a policy
///
/// With all its versions; refused while a workspace names it.
#[utoipa::path(delete, path = "/policies/{id}", tag = "policies", operation_id = "deletePolicy",
    security(("session" = ["policies:write"])), params(("id" = PolicyId, Path)), responses(
    (status = 204, description = "Deleted"),
    (status = 409, description = "A workspace uses it, or it is the default where changes need an approval"),
))]
async fn remove(admin: Authorized<WritePolicies>, Path(id): Path<PolicyId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let old = Policy::from(tx.policies().find(id).await?.ok_or_else(Problem::not_found)?);
    if !tx.policies().remove(id).await? {
        return Err(Problem::not_found());
    }
    tx.commit(Act::new("policy.delete").on("policy", id.uuid()).without(&old)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All versions of a policy
///
/// Newest first, without drafts.
#[utoipa::path(get, path = "/policies/{id}/versions", tag = "policies", operation_id = "listPolicyVersions",
    security(("session" = ["policies:read"])), params(("id" = PolicyId, Path), PageQuery), responses(
    (status = 200, description = "A page of versions", body = List<Policy>),
))]
async fn versions(
    admin: Authorized<ReadPolicies>,
    Path(id): Path<PolicyId>,
    Query(query): Query<PageQuery>,
) -> Result<List<Policy>, Problem> {
    let mut tx = admin.read().await?;
    tx.policies().find(id).await?.ok_or_else(Problem::not_found)?;
    let page = tx.policies().versions(id, &query.into()).await?;
    Ok(List::new(page, Policy::from))
}
