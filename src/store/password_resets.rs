//! Links that set a new password, once. A person who asks twice has two that work; the first use ends them all.

use super::engine::Mode;
use super::error::taken;
use super::statement::{TenantSql, tenant_sql};
use super::{Store, StoreError, TenantScope, TokenHash, Users};
use crate::domain::{OrgId, Timestamp, UserId};

/// Links that a person can have at a time, so that nobody fills a mailbox.
const MOST: i64 = 3;

/// The person whose password a link sets.
#[derive(Clone, Debug)]
pub struct PasswordReset {
    pub scope: TenantScope,
    pub user_id: UserId,
    pub email: String,
    pub full_name: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    org_id: OrgId,
    user_id: UserId,
    email: String,
    full_name: String,
}

impl Store {
    /// None when the link is unknown, used or expired, or its person may not log in.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resolve_password_reset(&self, token: &TokenHash) -> Result<Option<PasswordReset>, StoreError> {
        const RESOLVE: &str = "
            SELECT r.org_id, r.user_id, u.email, u.full_name
            FROM password_resets r
            JOIN users u ON u.org_id = r.org_id AND u.id = r.user_id
            JOIN organizations o ON o.id = r.org_id
            WHERE r.token_hash = $1
                AND r.expires_at > $2
                AND u.is_active
                AND u.deleted_at IS NULL
                AND o.is_active
                AND o.deleted_at IS NULL";
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let now = self.inner.clock.now();
        let row: Option<Row> = tx.statement(RESOLVE).bind(&token[..]).bind(now).optional().await?;
        tx.commit().await?;
        Ok(row.map(|row| PasswordReset {
            scope: TenantScope { org: row.org_id },
            user_id: row.user_id,
            email: row.email,
            full_name: row.full_name,
        }))
    }
}

impl Users<'_> {
    /// False when the person has as many links as anyone can have.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn add_password_reset(
        &mut self,
        user: UserId,
        token: &TokenHash,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        const LIVE: TenantSql =
            tenant_sql!("SELECT COUNT(*) FROM password_resets WHERE org_id = $1 AND user_id = $2 AND expires_at > $3");
        const ADD: TenantSql = tenant_sql!(
            "INSERT INTO password_resets (org_id, user_id, token_hash, expires_at, created_at)
            VALUES ($1, $2, $3, $4, $5)"
        );
        // Of many requests at once no more may pass than of many in a row.
        let scope = self.tx.scope();
        self.tx.tx.serialize(scope).await?;
        let now = self.tx.now();
        let (live,): (i64,) = self.tx.statement(LIVE).bind(user).bind(now).one().await?;
        if live >= MOST {
            return Ok(false);
        }
        let add = self.tx.statement(ADD).bind(user).bind(&token[..]).bind(expires_at).bind(now);
        add.execute().await.map_err(taken("password reset"))?;
        Ok(true)
    }

    /// Uses a link up. False when another request was faster, or the link is not this person's.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn use_password_reset(&mut self, user: UserId, token: &TokenHash) -> Result<bool, StoreError> {
        const USE: TenantSql =
            tenant_sql!("DELETE FROM password_resets WHERE org_id = $1 AND user_id = $2 AND token_hash = $3");
        Ok(self.tx.statement(USE).bind(user).bind(&token[..]).execute().await? == 1)
    }

    /// Ends all links of a person whose password has changed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn drop_password_resets(&mut self, user: UserId) -> Result<(), StoreError> {
        const DROP: TenantSql = tenant_sql!("DELETE FROM password_resets WHERE org_id = $1 AND user_id = $2");
        self.tx.statement(DROP).bind(user).execute().await?;
        Ok(())
    }
}
