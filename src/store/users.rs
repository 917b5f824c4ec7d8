use sqlx::types::Json;

use super::error::taken;
use super::sort::{NEVER, Value, sorted};
use super::statement::{TenantSql, tenant_sql};
use super::{Change, KeyHash, Page, PageRequest, Sort, StoreError, TenantTx, UserColumn};
use crate::domain::{OrgId, Timestamp, UserId};

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct UserRecord {
    pub id: UserId,
    pub org_id: OrgId,
    pub email: String,
    pub full_name: String,
    /// `owner`, `admin`, `member`, `viewer`, `auditor`; `authn::Role` reads it.
    pub role: String,
    /// Granular grants beyond the role: `policies:write` …
    #[sqlx(json)]
    pub permissions: Vec<String>,
    pub is_active: bool,
    pub mfa_enabled: bool,
    pub sso_provider: Option<String>,
    pub must_change_password: bool,
    pub last_login_at: Option<Timestamp>,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewUser {
    pub id: UserId,
    pub email: String,
    pub full_name: String,
    pub role: String,
    pub permissions: Vec<String>,
    pub password_hash: String,
    pub must_change_password: bool,
    pub invited_by: Option<UserId>,
}

/// `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct UserPatch {
    pub full_name: Option<String>,
    pub role: Option<String>,
    pub permissions: Option<Vec<String>>,
    pub is_active: Option<bool>,
}

/// The people of the organization.
pub struct Users<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! user_columns {
    ($table:literal) => {
        concat!(
            $table,
            "id, ",
            $table,
            "org_id, ",
            $table,
            "email, ",
            $table,
            "full_name, ",
            $table,
            "role, ",
            $table,
            "permissions, ",
            $table,
            "is_active, ",
            $table,
            "mfa_enabled, ",
            $table,
            "sso_provider, ",
            $table,
            "must_change_password, ",
            $table,
            "last_login_at, ",
            $table,
            "version, ",
            $table,
            "created_at, ",
            $table,
            "updated_at"
        )
    };
}
pub(super) use user_columns;

/// How addresses are compared. Not SQL's `lower`, on whose alphabet the engines differ.
pub(super) fn email_key(email: &str) -> String {
    email.trim().to_lowercase()
}

/// The statement of [`Users::insert`], which registration uses too.
pub(super) const INSERT: TenantSql = tenant_sql!(
    "INSERT INTO users (
        org_id, id, email, email_key, full_name, role, permissions, password_hash, must_change_password, invited_by,
        password_changed_at, created_at, updated_at
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11)
    RETURNING ",
    user_columns!("")
);

