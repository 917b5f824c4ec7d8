//! What lies beside a person's password: the second factor, the organization's sign-on provider, and its directory.

use std::time::Duration;

use serde_json::Value;
use sqlx::types::Json;
use sqlx::types::uuid::Uuid;

use super::engine::Mode;
use super::error::taken;
use super::statement::{TenantSql, tenant_sql};
use super::users::{email_key, user_columns};
use super::{Store, StoreError, TenantScope, TenantTx, TokenHash, UserRecord, Users};
use crate::domain::{OrgId, RecoveryCodeId, Timestamp, UserId};

/// Wrong codes in a row after which none is looked at for a while, across all nodes and log-ins.
const MFA_TRIES: i64 = 5;
/// How long.
const MFA_LOCK: Duration = Duration::from_secs(15 * 60);

/// A person's second factor.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct MfaRecord {
    pub mfa_enabled: bool,
    /// Sealed.
    pub mfa_secret: Option<Vec<u8>>,
}

/// A person who is made by the organization's provider or directory, without a password.
#[derive(Clone, Debug)]
pub struct ProvisionedUser {
    pub id: UserId,
    pub email: String,
    pub full_name: String,
    pub role: String,
    pub is_active: bool,
    pub external_id: Option<String>,
}

/// A person as the organization's directory sees them.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DirectoryRecord {
    #[sqlx(flatten)]
    pub user: UserRecord,
    pub external_id: Option<String>,
}

/// What a directory sets; everything is replaced.
#[derive(Clone, Debug)]
pub struct DirectoryChange {
    pub email: String,
    pub full_name: String,
    pub external_id: Option<String>,
    pub is_active: bool,
}

/// What a directory looks for; `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct DirectoryFilter {
    pub email: Option<String>,
    pub external_id: Option<String>,
}

/// The organization's sign-on provider.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SsoConnection {
    pub issuer: String,
    pub client_id: String,
    /// Sealed.
    pub client_secret: Vec<u8>,
    #[sqlx(json)]
    pub email_domains: Vec<String>,
    pub default_role: String,
    pub max_role: String,
    pub groups_claim: Option<String>,
    /// Group to role.
    #[sqlx(json)]
    pub role_mapping: std::collections::BTreeMap<String, String>,
    pub sso_required: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// When the directory's token was made, and by whom.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ScimTokenRecord {
    pub created_by: UserId,
    pub created_at: Timestamp,
}

/// What an organization demands of everyone who logs in with a password.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginDemands {
    pub mfa: bool,
    pub sso: bool,
}

macro_rules! connection_columns {
    () => {
        "issuer, client_id, client_secret, email_domains, default_role, max_role, groups_claim, role_mapping, \
         sso_required, created_at, updated_at"
    };
}

/// Whether settings demand a second factor.
pub(super) fn requires_mfa(settings: &Value) -> bool {
    settings.get("require_mfa").and_then(Value::as_bool).unwrap_or(false)
}

