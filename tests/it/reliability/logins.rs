//! Log-ins of the real binary: a flood of them, and what a restart must not forget.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::{RequestBuilder, StatusCode};
use sentinel::mock_llm::MockLlm;
use serde_json::{Value, json};

use crate::support::{Process, chat_body, register, reply};

const EMAIL: &str = "flood@sentinel.test";
const PASSWORD: &str = "SecurePass123!";

fn login(client: &reqwest::Client, process: &Process, email: &str, password: &str) -> RequestBuilder {
    client.post(format!("{}/auth/login", process.admin_url())).json(&json!({"email": email, "password": password}))
}

/// With the hashes of production, and one address for all: what protects the memory is not that most are turned away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_parallel_log_ins_are_all_answered_within_512_mib_beside_a_gateway_that_serves() {
    const MOST: u64 = 512 << 20;
    let folder = tempfile::tempdir().unwrap();
    let provider = MockLlm::start().await.unwrap();
    let settings = [
        ("SENTINEL_AUTH__ARGON2_MEMORY_KIB", "19456"),
        ("SENTINEL_AUTH__ARGON2_PASSES", "2"),
        ("SENTINEL_AUTH__FAILURES_PER_ADDRESS", "0"),
        ("SENTINEL_LOG__LEVEL", "info"),
    ];
    let process = Arc::new(Process::serve(folder.path(), &provider.url(), &settings));
    let client = reqwest::Client::new();
    let tenant = register(&client, &process.admin_url(), "Acme", EMAIL).await;

    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let traffic = {
        let (client, done, served) = (client.clone(), Arc::clone(&done), Arc::clone(&served));
        let url = format!("{}/v1/chat/completions", process.gateway_url());
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let request = client.post(&url).header("x-api-key", &tenant.key).json(&chat_body("hello"));
                reply(request).await.expect(200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let logins = (0..1000).map(|i| {
        // Known and unknown accounts; of the known one more than may fail, all of them right.
        let email = if i % 100 == 0 { EMAIL.to_owned() } else { format!("nobody{i}@sentinel.test") };
        let (client, process) = (client.clone(), Arc::clone(&process));
        tokio::spawn(async move {
            let answer = login(&client, &process, &email, PASSWORD).send().await.expect("an answer");
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE || answer.status() == StatusCode::TOO_MANY_REQUESTS {
                let headers = answer.headers();
                assert!(headers.contains_key("retry-after") || answer.text().await.unwrap().contains("timeout"));
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            answer.status()
        })
    });
    let mut answers = Vec::new();
    for login in logins.collect::<Vec<_>>() {
        answers.push(login.await.unwrap());
    }
    done.store(true, Ordering::Relaxed);
    traffic.await.expect("every request to the gateway is served");

    let count = |status: StatusCode| answers.iter().filter(|answer| **answer == status).count();
    let (wrong, right, later) =
        (count(StatusCode::UNAUTHORIZED), count(StatusCode::OK), count(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(wrong + right + later, 1000, "{wrong} wrong, {right} right, {later} turned away");
    assert!(wrong > 0, "no password was looked at");
    assert!(served.load(Ordering::Relaxed) > 0, "the gateway served nothing meanwhile");
    let peak = process.peak_memory();
    assert!(peak < MOST, "{} MiB", peak >> 20);
    println!("{wrong} wrong, {right} right, {later} turned away; peak {} MiB; gateway served {served:?}", peak >> 20);
    // And afterwards all is as before.
    reply(login(&client, &process, EMAIL, PASSWORD)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signing_secret_is_changed_without_logging_anyone_out() {
    const OLD: &str = "the secret that is about to be replaced";
    const NEW: &str = "the secret that has come in its place now";
    let folder = tempfile::tempdir().unwrap();
    let provider = MockLlm::start().await.unwrap();
    let client = reqwest::Client::new();
    // The issuer is part of a token, and the port of a test changes.
    let start = |settings: &[(&str, &str)]| {
        let mut settings = settings.to_vec();
        settings.push(("SENTINEL_ADMIN__PUBLIC_URL", "https://sentinel.example"));
        Process::serve(folder.path(), &provider.url(), &settings)
    };
    let me = |process: &Process, token: &str| {
        reply(client.get(format!("{}/auth/me", process.admin_url())).bearer_auth(token))
    };
    let process = start(&[("JWT_SECRET_KEY", OLD)]);
    let old = register(&client, &process.admin_url(), "Acme", EMAIL).await.access_token;
    process.terminate();

    let process = start(&[("JWT_SECRET_KEY", NEW), ("SENTINEL_AUTH__JWT_PREVIOUS_SECRETS", OLD)]);
    me(&process, &old).await.expect(200);
    let tokens: Value = reply(login(&client, &process, EMAIL, PASSWORD)).await.expect(200).json();
    let new = tokens["access_token"].as_str().unwrap().to_owned();
    process.terminate();

    let process = start(&[("JWT_SECRET_KEY", NEW)]);
    me(&process, &new).await.expect(200);
    me(&process, &old).await.expect(401);
    // The session itself has outlived both.
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    reply(client.post(format!("{}/auth/refresh", process.admin_url())).json(&refresh)).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_does_not_unlock_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let provider = MockLlm::start().await.unwrap();
    let client = reqwest::Client::new();
    let settings = [("SENTINEL_AUTH__LOCKOUT_FAILURES", "1")];
    let process = Process::serve(folder.path(), &provider.url(), &settings);
    register(&client, &process.admin_url(), "Acme", EMAIL).await;
    reply(login(&client, &process, EMAIL, "a wrong guess")).await.expect(401);
    process.kill();
    let process = Process::serve(folder.path(), &provider.url(), &settings);
    reply(login(&client, &process, EMAIL, PASSWORD)).await.expect(429);
}
