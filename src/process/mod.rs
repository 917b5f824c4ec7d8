//! `POST /process`, the same on both faces: one text scanned for an application, with its audit row.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::audit::{Journal, JournalError};
use crate::authn::Caller;
use crate::detect::Engine;
use crate::domain::{Action, Category, Detector, RequestId, Sensitive, SharedClock};
use crate::policy::{PolicyCache, PolicyError};
use crate::telemetry::Metrics;

/// The body of `POST /process`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessRequest {
    /// The text to scan.
    #[schema(value_type = String, example = "My credit card is 4532-1234-5678-9010")]
    pub user_input: Sensitive<String>,
    /// The application's own name for its end user.
    #[serde(default)]
    #[schema(example = "customer_123")]
    pub user_id: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProcessFinding {
    pub detector: Detector,
    pub rule_id: String,
    pub category: Category,
    #[serde(rename = "type")]
    pub entity: String,
    pub confidence: f32,
    pub action: Action,
    /// Byte offsets into the UTF-8 input.
    pub start: usize,
    pub end: usize,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProcessPolicy {
    pub name: String,
    pub version: i64,
    pub canary: bool,
}

/// The answer of `POST /process`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProcessResponse {
    pub blocked: bool,
    /// 0 to 100.
    pub risk_score: u8,
    pub pii_detected: bool,
    #[schema(value_type = String)]
    pub request_id: RequestId,
    pub action: Action,
    pub categories: Vec<Category>,
    pub findings: Vec<ProcessFinding>,
    /// The input with what the policy wants redacted replaced.
    pub redacted_input: String,
    pub policy: ProcessPolicy,
    pub latency_us: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What the operation needs.
#[derive(Clone)]
pub struct Processor {
    pub engine: Arc<Engine>,
    pub policies: Arc<PolicyCache>,
    pub journal: Journal,
    pub metrics: Arc<Metrics>,
    pub clock: SharedClock,
}

impl Processor {
    /// # Errors
    /// [`ProcessError`]: 503 `guard_unavailable`.
    pub async fn process(
        &self,
        _caller: &Caller,
        _request: ProcessRequest,
        _request_id: RequestId,
        _client_ip: Option<String>,
    ) -> Result<ProcessResponse, ProcessError> {
        todo!()
    }
}
