//! Every statement that runs outside one organization: resolving credentials, loading policies, shipping audit rows.

use std::sync::Arc;

use sqlx::types::Json;

use super::engine::{Mode, Tx};
use super::error::taken;
use super::identity::requires_mfa;
use super::policy_rollouts::{EffectiveRollout, RolloutColumns, rollout_columns};
use super::statement::{TenantSql, tenant_sql};
use super::users::{email_key, user_columns};
use super::values::{OptionalCount, corrupt};
use super::workspaces::{distinct, slug};
use super::{
    Actor, ActorType, AuditRow, KeyHash, NewAdminEvent, NewOrganization, NewUser, NewWorkspace, Origin, Registered,
    Store, StoreError, TenantScope, TenantTx, UserRecord, admin_events, audit_insert,
};
use crate::domain::{
    ApiKeyId, Month, OrgId, PolicyId, Secret, SessionId, Timestamp, UserId, WorkspaceConfig, WorkspaceId,
};

/// An API key that exists, with everything its validity hangs on; the caller judges it against the clock.
#[derive(Clone, Debug)]
pub struct ResolvedKey {
    pub scope: TenantScope,
    pub key_id: ApiKeyId,
    pub workspace_id: WorkspaceId,
    pub scopes: Vec<String>,
    pub rate_limit_per_minute: Option<u32>,
    pub expires_at: Option<Timestamp>,
    /// Active, not revoked.
    pub key_active: bool,
    pub workspace_active: bool,
    pub org_active: bool,
    /// What the workspace sets for itself.
    pub config: WorkspaceConfig,
    /// None: no limit.
    pub monthly_request_limit: Option<u64>,
    /// Requests of the organization that all nodes have counted in this month.
    pub counted: (Month, u64),
}

/// What a log-in is checked against.
#[derive(Clone, Debug)]
pub struct LoginAccount {
    pub scope: TenantScope,
    pub user_id: UserId,
    pub password_hash: Secret<String>,
    pub active: bool,
    pub must_change_password: bool,
}

/// A live session with its person.
#[derive(Clone, Debug)]
pub struct ResolvedSession {
    pub scope: TenantScope,
    pub user: UserRecord,
    /// The organization demands a second factor, and neither Sentinel nor a provider has asked this person for one.
    pub mfa_missing: bool,
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    #[sqlx(flatten)]
    user: UserRecord,
    org_settings: Json<serde_json::Value>,
    method: String,
}

/// The policy that a workspace is under.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectivePolicy {
    pub id: PolicyId,
    pub root_id: PolicyId,
    pub name: String,
    pub version: i64,
    pub document: serde_json::Value,
    /// What judges beside it.
    pub rollout: Option<EffectiveRollout>,
}

#[derive(sqlx::FromRow)]
struct EffectiveRow {
    id: PolicyId,
    root_id: PolicyId,
    name: String,
    version: i64,
    document: Json<serde_json::Value>,
    #[sqlx(flatten)]
    rollout: RolloutColumns,
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    org_id: OrgId,
    id: ApiKeyId,
    workspace_id: WorkspaceId,
    scopes: Json<Vec<String>>,
    #[sqlx(try_from = "OptionalCount")]
    rate_limit_per_minute: Option<u32>,
    expires_at: Option<Timestamp>,
    key_active: bool,
    workspace_active: bool,
    org_active: bool,
    config: Json<serde_json::Value>,
    #[sqlx(try_from = "OptionalCount")]
    monthly_request_limit: Option<u64>,
    #[sqlx(try_from = "OptionalCount")]
    requests: Option<u64>,
}

#[derive(sqlx::FromRow)]
struct LoginRow {
    org_id: OrgId,
    id: UserId,
    password_hash: String,
    active: bool,
    must_change_password: bool,
}

