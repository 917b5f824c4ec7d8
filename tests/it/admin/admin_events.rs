//! Every write is an event; so are reads of audit data, exports and refused attempts.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Answer, Client, Organization, PASSWORD};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    every_writing_operation_leaves_an_event_or_says_why_not
    an_event_says_who_did_what_from_where_and_what_changed
    secrets_are_in_no_event
    refused_attempts_are_recorded_where_they_belong
    events_are_filtered_paged_and_of_one_organization
    exports_are_whole_escaped_and_recorded
    a_refused_scan_has_its_audit_row
}

/// Operations that write without an event, and why.
const WITHOUT: &[(&str, &str)] = &[
    ("acceptInvitation", "needs the mail: admin/invitations.rs"),
    ("confirmMfa", "needs an authenticator: admin/mfa.rs"),
    ("disableMfa", "needs an authenticator: admin/mfa.rs"),
    ("giveFeedback", "needs a request in the trail: admin/feedback.rs"),
    ("forgotPassword", "its event is written with the mail, behind the answer"),
    ("process", "its record is the row in the audit trail of requests"),
    ("refresh", "goes on with a session whose log-in is recorded; a token used twice is recorded by the store"),
    ("regenerateRecoveryCodes", "needs an authenticator: admin/mfa.rs"),
    ("removeSso", "needs a provider: admin/sso.rs"),
    ("resetPassword", "needs the mail: admin/passwords.rs"),
    ("setSso", "needs a provider: admin/sso.rs"),
    ("verifyMfa", "needs an authenticator: admin/mfa.rs"),
];

/// What the operations did, by their name in the OpenAPI document.
type Done = BTreeMap<&'static str, String>;

fn did(done: &mut Done, operation: &'static str, answer: Answer, status: u16) -> Value {
    done.insert(operation, answer.header("x-request-id").to_owned());
    answer.ok(status)
}

