//! The end of an organization: deleted, refused everywhere, restored, exported, removed for good.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::client::{Client, Organization, PASSWORD};
use crate::support::raw::PATIENCE;
use crate::support::{Sentinel, TestDatabase, chat_body, command, on_both_engines, reply};

on_both_engines! {
    a_deleted_organization_is_refused_at_once_and_restored_by_its_token
    deleting_takes_the_owner_the_name_and_the_password
    the_operator_deletes_restores_and_removes
    an_export_has_everything_and_no_secret
}

async fn name(org: &Organization) -> String {
    org.owner.get("/orgs/me").await.ok(200)["name"].as_str().unwrap().to_owned()
}

/// A request to the gateway with a key.
async fn ask(sentinel: &Sentinel, key: &str) -> u16 {
    let request = sentinel.client.post(format!("{}/v1/chat/completions", sentinel.gateway_url()));
    reply(request.header("x-api-key", key).json(&chat_body("hello"))).await.status
}

async fn until(status: u16, ask: impl AsyncFn() -> u16) {
    let begun = std::time::Instant::now();
    while ask().await != status {
        assert!(begun.elapsed() < PATIENCE, "never {status}");
    }
}

async fn mails(outbox: &std::path::Path, count: usize) -> Vec<String> {
    let begun = std::time::Instant::now();
    loop {
        let mut mails = Vec::new();
        for entry in std::fs::read_dir(outbox).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "eml") {
                mails.push(std::fs::read_to_string(path).unwrap());
            }
        }
        if mails.len() >= count {
            return mails;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {count} mails", mails.len());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn a_deleted_organization_is_refused_at_once_and_restored_by_its_token(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let outbox = folder.path().join("outbox");
    let sentinel = Sentinel::start_with(database, |config| config.mail.outbox = outbox.clone()).await;
    let client = Client::new(&sentinel);
    let (org, other) = (Organization::register(&client).await, Organization::register(&client).await);
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    let (second, _) = org.person("owner", json!([])).await;
    let scim = org.owner.post("/orgs/me/scim-token", Value::Null).await.ok(201);
    let directory = client.with_token(scim["token"].as_str().unwrap());
    assert_eq!(ask(&sentinel, &key).await, 200);
    directory.get("/scim/v2/Users").await.ok(200);

    let body = json!({"name": name(&org).await, "password": PASSWORD});
    let deleted = org.owner.post("/orgs/me/delete", body).await.ok(200);
    assert_eq!(ask(&sentinel, &key).await, 401, "on the next request");
    client.process(&key, "hello").await.problem(401, "invalid_api_key");
    org.owner.get("/auth/me").await.problem(401, "unauthenticated");
    second.get("/auth/me").await.problem(401, "unauthenticated");
    let refresh = client.post("/auth/refresh", json!({"refresh_token": org.refresh_token})).await;
    refresh.problem(401, "invalid_refresh_token");
    assert_eq!(directory.get("/scim/v2/Users").await.status.as_u16(), 401);
    // To a log-in it was never there.
    let (gone, wrong) = (client.login(&org.email, PASSWORD).await, client.login(&other.email, "wrong").await);
    let detail = |problem: Value| (problem["detail"].clone(), problem["title"].clone());
    assert_eq!(detail(gone.problem(401, "invalid_credentials")), detail(wrong.problem(401, "invalid_credentials")));
    other.owner.get("/orgs/me").await.ok(200);

    let token = deleted["restore_token"].as_str().unwrap();
    let mails = mails(&outbox, 2).await;
    assert!(mails.iter().all(|mail| mail.replace("=\r\n", "").contains(token)), "each owner is told: {mails:?}");
    client.post("/orgs/restore", json!({"token": "nonsense"})).await.problem(400, "invalid_restore_token");
    client.post("/orgs/restore", json!({"token": token})).await.ok(204);
    client.post("/orgs/restore", json!({"token": token})).await.problem(400, "invalid_restore_token");
    assert_eq!(ask(&sentinel, &key).await, 200);
    org.owner.get("/auth/me").await.problem(401, "unauthenticated");
    let tokens = client.login(&org.email, PASSWORD).await.ok(200);
    let owner = client.with_token(tokens["access_token"].as_str().unwrap());
    for (action, actor) in [("delete", json!(org.user_id)), ("restore", Value::Null)] {
        let events = owner.get(&format!("/admin-events?action=organization.{action}")).await.ok(200);
        assert_eq!((&events["data"][0]["actor_id"], &events["data"][0]["target_id"]), (&actor, &json!(org.org_id)));
    }
    assert!(!sentinel.database.event_text().await.contains(token));
    sentinel.stop().await;
}

