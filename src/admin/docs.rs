//! The OpenAPI document, the page that shows it, and the explanation of error codes.
//!
//! Handlers describe themselves; what is the same for all of them (who may call, which errors can come) is added here from
//! what they say: their security, their parameters, their body.

use std::sync::OnceLock;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ArrayItems, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::Api;
use super::events::EventMessage;
use super::extract::Path;
use super::problem::{Code, Fault, Problem, ProblemDetails};

/// What the page may load: itself, the styles that it writes into its elements, and its own small pictures.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

const TAGS: [(&str, &str); 11] = [
    ("auth", "Accounts and sessions of people."),
    ("organization", "The caller's own organization."),
    ("users", "Its people, their roles and permissions."),
    ("workspaces", "Its projects and environments."),
    ("api-keys", "What applications present to the gateway."),
    ("provider-credentials", "What the gateway presents to providers."),
    ("policies", "What is blocked, redacted and flagged."),
    ("audit", "What happened."),
    ("process", "Scanning a text without sending it anywhere."),
    ("scim", "People provisioned by the organization's directory (SCIM 2.0)."),
    ("operations", "Health, metrics and this documentation."),
];

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(openapi)).routes(routes!(problem))
}

/// `/docs`: Swagger UI, served from the binary.
pub(super) fn page() -> Router<Api> {
    let config = Config::from("/openapi.json").validator_url("none").persist_authorization(false);
    let page: Router<Api> = SwaggerUi::new("/docs").config(config).into();
    page.layer(map_response(async |mut response: Response| {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
        response
    }))
}

/// The document before any handler has added itself.
pub(super) fn skeleton() -> OpenApi {
    let session = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("`access_token` of a log-in; the names beside it are the permissions that are needed"))
        .build();
    let key = ApiKeyValue::with_description(
        "X-API-Key",
        "An application's key; `X-Sentinel-Key` and `Authorization: Bearer` work as well",
    );
    let scim = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A directory's token, of `POST /orgs/me/scim-token`"))
        .build();
    let components = ComponentsBuilder::new()
        .security_scheme("scim", SecurityScheme::Http(scim))
        .security_scheme("session", SecurityScheme::Http(session))
        .security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(key)))
        .schema_from::<ProblemDetails>()
        .schema_from::<Fault>()
        .schema_from::<EventMessage>()
        .build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Sentinel")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "Administration of a Sentinel installation. Lists are paged by `limit` and `cursor`; errors are \
                     `application/problem+json` (RFC 9457); times are RFC 3339 in UTC; objects with an `ETag` are changed \
                     with `If-Match`.\n\n\
                     First steps: `POST /auth/register`, and its `access_token` under Authorize as `session`. Then \
                     `POST /orgs/me/users/invite`, `POST /workspaces`, `POST /api-keys` with the workspace's `id`, and \
                     `POST /policies`; the key, as `apiKey`, scans a text with `POST /process`. The examples can be sent \
                     as they stand.\n\n\
                     Lists name their next page in `Link` too. A POST of a session may carry `Idempotency-Key`: sent \
                     again within 24 hours with the same body it is answered as before (`Idempotency-Replayed: true`) \
                     and not done again; answers that are not 2xx are not kept. `RateLimit-Limit`, \
                     `RateLimit-Remaining` and `RateLimit-Reset` (seconds) tell what is left of the tightest limit of \
                     the address, session or key.\n\n\
                     Fields, operations and values are added at any time; clients ignore what they do not know. What is \
                     to go is answered with `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and a `Link` to its successor \
                     for at least six months, and marked `deprecated` here.",
                ))
                .build(),
        )
        .servers(Some(["/", "/api/v1"].map(|url| ServerBuilder::new().url(url).build())))
        .tags(Some(TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build())))
        .components(Some(components))
        .build()
}

/// The OpenAPI 3.1 document, as committed in `admin/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    let mut document = super::resources().into_openapi();
    for item in document.paths.paths.values_mut() {
        if let Some(post) = &mut item.post
            && security(post).0
        {
            post.parameters.get_or_insert_default().push(idempotency_key().into());
        }
        operations(item).for_each(complete);
    }
    if let Some(components) = &mut document.components {
        components.schemas.iter_mut().for_each(refer_to_items);
    }
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn written_here<T>(part: &RefOr<T>) -> Option<&T> {
    match part {
        RefOr::T(part) => Some(part),
        RefOr::Ref(_) => None,
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// `utoipa` writes the items of a generic `List_Thing` in place; clients generated from the document want `Thing`.
fn refer_to_items((name, schema): (&String, &mut RefOr<Schema>)) {
    if let Some(item) = name.strip_prefix("List_")
        && let RefOr::T(Schema::Object(list)) = schema
        && let Some(RefOr::T(Schema::Array(data))) = list.properties.get_mut("data")
    {
        data.items = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(item).into()));
    }
}

