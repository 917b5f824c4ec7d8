//! What people may do: five roles, granular permissions on top, and the one table that joins them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// One thing that a person may do, named `object:verb`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Permission {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant),+
        }

        impl Permission {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            /// What it lets a person do, for people.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+)),+
                }
            }
        }
    };
}

permissions! {
    /// Delete the organization.
    DeleteOrganization = "org:delete",
    /// See the organization and its settings.
    ReadOrganization = "org:read",
    /// Change the organization's settings.
    WriteOrganization = "org:write",
    /// Download everything that the organization has set up.
    ExportOrganization = "org:export",
    /// See the traffic statistics.
    ReadStats = "stats:read",
    /// See the organization's people.
    ReadUsers = "users:read",
    /// Invite people.
    InviteUsers = "users:invite",
    /// Change people's roles and permissions, and remove people.
    WriteUsers = "users:write",
    /// See workspaces.
    ReadWorkspaces = "workspaces:read",
    /// Create, change and delete workspaces.
    WriteWorkspaces = "workspaces:write",
    /// See the list of API keys (never the keys themselves).
    ReadApiKeys = "api_keys:read",
    /// Create, change, rotate and revoke API keys.
    WriteApiKeys = "api_keys:write",
    /// See the list of provider credentials (never the credentials themselves).
    ReadProviderCredentials = "provider_credentials:read",
    /// Give workspaces provider credentials, test and delete them.
    WriteProviderCredentials = "provider_credentials:write",
    /// See policies and their versions.
    ReadPolicies = "policies:read",
    /// Create, replace and delete policies.
    WritePolicies = "policies:write",
    /// See the audit trail of requests.
    ReadAudit = "audit:read",
    /// Judge and escalate requests, and work on their reviews.
    ReviewAudit = "audit:review",
    /// Say how long the audit trail is kept, and put it on legal hold.
    ManageAudit = "audit:manage",
    /// Erase end users from the audit trail.
    EraseAudit = "audit:erase",
    /// See who did what on the admin face.
    ReadAdminEvents = "admin_events:read",
}

/// Written by hand: the derive does not see names that come out of a macro.
impl utoipa::PartialSchema for Permission {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .enum_values(Some(Self::ALL.iter().map(|permission| permission.as_str())))
            .description(Some("One thing that a person may do, named `object:verb`."))
            .build()
            .into()
    }
}

impl utoipa::ToSchema for Permission {}

/// Not the name of a permission or role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0}")]
pub struct UnknownName(&'static str);

impl FromStr for Permission {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == text).ok_or(UnknownName("permission"))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a person is in an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May do everything; every organization has at least one.
    Owner,
    /// May do everything, but cannot touch or make owners, and cannot delete the organization.
    Admin,
    /// Works with what is there: sees everything but people's acts, changes nothing without a permission of its own.
    Member,
    /// Sees settings and figures, neither people nor the audit trail.
    Viewer,
    /// Sees everything, for good; meant for people from outside.
    Auditor,
}

/// How high a role stands, and what it may do.
struct Row {
    role: Role,
    name: &'static str,
    rank: u8,
    permissions: &'static [Permission],
}

/// What can be granted in a single workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub enum WorkspacePermission {
    /// Change the workspace's settings.
    #[serde(rename = "workspaces:write")]
    WriteWorkspaces,
    /// Create, change, rotate and revoke its API keys.
    #[serde(rename = "api_keys:write")]
    WriteApiKeys,
    /// Give it provider credentials, test and delete them.
    #[serde(rename = "provider_credentials:write")]
    WriteProviderCredentials,
}

impl From<WorkspacePermission> for Permission {
    fn from(permission: WorkspacePermission) -> Self {
        match permission {
            WorkspacePermission::WriteWorkspaces => Self::WriteWorkspaces,
            WorkspacePermission::WriteApiKeys => Self::WriteApiKeys,
            WorkspacePermission::WriteProviderCredentials => Self::WriteProviderCredentials,
        }
    }
}

use Permission as P;

const READ_ALL: &[Permission] = &[
    P::ReadOrganization,
    P::ReadStats,
    P::ReadUsers,
    P::ReadWorkspaces,
    P::ReadApiKeys,
    P::ReadProviderCredentials,
    P::ReadPolicies,
    P::ReadAudit,
];

/// Without the first, which is `org:delete`.
const ALL_BUT_DELETION: &[Permission] = match Permission::ALL.split_first() {
    Some((_, rest)) => rest,
    None => &[],
};

/// The table. Everything that asks "may a role do this" reads it here.
const ROLES: [Row; 5] = [
    Row { role: Role::Owner, name: "owner", rank: 4, permissions: Permission::ALL },
    Row { role: Role::Admin, name: "admin", rank: 3, permissions: ALL_BUT_DELETION },
    Row { role: Role::Member, name: "member", rank: 2, permissions: READ_ALL },
    Row {
        role: Role::Auditor,
        name: "auditor",
        rank: 1,
        permissions: &[
            P::ReadOrganization,
            P::ReadStats,
            P::ReadUsers,
            P::ReadWorkspaces,
            P::ReadApiKeys,
            P::ReadPolicies,
            P::ReadAudit,
            P::ReadAdminEvents,
        ],
    },
    Row {
        role: Role::Viewer,
        name: "viewer",
        rank: 1,
        permissions: &[P::ReadOrganization, P::ReadStats, P::ReadWorkspaces, P::ReadApiKeys, P::ReadPolicies],
    },
];

