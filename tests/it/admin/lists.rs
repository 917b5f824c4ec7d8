//! Lists: pages that join without gap or repeat.

use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    pages_join_without_gap_or_repeat_newest_first
    keys_are_listed_by_workspace
    lists_are_sorted_by_what_is_asked_for_and_pages_join
    a_cursor_of_another_order_is_refused
}

async fn pages_join_without_gap_or_repeat_newest_first(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    for n in 0..6 {
        org.owner.post("/workspaces", json!({"name": format!("w{n}")})).await.ok(201);
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    let mut pages = 0;
    loop {
        let page = org.owner.get(&format!("/workspaces?limit=3{cursor}")).await.ok(200);
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 3);
        names.extend(data.iter().map(|workspace| workspace["name"].as_str().unwrap().to_owned()));
        pages += 1;
        assert_eq!(page["has_more"].as_bool().unwrap(), page["next_cursor"].is_string());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["w5", "w4", "w3", "w2", "w1", "w0", "default"]);
    assert_eq!(pages, 3);
}

async fn keys_are_listed_by_workspace(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let first = org.workspace().await["id"].clone();
    let second = org.owner.post("/workspaces", json!({"name": "second"})).await.ok(201)["id"].clone();
    org.api_key(&first).await;
    let (key, _) = org.api_key(&second).await;
    assert_eq!(org.owner.get("/api-keys").await.ok(200)["data"].as_array().unwrap().len(), 2);
    let filter = format!("/api-keys?workspace_id={}", second.as_str().unwrap());
    let list = org.owner.get(&filter).await.ok(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(list["data"][0]["id"], key["id"]);
    assert!(list["data"][0].get("key").is_none(), "a key is shown once");
}

/// All rows of a list, page by page of two.
async fn all(owner: &Client, path: &str) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = owner.get(&format!("{path}&limit=2{cursor}")).await.ok(200);
        rows.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

async fn lists_are_sorted_by_what_is_asked_for_and_pages_join(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let workspace = org.workspace().await["id"].clone();
    // Names that several rows share: the id decides, and no page repeats or skips one.
    for (n, name) in ["b", "a", "b", "c", "b"].into_iter().enumerate() {
        org.owner.post("/api-keys", json!({"workspace_id": workspace, "name": name})).await.ok(201);
        let policy = json!({"name": format!("{name}{n}"), "document": {}});
        org.owner.post("/policies", policy).await.ok(201);
    }
    for name in ["zebra", "apple", "mango"] {
        org.owner.post("/workspaces", json!({"name": name})).await.ok(201);
        let filter = json!({"name": name, "resource": "audit-logs", "query": {}});
        org.owner.post("/saved-filters", filter).await.ok(201);
        let email = format!("{name}-{}@people.example", org.org_id);
        let invite = json!({"email": email, "full_name": "P P", "role": "member"});
        org.owner.post("/orgs/me/users/invite", invite).await.ok(201);
    }
    let (_, key) = org.api_key(&workspace).await;
    client.process(&key, "hello").await.ok(200);
    let mut columns = 0;
    let document = client.get("/openapi.json").await.ok(200);
    for (path, item) in document["paths"].as_object().unwrap() {
        let parameters = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let Some(sort) = parameters.into_iter().find(|parameter| parameter["name"] == "sort") else { continue };
        let default = sort["schema"]["default"].as_str().unwrap().to_owned();
        for order in sort["schema"]["enum"].as_array().unwrap() {
            let order = order.as_str().unwrap();
            let field = order.trim_start_matches('-');
            // Reading the trail adds to it: only what happened before.
            let until = match path.as_str() {
                "/admin-events" => {
                    let last = org.owner.get("/admin-events?limit=1").await.ok(200);
                    format!("&to={}", last["data"][0]["occurred_at"].as_str().unwrap())
                }
                _ => String::new(),
            };
            let rows = all(&org.owner, &format!("{path}?sort={order}{until}")).await;
            let ids: std::collections::BTreeSet<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), rows.len(), "{path} by {order} repeats a row");
            if until.is_empty() {
                let usual = all(&org.owner, &format!("{path}?sort={default}")).await;
                assert_eq!(usual.len(), rows.len(), "{path} by {order} skips a row");
            }
            let values: Vec<_> = rows.iter().map(|row| row[field].as_str().unwrap_or_default()).collect();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            if order.starts_with('-') {
                sorted.reverse();
            }
            assert_eq!(values, sorted, "{path} by {order}");
            columns += 1;
        }
    }
    assert!(columns >= 20, "{columns}");
}

async fn a_cursor_of_another_order_is_refused(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    for name in ["one", "two"] {
        org.owner.post("/workspaces", json!({"name": name})).await.ok(201);
    }
    let page = org.owner.get("/workspaces?sort=name&limit=1").await.ok(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    org.owner.get(&format!("/workspaces?sort=name&cursor={cursor}")).await.ok(200);
    for other in ["sort=-name&", "sort=created_at&", ""] {
        let problem = org.owner.get(&format!("/workspaces?{other}cursor={cursor}")).await.problem(400, "invalid_query");
        assert!(problem.to_string().contains("cursor"), "{problem:#}");
    }
    org.owner.get("/workspaces?sort=id").await.problem(400, "invalid_query");
    org.owner.get("/api-keys?sort=key_hash").await.problem(400, "invalid_query");
}
