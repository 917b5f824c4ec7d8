//! The TLS listener: both versions of HTTP, clients' certificates, a certificate that is exchanged.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::{Certificate, Identity, StatusCode, Version};
use sentinel::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::raw::PATIENCE;
use crate::support::{Sentinel, TestDatabase, chat_body, python};

/// Writes the files of an authority and of what it issues: `ca.pem`, `cert.pem`, `key.pem`, `client.pem`.
fn issue(folder: &Path) {
    const SCRIPT: &str = "import sys, trustme
folder = sys.argv[1]
ca = trustme.CA()
ca.cert_pem.write_to_path(folder + '/ca.pem')
server = ca.issue_cert('127.0.0.1', 'localhost')
server.private_key_pem.write_to_path(folder + '/key.pem')
for number, pem in enumerate(server.cert_chain_pems):
    pem.write_to_path(folder + '/cert.pem', append=number > 0)
ca.issue_cert('client@sentinel.test').private_key_and_cert_chain_pem.write_to_path(folder + '/client.pem')
";
    std::fs::create_dir_all(folder).unwrap();
    let done = Command::new(python("TEST_PYTHON")).args(["-c", SCRIPT]).arg(folder).status().unwrap();
    assert!(done.success());
}

fn tls(config: &mut Config, folder: &Path) {
    config.gateway.tls.cert_file = Some(folder.join("cert.pem"));
    config.gateway.tls.key_file = Some(folder.join("key.pem"));
}

/// Trusts the authority in `folder`.
fn client(folder: &Path) -> reqwest::ClientBuilder {
    let authority = Certificate::from_pem(&std::fs::read(folder.join("ca.pem")).unwrap()).unwrap();
    reqwest::Client::builder().tls_certs_only([authority]).no_proxy().timeout(Duration::from_secs(60))
}

fn identity(folder: &Path) -> Identity {
    Identity::from_pem(&std::fs::read(folder.join("client.pem")).unwrap()).unwrap()
}

async fn chat(client: &reqwest::Client, sentinel: &Sentinel) -> reqwest::Result<reqwest::Response> {
    let url = format!("https://{}/v1/chat/completions", sentinel.gateway());
    client.post(url).header("x-api-key", &sentinel.tenant.key).json(&chat_body("hello")).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_served_and_another_certificate_cuts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path());
    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |config| tls(config, folder.path())).await;

    let before = client(folder.path()).build().unwrap();
    for _ in 0..3 {
        let answer = chat(&before, &sentinel).await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2), "ALPN chose HTTP/2");
        assert!(answer.text().await.unwrap().contains("chat.completion"));
    }
    let old = client(folder.path()).http1_only().build().unwrap();
    let answer = chat(&old, &sentinel).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_11));
    let stranger = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(chat(&stranger, &sentinel).await.is_err(), "the authority is nobody's root");

    // What does not speak TLS is not answered, and what says nothing is not waited for with the others.
    let mut plain = tokio::net::TcpStream::connect(sentinel.gateway()).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut said)).await.expect("the connection ends");
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");

    // Half of an exchange cannot be used and changes nothing.
    let other = folder.path().join("other");
    issue(&other);
    std::fs::copy(other.join("cert.pem"), folder.path().join("cert.pem")).unwrap();
    sentinel.reload().await;
    let still = client(folder.path()).build().unwrap();
    assert_eq!(chat(&still, &sentinel).await.unwrap().status(), StatusCode::OK);
    std::fs::copy(other.join("key.pem"), folder.path().join("key.pem")).unwrap();
    sentinel.reload().await;
    let after = client(&other).build().unwrap();
    assert_eq!(chat(&after, &sentinel).await.unwrap().status(), StatusCode::OK);
    let late = client(folder.path()).build().unwrap();
    assert!(chat(&late, &sentinel).await.is_err(), "new connections get the new certificate");
    assert_eq!(chat(&before, &sentinel).await.unwrap().status(), StatusCode::OK, "old connections go on");
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_authority_of_clients_is_named_only_its_clients_come_in() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    issue(folder.path());
    issue(other.path());
    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |config| {
        tls(config, folder.path());
        config.gateway.tls.client_ca_file = Some(folder.path().join("ca.pem"));
    })
    .await;
    let known = client(folder.path()).identity(identity(folder.path())).build().unwrap();
    assert_eq!(chat(&known, &sentinel).await.unwrap().status(), StatusCode::OK);
    let nobody = client(folder.path()).build().unwrap();
    assert!(chat(&nobody, &sentinel).await.is_err());
    let elsewhere = client(folder.path()).identity(identity(other.path())).build().unwrap();
    assert!(chat(&elsewhere, &sentinel).await.is_err());
    sentinel.stop().await;
}

#[test]
fn every_fault_of_the_files_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.pem");
    std::fs::write(&garbage, "not a certificate").unwrap();
    let (garbage, missing) = (garbage.to_str().unwrap(), "/nonexistent/key.pem");
    let settings = [
        ("SENTINEL_GATEWAY__TLS__CERT_FILE", garbage),
        ("SENTINEL_GATEWAY__TLS__KEY_FILE", missing),
        ("SENTINEL_GATEWAY__TLS__CLIENT_CA_FILE", garbage),
        ("SENTINEL_GATEWAY__THREADS", "100000"),
    ];
    let faults = check(folder.path(), &settings);
    for key in ["tls.cert_file", "tls.key_file", "tls.client_ca_file", "threads"] {
        assert!(faults.iter().any(|fault| fault.starts_with(&format!("gateway.{key}: "))), "{key}: {faults:?}");
    }
    let faults = check(folder.path(), &[("SENTINEL_GATEWAY__TLS__KEY_FILE", missing)]);
    assert!(faults[0].starts_with("gateway.tls.cert_file: "), "{faults:?}");
}

/// The faults that `sentinel config check` tells.
fn check(folder: &Path, settings: &[(&str, &str)]) -> Vec<String> {
    let mut check = Command::new(env!("CARGO_BIN_EXE_sentinel"));
    check.args(["config", "check", "--json"]).env("SENTINEL_DATA_DIR", folder).envs(settings.iter().copied());
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    told["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap().to_owned()).collect()
}
