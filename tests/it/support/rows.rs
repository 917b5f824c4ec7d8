//! Audit rows read past the product: with a superuser's connection, or from the SQLite file.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, FromRow, PgConnection, SqliteConnection};
use uuid::Uuid;

use super::TestDatabase;
use super::raw::PATIENCE;

/// What the tests ask of a row.
#[derive(Debug, FromRow)]
pub struct Row {
    pub action: String,
    pub source: String,
    pub upstream: Option<String>,
    pub model: Option<String>,
    pub user_id: Option<String>,
    pub error_code: Option<String>,
    pub pii_detected: bool,
    pub findings: String,
    pub outcome: Option<String>,
    pub status: Option<i64>,
    /// What was made of the answer, in JSON.
    pub answer: Option<String>,
}

const SQLITE: &str = "SELECT action, source, upstream, model, user_id, \
    coalesce(completion_error_code, error_code) AS error_code, \
    pii_detected, findings, outcome, status, answer FROM audit_logs";
const POSTGRES: &str = "SELECT action, source, upstream, model, user_id, \
    coalesce(completion_error_code, error_code) AS error_code, \
    pii_detected, findings::text AS findings, outcome, status::bigint AS status, answer::text AS answer FROM audit_logs";

impl TestDatabase {
    /// The row of a request id (`req_…`).
    pub async fn audit_row(&self, request_id: &str) -> Option<Row> {
        let id: Uuid = request_id.strip_prefix("req_").expect("a request id").parse().expect("a UUID");
        let condition = if self.is_sqlite() { format!("id = X'{}'", id.simple()) } else { format!("id = '{id}'") };
        self.audit_rows(&condition).await.pop()
    }

    /// Rows under a condition in SQL.
    pub async fn audit_rows(&self, condition: &str) -> Vec<Row> {
        let text = |select: &str| sqlx::AssertSqlSafe(format!("{select} WHERE {condition}"));
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.config().url).await.expect("the SQLite file");
            sqlx::query_as(text(SQLITE)).fetch_all(&mut connection).await.expect("a readable table")
        } else {
            let mut connection: PgConnection = self.admin().await;
            sqlx::query_as(text(POSTGRES)).fetch_all(&mut connection).await.expect("a readable table")
        }
    }

    /// The first row under a condition, as soon as there is one.
    pub async fn wait_for_row(&self, condition: &str) -> Row {
        let begun = Instant::now();
        loop {
            if let Some(row) = self.audit_rows(condition).await.pop() {
                return row;
            }
            assert!(begun.elapsed() < PATIENCE, "no audit row where {condition}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The stored hash of a person's password.
    pub async fn password_hash(&self, email: &str) -> String {
        const HASH: &str = "SELECT password_hash FROM users WHERE email = $1";
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.config().url).await.expect("the SQLite file");
            sqlx::query_scalar(HASH).bind(email).fetch_one(&mut connection).await.expect("a person")
        } else {
            sqlx::query_scalar(HASH).bind(email).fetch_one(&mut self.admin().await).await.expect("a person")
        }
    }

    pub async fn set_password_hash(&self, email: &str, hash: &str) {
        const SET: &str = "UPDATE users SET password_hash = $2 WHERE email = $1";
        let rows = if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.config().url).await.expect("the SQLite file");
            sqlx::query(SET).bind(email).bind(hash).execute(&mut connection).await.expect("a person").rows_affected()
        } else {
            let mut connection = self.admin().await;
            sqlx::query(SET).bind(email).bind(hash).execute(&mut connection).await.expect("a person").rows_affected()
        };
        assert_eq!(rows, 1);
    }

    /// Lets all tickets of event streams expire.
    pub async fn expire_event_tickets(&self) {
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.config().url).await.expect("the SQLite file");
            let expire = sqlx::query("UPDATE event_tickets SET expires_at = 1");
            assert!(expire.execute(&mut connection).await.expect("a table").rows_affected() > 0);
        } else {
            let expire = sqlx::query("UPDATE event_tickets SET expires_at = '2020-01-01T00:00:00Z'");
            assert!(expire.execute(&mut self.admin().await).await.expect("a table").rows_affected() > 0);
        }
    }

    fn is_sqlite(&self) -> bool {
        self.config().url.starts_with("sqlite:")
    }
}

/// Rows with `user_id` set, in a SQLite file.
pub async fn count_rows(url: &str) -> Vec<String> {
    let mut connection = SqliteConnection::connect(url).await.expect("the SQLite file");
    sqlx::query_scalar("SELECT user_id FROM audit_logs WHERE user_id IS NOT NULL")
        .fetch_all(&mut connection)
        .await
        .expect("a readable table")
}

/// Events of the admin face read past the product.
impl TestDatabase {
    /// The request ids of all events.
    pub async fn event_requests(&self) -> Vec<String> {
        self.texts("SELECT request_id FROM admin_events WHERE request_id IS NOT NULL").await
    }

    /// The request ids of events that belong to no organization.
    pub async fn events_without_organization(&self) -> Vec<String> {
        self.texts("SELECT request_id FROM admin_events WHERE request_id IS NOT NULL AND org_id IS NULL").await
    }

    /// Everything that events say, as one text.
    pub async fn event_text(&self) -> String {
        let all = "SELECT action || ' ' || coalesce(actor_email, '') || ' ' || coalesce(CAST(before AS TEXT), '')
            || ' ' || coalesce(CAST(after AS TEXT), '') FROM admin_events";
        self.texts(all).await.join("\n")
    }

    /// What is stored of answers to requests with an `Idempotency-Key`.
    pub async fn kept_answers(&self) -> Vec<String> {
        self.texts("SELECT CAST(response AS TEXT) FROM idempotency_keys WHERE response IS NOT NULL").await
    }

    async fn texts(&self, text: &'static str) -> Vec<String> {
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.config().url).await.expect("the SQLite file");
            sqlx::query_scalar(text).fetch_all(&mut connection).await.expect("a readable table")
        } else {
            let mut connection: PgConnection = self.admin().await;
            sqlx::query_scalar(text).fetch_all(&mut connection).await.expect("a readable table")
        }
    }
}
