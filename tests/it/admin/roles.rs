//! Who may do what: every documented permission is the one that is enforced; nobody rises above themselves.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    each_role_is_refused_exactly_what_it_lacks_by_the_name_of_the_permission
    every_guarded_operation_refuses_strangers
    a_granted_permission_works_and_ends_with_its_withdrawal
    nobody_grants_above_themselves_or_touches_who_stands_above
    the_last_owner_stays
}

/// Method, path and needed permission of every operation that wants a session.
pub async fn guarded(client: &Client) -> Vec<(Method, String, Option<String>)> {
    let document = client.get("/openapi.json").await.ok(200);
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if let Some(needed) = operation["security"][0].get("session") {
                let path = path.replace("{id}", "0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23");
                let permission = needed.get(0).and_then(Value::as_str).map(str::to_owned);
                operations.push((method.to_uppercase().parse().unwrap(), path, permission));
            }
        }
    }
    operations
}

async fn each_role_is_refused_exactly_what_it_lacks_by_the_name_of_the_permission(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let operations = guarded(&client).await;
    assert!(operations.len() > 20, "{operations:?}");
    for role in ["admin", "member", "viewer", "auditor"] {
        let (person, _) = org.person(role, json!([])).await;
        let me = person.get("/auth/me").await.ok(200);
        let has: Vec<&str> = me["effective_permissions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for (method, path, needed) in &operations {
            // A log-out would end what is being tried.
            let Some(needed) = needed else { continue };
            let answer = person.send(person.request(method.clone(), path)).await;
            if has.contains(&needed.as_str()) {
                assert_ne!(answer.status.as_u16(), 403, "{role} {method} {path}: {}", answer.body);
            } else {
                let problem = answer.problem(403, "permission_denied");
                assert!(
                    problem["detail"].as_str().unwrap().contains(needed.as_str()),
                    "{role} {method} {path}: {problem}"
                );
            }
        }
    }
}

async fn every_guarded_operation_refuses_strangers(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    for (method, path, _) in guarded(&client).await {
        client.send(client.request(method, &path)).await.problem(401, "unauthenticated");
    }
}

async fn a_granted_permission_works_and_ends_with_its_withdrawal(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let (member, id) = org.person("member", json!(["workspaces:write"])).await;
    member.post("/workspaces", json!({"name": "by a member"})).await.ok(201);
    org.owner.patch(&format!("/orgs/me/users/{id}"), json!({"permissions": []})).await.ok(200);
    member.post("/workspaces", json!({"name": "again"})).await.problem(403, "permission_denied");
}

async fn nobody_grants_above_themselves_or_touches_who_stands_above(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let (admin, admin_id) = org.person("admin", json!([])).await;
    let (inviter, inviter_id) = org.person("member", json!(["users:invite", "users:write"])).await;
    let invite = |email: &str, role: &str, permissions: Value| json!({"email": email, "full_name": "X Y", "role": role, "permissions": permissions});
    let path = "/orgs/me/users/invite";
    admin.post(path, invite("o@x.example", "owner", json!([]))).await.problem(403, "grant_not_allowed");
    inviter.post(path, invite("a@x.example", "admin", json!([]))).await.problem(403, "grant_not_allowed");
    inviter
        .post(path, invite("p@x.example", "viewer", json!(["policies:write"])))
        .await
        .problem(403, "grant_not_allowed");
    inviter.post(path, invite("v@x.example", "viewer", json!(["users:invite"]))).await.ok(201);

    let user = |id: &str| format!("/orgs/me/users/{id}");
    admin.patch(&user(&admin_id), json!({"role": "owner"})).await.problem(403, "grant_not_allowed");
    inviter
        .patch(&user(&inviter_id), json!({"permissions": ["policies:write"]}))
        .await
        .problem(403, "grant_not_allowed");
    admin.patch(&user(&org.user_id), json!({"role": "viewer"})).await.problem(403, "grant_not_allowed");
    admin.delete(&user(&org.user_id)).await.problem(403, "grant_not_allowed");
    inviter.patch(&user(&admin_id), json!({"full_name": "Fool"})).await.problem(403, "grant_not_allowed");
    admin.post(path, invite("z@x.example", "superuser", json!([]))).await.problem(422, "validation_failed");
    admin.post(path, invite("z@x.example", "viewer", json!(["moon:fly"]))).await.problem(422, "validation_failed");
}

async fn the_last_owner_stays(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let me = format!("/orgs/me/users/{}", org.user_id);
    org.owner.patch(&me, json!({"role": "admin"})).await.problem(409, "conflict");
    org.owner.patch(&me, json!({"is_active": false})).await.problem(409, "conflict");
    org.owner.delete(&me).await.problem(409, "conflict");
    let (second, _) = org.person("owner", json!([])).await;
    second.patch(&me, json!({"role": "admin"})).await.ok(200);
    assert_eq!(org.owner.get("/auth/me").await.ok(200)["role"], "admin");
}
