//! What the document shows as an example of a body can be sent as it stands.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, Organization, PASSWORD};
use super::operations::{Kind, Schemas, furnished, operations};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    every_example_of_a_body_is_accepted
}

/// Operations whose body has something that only its reader has, and the answer that the example gets.
const NEEDING: &[(&str, u16, &str)] = &[
    ("acceptInvitation", 400, "the link in a mail"),
    ("changePassword", 422, "the temporary password that the caller was given"),
    ("confirmMfa", 409, "an enrolment under way"),
    ("deleteOrganization", 422, "the name of the caller's organization"),
    ("disableMfa", 422, "the password of the caller, who has not changed it to the example's"),
    ("escalateAuditLog", 409, "a request whose review is not open yet"),
    ("refresh", 401, "a refresh token"),
    ("regenerateRecoveryCodes", 422, "the password of the caller, who has not changed it to the example's"),
    ("restoreOrganization", 400, "the token in the answer to the deletion, or in its mail"),
    ("resetPassword", 400, "the link in a mail"),
    ("rollbackPolicy", 422, "a version that is not in force"),
    ("startRollout", 422, "a draft of the policy"),
    ("verifyMfa", 401, "the token of a half-done log-in"),
];
/// Operations that ask a server that the body names.
const ELSEWHERE: &[&str] = &["setSso"];

async fn every_example_of_a_body_is_accepted(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (operations, schemas) = operations(&client).await;
    let mut faults = Vec::new();
    let mut count = 0;
    for operation in operations.iter().filter(|one| !ELSEWHERE.contains(&one.id.as_str())) {
        let Some(schema) = &operation.body else { continue };
        count += 1;
        let named = operation.path.contains('{');
        let org = if named { furnished(&client).await } else { Organization::register(&client).await };
        let workspace = org.workspace().await["id"].clone();
        let (_, key) = org.api_key(&workspace).await;
        let mut body = shown(&schemas, schema);
        // Ids are of things that the reader has made.
        if body.get("workspace_id").is_some() {
            body["workspace_id"] = workspace;
        }
        match operation.id.as_str() {
            // Who logs in is who registers.
            "login" => drop(client.post("/auth/register", registered(&schemas, &operations)).await.ok(201)),
            "register" => continue,
            // An address belongs to one person, and the directory of an earlier turn has made this one.
            "replaceScimUser" => body["userName"] = json!("another@acme.com"),
            _ => {}
        }
        let caller = match operation.kind {
            Kind::Directory => {
                let token = org.owner.post("/orgs/me/scim-token", Value::Null).await.ok(201);
                client.with_token(token["token"].as_str().unwrap())
            }
            Kind::Open => client.clone(),
            _ => org.owner.clone(),
        };
        let path = match operation.kind {
            // Somebody whom the directory may change.
            Kind::Directory if operation.path.contains('{') => {
                let name = format!("{}@people.example", operation.id.to_lowercase());
                let made = caller.post("/scim/v2/Users", json!({"userName": name})).await.ok(201);
                operation.path.replace("{id}", made["id"].as_str().unwrap())
            }
            _ if operation.id == "updateUser" => {
                let (_, id) = org.person("viewer", json!([])).await;
                operation.path.replace("{id}", &id)
            }
            _ => operation.path_of(&org.owner).await,
        };
        let mut request = caller.request(operation.method.clone(), &path).header("if-match", "\"1\"").json(&body);
        if operation.kind == Kind::Application {
            request = request.header("x-api-key", &key);
        }
        let answer = caller.send(request).await;
        let status = answer.status.as_u16();
        let expected = NEEDING.iter().find(|(id, ..)| *id == operation.id);
        let as_expected = expected.map_or(answer.status.is_success(), |(_, refusal, _)| status == *refusal);
        if !as_expected {
            faults.push(format!("{}: {body} is answered with {status} {}", operation.name(), answer.body));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(count > 20);
}

fn registered(schemas: &Schemas, operations: &[super::operations::Operation]) -> Value {
    let register = operations.iter().find(|one| one.id == "register" && one.method == Method::POST).unwrap();
    let body = shown(schemas, register.body.as_ref().unwrap());
    assert_eq!(body["password"], PASSWORD);
    body
}

/// The example as Swagger UI makes it of a schema: every field, the first of several choices.
fn shown(schemas: &Schemas, schema: &Value) -> Value {
    let schema = schemas.resolve(schema);
    for keyword in ["example", "default"] {
        if let Some(value) = schema.get(keyword) {
            return value.clone();
        }
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    if let Some(first) = schema["oneOf"].get(0) {
        return shown(schemas, first);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"].get(0)?.as_str());
    match (kind.unwrap_or("object"), schema["format"].as_str()) {
        ("string", Some("uuid")) => json!("3fa85f64-5717-4562-b3fc-2c963f66afa6"),
        ("string", Some("date-time")) => json!("2026-11-25T00:00:00Z"),
        ("string", _) => json!("string"),
        ("integer" | "number", _) => schema.get("minimum").cloned().unwrap_or(json!(0)),
        ("boolean", _) => json!(true),
        ("array", _) => json!([shown(schemas, &schema["items"])]),
        _ => {
            let members = schemas.properties(schema);
            Value::Object(
                members.iter().map(|(name, part)| (name.clone(), shown(schemas, part))).collect::<Map<_, _>>(),
            )
        }
    }
}
