//! What reviewers say counts for the version that judged, and a false positive proposes an exception.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    feedback_is_counted_and_a_false_positive_proposes_an_exception
    feedback_is_refused_where_it_says_nothing
}

async fn scanned(client: &Client, org: &Organization, key: &str, text: &str) -> String {
    let id = client.process(key, text).await.ok(200)["request_id"].as_str().unwrap().to_owned();
    for _ in 0..200 {
        let logs = org.owner.get("/audit-logs").await.ok(200);
        if let Some(row) = logs["data"].as_array().unwrap().iter().find(|row| row["request_id"] == id) {
            return format!("/audit-logs/{}/feedback", row["id"].as_str().unwrap());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{id} does not appear in the audit trail");
}

async fn feedback_is_counted_and_a_false_positive_proposes_an_exception(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    let document = json!({"rules": {"EMAIL_ADDRESS": {"action": "block"}}});
    let policy = json!({"name": "house rules", "document": document, "is_default": true});
    let policy = org.owner.post("/policies", policy).await.ok(201);
    let id = policy["id"].as_str().unwrap();
    let (text, other) = ("write to press@acme.example", "write to ann@acme.example");
    let [wrong, right] = [scanned(&client, &org, &key, text).await, scanned(&client, &org, &key, other).await];

    let reviewer = org.person("auditor", json!(["audit:review"])).await.0;
    let said = reviewer.post(&right, json!({"verdict": "true_positive"})).await.ok(200);
    assert_eq!(said["data"][0]["rule_id"], "pii.email_address");
    assert_eq!((&said["data"][0]["policy_version_id"], &said["draft_id"]), (&policy["version_id"], &Value::Null));
    let body = json!({"verdict": "false_positive", "comment": "the address of the press office", "text": "press@acme.example"});
    let said = reviewer.post(&wrong, body.clone()).await.ok(200);
    assert_eq!(said["data"][0]["verdict"], "false_positive");
    let current = org.owner.get(&format!("/policies/{id}")).await.ok(200);
    assert_eq!((&current["false_positives"], &current["false_positive_rate"]), (&json!(1), &json!(0.5)));
    let impact = org.owner.get(&format!("/policies/{id}/impact")).await.ok(200);
    let expected = json!([{"rule_id": "pii.email_address", "true_positives": 1, "false_positives": 1, "false_positive_rate": 0.5}]);
    assert_eq!(impact["rules"], expected);

    let draft = format!("/policy-drafts/{}", said["draft_id"].as_str().unwrap());
    let proposed = org.owner.get(&draft).await.ok(200);
    assert_eq!((&proposed["is_proposal"], &proposed["policy_id"]), (&json!(true), &policy["id"]));
    let entry = &proposed["document"]["allow_list"][0];
    assert_eq!((&entry["rule"], &entry["text"]), (&json!("pii.email_address"), &json!("press@acme.example")));
    assert!(entry["expires_at"].is_string() && entry["owner"].as_str().unwrap().contains('@'), "{entry}");
    assert_eq!(client.process(&key, text).await.ok(200)["action"], "block", "nobody has published it");
    // The same again changes nothing; another exception goes into the same draft.
    reviewer.post(&wrong, body).await.ok(200);
    assert_eq!(org.owner.get(&draft).await.ok(200)["revision"], 1);
    let another = json!({"verdict": "false_positive", "text": "ann@acme.example"});
    let said = reviewer.post(&right, another).await.ok(200);
    assert_eq!(said["draft_id"], proposed["id"]);
    assert_eq!(org.owner.get(&draft).await.ok(200)["document"]["allow_list"].as_array().unwrap().len(), 2);
    let current = org.owner.get(&format!("/policies/{id}")).await.ok(200);
    assert_eq!(
        (&current["false_positives"], &current["false_positive_rate"]),
        (&json!(2), &json!(1.0)),
        "the last word"
    );

    org.owner.change(Method::POST, &format!("{draft}/publish"), "\"2\"", Value::Null).await.ok(200);
    assert_eq!(client.process(&key, text).await.ok(200)["action"], "allow");
    assert_eq!(client.process(&key, "write to bob@acme.example").await.ok(200)["action"], "block");
    let listed = reviewer.get(&right).await.ok(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    let events = org.owner.get("/admin-events?action=audit_feedback.create").await.ok(200);
    assert_eq!(events["data"].as_array().unwrap().len(), 4);
    assert!(!events.to_string().contains("press@acme.example"), "{events:#}");
}

async fn feedback_is_refused_where_it_says_nothing(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    let clean = scanned(&client, &org, &key, "a harmless sentence").await;
    let faulty = "validation_failed";
    org.owner.post(&clean, json!({"verdict": "false_positive"})).await.problem(422, faulty);
    let both = scanned(&client, &org, &key, "ada@example.com and 4111 1111 1111 1111").await;
    let unknown = json!({"verdict": "false_positive", "rule_id": "pii.us_ssn"});
    org.owner.post(&both, unknown).await.problem(422, faulty);
    // Which of the two is meant?
    let text = json!({"verdict": "false_positive", "text": "ada@example.com"});
    org.owner.post(&both, text).await.problem(422, faulty);
    org.owner.post(&both, json!({"verdict": "true_positive", "text": "x"})).await.problem(422, faulty);
    assert_eq!(org.owner.get(&both).await.ok(200)["data"], json!([]), "nothing is kept");
    let said = org.owner.post(&both, json!({"verdict": "false_positive"})).await.ok(200);
    assert_eq!(said["data"].as_array().unwrap().len(), 2, "both rules");
    let by_preset = json!({"verdict": "false_positive", "text": "ada@example.com", "rule_id": "pii.email_address"});
    assert_eq!(org.owner.post(&both, by_preset).await.ok(200)["draft_id"], Value::Null, "a preset has no drafts");
    let (auditor, _) = org.person("auditor", json!([])).await;
    auditor.get(&both).await.ok(200);
    auditor.post(&both, json!({"verdict": "true_positive"})).await.problem(403, "permission_denied");
}
