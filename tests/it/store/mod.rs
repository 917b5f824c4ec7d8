//! Every method of the store, on both engines, and against another organization.

mod accounts;
mod api_keys;
mod audit_chain;
mod audit_logs;
mod audit_retention;
mod audit_search;
mod connecting;
mod event_stream;
mod feed;
mod feedback;
mod lifecycle;
mod migrations;
mod organizations;
mod policies;
mod policy_drafts;
mod policy_rollouts;
mod rewrap;
mod row_security;
mod row_security_escape;
mod sessions;
mod unscoped;
mod usage;
mod users;
mod workspaces;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sentinel::domain::{ApiKeyId, Clock as _, ManualClock, PolicyId, Timestamp, UserId, WorkspaceId};
use sentinel::store::{
    ApiKeyRecord, Change, KeyHash, NewApiKey, NewOrganization, NewPolicy, NewUser, NewWorkspace, PageRequest,
    Registered, Store, TenantTx,
};
use serde_json::json;

use crate::support::database::TestDatabase;

/// Makes of each function two tests, `sqlite::name` and `postgres::name`.
macro_rules! on_both_engines {
    ($($(#[$doc:meta])* async fn $name:ident($($world:ident)+: World) $body:block)+) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::super::World::on_sqlite().await).await })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::super::World::on_postgres().await).await })+
        }
        $($(#[$doc])* async fn $name($($world)+: super::World) $body)+
    };
}
use on_both_engines;

/// 2026-03-01T12:00:00Z
const START: Timestamp = Timestamp::from_micros(1_772_366_400_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// Two organizations, so that each method can be asked for the other's things.
struct World {
    store: Store,
    clock: Arc<ManualClock>,
    acme: Registered,
    other: Registered,
    /// What this store's listeners were told.
    told: Arc<Mutex<Vec<Change>>>,
    // Last: dropped after the store.
    database: TestDatabase,
}

impl World {
    async fn on_sqlite() -> Self {
        Self::new(TestDatabase::sqlite().await).await
    }

    async fn on_postgres() -> Self {
        Self::new(TestDatabase::postgres().await).await
    }

    async fn new(database: TestDatabase) -> Self {
        let clock = ManualClock::at(START);
        let store = database.store(clock.clone()).await;
        let acme = store.register(organization("Acme Corp", "founder@acme.com")).await.unwrap();
        let other = store.register(organization("Other", "founder@other.com")).await.unwrap();
        let told = Arc::<Mutex<Vec<Change>>>::default();
        let ear = Arc::clone(&told);
        store.on_change(move |change| ear.lock().push(change.clone()));
        Self { store, clock, acme, other, told, database }
    }

    async fn read(&self) -> TenantTx {
        self.store.read(self.acme.scope).await.unwrap()
    }

    async fn write(&self) -> TenantTx {
        self.store.write(self.acme.scope).await.unwrap()
    }

    /// A transaction of the other organization.
    async fn other(&self) -> TenantTx {
        self.store.write(self.other.scope).await.unwrap()
    }

    fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What was told since the last look.
    fn told(&self) -> Vec<Change> {
        std::mem::take(&mut *self.told.lock())
    }

    fn organization_changed(&self) -> Change {
        Change::Organization { org: self.acme.org_id }
    }

    fn policy_changed(&self) -> Change {
        Change::Policy { org: self.acme.org_id }
    }

    /// A committed key of acme's first workspace.
    async fn key(&self, seed: u8) -> ApiKeyRecord {
        let mut tx = self.write().await;
        let key = tx.api_keys().insert(new_key(self.acme.workspace_id, seed)).await.unwrap();
        tx.commit().await.unwrap();
        key
    }
}

fn organization(name: &str, email: &str) -> NewOrganization {
    NewOrganization {
        name: name.to_owned(),
        owner_email: email.to_owned(),
        owner_full_name: "The Founder".to_owned(),
        owner_password_hash: "$argon2id$stored".to_owned(),
        workspace_name: "default".to_owned(),
    }
}

fn new_user(email: &str, role: &str) -> NewUser {
    NewUser {
        id: UserId::new(),
        email: email.to_owned(),
        full_name: "Jane Smith".to_owned(),
        role: role.to_owned(),
        permissions: vec!["policies:write".to_owned()],
        password_hash: "$argon2id$temporary".to_owned(),
        must_change_password: true,
        invited_by: None,
    }
}

fn new_workspace(name: &str) -> NewWorkspace {
    NewWorkspace {
        id: WorkspaceId::new(),
        name: name.to_owned(),
        description: Some("where the bots live".to_owned()),
        environment: "staging".to_owned(),
        policy_id: None,
        config: json!({"reveal": true, "nested": {"list": [1, 2.5, null]}}),
    }
}

fn new_key(workspace_id: WorkspaceId, seed: u8) -> NewApiKey {
    NewApiKey {
        id: ApiKeyId::new(),
        workspace_id,
        name: format!("key {seed}"),
        hash: KeyHash([seed; 32]),
        key_prefix: "snt_live_AbCd".to_owned(),
        last_four: "wXyZ".to_owned(),
        scopes: vec!["process".to_owned(), "metrics".to_owned()],
        rate_limit_per_minute: Some(600),
        expires_at: Some(START.plus(30 * DAY)),
        rotated_from: None,
        created_by: None,
    }
}

fn new_policy(name: &str) -> NewPolicy {
    NewPolicy {
        id: PolicyId::new(),
        name: name.to_owned(),
        description: None,
        document: json!({"extends": "balanced", "rules": [{"category": "pii", "action": "block"}]}),
        is_default: false,
        comment: Some("first".to_owned()),
        created_by: None,
    }
}

fn page(limit: u32, cursor: Option<String>) -> PageRequest {
    PageRequest { limit, cursor }
}

/// Reads a whole list two rows at a time; the expression may use `request`.
macro_rules! all_pages {
    ($request:ident => $list:expr) => {{
        let mut rows = Vec::new();
        let mut cursor = None;
        loop {
            let $request = super::page(2, cursor);
            let page = $list.await.unwrap();
            assert!(page.data.len() <= 2, "a page is no longer than asked");
            rows.extend(page.data);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => break rows,
            }
        }
    }};
}
use all_pages;

macro_rules! assert_refused {
    ($result:expr, $error:pat) => {
        match $result {
            Err($error) => {}
            other => panic!("expected {}, got {other:?}", stringify!($error)),
        }
    };
}
use assert_refused;

/// What opening a session is told by.
fn login_event() -> sentinel::store::NewAdminEvent {
    sentinel::store::NewAdminEvent::by_operator("auth.login", "user", UserId::new().uuid())
}
