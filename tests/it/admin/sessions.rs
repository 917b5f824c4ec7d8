//! Logging in and out, refreshing, and temporary passwords.

use serde_json::json;

use super::client::{Client, Organization, PASSWORD};
use super::operations::{Kind, Operation, operations};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    unknown_addresses_and_wrong_passwords_get_the_same_answer
    a_refresh_token_works_once_and_its_second_use_ends_the_session
    logging_out_ends_this_session_and_no_other
    a_temporary_password_opens_nothing_until_it_is_changed
    a_person_who_is_switched_off_or_removed_is_out_at_once
    people_see_their_own_sessions_and_end_them
    before_a_temporary_password_is_changed_three_operations_are_open
}

async fn unknown_addresses_and_wrong_passwords_get_the_same_answer(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let unknown = client.login("nobody@nowhere.example", PASSWORD).await.problem(401, "invalid_credentials");
    let wrong = client.login(&org.email, "SecurePass124!").await.problem(401, "invalid_credentials");
    assert_eq!((&unknown["detail"], &unknown["title"]), (&wrong["detail"], &wrong["title"]));
    client.login(&org.email.to_uppercase(), PASSWORD).await.ok(200);
}

async fn a_refresh_token_works_once_and_its_second_use_ends_the_session(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let refresh = |token: String| {
        let client = client.clone();
        async move { client.post("/auth/refresh", json!({"refresh_token": token})).await }
    };
    let first = refresh(org.refresh_token.clone()).await.ok(200);
    let second = first["refresh_token"].as_str().unwrap().to_owned();
    let person = client.with_token(first["access_token"].as_str().unwrap());
    person.get("/auth/me").await.ok(200);

    refresh(org.refresh_token.clone()).await.problem(401, "invalid_refresh_token");
    refresh(second).await.problem(401, "invalid_refresh_token");
    person.get("/auth/me").await.problem(401, "unauthenticated");
    refresh("made up".into()).await.problem(401, "invalid_refresh_token");
    client.login(&org.email, PASSWORD).await.ok(200);
}

async fn logging_out_ends_this_session_and_no_other(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let other = client.login(&org.email, PASSWORD).await.ok(200);
    org.owner.send(org.owner.request(reqwest::Method::POST, "/auth/logout")).await.ok(204);
    org.owner.get("/auth/me").await.problem(401, "unauthenticated");
    client
        .post("/auth/refresh", json!({"refresh_token": org.refresh_token}))
        .await
        .problem(401, "invalid_refresh_token");
    client.with_token(other["access_token"].as_str().unwrap()).get("/auth/me").await.ok(200);
}

async fn a_temporary_password_opens_nothing_until_it_is_changed(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let body = json!({"email": "new@people.example", "full_name": "New Person", "role": "admin"});
    let invited = org.owner.post("/orgs/me/users/invite", body).await.ok(201);
    let temporary = invited["temporary_password"].as_str().unwrap();
    let tokens = client.login("new@people.example", temporary).await.ok(200);
    assert_eq!(tokens["must_change_password"], true);
    let person = client.with_token(tokens["access_token"].as_str().unwrap());

    person.get("/orgs/me").await.problem(403, "password_change_required");
    person.post("/workspaces", json!({"name": "w"})).await.problem(403, "password_change_required");
    assert_eq!(person.get("/auth/me").await.ok(200)["must_change_password"], true);

    let change = |current: &str, new: &str| json!({"current_password": current, "new_password": new});
    let path = "/auth/password";
    person.post(path, change("wrong", "correct horse battery staple")).await.problem(422, "validation_failed");
    person.post(path, change(temporary, "password1234")).await.problem(422, "validation_failed");
    person.post(path, change(temporary, temporary)).await.problem(422, "validation_failed");
    person.post(path, change(temporary, "correct horse battery staple")).await.ok(204);

    client.login("new@people.example", temporary).await.problem(401, "invalid_credentials");
    let tokens = client.login("new@people.example", "correct horse battery staple").await.ok(200);
    assert_eq!(tokens["must_change_password"], false);
    client.with_token(tokens["access_token"].as_str().unwrap()).get("/orgs/me").await.ok(200);
}