/// The header that every POST of a session takes.
fn idempotency_key() -> Parameter {
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Makes sending the request again harmless for 24 hours; 1 to 255 characters of your own"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255))))
        .build()
}

/// Adds the permission to the description, and every error that the operation's parts can cause.
fn complete(operation: &mut Operation) {
    operation.parameters.iter_mut().flatten().for_each(take_null_away);
    operation.parameters.iter_mut().flatten().for_each(tell_example);
    let (session, permission) = security(operation);
    if let Some(permission) = permission {
        let needed = ExtensionsBuilder::new().add("x-permission", permission.as_str()).build();
        operation.extensions.get_or_insert_default().merge(needed);
        let text = operation.description.take().unwrap_or_default();
        operation.description = Some(format!("{text}\n\nRequires the permission `{permission}`.").trim().to_owned());
    }
    let parameters: Vec<&Parameter> = operation.parameters.iter().flatten().filter_map(written_here).collect();
    let any = |place: &ParameterIn| parameters.iter().any(|parameter| parameter.parameter_in == *place);
    let if_match = parameters.iter().find(|parameter| parameter.name == "If-Match");
    let has_body = operation.request_body.is_some();
    let limited = !matches!(operation.operation_id.as_deref(), Some("getHealth" | "getMetrics"));
    let has_key = operation.security.is_some() && !session;

    let idempotent = parameters.iter().any(|parameter| parameter.name == "Idempotency-Key");

    let mut statuses = vec![(500, "Sentinel failed; the log has the cause")];
    let mut add = |when: bool, status: u16, text: &'static str| {
        if when {
            statuses.push((status, text));
        }
    };
    add(any(&ParameterIn::Query) || has_body, 400, "The query or the body cannot be read");
    add(session || has_key, 401, "No valid credential");
    add(session, 403, "The permission is missing, or a temporary password has to be changed first");
    add(has_key, 403, "The key lacks the scope");
    add(any(&ParameterIn::Path), 404, "There is no such object in this organization");
    add(idempotent, 400, "A header cannot be read");
    add(idempotent, 409, "The first request with this `Idempotency-Key` is under way");
    add(if_match.is_some(), 412, "The object has changed since");
    add(has_body, 413, "The body is too large");
    add(has_body, 415, "The body is not `application/json`");
    add(has_body, 422, "The body does not keep the contract; every fault is listed");
    add(idempotent && !has_body, 422, "The `Idempotency-Key` was used for another request");
    add(idempotent && !has_body, 413, "The body is too large");
    add(limited, 429, "Too many requests; see `Retry-After`");
    add(if_match.is_some_and(|tag| tag.required == Required::True), 428, "`If-Match` is missing");
    add(session || has_body, 503, "The database or the guard is away; see `Retry-After`");

    let responses = &mut operation.responses.responses;
    for (status, text) in statuses {
        let missing = || RefOr::T(ResponseBuilder::new().description(text).build());
        responses.entry(status.to_string()).or_insert_with(missing);
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && response.content.is_empty()
            && (status.starts_with('4') || status.starts_with('5'))
        {
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            response.content.insert("application/problem+json".into(), RefOr::T(problem));
        }
    }
}

/// `utoipa` writes an optional parameter as one that may be null; what is sent in a header or a query is a text.
fn take_null_away(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(parameter) = parameter
        && let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && let SchemaType::Array(types) = &mut object.schema_type
    {
        types.retain(|kind| *kind != Type::Null);
        if let [only] = types.as_slice() {
            object.schema_type = SchemaType::Type(only.clone());
        }
    }
}

