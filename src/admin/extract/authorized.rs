//! The person who calls, already allowed to.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::super::Api;
use super::super::problem::{Code, Problem};
use super::super::trail::{self, Act, Attempt, Who, WriteTx};
use super::origin;
use crate::authn::{Permission, Session};
use crate::domain::WorkspaceId;
use crate::store::{MemberRecord, Origin, Store, TenantTx};

/// What an operation needs from the person who calls it.
pub trait Requires: Send + Sync + 'static {
    /// None: being logged in is enough.
    const PERMISSION: Option<Permission>;
    /// Enough in its place.
    const OR: Option<Permission> = None;
    /// Allowed before a temporary password has been changed.
    const BEFORE_PASSWORD_CHANGE: bool = false;
    /// Allowed before a second factor that is demanded has been enrolled.
    const BEFORE_ENROLMENT: bool = false;
}

macro_rules! requirements {
    ($($name:ident = $permission:expr),+ $(,)?) => {$(
        #[doc = concat!("Requires [`", stringify!($permission), "`].")]
        pub struct $name;
        impl Requires for $name {
            const PERMISSION: Option<Permission> = Some($permission);
        }
    )+};
}

requirements! {
    ReadOrganization = Permission::ReadOrganization,
    WriteOrganization = Permission::WriteOrganization,
    DeleteOrganization = Permission::DeleteOrganization,
    ExportOrganization = Permission::ExportOrganization,
    ReadStats = Permission::ReadStats,
    ReadUsers = Permission::ReadUsers,
    InviteUsers = Permission::InviteUsers,
    WriteUsers = Permission::WriteUsers,
    ReadWorkspaces = Permission::ReadWorkspaces,
    WriteWorkspaces = Permission::WriteWorkspaces,
    ReadApiKeys = Permission::ReadApiKeys,
    WriteApiKeys = Permission::WriteApiKeys,
    ReadProviderCredentials = Permission::ReadProviderCredentials,
    WriteProviderCredentials = Permission::WriteProviderCredentials,
    ReadPolicies = Permission::ReadPolicies,
    WritePolicies = Permission::WritePolicies,
    ReadAudit = Permission::ReadAudit,
    ReviewAudit = Permission::ReviewAudit,
    ManageAudit = Permission::ManageAudit,
    EraseAudit = Permission::EraseAudit,
    ReadAdminEvents = Permission::ReadAdminEvents,
}

/// Requires one of the permissions to read an audit trail.
pub struct WatchEvents;

impl Requires for WatchEvents {
    const PERMISSION: Option<Permission> = Some(Permission::ReadAudit);
    const OR: Option<Permission> = Some(Permission::ReadAdminEvents);
}

/// Requires a session and nothing else, even while a temporary password is to be changed.
pub struct Myself;

impl Requires for Myself {
    const PERMISSION: Option<Permission> = None;
    const BEFORE_PASSWORD_CHANGE: bool = true;
    const BEFORE_ENROLMENT: bool = true;
}

/// Requires a session that need not have the second factor that the organization demands.
pub struct Enrolling;

impl Requires for Enrolling {
    const PERMISSION: Option<Permission> = None;
    const BEFORE_ENROLMENT: bool = true;
}

/// Requires a session whose temporary password, if it had one, has been changed.
pub struct LoggedIn;

impl Requires for LoggedIn {
    const PERMISSION: Option<Permission> = None;
}

/// A person who is logged in and may do `P`.
pub struct Authorized<P> {
    pub session: Session,
    origin: Origin,
    store: Store,
    permission: PhantomData<P>,
}

impl<P> Authorized<P> {
    /// A read-only transaction in the person's organization.
    pub async fn read(&self) -> Result<TenantTx, Problem> {
        Ok(self.store.read(self.session.scope).await?)
    }

    /// A transaction that is committed with its event.
    pub async fn write(&self) -> Result<WriteTx, Problem> {
        Ok(WriteTx::new(self.store.write(self.session.scope).await?, self.who()))
    }

    /// Records an act that writes nothing else: a read of audit data, an export. Before its answer is made.
    pub async fn record(&self, act: Act) -> Result<(), Problem> {
        trail::record(&self.store, self.session.scope, act, self.who()).await
    }

    fn who(&self) -> Who {
        Who::person(self.session.user.id, &self.session.user.email, self.origin.clone())
    }
}

