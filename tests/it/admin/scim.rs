//! People provisioned by a directory.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Answer, Client, Organization};
use crate::support::{Sentinel, TestDatabase, chat_body, on_both_engines, reply};

on_both_engines! {
    a_directory_creates_finds_changes_and_removes_people
    a_leaver_loses_sessions_and_keys_within_a_second
    the_token_is_an_admins_and_works_until_it_is_replaced
    refusals_have_scims_own_form
    what_is_supported_is_told
}

struct Directory(Client);

impl Directory {
    async fn of(org: &Organization, client: &Client) -> Self {
        let created = org.owner.post("/orgs/me/scim-token", json!({})).await.ok(201);
        Self(client.with_token(created["token"].as_str().unwrap()))
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = self.0.request(method, &format!("/scim/v2{path}"));
        let request = request.header("content-type", "application/scim+json").body(body.to_string());
        self.0.send(request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.0.get(&format!("/scim/v2{path}")).await
    }
}

/// The body, when this is a SCIM error.
#[track_caller]
fn refused(answer: Answer, status: u16, kind: Option<&str>) -> Value {
    assert_eq!(answer.status.as_u16(), status, "{:#}", answer.body);
    assert_eq!(answer.header("content-type"), "application/scim+json");
    assert_eq!(answer.body["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]));
    assert_eq!(answer.body["status"], status.to_string());
    assert_eq!(answer.body["scimType"].as_str(), kind, "{:#}", answer.body);
    answer.body
}

fn jane() -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "Jane@dir.example",
        "externalId": "00u1",
        "name": {"givenName": "Jane", "familyName": "Smith"},
        "emails": [{"value": "jane@dir.example", "type": "work", "primary": true}],
        "title": "unknown to Sentinel",
        "active": true,
    })
}

async fn a_directory_creates_finds_changes_and_removes_people(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let directory = Directory::of(&org, &client).await;
    let created = directory.send(Method::POST, "/Users", jane()).await;
    assert_eq!(created.header("content-type"), "application/scim+json");
    let location = created.header("location").to_owned();
    let created = created.ok(201);
    assert_eq!(created["meta"]["location"], location);
    assert_eq!((&created["displayName"], &created["active"]), (&json!("Jane Smith"), &json!(true)));
    let path = format!("/Users/{}", created["id"].as_str().unwrap());
    refused(directory.send(Method::POST, "/Users", jane()).await, 409, Some("uniqueness"));

    let found = directory.get("/Users?filter=userName%20eq%20%22jane%40dir.example%22&attributes=id").await.ok(200);
    assert_eq!((&found["totalResults"], &found["Resources"][0]["id"]), (&json!(1), &created["id"]));
    let none = directory.get("/Users?filter=userName+eq+%22joe%40dir.example%22").await.ok(200);
    assert_eq!((&none["totalResults"], &none["Resources"]), (&json!(0), &json!([])));
    let known = directory.get("/Users?filter=externalId+eq+%2200u1%22").await.ok(200);
    assert_eq!(known["totalResults"], 1);
    let page = directory.get("/Users?startIndex=2&count=1").await.ok(200);
    assert_eq!((&page["totalResults"], &page["itemsPerPage"], &page["startIndex"]), (&json!(2), &json!(1), &json!(2)));

    let replaced = json!({"userName": "joan@dir.example", "displayName": "Joan Doe"});
    let replaced = directory.send(Method::PUT, &path, replaced).await.ok(200);
    assert_eq!((&replaced["userName"], &replaced["displayName"]), (&json!("joan@dir.example"), &json!("Joan Doe")));
    assert!(replaced.get("externalId").is_none() && replaced["active"] == true);
    let rename = json!({"Operations": [{"op": "Replace", "path": "name.familyName", "value": "Dough"}]});
    assert_eq!(directory.send(Method::PATCH, &path, rename).await.ok(200)["displayName"], "Joan Dough");
    for (operation, active) in [
        (json!({"op": "Replace", "path": "active", "value": "False"}), false),
        (json!({"op": "Replace", "path": "active", "value": "True"}), true),
        (json!({"op": "replace", "value": {"active": false}}), false),
        (json!({"op": "replace", "value": {"active": true}}), true),
    ] {
        let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [operation]});
        assert_eq!(directory.send(Method::PATCH, &path, body).await.ok(200)["active"], active);
        assert_eq!(directory.get(&path).await.ok(200)["active"], active);
    }
    directory.0.delete(&format!("/scim/v2{path}")).await.ok(204);
    refused(directory.get(&path).await, 404, None);
    refused(directory.0.delete(&format!("/scim/v2{path}")).await, 404, None);
    directory.send(Method::POST, "/Users", jane()).await.ok(201);
}

/// A person with a session and a key that the gateway has let through.
async fn at_work(sentinel: &Sentinel, org: &Organization) -> (Client, String, String) {
    let (person, id) = org.person("member", json!(["api_keys:write"])).await;
    let workspace = org.workspace().await["id"].clone();
    let key = person.post("/api-keys", json!({"workspace_id": workspace, "name": "mine"})).await.ok(201);
    let key = key["key"].as_str().unwrap().to_owned();
    assert_eq!(through_gateway(sentinel, &key).await, 200);
    (person, id, key)
}

