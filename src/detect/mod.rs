//! Stage 4: what is in it. Text in, findings out; pure and synchronous, compiled once, shared by all tenants.

use std::sync::Arc;

use crate::domain::{Finding, Role, Rule};

/// A fault of a rule pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pack}: {rule}: {message}")]
pub struct PackError {
    pub pack: String,
    pub rule: String,
    pub message: String,
}

/// All detectors, compiled.
pub struct Engine {}

impl Engine {
    /// Compiles the rule packs that are built in (`config/detectors/*.yaml`).
    ///
    /// # Errors
    /// Every fault at once; a test proves that the built-in packs have none.
    pub fn builtin() -> Result<Self, Vec<PackError>> {
        todo!()
    }

    /// Compiles `(name, yaml)` packs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_packs(_packs: &[(&str, &str)]) -> Result<Self, Vec<PackError>> {
        todo!()
    }

    /// Every rule that a finding can name, sorted by id.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        todo!()
    }

    /// Appends what is found in `text`. `segment` is copied into the findings; `role` weighs injection rules. Linear in the text.
    pub fn scan(&self, _text: &str, _segment: usize, _role: Role, _out: &mut Vec<Finding>) {
        todo!()
    }
}