async fn a_person_who_is_switched_off_or_removed_is_out_at_once(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let (person, id) = org.person("member", json!([])).await;
    let path = format!("/orgs/me/users/{id}");
    org.owner.patch(&path, json!({"is_active": false})).await.ok(200);
    person.get("/auth/me").await.problem(401, "unauthenticated");

    let (person, id) = org.person("member", json!([])).await;
    org.owner.delete(&format!("/orgs/me/users/{id}")).await.ok(204);
    person.get("/auth/me").await.problem(401, "unauthenticated");
    org.owner.delete(&format!("/orgs/me/users/{id}")).await.problem(404, "not_found");
}

async fn people_see_their_own_sessions_and_end_them(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (colleague, _) = org.person("admin", json!([])).await;
    let mut others = Vec::new();
    for agent in ["laptop/1", "phone/2", "tablet/3"] {
        let body = json!({"email": org.email, "password": PASSWORD});
        let login = client.request(reqwest::Method::POST, "/auth/login").header("user-agent", agent).json(&body);
        let tokens = client.send(login).await.ok(200);
        others.push((client.with_token(tokens["access_token"].as_str().unwrap()), tokens["refresh_token"].clone()));
    }
    let list = org.owner.get("/auth/sessions").await.ok(200);
    let agents: Vec<_> = list["data"].as_array().unwrap().iter().map(|s| s["user_agent"].as_str()).collect();
    assert_eq!(agents, [Some("tablet/3"), Some("phone/2"), Some("laptop/1"), None], "{list:#}");
    let current: Vec<_> = list["data"].as_array().unwrap().iter().map(|s| s["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [false, false, false, true]);
    assert_eq!(list["data"][0]["ip"], "127.0.0.1");
    let page = org.owner.get("/auth/sessions?limit=3").await.ok(200);
    let rest = format!("/auth/sessions?limit=3&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(org.owner.get(&rest).await.ok(200)["data"], json!([list["data"][3]]));

    let tablet = format!("/auth/sessions/{}", list["data"][0]["id"].as_str().unwrap());
    colleague.delete(&tablet).await.problem(404, "not_found");
    others[2].0.get("/auth/me").await.ok(200);
    org.owner.delete(&tablet).await.ok(204);
    others[2].0.get("/auth/me").await.problem(401, "unauthenticated");
    org.owner.delete(&tablet).await.problem(404, "not_found");
    others[1].0.get("/auth/me").await.ok(200);

    org.owner.delete("/auth/sessions").await.ok(204);
    for (other, refresh_token) in &others {
        other.get("/auth/me").await.problem(401, "unauthenticated");
        let refresh = client.post("/auth/refresh", json!({"refresh_token": refresh_token})).await;
        refresh.problem(401, "invalid_refresh_token");
    }
    assert_eq!(org.owner.get("/auth/sessions").await.ok(200)["data"].as_array().unwrap().len(), 1);
    colleague.get("/auth/me").await.ok(200);
}

async fn before_a_temporary_password_is_changed_three_operations_are_open(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let body = json!({"email": "new@people.example", "full_name": "New Person", "role": "owner"});
    let invited = org.owner.post("/orgs/me/users/invite", body).await.ok(201);
    let tokens = client.login("new@people.example", invited["temporary_password"].as_str().unwrap()).await.ok(200);
    let person = client.with_token(tokens["access_token"].as_str().unwrap());
    let mut open = Vec::new();
    let guarded = |operation: &Operation| matches!(operation.kind, Kind::Own | Kind::Object);
    for operation in operations(&client).await.0.into_iter().filter(guarded) {
        let (method, path) = (operation.method, operation.path.replace("{id}", "0193b5d0-a5d1-7c3a-8f2e-4b6c8d0e1f23"));
        // Would end what is being tried.
        if path == "/auth/logout" {
            open.push(path);
            continue;
        }
        let answer = person.send(person.request(method, &path)).await;
        if answer.body["code"] != "password_change_required" {
            open.push(path);
        }
    }
    open.sort_unstable();
    assert_eq!(open, ["/auth/logout", "/auth/me", "/auth/password"]);
    person.send(person.request(reqwest::Method::POST, "/auth/logout")).await.ok(204);
}
