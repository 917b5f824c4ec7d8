//! Stage 5: what do the rules say. [`PolicyDocument`] (what a person wrote) → [`Compiler`] → [`CompiledPolicy`] (what
//! runs). [`compile`] is the one way from the first to the second; [`PolicyCache`] has the result at hand per workspace.

mod apply;
mod cache;
mod cases;
mod compile;
mod custom;
mod data;
mod decide;
mod diff;
mod document;
mod nearest;
mod presets;
mod read;
mod replay;
mod rollout;
mod rollouts;
mod schema;

#[cfg(test)]
mod sample_rules;

use std::sync::Arc;

use serde::Serialize;

use crate::domain::PolicyId;

pub use apply::{Applied, ApplyError, ApplyOutcome, Wanted, apply, is_policy_name};
pub use cache::{PolicyCache, PolicyError};
pub use cases::{CaseResult, Expected, PolicyCase, read_cases, run_cases};
pub use compile::{Compiler, compile, compile_text};
pub use data::{DataSetDraft, is_data_set_name};
pub use decide::{CompiledPolicy, Ruling};
pub use diff::{ChangeKind, PolicyChange, Stated, diff};
pub use document::{
    AllowEntry, BinaryContent, CustomRule, DataRule, Escalation, FailMode, PolicyDocument, Preset, RuleSetting,
};
pub use presets::preset;
pub use read::{parse, read};
pub use replay::{Replay, ReplayReport, ReplayRow, Replayed, ReplayedRequest, ReplayedRule, ReplayedWorkspace};
pub use rollout::{Beside, Canary, Comparison, InForce, Judges, Pending, Place, Rollout, Sample, SampledFinding};
pub use schema::schema;

/// A fault of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CompileError {
    /// JSON pointer into the document (RFC 6901); empty for the document as a whole.
    pub pointer: String,
    pub detail: String,
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.pointer.is_empty() { f.write_str(&self.detail) } else { write!(f, "{}: {}", self.pointer, self.detail) }
    }
}

/// What a compiled policy is called in headers, answers and audit rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLabel {
    /// None for a preset.
    pub id: Option<PolicyId>,
    pub name: Arc<str>,
    /// 0 for a preset.
    pub version: i64,
}

impl PolicyLabel {
    /// What a preset is called.
    #[must_use]
    pub fn of_preset(preset: Preset) -> Self {
        Self { id: None, name: preset.as_str().into(), version: 0 }
    }
}

/// A label in visible ASCII, whatever the policy's name is made of: `support@7`.
#[must_use]
pub fn shown(name: &str, version: i64) -> String {
    let visible = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    name.chars().map(visible).chain(format!("@{version}").chars()).collect()
}

#[cfg(test)]
#[test]
fn a_policys_name_is_shown_in_visible_ascii_whatever_it_is_made_of() {
    assert_eq!(shown("default", 7), "default@7");
    assert_eq!(shown("größe\r\nx: 1", 3), "gr??e??x: 1@3");
}

impl std::fmt::Display for PolicyLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}
