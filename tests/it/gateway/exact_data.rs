//! Registered values, imported on the command line beside a running server and found by its gateway.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use sentinel::mock_llm::Mode;
use serde_json::{Value, json};

use crate::support::raw::PATIENCE;
use crate::support::{Sentinel, Tenant, TestDatabase, chat_body, on_both_engines, register, reply};

on_both_engines! {
    registered_values_are_found_in_every_reading_and_a_change_is_live
    another_organizations_values_are_never_consulted
    answers_are_searched_for_registered_values
    a_set_that_is_made_through_the_api_grows_and_goes
}

/// Runs `sentinel data` on the server's database; what it prints.
fn data(sentinel: &Sentinel, words: &[&str], input: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sentinel"))
        .arg("data")
        .args(words)
        .args(["--json"])
        .env("DATABASE_URL", &sentinel.database.config().url)
        .env("SENTINEL_DATA_DIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

async fn use_policy(sentinel: &Sentinel, token: &str, action: &str) {
    let document = json!({"exact_data": {"customers": {"action": action, "category": "pii", "type": "CUSTOMER_ID"}}});
    let policy = json!({"name": format!("exact {action}"), "is_default": true, "document": document});
    reply(sentinel.client.post(format!("{}/policies", sentinel.admin_url())).bearer_auth(token).json(&policy))
        .await
        .expect(201);
}

async fn ask(sentinel: &Sentinel, tenant: &Tenant, text: &str) -> u16 {
    let request = sentinel.client.post(format!("{}/v1/chat/completions", sentinel.gateway_url()));
    reply(request.header("x-api-key", &tenant.key).json(&chat_body(text))).await.status
}

/// Waits until the gateway answers with `status`.
async fn until(sentinel: &Sentinel, tenant: &Tenant, text: &str, status: u16) -> Duration {
    let begun = Instant::now();
    while ask(sentinel, tenant, text).await != status {
        assert!(begun.elapsed() < PATIENCE, "{text} never gets {status}");
    }
    begun.elapsed()
}

async fn registered_values_are_found_in_every_reading_and_a_change_is_live(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let tenant = &sentinel.tenant;
    let org = ["--org", "Harness"];
    let printed =
        data(&sentinel, &[&["import", "customers", "-"][..], &org].concat(), "QX-4711-88\nAda Lovelace\nabc\n");
    assert!(printed.contains("\"values\": 2") && !printed.contains("4711"), "{printed}");
    use_policy(&sentinel, &tenant.access_token, "block").await;
    for text in [
        "is qx471188 late?",
        "QX 4711 88",
        "ask ADA  lovelace",
        "ask \u{0410}da Lovelace",
        "see UVgtNDcxMS04OCBpcyB0aGUgY3VzdG9tZXI= now",
    ] {
        assert_eq!(ask(&sentinel, tenant, text).await, 400, "{text}");
    }
    for text in ["QX-4711-89", "Ada King Lovelace", "abc"] {
        assert_eq!(ask(&sentinel, tenant, text).await, 200, "{text}");
    }
    // The command line is another process: the change comes through the feed.
    data(&sentinel, &[&["import", "customers", "-"][..], &org].concat(), "ZZ-1234\n");
    let took = until(&sentinel, tenant, "about zz1234", 400).await;
    let _ = writeln!(std::io::stderr(), "exact data: an import was live after {took:?}");
    assert_eq!(ask(&sentinel, tenant, "QX-4711-88").await, 200);
    let listed: Value = serde_json::from_str(&data(&sentinel, &[&["list"][..], &org].concat(), "")).unwrap();
    assert_eq!((&listed["data_sets"][0]["name"], &listed["data_sets"][0]["values"]), (&json!("customers"), &json!(1)));
    data(&sentinel, &[&["delete", "customers"][..], &org].concat(), "");
    until(&sentinel, tenant, "about zz1234", 200).await;

    let events = sentinel.admin(Method::GET, "/admin-events?limit=10", None).await.expect(200).text;
    assert!(events.contains("data_set.import") && events.contains("data_set.delete"), "{events}");
    assert!(!events.contains("4711") && !events.contains("1234\""), "{events}");
    sentinel.stop().await;
}

async fn another_organizations_values_are_never_consulted(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let other = register(&sentinel.client, &sentinel.admin_url(), "Other", "other@sentinel.test").await;
    data(&sentinel, &["import", "customers", "-", "--org", "Harness"], "QX-4711-88\n");
    data(&sentinel, &["import", "customers", "-", "--org", "Other"], "PP-0815-11\n");
    use_policy(&sentinel, &sentinel.tenant.access_token, "block").await;
    use_policy(&sentinel, &other.access_token, "block").await;
    for (tenant, own, foreign) in [(&sentinel.tenant, "QX-4711-88", "PP-0815-11"), (&other, "PP-0815-11", "QX-4711-88")]
    {
        assert_eq!(ask(&sentinel, tenant, own).await, 400);
        assert_eq!(ask(&sentinel, tenant, foreign).await, 200);
    }
    // A change of one is none of the other's.
    data(&sentinel, &["import", "customers", "-", "--org", "Other"], "NN-2222-22\n");
    until(&sentinel, &other, "NN-2222-22", 400).await;
    assert_eq!(ask(&sentinel, &sentinel.tenant, "NN-2222-22").await, 200);
    assert_eq!(ask(&sentinel, &sentinel.tenant, "QX-4711-88").await, 400);
    sentinel.stop().await;
}

async fn answers_are_searched_for_registered_values(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    data(&sentinel, &["import", "customers", "-", "--org", "Harness"], "QX-4711-88\n");
    use_policy(&sentinel, &sentinel.tenant.access_token, "redact").await;
    sentinel.provider.behave(Mode::Say("The customer is QX-4711-88 and waits for you.".to_owned()));
    for stream in [false, true] {
        let body = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "who?"}]});
        let answer = sentinel.post("/v1/chat/completions", body.to_string()).await.expect(200);
        assert!(answer.text.contains("[REDACTED_CUSTOMER_ID]"), "{}", answer.text);
        assert!(!answer.text.contains("QX") && !answer.text.contains("471"), "{}", answer.text);
    }
    sentinel.stop().await;
}