impl Role {
    pub const ALL: [Self; 5] = [Self::Owner, Self::Admin, Self::Member, Self::Viewer, Self::Auditor];

    fn row(self) -> &'static Row {
        ROLES.iter().find(|row| row.role == self).unwrap_or(&LEAST)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// What the role may do by itself.
    #[must_use]
    pub fn permissions(self) -> &'static [Permission] {
        self.row().permissions
    }

    /// The roles that it can give and touch: those that do not stand above it.
    pub fn gives(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |other| other.rank() <= self.rank())
    }

    fn rank(self) -> u8 {
        self.row().rank
    }
}

/// A role that the table forgot may do nothing; a test shows that it forgot none.
static LEAST: Row = Row { role: Role::Viewer, name: "viewer", rank: 0, permissions: &[] };

impl FromStr for Role {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        ROLES.iter().find(|row| row.name == text).map(|row| row.role).ok_or(UnknownName("role"))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A role together with the permissions granted beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    role: Role,
    permissions: BTreeSet<Permission>,
}

/// Why someone may not give an authority, or touch a person who has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("the role `{0}` stands above your own")]
    Role(Role),
    #[error("you do not have these permissions yourself: {}", .0.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", "))]
    Permissions(Vec<Permission>),
}

impl Authority {
    #[must_use]
    pub fn new(role: Role, extra: &[Permission]) -> Self {
        Self { role, permissions: role.permissions().iter().chain(extra).copied().collect() }
    }

    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Everything that may be done, from the role and beyond it.
    #[must_use]
    pub const fn permissions(&self) -> &BTreeSet<Permission> {
        &self.permissions
    }

    #[must_use]
    pub fn has(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Whether this authority may make someone who has `old` (nothing, when new) into one who has `new`.
    ///
    /// # Errors
    /// [`GrantError`] when either stands above this authority, or `new` adds a permission that this one lacks.
    pub fn may_grant(&self, old: Option<&Self>, new: &Self) -> Result<(), GrantError> {
        if let Some(old) = old {
            self.may_touch(old)?;
        }
        self.may_touch(new)?;
        let missing: Vec<_> = new
            .permissions
            .difference(&self.permissions)
            .filter(|permission| old.is_none_or(|old| !old.has(**permission)))
            .copied()
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(GrantError::Permissions(missing)) }
    }

    /// Whether this authority may change or remove someone who has `other`.
    ///
    /// # Errors
    /// [`GrantError::Role`] when `other` stands above.
    pub fn may_touch(&self, other: &Self) -> Result<(), GrantError> {
        if other.role.rank() > self.role.rank() { Err(GrantError::Role(other.role)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_row_and_reads_back_by_its_name() {
        for role in Role::ALL {
            assert!(role.rank() > 0, "{role:?}");
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn permissions_are_named_alike_in_json_in_text_and_in_the_schema() {
        let schema = serde_json::to_value(<Permission as utoipa::PartialSchema>::schema()).unwrap();
        assert_eq!(schema["enum"], serde_json::to_value(Permission::ALL).unwrap());
        for permission in Permission::ALL {
            assert_eq!(serde_json::to_value(permission).unwrap(), permission.as_str());
            assert_eq!(permission.as_str().parse(), Ok(*permission));
        }
    }

    #[test]
    fn only_owners_and_admins_may_change_anything_by_their_role() {
        for role in [Role::Member, Role::Viewer, Role::Auditor] {
            assert!(role.permissions().iter().all(|p| p.as_str().ends_with(":read")), "{role}");
        }
        assert_eq!(Role::Owner.permissions(), Permission::ALL);
        let beyond_admins = Permission::ALL.iter().filter(|p| !Role::Admin.permissions().contains(p));
        assert_eq!(beyond_admins.collect::<Vec<_>>(), [&P::DeleteOrganization]);
    }

    #[test]
    fn nobody_grants_above_themselves() {
        let admin = Authority::new(Role::Admin, &[]);
        let owner = Authority::new(Role::Owner, &[]);
        assert_eq!(admin.may_grant(None, &owner), Err(GrantError::Role(Role::Owner)));
        assert_eq!(admin.may_touch(&owner), Err(GrantError::Role(Role::Owner)));
        assert_eq!(admin.may_grant(Some(&owner), &admin), Err(GrantError::Role(Role::Owner)));
        assert_eq!(admin.may_grant(None, &admin), Ok(()));
        assert_eq!(owner.may_grant(Some(&owner), &owner), Ok(()));

        let inviter = Authority::new(Role::Member, &[P::InviteUsers]);
        let writer = Authority::new(Role::Member, &[P::WritePolicies]);
        assert_eq!(inviter.may_grant(None, &writer), Err(GrantError::Permissions(vec![P::WritePolicies])));
        assert_eq!(inviter.may_grant(Some(&writer), &writer), Ok(()), "keeping what is there grants nothing");
        let viewer = Authority::new(Role::Viewer, &[P::InviteUsers]);
        assert!(viewer.may_grant(None, &Authority::new(Role::Auditor, &[])).is_err(), "an auditor sees more");
    }
}
