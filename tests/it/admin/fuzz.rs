//! The API tried by schemathesis, from the document that it serves: no server error, no status and no body that the
//! document does not name. `make fuzz-api` does the same for longer.

use std::process::{Command, Stdio};

use serde_json::json;

use super::client::{Client, PASSWORD};
use super::operations::furnished;
use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    the_api_keeps_what_its_document_says
}

/// The requests of a run are the same every time.
const SEED: &str = "20261125";

#[expect(clippy::disallowed_methods, reason = "a test's own settings, not the program's")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn the_api_keeps_what_its_document_says(database: TestDatabase) {
    let tool = setting("TEST_SCHEMATHESIS").expect("TEST_SCHEMATHESIS is not set: run `make test`");
    let seconds = setting("FUZZ_API_SECONDS");
    let sentinel = Sentinel::start_with(database, |config| {
        // A long run must not outlive its token.
        config.auth.access_token_ttl = "2h".parse().unwrap();
    })
    .await;
    let client = Client::new(&sentinel);
    let org = furnished(&client).await;
    let token = |tokens: serde_json::Value| tokens["access_token"].as_str().unwrap().to_owned();
    let session = token(client.login(&org.email, PASSWORD).await.ok(200));
    // Of another person: what ends sessions must not end the one in use.
    let (other, _) = org.person("admin", json!([])).await;
    let email = other.get("/auth/me").await.ok(200)["email"].as_str().unwrap().to_owned();
    let to_be_ended = token(client.login(&email, "correct horse battery staple").await.ok(200));
    let directory = org.owner.post("/orgs/me/scim-token", serde_json::Value::Null).await.ok(201);
    let directory = directory["token"].as_str().unwrap().to_owned();
    // Of another organization: what is tried may revoke its own.
    let key = sentinel.tenant.key.clone();

    let mut command = Command::new(tool);
    command
        .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/schemathesis.toml"), "run"])
        .args([&format!("{}/openapi.json", sentinel.admin_url()), "--checks", "all", "--no-color", "--no-shrink"])
        .args(["--header", &format!("Authorization: Bearer {session}")])
        .envs([("LOGOUT_TOKEN", to_be_ended), ("API_KEY", key), ("SCIM_TOKEN", directory)])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null());
    match &seconds {
        Some(seconds) => command.args(["--max-time", seconds]),
        None => command.args(["--max-examples", "25", "--seed", SEED]),
    };
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("schemathesis starts");
    let report = String::from_utf8_lossy(&output.stdout);
    let summary = report.rsplit("= SUMMARY =").next().unwrap_or_default();
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    println!("{summary}");
}
