//! Accounts that are locked after too many wrong passwords. Of no organization: an address without an account is locked
//! like any other, so that a lock tells nobody whether there is one.

use super::engine::Mode;
use super::{Store, StoreError};
use crate::domain::Timestamp;

/// SHA-256 of an account's address.
pub type AccountHash = [u8; 32];

impl Store {
    /// Until when the account is locked; None when it is not.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn login_lockout(&self, account: &AccountHash) -> Result<Option<Timestamp>, StoreError> {
        const LOCKED: &str = "SELECT locked_until FROM login_lockouts WHERE account_hash = $1 AND locked_until > $2";
        let mut tx = self.inner.begin_bare().await?;
        let now = self.inner.clock.now();
        let row: Option<(Timestamp,)> = tx.statement(LOCKED).bind(&account[..]).bind(now).optional().await?;
        tx.commit().await?;
        Ok(row.map(|(until,)| until))
    }

    /// Locks the account on every node, and beyond a restart.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn lock_login(&self, account: &AccountHash, until: Timestamp) -> Result<(), StoreError> {
        const LOCK: &str = "
            INSERT INTO login_lockouts (account_hash, locked_until)
            VALUES ($1, $2)
            ON CONFLICT (account_hash) DO UPDATE SET locked_until = excluded.locked_until";
        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        tx.statement(LOCK).bind(&account[..]).bind(until).execute().await?;
        tx.commit().await
    }

    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn unlock_login(&self, account: &AccountHash) -> Result<(), StoreError> {
        const UNLOCK: &str = "DELETE FROM login_lockouts WHERE account_hash = $1";
        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        tx.statement(UNLOCK).bind(&account[..]).execute().await?;
        tx.commit().await
    }
}