impl Store {
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resolve_api_key(&self, hash: &KeyHash) -> Result<Option<ResolvedKey>, StoreError> {
        const RESOLVE: &str = "
            SELECT k.org_id, k.id, k.workspace_id, k.scopes, k.rate_limit_per_minute, k.expires_at,
                k.is_active AND k.revoked_at IS NULL AS key_active,
                w.is_active AND w.deleted_at IS NULL AS workspace_active,
                o.is_active AND o.deleted_at IS NULL AS org_active,
                w.config, o.monthly_request_limit,
                (SELECT u.requests FROM usage_counters u WHERE u.org_id = k.org_id AND u.month = $2) AS requests
            FROM api_keys k
            JOIN workspaces w ON w.org_id = k.org_id AND w.id = k.workspace_id
            JOIN organizations o ON o.id = k.org_id
            WHERE k.key_hash = $1";
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let month = self.inner.clock.now().month();
        let resolve = tx.statement(RESOLVE).bind(*hash).bind(i64::from(month.number()));
        let row: Option<KeyRow> = resolve.optional().await?;
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        // A setting that this version does not know could not be enforced: the key fails closed.
        let config = serde_json::from_value(row.config.0).map_err(|cause| corrupt("workspaces", "config", cause))?;
        Ok(Some(ResolvedKey {
            scope: TenantScope { org: row.org_id },
            key_id: row.id,
            workspace_id: row.workspace_id,
            scopes: row.scopes.0,
            rate_limit_per_minute: row.rate_limit_per_minute,
            expires_at: row.expires_at,
            key_active: row.key_active,
            workspace_active: row.workspace_active,
            org_active: row.org_active,
            config,
            monthly_request_limit: row.monthly_request_limit,
            counted: (month, row.requests.unwrap_or(0)),
        }))
    }

