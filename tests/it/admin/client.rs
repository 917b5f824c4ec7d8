//! A client that asserts, and an organization to act in.

use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::Sentinel;

/// The password of the reference document.
pub const PASSWORD: &str = "SecurePass123!";

/// One answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The body, when the status is the one expected.
    #[track_caller]
    pub fn ok(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    /// The body, when this is a well-made problem with that status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{:#}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["request_id"], self.header("x-request-id"));
        assert_eq!(self.body["type"], format!("/problems/{code}"));
        assert!(self.body["title"].is_string() && self.body["detail"].is_string() && self.body["instance"].is_string());
        self.body
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {self:?}"));
        value.to_str().unwrap()
    }
}

/// Calls the admin face as one person, or as nobody.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    token: Option<String>,
}

impl Client {
    pub fn new(sentinel: &Sentinel) -> Self {
        Self::at(&sentinel.admin_url())
    }

    pub fn at(base: &str) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { base: base.trim_end_matches('/').to_owned(), http, token: None }
    }

    /// The same client below another path.
    pub fn below(&self, path: &str) -> Self {
        Self { base: format!("{}{path}", self.base), ..self.clone() }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// With `If-Match`.
    pub async fn change(&self, method: Method, path: &str, tag: &str, body: Value) -> Answer {
        self.send(self.request(method, path).header("if-match", tag).json(&body)).await
    }

    /// Logs in; the body has the tokens.
    pub async fn login(&self, email: &str, password: &str) -> Answer {
        self.post("/auth/login", json!({"email": email, "password": password})).await
    }

    /// Scans a text with an API key.
    pub async fn process(&self, key: &str, text: &str) -> Answer {
        self.send(self.request(Method::POST, "/process").header("x-api-key", key).json(&json!({"user_input": text})))
            .await
    }
}

/// An organization, as its owner acts in it.
pub struct Organization {
    pub owner: Client,
    pub email: String,
    pub org_id: String,
    pub user_id: String,
    pub refresh_token: String,
}

impl Organization {
    /// Registers a new one under a name and address of its own.
    pub async fn register(client: &Client) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let email = format!("boss{n}@org{n}.example");
        let body =
            json!({"email": email, "password": PASSWORD, "full_name": "The Boss", "org_name": format!("Org {n}")});
        let body = client.post("/auth/register", body).await.ok(201);
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        Self {
            owner: client.with_token(&text("access_token")),
            email,
            org_id: text("org_id"),
            user_id: text("user_id"),
            refresh_token: text("refresh_token"),
        }
    }

    /// The workspace that came with the registration.
    pub async fn workspace(&self) -> Value {
        self.owner.get("/workspaces").await.ok(200)["data"][0].clone()
    }

    /// Invites a person, sets their password, and acts as them. Returns their id too.
    pub async fn person(&self, role: &str, permissions: Value) -> (Client, String) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let email = format!("{role}{n}@people.example");
        let body = json!({"email": email, "full_name": "A Person", "role": role, "permissions": permissions});
        let invited = self.owner.post("/orgs/me/users/invite", body).await.ok(201);
        let client = Client { token: None, ..self.owner.clone() };
        let temporary = invited["temporary_password"].as_str().unwrap();
        let tokens = client.login(&email, temporary).await.ok(200);
        let person = client.with_token(tokens["access_token"].as_str().unwrap());
        let change = json!({"current_password": temporary, "new_password": "correct horse battery staple"});
        person.post("/auth/password", change).await.ok(204);
        (person, invited["id"].as_str().unwrap().to_owned())
    }

    /// A new API key of a workspace: its record and the key.
    pub async fn api_key(&self, workspace_id: &Value) -> (Value, String) {
        let body = json!({"workspace_id": workspace_id, "name": "a key"});
        let created = self.owner.post("/api-keys", body).await.ok(201);
        let key = created["key"].as_str().unwrap().to_owned();
        (created, key)
    }
}