impl Users<'_> {
    pub async fn mfa(&mut self, id: UserId) -> Result<Option<MfaRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT mfa_enabled, mfa_secret FROM users WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// The sealed seed of everyone who has one.
    pub async fn mfa_secrets(&mut self) -> Result<Vec<(UserId, Vec<u8>)>, StoreError> {
        const LIST: TenantSql =
            tenant_sql!("SELECT id, mfa_secret FROM users WHERE org_id = $1 AND mfa_secret IS NOT NULL");
        Ok(self.tx.statement(LIST).all().await?)
    }

    /// Puts the same seed, sealed under another key, in the place of `old`, unless that has changed meanwhile.
    pub async fn reseal_mfa_secret(&mut self, id: UserId, old: &[u8], new: &[u8]) -> Result<(), StoreError> {
        const RESEAL: TenantSql =
            tenant_sql!("UPDATE users SET mfa_secret = $4 WHERE org_id = $1 AND id = $2 AND mfa_secret = $3");
        self.tx.statement(RESEAL).bind(id).bind(old).bind(new).execute().await?;
        Ok(())
    }

    /// Keeps a secret that is not in force yet. False when one is in force.
    pub async fn offer_mfa(&mut self, id: UserId, sealed: &[u8]) -> Result<bool, StoreError> {
        const OFFER: TenantSql = tenant_sql!(
            "UPDATE users SET mfa_secret = $3, last_totp_step = NULL, updated_at = $4
            WHERE org_id = $1 AND id = $2 AND NOT mfa_enabled AND deleted_at IS NULL"
        );
        let now = self.tx.now();
        Ok(self.tx.statement(OFFER).bind(id).bind(sealed).bind(now).execute().await? == 1)
    }

    /// Puts the offered secret in force. False when none was offered, or one is in force.
    pub async fn enable_mfa(&mut self, id: UserId) -> Result<bool, StoreError> {
        const ENABLE: TenantSql = tenant_sql!(
            "UPDATE users
            SET mfa_enabled = TRUE, mfa_enrolled_at = $3, version = version + 1, updated_at = $3
            WHERE org_id = $1 AND id = $2 AND NOT mfa_enabled AND mfa_secret IS NOT NULL AND deleted_at IS NULL"
        );
        let now = self.tx.now();
        Ok(self.tx.statement(ENABLE).bind(id).bind(now).execute().await? == 1)
    }

    /// Forgets the second factor and its recovery codes. False when there is none.
    pub async fn disable_mfa(&mut self, id: UserId) -> Result<bool, StoreError> {
        const DISABLE: TenantSql = tenant_sql!(
            "UPDATE users
            SET mfa_enabled = FALSE, mfa_secret = NULL, mfa_enrolled_at = NULL, last_totp_step = NULL,
                version = version + 1, updated_at = $3
            WHERE org_id = $1 AND id = $2 AND mfa_enabled AND deleted_at IS NULL"
        );
        let now = self.tx.now();
        let disabled = self.tx.statement(DISABLE).bind(id).bind(now).execute().await? == 1;
        if disabled {
            self.retire_recovery_codes(id).await?;
        }
        Ok(disabled)
    }

    /// Counts a try before its code is looked at, so that tries at the same time are counted too. False: not now.
    /// To be committed whatever becomes of the code.
    pub async fn count_mfa_try(&mut self, id: UserId) -> Result<bool, StoreError> {
        const COUNT: TenantSql = tenant_sql!(
            "UPDATE users
            SET mfa_failures = CASE WHEN mfa_locked_until IS NULL THEN mfa_failures + 1 ELSE 1 END,
                mfa_locked_until = CASE WHEN mfa_locked_until IS NULL AND mfa_failures + 1 >= $4 THEN $5 ELSE NULL END
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL
                AND (mfa_locked_until IS NULL OR mfa_locked_until <= $3)"
        );
        let now = self.tx.now();
        let until = now.plus(MFA_LOCK);
        let counted = self.tx.statement(COUNT).bind(id).bind(now).bind(MFA_TRIES).bind(until).execute().await?;
        Ok(counted == 1)
    }

    /// Takes the code of a time step once: false when that step or a later one was taken before.
    pub async fn take_totp_step(&mut self, id: UserId, step: i64) -> Result<bool, StoreError> {
        const TAKE: TenantSql = tenant_sql!(
            "UPDATE users SET last_totp_step = $3, mfa_failures = 0, mfa_locked_until = NULL
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL
                AND (last_totp_step IS NULL OR last_totp_step < $3)"
        );
        Ok(self.tx.statement(TAKE).bind(id).bind(step).execute().await? == 1)
    }

    /// Takes a recovery code once.
    pub async fn take_recovery_code(&mut self, id: UserId, hash: &str) -> Result<bool, StoreError> {
        const TAKE: TenantSql = tenant_sql!(
            "UPDATE recovery_codes SET used_at = $4
            WHERE org_id = $1 AND user_id = $2 AND code_hash = $3 AND used_at IS NULL"
        );
        const FORGIVE: TenantSql =
            tenant_sql!("UPDATE users SET mfa_failures = 0, mfa_locked_until = NULL WHERE org_id = $1 AND id = $2");
        let now = self.tx.now();
        let taken = self.tx.statement(TAKE).bind(id).bind(hash).bind(now).execute().await? == 1;
        if taken {
            self.tx.statement(FORGIVE).bind(id).execute().await?;
        }
        Ok(taken)
    }

    /// Replaces all codes of the person.
    pub async fn set_recovery_codes(&mut self, id: UserId, hashes: &[String]) -> Result<(), StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO recovery_codes (org_id, id, user_id, code_hash, created_at) VALUES ($1, $2, $3, $4, $5)"
        );
        self.retire_recovery_codes(id).await?;
        let now = self.tx.now();
        for hash in hashes {
            let code = RecoveryCodeId::new();
            self.tx.statement(INSERT).bind(code).bind(id).bind(hash.as_str()).bind(now).execute().await?;
        }
        Ok(())
    }

    async fn retire_recovery_codes(&mut self, id: UserId) -> Result<(), StoreError> {
        const RETIRE: TenantSql = tenant_sql!(
            "UPDATE recovery_codes SET used_at = $3 WHERE org_id = $1 AND user_id = $2 AND used_at IS NULL"
        );
        let now = self.tx.now();
        self.tx.statement(RETIRE).bind(id).bind(now).execute().await?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError::Conflict`]`("email")`.
    pub async fn provision(&mut self, user: ProvisionedUser) -> Result<DirectoryRecord, StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO users (
                org_id, id, email, email_key, full_name, role, permissions, is_active, external_id, deactivated_at,
                created_at, updated_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $8 THEN NULL ELSE $10 END, $10, $10)
            RETURNING external_id, ",
            user_columns!("")
        );
        let now = self.tx.now();
        self.tx
            .statement(INSERT)
            .bind(user.id)
            .bind(user.email.trim())
            .bind(email_key(&user.email))
            .bind(user.full_name)
            .bind(user.role)
            .bind(Json(Vec::<String>::new()))
            .bind(user.is_active)
            .bind(user.external_id)
            .bind(now)
            .one()
            .await
            .map_err(taken("email"))
    }

    /// The person who signs on as `subject` of `issuer`.
    pub async fn find_by_subject(&mut self, issuer: &str, subject: &str) -> Result<Option<UserRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            user_columns!(""),
            " FROM users WHERE org_id = $1 AND sso_provider = $2 AND sso_subject = $3 AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(issuer).bind(subject).optional().await?)
    }

    /// Addresses are compared without case.
    pub async fn find_by_email(&mut self, email: &str) -> Result<Option<UserRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            user_columns!(""),
            " FROM users WHERE org_id = $1 AND email_key = $2 AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(email_key(email)).optional().await?)
    }

    /// # Errors
    /// [`StoreError::Conflict`]`("identity")` when somebody else signs on as that subject.
    pub async fn link_subject(&mut self, id: UserId, issuer: &str, subject: &str) -> Result<(), StoreError> {
        const LINK: TenantSql = tenant_sql!(
            "UPDATE users SET sso_provider = $3, sso_subject = $4, version = version + 1, updated_at = $5
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        let now = self.tx.now();
        let link = self.tx.statement(LINK).bind(id).bind(issuer).bind(subject).bind(now);
        link.execute().await.map_err(taken("identity"))?;
        Ok(())
    }

    /// A person with what the directory knows them by.
    pub async fn directory_entry(&mut self, id: UserId) -> Result<Option<DirectoryRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT external_id, ",
            user_columns!(""),
            " FROM users WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// Oldest first, `count` from `offset` on, and how many there are.
    pub async fn directory(
        &mut self,
        filter: &DirectoryFilter,
        offset: u32,
        count: u32,
    ) -> Result<(Vec<DirectoryRecord>, u64), StoreError> {
        const LIST: TenantSql = tenant_sql!(
            "SELECT external_id, ",
            user_columns!(""),
            " FROM users
            WHERE org_id = $1 AND deleted_at IS NULL
                AND ($2 IS NULL OR email_key = $2)
                AND ($3 IS NULL OR external_id = $3)
            ORDER BY id
            LIMIT $4 OFFSET $5"
        );
        const COUNT: TenantSql = tenant_sql!(
            "SELECT COUNT(*) FROM users
            WHERE org_id = $1 AND deleted_at IS NULL
                AND ($2 IS NULL OR email_key = $2)
                AND ($3 IS NULL OR external_id = $3)"
        );
        let email = filter.email.as_deref().map(email_key);
        let list = self.tx.statement(LIST).bind(email.clone()).bind(filter.external_id.clone());
        let rows = list.bind(i64::from(count)).bind(i64::from(offset)).all().await?;
        let (total,): (i64,) = self.tx.statement(COUNT).bind(email).bind(filter.external_id.clone()).one().await?;
        Ok((rows, total.unsigned_abs()))
    }

    /// Who is deactivated loses their sessions and the keys they made.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("email")`; [`StoreError::Conflict`]`("last owner")`.
    pub async fn apply_directory(
        &mut self,
        id: UserId,
        change: DirectoryChange,
    ) -> Result<Option<DirectoryRecord>, StoreError> {
        const APPLY: TenantSql = tenant_sql!(
            "UPDATE users
            SET email = $3, email_key = $4, full_name = $5, external_id = $6, version = version + 1, updated_at = $7
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        let now = self.tx.now();
        let applied = self
            .tx
            .statement(APPLY)
            .bind(id)
            .bind(change.email.trim())
            .bind(email_key(&change.email))
            .bind(change.full_name)
            .bind(change.external_id)
            .bind(now)
            .execute()
            .await
            .map_err(taken("email"))?;
        if applied == 0 {
            return Ok(None);
        }
        let patch = super::UserPatch { is_active: Some(change.is_active), ..super::UserPatch::default() };
        self.update(id, patch).await?;
        self.directory_entry(id).await
    }
}

/// How the organization's people sign on and are provisioned.
pub struct Identity<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl Identity<'_> {
    pub async fn login_demands(&mut self) -> Result<LoginDemands, StoreError> {
        let mfa = requires_mfa(&self.tx.organization().get().await?.settings);
        let sso = self.connection().await?.is_some_and(|connection| connection.sso_required);
        Ok(LoginDemands { mfa, sso })
    }

    pub async fn connection(&mut self) -> Result<Option<SsoConnection>, StoreError> {
        const FIND: TenantSql =
            tenant_sql!("SELECT ", connection_columns!(), " FROM sso_connections WHERE org_id = $1");
        Ok(self.tx.statement(FIND).optional().await?)
    }

    /// Ends the sessions that a password opened, but for owners', who keep theirs. Returns how many.
    pub async fn end_password_sessions(&mut self) -> Result<u64, StoreError> {
        const END: TenantSql = tenant_sql!(
            "UPDATE sessions
            SET revoked_at = $2
            WHERE org_id = $1 AND method = 'password' AND revoked_at IS NULL
                AND user_id NOT IN (SELECT id FROM users WHERE org_id = $1 AND role = 'owner')"
        );
        let now = self.tx.now();
        Ok(self.tx.statement(END).bind(now).execute().await?)
    }

    /// Makes or replaces the connection; its times are the store's.
    pub async fn set_connection(&mut self, connection: SsoConnection) -> Result<SsoConnection, StoreError> {
        const SET: TenantSql = tenant_sql!(
            "INSERT INTO sso_connections (
                org_id, issuer, client_id, client_secret, email_domains, default_role, max_role, groups_claim,
                role_mapping, sso_required, created_at, updated_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
            ON CONFLICT (org_id) DO UPDATE
            SET issuer = excluded.issuer, client_id = excluded.client_id, client_secret = excluded.client_secret,
                email_domains = excluded.email_domains, default_role = excluded.default_role,
                max_role = excluded.max_role, groups_claim = excluded.groups_claim,
                role_mapping = excluded.role_mapping, sso_required = excluded.sso_required,
                updated_at = excluded.updated_at
            RETURNING ",
            connection_columns!()
        );
        let now = self.tx.now();
        let set = self
            .tx
            .statement(SET)
            .bind(connection.issuer)
            .bind(connection.client_id)
            .bind(connection.client_secret)
            .bind(Json(connection.email_domains))
            .bind(connection.default_role)
            .bind(connection.max_role)
            .bind(connection.groups_claim)
            .bind(Json(connection.role_mapping))
            .bind(connection.sso_required)
            .bind(now);
        Ok(set.one().await?)
    }

    pub async fn remove_connection(&mut self) -> Result<bool, StoreError> {
        const REMOVE: TenantSql = tenant_sql!("DELETE FROM sso_connections WHERE org_id = $1");
        Ok(self.tx.statement(REMOVE).execute().await? == 1)
    }

    pub async fn scim_token(&mut self) -> Result<Option<ScimTokenRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!("SELECT created_by, created_at FROM scim_tokens WHERE org_id = $1");
        Ok(self.tx.statement(FIND).optional().await?)
    }

    /// Makes the token, or replaces the one before.
    pub async fn set_scim_token(&mut self, hash: TokenHash, by: UserId) -> Result<ScimTokenRecord, StoreError> {
        const SET: TenantSql = tenant_sql!(
            "INSERT INTO scim_tokens (org_id, token_hash, created_by, created_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (org_id) DO UPDATE
            SET token_hash = excluded.token_hash, created_by = excluded.created_by, created_at = excluded.created_at
            RETURNING created_by, created_at"
        );
        let now = self.tx.now();
        Ok(self.tx.statement(SET).bind(&hash[..]).bind(by).bind(now).one().await?)
    }

    pub async fn remove_scim_token(&mut self) -> Result<bool, StoreError> {
        const REMOVE: TenantSql = tenant_sql!("DELETE FROM scim_tokens WHERE org_id = $1");
        Ok(self.tx.statement(REMOVE).execute().await? == 1)
    }
}

