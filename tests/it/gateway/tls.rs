//! An upstream behind TLS, and whose credential it is sent.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use reqwest::Method;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Sentinel, TestDatabase, chat_body, python, reply, test_config};

struct Provider {
    child: Child,
    url: String,
}

impl Provider {
    fn start(arguments: &[&OsStr]) -> Self {
        let mut child = Command::new(python("TEST_PYTHON"))
            .arg(format!("{}/tests/sdk/tls_upstream.py", env!("CARGO_MANIFEST_DIR")))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).expect("a port");
        Self { url: format!("https://127.0.0.1:{}", port.trim()), child }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_with_its_own_authority_is_verified_and_sent_the_operators_credential() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let provider = Provider::start(&[authority.as_os_str()]);
    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |config| {
        let upstream = config.upstreams.get_mut("openai").unwrap();
        upstream.url.clone_from(&provider.url);
        upstream.ca_file = Some(authority.clone());
        upstream.api_key = Some("the operator's own".to_owned().into());
        // The same server, whose authority this upstream does not know; the client's own credential goes on.
        let upstream = config.upstreams.get_mut("anthropic").unwrap();
        upstream.url.clone_from(&provider.url);
    })
    .await;
    let client_credential = sentinel.request("/v1/chat/completions").header("authorization", "Bearer the client's own");
    let answer = reply(client_credential.body(chat_body("hello").to_string())).await.expect(200);
    assert!(answer.text.contains("credential: Bearer the operator's own, key: None"), "{}", answer.text);

    let answer = sentinel.post("/v1/messages", chat_body("hello").to_string()).await.expect(502);
    assert_eq!(answer.json()["type"], "error", "an unknown authority is not trusted: {}", answer.text);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_asked_for_by_its_own_name_and_shown_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let [authority, certificate, key] =
        ["authority.pem", "client.pem", "client.key"].map(|name| folder.path().join(name));
    let name = OsStr::new("provider.internal");
    let provider = Provider::start(&[authority.as_os_str(), name, certificate.as_os_str(), key.as_os_str()]);
    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |config| {
        for name in ["openai", "anthropic", "ollama"] {
            let upstream = config.upstreams.get_mut(name).unwrap();
            upstream.url.clone_from(&provider.url);
            upstream.ca_file = Some(authority.clone());
            upstream.client_cert_file = Some(certificate.clone());
            upstream.client_key_file = Some(key.clone());
            upstream.sni = Some("provider.internal".to_owned());
            upstream.health_path = Some("/health".to_owned());
            upstream.health_interval = Some("20ms".parse().unwrap());
        }
        // Each lacks one of the three.
        config.upstreams.get_mut("anthropic").unwrap().sni = None;
        let ollama = config.upstreams.get_mut("ollama").unwrap();
        (ollama.client_cert_file, ollama.client_key_file) = (None, None);
        config.upstreams.get_mut("gemini").unwrap().url.clone_from(&provider.url);
    })
    .await;
    for _ in 0..2 {
        let answer = sentinel.chat("hello").await.expect(200);
        assert!(answer.text.contains("shown: sentinel.client, asked for: provider.internal"), "{}", answer.text);
    }
    let body = chat_body("hello").to_string();
    for path in ["/v1/messages", "/api/chat", "/v1beta/models/m:generateContent"] {
        sentinel.post(path, body.clone()).await.expect(502);
    }
    // Sentinel's own questions go the same way.
    for (upstream, result) in [("openai", "accepted"), ("anthropic", "unreachable"), ("ollama", "unreachable")] {
        let body = json!({"workspace_id": sentinel.tenant.workspace_id, "upstream": upstream, "name": upstream,
            "credential": "sk-0123456789"});
        let made = sentinel.admin(Method::POST, "/provider-credentials", Some(body)).await.expect(201).json();
        let path = format!("/provider-credentials/{}/test", made["id"].as_str().unwrap());
        let said = sentinel.admin(Method::POST, &path, None).await.expect(200).json();
        assert_eq!(said["result"], result, "{upstream} {said}");
    }
    sentinel.stop().await;
}

/// A provider of HTTP/2 alone; tells the target of each request.
async fn http2_provider(certificate: &Path, key: &Path, seen: mpsc::UnboundedSender<http::Uri>) -> String {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut answer))) = connection.accept().await {
                    seen.send(request.uri().clone()).unwrap();
                    let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
                    answer.send_response(head, false).unwrap().send_data("{}".into(), true).unwrap();
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_speaks_http2_is_spoken_to_so() {
    let folder = tempfile::tempdir().unwrap();
    let [authority, certificate, key] =
        ["authority.pem", "client.pem", "client.key"].map(|name| folder.path().join(name));
    // Only for its authority.
    let _issuer = Provider::start(&[authority.as_os_str(), OsStr::new("x"), certificate.as_os_str(), key.as_os_str()]);
    let (seen, mut requests) = mpsc::unbounded_channel();
    let url = http2_provider(&certificate, &key, seen).await;
    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |config| {
        let upstream = config.upstreams.get_mut("openai").unwrap();
        upstream.url.clone_from(&url);
        upstream.ca_file = Some(authority);
        upstream.sni = Some("sentinel.client".to_owned());
    })
    .await;
    for _ in 0..2 {
        sentinel.chat("hello").await.expect(200);
        let target = requests.recv().await.unwrap();
        // What a signature covers as the field `Host`.
        assert_eq!(target.to_string(), format!("{url}/v1/chat/completions"));
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_its_own_key_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let [authority, certificate, key, other] =
        ["authority.pem", "client.pem", "client.key", "other.pem"].map(|name| folder.path().join(name));
    let name = OsStr::new("provider.internal");
    let _provider = Provider::start(&[authority.as_os_str(), name, certificate.as_os_str(), key.as_os_str()]);
    let _twin = Provider::start(&[authority.as_os_str(), name, other.as_os_str(), key.as_os_str()]);
    let database = TestDatabase::sqlite().await;
    let mut config = test_config(&database, folder.path(), "https://127.0.0.1:1");
    let upstream = config.upstreams.get_mut("openai").unwrap();
    (upstream.client_cert_file, upstream.client_key_file) = (Some(certificate), Some(key));
    let options = sentinel::server::Options { migrate: true, ..Default::default() };
    let fault = sentinel::server::Sentinel::start(config, options).await.err().expect("it does not start");
    assert!(format!("{fault:#}").contains("upstreams.openai.client_cert_file"), "{fault:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operators_credential_the_clients_own_goes_on_and_the_sentinel_key_never() {
    let sentinel = Sentinel::start_sqlite().await;
    let request = sentinel.request("/v1/chat/completions").header("authorization", "Bearer the client's own");
    reply(request.body(chat_body("hello").to_string())).await.expect(200);
    let headers = sentinel.provider.last_headers().unwrap();
    assert_eq!(headers["authorization"], "Bearer the client's own");
    assert!(headers.get("x-api-key").is_none(), "{headers:?}");
    sentinel.stop().await;
}