/// Calls every writing operation once, with success.
async fn call_all(client: &Client, org: &Organization) -> Done {
    let (owner, mut done) = (&org.owner, Done::new());
    let d = &mut done;

    let body = json!({"email": "new@org.example", "password": PASSWORD, "full_name": "N N", "org_name": "New"});
    did(d, "register", client.post("/auth/register", body).await, 201);
    let tokens = did(d, "login", client.login(&org.email, PASSWORD).await, 200);
    let second = client.with_token(tokens["access_token"].as_str().unwrap());
    did(d, "logout", second.post("/auth/logout", json!({})).await, 204);
    client.login(&org.email, PASSWORD).await.ok(200);
    let sessions = owner.get("/auth/sessions").await.ok(200);
    let other = sessions["data"].as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    did(d, "endSession", owner.delete(&format!("/auth/sessions/{}", other["id"].as_str().unwrap())).await, 204);
    did(d, "endOtherSessions", owner.delete("/auth/sessions").await, 204);
    let change = json!({"current_password": PASSWORD, "new_password": "correct horse battery staple"});
    did(d, "changePassword", owner.post("/auth/password", change).await, 204);
    did(d, "enrolMfa", owner.post("/auth/mfa/enrol", Value::Null).await, 200);

    let token = did(d, "createScimToken", owner.post("/orgs/me/scim-token", Value::Null).await, 201);
    let directory = client.with_token(token["token"].as_str().unwrap());
    let user = |name: &str| json!({"userName": "leaver@people.example", "displayName": name});
    let made = did(d, "createScimUser", directory.post("/scim/v2/Users", user("A B")).await, 201);
    let path = format!("/scim/v2/Users/{}", made["id"].as_str().unwrap());
    let put = directory.request(Method::PUT, &path).json(&user("C D"));
    did(d, "replaceScimUser", directory.send(put).await, 200);
    let off = json!({"Operations": [{"op": "replace", "path": "active", "value": false}]});
    did(d, "patchScimUser", directory.patch(&path, off).await, 200);
    did(d, "removeScimUser", directory.delete(&path).await, 204);
    did(d, "revokeScimToken", owner.delete("/orgs/me/scim-token").await, 204);

    did(d, "updateOrganization", owner.patch("/orgs/me", json!({"name": "Renamed"})).await, 200);
    let invite = json!({"email": "p@people.example", "full_name": "P P", "role": "member"});
    let person = did(d, "inviteUser", owner.post("/orgs/me/users/invite", invite).await, 201);
    let person = format!("/orgs/me/users/{}", person["id"].as_str().unwrap());
    did(d, "updateUser", owner.patch(&person, json!({"role": "viewer"})).await, 200);
    did(d, "removeUser", owner.delete(&person).await, 204);

    let invitation = json!({"email": "guest@people.example", "full_name": "G G", "role": "member"});
    let made = did(d, "createInvitation", owner.post("/orgs/me/invitations", invitation).await, 201);
    let invitation = format!("/orgs/me/invitations/{}", made["id"].as_str().unwrap());
    did(d, "resendInvitation", owner.post(&format!("{invitation}/resend"), Value::Null).await, 200);
    did(d, "revokeInvitation", owner.delete(&invitation).await, 204);

    let workspace = did(d, "createWorkspace", owner.post("/workspaces", json!({"name": "w"})).await, 201);
    let path = format!("/workspaces/{}", workspace["id"].as_str().unwrap());
    let changed = owner.change(Method::PATCH, &path, "\"1\"", json!({"name": "w2"})).await;
    did(d, "updateWorkspace", changed, 200);
    let member = format!("{path}/members/{}", org.user_id);
    let granted = owner.put(&member, json!({"permissions": ["api_keys:write"]})).await;
    did(d, "setWorkspaceMember", granted, 200);
    did(d, "removeWorkspaceMember", owner.delete(&member).await, 204);
    let key = json!({"workspace_id": workspace["id"], "name": "k"});
    let key = did(d, "createApiKey", owner.post("/api-keys", key).await, 201);
    let key = format!("/api-keys/{}", key["id"].as_str().unwrap());
    did(d, "updateApiKey", owner.patch(&key, json!({"name": "k2"})).await, 200);
    let rotated = did(d, "rotateApiKey", owner.post(&format!("{key}/rotate"), json!({"grace_seconds": 60})).await, 201);
    did(d, "revokeApiKey", owner.delete(&format!("/api-keys/{}", rotated["id"].as_str().unwrap())).await, 204);
    let credential =
        json!({"workspace_id": workspace["id"], "upstream": "ollama", "name": "n", "credential": "sk-0123456789"});
    let made = did(d, "createProviderCredential", owner.post("/provider-credentials", credential).await, 201);
    let credential = format!("/provider-credentials/{}", made["id"].as_str().unwrap());
    did(d, "testProviderCredential", owner.post(&format!("{credential}/test"), Value::Null).await, 200);
    did(d, "deleteProviderCredential", owner.delete(&credential).await, 204);
    did(d, "archiveWorkspace", owner.post(&format!("{path}/archive"), Value::Null).await, 200);
    did(d, "unarchiveWorkspace", owner.post(&format!("{path}/unarchive"), Value::Null).await, 200);
    did(d, "deleteWorkspace", owner.delete(&path).await, 204);
    did(d, "restoreWorkspace", owner.post(&format!("{path}/restore"), Value::Null).await, 200);

    did(d, "createEventTicket", owner.post("/events/ticket", Value::Null).await, 201);

    let policy = |name: &str| json!({"name": name, "document": {"extends": "balanced"}});
    let made = did(d, "createPolicy", owner.post("/policies", policy("p")).await, 201);
    let path = format!("/policies/{}", made["id"].as_str().unwrap());
    did(d, "replacePolicy", owner.change(Method::PUT, &path, "\"1\"", policy("q")).await, 200);
    let rolled = owner.post(&format!("{path}/rollback"), json!({"version": 1})).await;
    did(d, "rollbackPolicy", rolled, 200);
    let cases = json!({"cases": [{"input": "hello", "expect": {"action": "allow"}}]});
    did(d, "testPolicy", owner.post(&format!("{path}/test"), cases).await, 200);
    let drafted = did(d, "draftPolicyVersion", owner.post(&format!("{path}/drafts"), policy("p")).await, 201);
    let draft = format!("/policy-drafts/{}", drafted["id"].as_str().unwrap());
    did(d, "replacePolicyDraft", owner.change(Method::PUT, &draft, "\"1\"", policy("s")).await, 200);
    let (second, _) = org.person("admin", json!([])).await;
    let approved = second.change(Method::POST, &format!("{draft}/approve"), "\"2\"", Value::Null).await;
    did(d, "approvePolicyDraft", approved, 200);
    let published = owner.change(Method::POST, &format!("{draft}/publish"), "\"2\"", Value::Null).await;
    did(d, "publishPolicyDraft", published, 200);
    let drafted = did(d, "createPolicyDraft", owner.post("/policy-drafts", policy("n")).await, 201);
    let draft = format!("/policy-drafts/{}", drafted["id"].as_str().unwrap());
    did(d, "deletePolicyDraft", owner.delete(&draft).await, 204);
    did(d, "applyPolicy", owner.post("/policies/apply", policy("applied")).await, 200);
    did(d, "replayPolicy", owner.post(&format!("{path}/replay"), json!({})).await, 200);
    let texts = json!({"texts": [{"text": "hello"}]});
    did(d, "replayTexts", owner.post(&format!("{path}/replay/texts"), texts).await, 200);
    let candidate = owner.post(&format!("{path}/drafts"), policy("s")).await.ok(201)["id"].clone();
    let (rollout, shadow) = (format!("{path}/rollout"), json!({"draft_id": candidate, "stage": "shadow"}));
    did(d, "startRollout", owner.post(&rollout, shadow.clone()).await, 201);
    did(d, "changeRollout", owner.put(&rollout, json!({"stage": "canary", "percentage": 1})).await, 200);
    did(d, "stopRollout", owner.delete(&rollout).await, 204);
    owner.post(&rollout, shadow).await.ok(201);
    did(d, "promoteRollout", owner.post(&format!("{rollout}/promote"), Value::Null).await, 200);
    did(d, "deletePolicy", owner.delete(&path).await, 204);

    let made = did(d, "createDataSet", owner.post("/data-sets", json!({"name": "s"})).await, 201);
    let path = format!("/data-sets/{}", made["id"].as_str().unwrap());
    let values = json!({"values": ["CUST-000001"]});
    did(d, "addDataSetValues", owner.post(&format!("{path}/values"), values).await, 200);
    did(d, "deleteDataSet", owner.delete(&path).await, 204);

    let filter = json!({"name": "f", "resource": "audit-logs", "query": {"action": "block"}});
    let made = did(d, "createSavedFilter", owner.post("/saved-filters", filter).await, 201);
    let path = format!("/saved-filters/{}", made["id"].as_str().unwrap());
    let changed = owner.change(Method::PATCH, &path, "\"1\"", json!({"shared": true})).await;
    did(d, "updateSavedFilter", changed, 200);
    did(d, "deleteSavedFilter", owner.delete(&path).await, 204);

    let settings = json!({"review_hours": 24});
    did(d, "updateAuditSettings", owner.patch("/orgs/me/audit-settings", settings).await, 200);
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    client.process(&key, "hello").await.ok(200);
    let request = loop {
        let rows = owner.get("/audit-logs").await.ok(200);
        match rows["data"][0]["id"].as_str() {
            Some(id) => break format!("/audit-logs/{id}"),
            None => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    let user = json!({"user_id": "nobody"});
    did(d, "eraseAuditUsers", owner.post("/audit-logs/erase", user).await, 200);
    let escalate = json!({"reason": "odd", "assignee_id": org.user_id});
    did(d, "escalateAuditLog", owner.post(&format!("{request}/escalate"), escalate).await, 201);
    let later = json!({"assignee_id": null, "due_at": "2099-01-01T00:00:00Z"});
    did(d, "updateAuditReview", owner.patch(&format!("{request}/review"), later).await, 200);
    did(d, "commentAuditReview", owner.post(&format!("{request}/comments"), json!({"body": "hm"})).await, 201);
    let outcome = json!({"outcome": "false_positive", "comment": "harmless"});
    did(d, "resolveAuditLog", owner.post(&format!("{request}/resolve"), outcome).await, 200);

    let name = owner.get("/orgs/me").await.ok(200)["name"].clone();
    let end = json!({"name": name, "password": "correct horse battery staple"});
    let deleted = did(d, "deleteOrganization", owner.post("/orgs/me/delete", end).await, 200);
    let back = json!({"token": deleted["restore_token"]});
    did(d, "restoreOrganization", client.post("/orgs/restore", back).await, 204);
    done
}

async fn every_writing_operation_leaves_an_event_or_says_why_not(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let done = call_all(&client, &org).await;
    let recorded = sentinel.database.event_requests().await;

    let document = client.get("/openapi.json").await.ok(200);
    let mut faults = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !["post", "put", "patch", "delete"].contains(&method.as_str()) {
                continue;
            }
            let id = operation["operationId"].as_str().unwrap();
            let excused = WITHOUT.iter().any(|(operation, _)| *operation == id);
            match done.get(id) {
                _ if excused => {}
                None => faults.push(format!("{method} {path} ({id}) is called by nobody: extend this test")),
                Some(request) if recorded.contains(request) => {}
                Some(_) => faults.push(format!("{method} {path} ({id}) left no event")),
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(done.len() > 15);
}

async fn events(client: &Client, query: &str) -> Vec<Value> {
    client.get(&format!("/admin-events{query}")).await.ok(200)["data"].as_array().unwrap().clone()
}

async fn an_event_says_who_did_what_from_where_and_what_changed(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let workspace = org.workspace().await;
    let path = format!("/workspaces/{}", workspace["id"].as_str().unwrap());
    let request = org.owner.request(Method::PATCH, &path).header("if-match", "\"1\"").header("user-agent", "a test");
    let answer = org.owner.send(request.json(&json!({"name": "renamed"}))).await;
    let request_id = answer.header("x-request-id").to_owned();
    answer.ok(200);
    let event = events(&org.owner, "?action=workspace.update").await.remove(0);
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("user"), &json!(org.user_id)));
    assert_eq!(event["actor_email"], json!(org.email));
    assert_eq!((&event["target_type"], &event["target_id"]), (&json!("workspace"), &workspace["id"]));
    assert_eq!((&event["outcome"], &event["ip"]), (&json!("success"), &json!("127.0.0.1")));
    assert_eq!((&event["user_agent"], &event["request_id"]), (&json!("a test"), &json!(request_id)));
    assert_eq!(event["before"]["name"], workspace["name"]);
    assert_eq!(event["after"]["name"], "renamed");
    assert!(event["after"].get("environment").is_none(), "only what changed: {event:#}");
    // What does not succeed leaves nothing.
    org.owner.change(Method::PATCH, &path, "\"1\"", json!({"name": "again"})).await.problem(412, "precondition_failed");
    assert_eq!(events(&org.owner, "?action=workspace.update").await.len(), 1);
}

async fn secrets_are_in_no_event(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    let invite = json!({"email": "p@people.example", "full_name": "P P", "role": "member"});
    let invited = org.owner.post("/orgs/me/users/invite", invite).await.ok(201);
    let temporary = invited["temporary_password"].as_str().unwrap();
    client.login(&org.email, "a wrong password, surely").await.problem(401, "invalid_credentials");
    let all = sentinel.database.event_text().await;
    for secret in [&key, temporary, PASSWORD, "a wrong password, surely", &org.refresh_token, "$argon2"] {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }
    assert!(all.contains("api_key.create") && all.contains("user.invite"), "{all}");
}

async fn refused_attempts_are_recorded_where_they_belong(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (member, id) = org.person("member", json!([])).await;
    client.login(&org.email, "wrong").await.problem(401, "invalid_credentials");
    let unknown = client.login("nobody@nowhere.example", "wrong").await;
    let unknown_id = unknown.header("x-request-id").to_owned();
    unknown.problem(401, "invalid_credentials");
    member.get("/admin-events").await.problem(403, "permission_denied");
    let stranger = client.get("/policies").await;
    let stranger_id = stranger.header("x-request-id").to_owned();
    stranger.problem(401, "unauthenticated");

    let refused = events(&org.owner, "?outcome=refused").await;
    assert_eq!(refused.len(), 2, "{refused:#?}");
    assert_eq!((&refused[0]["action"], &refused[0]["actor_id"]), (&json!("request.authorize"), &json!(id)));
    assert_eq!(refused[0]["after"], json!({"method": "GET", "route": "/admin-events", "code": "permission_denied"}));
    assert_eq!((&refused[1]["action"], &refused[1]["actor_email"]), (&json!("auth.login"), &json!(org.email)));
    let without = sentinel.database.events_without_organization().await;
    assert!(without.contains(&unknown_id) && without.contains(&stranger_id), "{without:?}");
    assert!(!sentinel.database.event_text().await.contains("nowhere.example"), "what a stranger typed is not kept");
}

async fn events_are_filtered_paged_and_of_one_organization(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let (org, other) = (Organization::register(&client).await, Organization::register(&client).await);
    let (auditor, _) = org.person("auditor", json!([])).await;
    for name in ["one", "two", "three"] {
        org.owner.post("/workspaces", json!({"name": name})).await.ok(201);
    }
    let page = auditor.get("/admin-events?action=workspace.create&limit=2").await.ok(200);
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (2, &json!(true)));
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = auditor.get(&format!("/admin-events?action=workspace.create&limit=2&cursor={cursor}")).await.ok(200);
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (1, &json!(false)));
    let target = rest["data"][0]["target_id"].as_str().unwrap();
    assert_eq!(events(&auditor, &format!("?target={target}&target_type=workspace")).await.len(), 1);
    assert_eq!(events(&auditor, &format!("?actor={}&action=workspace.create", org.user_id)).await.len(), 3);
    let at = rest["data"][0]["occurred_at"].as_str().unwrap();
    assert_eq!(events(&auditor, &format!("?action=workspace.create&from={at}")).await.len(), 3);
    assert_eq!(events(&auditor, &format!("?action=workspace.create&to={at}")).await.len(), 0);
    auditor.get("/admin-events?outcome=maybe").await.problem(400, "invalid_query");
    auditor.get(&format!("/admin-events?from={at}&to={at}")).await.problem(400, "invalid_query");
    assert_eq!(events(&auditor, "?action=admin_event.list").await.len(), 6, "reading is recorded");
    assert_eq!(events(&other.owner, "?action=workspace.create").await.len(), 0);
}

