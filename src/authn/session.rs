//! People's sessions: opened by a log-in, kept by refresh tokens, named by access tokens.

use std::time::Duration;

use super::role::{Authority, Permission, Role};
use super::token::{RefreshToken, TokenError, Tokens};
use crate::domain::{OrgId, Secret, SessionId, SharedClock, Timestamp, UserId};
use crate::store::{
    LoginMethod, NewAdminEvent, NewSession, RefreshOutcome, ResolvedSession, Store, StoreError, TenantScope, UserRecord,
};

/// A person who has logged in, as of this request.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub scope: TenantScope,
    pub user: UserRecord,
    pub authority: Authority,
    /// The person must enrol a second factor before anything else.
    pub mfa_missing: bool,
}

/// What a client is given to act for a person.
#[derive(Debug)]
pub struct Issued {
    pub access_token: Secret<String>,
    pub refresh_token: RefreshToken,
    /// How long the access token lives.
    pub expires_in: Duration,
    pub user_id: UserId,
    pub org_id: OrgId,
    /// The person must set a new password before anything else.
    pub must_change_password: bool,
    /// The person must enrol a second factor before anything else.
    pub must_enrol_mfa: bool,
}

/// Where a log-in comes from, for the person's own list of sessions.
#[derive(Clone, Debug, Default)]
pub struct ClientInfo {
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Logged out, expired, or the person or organization is no longer active.
    #[error("the session has ended")]
    Ended,
    /// The refresh token is unknown, expired or of an ended session.
    #[error("the refresh token is invalid")]
    Refresh,
    /// The refresh token had been exchanged before; its session has been ended.
    #[error("the refresh token was used twice")]
    Reused,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens, renews, looks up and ends sessions.
pub struct Sessions {
    store: Store,
    tokens: Tokens,
    clock: SharedClock,
    refresh_ttl: Duration,
}

impl Sessions {
    #[must_use]
    pub const fn new(store: Store, tokens: Tokens, clock: SharedClock, refresh_ttl: Duration) -> Self {
        Self { store, tokens, clock, refresh_ttl }
    }

    /// Opens a session for a person whose credentials have been checked; `event` tells by which act.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub async fn open(
        &self,
        method: LoginMethod,
        scope: TenantScope,
        user: UserId,
        client: ClientInfo,
        event: NewAdminEvent,
    ) -> Result<Issued, SessionError> {
        let now = self.clock.now();
        let refresh_token = RefreshToken::generate();
        let id = SessionId::new();
        let session = NewSession {
            id,
            user_id: user,
            method,
            refresh_hash: refresh_token.hash(),
            expires_at: now.plus(self.refresh_ttl),
            user_agent: client.user_agent,
            ip: client.ip,
        };
        self.store.open_session(scope, session, event).await?;
        self.issue(id, user, refresh_token, now).await
    }

    /// Exchanges a refresh token for new tokens. A token that is presented twice ends its session: either its owner or
    /// whoever stole it comes second.
    ///
    /// # Errors
    /// [`SessionError::Refresh`], [`SessionError::Reused`], [`SessionError::Store`].
    pub async fn refresh(&self, presented: &str) -> Result<Issued, SessionError> {
        let now = self.clock.now();
        let next = RefreshToken::generate();
        let expires_at = now.plus(self.refresh_ttl);
        let outcome = self.store.rotate_session(RefreshToken::hash_of(presented), next.hash(), expires_at).await?;
        match outcome {
            RefreshOutcome::Rotated { session, user, .. } => self.issue(session, user, next, now).await,
            RefreshOutcome::Reused => Err(SessionError::Reused),
            RefreshOutcome::Refused => Err(SessionError::Refresh),
        }
    }

    /// The session that an access token names, with what its person may do now.
    ///
    /// # Errors
    /// [`SessionError::Token`], [`SessionError::Ended`], [`SessionError::Store`].
    pub async fn authenticate(&self, access_token: &str) -> Result<Session, SessionError> {
        let claims = self.tokens.verify(access_token, self.clock.now())?;
        let session = self.resolve(claims.sid, claims.sub).await?;
        if session.scope.org_id() == claims.org { Ok(session) } else { Err(SessionError::Ended) }
    }

    async fn issue(
        &self,
        id: SessionId,
        user: UserId,
        refresh_token: RefreshToken,
        now: Timestamp,
    ) -> Result<Issued, SessionError> {
        let session = self.resolve(id, user).await?;
        let org_id = session.scope.org_id();
        Ok(Issued {
            access_token: self.tokens.issue(user, org_id, id, Some(session.user.role), now)?,
            refresh_token,
            expires_in: self.tokens.ttl(),
            user_id: user,
            org_id,
            must_change_password: session.user.must_change_password,
            must_enrol_mfa: session.mfa_missing,
        })
    }

    /// A session as it is now.
    ///
    /// # Errors
    /// [`SessionError::Ended`], [`SessionError::Store`].
    pub async fn resolve(&self, id: SessionId, user: UserId) -> Result<Session, SessionError> {
        let ResolvedSession { scope, user, mfa_missing } =
            self.store.resolve_session(id, user).await?.ok_or(SessionError::Ended)?;
        let authority = authority_of(&user)?;
        Ok(Session { id, scope, user, authority, mfa_missing })
    }
}

/// What a stored person may do. Permissions that this version does not know count for nothing.
///
/// # Errors
/// [`StoreError::Corrupt`] when the role is none.
pub fn authority_of(user: &UserRecord) -> Result<Authority, StoreError> {
    let role: Role = user.role.parse().map_err(|error: super::role::UnknownName| StoreError::Corrupt {
        table: "users",
        column: "role",
        cause: error.to_string(),
    })?;
    let extra: Vec<Permission> = user.permissions.iter().filter_map(|name| name.parse().ok()).collect();
    Ok(Authority::new(role, &extra))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(role: &str, permissions: &[&str]) -> UserRecord {
        UserRecord {
            id: UserId::new(),
            org_id: OrgId::new(),
            email: "engineer@acme.com".into(),
            full_name: "Jane Smith".into(),
            role: role.into(),
            permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
            is_active: true,
            mfa_enabled: false,
            sso_provider: None,
            must_change_password: false,
            last_login_at: None,
            version: 1,
            created_at: Timestamp::from_micros(0),
            updated_at: Timestamp::from_micros(0),
        }
    }

    #[test]
    fn stored_permissions_add_to_the_role_and_unknown_ones_count_for_nothing() {
        let authority = authority_of(&person("member", &["policies:write", "moon:fly"])).unwrap();
        assert!(authority.has(Permission::WritePolicies) && authority.has(Permission::ReadAudit));
        assert_eq!(authority.permissions().len(), Role::Member.permissions().len() + 1);
    }

    #[test]
    fn a_stored_role_that_is_none_is_a_corrupt_row() {
        assert!(matches!(authority_of(&person("root", &[])), Err(StoreError::Corrupt { column: "role", .. })));
    }
}
