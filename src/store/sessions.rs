//! Login sessions of people. A session is a family of refresh tokens, of which one at a time can be exchanged; all of them
//! are kept, so that a token that comes back is recognised however old it is.

use sqlx::types::uuid::Uuid;

use super::engine::Mode;
use super::error::{missing, taken};
use super::statement::{TenantSql, tenant_sql};
use super::{Actor, ActorType, NewAdminEvent, Page, PageRequest, Store, StoreError, TenantScope, TenantTx, Users};
use crate::domain::{OrgId, SessionId, Timestamp, UserId};

/// SHA-256 of a refresh token.
pub type TokenHash = [u8; 32];

/// How a person proved who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginMethod {
    #[default]
    Password,
    /// By the organization's own provider, whose second factor counts.
    Sso,
}

impl LoginMethod {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Sso => "sso",
        }
    }
}

#[derive(Clone, Debug)]
pub struct NewSession {
    pub id: SessionId,
    pub user_id: UserId,
    pub method: LoginMethod,
    pub refresh_hash: TokenHash,
    pub expires_at: Timestamp,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct SessionRecord {
    pub id: SessionId,
    pub user_id: UserId,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// What the client called itself when the session was opened.
    pub user_agent: Option<String>,
    pub ip: Option<String>,
    /// When its tokens were last renewed.
    pub last_used_at: Timestamp,
    pub created_at: Timestamp,
}

/// What presenting a refresh token came to.
#[derive(Clone, Debug)]
pub enum RefreshOutcome {
    /// The token was the session's current one and has been exchanged for the new one.
    Rotated { scope: TenantScope, session: SessionId, user: UserId },
    /// The token had been exchanged before: the whole session has been revoked.
    Reused,
    /// Unknown, expired, or of a revoked session or an inactive person.
    Refused,
}

/// A refresh token that is presented, and everything its worth hangs on.
#[derive(sqlx::FromRow)]
struct Presented {
    org_id: OrgId,
    session_id: SessionId,
    user_id: UserId,
    exchanged_at: Option<Timestamp>,
    expires_at: Timestamp,
    revoked_at: Option<Timestamp>,
    in_good_standing: bool,
}

impl Store {
    /// Opens a session, and records by which act.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("user_id")` when the organization has no such person.
    pub async fn open_session(
        &self,
        scope: TenantScope,
        session: NewSession,
        event: NewAdminEvent,
    ) -> Result<SessionRecord, StoreError> {
        const OPEN: TenantSql = tenant_sql!(
            "INSERT INTO sessions (org_id, id, user_id, expires_at, user_agent, ip, last_used_at, created_at, method)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)
            RETURNING id, user_id, expires_at, revoked_at, user_agent, ip, last_used_at, created_at"
        );
        let mut tx = self.write(scope).await?;
        let now = tx.now();
        let opened = tx
            .statement(OPEN)
            .bind(session.id)
            .bind(session.user_id)
            .bind(session.expires_at)
            .bind(session.user_agent)
            .bind(session.ip)
            .bind(now)
            .bind(session.method.as_str())
            .one()
            .await
            .map_err(missing("user_id"))?;
        issue(&mut tx, session.id, &session.refresh_hash).await?;
        tx.admin_events().insert(event).await?;
        tx.commit().await?;
        Ok(opened)
    }