async fn exports_are_whole_escaped_and_recorded(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    // More than one page.
    for n in 0..205 {
        org.owner.patch("/orgs/me", json!({"name": format!("=Org {n}")})).await.ok(200);
    }
    let export = org.owner.get("/admin-events/export?action=organization.update").await;
    assert_eq!(export.header("content-type"), "application/jsonl");
    let text = export.ok(200);
    let lines: Vec<Value> = text.as_str().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 205);
    assert_eq!(lines[0]["after"]["name"], "=Org 204");

    let request = org.owner.request(Method::GET, "/admin-events/export?format=csv").header("user-agent", "=1+1");
    let csv = org.owner.send(request).await;
    assert_eq!(csv.header("content-disposition"), "attachment; filename=\"admin-events.csv\"");
    assert!(csv.ok(200).as_str().unwrap().starts_with("id,occurred_at,actor_type,"));
    let csv = org.owner.get("/admin-events/export?format=csv&action=admin_event.export").await.ok(200);
    let lines: Vec<&str> = csv.as_str().unwrap().lines().collect();
    assert_eq!(lines.len(), 3, "a head and the two exports before: {csv}");
    assert!(lines[1].contains(",'=1+1,"), "{}", lines[1]);

    let scanned = Client::new(&sentinel).process(&key, "a harmless sentence").await.ok(200);
    let id = scanned["request_id"].as_str().unwrap();
    sentinel.database.wait_for_row("source = 'process'").await;
    let logs = org.owner.get("/audit-logs/export").await.ok(200);
    assert_eq!(logs["request_id"], id, "one line is one object");
    let csv = org.owner.get("/audit-logs/export?format=csv&action=allow").await.ok(200);
    assert!(csv.as_str().unwrap().contains(id));
    assert_eq!(events(&org.owner, "?action=audit_log.export").await.len(), 2);

    let report = org.owner.get("/audit-logs/verify").await.ok(200);
    assert_eq!((&report["intact"], &report["checked"], &report["faults"]), (&json!(true), &json!(1), &json!([])));
    assert_eq!(report["streams"][0]["seq"], logs["seq"]);
    assert_eq!(
        org.owner.get("/audit-logs/checkpoints").await.ok(200)["data"],
        json!([]),
        "the first is due in ten minutes"
    );
    assert_eq!(events(&org.owner, "?action=audit_log.verify").await.len(), 1);
}

