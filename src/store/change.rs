use serde::{Deserialize, Serialize};

use super::KeyHash;
use crate::domain::OrgId;

/// Something that caches must forget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A key was made, changed, revoked or rotated.
    ApiKey { org: OrgId, hash: KeyHash },
    /// An organization, a workspace or a user's standing changed: its keys and policies must be resolved anew.
    Organization { org: OrgId },
    /// A policy, or which policy a workspace has, changed.
    Policy { org: OrgId },
    /// What a workspace presents to a provider changed.
    ProviderCredential { org: OrgId },
    /// A set of exact data was exchanged or deleted.
    DataSet { org: OrgId },
    /// Notifications may have been missed.
    Everything,
}
