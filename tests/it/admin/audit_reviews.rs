//! The review queue: what a policy or a person escalates, until somebody says what came of it.

use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    what_a_policy_escalates_is_queued_assigned_discussed_and_resolved
}

async fn queue(client: &Client, query: &str) -> Vec<Value> {
    client.get(&format!("/audit-logs/reviews{query}")).await.ok(200)["data"].as_array().unwrap().clone()
}

async fn what_a_policy_escalates_is_queued_assigned_discussed_and_resolved(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    org.owner.patch("/orgs/me/audit-settings", json!({"review_hours": 2})).await.ok(200);
    let document = json!({"extends": "balanced", "escalate": {"min_risk_score": 1}});
    let policy = org.owner.post("/policies", json!({"name": "p", "document": document})).await.ok(201);
    let workspace = org.owner.post("/workspaces", json!({"name": "w", "policy_id": policy["id"]})).await.ok(201);
    let (_, key) = org.api_key(&workspace["id"]).await;
    let risky = client.process(&key, "My credit card is 4111 1111 1111 1111").await.ok(200);
    let harmless = client.process(&key, "a harmless sentence").await.ok(200);
    let id = |answer: &Value| {
        let id = answer["request_id"].as_str().unwrap().strip_prefix("req_").unwrap().to_owned();
        id.parse::<uuid::Uuid>().unwrap()
    };
    let (risky, harmless) = (id(&risky), id(&harmless));
    while org.owner.get("/audit-logs").await.ok(200)["data"].as_array().unwrap().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    let open = queue(&org.owner, "?status=open").await;
    assert_eq!(open.len(), 1, "{open:#?}");
    assert_eq!((&open[0]["audit_log_id"], &open[0]["escalated_by"]), (&json!(risky), &Value::Null));
    let time = |name: &str| open[0][name].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!((time("due_at") - time("escalated_at")).num_hours(), 2, "the organization's time");

    // A person escalates as well, once.
    let path = |what: &str, of| format!("/audit-logs/{of}/{what}");
    let (reviewer, reviewer_id) = org.person("viewer", json!(["audit:review", "audit:read"])).await;
    let body = json!({"reason": "looks odd", "assignee_id": reviewer_id, "due_at": "2099-01-01T00:00:00Z"});
    org.owner.post(&path("escalate", harmless), body.clone()).await.ok(201);
    org.owner.post(&path("escalate", harmless), body).await.problem(409, "conflict");
    let unknown = json!({"assignee_id": org.org_id, "due_at": "2001-01-01T00:00:00Z"});
    let refused = org.owner.request(reqwest::Method::PATCH, &path("review", harmless)).json(&unknown);
    let problem = org.owner.send(refused).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2, "{problem:#}");
    let (auditor, _) = org.person("auditor", json!([])).await;
    auditor.post(&path("resolve", harmless), json!({"outcome": "confirmed"})).await.problem(403, "permission_denied");

    assert_eq!(queue(&reviewer, &format!("?assignee_id={reviewer_id}")).await.len(), 1);
    assert_eq!(queue(&reviewer, "?status=overdue").await.len(), 0);
    let by_due = queue(&auditor, "?sort=due_at").await;
    assert_eq!((&by_due[0]["audit_log_id"], &by_due[1]["audit_log_id"]), (&json!(risky), &json!(harmless)));

    reviewer.post(&path("comments", risky), json!({"body": "asked around"})).await.ok(201);
    let outcome = json!({"outcome": "false_positive", "comment": "a test card"});
    let resolved = reviewer.post(&path("resolve", risky), outcome.clone()).await.ok(200);
    assert_eq!((&resolved["outcome"], &resolved["resolved_by"]), (&json!("false_positive"), &json!(reviewer_id)));
    reviewer.post(&path("resolve", risky), outcome).await.problem(409, "conflict");
    reviewer.patch(&path("review", risky), json!({"due_at": "2099-01-01T00:00:00Z"})).await.problem(409, "conflict");
    let review = auditor.get(&path("review", risky)).await.ok(200);
    let said: Vec<&str> =
        review["comments"].as_array().unwrap().iter().filter_map(|one| one["body"].as_str()).collect();
    assert_eq!(said, ["asked around", "a test card"]);
    assert_eq!(queue(&org.owner, "?status=resolved").await.len(), 1);

    // What was resolved can be opened again.
    org.owner.post(&path("escalate", risky), json!({})).await.ok(201);
    assert_eq!(auditor.get(&path("review", risky)).await.ok(200)["outcome"], Value::Null);
    assert_eq!(queue(&org.owner, "?status=open").await.len(), 2);
}