    /// Exchanges `presented` for `next` in one step.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn rotate_session(
        &self,
        presented: TokenHash,
        next: TokenHash,
        expires_at: Timestamp,
    ) -> Result<RefreshOutcome, StoreError> {
        const PRESENTED: &str = "
            SELECT t.org_id, t.session_id, s.user_id, t.exchanged_at, s.expires_at, s.revoked_at,
                u.is_active AND u.deleted_at IS NULL AND o.is_active AND o.deleted_at IS NULL AS in_good_standing
            FROM refresh_tokens t
            JOIN sessions s ON s.org_id = t.org_id AND s.id = t.session_id
            JOIN users u ON u.org_id = s.org_id AND u.id = s.user_id
            JOIN organizations o ON o.id = s.org_id
            WHERE t.token_hash = $1";
        // Counts the rows: of two exchanges at once the second finds the token exchanged.
        const EXCHANGE: TenantSql = tenant_sql!(
            "UPDATE refresh_tokens
            SET exchanged_at = $3
            WHERE org_id = $1 AND token_hash = $2 AND exchanged_at IS NULL"
        );
        const EXTEND: TenantSql =
            tenant_sql!("UPDATE sessions SET expires_at = $3, last_used_at = $4 WHERE org_id = $1 AND id = $2");

        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        let token: Option<Presented> = tx.statement(PRESENTED).bind(&presented[..]).optional().await?;
        let Some(token) = token else { return Ok(RefreshOutcome::Refused) };
        let scope = TenantScope { org: token.org_id };
        let mut tx = self.enter(tx, scope).await?;
        let now = tx.now();
        if token.revoked_at.is_some() {
            return Ok(RefreshOutcome::Refused);
        }
        if token.exchanged_at.is_none() {
            if token.expires_at <= now || !token.in_good_standing {
                return Ok(RefreshOutcome::Refused);
            }
            if tx.statement(EXCHANGE).bind(&presented[..]).bind(now).execute().await? == 1 {
                issue(&mut tx, token.session_id, &next).await?;
                tx.statement(EXTEND).bind(token.session_id).bind(expires_at).bind(now).execute().await?;
                tx.commit().await?;
                return Ok(RefreshOutcome::Rotated { scope, session: token.session_id, user: token.user_id });
            }
        }
        // Whoever holds an exchanged token stole it, or was robbed of it: nobody goes on with this session.
        revoke(&mut tx, token.session_id).await?;
        let event = NewAdminEvent::by_operator("session.revoke_reused", "session", token.session_id.uuid());
        let actor = Actor { kind: ActorType::System, ..Actor::default() };
        tx.admin_events().insert(NewAdminEvent { actor, ..event }).await?;
        tx.commit().await?;
        Ok(RefreshOutcome::Reused)
    }
}

impl TenantTx {
    /// Ends one session of the organization. False when there is no such session, or it has ended.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn revoke_session(&mut self, session: SessionId) -> Result<bool, StoreError> {
        revoke(self, session).await
    }
}

impl Users<'_> {
    /// The live sessions of a person.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("cursor")`, [`StoreError::Unavailable`].
    pub async fn sessions(&mut self, user: UserId, page: &PageRequest) -> Result<Page<SessionRecord>, StoreError> {
        const LIST: TenantSql = tenant_sql!(
            "SELECT id, user_id, expires_at, revoked_at, user_agent, ip, last_used_at, created_at
            FROM sessions
            WHERE org_id = $1 AND user_id = $2 AND id < $3 AND revoked_at IS NULL AND expires_at > $4
            ORDER BY id DESC
            LIMIT $5"
        );
        let now = self.tx.now();
        let list = self.tx.statement(LIST).bind(user).bind(page.start::<Uuid>()?).bind(now).bind(page.rows());
        let rows = list.all().await?;
        Ok(page.page(rows, |session: &SessionRecord| session.id.uuid()))
    }

    /// Ends one session of a person. False when they have no such session, or it has ended.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end_session(&mut self, user: UserId, session: SessionId) -> Result<bool, StoreError> {
        const END: TenantSql = tenant_sql!(
            "UPDATE sessions
            SET revoked_at = $4
            WHERE org_id = $1 AND user_id = $2 AND id = $3 AND revoked_at IS NULL AND expires_at > $4"
        );
        let now = self.tx.now();
        Ok(self.tx.statement(END).bind(user).bind(session).bind(now).execute().await? == 1)
    }

    /// Ends all sessions of a person, but for `except`. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end_sessions(&mut self, user: UserId, except: Option<SessionId>) -> Result<u64, StoreError> {
        const END: TenantSql = tenant_sql!(
            "UPDATE sessions
            SET revoked_at = $4
            WHERE org_id = $1 AND user_id = $2 AND ($3 IS NULL OR id <> $3) AND revoked_at IS NULL"
        );
        let now = self.tx.now();
        Ok(self.tx.statement(END).bind(user).bind(except).bind(now).execute().await?)
    }
}

async fn issue(tx: &mut TenantTx, session: SessionId, hash: &TokenHash) -> Result<(), StoreError> {
    const ISSUE: TenantSql = tenant_sql!(
        "INSERT INTO refresh_tokens (org_id, token_hash, session_id, issued_at)
        VALUES ($1, $2, $3, $4)"
    );
    let now = tx.now();
    tx.statement(ISSUE).bind(&hash[..]).bind(session).bind(now).execute().await.map_err(taken("refresh token"))?;
    Ok(())
}

async fn revoke(tx: &mut TenantTx, session: SessionId) -> Result<bool, StoreError> {
    const REVOKE: TenantSql =
        tenant_sql!("UPDATE sessions SET revoked_at = $3 WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL");
    let now = tx.now();
    Ok(tx.statement(REVOKE).bind(session).bind(now).execute().await? == 1)
}