async fn a_refused_scan_has_its_audit_row(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (record, key) = org.api_key(&org.workspace().await["id"]).await;
    let other = if key.ends_with('x') { "y" } else { "x" };
    let wrong = format!("{}{other}", &key[..key.len() - 1]);
    let scan = |key: Option<&str>, body: &str| {
        let request = client.request(Method::POST, "/process").header("content-type", "application/json");
        let request = key.map_or(request.try_clone().unwrap(), |key| request.header("x-api-key", key));
        client.send(request.body(body.to_owned()))
    };
    let text = r#"{"user_input": "a"}"#;
    let none = scan(None, text).await.problem(401, "invalid_api_key");
    let bad = scan(Some(&wrong), text).await.problem(401, "invalid_api_key");
    let unreadable = scan(Some(&key), "{").await.problem(400, "malformed_json");
    let unfit = scan(Some(&key), "{}").await.problem(422, "validation_failed");
    let answers = [
        (none, 401, "invalid_api_key"),
        (bad, 401, "invalid_api_key"),
        (unreadable, 400, "malformed_json"),
        (unfit, 422, "validation_failed"),
    ];
    sentinel.database.wait_for_row("status = 422").await;
    for (answer, status, code) in answers {
        let row = sentinel.database.audit_row(answer["request_id"].as_str().unwrap()).await.expect("a row");
        assert_eq!((row.status, row.error_code.as_deref()), (Some(status), Some(code)));
        assert_eq!(
            (row.outcome.as_deref(), row.action.as_str(), row.source.as_str()),
            (Some("refused"), "block", "process")
        );
    }
    let own = org.owner.get("/audit-logs").await.ok(200);
    let own = own["data"].as_array().unwrap();
    assert_eq!(own.len(), 2, "those without a valid key belong to nobody");
    assert!(own.iter().all(|row| row["api_key_id"] == record["id"]));
}
