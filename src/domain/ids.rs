//! One type per kind of identifier, so that none can be mistaken for another. All are UUIDv7 and made here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id; ids made later on one node sort later.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default id would be a random one")]
            pub fn new() -> Self {
                #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
                Self(Uuid::now_v7())
            }

            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

id! {
    /// An organization: the tenant.
    OrgId,
    /// A person with a login.
    UserId,
    /// A project or environment of an organization.
    WorkspaceId,
    /// An open or ended invitation of a person.
    InvitationId,
    /// An application's key.
    ApiKeyId,
    /// What a workspace presents to a provider.
    CredentialId,
    /// One version of a policy.
    PolicyId,
    /// A person's login session (a family of refresh tokens).
    SessionId,
    /// A code that replaces a second factor once.
    RecoveryCodeId,
    /// One line of the audit trail of requests; the same UUID as the request's [`RequestId`].
    AuditId,
    /// One line of the audit trail of the admin face.
    AdminEventId,
    /// A saved filter of a list.
    SavedFilterId,
    /// A set of exact data.
    DataSetId,
    /// What somebody said of a request under review.
    ReviewCommentId,
    /// One mail to a person.
    MailId,
    /// A candidate's way into force.
    RolloutId,
}

/// Names one request to applications and logs: `req_` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Uuid);

impl RequestId {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default id would be a random one")]
    pub fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
        Self(Uuid::now_v7())
    }

    /// The audit row of this request.
    #[must_use]
    pub const fn audit_id(self) -> AuditId {
        AuditId(self.0)
    }

    /// The trace that begins with this request.
    #[must_use]
    pub const fn trace_id(self) -> u128 {
        self.0.as_u128()
    }
}

impl From<AuditId> for RequestId {
    fn from(id: AuditId) -> Self {
        Self(id.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "req_{}", self.0.simple())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RequestId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.strip_prefix("req_").unwrap_or(text).parse().map(Self)
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
