//! Filters under a name: whose they are, who sees them, what they may hold.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    a_filter_is_its_makers_until_it_is_shared
    a_filter_holds_what_its_list_takes
    filters_of_a_list_are_seen_by_those_who_may_read_it
}

fn filter(name: &str, query: Value) -> Value {
    json!({"name": name, "resource": "audit-logs", "query": query})
}

async fn names(client: &Client) -> Vec<String> {
    let list = client.get("/saved-filters?sort=name").await.ok(200);
    list["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

async fn a_filter_is_its_makers_until_it_is_shared(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let (auditor, auditor_id) = org.person("auditor", json!([])).await;
    let (colleague, _) = org.person("auditor", json!([])).await;
    let risky = filter(" Risky ", json!({"min_risk_score": 70, "sort": "occurred_at"}));
    let made = auditor.post("/saved-filters", risky.clone()).await;
    assert_eq!(made.header("etag"), "\"1\"");
    let made = made.ok(201);
    assert_eq!((&made["name"], &made["created_by"]), (&json!("Risky"), &json!(auditor_id)));
    assert_eq!((&made["query"]["min_risk_score"], &made["shared"]), (&json!(70), &json!(false)));
    auditor.post("/saved-filters", risky.clone()).await.problem(409, "conflict");
    colleague.post("/saved-filters", risky).await.ok(201);

    let path = format!("/saved-filters/{}", made["id"].as_str().unwrap());
    assert_eq!(auditor.get(&path).await.ok(200), made);
    for other in [&colleague, &org.owner] {
        other.get(&path).await.problem(404, "not_found");
        other.change(Method::PATCH, &path, "\"1\"", json!({"shared": true})).await.problem(404, "not_found");
        other.delete(&path).await.problem(404, "not_found");
    }
    auditor.patch(&path, json!({"shared": true})).await.problem(428, "precondition_required");
    let shared = auditor.change(Method::PATCH, &path, "\"1\"", json!({"shared": true})).await.ok(200);
    assert_eq!((&shared["version"], &shared["query"]), (&json!(2), &made["query"]));
    auditor.change(Method::PATCH, &path, "\"1\"", json!({"name": "x"})).await.problem(412, "precondition_failed");
    assert_eq!(names(&colleague).await, ["Risky", "Risky"]);
    assert_eq!(colleague.get(&path).await.ok(200), shared);
    // Seen is not changed: that takes its maker, or who may change the organization.
    colleague.change(Method::PATCH, &path, "\"2\"", json!({"name": "x"})).await.problem(403, "permission_denied");
    colleague.delete(&path).await.problem(403, "permission_denied");
    org.owner.change(Method::PATCH, &path, "\"2\"", json!({"name": "Ours"})).await.ok(200);
    org.owner.delete(&path).await.ok(204);
    auditor.get(&path).await.problem(404, "not_found");
    assert_eq!(names(&colleague).await, ["Risky"]);
}

async fn a_filter_holds_what_its_list_takes(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let save = |body: Value| async { org.owner.post("/saved-filters", body).await };
    let pointers = |problem: Value| -> Vec<String> {
        problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| fault["pointer"].as_str().unwrap().to_owned())
            .collect()
    };
    let bad = json!({"min_risk_score": 170, "colour": "red", "action": "explode", "cursor": "x", "user_id": null});
    let problem = save(filter("bad", bad)).await.problem(422, "validation_failed");
    let expected = ["/query/action", "/query/colour", "/query/min_risk_score", "/query/user_id", "/query/cursor"]
        .map(str::to_owned);
    assert_eq!(pointers(problem), expected);
    let backwards = json!({"from": "2026-11-25T00:00:00Z", "to": "2026-11-24T00:00:00Z"});
    let problem = save(filter("bad", backwards.clone())).await.problem(422, "validation_failed");
    assert_eq!(pointers(problem), ["/query/to"]);
    let of_the_other = json!({"name": "x", "resource": "admin-events", "query": {"min_risk_score": 1}});
    save(of_the_other).await.problem(422, "validation_failed");
    save(json!({"name": "x", "resource": "users", "query": {}})).await.problem(422, "validation_failed");
    assert_eq!(names(&org.owner).await, [""; 0], "nothing of all that was kept");

    let made = save(filter("good", json!({"action": "block"}))).await.ok(201);
    let path = format!("/saved-filters/{}", made["id"].as_str().unwrap());
    let worse = org.owner.change(Method::PATCH, &path, "\"1\"", json!({"query": backwards})).await;
    worse.problem(422, "validation_failed");
    // What was saved is what the list takes.
    let query =
        made["query"].as_object().unwrap().iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap()));
    org.owner.get(&format!("/audit-logs?{}", query.collect::<Vec<_>>().join("&"))).await.ok(200);
}

async fn filters_of_a_list_are_seen_by_those_who_may_read_it(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let events = json!({"name": "events", "resource": "admin-events", "query": {"outcome": "refused"}, "shared": true});
    let made = org.owner.post("/saved-filters", events.clone()).await.ok(201);
    org.owner
        .post("/saved-filters", json!({"name": "mine", "resource": "audit-logs", "query": {}, "shared": true}))
        .await
        .ok(201);
    assert_eq!(names(&org.owner).await, ["events", "mine"]);
    // May read requests, and not what admins do.
    let (reader, _) = org.person("member", json!([])).await;
    assert_eq!(names(&reader).await, ["mine"]);
    let path = format!("/saved-filters/{}", made["id"].as_str().unwrap());
    reader.get(&path).await.problem(404, "not_found");
    reader.post("/saved-filters", events).await.problem(403, "permission_denied");
    let (viewer, _) = org.person("viewer", json!([])).await;
    viewer.get("/saved-filters").await.problem(403, "permission_denied");
}
