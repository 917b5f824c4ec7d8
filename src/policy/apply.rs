//! Policies as code: makes what is in force what a file says, and nothing when it is.

use serde::Serialize;
use serde_json::Value;

use super::diff::{PolicyChange, Stated, diff};
use super::{CompileError, PolicyLabel, compile_text};
use crate::detect::Engine;
use crate::domain::{PolicyId, UserId};
use crate::store::{DraftOf, NewPolicy, PolicyRecord, StoreError, TenantTx};

/// A policy as it is to be. What is None stays as it is.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which policy it is; upper and lower case are the same.
    pub name: String,
    pub description: Option<String>,
    pub document: Value,
    pub is_default: Option<bool>,
    pub comment: Option<String>,
    /// Leave a draft instead of putting it in force.
    pub draft: bool,
    pub author: Option<UserId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApplyOutcome {
    /// It was so already: nothing is written.
    Unchanged,
    /// Version 1 of a new policy.
    Created,
    /// A new version.
    Updated,
    /// A draft.
    Drafted,
}

impl ApplyOutcome {
    /// The event that tells of it; None when nothing is written.
    #[must_use]
    pub const fn event(self) -> Option<&'static str> {
        match self {
            Self::Unchanged => None,
            Self::Created => Some("policy.create"),
            Self::Updated => Some("policy.update"),
            Self::Drafted => Some("policy_draft.create"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Applied {
    pub outcome: ApplyOutcome,
    /// Against what was in force.
    pub changes: Vec<PolicyChange>,
    pub before: Option<PolicyRecord>,
    pub record: PolicyRecord,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the document has faults")]
    Faults(Vec<CompileError>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a policy can be called so: it is shown in the header `x-sentinel-policy`, and names a file.
#[must_use]
pub fn is_policy_name(name: &str) -> bool {
    name.trim() == name
        && (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || " _-.".contains(c))
}

/// Writes what is wanted unless it is there, in the caller's transaction: one that is dropped was a trial.
///
/// # Errors
/// Every fault of the document; those of [`crate::store::Policies::insert`], `replace` and [`crate::store::PolicyDrafts::insert`].
pub async fn apply(tx: &mut TenantTx, engine: &Engine, wanted: Wanted) -> Result<Applied, ApplyError> {
    let label = PolicyLabel { id: None, name: wanted.name.as_str().into(), version: 0 };
    compile_text(&wanted.document.to_string(), label, engine).map_err(ApplyError::Faults)?;
    // What is compared with stays until the end.
    tx.serialize().await?;
    let before = tx.policies().find_by_name(&wanted.name).await?;
    let kept = before.as_ref();
    let policy = NewPolicy {
        id: PolicyId::new(),
        name: wanted.name,
        description: wanted.description.or_else(|| kept.and_then(|policy| policy.description.clone())),
        document: wanted.document,
        is_default: wanted.is_default.unwrap_or_else(|| kept.is_some_and(|policy| policy.is_default)),
        comment: wanted.comment,
        created_by: wanted.author,
    };
    let stated = Stated {
        name: &policy.name,
        description: policy.description.as_deref(),
        is_default: policy.is_default,
        document: &policy.document,
    };
    let changes = diff(kept.map(Stated::from), stated);
    let (outcome, record) = match kept {
        Some(current) if changes.is_empty() => (ApplyOutcome::Unchanged, current.clone()),
        _ if wanted.draft => draft(tx, kept, policy).await?,
        Some(current) => {
            let replaced = tx.policies().replace(current.root_id, current.version, policy).await?;
            (ApplyOutcome::Updated, replaced.ok_or(StoreError::Stale)?)
        }
        None => (ApplyOutcome::Created, tx.policies().insert(policy).await?),
    };
    Ok(Applied { outcome, changes, before, record })
}

/// The newest draft when it says the same of the version in force, or a new one.
async fn draft(
    tx: &mut TenantTx,
    current: Option<&PolicyRecord>,
    policy: NewPolicy,
) -> Result<(ApplyOutcome, PolicyRecord), ApplyError> {
    let of = current.map_or(DraftOf::NewPolicy, |current| DraftOf::Policy(current.root_id));
    let newest = tx.policy_drafts().newest(current.map(|current| current.root_id), &policy.name).await?;
    if let Some(newest) = newest
        && newest.parent_policy_id == current.map(|current| current.id)
    {
        let stated = Stated {
            name: &policy.name,
            description: policy.description.as_deref(),
            is_default: policy.is_default,
            document: &policy.document,
        };
        if diff(Some(Stated::from(&newest)), stated).is_empty() {
            return Ok((ApplyOutcome::Unchanged, newest));
        }
    }
    Ok((ApplyOutcome::Drafted, tx.policy_drafts().insert(of, policy).await?))
}

#[cfg(test)]
#[test]
fn a_policys_name_fits_a_header_and_a_file() {
    for name in ["default", "support desk", "v1.2_a-b"] {
        assert!(is_policy_name(name), "{name}");
    }
    for name in ["", " a", "a/b", "größe", "a\n", &"x".repeat(65)] {
        assert!(!is_policy_name(name), "{name}");
    }
}
