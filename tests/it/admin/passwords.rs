//! Changing a password, and setting a new one by a mailed link.

use std::path::Path;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::client::{Client, Organization, PASSWORD};
use crate::support::raw::PATIENCE;
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_new_password_ends_all_other_sessions
    a_forgotten_password_is_replaced_by_a_link_that_works_once
    nobody_learns_whether_an_address_has_an_account
    a_link_goes_through_the_configured_server
    what_is_no_link_sets_nothing
    the_link_leads_to_a_page_of_sentinels_own
}

const NEW: &str = "correct horse battery staple";

async fn a_new_password_ends_all_other_sessions(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let other = client.login(&org.email, PASSWORD).await.ok(200);
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    org.owner.post("/auth/password", change).await.ok(204);
    org.owner.get("/auth/me").await.ok(200);
    client.with_token(other["access_token"].as_str().unwrap()).get("/auth/me").await.problem(401, "unauthenticated");
    let refresh = client.post("/auth/refresh", json!({"refresh_token": other["refresh_token"]})).await;
    refresh.problem(401, "invalid_refresh_token");
    let kept = client.post("/auth/refresh", json!({"refresh_token": org.refresh_token})).await;
    kept.ok(200);
    client.login(&org.email, PASSWORD).await.problem(401, "invalid_credentials");
    client.login(&org.email, NEW).await.ok(200);
}

/// The mails in a folder, oldest first.
pub fn mails(outbox: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(outbox) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "eml"));
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

pub async fn mail_number(outbox: &Path, count: usize) -> String {
    let begun = Instant::now();
    loop {
        if let Some(mail) = mails(outbox).into_iter().nth(count - 1) {
            return mail;
        }
        assert!(begun.elapsed() < PATIENCE, "no mail number {count}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn token(mail: &str) -> String {
    let (_, after) = mail.split_once("/reset-password#token=").unwrap_or_else(|| panic!("no link: {mail}"));
    after.chars().take_while(|c| !c.is_whitespace()).collect()
}

async fn forgot(client: &Client, email: &str) -> Value {
    client.post("/auth/password/forgot", json!({"email": email})).await.ok(202)
}

fn new_password(token: &str, password: &str) -> Value {
    json!({"token": token, "password": password})
}

async fn a_forgotten_password_is_replaced_by_a_link_that_works_once(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let outbox = folder.path().join("outbox");
    let sentinel = Sentinel::start_with(database, |config| config.mail.outbox = outbox.clone()).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    for _ in 0..5 {
        client.login(&org.email, "a wrong guess").await.problem(401, "invalid_credentials");
    }
    client.login(&org.email, PASSWORD).await.problem(429, "login_throttled");

    forgot(&client, &org.email.to_uppercase()).await;
    let first = mail_number(&outbox, 1).await;
    assert!(first.contains(&format!("To: {}", org.email)), "{first}");
    forgot(&client, &org.email).await;
    let (first, second) = (token(&first), token(&mail_number(&outbox, 2).await));
    let path = "/auth/password/reset";
    client.post(path, new_password(&first, "password1234")).await.problem(422, "validation_failed");
    let personal = format!("{}#9Kz", org.email);
    client.post(path, new_password(&first, &personal)).await.problem(422, "validation_failed");
    client.post(path, new_password(&first, NEW)).await.ok(204);

    org.owner.get("/auth/me").await.problem(401, "unauthenticated");
    let refresh = client.post("/auth/refresh", json!({"refresh_token": org.refresh_token})).await;
    refresh.problem(401, "invalid_refresh_token");
    client.login(&org.email, NEW).await.ok(200);
    client.login(&org.email, PASSWORD).await.problem(401, "invalid_credentials");
    for used in [first, second] {
        client
            .post(path, new_password(&used, "another horse battery staple"))
            .await
            .problem(400, "invalid_reset_token");
    }
    client.login(&org.email, NEW).await.ok(200);
}

async fn nobody_learns_whether_an_address_has_an_account(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let outbox = folder.path().join("outbox");
    let sentinel = Sentinel::start_with(database, |config| config.mail.outbox = outbox.clone()).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (_, off) = org.person("member", json!([])).await;
    let off_email = {
        let path = format!("/orgs/me/users/{off}");
        org.owner.patch(&path, json!({"is_active": false})).await.ok(200)["email"].as_str().unwrap().to_owned()
    };
    for email in ["nobody@nowhere.example", &off_email] {
        assert_eq!(forgot(&client, email).await, forgot(&client, &org.email).await);
    }
    for _ in 0..5 {
        forgot(&client, &org.email).await;
    }
    // The last one is the proof that the ones before have been looked at.
    let last = Organization::register(&client).await;
    forgot(&client, &last.email).await;
    let mut count = 0;
    while !mail_number(&outbox, count + 1).await.contains(&format!("To: {}", last.email)) {
        count += 1;
    }
    let mails = mails(&outbox);
    assert!(mails.iter().all(|mail| !mail.contains("nobody@") && !mail.contains(&off_email)), "{mails:#?}");
    let ours = mails.iter().filter(|mail| mail.contains(&org.email)).count();
    assert!((1..=3).contains(&ours), "{ours} mails: a mailbox can be filled");
    client.post("/auth/password/forgot", json!({"email": "nonsense"})).await.problem(422, "validation_failed");
}

/// One conversation of SMTP; returns the lines of the mail.
async fn receive(listener: TcpListener) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let (mut mail, mut in_text) = (Vec::new(), false);
    write.write_all(b"220 test ready\r\n").await.unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        let answer = match (in_text, line.as_str()) {
            (true, ".") => {
                in_text = false;
                "250 queued"
            }
            (true, _) => {
                mail.push(line);
                continue;
            }
            (false, "DATA") => {
                in_text = true;
                "354 go on"
            }
            (false, "QUIT") => return mail,
            (false, _) => "250 ok",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
    }
    mail
}

async fn a_link_goes_through_the_configured_server(database: TestDatabase) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let sentinel = Sentinel::start_with(database, |config| {
        config.mail.smtp_url = Some(url.into());
        config.mail.from = "Sentinel <sentinel@acme.example>".into();
    })
    .await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let server = tokio::spawn(receive(listener));
    forgot(&client, &org.email).await;
    let mail = tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap().join("\n");
    assert!(mail.contains("From: \"Sentinel\" <sentinel@acme.example>") || mail.contains("From: Sentinel <"), "{mail}");
    client.post("/auth/password/reset", new_password(&token(&mail), NEW)).await.ok(204);
    client.login(&org.email, NEW).await.ok(200);
}

async fn what_is_no_link_sets_nothing(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    for token in ["", "made up", &org.refresh_token, &"0".repeat(64)] {
        let answer = client.post("/auth/password/reset", new_password(token, NEW)).await;
        answer.problem(400, "invalid_reset_token");
    }
    let get = client.send(client.request(Method::GET, "/auth/password/reset")).await;
    get.problem(405, "method_not_allowed");
    client.login(&org.email, PASSWORD).await.ok(200);
}

async fn the_link_leads_to_a_page_of_sentinels_own(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let page = client.get("/reset-password").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let page = page.ok(200);
    let page = page.as_str().unwrap();
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<style"), "{page}");
    let linked: Vec<&str> =
        page.match_indices("\"page.").map(|(at, _)| page[at + 1..].split('"').next().unwrap()).collect();
    assert_eq!(linked, ["page.css", "page.js"]);
    for (path, kind) in [("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let answer = client.get(path).await;
        assert!(answer.header("content-type").starts_with(kind), "{path}");
        answer.ok(200);
    }
}
