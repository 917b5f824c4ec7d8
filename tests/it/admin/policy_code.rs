//! Policies as code: the API and the command line do the same, and a repetition does nothing.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::client::{Client, Organization};
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    applying_twice_changes_once
    a_policy_is_tried_out_without_a_change
    the_command_line_exports_compares_applies_and_goes_back
}

async fn applying_twice_changes_once(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let apply = async |body: Value| org.owner.post("/policies/apply", body).await.ok(200);
    let wanted = |action: &str| json!({"name": "desk", "document": {"rules": {"pii": {"action": action}}}});
    let mut trial = wanted("block");
    trial["dry_run"] = json!(true);
    let told = apply(trial.clone()).await;
    assert_eq!((&told["outcome"], &told["policy"]), (&json!("created"), &Value::Null));
    assert_eq!(told["changes"][0]["summary"], "pii action: block (was not set)");
    assert_eq!(org.owner.get("/policies").await.ok(200)["data"], json!([]), "a trial");

    let made = apply(wanted("block")).await;
    assert_eq!((&made["outcome"], &made["policy"]["version"]), (&json!("created"), &json!(1)));
    let again =
        apply(json!({"name": "Desk", "document": {"extends": "balanced", "rules": {"pii": {"action": "block"}}}}));
    // The name is written in another way: that is a change. So write it as it was.
    let again = again.await;
    assert_eq!(again["changes"][0]["pointer"], "/name");
    let same =
        apply(json!({"name": "Desk", "document": {"extends": "balanced", "rules": {"pii": {"action": "block"}}}}));
    let same = same.await;
    assert_eq!(
        (&same["outcome"], &same["changes"], &same["policy"]["version"]),
        (&json!("unchanged"), &json!([]), &json!(2))
    );
    let mut draft = json!({"name": "Desk", "document": {"rules": {"pii": {"action": "flag"}}}, "draft": true});
    let drafted = apply(draft.clone()).await;
    assert_eq!((&drafted["outcome"], &drafted["policy"]["is_draft"]), (&json!("drafted"), &json!(true)));
    assert_eq!(apply(draft.clone()).await["outcome"], "unchanged");
    draft["name"] = json!("new");
    assert_eq!(apply(draft.clone()).await["outcome"], "drafted");
    assert_eq!(apply(draft).await["outcome"], "unchanged");
    assert_eq!(org.owner.get("/policy-drafts").await.ok(200)["data"].as_array().unwrap().len(), 2);
    let faulty = json!({"name": "Desk", "document": {"rules": {"no_such": {"action": "block"}}}});
    org.owner.post("/policies/apply", faulty).await.problem(422, "validation_failed");
    let events = org.owner.get("/admin-events?limit=200").await.ok(200);
    let written = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["action"].as_str().unwrap().starts_with("policy"));
    assert_eq!(written.count(), 4);
}

async fn a_policy_is_tried_out_without_a_change(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let org = Organization::register(&Client::new(&sentinel)).await;
    let made = org.owner.post("/policies", json!({"name": "p", "document": {"extends": "monitor"}})).await.ok(201);
    let path = format!("/policies/{}/test", made["id"].as_str().unwrap());
    let case = json!({"name": "mail", "input": "write to ada@example.com", "role": "tool", "expect": {"action": "flag", "category": "pii"}});
    let report = org.owner.post(&path, json!({"cases": [case]})).await.ok(200);
    assert_eq!((&report["passed"], &report["results"][0]["rules"]), (&json!(1), &json!(["pii.email_address"])));
    let document = json!({"roles": {"tool": {"pii": {"action": "block"}}}});
    let report = org.owner.post(&path, json!({"cases": [case], "document": document})).await.ok(200);
    assert_eq!((&report["failed"], &report["results"][0]["action"]), (&json!(1), &json!("block")));
    assert_eq!((&report["results"][0]["name"], &report["results"][0]["passed"]), (&json!("mail"), &json!(false)));
    assert_eq!(org.owner.get("/policies").await.ok(200)["data"][0]["version"], 1);
    let nothing = json!({"cases": [{"input": "a", "expect": {}}]});
    org.owner.post(&path, nothing).await.problem(422, "validation_failed");
    org.owner.post(&path, json!({"cases": []})).await.problem(422, "validation_failed");
    org.owner.post(&path, json!({"cases": [case], "version": 7})).await.problem(422, "validation_failed");
    let event = org.owner.get("/admin-events?action=policy.test").await.ok(200)["data"][0].clone();
    assert_eq!(event["after"], json!({"passed": 0, "failed": 1}));
    assert!(!event.to_string().contains("ada@example.com"));
}