async fn through_gateway(sentinel: &Sentinel, key: &str) -> u16 {
    let request = sentinel.client.post(format!("{}/v1/chat/completions", sentinel.gateway_url()));
    let request = request.header("x-api-key", key).header("content-type", "application/json");
    reply(request.body(chat_body("hello").to_string())).await.status
}

async fn a_leaver_loses_sessions_and_keys_within_a_second(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let directory = Directory::of(&org, &client).await;
    let (_, owners_key) = org.api_key(&org.workspace().await["id"]).await;
    let deactivate = json!({"Operations": [{"op": "Replace", "path": "active", "value": "False"}]});
    for leaves_by in ["scim patch", "scim delete", "patch", "delete"] {
        let (person, id, key) = at_work(&sentinel, &org).await;
        let path = format!("/scim/v2/Users/{id}");
        let begun = Instant::now();
        match leaves_by {
            "scim patch" => directory.send(Method::PATCH, &format!("/Users/{id}"), deactivate.clone()).await.ok(200),
            "scim delete" => directory.0.delete(&path).await.ok(204),
            "patch" => org.owner.patch(&format!("/orgs/me/users/{id}"), json!({"is_active": false})).await.ok(200),
            _ => org.owner.delete(&format!("/orgs/me/users/{id}")).await.ok(204),
        };
        person.get("/auth/me").await.problem(401, "unauthenticated");
        while through_gateway(&sentinel, &key).await != 401 {
            assert!(begun.elapsed() < Duration::from_secs(1), "{leaves_by}: the key still works");
        }
        client.process(&key, "hello").await.problem(401, "invalid_api_key");
        assert!(begun.elapsed() < Duration::from_secs(1), "{leaves_by}: {:?}", begun.elapsed());
        assert_eq!(through_gateway(&sentinel, &owners_key).await, 200, "the keys of others stay");
    }
}

async fn the_token_is_an_admins_and_works_until_it_is_replaced(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let path = "/orgs/me/scim-token";
    org.owner.get(path).await.problem(404, "not_found");
    org.owner.delete(path).await.problem(404, "not_found");
    let first = Directory::of(&org, &client).await;
    first.get("/Users").await.ok(200);
    let shown = org.owner.get(path).await.ok(200);
    assert!(!shown.to_string().contains("snt_scim_") && shown["created_by"] == org.user_id, "{shown}");
    let second = Directory::of(&org, &client).await;
    refused(first.get("/Users").await, 401, None);
    second.get("/Users").await.ok(200);
    org.owner.delete(path).await.ok(204);
    refused(second.get("/Users").await, 401, None);
    refused(Directory(org.owner.clone()).get("/Users").await, 401, None);

    let (member, _) = org.person("member", json!(["users:write"])).await;
    member.post(path, json!({})).await.problem(403, "grant_not_allowed");
    let (auditor, _) = org.person("auditor", json!([])).await;
    auditor.post(path, json!({})).await.problem(403, "permission_denied");
}

async fn refusals_have_scims_own_form(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let other = Organization::register(&client).await;
    let directory = Directory::of(&org, &client).await;
    refused(directory.get("/Users?filter=title%20eq%20%22x%22").await, 400, Some("invalidFilter"));
    refused(directory.get("/Users?count=many").await, 400, Some("invalidValue"));
    refused(directory.send(Method::POST, "/Users", json!({"userName": "no address"})).await, 400, Some("invalidValue"));
    refused(directory.send(Method::POST, "/Users", json!({"active": true})).await, 400, Some("invalidValue"));
    let cut = directory.0.request(Method::POST, "/scim/v2/Users").header("content-type", "application/json").body("{");
    refused(directory.0.send(cut).await, 400, Some("invalidSyntax"));
    let form = directory.0.request(Method::POST, "/scim/v2/Users").header("content-type", "text/plain").body("{}");
    refused(directory.0.send(form).await, 415, None);

    let deactivate = json!({"Operations": [{"op": "replace", "value": {"active": false}}]});
    for (id, status) in [(&org.user_id, 403), (&other.user_id, 404), (&"nonsense".to_owned(), 404)] {
        let path = format!("/Users/{id}");
        refused(directory.send(Method::PATCH, &path, deactivate.clone()).await, status, None);
        refused(directory.send(Method::PUT, &path, jane()).await, status, None);
        refused(directory.0.delete(&format!("/scim/v2{path}")).await, status, None);
    }
    other.owner.get("/auth/me").await.ok(200);
    org.owner.get("/auth/me").await.ok(200);
    let strangers = json!({"userName": other.email});
    refused(directory.send(Method::POST, "/Users", strangers).await, 409, Some("uniqueness"));
}

async fn what_is_supported_is_told(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let directory = Directory::of(&org, &client).await;
    let config = directory.get("/ServiceProviderConfig").await.ok(200);
    assert_eq!((&config["patch"]["supported"], &config["bulk"]["supported"]), (&json!(true), &json!(false)));
    assert_eq!(directory.get("/ResourceTypes").await.ok(200)["Resources"][0]["endpoint"], "/Users");
    let schemas = directory.get("/Schemas").await.ok(200);
    assert_eq!(schemas["Resources"][0]["id"], "urn:ietf:params:scim:schemas:core:2.0:User");
    for path in ["/ServiceProviderConfig", "/ResourceTypes", "/Schemas", "/Users"] {
        refused(client.get(&format!("/scim/v2{path}")).await, 401, None);
    }
}
