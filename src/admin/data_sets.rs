//! `/data-sets`: values that policies look for, known here by salted fingerprints only.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::extract::{Authorized, Input, Json, PageQuery, Path, Query, ReadPolicies, WritePolicies};
use super::problem::{Fault, Problem};
use super::trail::Act;
use crate::domain::{DataSetId, Timestamp};
use crate::policy::{DataSetDraft, is_data_set_name};
use crate::store::{DataSetRecord, StoreError};

/// Of an organization.
const MAX_SETS: usize = 20;
/// In one request.
const MAX_VALUES: usize = 50_000;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, remove)).routes(routes!(add))
}

/// A set of registered values. The values themselves are not kept.
#[derive(Serialize, utoipa::ToSchema)]
pub struct DataSet {
    id: DataSetId,
    /// What policies call it, under `exact_data`.
    #[schema(example = "customers")]
    name: String,
    /// How many different values it has.
    values: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<DataSetRecord> for DataSet {
    fn from(record: DataSetRecord) -> Self {
        let DataSetRecord { id, name, value_count, created_at, updated_at } = record;
        Self { id, name, values: value_count, created_at, updated_at }
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "customers", "values": ["CUST-000001", "CUST-000002"]}))]
pub struct DataSetCreate {
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z][a-z0-9_]{0,63}$", example = "customers")]
    name: String,
    /// Compared without case and separators; each of 4 to 127 bytes and up to 16 words.
    #[serde(default)]
    #[schema(max_items = 50_000)]
    values: Vec<String>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"values": ["CUST-000003"]}))]
pub struct DataSetValues {
    /// Compared without case and separators; each of 4 to 127 bytes and up to 16 words.
    #[schema(min_items = 1, max_items = 50_000)]
    values: Vec<String>,
}

impl Input for DataSetCreate {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = value_faults(&self.values);
        if !is_data_set_name(&self.name) {
            faults.push(Fault::at("/name", "takes 1 to 64 lower-case letters, digits and `_`, a letter first"));
        }
        faults
    }
}

impl Input for DataSetValues {
    fn faults(&self) -> Vec<Fault> {
        if self.values.is_empty() { vec![Fault::at("/values", "is empty")] } else { value_faults(&self.values) }
    }
}

fn value_faults(values: &[String]) -> Vec<Fault> {
    if values.len() > MAX_VALUES {
        return vec![Fault::at("/values", format!("takes at most {MAX_VALUES} values; add the others to the set"))];
    }
    let mut draft = DataSetDraft::default();
    let unfit = values.iter().enumerate().filter(|(_, value)| !draft.add(value));
    let fault = |(index, _)| {
        let detail = "must have 4 to 127 bytes without its separators, in up to 16 words";
        Fault::at(format!("/values/{index}"), detail)
    };
    unfit.map(fault).take(100).collect()
}

/// Adds the values, as long as they are not too many.
fn extended(mut draft: DataSetDraft, values: &[String]) -> Result<DataSetDraft, Problem> {
    for value in values {
        draft.add(value);
    }
    if draft.is_too_large() {
        return Err(Problem::validation(vec![Fault::at("/values", "makes the set larger than a million values")]));
    }
    Ok(draft)
}

/// Sets of registered values
///
/// Newest first.
#[utoipa::path(get, path = "/data-sets", tag = "policies", operation_id = "listDataSets",
    security(("session" = ["policies:read"])), params(PageQuery), responses(
    (status = 200, description = "A page of sets", body = List<DataSet>),
))]
async fn list(admin: Authorized<ReadPolicies>, Query(query): Query<PageQuery>) -> Result<List<DataSet>, Problem> {
    let page = admin.read().await?.data_sets().page(&query.into()).await?;
    Ok(List::new(page, DataSet::from))
}

