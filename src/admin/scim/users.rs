//! `/scim/v2/Users`.

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Api;
use super::super::auth::email_faults;
use super::super::extract::name_faults;
use super::super::problem::Code;
use super::super::trail::{Act, WriteTx};
use super::super::users::room_for_one;
use super::patch::{Attributes, ScimPatch, boolean, joined};
use super::token::base_url;
use super::{Directory, Scim, ScimError, ScimErrorBody, ScimJson};
use crate::domain::{Timestamp, UserId};
use crate::store::{DirectoryChange, DirectoryFilter, DirectoryRecord, ProvisionedUser, TenantTx, UserRecord};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, replace, patch, remove))
}

pub(super) const SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const LIST_SCHEMA: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
/// Resources on a page, at most.
const MOST: u32 = 200;

#[derive(Serialize, utoipa::ToSchema)]
pub struct ScimName {
    formatted: String,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct ScimEmail {
    value: String,
    primary: bool,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScimMeta {
    resource_type: &'static str,
    created: Timestamp,
    last_modified: Timestamp,
    location: String,
}

#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScimUser {
    #[schema(example = json!(["urn:ietf:params:scim:schemas:core:2.0:User"]))]
    schemas: [&'static str; 1],
    id: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// The address.
    #[schema(example = "jane@acme.com")]
    user_name: String,
    display_name: String,
    name: ScimName,
    emails: [ScimEmail; 1],
    active: bool,
    meta: ScimMeta,
}

impl ScimUser {
    fn of(record: DirectoryRecord, base: &str) -> Self {
        let user = record.user;
        Self {
            schemas: [SCHEMA],
            id: user.id,
            external_id: record.external_id,
            user_name: user.email.clone(),
            display_name: user.full_name.clone(),
            name: ScimName { formatted: user.full_name },
            emails: [ScimEmail { value: user.email, primary: true, kind: "work" }],
            active: user.is_active,
            meta: ScimMeta {
                resource_type: "User",
                created: user.created_at,
                last_modified: user.updated_at,
                location: format!("{base}/Users/{}", user.id),
            },
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct ScimUsers {
    schemas: [&'static str; 1],
    #[serde(rename = "totalResults")]
    total_results: u64,
    #[serde(rename = "startIndex")]
    start_index: u32,
    #[serde(rename = "itemsPerPage")]
    items_per_page: usize,
    #[serde(rename = "Resources")]
    resources: Vec<ScimUser>,
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ScimNameInput {
    formatted: Option<String>,
    given_name: Option<String>,
    family_name: Option<String>,
}

/// A user as a directory sends one; other attributes are left out.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScimUserInput {
    /// The address.
    #[schema(max_length = 254, example = "jane@acme.com")]
    user_name: String,
    external_id: Option<String>,
    display_name: Option<String>,
    name: Option<ScimNameInput>,
    #[serde(default)]
    #[schema(value_type = Option<bool>, default = true)]
    active: Value,
}

impl ScimUserInput {
    fn attributes(self) -> Result<Attributes, ScimError> {
        let active = if self.active.is_null() { true } else { boolean(&self.active)? };
        let name = self.name.unwrap_or_default();
        let parts = joined(&name.given_name.unwrap_or_default(), &name.family_name.unwrap_or_default());
        let names = [name.formatted, self.display_name, Some(parts)];
        let full_name = names.into_iter().flatten().find(|name| !name.trim().is_empty());
        let full_name = full_name.unwrap_or_else(|| self.user_name.clone());
        checked(Attributes { user_name: self.user_name, full_name, external_id: self.external_id, active })
    }
}

fn checked(person: Attributes) -> Result<Attributes, ScimError> {
    if person.user_name.len() > 254 || !email_faults("", &person.user_name).is_empty() {
        return Err(ScimError::invalid("invalidValue", "`userName` must be an e-mail address"));
    }
    if person.full_name.chars().count() > 200 || !name_faults("", &person.full_name).is_empty() {
        return Err(ScimError::invalid("invalidValue", "the name must have 1 to 200 characters, none of control"));
    }
    if person.external_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 200) {
        return Err(ScimError::invalid("invalidValue", "`externalId` must have 1 to 200 bytes"));
    }
    Ok(person)
}

/// `attribute eq "value"`.
fn read_filter(filter: &str) -> Result<DirectoryFilter, ScimError> {
    let refused =
        || ScimError::invalid("invalidFilter", "only `userName eq \"…\"` and `externalId eq \"…\"` are supported");
    let mut words = filter.trim().splitn(3, ' ');
    let (attribute, operator, value) =
        (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Ok(Value::String(value)) = serde_json::from_str(value.trim()) else { return Err(refused()) };
    if !operator.eq_ignore_ascii_case("eq") {
        return Err(refused());
    }
    match attribute.to_ascii_lowercase().as_str() {
        "username" | "emails.value" => Ok(DirectoryFilter { email: Some(value), ..DirectoryFilter::default() }),
        "externalid" => Ok(DirectoryFilter { external_id: Some(value), ..DirectoryFilter::default() }),
        _ => Err(refused()),
    }
}

/// The person with the id in the path, whom a directory may change: owners it may not.
async fn below_owners(tx: &mut TenantTx, id: &str) -> Result<DirectoryRecord, ScimError> {
    let record = find(tx, id).await?;
    if record.user.role == "owner" {
        return Err(ScimError::forbidden("owners are managed in Sentinel"));
    }
    Ok(record)
}

/// What an event keeps of a person.
fn event_of(user: &UserRecord) -> serde_json::Value {
    serde_json::json!({"email": user.email, "full_name": user.full_name, "is_active": user.is_active})
}

async fn find(tx: &mut TenantTx, id: &str) -> Result<DirectoryRecord, ScimError> {
    let id: UserId = id.parse().map_err(|_| ScimError::not_found())?;
    tx.users().directory_entry(id).await?.ok_or_else(ScimError::not_found)
}

async fn apply(mut tx: WriteTx, id: UserId, person: Attributes) -> Result<DirectoryRecord, ScimError> {
    let person = checked(person)?;
    let change = DirectoryChange {
        email: person.user_name,
        full_name: person.full_name.trim().to_owned(),
        external_id: person.external_id,
        is_active: person.active,
    };
    let record = tx.users().apply_directory(id, change).await?.ok_or_else(ScimError::not_found)?;
    tx.commit(Act::new("user.update").on("user", id.uuid()).with(&event_of(&record.user))).await?;
    Ok(record)
}

/// Find users
///
/// Oldest first. Parameters that Sentinel does not know are left out of account, as directories expect.
#[utoipa::path(get, path = "/scim/v2/Users", tag = "scim", operation_id = "listScimUsers", security(("scim" = [])), params(
    ("filter" = Option<String>, Query, description = "`userName eq \"…\"` or `externalId eq \"…\"`"),
    ("startIndex" = Option<u32>, Query, description = "From 1"),
    ("count" = Option<u32>, Query, description = "At most 200 (100)"),
), responses(
    (status = 200, description = "A page of users", body = ScimUsers, content_type = "application/scim+json"),
    (status = 400, description = "`invalidFilter` or `invalidValue`", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn list(
    directory: Directory,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Scim<ScimUsers>, ScimError> {
    let mut filter = DirectoryFilter::default();
    let (mut start, mut count) = (1, 100);
    let number = |name: &str, text: &str| {
        let read = text.parse::<i64>().ok().map(|number| u32::try_from(number.max(0)).unwrap_or(u32::MAX));
        read.ok_or_else(|| ScimError::invalid("invalidValue", format!("`{name}` must be a number")))
    };
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "filter" => filter = read_filter(&value)?,
            // RFC 7644: less than one is one.
            "startIndex" => start = number("startIndex", &value)?.max(1),
            "count" => count = number("count", &value)?.min(MOST),
            _ => {}
        }
    }
    let (records, total_results) = directory.read().await?.users().directory(&filter, start - 1, count).await?;
    let base = base_url(&api);
    let resources: Vec<_> = records.into_iter().map(|record| ScimUser::of(record, &base)).collect();
    let page = ScimUsers {
        schemas: [LIST_SCHEMA],
        total_results,
        start_index: start,
        items_per_page: resources.len(),
        resources,
    };
    Ok(Scim(StatusCode::OK, page))
}

/// Create a user
///
/// With the sign-on provider's default role, or `member`; without a password.
#[utoipa::path(post, path = "/scim/v2/Users", tag = "scim", operation_id = "createScimUser", security(("scim" = [])),
    request_body(content = ScimUserInput, content_type = "application/scim+json"), responses(
    (status = 201, description = "Created", body = ScimUser, content_type = "application/scim+json"),
    (status = 400, description = "`invalidSyntax` or `invalidValue`", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 403, description = "The plan has no room", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 409, description = "`uniqueness`", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 413, description = "Too large", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 415, description = "Another media type", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn create(
    directory: Directory,
    State(api): State<Api>,
    ScimJson(body): ScimJson<ScimUserInput>,
) -> Result<Response, ScimError> {
    let person = body.attributes()?;
    let mut tx = directory.write().await?;
    match room_for_one(&mut tx).await {
        Err(problem) if problem.code() == Code::LimitReached => {
            return Err(ScimError::forbidden("the organization has as many people as its plan allows"));
        }
        room => room?,
    }
    let role =
        tx.identity().connection().await?.map_or_else(|| "member".to_owned(), |connection| connection.default_role);
    let user = ProvisionedUser {
        id: UserId::new(),
        email: person.user_name,
        full_name: person.full_name.trim().to_owned(),
        role,
        is_active: person.active,
        external_id: person.external_id,
    };
    let record = tx.users().provision(user).await?;
    let act = Act::new("user.provision").on("user", record.user.id.uuid()).with(&event_of(&record.user));
    tx.commit(act).await?;
    let user = ScimUser::of(record, &base_url(&api));
    let location = HeaderValue::from_str(&user.meta.location).ok();
    let mut response = Scim(StatusCode::CREATED, user).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// One user
///
/// By id.
#[utoipa::path(get, path = "/scim/v2/Users/{id}", tag = "scim", operation_id = "getScimUser", security(("scim" = [])),
    params(("id" = UserId, Path)), responses(
    (status = 200, description = "The user", body = ScimUser, content_type = "application/scim+json"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 404, description = "There is no such user", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn get(
    directory: Directory,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Scim<ScimUser>, ScimError> {
    let mut tx = directory.read().await?;
    let record = find(&mut tx, &id).await?;
    Ok(Scim(StatusCode::OK, ScimUser::of(record, &base_url(&api))))
}

/// Replace a user
///
/// `active: false` ends the person's sessions and revokes the keys that they made. Owners cannot be changed.
#[utoipa::path(put, path = "/scim/v2/Users/{id}", tag = "scim", operation_id = "replaceScimUser", security(("scim" = [])),
    params(("id" = UserId, Path)),
    request_body(content = ScimUserInput, content_type = "application/scim+json"), responses(
    (status = 200, description = "Replaced", body = ScimUser, content_type = "application/scim+json"),
    (status = 400, description = "`invalidSyntax` or `invalidValue`", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 403, description = "An owner", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 404, description = "There is no such user", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 409, description = "`uniqueness`", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 413, description = "Too large", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 415, description = "Another media type", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn replace(
    directory: Directory,
    State(api): State<Api>,
    Path(id): Path<String>,
    ScimJson(body): ScimJson<ScimUserInput>,
) -> Result<Scim<ScimUser>, ScimError> {
    let mut tx = directory.write().await?;
    let record = below_owners(&mut tx, &id).await?;
    let record = apply(tx, record.user.id, body.attributes()?).await?;
    Ok(Scim(StatusCode::OK, ScimUser::of(record, &base_url(&api))))
}

/// Change a user
///
/// `active: false` ends the person's sessions and revokes the keys that they made. Owners cannot be changed.
#[utoipa::path(patch, path = "/scim/v2/Users/{id}", tag = "scim", operation_id = "patchScimUser", security(("scim" = [])),
    params(("id" = UserId, Path)),
    request_body(content = ScimPatch, content_type = "application/scim+json"), responses(
    (status = 200, description = "Changed", body = ScimUser, content_type = "application/scim+json"),
    (status = 400, description = "`invalidSyntax`, `invalidValue` or `noTarget`", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 403, description = "An owner", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 404, description = "There is no such user", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 409, description = "`uniqueness`", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 413, description = "Too large", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 415, description = "Another media type", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn patch(
    directory: Directory,
    State(api): State<Api>,
    Path(id): Path<String>,
    ScimJson(body): ScimJson<ScimPatch>,
) -> Result<Scim<ScimUser>, ScimError> {
    let mut tx = directory.write().await?;
    let record = below_owners(&mut tx, &id).await?;
    let mut person = Attributes {
        user_name: record.user.email,
        full_name: record.user.full_name,
        external_id: record.external_id,
        active: record.user.is_active,
    };
    body.apply(&mut person)?;
    let record = apply(tx, record.user.id, person).await?;
    Ok(Scim(StatusCode::OK, ScimUser::of(record, &base_url(&api))))
}

/// Remove a user
///
/// Ends the person's sessions and revokes the keys that they made. Owners cannot be removed.
#[utoipa::path(delete, path = "/scim/v2/Users/{id}", tag = "scim", operation_id = "removeScimUser", security(("scim" = [])),
    params(("id" = UserId, Path)), responses(
    (status = 204, description = "Removed"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 403, description = "An owner", body = ScimErrorBody, content_type = "application/scim+json"),
    (status = 404, description = "There is no such user", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn remove(directory: Directory, Path(id): Path<String>) -> Result<StatusCode, ScimError> {
    let mut tx = directory.write().await?;
    let record = below_owners(&mut tx, &id).await?;
    if !tx.users().remove(record.user.id).await? {
        return Err(ScimError::not_found());
    }
    tx.commit(Act::new("user.remove").on("user", record.user.id.uuid())).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_an_attribute_eq_and_a_quoted_value() {
        let email = |filter: &str| read_filter(filter).unwrap().email;
        assert_eq!(email("userName eq \"jane@acme.com\"").as_deref(), Some("jane@acme.com"));
        assert_eq!(email("USERNAME Eq \"a b\\\"c\"").as_deref(), Some("a b\"c"));
        assert_eq!(read_filter("externalId eq \"7\"").unwrap().external_id.as_deref(), Some("7"));
        for refused in
            ["", "userName", "userName eq jane", "userName co \"j\"", "title eq \"x\"", "userName eq \"a\" or id pr"]
        {
            assert!(read_filter(refused).is_err(), "{refused}");
        }
    }
}
