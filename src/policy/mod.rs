//! Stage 5: what do the rules say. [`PolicyDocument`] (what a person wrote) → [`compile`] → [`CompiledPolicy`] (what runs).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::authn::Caller;
use crate::detect::Engine;
use crate::domain::{Finding, PolicyId, Role, Verdict};
use crate::protocol::BinaryRule;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// A policy as it is written, in YAML or JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {}

/// A fault of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompileError {
    /// JSON pointer into the document.
    pub pointer: String,
    pub detail: String,
}

/// What a compiled policy is called in headers, answers and audit rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLabel {
    /// None for a preset.
    pub id: Option<PolicyId>,
    pub name: String,
    /// 0 for a preset.
    pub version: i64,
}

impl std::fmt::Display for PolicyLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// A policy ready to run.
pub struct CompiledPolicy {
    label: PolicyLabel,
}

impl CompiledPolicy {
    #[must_use]
    pub const fn label(&self) -> &PolicyLabel {
        &self.label
    }

    /// What to do with content that holds no readable text.
    #[must_use]
    pub fn binary(&self) -> BinaryRule {
        todo!()
    }

    /// Judges findings; `role_of` tells the role of a finding's segment.
    #[must_use]
    pub fn decide(&self, _findings: Vec<Finding>, _role_of: impl Fn(usize) -> Role) -> Verdict {
        todo!()
    }
}

/// Reads a document from YAML or JSON text.
///
/// # Errors
/// Every fault that can be told without compiling.
pub fn parse(_text: &str) -> Result<PolicyDocument, Vec<CompileError>> {
    todo!()
}

/// Compiles a document.
///
/// # Errors
/// Every fault at once.
pub fn compile(
    _document: &PolicyDocument,
    _label: PolicyLabel,
    _engine: &Engine,
) -> Result<CompiledPolicy, Vec<CompileError>> {
    todo!()
}

/// A built-in policy: `balanced`, `strict` or `monitor`.
#[must_use]
pub fn preset(_name: &str) -> Option<PolicyDocument> {
    todo!()
}

/// The compiled policy of every workspace that was asked for lately.
pub struct PolicyCache {}

/// Why no policy could be had; the request is refused with 503 `guard_unavailable`.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the stored policy does not compile: {0}")]
    Uncompilable(String),
}

impl PolicyCache {
    /// Registers itself with `store.on_change`.
    #[must_use]
    pub fn new(_store: Store, _engine: Arc<Engine>, _metrics: Arc<Metrics>) -> Arc<Self> {
        todo!()
    }

    /// The policy that `caller`'s workspace is under. A warm cache asks no database; when the database is away the last
    /// good policy stays.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn get(&self, _caller: &Caller) -> Result<Arc<CompiledPolicy>, PolicyError> {
        todo!()
    }
}