/// Register values
///
/// Makes a set, which policies name under `exact_data`. Only salted fingerprints of the values are kept: they can be found in
/// texts, but not be read again. Larger sets are made in several steps, up to a million values.
#[utoipa::path(post, path = "/data-sets", tag = "policies", operation_id = "createDataSet",
    security(("session" = ["policies:write"])), responses(
    (status = 201, description = "Created", body = DataSet),
    (status = 409, description = "The name is in use"),
))]
async fn create(
    admin: Authorized<WritePolicies>,
    Json(body): Json<DataSetCreate>,
) -> Result<(StatusCode, axum::Json<DataSet>), Problem> {
    let draft = extended(DataSetDraft::default(), &body.values)?;
    let mut tx = admin.write().await?;
    tx.serialize().await?;
    let sets = tx.data_sets().list().await?;
    if sets.iter().any(|set| set.name == body.name) {
        return Err(StoreError::Conflict("name of a data set").into());
    }
    if sets.len() >= MAX_SETS {
        let fault = Fault::at("/name", format!("is one too many: an organization has at most {MAX_SETS} sets"));
        return Err(Problem::validation(vec![fault]));
    }
    let record = DataSet::from(tx.data_sets().replace(&body.name, &draft.to_stored(), draft.len()).await?);
    tx.commit(Act::new("data_set.create").on("data_set", record.id.uuid()).with(&record)).await?;
    Ok((StatusCode::CREATED, axum::Json(record)))
}

/// A set of registered values
#[utoipa::path(get, path = "/data-sets/{id}", tag = "policies", operation_id = "getDataSet",
    security(("session" = ["policies:read"])), params(("id" = DataSetId, Path)), responses(
    (status = 200, description = "The set, without its values", body = DataSet),
))]
async fn get(admin: Authorized<ReadPolicies>, Path(id): Path<DataSetId>) -> Result<axum::Json<DataSet>, Problem> {
    let record = admin.read().await?.data_sets().find(id).await?.ok_or_else(Problem::not_found)?;
    Ok(axum::Json(record.into()))
}

/// Add values to a set
///
/// Looked for on every node within a second. What is there already is not added again.
#[utoipa::path(post, path = "/data-sets/{id}/values", tag = "policies", operation_id = "addDataSetValues",
    security(("session" = ["policies:write"])), params(("id" = DataSetId, Path)), responses(
    (status = 200, description = "The set as it is now", body = DataSet),
))]
async fn add(
    admin: Authorized<WritePolicies>,
    Path(id): Path<DataSetId>,
    Json(body): Json<DataSetValues>,
) -> Result<axum::Json<DataSet>, Problem> {
    let mut tx = admin.write().await?;
    tx.serialize().await?;
    let old = tx.data_sets().find(id).await?.ok_or_else(Problem::not_found)?;
    let stored = tx.data_sets().load(&old.name).await?.ok_or_else(Problem::not_found)?;
    let draft = extended(DataSetDraft::of(&stored), &body.values)?;
    let record = DataSet::from(tx.data_sets().replace(&old.name, &draft.to_stored(), draft.len()).await?);
    tx.commit(Act::new("data_set.add").on("data_set", id.uuid()).changed(&DataSet::from(old), &record)).await?;
    Ok(axum::Json(record))
}

/// Delete a set
///
/// Policies that name it find nothing by it from then on.
#[utoipa::path(delete, path = "/data-sets/{id}", tag = "policies", operation_id = "deleteDataSet",
    security(("session" = ["policies:write"])), params(("id" = DataSetId, Path)), responses(
    (status = 204, description = "Deleted"),
))]
async fn remove(admin: Authorized<WritePolicies>, Path(id): Path<DataSetId>) -> Result<StatusCode, Problem> {
    let mut tx = admin.write().await?;
    let old = tx.data_sets().find(id).await?.ok_or_else(Problem::not_found)?;
    if !tx.data_sets().remove(&old.name).await? {
        return Err(Problem::not_found());
    }
    tx.commit(Act::new("data_set.delete").on("data_set", id.uuid()).without(&DataSet::from(old))).await?;
    Ok(StatusCode::NO_CONTENT)
}