    /// Remembers when keys were last used; called in batches by a background task. A later use is never overwritten.
    /// One transaction for each organization.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn touch_api_keys(&self, used: &[(ApiKeyId, OrgId, Timestamp)]) -> Result<(), StoreError> {
        const TOUCH: TenantSql = tenant_sql!(
            "UPDATE api_keys
            SET last_used_at = $3
            WHERE org_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at < $3)"
        );
        let mut used = used.to_vec();
        // In the same order on every node, so that two of them cannot wait for each other.
        used.sort_unstable_by_key(|(key, org, _)| (*org, *key));
        for keys in used.chunk_by(|(_, left, _), (_, right, _)| left == right) {
            let Some((_, org, _)) = keys.first() else { continue };
            let mut tx = self.write(TenantScope { org: *org }).await?;
            for (key, _, at) in keys {
                tx.statement(TOUCH).bind(*key).bind(*at).execute().await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Addresses are compared without case. None also for people who have no password.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn find_login(&self, email: &str) -> Result<Option<LoginAccount>, StoreError> {
        const LOGIN: &str = "
            SELECT u.org_id, u.id, u.password_hash, u.is_active AND o.is_active AS active, u.must_change_password
            FROM users u
            JOIN organizations o ON o.id = u.org_id
            WHERE u.email_key = $1
                AND u.password_hash IS NOT NULL
                AND u.deleted_at IS NULL
                AND o.deleted_at IS NULL";
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let row: Option<LoginRow> = tx.statement(LOGIN).bind(email_key(email)).optional().await?;
        tx.commit().await?;
        Ok(row.map(|row| LoginAccount {
            scope: TenantScope { org: row.org_id },
            user_id: row.id,
            password_hash: Secret::new(row.password_hash),
            active: row.active,
            must_change_password: row.must_change_password,
        }))
    }

    /// A live session of an active person of an active organization, by the ids in an access token.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resolve_session(
        &self,
        session: SessionId,
        user: UserId,
    ) -> Result<Option<ResolvedSession>, StoreError> {
        const RESOLVE: &str = concat!(
            "SELECT o.settings AS org_settings, s.method, ",
            user_columns!("u."),
            " FROM sessions s
            JOIN users u ON u.org_id = s.org_id AND u.id = s.user_id
            JOIN organizations o ON o.id = s.org_id
            WHERE s.id = $1
                AND s.user_id = $2
                AND s.revoked_at IS NULL
                AND s.expires_at > $3
                AND u.is_active
                AND u.deleted_at IS NULL
                AND o.is_active
                AND o.deleted_at IS NULL"
        );
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let now = self.inner.clock.now();
        let row: Option<SessionRow> = tx.statement(RESOLVE).bind(session).bind(user).bind(now).optional().await?;
        tx.commit().await?;
        Ok(row.map(|SessionRow { user, org_settings, method }| ResolvedSession {
            scope: TenantScope { org: user.org_id },
            mfa_missing: !user.mfa_enabled && method == "password" && requires_mfa(&org_settings.0),
            user,
        }))
    }

    /// Makes an organization, its owner and its first workspace.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("email")`.
    pub async fn register(&self, organization: NewOrganization) -> Result<Registered, StoreError> {
        self.register_by(None, organization).await
    }

    /// [`Store::register`] by the person who becomes the owner, from `origin`; without one, by the operator.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("email")`.
    pub async fn register_by(
        &self,
        origin: Option<Origin>,
        organization: NewOrganization,
    ) -> Result<Registered, StoreError> {
        const TAKEN: &str = "SELECT COUNT(*) FROM organizations WHERE slug = $1 AND deleted_at IS NULL";
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO organizations (id, name, slug, settings, created_at, updated_at)
            SELECT org_id, $2, $3, $4, $5, $5
            FROM (SELECT $1 AS org_id) AS new"
        );
        let made = (OrgId::new(), UserId::new(), WorkspaceId::new());
        let (org_id, user_id, workspace_id) = made;
        let scope = TenantScope { org: org_id };
        let empty = || Json(serde_json::json!({}));
        let mut slug = slug(&organization.name);
        let owner_email = organization.owner_email.clone();

        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        let (taken_slugs,): (i64,) = tx.statement(TAKEN).bind(slug.as_str()).one().await?;
        if taken_slugs > 0 {
            slug = distinct(&slug, org_id.uuid());
        }
        let mut tx = self.enter(tx, scope).await?;
        let now = tx.now();
        tx.statement(INSERT)
            .bind(organization.name)
            .bind(slug)
            .bind(empty())
            .bind(now)
            .execute()
            .await
            .map_err(taken("organization name"))?;
        tx.users()
            .insert(NewUser {
                id: user_id,
                email: organization.owner_email,
                full_name: organization.owner_full_name,
                role: "owner".to_owned(),
                permissions: Vec::new(),
                password_hash: organization.owner_password_hash,
                must_change_password: false,
                invited_by: None,
            })
            .await?;
        tx.workspaces()
            .insert(NewWorkspace {
                id: workspace_id,
                name: organization.workspace_name,
                description: None,
                environment: "production".to_owned(),
                policy_id: None,
                config: empty().0,
            })
            .await?;
        let mut event = NewAdminEvent::by_operator("organization.create", "organization", org_id.uuid());
        if let Some(origin) = origin {
            event.actor = Actor { kind: ActorType::User, id: Some(user_id.uuid()), email: Some(owner_email) };
            event.origin = origin;
        }
        tx.admin_events().insert(event).await?;
        tx.commit().await?;
        Ok(Registered { scope, org_id, user_id, workspace_id })
    }

    /// The scope of an organization, for the command line of whoever runs Sentinel: by id, slug or name, in this order.
    ///
    /// # Errors
    /// [`StoreError::Database`] when several organizations have that name.
    pub async fn operator_scope(&self, organization: &str) -> Result<Option<TenantScope>, StoreError> {
        const FIND: &str = "
            SELECT id, CASE WHEN id = $1 THEN 0 WHEN slug = $2 THEN 1 ELSE 2 END AS rank
            FROM organizations
            WHERE (id = $1 OR slug = $2 OR name = $2) AND deleted_at IS NULL
            ORDER BY rank
            LIMIT 2";
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let id = organization.parse::<OrgId>().ok();
        let found: Vec<Named> = tx.statement(FIND).bind(id).bind(organization).all().await?;
        tx.commit().await?;
        match found.as_slice() {
            [] => Ok(None),
            [first, second] if first.rank == second.rank => {
                Err(StoreError::Database("several organizations have that name: give the slug or the id".to_owned()))
            }
            [first, ..] => Ok(Some(TenantScope { org: first.id })),
        }
    }

    /// The scope of every organization, deleted ones too, for what the program does with all of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn every_scope(&self) -> Result<Vec<TenantScope>, StoreError> {
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let all: Vec<(OrgId,)> = tx.statement("SELECT id FROM organizations ORDER BY id").all().await?;
        tx.commit().await?;
        Ok(all.into_iter().map(|(org,)| TenantScope { org }).collect())
    }

    /// Remembers a log-in that has been checked.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn record_login(&self, user: UserId, org: OrgId) -> Result<(), StoreError> {
        const RECORD: TenantSql = tenant_sql!("UPDATE users SET last_login_at = $3 WHERE org_id = $1 AND id = $2");
        let mut tx = self.write(TenantScope { org }).await?;
        let now = tx.now();
        tx.statement(RECORD).bind(user).bind(now).execute().await?;
        tx.commit().await
    }

    /// None: the workspace is under the preset `balanced`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn effective_policy(
        &self,
        workspace: WorkspaceId,
        scope: TenantScope,
    ) -> Result<Option<EffectivePolicy>, StoreError> {
        const EFFECTIVE: TenantSql = tenant_sql!(
            "SELECT p.id, p.root_id, p.name, p.version, p.document, ",
            rollout_columns!(),
            " FROM workspaces w
            JOIN policies p ON p.org_id = w.org_id
                AND p.is_active
                AND p.deleted_at IS NULL
                AND (p.root_id = w.policy_id OR (w.policy_id IS NULL AND p.is_default))
            LEFT JOIN policy_rollouts r ON r.org_id = p.org_id
                AND r.root_id = p.root_id
                AND r.baseline_id = p.id
                AND r.ended_at IS NULL
            LEFT JOIN policies c ON c.org_id = r.org_id
                AND c.id = r.candidate_id
                AND c.revision = r.candidate_revision
                AND c.is_draft
                AND c.deleted_at IS NULL
            WHERE w.org_id = $1 AND w.id = $2 AND w.deleted_at IS NULL"
        );
        let mut tx = self.read(scope).await?;
        let row: Option<EffectiveRow> = tx.statement(EFFECTIVE).bind(workspace).optional().await?;
        tx.commit().await?;
        let Some(EffectiveRow { id, root_id, name, version, document, rollout }) = row else { return Ok(None) };
        Ok(Some(EffectivePolicy { id, root_id, name, version, document: document.0, rollout: rollout.rollout(scope)? }))
    }

    /// Writes audit rows in one transaction. Idempotent on the event's id: a row that is there is completed, never doubled,
    /// and a completion is never taken back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: try again, with the same rows or more.
    pub async fn ship_audit(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = audit_insert::distinct(rows);
        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        if audit_insert::insert(&mut tx, &rows).await? {
            return tx.commit().await;
        }
        // After a crash, or when an earlier attempt succeeded without our knowing.
        drop(tx);
        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        let rows = audit_insert::missing(&mut tx, &rows).await?;
        if !audit_insert::insert(&mut tx, &rows).await? {
            return Err(StoreError::Unavailable("another process writes the same audit rows".to_owned()));
        }
        tx.commit().await
    }

    /// Records an act outside any other transaction: a refused attempt. Without a scope it belongs to no organization.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn record_event(&self, scope: Option<TenantScope>, event: NewAdminEvent) -> Result<(), StoreError> {
        if let Some(scope) = scope {
            let mut tx = self.write(scope).await?;
            tx.admin_events().insert(event).await?;
            return tx.commit().await;
        }
        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        admin_events::insert_without_organization(&mut tx, event, self.inner.clock.now()).await?;
        tx.commit().await
    }

    /// Goes on inside one organization with a transaction that was begun outside.
    pub(super) async fn enter(&self, mut tx: Tx, scope: TenantScope) -> Result<TenantTx, StoreError> {
        tx.enter(scope).await?;
        Ok(TenantTx { scope, tx, inner: Arc::clone(&self.inner), changes: Vec::new() })
    }
}

#[derive(sqlx::FromRow)]
struct Named {
    id: OrgId,
    rank: i32,
}
