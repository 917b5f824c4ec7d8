//! Signing on with a real OpenID Connect provider, as a browser would.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};

use super::client::{Answer, Client, Organization, PASSWORD};
use crate::support::{Sentinel, TestDatabase, on_both_engines, python, raw::PATIENCE};

on_both_engines! {
    a_person_signs_on_and_has_an_account_from_then_on
    groups_become_roles_and_never_more_than_the_maximum
    who_may_not_sign_on_does_not
    an_answer_belongs_to_the_browser_that_asked
    signing_on_can_be_demanded_of_all_but_owners
    settings_are_checked_and_the_secret_is_never_shown
}

/// An OpenID Connect provider in a process of its own.
struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    async fn start(users: &[Value]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(python("TEST_PYTHON"));
        command.args(["-m", "oidc_provider_mock", "--require-nonce", "true", "--port", &port.to_string()]);
        for user in users {
            command.args(["--user-claims", &user.to_string()]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("python runs");
        let issuer = format!("http://127.0.0.1:{port}");
        let provider = Self { child, issuer };
        let begun = Instant::now();
        while reqwest::get(format!("{}/.well-known/openid-configuration", provider.issuer)).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "the provider does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        provider
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn person(subject: &str, email: &str, groups: Value) -> Value {
    json!({"sub": subject, "email": email, "name": "Ada Lovelace", "groups": groups})
}

fn settings(provider: &Provider) -> Value {
    json!({
        "issuer": provider.issuer,
        "client_id": "sentinel",
        "client_secret": "a secret of the provider",
        "email_domains": ["SSO.example"],
    })
}

fn with(mut settings: Value, more: Value) -> Value {
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

fn browser() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// A browser that has been at the provider, on its way back.
struct Returning {
    path: String,
    cookie: String,
}

async fn start(client: &Client, slug: &str, subject: &str) -> Returning {
    let started = client.get(&format!("/auth/sso/start?org={slug}")).await;
    assert_eq!(started.status, 303, "{:#}", started.body);
    let set_cookie = started.header(SET_COOKIE.as_str());
    assert!(set_cookie.contains("; HttpOnly; SameSite=Lax"), "{set_cookie}");
    let cookie = set_cookie.split(';').next().unwrap().to_owned();
    let authorize = started.header(LOCATION.as_str());
    for part in ["code_challenge=", "code_challenge_method=S256", "nonce=", "state=", "scope=openid+email+profile"] {
        assert!(authorize.contains(part), "{part} in {authorize}");
    }
    let page = browser().get(authorize).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("<form"));
    let form = format!("sub={subject}");
    let submitted = browser()
        .post(authorize)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap();
    let back = submitted.headers()[LOCATION].to_str().unwrap();
    let path = back.strip_prefix("http://localhost:8000").expect("the redirect URI of admin.public_url").to_owned();
    Returning { path, cookie }
}

async fn finish(client: &Client, returning: &Returning) -> Answer {
    client.send(client.request(reqwest::Method::GET, &returning.path).header(COOKIE, &returning.cookie)).await
}

async fn sign_on(client: &Client, slug: &str, subject: &str) -> Answer {
    let returning = start(client, slug, subject).await;
    finish(client, &returning).await
}

async fn slug(org: &Organization) -> String {
    org.owner.get("/orgs/me").await.ok(200)["slug"].as_str().unwrap().to_owned()
}

async fn a_person_signs_on_and_has_an_account_from_then_on(database: TestDatabase) {
    let provider = Provider::start(&[person("ada", "ada@sso.example", json!([]))]).await;
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let slug = slug(&org).await;
    client.get(&format!("/auth/sso/start?org={slug}")).await.problem(404, "not_found");
    org.owner.put("/orgs/me/sso", settings(&provider)).await.ok(200);
    // The provider's second factor counts.
    org.owner.patch("/orgs/me", json!({"settings": {"require_mfa": true}})).await.ok(200);

    let first = sign_on(&client, &slug, "ada").await.ok(200);
    let me = client.with_token(first["access_token"].as_str().unwrap());
    let account = me.get("/auth/me").await.ok(200);
    assert_eq!((&account["email"], &account["role"]), (&json!("ada@sso.example"), &json!("member")));
    assert_eq!((&account["full_name"], &account["sso_provider"]), (&json!("Ada Lovelace"), &json!(provider.issuer)));
    me.get("/workspaces").await.ok(200);
    let again = sign_on(&client, &slug, "ada").await.ok(200);
    assert_eq!(again["user_id"], first["user_id"]);
    let refreshed = client.post("/auth/refresh", json!({"refresh_token": again["refresh_token"]})).await.ok(200);
    client.with_token(refreshed["access_token"].as_str().unwrap()).get("/workspaces").await.ok(200);
    client.login("ada@sso.example", PASSWORD).await.problem(401, "invalid_credentials");
}

async fn groups_become_roles_and_never_more_than_the_maximum(database: TestDatabase) {
    let users = [
        person("root", "root@sso.example", json!(["staff", "admins"])),
        person("clerk", "clerk@sso.example", json!(["staff"])),
        person("guest", "guest@sso.example", json!(["strangers"])),
    ];
    let provider = Provider::start(&users).await;
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let slug = slug(&org).await;
    let mapped = json!({"groups_claim": "groups", "role_mapping": {"admins": "admin", "staff": "auditor"},
        "default_role": "viewer", "max_role": "admin"});
    org.owner.put("/orgs/me/sso", with(settings(&provider), mapped)).await.ok(200);
    for (subject, role) in [("root", "admin"), ("clerk", "auditor"), ("guest", "viewer")] {
        let tokens = sign_on(&client, &slug, subject).await.ok(200);
        let me = client.with_token(tokens["access_token"].as_str().unwrap());
        assert_eq!(me.get("/auth/me").await.ok(200)["role"], role, "{subject}");
    }

    let lower = json!({"groups_claim": "groups", "role_mapping": {"staff": "member"}, "max_role": "member"});
    org.owner.put("/orgs/me/sso", with(settings(&provider), lower)).await.ok(200);
    sign_on(&client, &slug, "root").await.problem(401, "sso_failed");
    let tokens = sign_on(&client, &slug, "clerk").await.ok(200);
    let me = client.with_token(tokens["access_token"].as_str().unwrap());
    assert_eq!(me.get("/auth/me").await.ok(200)["role"], "member", "groups are read at every log-in");

    for (field, refused) in [
        ("/max_role", json!({"max_role": "owner"})),
        ("/default_role", json!({"default_role": "admin"})),
        ("/role_mapping/a~1b", json!({"groups_claim": "groups", "role_mapping": {"a/b": "owner"}})),
        ("/groups_claim", json!({"role_mapping": {"staff": "member"}})),
    ] {
        let problem = org.owner.put("/orgs/me/sso", with(settings(&provider), refused)).await;
        assert_eq!(problem.problem(422, "validation_failed")["errors"][0]["pointer"], field);
    }
}

async fn who_may_not_sign_on_does_not(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let domain = org.email.rsplit_once('@').unwrap().1.to_owned();
    let users = [
        person("stranger", "someone@elsewhere.example", json!([])),
        person("boss", &org.email, json!([])),
        json!({"sub": "unverified", "email": "x@sso.example", "email_verified": false}),
        person("gone", "gone@sso.example", json!([])),
        person("taken", "taken@sso.example", json!([])),
    ];
    let provider = Provider::start(&users).await;
    let slug = slug(&org).await;
    let open = json!({"email_domains": ["sso.example", domain], "max_role": "admin"});
    org.owner.put("/orgs/me/sso", with(settings(&provider), open)).await.ok(200);
    for subject in ["stranger", "boss", "unverified"] {
        sign_on(&client, &slug, subject).await.problem(401, "sso_failed");
    }
    let tokens = sign_on(&client, &slug, "gone").await.ok(200);
    let path = format!("/orgs/me/users/{}", tokens["user_id"].as_str().unwrap());
    org.owner.patch(&path, json!({"is_active": false})).await.ok(200);
    sign_on(&client, &slug, "gone").await.problem(401, "sso_failed");

    let other = Organization::register(&client).await;
    let invite = json!({"email": "taken@sso.example", "full_name": "Taken", "role": "member"});
    other.owner.post("/orgs/me/users/invite", invite).await.ok(201);
    sign_on(&client, &slug, "taken").await.problem(409, "conflict");
}

async fn an_answer_belongs_to_the_browser_that_asked(database: TestDatabase) {
    let provider = Provider::start(&[person("ada", "ada@sso.example", json!([]))]).await;
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let slug = slug(&org).await;
    org.owner.put("/orgs/me/sso", settings(&provider)).await.ok(200);
    let mine = start(&client, &slug, "ada").await;
    let theirs = start(&client, &slug, "ada").await;
    client.get(&mine.path).await.problem(401, "sso_failed");
    let crossed = Returning { path: theirs.path.clone(), cookie: mine.cookie.clone() };
    finish(&client, &crossed).await.problem(401, "sso_failed");
    // A right state with another log-in's code: the nonce in its token is not the one that was asked with.
    let parameter = |path: &str, name: &str| {
        let query = path.split_once('?').unwrap().1;
        query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    };
    let swapped =
        format!("/auth/sso/callback?code={}&state={}", parameter(&theirs.path, "code"), parameter(&mine.path, "state"));
    finish(&client, &Returning { path: swapped, cookie: mine.cookie.clone() }).await.problem(401, "sso_failed");
    let stranger = format!("{}&iss=https://evil.example", mine.path);
    finish(&client, &Returning { path: stranger, cookie: mine.cookie.clone() }).await.problem(401, "sso_failed");
    finish(&client, &mine).await.ok(200);
    finish(&client, &mine).await.problem(401, "sso_failed");
}

async fn signing_on_can_be_demanded_of_all_but_owners(database: TestDatabase) {
    let provider = Provider::start(&[]).await;
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (admin, _) = org.person("admin", json!([])).await;
    let email = admin.get("/auth/me").await.ok(200)["email"].as_str().unwrap().to_owned();
    let demanded = with(settings(&provider), json!({"sso_required": true}));
    org.owner.put("/orgs/me/sso", demanded).await.ok(200);
    admin.get("/auth/me").await.problem(401, "unauthenticated");
    org.owner.get("/auth/me").await.ok(200);
    client.login(&email, "correct horse battery staple").await.problem(403, "sso_required");
    client.login(&email, "a wrong password").await.problem(401, "invalid_credentials");
    client.login(&org.email, PASSWORD).await.ok(200);
    org.owner.delete("/orgs/me/sso").await.ok(204);
    client.login(&email, "correct horse battery staple").await.ok(200);
    org.owner.delete("/orgs/me/sso").await.problem(404, "not_found");
}

async fn settings_are_checked_and_the_secret_is_never_shown(database: TestDatabase) {
    let provider = Provider::start(&[]).await;
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let path = "/orgs/me/sso";
    org.owner.get(path).await.problem(404, "not_found");
    for issuer in ["http://sso.example", "https://127.0.0.1:1", "nonsense", "http://169.254.169.254/latest"] {
        let problem = org.owner.put(path, with(settings(&provider), json!({"issuer": issuer}))).await;
        assert_eq!(problem.problem(422, "validation_failed")["errors"][0]["pointer"], "/issuer", "{issuer}");
    }
    let set = org.owner.put(path, settings(&provider)).await.ok(200);
    assert_eq!((&set["email_domains"], &set["max_role"]), (&json!(["sso.example"]), &json!("member")));
    let shown = org.owner.get(path).await.ok(200);
    assert!(!shown.to_string().contains("a secret of the provider"), "{shown}");
    let mut without = settings(&provider);
    without.as_object_mut().unwrap().remove("client_secret");
    org.owner.put(path, without.clone()).await.ok(200);
    let moved = Provider::start(&[]).await;
    let problem = org.owner.put(path, with(without, json!({"issuer": moved.issuer}))).await;
    assert_eq!(problem.problem(422, "validation_failed")["errors"][0]["pointer"], "/client_secret");

    let (member, _) = org.person("member", json!(["org:write"])).await;
    let above = with(settings(&provider), json!({"max_role": "admin"}));
    member.put(path, above).await.problem(403, "grant_not_allowed");
    let (viewer, _) = org.person("viewer", json!([])).await;
    viewer.put(path, settings(&provider)).await.problem(403, "permission_denied");
    viewer.delete(path).await.problem(403, "permission_denied");
}
