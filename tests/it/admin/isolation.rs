//! Another organization's objects are not there: every operation that takes an id, with another tenant's id.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization};
use super::operations::{Kind, Operation, again, furnished, operations, publish};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    no_operation_reaches_another_organization
    lists_hold_only_what_is_ours_and_filters_reach_no_further
    references_to_another_organizations_objects_are_dangling
}

async fn no_operation_reaches_another_organization(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (ours, theirs) = (furnished(&client).await, furnished(&client).await);
    let (operations, schemas) = operations(&client).await;
    let foreign = theirs.workspace().await["id"].as_str().unwrap().to_owned();
    let before = state(&operations, &theirs.owner).await;
    let mut rows = Vec::new();
    for operation in &operations {
        if matches!(operation.kind, Kind::Open | Kind::Application) {
            rows.push((operation.name(), vec!["-".to_owned()]));
            continue;
        }
        let path = operation.path_of(&theirs.owner).await;
        let mut body = operation.body.as_ref().map(|schema| schemas.example(schema, &foreign));
        // An id of theirs wherever the body takes one.
        let ids = operation.body.as_ref().map(|schema| schemas.ids(schema)).unwrap_or_default();
        for name in &ids {
            body.as_mut().unwrap()[name] = json!(foreign);
        }
        let caller = match operation.kind {
            Kind::Directory => {
                let token = again(&client, &ours).await.post("/orgs/me/scim-token", Value::Null).await.ok(201);
                client.with_token(token["token"].as_str().unwrap())
            }
            _ => again(&client, &ours).await,
        };
        let mut answer = operation.call(&caller, &path, body.as_ref()).await;
        let what = format!("{}: {} {:#}", operation.name(), answer.status, answer.body);
        match operation.kind {
            Kind::Object => assert_eq!(answer.status.as_u16(), 404, "{what}"),
            Kind::Directory if path.contains(&theirs.user_id) => assert_eq!(answer.status.as_u16(), 404, "{what}"),
            _ if !ids.is_empty() => assert_eq!(answer.status.as_u16(), 422, "{what}"),
            // 404, 409: what is ours is not there, or not in the state for this.
            _ => assert!(answer.status.is_success() || [404, 409, 422].contains(&answer.status.as_u16()), "{what}"),
        }
        // The path that was asked for, repeated.
        if let Some(members) = answer.body.as_object_mut() {
            members.remove("instance");
        }
        let text = answer.body.to_string();
        for secret in [&theirs.org_id, &theirs.user_id, &theirs.email] {
            assert!(!text.contains(secret), "{what}");
        }
        rows.push((operation.name(), vec![answer.status.as_u16().to_string()]));
    }
    assert_eq!(state(&operations, &theirs.owner).await, before, "nothing of theirs has changed");
    publish("isolation", &sentinel, &["foreign"], &rows);
}

/// All objects of `owner` that a path can name, without the times of their use.
async fn state(operations: &[Operation], owner: &Client) -> Vec<Value> {
    let mut state = Vec::new();
    for operation in operations.iter().filter(|one| one.kind == Kind::Object && one.method == Method::GET) {
        let mut object = owner.get(&operation.path_of(owner).await).await.ok(200);
        if let Some(members) = object.as_object_mut() {
            members.retain(|name, _| !name.starts_with("last_used"));
        }
        state.push(object);
    }
    assert!(state.len() >= 5);
    state
}

async fn lists_hold_only_what_is_ours_and_filters_reach_no_further(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (ours, theirs) = (Organization::register(&client).await, Organization::register(&client).await);
    let workspace = theirs.workspace().await;
    theirs.api_key(&workspace["id"]).await;
    theirs.owner.post("/policies", json!({"name": "theirs", "document": {}})).await.ok(201);

    for (path, count) in
        [("/orgs/me/users", 1), ("/workspaces", 1), ("/api-keys", 0), ("/policies", 0), ("/audit-logs", 0)]
    {
        let list = ours.owner.get(path).await.ok(200);
        assert_eq!(list["data"].as_array().unwrap().len(), count, "{path}: {list:#}");
        assert!(!list.to_string().contains(&theirs.org_id), "{path}");
    }
    let filter = format!("/api-keys?workspace_id={}", workspace["id"].as_str().unwrap());
    assert_eq!(ours.owner.get(&filter).await.ok(200)["data"], json!([]));
}

async fn references_to_another_organizations_objects_are_dangling(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (ours, theirs) = (Organization::register(&client).await, Organization::register(&client).await);
    let workspace = theirs.workspace().await;
    let policy = theirs.owner.post("/policies", json!({"name": "theirs", "document": {}})).await.ok(201);
    let key = json!({"workspace_id": workspace["id"], "name": "k"});
    ours.owner.post("/api-keys", key).await.problem(422, "validation_failed");
    let named = json!({"name": "w", "policy_id": policy["id"]});
    ours.owner.post("/workspaces", named).await.problem(422, "validation_failed");
}