async fn deleting_takes_the_owner_the_name_and_the_password(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let (admin, _) = org.person("admin", json!([])).await;
    let right = json!({"name": name(&org).await, "password": PASSWORD});
    let refused = admin.post("/orgs/me/delete", right.clone()).await;
    assert!(refused.header("www-authenticate").ends_with("scope=\"org:delete\""));
    refused.problem(403, "permission_denied");
    let pointers = async |body: Value| {
        let problem = org.owner.post("/orgs/me/delete", body).await.problem(422, "validation_failed");
        problem["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(pointers(json!({"name": "Something else"})).await, ["/name", "/password"]);
    assert_eq!(pointers(json!({"name": right["name"]})).await, ["/password"]);
    assert_eq!(pointers(json!({"name": right["name"], "password": "a wrong one"})).await, ["/password"]);
    assert_eq!(
        pointers(json!({"name": right["name"].as_str().unwrap().to_lowercase(), "password": PASSWORD})).await,
        ["/name"]
    );
    org.owner.get("/orgs/me").await.ok(200);
    // An owner may lend the permission.
    let (trusted, _) = org.person("admin", json!(["org:delete"])).await;
    let body = json!({"name": right["name"], "password": "correct horse battery staple"});
    trusted.post("/orgs/me/delete", body).await.ok(200);
    org.owner.get("/orgs/me").await.problem(401, "unauthenticated");
    sentinel.stop().await;
}

async fn the_operator_deletes_restores_and_removes(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let folder = tempfile::tempdir().unwrap();
    let url = sentinel.database.config().url;
    let orgs = async |arguments: &[&str]| {
        let arguments = [&["orgs", "--json"], arguments].concat();
        command(folder.path(), &[("DATABASE_URL", &url)], &arguments).await
    };
    let key = sentinel.tenant.key.clone();
    assert_eq!(ask(&sentinel, &key).await, 200);
    let deleted = orgs(&["delete", "--org", "Harness"]).await["organizations"][0].clone();
    assert!(deleted["restorable_until"].as_str() > deleted["deleted_at"].as_str(), "{deleted}");
    until(401, async || ask(&sentinel, &key).await).await;
    orgs(&["restore", "--org", "harness"]).await;
    until(200, async || ask(&sentinel, &key).await).await;

    orgs(&["delete", "--org", "Harness"]).await;
    until(401, async || ask(&sentinel, &key).await).await;
    let purge = |confirm: &'static str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sentinel"));
        command.args(["orgs", "purge", "--org", "Harness", "--confirm", confirm]).env("DATABASE_URL", &url);
        command.env("SENTINEL_DATA_DIR", folder.path().join("data"));
        let output = tokio::task::block_in_place(|| command.output()).unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, said) = purge("Harness");
    assert!(!done && said.contains("`harness`"), "{said}");
    let (done, said) = purge("harness");
    assert!(!done && said.contains("less than a minute ago"), "{said}");
    backdate(&sentinel.database).await;
    let (done, said) = purge("harness");
    assert!(done, "{said}");
    assert_eq!(orgs(&["list"]).await["organizations"], json!([]));
    assert_eq!(ask(&sentinel, &key).await, 401);
    sentinel.stop().await;
}

/// As if it had been deleted an hour ago.
async fn backdate(database: &TestDatabase) {
    let url = database.config().url;
    if url.starts_with("sqlite") {
        let text = "UPDATE organizations SET deleted_at = deleted_at - 3600000000";
        sqlx::query(text).execute(&mut SqliteConnection::connect(&url).await.unwrap()).await.unwrap();
    } else {
        let text = AssertSqlSafe("UPDATE organizations SET deleted_at = deleted_at - interval '1 hour'");
        sqlx::query(text).execute(&mut database.admin().await).await.unwrap();
    }
}

async fn an_export_has_everything_and_no_secret(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (org, other) = (Organization::register(&client).await, Organization::register(&client).await);
    let workspace = org.workspace().await["id"].clone();
    let (_, key) = org.api_key(&workspace).await;
    let policy = |name: &str| json!({"name": name, "document": {"extends": "monitor"}});
    let made = org.owner.post("/policies", policy("p")).await.ok(201);
    let path = format!("/policies/{}", made["id"].as_str().unwrap());
    org.owner.change(Method::PUT, &path, "\"1\"", policy("q")).await.ok(200);
    let filter = json!({"resource": "audit-logs", "name": "mine", "query": {"action": "block"}});
    let (member, id) = org.person("member", json!([])).await;
    let membership = format!("/workspaces/{}/members/{id}", workspace.as_str().unwrap());
    org.owner.put(&membership, json!({"permissions": ["api_keys:write"]})).await.ok(200);
    let invitation = json!({"email": "guest@people.example", "full_name": "G G", "role": "viewer"});
    org.owner.post("/orgs/me/invitations", invitation).await.ok(201);
    member.post("/saved-filters", filter).await.ok(201);
    let secret = "sk-a-providers-own-secret-1234567890";
    let credential = json!({"workspace_id": workspace, "upstream": "openai", "name": "c", "credential": secret});
    org.owner.post("/provider-credentials", credential).await.ok(201);
    // More than one page of people.
    for n in 0..205 {
        let invite = json!({"email": format!("p{n}@{}.example", org.org_id), "full_name": "P P", "role": "viewer"});
        org.owner.post("/orgs/me/users/invite", invite).await.ok(201);
    }
    client.process(&key, "a harmless sentence").await.ok(200);
    sentinel.database.wait_for_row("source = 'process'").await;

    member.get("/orgs/me/export").await.problem(403, "permission_denied");
    let export = org.owner.get("/orgs/me/export").await;
    assert_eq!(export.header("content-type"), "application/jsonl");
    assert_eq!(export.header("content-disposition"), "attachment; filename=\"organization.jsonl\"");
    let text = export.ok(200);
    let text = text.as_str().unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut counts = BTreeMap::<&str, usize>::new();
    for line in &lines {
        *counts.entry(line["type"].as_str().unwrap()).or_default() += 1;
    }
    assert!(counts.remove("admin_event").unwrap() > 205, "{counts:?}");
    let expected = [
        ("api_key", 1),
        ("audit_log", 1),
        ("invitation", 1),
        ("organization", 1),
        ("policy", 2),
        ("provider_credential", 1),
        ("saved_filter", 1),
        ("user", 207),
        ("workspace", 1),
        ("workspace_member", 1),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
    assert_eq!(lines[0]["data"]["id"], json!(org.org_id));
    for hidden in [&key, PASSWORD, secret, "$argon2", &other.org_id, &other.email, "organization.export"] {
        assert!(!text.contains(hidden), "{hidden}");
    }
    let short = org.owner.get("/orgs/me/export?audit_logs=false").await.ok(200);
    assert!(!short.as_str().unwrap().contains("\"audit_log\"") && short.as_str().unwrap().contains("\"admin_event\""));
    let events = org.owner.get("/admin-events?action=organization.export").await.ok(200);
    assert_eq!(events["data"].as_array().unwrap().len(), 2);
    assert_eq!(events["data"][0]["after"], json!({"audit_logs": false}));
    sentinel.stop().await;
}