#[derive(sqlx::FromRow)]
struct Owner {
    org_id: Uuid,
}

impl Store {
    /// The active organization that a directory's token belongs to.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resolve_scim_token(&self, hash: &TokenHash) -> Result<Option<TenantScope>, StoreError> {
        const RESOLVE: &str = "
            SELECT t.org_id
            FROM scim_tokens t
            JOIN organizations o ON o.id = t.org_id
            WHERE t.token_hash = $1 AND o.is_active AND o.deleted_at IS NULL";
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let owner: Option<Owner> = tx.statement(RESOLVE).bind(&hash[..]).optional().await?;
        tx.commit().await?;
        Ok(owner.map(|owner| TenantScope { org: OrgId::from_uuid(owner.org_id) }))
    }

    /// The active organization that someone wants to sign on to; what they may see of it is decided by its provider.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sign_on_scope(&self, slug: &str) -> Result<Option<TenantScope>, StoreError> {
        const FIND: &str = "
            SELECT id AS org_id FROM organizations WHERE slug = $1 AND is_active AND deleted_at IS NULL";
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let owner: Option<Owner> = tx.statement(FIND).bind(slug).optional().await?;
        tx.commit().await?;
        Ok(owner.map(|owner| TenantScope { org: OrgId::from_uuid(owner.org_id) }))
    }

    /// The active person whose password has been checked, for the second factor.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resolve_person(&self, user: UserId) -> Result<Option<(TenantScope, UserRecord)>, StoreError> {
        const RESOLVE: &str = concat!(
            "SELECT ",
            user_columns!("u."),
            " FROM users u
            JOIN organizations o ON o.id = u.org_id
            WHERE u.id = $1 AND u.is_active AND u.deleted_at IS NULL AND o.is_active AND o.deleted_at IS NULL"
        );
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let person: Option<UserRecord> = tx.statement(RESOLVE).bind(user).optional().await?;
        tx.commit().await?;
        Ok(person.map(|person| (TenantScope { org: person.org_id }, person)))
    }
}
