//! Everything durable but the journal: all SQL, both engines, migrations and the change feed.
//!
//! Two doors lead to tenants' data, [`Store::read`] and [`Store::write`], and both want a [`TenantScope`], which only
//! the store makes, when it resolves a credential. What is asked without one is in
//! `unscoped.rs` and the few functions beside it that a test lists.

mod admin_events;
mod api_keys;
mod audit_chain;
mod audit_insert;
mod audit_logs;
mod audit_removal;
mod audit_reviews;
mod audit_search;
mod audit_settings;
mod audit_terms;
mod change;
mod data_sets;
mod engine;
mod error;
mod event_stream;
mod export;
mod feed;
mod feedback;
mod idempotency;
mod identity;
mod invitations;
mod lifecycle;
mod login_lockouts;
pub mod migrate;
mod organizations;
mod page;
mod password_resets;
mod policies;
mod policy_drafts;
mod policy_replay;
mod policy_rollouts;
mod production;
mod provider_credentials;
mod prune;
mod saved_filters;
mod sessions;
mod sort;
mod statement;
mod unscoped;
mod usage;
mod users;
mod values;
mod workspace_members;
mod workspaces;

use std::sync::Arc;

use crate::config::DatabaseConfig;
use crate::domain::{OrgId, SharedClock, Timestamp};

use engine::{Inner, Mode, Tx};
use statement::{Statement, TenantSql};

pub use admin_events::{
    Actor, ActorType, AdminEventFilter, AdminEventRecord, AdminEvents, EventOutcome, NewAdminEvent, Origin,
};
pub use api_keys::{ApiKeyRecord, ApiKeys, KeyHash, NewApiKey};
pub use audit_chain::{ChainHead, Checkpoint};
pub use audit_logs::{AuditFilter, AuditLogs, AuditRow, DayCount, TrafficStats};
pub use audit_removal::{ErasedRow, LEGAL_HOLD, PersonalRow, Removal};
pub use audit_reviews::{AuditReviews, Escalation, ReviewComment, ReviewFilter, ReviewRecord};
pub use audit_search::BucketCount;
pub use audit_settings::{AuditSettings, AuditSettingsOf};
pub use change::Change;
pub use data_sets::{DataSetRecord, DataSets, StoredDataSet};
pub use error::StoreError;
pub use event_stream::{EventPosition, EventStream, EventTicket};
pub use export::Exports;
pub use feedback::{Feedback, FeedbackRecord, FeedbackVerdict, RuleImpact};
pub use idempotency::{Begun, IdempotencyKeys, IdempotentRequest, KeptAnswer};
pub use identity::{
    DirectoryChange, DirectoryFilter, DirectoryRecord, Identity, LoginDemands, MfaRecord, ProvisionedUser,
    ScimTokenRecord, SsoConnection,
};
pub use invitations::{InvitationRecord, Invitations, Invited, NewInvitation};
pub use lifecycle::{Purged, RESTORABLE};
pub use login_lockouts::AccountHash;
pub use organizations::{
    NewOrganization, OrganizationPatch, OrganizationRecord, Organizations, Plan, Registered, Tier,
};
pub use page::{Page, PageRequest};
pub use password_resets::PasswordReset;
pub use policies::{NewPolicy, Policies, PolicyRecord};
pub use policy_drafts::{DraftOf, PolicyDrafts};
pub use policy_replay::{ReplayedRows, ReviewedRule, StoredDecision};
pub use policy_rollouts::{DifferenceSample, EffectiveRollout, PolicyRollouts, RolloutPlan, RolloutRecord};
pub use provider_credentials::{
    NewProviderCredential, ProviderCredentialRecord, ProviderCredentials, SealedCredential,
};
pub use saved_filters::{NewSavedFilter, SavedFilterPatch, SavedFilterRecord, SavedFilters};
pub use sessions::{LoginMethod, NewSession, RefreshOutcome, SessionRecord, TokenHash};
pub use sort::{
    ApiKeyColumn, Column, EventColumn, PolicyColumn, ReviewColumn, SavedFilterColumn, Sort, UserColumn, WorkspaceColumn,
};
pub use unscoped::{EffectivePolicy, LoginAccount, ResolvedKey, ResolvedSession};
pub use users::{NewUser, UserPatch, UserRecord, Users};
pub use workspace_members::{MemberRecord, WorkspaceMembers};
pub use workspaces::{NewWorkspace, WorkspacePatch, WorkspaceRecord, Workspaces};

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

/// A handle on the database; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// A transaction inside one organization. Dropped without [`TenantTx::commit`], it is rolled back.
pub struct TenantTx {
    scope: TenantScope,
    tx: Tx,
    inner: Arc<Inner>,
    /// What caches must forget when this is committed.
    changes: Vec<Change>,
}

