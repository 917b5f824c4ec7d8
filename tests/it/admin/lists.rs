//! Lists: pages that join without gap or repeat.

use serde_json::json;

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    pages_join_without_gap_or_repeat_newest_first
    keys_are_listed_by_workspace
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