/// A person who may do `P` in the whole organization, or in some of its workspaces. A handler asks
/// [`InWorkspace::allow`] before it acts in one.
pub struct InWorkspace<P> {
    admin: Authorized<P>,
    /// None: everywhere.
    only: Option<BTreeSet<WorkspaceId>>,
}

impl<P: Requires> InWorkspace<P> {
    /// # Errors
    /// `permission_denied`.
    pub fn allow(&self, workspace: WorkspaceId) -> Result<(), Problem> {
        match (&self.only, P::PERMISSION) {
            (Some(only), Some(permission)) if !only.contains(&workspace) => {
                Err(Problem::forbidden(permission).needing(Some(permission)))
            }
            _ => Ok(()),
        }
    }
}

impl<P> std::ops::Deref for InWorkspace<P> {
    type Target = Authorized<P>;

    fn deref(&self) -> &Authorized<P> {
        &self.admin
    }
}

impl<P: Requires> FromRequestParts<Api> for InWorkspace<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Self::authorize(parts, api).await.map_err(|problem| problem.needing(P::PERMISSION))
    }
}

impl<P: Requires> InWorkspace<P> {
    async fn authorize(parts: &Parts, api: &Api) -> Result<Self, Problem> {
        let admin = Authorized::<P>::identify(parts, api).await?;
        let Some(permission) = P::PERMISSION.filter(|permission| !admin.session.authority.has(*permission)) else {
            return Ok(Self { admin, only: None });
        };
        let memberships = admin.read().await?.workspace_members().of(admin.session.user.id).await?;
        let grants = |member: &MemberRecord| member.permissions.iter().any(|name| name == permission.as_str());
        let only: BTreeSet<_> =
            memberships.iter().filter(|member| grants(member)).map(|member| member.workspace_id).collect();
        if only.is_empty() { Err(Problem::forbidden(permission)) } else { Ok(Self { admin, only: Some(only) }) }
    }
}

impl<P: Requires> FromRequestParts<Api> for Authorized<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Self::authorize(parts, api).await.map_err(|problem| problem.needing(P::PERMISSION))
    }
}

impl<P: Requires> Authorized<P> {
    async fn authorize(parts: &Parts, api: &Api) -> Result<Self, Problem> {
        let admin = Self::identify(parts, api).await?;
        match P::PERMISSION {
            Some(permission)
                if !admin.session.authority.has(permission)
                    && !P::OR.is_some_and(|other| admin.session.authority.has(other)) =>
            {
                Err(Problem::forbidden(permission))
            }
            _ => Ok(admin),
        }
    }

    /// Who calls; what they may do is not looked at.
    async fn identify(parts: &Parts, api: &Api) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)
            .ok_or_else(|| Problem::unauthenticated("an access token is needed: `Authorization: Bearer …`"))?;
        let session = api.sessions.authenticate(token).await?;
        if let Some(attempt) = parts.extensions.get::<Attempt>() {
            attempt.by(session.scope, session.user.id, &session.user.email);
            match api.rates.session(session.id, api.state.clock.now()) {
                Ok(allowance) => attempt.allow(allowance),
                Err(too_many) => {
                    api.state.metrics.rate_limited.with_label_values(&["session"]).inc();
                    return Err(too_many.into());
                }
            }
        }
        if session.user.must_change_password && !P::BEFORE_PASSWORD_CHANGE {
            let detail = "set a new password with `POST /auth/password` first";
            return Err(Problem::new(Code::PasswordChangeRequired, detail));
        }
        if session.mfa_missing && !P::BEFORE_ENROLMENT {
            let detail = "the organization demands a second factor: enrol one with `POST /auth/mfa/enrol` first";
            return Err(Problem::new(Code::MfaEnrolmentRequired, detail));
        }
        let origin = origin(&parts.headers, &parts.extensions);
        Ok(Self { session, origin, store: api.state.store.clone(), permission: PhantomData })
    }
}

/// The token of `Authorization: Bearer`; the scheme is compared without case (RFC 9110).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_bearer_scheme_is_compared_without_case() {
        let with = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(with("bearer abc"), Some("abc".into()));
        assert_eq!(with("Bearer  abc "), Some("abc".into()));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("Bearer"), None);
    }
}
