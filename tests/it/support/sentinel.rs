//! A whole Sentinel in this process, over a mock provider, with one organization made through its own API.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::Method;
use sentinel::config::Config;
use sentinel::mock_llm::MockLlm;
use sentinel::server;
use serde_json::{Value, json};

use super::raw::PATIENCE;
use super::{Row, TestDatabase};

/// An organization with one workspace and one key.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub access_token: String,
    pub workspace_id: String,
    pub key_id: String,
    pub key: String,
}

/// An answer with its text.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

pub struct Sentinel {
    pub provider: MockLlm,
    pub client: reqwest::Client,
    pub tenant: Tenant,
    pub database: TestDatabase,
    gateway: SocketAddr,
    admin: SocketAddr,
    server: Option<server::Sentinel>,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    pub async fn start(database: TestDatabase) -> Self {
        Self::start_with(database, |_| {}).await
    }

    pub async fn start_sqlite() -> Self {
        Self::start(TestDatabase::sqlite().await).await
    }

    /// `change` sees the configuration before the start.
    pub async fn start_with(database: TestDatabase, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let provider = MockLlm::start().await.unwrap();
        let mut config = test_config(&database, folder.path(), &provider.url());
        change(&mut config);
        let server = server::Sentinel::start(config, server::Options { migrate: true, ..Default::default() })
            .await
            .expect("Sentinel starts");
        let (gateway, admin) = (server.gateway.unwrap(), server.admin.unwrap());
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let tenant = register(&client, &format!("http://{admin}"), "Harness", "harness@sentinel.test").await;
        Self { provider, client, tenant, database, gateway, admin, server: Some(server), _folder: folder }
    }

    pub fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway)
    }

    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// A request to the admin face as the tenant's owner.
    pub async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.admin_with(method, path, body, &[]).await
    }

    pub async fn admin_with(&self, method: Method, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Reply {
        let mut request =
            self.client.request(method, format!("{}{path}", self.admin_url())).bearer_auth(&self.tenant.access_token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        reply(request).await
    }

    /// One user message as an OpenAI chat completion.
    pub async fn chat(&self, text: &str) -> Reply {
        self.post("/v1/chat/completions", chat_body(text).to_string()).await
    }

    /// A JSON body to the gateway with the tenant's key.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        reply(self.request(path).body(body)).await
    }

    /// A POST to the gateway with the tenant's key and a JSON content type, to be finished.
    pub fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}{path}", self.gateway_url()))
            .header("x-api-key", &self.tenant.key)
            .header("content-type", "application/json")
    }

    /// The audit row of a request id, whichever organization it belongs to; waits until it is complete.
    pub async fn audit_row_anywhere(&self, request_id: &str) -> Row {
        let begun = Instant::now();
        loop {
            if let Some(row) = self.database.audit_row(request_id).await
                && row.outcome.is_some()
            {
                return row;
            }
            assert!(begun.elapsed() < PATIENCE, "no complete audit row of {request_id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What SIGHUP does.
    pub async fn reload(&self) {
        self.server.as_ref().unwrap().reload().await;
    }

    /// Drains and stops, as SIGTERM would.
    pub async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}

/// Everything on free ports of the loopback interface, with cheap password hashes.
pub fn test_config(database: &TestDatabase, folder: &std::path::Path, provider: &str) -> Config {
    let mut config = Config { data_dir: folder.to_owned(), database: database.config(), ..Config::default() };
    config.gateway.listen = "127.0.0.1:0".to_owned();
    config.gateway.threads = 2;
    config.gateway.drain_delay = sentinel::config::HumanDuration::millis(0);
    config.admin.listen = "127.0.0.1:0".to_owned();
    // Tests poll.
    config.admin.address_rate_limit = 0;
    config.admin.session_rate_limit = 0;
    config.auth.argon2_memory_kib = 64;
    config.auth.argon2_passes = 1;
    config.auth.jwt_secret = Some("a secret for tests, long enough to be one".to_owned().into());
    for upstream in config.upstreams.values_mut() {
        upstream.url = provider.to_owned();
    }
    config
}

pub fn chat_body(text: &str) -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]})
}

pub async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Reply { status, headers, text: answer.text().await.expect("a whole answer") }
}

/// Makes an organization, a workspace and a key through the API.
pub async fn register(client: &reqwest::Client, admin: &str, name: &str, email: &str) -> Tenant {
    let account = json!({"email": email, "password": "SecurePass123!", "full_name": "John Doe", "org_name": name});
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let owner = reply(client.post(format!("{admin}/auth/register")).json(&account)).await.expect(201).json();
    let access_token = text(&owner["access_token"]);
    let post =
        |path: &str, body: Value| reply(client.post(format!("{admin}{path}")).bearer_auth(&access_token).json(&body));
    let workspace = post("/workspaces", json!({"name": "production"})).await.expect(201).json();
    let key = json!({"workspace_id": workspace["id"], "name": "Production API Key"});
    let key = post("/api-keys", key).await.expect(201).json();
    Tenant { workspace_id: text(&workspace["id"]), key_id: text(&key["id"]), key: text(&key["key"]), access_token }
}
