//! An upstream behind TLS, and whose credential it is sent.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Sentinel, TestDatabase, chat_body, python, reply};

struct Provider {
    child: Child,
    url: String,
}

impl Provider {
    fn start(authority: &Path) -> Self {
        let mut child = Command::new(python("TEST_PYTHON"))
            .arg(format!("{}/tests/sdk/tls_upstream.py", env!("CARGO_MANIFEST_DIR")))
            .arg(authority)
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
    let provider = Provider::start(&authority);
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
async fn without_an_operators_credential_the_clients_own_goes_on_and_the_sentinel_key_never() {
    let sentinel = Sentinel::start_sqlite().await;
    let request = sentinel.request("/v1/chat/completions").header("authorization", "Bearer the client's own");
    reply(request.body(chat_body("hello").to_string())).await.expect(200);
    let headers = sentinel.provider.last_headers().unwrap();
    assert_eq!(headers["authorization"], "Bearer the client's own");
    assert!(headers.get("x-api-key").is_none(), "{headers:?}");
    sentinel.stop().await;
}
