//! Everything durable but the journal: all SQL, both engines, migrations and the change feed.
//!
//! Two doors lead to tenants' data, [`Store::read`] and [`Store::write`], and both want a [`TenantScope`], which only
//! the store makes, when it resolves a credential. What is asked without one is in `unscoped.rs`.

mod api_keys;
mod audit_logs;
mod change;
mod engine;
pub mod migrate;
mod organizations;
mod policies;
mod sessions;
mod unscoped;
mod users;
mod workspaces;

use std::sync::Arc;

use crate::config::DatabaseConfig;
use crate::domain::{OrgId, SharedClock};

pub use api_keys::{ApiKeyRecord, KeyHash, NewApiKey};
pub use audit_logs::{AuditFilter, AuditRow, DayCount, TrafficStats};
pub use change::Change;
pub use organizations::{NewOrganization, OrganizationPatch, OrganizationRecord, Registered, Tier};
pub use policies::{NewPolicy, PolicyRecord};
pub use sessions::{NewSession, RefreshOutcome, SessionRecord};
pub use unscoped::{EffectivePolicy, LoginAccount, ResolvedKey};
pub use users::{NewUser, UserPatch, UserRecord};
pub use workspaces::{NewWorkspace, WorkspacePatch, WorkspaceRecord};

/// The right to see one organization's data. Only the store makes one, when it resolves a credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantScope {
    org: OrgId,
}

impl TenantScope {
    #[must_use]
    pub const fn org_id(self) -> OrgId {
        self.org
    }
}

#[cfg(test)]
impl TenantScope {
    /// For unit tests of what only passes scopes on.
    pub(crate) const fn for_tests(org: OrgId) -> Self {
        Self { org }
    }
}

impl std::fmt::Debug for TenantScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TenantScope({})", self.org)
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique value is taken; names what: `email`, `workspace name` …
    #[error("{0} is already in use")]
    Conflict(&'static str),
    /// The row changed since it was read (`If-Match`).
    #[error("the row has changed since it was read")]
    Stale,
    /// The row refers to something that does not exist in this organization.
    #[error("{0} does not exist")]
    Missing(&'static str),
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// A row that this version cannot read.
    #[error("{table}.{column}: {cause}")]
    Corrupt { table: &'static str, column: &'static str, cause: String },
    #[error("database: {0}")]
    Database(String),
}

/// One page of a list, newest first unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// The opaque cursor of the next page, if there is one.
    pub next_cursor: Option<String>,
}

/// Where a page starts and how long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to 200.
    pub limit: u32,
    /// `next_cursor` of the page before; refused with [`StoreError::Missing`]`("cursor")` when it is not one.
    pub cursor: Option<String>,
}

/// A handle on the database; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<engine::Inner>,
}

/// A transaction inside one organization. Dropped without [`TenantTx::commit`], it is rolled back.
pub struct TenantTx {
    scope: TenantScope,
}

impl Store {
    /// Connects; does not migrate.
    pub async fn connect(_config: &DatabaseConfig, _clock: SharedClock) -> Result<Self, StoreError> {
        todo!()
    }

    /// `sqlite` or `postgresql`.
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        todo!()
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), StoreError> {
        todo!()
    }

    /// Why this database is not fit for production: a role that could bypass row-level security, unapplied migrations.
    pub async fn production_faults(&self) -> Result<Vec<String>, StoreError> {
        todo!()
    }

    /// A read-only transaction.
    pub async fn read(&self, _scope: TenantScope) -> Result<TenantTx, StoreError> {
        todo!()
    }

    pub async fn write(&self, _scope: TenantScope) -> Result<TenantTx, StoreError> {
        todo!()
    }

    /// Calls `listener` after every committed change, before `commit` returns on this node, and as soon as the
    /// notification arrives on others. It must not block. [`Change::Everything`] when notifications may have been missed.
    pub fn on_change(&self, _listener: impl Fn(&Change) + Send + Sync + 'static) {
        todo!()
    }

    /// Listens for other nodes' changes until `stop` turns true; returns at once on SQLite.
    pub async fn follow_changes(&self, _stop: tokio::sync::watch::Receiver<bool>) {
        todo!()
    }

    pub async fn close(&self) {
        todo!()
    }
}

impl TenantTx {
    #[must_use]
    pub const fn scope(&self) -> TenantScope {
        self.scope
    }

    pub fn organization(&mut self) -> organizations::Organizations<'_> {
        organizations::Organizations { tx: self }
    }

    pub fn users(&mut self) -> users::Users<'_> {
        users::Users { tx: self }
    }

    pub fn workspaces(&mut self) -> workspaces::Workspaces<'_> {
        workspaces::Workspaces { tx: self }
    }

    pub fn api_keys(&mut self) -> api_keys::ApiKeys<'_> {
        api_keys::ApiKeys { tx: self }
    }

    pub fn policies(&mut self) -> policies::Policies<'_> {
        policies::Policies { tx: self }
    }

    pub fn audit_logs(&mut self) -> audit_logs::AuditLogs<'_> {
        audit_logs::AuditLogs { tx: self }
    }

    /// Makes the changes durable, then tells this node's listeners and, on PostgreSQL, the other nodes.
    pub async fn commit(self) -> Result<(), StoreError> {
        todo!()
    }
}
