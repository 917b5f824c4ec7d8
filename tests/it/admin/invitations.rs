//! Invitations by a mailed link.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization, PASSWORD};
use super::passwords::{mail_number, mails};
use crate::support::{Sentinel, TestDatabase, command, on_both_engines};

on_both_engines! {
    an_invitation_becomes_a_person_once
    an_invitation_is_sent_again_and_revoked
    an_invitation_is_worth_what_its_sender_may_give
    nobody_learns_of_accounts_elsewhere
    not_even_at_once_do_more_people_come_in_than_the_plan_allows
    the_link_leads_to_a_page_of_sentinels_own
}

const NEW: &str = "correct horse battery staple";
const PATH: &str = "/orgs/me/invitations";

struct World {
    sentinel: Sentinel,
    client: Client,
    org: Organization,
    outbox: PathBuf,
    _folder: tempfile::TempDir,
}

async fn world(database: TestDatabase) -> World {
    let folder = tempfile::tempdir().unwrap();
    let outbox = folder.path().join("outbox");
    let sentinel = Sentinel::start_with(database, |config| config.mail.outbox = outbox.clone()).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    World { sentinel, client, org, outbox, _folder: folder }
}

fn guest(email: &str, role: &str) -> Value {
    json!({"email": email, "full_name": "Jane Smith", "role": role})
}

/// The token of the link in a mail.
fn token(mail: &str) -> String {
    let (_, after) = mail.split_once("/invitation#token=").unwrap_or_else(|| panic!("no link: {mail}"));
    after.chars().take_while(|c| !c.is_whitespace()).collect()
}

impl World {
    async fn invite(&self, by: &Client, email: &str, role: &str) -> (Value, String) {
        let sent = mails(&self.outbox).len();
        let made = by.post(PATH, guest(email, role)).await.ok(201);
        let mail = mail_number(&self.outbox, sent + 1).await;
        assert!(mail.contains(&format!("To: {email}")), "{mail}");
        (made, token(&mail))
    }

    async fn accept(&self, token: &str, password: &str) -> super::client::Answer {
        self.client.post("/auth/invitations/accept", json!({"token": token, "password": password})).await
    }
}

async fn an_invitation_becomes_a_person_once(database: TestDatabase) {
    let world = world(database).await;
    let owner = &world.org.owner;
    let invite = json!({"email": "Jane@people.example", "full_name": " Jane ", "role": "auditor",
        "permissions": ["policies:write"]});
    let made = owner.post(PATH, invite).await.ok(201);
    assert_eq!((&made["email"], &made["full_name"]), (&json!("Jane@people.example"), &json!("Jane")));
    assert!(made.get("token").is_none() && made.get("temporary_password").is_none(), "{made}");
    let token = token(&mail_number(&world.outbox, 1).await);
    assert!(!world.sentinel.database.event_text().await.contains(&token), "the token is in an event");
    assert_eq!(owner.get(PATH).await.ok(200)["data"], json!([made]));
    owner.post(PATH, guest("JANE@people.example", "viewer")).await.problem(409, "conflict");
    world.client.login("jane@people.example", NEW).await.problem(401, "invalid_credentials");

    world.accept(&token, "password1234").await.problem(422, "validation_failed");
    world.accept(&token, "jane@people.example").await.problem(422, "validation_failed");
    let body = json!({"token": token, "password": NEW, "full_name": "Jane S. Smith"});
    let tokens = world.client.post("/auth/invitations/accept", body).await.ok(201);
    assert_eq!((&tokens["org_id"], &tokens["must_change_password"]), (&json!(world.org.org_id), &json!(false)));
    let me = world.client.with_token(tokens["access_token"].as_str().unwrap()).get("/auth/me").await.ok(200);
    assert_eq!((&me["role"], &me["full_name"]), (&json!("auditor"), &json!("Jane S. Smith")));
    world.client.login("jane@people.example", NEW).await.ok(200);
    world.accept(&token, NEW).await.problem(400, "invalid_invitation");
    assert_eq!(owner.get(PATH).await.ok(200)["data"], json!([]));
    owner.post(PATH, guest("jane@people.example", "member")).await.problem(409, "conflict");
    let events = owner.get("/admin-events?action=invitation.accept").await.ok(200);
    assert_eq!(events["data"][0]["actor_email"], "Jane@people.example");
    assert_eq!(events["data"][0]["after"]["role"], "auditor");
}

