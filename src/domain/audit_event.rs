//! What the audit trail remembers of a request: never its text.
//!
//! The journal keeps these types in postcard, by position: a new variant goes to the end of its enum, and a changed field needs
//! a new kind of record (`audit/record.rs`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::finding::{Category, Detector, Direction, Role, Severity};
use super::ids::{ApiKeyId, AuditId, OrgId, PolicyId, WorkspaceId};
use super::time::Timestamp;
use super::verdict::Action;
use super::view::Views;

/// Which door the request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Gateway,
    /// `POST /process`, on either face.
    Process,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered in full: forwarded and answered by the upstream, or answered by Sentinel with a result.
    Completed,
    /// Refused by Sentinel: credential, framing, limits, unreadable body.
    Refused,
    /// Refused by the policy.
    Blocked,
    /// The upstream could not be reached, failed, or broke off.
    UpstreamFailed,
    /// The client left before the end.
    ClientClosed,
    /// The node stopped before the request was finished.
    Interrupted,
}

/// A finding as it is kept: where and what, without the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditFinding {
    pub detector: Detector,
    pub rule_id: String,
    pub category: Category,
    #[serde(rename = "type")]
    pub entity: String,
    pub severity: Severity,
    pub confidence: f32,
    pub action: Action,
    pub direction: Direction,
    pub role: Role,
    /// Where in the document: `messages[2].content[0].text`.
    pub path: String,
    /// Byte offsets into that text.
    pub start: usize,
    pub end: usize,
}

/// Why bytes of a body were not scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Binary content that the policy lets pass.
    Binary,
    /// A bound of a decoder was reached.
    DecoderLimit,
    /// The inspection broke, or would have taken more than is allowed, and the policy fails open.
    NotInspected,
}

/// A stretch that was not scanned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Skipped {
    pub reason: SkipReason,
    /// Where, as a path or a part's name.
    pub path: String,
    pub bytes: u64,
}

/// The receipt that says how much of a body was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Coverage {
    /// Bytes that arrived.
    pub received: u64,
    /// Bytes after content decoding.
    pub decoded: u64,
    /// Bytes of text that went through the detectors.
    pub scanned: u64,
    /// Pieces of text that went through the detectors.
    pub segments: u32,
    pub skipped: Vec<Skipped>,
    /// Readings beside the text as it stands, and where they ended.
    #[serde(default, with = "super::view::beside")]
    #[schema(value_type = Vec<super::ViewRead>)]
    pub views: Views,
}

/// A request as it is known when it has been decided, before the upstream is contacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    pub id: AuditId,
    /// None when no valid credential was presented; such rows belong to no tenant.
    pub org_id: Option<OrgId>,
    pub workspace_id: Option<WorkspaceId>,
    pub api_key_id: Option<ApiKeyId>,
    pub occurred_at: Timestamp,
    /// The gateway node that wrote the record.
    pub node: Arc<str>,
    pub source: Source,
    pub method: Arc<str>,
    /// Path without its query.
    pub path: String,
    pub dialect: Option<Arc<str>>,
    pub upstream: Option<Arc<str>>,
    pub model: Option<String>,
    /// The application's own name for its end user.
    pub user_id: Option<String>,
    pub client_ip: Option<String>,
    pub policy_id: Option<PolicyId>,
    pub policy_name: Option<Arc<str>>,
    pub policy_version: Option<i64>,
    pub action: Action,
    pub direction: Direction,
    pub risk_score: u8,
    pub pii_detected: bool,
    pub injection_detected: bool,
    pub escalated: bool,
    pub categories: Vec<Category>,
    pub findings: Vec<AuditFinding>,
    pub coverage: Coverage,
    /// A stable code when Sentinel refused: `invalid_api_key`, `content_filter`, `request_too_large` …
    pub error_code: Option<String>,
}

/// How a request ended; completes an [`AuditEvent`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    pub id: AuditId,
    pub completed_at: Timestamp,
    pub outcome: Outcome,
    /// What the client was told; 499 when it had left.
    pub status: u16,
    pub upstream_status: Option<u16>,
    /// Microseconds from the complete head to the end of the answer.
    pub duration_us: u64,
    /// Microseconds not spent waiting for the upstream or the client.
    pub overhead_us: u64,
    /// Microseconds from the request's arrival to the first byte of the answer.
    pub ttfb_us: Option<u64>,
    pub response_bytes: u64,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    /// Set when the refusal came after the decision (an upstream that failed).
    pub error_code: Option<String>,
    /// None where nobody looked at an answer: the policy does not want it, or there was none.
    #[serde(default)]
    pub answer: Option<Box<AnswerRecord>>,
}

/// What was made of the answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AnswerRecord {
    pub action: Action,
    /// 0 to 100.
    pub risk_score: u8,
    pub pii_detected: bool,
    /// Marked for human review.
    pub escalated: bool,
    pub categories: Vec<Category>,
    pub findings: Vec<AuditFinding>,
    pub coverage: Coverage,
}
