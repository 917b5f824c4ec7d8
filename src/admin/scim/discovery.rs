//! What a directory asks before it begins: what is supported, which resources there are, which attributes they have.

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Api;
use super::{Directory, Scim, ScimErrorBody};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(config)).routes(routes!(resource_types)).routes(routes!(schemas))
}

fn list(resources: Value) -> Scim<Value> {
    Scim(
        StatusCode::OK,
        json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": 1,
            "startIndex": 1,
            "itemsPerPage": 1,
            "Resources": [resources],
        }),
    )
}

/// What this SCIM service supports
///
/// Filters and patches; no bulk, no sorting, no passwords.
#[utoipa::path(get, path = "/scim/v2/ServiceProviderConfig", tag = "scim", operation_id = "getScimConfig",
    security(("scim" = [])), responses(
    (status = 200, description = "The configuration", body = Object, content_type = "application/scim+json"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn config(_: Directory) -> Scim<Value> {
    Scim(
        StatusCode::OK,
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
            "patch": {"supported": true},
            "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
            "filter": {"supported": true, "maxResults": 200},
            "changePassword": {"supported": false},
            "sort": {"supported": false},
            "etag": {"supported": false},
            "authenticationSchemes": [{
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "The token of `POST /orgs/me/scim-token`",
                "primary": true,
            }],
            "meta": {"resourceType": "ServiceProviderConfig"},
        }),
    )
}

/// Which resources there are
///
/// Users.
#[utoipa::path(get, path = "/scim/v2/ResourceTypes", tag = "scim", operation_id = "listScimResourceTypes",
    security(("scim" = [])), responses(
    (status = 200, description = "The types", body = Object, content_type = "application/scim+json"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn resource_types(_: Directory) -> Scim<Value> {
    list(json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
        "id": "User",
        "name": "User",
        "endpoint": "/Users",
        "schema": super::users::SCHEMA,
        "meta": {"resourceType": "ResourceType"},
    }))
}

/// Which attributes a user has
///
/// Others are accepted and left out.
#[utoipa::path(get, path = "/scim/v2/Schemas", tag = "scim", operation_id = "listScimSchemas",
    security(("scim" = [])), responses(
    (status = 200, description = "The schemas", body = Object, content_type = "application/scim+json"),
    (status = 401, description = "The token is not valid", body = ScimErrorBody, content_type = "application/scim+json"),
))]
async fn schemas(_: Directory) -> Scim<Value> {
    let text = |name: &str, required: bool, uniqueness: &str| {
        json!({"name": name, "type": "string", "multiValued": false, "required": required, "caseExact": false,
            "mutability": "readWrite", "returned": "default", "uniqueness": uniqueness})
    };
    let complex = |name: &str, many: bool, parts: Value| {
        json!({"name": name, "type": "complex", "multiValued": many, "required": false, "mutability": "readWrite",
            "returned": "default", "subAttributes": parts})
    };
    let flag = |name: &str| {
        json!({"name": name, "type": "boolean", "multiValued": false, "required": false, "mutability": "readWrite",
            "returned": "default"})
    };
    list(json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
        "id": super::users::SCHEMA,
        "name": "User",
        "description": "A person of the organization",
        "attributes": [
            text("userName", true, "global"),
            text("displayName", false, "none"),
            complex("name", false, json!([
                text("formatted", false, "none"), text("givenName", false, "none"), text("familyName", false, "none"),
            ])),
            complex("emails", true, json!([text("value", false, "none"), flag("primary")])),
            flag("active"),
        ],
        "meta": {"resourceType": "Schema"},
    }))
}