async fn an_invitation_is_sent_again_and_revoked(database: TestDatabase) {
    let world = world(database).await;
    let owner = &world.org.owner;
    let (made, first) = world.invite(owner, "jane@people.example", "member").await;
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    owner.post(&format!("{path}/resend"), Value::Null).await.ok(200);
    let second = token(&mail_number(&world.outbox, 2).await);
    world.accept(&first, NEW).await.problem(400, "invalid_invitation");
    owner.delete(&path).await.ok(204);
    world.accept(&second, NEW).await.problem(400, "invalid_invitation");
    owner.delete(&path).await.problem(404, "not_found");
    owner.post(&format!("{path}/resend"), Value::Null).await.problem(404, "not_found");
    // Another one to the same address is possible again.
    let (_, third) = world.invite(owner, "jane@people.example", "member").await;
    for wrong in ["", "made up", &world.org.refresh_token, &first, &second] {
        world.accept(wrong, NEW).await.problem(400, "invalid_invitation");
    }
    let (one, two) = tokio::join!(world.accept(&third, NEW), world.accept(&third, NEW));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert!(matches!(statuses, [201, 400 | 409]), "{statuses:?}: it worked twice");
}

async fn an_invitation_is_worth_what_its_sender_may_give(database: TestDatabase) {
    let world = world(database).await;
    let owner = &world.org.owner;
    let (admin, admin_id) = world.org.person("admin", json!([])).await;
    let (member, _) = world.org.person("member", json!([])).await;
    member.post(PATH, guest("a@people.example", "viewer")).await.problem(403, "permission_denied");
    admin.post(PATH, guest("a@people.example", "owner")).await.problem(403, "grant_not_allowed");
    let (owners, _) = world.invite(owner, "b@people.example", "owner").await;
    let resend = format!("{PATH}/{}/resend", owners["id"].as_str().unwrap());
    admin.post(&resend, Value::Null).await.problem(403, "grant_not_allowed");

    let (_, token) = world.invite(&admin, "c@people.example", "admin").await;
    let person = format!("/orgs/me/users/{admin_id}");
    owner.patch(&person, json!({"role": "member", "permissions": ["users:invite"]})).await.ok(200);
    world.accept(&token, NEW).await.problem(400, "invalid_invitation");
    owner.patch(&person, json!({"role": "admin"})).await.ok(200);
    world.accept(&token, NEW).await.ok(201);
    let (_, token) = world.invite(&admin, "d@people.example", "viewer").await;
    owner.delete(&person).await.ok(204);
    world.accept(&token, NEW).await.problem(400, "invalid_invitation");
}

async fn nobody_learns_of_accounts_elsewhere(database: TestDatabase) {
    let world = world(database).await;
    let other = Organization::register(&world.client).await;
    let (mut known, token) = world.invite(&world.org.owner, &other.email, "member").await;
    let (mut unknown, _) = world.invite(&world.org.owner, "nobody@people.example", "member").await;
    for made in [&mut known, &mut unknown] {
        let made = made.as_object_mut().unwrap();
        for own in ["id", "email", "created_at", "expires_at"] {
            made.remove(own);
        }
    }
    assert_eq!(known, unknown);
    // Whoever has the link reads the mails of that address, and may know.
    world.accept(&token, NEW).await.problem(409, "conflict");
    world.client.login(&other.email, PASSWORD).await.ok(200);
}

async fn not_even_at_once_do_more_people_come_in_than_the_plan_allows(database: TestDatabase) {
    let world = world(database).await;
    let (owner, url) = (&world.org.owner, world.sentinel.database.config().url);
    let mut tokens = Vec::new();
    for n in 0..4 {
        tokens.push(world.invite(owner, &format!("guest{n}@people.example"), "viewer").await.1);
    }
    let folder = tempfile::tempdir().unwrap();
    let set = ["orgs", "set", "--org", &world.org.org_id, "--max-users", "3", "--json"];
    command(folder.path(), &[("DATABASE_URL", &url)], &set).await;
    let invite = |n| json!({"email": format!("new{n}@people.example"), "full_name": "N N", "role": "viewer"});
    let path = "/orgs/me/users/invite";
    let (one, two, three, four, five) = tokio::join!(
        world.accept(&tokens[0], NEW),
        world.accept(&tokens[1], NEW),
        world.accept(&tokens[2], NEW),
        owner.post(path, invite(0)),
        owner.post(path, invite(1)),
    );
    let mut let_in = 0;
    for answer in [one, two, three, four, five] {
        if answer.status == 201 {
            let_in += 1;
        } else {
            answer.problem(403, "limit_reached");
        }
    }
    assert_eq!(let_in, 2, "beside the owner");
    assert_eq!(owner.get("/orgs/me/users").await.ok(200)["data"].as_array().unwrap().len(), 3);
    // Who found no room has used nothing up.
    let wider = ["orgs", "set", "--org", &world.org.org_id, "--max-users", "none", "--json"];
    command(folder.path(), &[("DATABASE_URL", &url)], &wider).await;
    world.accept(&tokens[3], NEW).await.ok(201);
}

async fn the_link_leads_to_a_page_of_sentinels_own(database: TestDatabase) {
    let world = world(database).await;
    let page = world.client.get("/invitation").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    let page = page.ok(200);
    assert!(page.as_str().unwrap().contains("auth/invitations/accept"));
    let get = world.client.send(world.client.request(Method::GET, "/auth/invitations/accept")).await;
    get.problem(405, "method_not_allowed");
}