impl Store {
    /// Connects; does not migrate (but for a database in memory, which nobody else could).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database does not answer, [`StoreError::Database`] when the address is not one or,
    /// on PostgreSQL, when the login cannot become the runtime role.
    pub async fn connect(config: &DatabaseConfig, clock: SharedClock) -> Result<Self, StoreError> {
        Ok(Self { inner: Arc::new(Inner::connect(config, clock).await?) })
    }

    /// `sqlite` or `postgresql`.
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        self.inner.engine_name()
    }

    /// Connections to the database that are open, and how many of them are idle.
    #[must_use]
    pub fn connections(&self) -> (i64, i64) {
        self.inner.connections()
    }

    /// Answers when the database does.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut tx = self.inner.begin_bare().await?;
        tx.statement("SELECT 1").execute().await?;
        tx.commit().await
    }

    /// A read-only transaction.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read(&self, scope: TenantScope) -> Result<TenantTx, StoreError> {
        let tx = self.inner.begin(scope, Mode::Read).await?;
        Ok(TenantTx { scope, tx, inner: Arc::clone(&self.inner), changes: Vec::new() })
    }

    /// A transaction that may write.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn write(&self, scope: TenantScope) -> Result<TenantTx, StoreError> {
        let tx = self.inner.begin(scope, Mode::Write).await?;
        Ok(TenantTx { scope, tx, inner: Arc::clone(&self.inner), changes: Vec::new() })
    }

    /// Ends all connections; waits for those in use.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}

impl TenantTx {
    #[must_use]
    pub const fn scope(&self) -> TenantScope {
        self.scope
    }

    pub fn organization(&mut self) -> Organizations<'_> {
        Organizations { tx: self }
    }

    pub fn exports(&mut self) -> Exports<'_> {
        Exports { tx: self }
    }

    pub fn users(&mut self) -> Users<'_> {
        Users { tx: self }
    }

    pub fn workspaces(&mut self) -> Workspaces<'_> {
        Workspaces { tx: self }
    }

    pub fn api_keys(&mut self) -> ApiKeys<'_> {
        ApiKeys { tx: self }
    }

    pub fn provider_credentials(&mut self) -> ProviderCredentials<'_> {
        ProviderCredentials { tx: self }
    }

    pub fn data_sets(&mut self) -> DataSets<'_> {
        DataSets { tx: self }
    }

    pub fn policies(&mut self) -> Policies<'_> {
        Policies { tx: self }
    }

    pub fn policy_rollouts(&mut self) -> PolicyRollouts<'_> {
        PolicyRollouts { tx: self }
    }

    pub fn policy_drafts(&mut self) -> PolicyDrafts<'_> {
        PolicyDrafts { tx: self }
    }

    pub fn feedback(&mut self) -> Feedback<'_> {
        Feedback { tx: self }
    }

    pub fn identity(&mut self) -> Identity<'_> {
        Identity { tx: self }
    }

    pub fn admin_events(&mut self) -> AdminEvents<'_> {
        AdminEvents { tx: self }
    }

    pub fn idempotency_keys(&mut self) -> IdempotencyKeys<'_> {
        IdempotencyKeys { tx: self }
    }

    pub fn invitations(&mut self) -> Invitations<'_> {
        Invitations { tx: self }
    }

    pub fn workspace_members(&mut self) -> WorkspaceMembers<'_> {
        WorkspaceMembers { tx: self }
    }

    pub fn saved_filters(&mut self) -> SavedFilters<'_> {
        SavedFilters { tx: self }
    }

    pub fn event_stream(&mut self) -> EventStream<'_> {
        EventStream { tx: self }
    }

    pub fn audit_logs(&mut self) -> AuditLogs<'_> {
        AuditLogs { tx: self }
    }

    pub fn audit_reviews(&mut self) -> AuditReviews<'_> {
        AuditReviews { tx: self }
    }

    pub fn audit_settings(&mut self) -> AuditSettingsOf<'_> {
        AuditSettingsOf { tx: self }
    }

    /// Makes the changes durable, then tells this node's listeners and, on PostgreSQL, the other nodes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: whether the changes were made is then unknown.
    pub async fn commit(self) -> Result<(), StoreError> {
        feed::commit(self).await
    }

    /// Lets the organization's transactions past this point one at a time, until they end: what one counts, no other
    /// changes meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn serialize(&mut self) -> Result<(), StoreError> {
        self.tx.serialize(self.scope).await
    }

    /// A statement with the organization bound as `$1`.
    fn statement(&mut self, sql: TenantSql) -> Statement<'_> {
        self.tx.statement(sql.text()).bind(self.scope.org)
    }

    fn record(&mut self, change: Change) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }
}
