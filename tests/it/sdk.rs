//! The official SDKs, unchanged, against `sentinel dev`'s stack: base URL and key alone.

use std::process::Command;

use crate::support::{self, Sentinel};

/// Runs a script of `tests/sdk/` with the Python of an environment that `make test` has made.
async fn run(python: &'static str, script: &'static str) {
    let sentinel = Sentinel::start_sqlite().await;
    let mut command = Command::new(support::python(python));
    command
        .arg(format!("{}/tests/sdk/{script}", env!("CARGO_MANIFEST_DIR")))
        .args([sentinel.gateway_url(), sentinel.admin_url(), sentinel.tenant.key.clone()])
        .env_remove("OPENAI_API_KEY")
        .env_remove("ANTHROPIC_API_KEY");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("python runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains(": ok"), "{script}: {text}");
    sentinel.stop().await;
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

/// It sends the key as `X-Api-Key`, newer ones as a bearer token.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_anthropic_sdk_works() {
    run("TEST_PYTHON_OLDER", "anthropic_client.py").await;
}
