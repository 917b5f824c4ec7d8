//! What has expired is removed in the background, a little at a time.

use std::time::Duration;

use super::engine::Mode;
use super::{Store, StoreError};

/// Rows of one transaction: a log-in that comes meanwhile need not wait for all of it.
const BATCH: u64 = 500;

const EXCHANGED_TOKENS: &str = "
    DELETE FROM refresh_tokens
    WHERE token_hash IN (SELECT token_hash FROM refresh_tokens WHERE exchanged_at < $1 LIMIT 500)";

const TOKENS_OF_EXPIRED_SESSIONS: &str = "
    DELETE FROM refresh_tokens
    WHERE token_hash IN (
        SELECT t.token_hash
        FROM sessions s
        JOIN refresh_tokens t ON t.org_id = s.org_id AND t.session_id = s.id
        WHERE s.expires_at < $1
        LIMIT 500
    )";

const EXPIRED_SESSIONS: &str = "
    DELETE FROM sessions
    WHERE id IN (
        SELECT s.id
        FROM sessions s
        WHERE s.expires_at < $1
            AND NOT EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.org_id = s.org_id AND t.session_id = s.id)
        LIMIT 500
    )";

const EXPIRED_PASSWORD_RESETS: &str = "
    DELETE FROM password_resets
    WHERE token_hash IN (SELECT token_hash FROM password_resets WHERE expires_at < $1 LIMIT 500)";

const EXPIRED_EVENT_TICKETS: &str = "
    DELETE FROM event_tickets
    WHERE token_hash IN (SELECT token_hash FROM event_tickets WHERE expires_at < $1 LIMIT 500)";

const EXPIRED_LOCKOUTS: &str = "
    DELETE FROM login_lockouts
    WHERE account_hash IN (SELECT account_hash FROM login_lockouts WHERE locked_until < $1 LIMIT 500)";

impl Store {
    /// Removes refresh tokens that were exchanged longer than `refresh_ttl` ago, expired sessions with all of theirs,
    /// links that set a password, tickets of event streams, and locks of accounts. Returns how many rows. A session that was revoked stays until it
    /// would have expired.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; what was removed before stays removed.
    pub async fn prune_expired(&self, refresh_ttl: Duration) -> Result<u64, StoreError> {
        let now = self.inner.clock.now();
        let mut removed = 0;
        for (statement, before) in [
            (EXCHANGED_TOKENS, now.minus(refresh_ttl)),
            (TOKENS_OF_EXPIRED_SESSIONS, now),
            (EXPIRED_SESSIONS, now),
            (EXPIRED_PASSWORD_RESETS, now),
            (EXPIRED_EVENT_TICKETS, now),
            (EXPIRED_LOCKOUTS, now),
        ] {
            loop {
                let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
                let rows = tx.statement(statement).bind(before).execute().await?;
                tx.commit().await?;
                removed += rows;
                if rows < BATCH {
                    break;
                }
            }
        }
        Ok(removed)
    }
}
