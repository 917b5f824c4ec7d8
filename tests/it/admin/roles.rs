//! Nobody rises above themselves, and the last owner stays.

use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_granted_permission_works_and_ends_with_its_withdrawal
    nobody_grants_above_themselves_or_touches_who_stands_above
    the_last_owner_stays
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
