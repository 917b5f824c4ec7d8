//! Drafts, approvals, differences and going back: each step is an event, and holds on the next request.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_draft_is_looked_at_published_and_taken_back
    where_approval_is_demanded_nobody_changes_policies_alone
}

const CARD: &str = "My credit card is 4111 1111 1111 1111";

fn policy(action: &str) -> Value {
    json!({"name": "house rules", "document": {"rules": {"CREDIT_CARD": {"action": action}}}, "is_default": true})
}

async fn publish(client: &Client, draft: &Value, tag: &str) -> super::client::Answer {
    client.change(Method::POST, &format!("{}/publish", path(draft)), tag, Value::Null).await
}

fn path(draft: &Value) -> String {
    format!("/policy-drafts/{}", draft["id"].as_str().unwrap())
}

async fn actions(owner: &Client) -> Vec<String> {
    let events = owner.get("/admin-events?limit=200").await.ok(200);
    let actions = events["data"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap().to_owned());
    actions.filter(|action| action.starts_with("policy")).collect()
}

async fn a_draft_is_looked_at_published_and_taken_back(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    let action = async || client.process(&key, CARD).await.ok(200)["action"].as_str().unwrap().to_owned();
    let first = org.owner.post("/policies", policy("flag")).await.ok(201);
    let id = first["id"].as_str().unwrap();
    assert_eq!(action().await, "flag");

    let created = org.owner.post(&format!("/policies/{id}/drafts"), policy("redact")).await;
    assert_eq!(created.header("etag"), "\"1\"");
    let draft = created.ok(201);
    assert_eq!((&draft["policy_id"], &draft["parent_policy_id"]), (&first["id"], &first["version_id"]));
    assert_eq!(action().await, "flag", "not in force");
    let edited = org.owner.change(Method::PUT, &path(&draft), "\"1\"", policy("block")).await;
    assert_eq!(edited.header("etag"), "\"2\"");
    edited.ok(200);
    org.owner.change(Method::PUT, &path(&draft), "\"1\"", policy("flag")).await.problem(412, "precondition_failed");
    let faulty = json!({"name": "house rules", "document": {"rules": {"CARD": {"action": "block"}}}});
    org.owner.change(Method::PUT, &path(&draft), "\"2\"", faulty).await.problem(422, "validation_failed");
    let diff = org.owner.get(&format!("{}/diff", path(&draft))).await.ok(200);
    assert_eq!((&diff["from"], &diff["to"]), (&json!(1), &Value::Null));
    let change = &diff["changes"][0];
    assert_eq!(change["pointer"], "/document/rules/CREDIT_CARD/action");
    assert_eq!((&change["kind"], &change["summary"]), (&json!("changed"), &json!("CREDIT_CARD action: flag → block")));
    let listed = org.owner.get(&format!("/policy-drafts?policy_id={id}")).await.ok(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);

    publish(&org.owner, &draft, "\"1\"").await.problem(412, "precondition_failed");
    let second = publish(&org.owner, &draft, "\"2\"").await.ok(200);
    assert_eq!((&second["version_id"], &second["version"]), (&draft["id"], &json!(2)));
    assert_eq!(action().await, "block");
    org.owner.get(&path(&draft)).await.problem(404, "not_found");
    let read = org.owner.get(&format!("/policies/{id}/versions/1")).await.ok(200);
    assert_eq!((&read["is_active"], &read["document"]), (&json!(false), &first["document"]));
    for unknown in ["9", "0", "x"] {
        org.owner.get(&format!("/policies/{id}/versions/{unknown}")).await.problem(404, "not_found");
    }
    let diff = org.owner.get(&format!("/policies/{id}/diff")).await.ok(200);
    assert_eq!((&diff["from"], &diff["to"], &diff["changes"][0]), (&json!(1), &json!(2), change));
    let same = org.owner.get(&format!("/policies/{id}/diff?from=2&to=2")).await.ok(200);
    assert_eq!(same["changes"], json!([]));
    org.owner.get(&format!("/policies/{id}/diff?from=9")).await.problem(400, "invalid_query");

    let back = org.owner.post(&format!("/policies/{id}/rollback"), json!({})).await.ok(200);
    assert_eq!((&back["version"], &back["document"]), (&json!(3), &first["document"]));
    assert_eq!((&back["comment"], &back["created_by"]), (&json!("rolled back to version 1"), &json!(org.user_id)));
    assert_eq!(action().await, "flag");
    let versions = org.owner.get(&format!("/policies/{id}/versions")).await.ok(200);
    assert!(versions["data"][1]["rolled_back_at"].is_string(), "{versions:#}");
    org.owner.post(&format!("/policies/{id}/rollback"), json!({"version": 3})).await.problem(422, "validation_failed");
    let expected =
        ["policy.rollback", "policy_draft.publish", "policy_draft.update", "policy_draft.create", "policy.create"];
    assert_eq!(actions(&org.owner).await, expected);
}

async fn where_approval_is_demanded_nobody_changes_policies_alone(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (admin, admin_id) = org.person("admin", json!([])).await;
    let (writer, _) = org.person("member", json!(["policies:write"])).await;
    let first = org.owner.post("/policies", policy("flag")).await.ok(201);
    let policy_path = format!("/policies/{}", first["id"].as_str().unwrap());
    org.owner.patch("/orgs/me", json!({"settings": {"require_policy_approval": true}})).await.ok(200);

    let refused = "approval_required";
    org.owner.post("/policies", json!({"name": "another", "document": {}})).await.problem(409, refused);
    org.owner.change(Method::PUT, &policy_path, "\"1\"", policy("block")).await.problem(409, refused);
    org.owner.delete(&policy_path).await.problem(409, refused);
    org.owner.post("/policies/apply", policy("block")).await.problem(409, refused);
    let draft = writer.post(&format!("{policy_path}/drafts"), policy("block")).await.ok(201);
    let approve = async |who: &Client, tag: &str| {
        who.change(Method::POST, &format!("{}/approve", path(&draft)), tag, Value::Null).await
    };
    publish(&org.owner, &draft, "\"1\"").await.problem(409, refused);
    approve(&writer, "\"1\"").await.problem(409, "conflict");
    let approved = approve(&admin, "\"1\"").await.ok(200);
    assert_eq!((&approved["approved_by"], approved["approved_at"].is_string()), (&json!(admin_id), true));
    // What was approved is no longer what it says.
    org.owner.change(Method::PUT, &path(&draft), "\"1\"", policy("redact")).await.ok(200);
    publish(&admin, &draft, "\"2\"").await.problem(409, refused);
    approve(&org.owner, "\"2\"").await.problem(409, "conflict");
    approve(&admin, "\"1\"").await.problem(412, "precondition_failed");
    approve(&admin, "\"2\"").await.ok(200);
    let published = publish(&writer, &draft, "\"2\"").await.ok(200);
    assert_eq!((&published["version"], &published["approved_by"]), (&json!(2), &json!(admin_id)));
    org.owner.post(&format!("{policy_path}/rollback"), json!({})).await.ok(200);
    assert!(actions(&org.owner).await.contains(&"policy_draft.approve".to_owned()));
}