async fn a_set_that_is_made_through_the_api_grows_and_goes(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let tenant = &sentinel.tenant;
    use_policy(&sentinel, &tenant.access_token, "block").await;
    assert_eq!(ask(&sentinel, tenant, "QX-4711-88").await, 200, "no such set yet");
    let made = json!({"name": "customers", "values": ["QX-4711-88"]});
    let made = sentinel.admin(Method::POST, "/data-sets", Some(made)).await.expect(201).json();
    let path = format!("/data-sets/{}", made["id"].as_str().unwrap());
    until(&sentinel, tenant, "QX-4711-88", 400).await;
    let more = json!({"values": ["QX 4711 88", "QX-4711-99"]});
    let grown = sentinel.admin(Method::POST, &format!("{path}/values"), Some(more)).await.expect(200).json();
    assert_eq!(grown["values"], 2, "{grown}");
    until(&sentinel, tenant, "qx471199", 400).await;
    assert_eq!(ask(&sentinel, tenant, "QX-4711-88").await, 400);
    let shown = sentinel.admin(Method::GET, &path, None).await.expect(200).text;
    assert!(!shown.contains("4711"), "{shown}");
    let again = json!({"name": "customers"});
    sentinel.admin(Method::POST, "/data-sets", Some(again)).await.expect(409);
    let bad = json!({"name": "Bad", "values": ["abc", "fine-value"]});
    let problem = sentinel.admin(Method::POST, "/data-sets", Some(bad)).await.expect(422).json();
    let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, [&json!("/values/0"), &json!("/name")], "{problem}");
    sentinel.admin(Method::DELETE, &path, None).await.expect(204);
    until(&sentinel, tenant, "qx471199", 200).await;
    sentinel.admin(Method::GET, &path, None).await.expect(404);
    sentinel.stop().await;
}
