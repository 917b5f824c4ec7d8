//! Guessing passwords: what it gets, and how soon it is slowed down.

use serde_json::json;

use super::client::{Answer, Client, Organization, PASSWORD};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    whatever_is_wrong_with_an_account_the_answer_is_the_same
    guessing_is_slowed_down_and_says_when_to_come_back
    a_locked_account_stays_locked_known_or_not
    guesses_of_the_current_password_count_as_well
    a_hash_of_weaker_parameters_is_replaced_by_the_log_in
}

async fn whatever_is_wrong_with_an_account_the_answer_is_the_same(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let mut people = Vec::new();
    for email in ["off@people.example", "gone@people.example"] {
        let body = json!({"email": email, "full_name": "A Person", "role": "member"});
        let invited = org.owner.post("/orgs/me/users/invite", body).await.ok(201);
        let path = format!("/orgs/me/users/{}", invited["id"].as_str().unwrap());
        people.push((path, invited["temporary_password"].as_str().unwrap().to_owned()));
    }
    org.owner.patch(&people[0].0, json!({"is_active": false})).await.ok(200);
    org.owner.delete(&people[1].0).await.ok(204);
    let answers = [
        client.login("nobody@nowhere.example", PASSWORD).await,
        client.login(&org.email, "SecurePass124!").await,
        client.login("off@people.example", &people[0].1).await,
        client.login("gone@people.example", &people[1].1).await,
    ];
    let shape = |answer: &Answer| {
        let mut body = answer.body.clone();
        body["request_id"].take();
        let mut headers: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        headers.sort_unstable();
        (answer.status, body, headers)
    };
    for answer in &answers {
        assert_eq!(shape(answer), shape(&answers[0]));
    }
    answers.into_iter().for_each(|answer| drop(answer.problem(401, "invalid_credentials")));
}

async fn guessing_is_slowed_down_and_says_when_to_come_back(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    for email in [org.email.as_str(), "nobody@nowhere.example"] {
        for _ in 0..5 {
            client.login(email, "a wrong guess").await.problem(401, "invalid_credentials");
        }
        // The right password too: an answer that tells it apart would be worth guessing for.
        let answer = client.login(email, PASSWORD).await;
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=12).contains(&seconds), "{seconds}");
        assert_eq!(answer.header("ratelimit-policy"), "\"login\";q=5;w=60");
        assert_eq!(answer.header("ratelimit"), format!("\"login\";r=0;t={seconds}"));
        answer.problem(429, "login_throttled");
    }
    // Nobody else is held up, and who is in stays in.
    let other = Organization::register(&client).await;
    client.login(&other.email, PASSWORD).await.ok(200);
    org.owner.get("/auth/me").await.ok(200);
}

async fn a_locked_account_stays_locked_known_or_not(database: TestDatabase) {
    let sentinel = Sentinel::start_with(database, |config| config.auth.lockout_failures = 1).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    for email in [org.email.as_str(), "nobody@nowhere.example"] {
        client.login(email, "a wrong guess").await.problem(401, "invalid_credentials");
        let answer = client.login(&email.to_uppercase(), PASSWORD).await;
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1700..=1800).contains(&seconds), "{seconds}");
        answer.problem(429, "login_throttled");
    }
    org.owner.get("/auth/me").await.ok(200);
}

async fn guesses_of_the_current_password_count_as_well(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let guess = json!({"current_password": "a wrong guess", "new_password": "correct horse battery staple"});
    for _ in 0..5 {
        org.owner.post("/auth/password", guess.clone()).await.problem(422, "validation_failed");
    }
    org.owner.post("/auth/password", guess).await.problem(429, "login_throttled");
}

async fn a_hash_of_weaker_parameters_is_replaced_by_the_log_in(database: TestDatabase) {
    let stronger = |config: &mut sentinel::config::Config| config.auth.argon2_passes = 2;
    let sentinel = Sentinel::start_with(database, stronger).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let weak = {
        let config = sentinel::config::AuthConfig { argon2_memory_kib: 8, argon2_passes: 1, ..Default::default() };
        sentinel::authn::Passwords::new(&config).hash(PASSWORD.to_owned().into()).await.unwrap()
    };
    sentinel.database.set_password_hash(&org.email, &weak).await;
    client.login(&org.email, "a wrong guess").await.problem(401, "invalid_credentials");
    assert_eq!(sentinel.database.password_hash(&org.email).await, weak, "only a right password can be hashed anew");
    client.login(&org.email, PASSWORD).await.ok(200);
    let stronger = sentinel.database.password_hash(&org.email).await;
    assert!(stronger.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{stronger}");
    client.login(&org.email, PASSWORD).await.ok(200);
    assert_eq!(sentinel.database.password_hash(&org.email).await, stronger);
}