/// The page fills in a parameter's example, and so would filter by it: that of a text that can be left out is only told.
fn tell_example(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(parameter) = parameter
        && parameter.required != Required::True
        && let Some(example) =
            serde_json::to_value(&*parameter).unwrap_or_default().get("example").and_then(|example| example.as_str())
    {
        let text = parameter.description.take().unwrap_or_default();
        let text = format!("{}, such as `{example}`.", text.trim_end_matches('.'));
        let untold = std::mem::replace(parameter, Parameter::new(""));
        *parameter = ParameterBuilder::from(untold).example(None).description(Some(text)).build();
    }
}

/// Whether a session is needed, and which permission.
fn security(operation: &Operation) -> (bool, Option<String>) {
    let needed = serde_json::to_value(&operation.security).unwrap_or_default();
    let session = needed.get(0).and_then(|needed| needed.get("session"));
    (session.is_some(), session.and_then(|names| names.get(0)?.as_str()).map(str::to_owned))
}

/// This document
///
/// OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", operation_id = "getOpenapi", responses(
    (status = 200, description = "The document", body = Object),
))]
async fn openapi() -> impl IntoResponse {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.get_or_init(openapi_json).as_str())
}

/// What an error code means.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Explanation {
    #[schema(example = "precondition_required")]
    code: &'static str,
    #[schema(example = 428)]
    status: u16,
    title: &'static str,
    meaning: &'static str,
}

/// What an error code means
///
/// The `type` of every error leads here.
#[utoipa::path(get, path = "/problems/{code}", tag = "operations", operation_id = "explainProblem",
    params(("code" = String, Path, example = "precondition_required")), responses(
    (status = 200, description = "The explanation", body = Explanation),
))]
async fn problem(Path(code): Path<String>) -> Result<axum::Json<Explanation>, Problem> {
    let code = Code::ALL.iter().find(|known| known.as_str() == code).ok_or_else(Problem::not_found)?;
    Ok(axum::Json(Explanation {
        code: code.as_str(),
        status: code.status(),
        title: code.title(),
        meaning: code.meaning().trim(),
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::authn::Permission;

    fn document() -> Value {
        serde_json::from_str(&openapi_json()).unwrap()
    }

    fn each_operation(document: &Value, mut check: impl FnMut(&str, &Value)) {
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                check(&format!("{} {path}", method.to_uppercase()), operation);
            }
        }
    }

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("admin/openapi.json");
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == openapi_json(),
            "the API changed: run `sentinel openapi > admin/openapi.json` and commit it"
        );
    }

    #[test]
    fn every_operation_has_a_summary_an_id_a_known_permission_and_its_errors() {
        let permissions: Vec<_> = Permission::ALL.iter().map(|p| p.as_str()).collect();
        let mut ids = Vec::new();
        each_operation(&document(), |name, operation| {
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}: summary");
            assert!(operation["responses"]["500"].is_object(), "{name}: errors");
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            for needed in operation["security"].as_array().into_iter().flatten() {
                assert!(operation["responses"]["401"].is_object(), "{name}: 401");
                for permission in needed["session"].as_array().into_iter().flatten() {
                    assert!(permissions.contains(&permission.as_str().unwrap()), "{name}: {permission}");
                    assert!(operation["description"].as_str().unwrap().contains("Requires the permission"), "{name}");
                    assert_eq!(&operation["x-permission"], permission, "{name}");
                }
            }
            if operation["requestBody"].is_object() {
                assert!(operation["responses"]["422"].is_object(), "{name}: 422");
            }
            if name.contains('{') {
                assert!(operation["responses"]["404"].is_object(), "{name}: 404");
            }
        });
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "operation ids are unique");
    }

    #[test]
    fn only_these_operations_are_open_to_everyone() {
        let mut open = Vec::new();
        each_operation(&document(), |name, operation| {
            if operation["security"].as_array().is_none_or(Vec::is_empty) {
                open.push(name.to_owned());
            }
        });
        open.sort_unstable();
        assert_eq!(
            open,
            [
                "GET /auth/sso/callback",
                "GET /auth/sso/start",
                "GET /events",
                "GET /health",
                "GET /metrics",
                "GET /openapi.json",
                "GET /problems/{code}",
                "POST /auth/invitations/accept",
                "POST /auth/login",
                "POST /auth/mfa/verify",
                "POST /auth/password/forgot",
                "POST /auth/password/reset",
                "POST /auth/refresh",
                "POST /auth/register",
                "POST /orgs/restore",
            ]
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                        let pointer = target.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{target}");
                    }
                    members.values().for_each(|member| walk(member, document));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, document)),
                _ => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }
}
