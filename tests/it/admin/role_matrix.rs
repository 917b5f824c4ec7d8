//! Every operation, called by every role and by nobody: what the document says is needed is what is enforced.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::{Client, Organization};
use super::operations::{Kind, Operation, operations, publish};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    every_operation_asks_for_what_it_documents
}

const ROLES: [&str; 5] = ["owner", "admin", "member", "viewer", "auditor"];

/// Names nothing.
const NOWHERE: &str = "0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23";

/// A person of a role, who can log in again when what was tried has ended the session.
async fn session(client: &Client, email: &str) -> Client {
    let tokens = client.login(email, "correct horse battery staple").await.ok(200);
    client.with_token(tokens["access_token"].as_str().unwrap())
}

async fn every_operation_asks_for_what_it_documents(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (operations, schemas) = operations(&client).await;
    let org = Organization::register(&client).await;
    let table = org.owner.get("/roles").await.ok(200);
    let mut people = BTreeMap::new();
    for role in ROLES {
        let (person, _) = org.person(role, json!([])).await;
        let me = person.get("/auth/me").await.ok(200);
        let row = table["data"].as_array().unwrap().iter().find(|row| row["role"] == role).unwrap();
        assert_eq!(sorted(&me["effective_permissions"]), sorted(&row["permissions"]), "{role}");
        people.insert(role, (me["email"].as_str().unwrap().to_owned(), sorted(&row["permissions"])));
    }

    let mut rows = Vec::new();
    for operation in &operations {
        let path = placeholders(&operation.path);
        let body = operation.body.as_ref().map(|schema| schemas.example(schema, NOWHERE));
        let mut cells = Vec::new();
        for role in ROLES {
            let (email, permissions) = &people[role];
            let answer = operation.call(&session(&client, email).await, &path, body.as_ref()).await;
            let status = answer.status.as_u16();
            cells.push(status.to_string());
            let what = format!("{role} {}: {status} {:#}", operation.name(), answer.body);
            assert!(status < 500, "{what}");
            match (&operation.permission, operation.kind) {
                (Some(needed), _) if !permissions.contains(needed) => {
                    assert!(answer.header("www-authenticate").ends_with(&format!("scope=\"{needed}\"")), "{what}");
                    let problem = answer.problem(403, "permission_denied");
                    assert!(problem["detail"].as_str().unwrap().contains(needed.as_str()), "{what}");
                }
                (_, Kind::Application) => drop(answer.problem(401, "invalid_api_key")),
                (_, Kind::Directory) => assert_eq!(status, 401, "{what}"),
                (_, Kind::Open) => assert_ne!(answer.body["code"], "permission_denied", "{what}"),
                _ => {
                    assert_ne!(status, 401, "{what}");
                    assert_ne!(answer.body["code"], "permission_denied", "{what}");
                }
            }
        }
        cells.push(nobody(operation, &client, &path, body.as_ref()).await);
        rows.push((operation.name(), cells));
    }
    publish("roles", &sentinel, &["owner", "admin", "member", "viewer", "auditor", "nobody"], &rows);
}

/// Without a token, a session's operation names the permission that its handler asks for: the document's.
async fn nobody(operation: &Operation, client: &Client, path: &str, body: Option<&Value>) -> String {
    let answer = operation.call(client, path, body).await;
    let status = answer.status.to_string().split(' ').next().unwrap().to_owned();
    match operation.kind {
        Kind::Open => assert_ne!(answer.body["code"], "unauthenticated", "{}", operation.name()),
        Kind::Application => drop(answer.problem(401, "invalid_api_key")),
        Kind::Directory => assert_eq!(answer.status.as_u16(), 401, "{}", operation.name()),
        Kind::Object | Kind::Own => {
            let challenge = match &operation.permission {
                Some(permission) => format!("Bearer realm=\"sentinel\", scope=\"{permission}\""),
                None => "Bearer realm=\"sentinel\"".to_owned(),
            };
            assert_eq!(answer.header("www-authenticate"), challenge, "{}", operation.name());
            answer.problem(401, "unauthenticated");
        }
    }
    status
}

fn placeholders(path: &str) -> String {
    let mut parts = path.split('/').map(|part| if part.starts_with('{') { NOWHERE } else { part });
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |path, part| path + "/" + part)
}

fn sorted(names: &Value) -> Vec<String> {
    let mut names: Vec<_> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}
