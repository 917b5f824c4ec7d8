//! The official SDKs, unchanged, against `sentinel dev`'s stack: base URL and key alone.

use std::process::Command;

use sentinel::mock_llm::Mode;
use serde_json::json;

use crate::support::{self, Sentinel};

/// Runs a script of `tests/sdk/` with the Python of an environment that `make test` has made.
async fn run(python: &'static str, script: &'static str) {
    let sentinel = Sentinel::start_sqlite().await;
    run_on(&sentinel, python, script, "").await;
    sentinel.stop().await;
}

/// The same on a Sentinel that is there, with one more argument.
async fn run_on(sentinel: &Sentinel, python: &'static str, script: &'static str, argument: &str) {
    let mut command = Command::new(support::python(python));
    command
        .arg(format!("{}/tests/sdk/{script}", env!("CARGO_MANIFEST_DIR")))
        .args([sentinel.gateway_url(), sentinel.admin_url(), sentinel.tenant.key.clone(), argument.to_owned()])
        .env_remove("OPENAI_API_KEY")
        .env_remove("ANTHROPIC_API_KEY");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("python runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains(": ok"), "{script}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_openai_sdk_works() {
    run("TEST_PYTHON", "openai_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_anthropic_sdk_works() {
    run("TEST_PYTHON", "anthropic_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_openai_sdk_works() {
    run("TEST_PYTHON_OLDER", "openai_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disguised_attacks_are_refused_and_hard_harmless_texts_pass() {
    run("TEST_PYTHON", "openai_hard.py").await;
}

/// It sends the key as `X-Api-Key`, newer ones as a bearer token.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_anthropic_sdk_works() {
    run("TEST_PYTHON_OLDER", "anthropic_client.py").await;
}

/// What a model says is taken out of its answer, plain and streamed, or ends it with an error that the SDKs raise.
#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_read_redacted_answers_and_raise_on_blocked_ones() {
    let sentinel = Sentinel::start_sqlite().await;
    let said = "the card is 4111 1111 1111 1111 and the key AKIA6HZJCIHOIJCDIO42, done.";
    sentinel.provider.behave(Mode::Say(said.to_owned()));
    for script in ["openai_answers.py", "anthropic_answers.py"] {
        run_on(&sentinel, "TEST_PYTHON", script, "redact").await;
    }
    let policy = json!({"name": "house", "is_default": true, "document": {"extends": "strict"}});
    sentinel.admin(reqwest::Method::POST, "/policies", Some(policy)).await.expect(201);
    for script in ["openai_answers.py", "anthropic_answers.py"] {
        run_on(&sentinel, "TEST_PYTHON", script, "block").await;
    }
    sentinel.stop().await;
}
