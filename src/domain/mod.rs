//! The words that every other module speaks: typed ids, secrets, time, findings, verdicts and audit events. No I/O.

mod audit_chain;
mod audit_event;
mod dialect;
mod finding;
mod ids;
mod proxies;
mod rollout;
mod secret;
mod time;
mod verdict;
mod view;
mod workspace_config;

pub use audit_chain::{CHAIN_ORIGIN, ContentHasher, Erased, Hash, Link, link, personal_hash};
pub use audit_event::{
    AnswerRecord, AuditEvent, AuditFinding, Completion, Coverage, Outcome, SkipReason, Skipped, Source,
};
pub use dialect::Dialect;
pub use finding::{Category, Detector, Direction, Finding, Role, Rule, Severity, label};
pub use ids::{
    AdminEventId, ApiKeyId, AuditId, CredentialId, DataSetId, InvitationId, MailId, OrgId, PolicyId, RecoveryCodeId,
    RequestId, ReviewCommentId, RolloutId, SavedFilterId, SessionId, UserId, WorkspaceId,
};
pub use proxies::{ForwardedHeader, Network};
pub use rollout::{Arm, ArmCounts, Assignment, Breach, RolloutGuards, RolloutState, RuleDifference};
pub use secret::{Secret, Sensitive};
pub use time::{Clock, ManualClock, Month, SharedClock, SystemClock, Timestamp};
pub use verdict::{Action, Judged, Verdict};
pub use view::{View, ViewRead, ViewStop, Views};
pub use workspace_config::{CredentialSource, WorkspaceConfig, is_model_name};
