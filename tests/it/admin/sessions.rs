//! Logging in and out, refreshing, and temporary passwords.

use serde_json::json;

use super::client::{Client, Organization, PASSWORD};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    unknown_addresses_and_wrong_passwords_get_the_same_answer
    a_refresh_token_works_once_and_its_second_use_ends_the_session
    logging_out_ends_this_session_and_no_other
    a_temporary_password_opens_nothing_until_it_is_changed
    a_person_who_is_switched_off_or_removed_is_out_at_once
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