async fn the_command_line_exports_compares_applies_and_goes_back(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let client = Client::new(&sentinel);
    let org = Organization::register(&client).await;
    let (_, key) = org.api_key(&org.workspace().await["id"]).await;
    let action = async |text: &str| client.process(&key, text).await.ok(200)["action"].as_str().unwrap().to_owned();
    let document = json!({"rules": {"EMAIL_ADDRESS": {"action": "redact"}}});
    let policy = json!({"name": "support desk", "document": document, "is_default": true, "description": "kept"});
    org.owner.post("/policies", policy).await.ok(201);

    let folder = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let url = sentinel.database.config().url;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
        command.arg("policy").args(arguments).args(["--org", &org.org_id]).current_dir(folder.path());
        command.env("DATABASE_URL", &url).env("SENTINEL_DATA_DIR", data.path());
        let output = tokio::task::block_in_place(|| command.output()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let write = |name: &str, text: &str| std::fs::write(Path::new(folder.path()).join(name), text).unwrap();

    let (code, told) = run(&["export"]);
    assert_eq!((code, told.trim()), (0, "./support desk.yaml"));
    let file = std::fs::read_to_string(folder.path().join("support desk.yaml")).unwrap();
    assert_eq!(file, "rules:\n  EMAIL_ADDRESS:\n    action: redact\n");
    assert_eq!(run(&["apply", "support desk.yaml"]), (0, "support desk.yaml: unchanged\n".to_owned()));
    assert_eq!(run(&["diff", "support desk.yaml"]), (0, String::new()));

    write("support desk.yaml", "rules: { EMAIL_ADDRESS: { action: block } }");
    write("support desk.tests.yaml", "- { input: to ada@example.com, expect: { action: block, category: pii } }");
    let (code, told) = run(&["test", "support desk.yaml"]);
    assert_eq!((code, told.contains("1 of 1 passed")), (0, true), "{told}");
    let line = "  ~ EMAIL_ADDRESS action: redact → block\n";
    assert_eq!(run(&["diff", "support desk.yaml"]), (1, line.to_owned()));
    let trial = run(&["apply", "--dry-run", "support desk.yaml", "support desk.tests.yaml"]);
    assert_eq!(trial, (0, format!("support desk.yaml: would be changed\n{line}")));
    assert_eq!(action("to ada@example.com").await, "redact");
    // All or nothing.
    write("faulty.yaml", "rules: { EMAIL: { action: block } }");
    let (code, told) = run(&["apply", "support desk.yaml", "faulty.yaml"]);
    assert_eq!((code, told.contains("faulty.yaml: /rules/EMAIL")), (1, true), "{told}");
    let applied = run(&["apply", "--comment", "by a pipeline", "support desk.yaml"]);
    assert_eq!(applied, (0, format!("support desk.yaml: version 2\n{line}")));
    until(async || action("to ada@example.com").await == "block").await;
    let stored = org.owner.get("/policies").await.ok(200)["data"][0].clone();
    assert_eq!((&stored["is_default"], &stored["description"]), (&json!(true), &json!("kept")));
    assert_eq!((&stored["version"], &stored["comment"]), (&json!(2), &json!("by a pipeline")));

    write("support desk.tests.yaml", "- { name: mail, input: to ada@example.com, expect: { action: flag } }");
    let (code, told) = run(&["test", "support desk.yaml"]);
    let row = "FAIL  support desk.yaml  mail: expected flag, got block pii (by pii.email_address)";
    assert_eq!((code, told.contains(row)), (1, true), "{told}");
    assert_eq!(run(&["diff", "support desk@1", "support desk@2"]), (1, line.to_owned()));
    assert_eq!(run(&["diff", "support desk"]), (1, line.to_owned()));
    let (code, told) = run(&["rollback", "support desk"]);
    assert_eq!((code, told.starts_with("version 3\n")), (0, true), "{told}");
    until(async || action("to ada@example.com").await == "redact").await;
    let (code, told) = run(&["versions", "support desk"]);
    assert_eq!((code, told.lines().count(), told.starts_with("* 3 ")), (0, 3, true), "{told}");
    for unknown in ["nothing", "support desk@9"] {
        assert_eq!(run(&["diff", unknown]).0, 2);
    }
    let events = org.owner.get("/admin-events?action=policy.update").await.ok(200);
    assert_eq!(events["data"][0]["actor_type"], "operator");

    org.owner.patch("/orgs/me", json!({"settings": {"require_policy_approval": true}})).await.ok(200);
    let (code, told) = run(&["apply", "support desk.yaml"]);
    assert_eq!((code, told.contains("--draft")), (2, true), "{told}");
    let (code, told) = run(&["apply", "--draft", "support desk.yaml"]);
    assert_eq!((code, told.contains("support desk.yaml: draft ")), (0, true), "{told}");
    assert_eq!(run(&["apply", "--draft", "support desk.yaml"]), (0, "support desk.yaml: unchanged\n".to_owned()));
}

/// The command line is another process: the server follows within a second.
async fn until(holds: impl AsyncFn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < crate::support::raw::PATIENCE, "the server never follows");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