impl Users<'_> {
    /// # Errors
    /// [`StoreError::Conflict`]`("email")` when the address has an account (addresses are unique over all organizations).
    pub async fn insert(&mut self, user: NewUser) -> Result<UserRecord, StoreError> {
        let now = self.tx.now();
        self.tx
            .statement(INSERT)
            .bind(user.id)
            .bind(user.email.trim())
            .bind(email_key(&user.email))
            .bind(user.full_name)
            .bind(user.role)
            .bind(Json(user.permissions))
            .bind(user.password_hash)
            .bind(user.must_change_password)
            .bind(user.invited_by)
            .bind(now)
            .one()
            .await
            .map_err(taken("email"))
    }

    pub async fn find(&mut self, id: UserId) -> Result<Option<UserRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            user_columns!(""),
            " FROM users WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// Newest first.
    pub async fn list(&mut self, page: &PageRequest) -> Result<Page<UserRecord>, StoreError> {
        self.list_by(Sort::default(), page).await
    }

    pub async fn list_by(
        &mut self,
        sort: Sort<UserColumn>,
        page: &PageRequest,
    ) -> Result<Page<UserRecord>, StoreError> {
        macro_rules! by {
            ($column:literal) => {
                sorted!(
                    ("SELECT ", user_columns!(""), " FROM users WHERE org_id = $1 AND deleted_at IS NULL"),
                    $column,
                    "id"
                )
            };
        }
        let both = match sort.by {
            UserColumn::CreatedAt => by!("created_at"),
            UserColumn::Email => by!("email_key"),
            UserColumn::LastLoginAt => by!("COALESCE(last_login_at, $5)"),
        };
        let start = sort.start(page)?;
        let statement = start.bind(self.tx.statement(sort.of(both))).bind(page.rows());
        let statement = if sort.by == UserColumn::LastLoginAt { statement.bind(NEVER) } else { statement };
        let rows = statement.all().await?;
        Ok(sort.page(page, rows, |user: &UserRecord| {
            let value = match sort.by {
                UserColumn::CreatedAt => Value::Time(user.created_at),
                UserColumn::Email => Value::Text(email_key(&user.email)),
                UserColumn::LastLoginAt => Value::Time(user.last_login_at.unwrap_or(NEVER)),
            };
            (value, user.id.uuid())
        }))
    }

    /// Deactivating a person also ends their sessions and revokes the keys that they made.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("last owner")` when the patch would leave the organization without an active owner.
    pub async fn update(&mut self, id: UserId, patch: UserPatch) -> Result<Option<UserRecord>, StoreError> {
        const UPDATE: TenantSql = tenant_sql!(
            "UPDATE users
            SET full_name = COALESCE($3, full_name),
                role = COALESCE($4, role),
                permissions = COALESCE($5, permissions),
                is_active = COALESCE($6, is_active),
                deactivated_at = CASE WHEN $6 THEN NULL WHEN is_active AND NOT $6 THEN $7 ELSE deactivated_at END,
                version = version + 1,
                updated_at = $7
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL
            RETURNING ",
            user_columns!("")
        );
        let deactivates = patch.is_active == Some(false);
        if deactivates || patch.role.as_deref().is_some_and(|role| role != "owner") {
            self.keep_an_owner(id).await?;
        }
        let now = self.tx.now();
        let updated = self
            .tx
            .statement(UPDATE)
            .bind(id)
            .bind(patch.full_name)
            .bind(patch.role)
            .bind(patch.permissions.map(Json))
            .bind(patch.is_active)
            .bind(now)
            .optional()
            .await?;
        if updated.is_some() {
            if deactivates {
                self.end_sessions(id, None).await?;
                self.revoke_keys_made_by(id).await?;
            }
            self.standing_changed();
        }
        Ok(updated)
    }

    /// Soft delete; ends the person's sessions and revokes the keys that they made. False when there is no such user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]`("last owner")`.
    pub async fn remove(&mut self, id: UserId) -> Result<bool, StoreError> {
        const REMOVE: TenantSql = tenant_sql!(
            "UPDATE users
            SET deleted_at = $3, deactivated_at = COALESCE(deactivated_at, $3), is_active = FALSE,
                version = version + 1, updated_at = $3
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        self.keep_an_owner(id).await?;
        let now = self.tx.now();
        let removed = self.tx.statement(REMOVE).bind(id).bind(now).execute().await? == 1;
        if removed {
            self.end_sessions(id, None).await?;
            self.revoke_keys_made_by(id).await?;
            self.standing_changed();
        }
        Ok(removed)
    }

    /// False when there is no such user. The person's sessions go on.
    pub async fn set_password(&mut self, id: UserId, hash: &str, must_change: bool) -> Result<bool, StoreError> {
        const SET: TenantSql = tenant_sql!(
            "UPDATE users
            SET password_hash = $3, must_change_password = $4, password_changed_at = $5,
                version = version + 1, updated_at = $5
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        let now = self.tx.now();
        let set = self.tx.statement(SET).bind(id).bind(hash).bind(must_change).bind(now).execute().await? == 1;
        if set {
            self.standing_changed();
        }
        Ok(set)
    }

    /// Replaces the hash of the same password by a stronger one. Nothing happens when the password has changed meanwhile.
    pub async fn upgrade_hash(&mut self, id: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        const UPGRADE: TenantSql =
            tenant_sql!("UPDATE users SET password_hash = $4 WHERE org_id = $1 AND id = $2 AND password_hash = $3");
        self.tx.statement(UPGRADE).bind(id).bind(old).bind(new).execute().await?;
        Ok(())
    }

    pub async fn count(&mut self) -> Result<u64, StoreError> {
        const COUNT: TenantSql = tenant_sql!("SELECT COUNT(*) FROM users WHERE org_id = $1 AND deleted_at IS NULL");
        let (count,): (i64,) = self.tx.statement(COUNT).one().await?;
        Ok(count.unsigned_abs())
    }

    /// Refuses to touch the only active owner. Two owners who remove each other at once are let in one after the other.
    async fn keep_an_owner(&mut self, id: UserId) -> Result<(), StoreError> {
        const OWNERS: TenantSql = tenant_sql!(
            "SELECT
                COUNT(*) FILTER (WHERE id = $2),
                COUNT(*) FILTER (WHERE id <> $2)
            FROM users
            WHERE org_id = $1 AND role = 'owner' AND is_active AND deleted_at IS NULL"
        );
        let scope = self.tx.scope();
        self.tx.tx.serialize(scope).await?;
        let (this, others): (i64, i64) = self.tx.statement(OWNERS).bind(id).one().await?;
        if this > 0 && others == 0 { Err(StoreError::Conflict("last owner")) } else { Ok(()) }
    }

    /// Revokes the keys that a person made; they are refused from the next request on.
    async fn revoke_keys_made_by(&mut self, id: UserId) -> Result<(), StoreError> {
        const REVOKE: TenantSql = tenant_sql!(
            "UPDATE api_keys
            SET revoked_at = $3, is_active = FALSE, updated_at = $3
            WHERE org_id = $1 AND created_by = $2 AND revoked_at IS NULL
            RETURNING key_hash"
        );
        let now = self.tx.now();
        let org = self.tx.scope().org_id();
        let revoked: Vec<(KeyHash,)> = self.tx.statement(REVOKE).bind(id).bind(now).all().await?;
        for (hash,) in revoked {
            self.tx.record(Change::ApiKey { org, hash });
        }
        Ok(())
    }

    fn standing_changed(&mut self) {
        let org = self.tx.scope().org_id();
        self.tx.record(Change::Organization { org });
    }
}
