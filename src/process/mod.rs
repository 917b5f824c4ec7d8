//! `POST /process`, the same on both faces: one text scanned for an application, with its audit row.

mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::audit::{Journal, JournalError};
use crate::authn::Caller;
use crate::detect::Engine;
use crate::domain::{
    Action, AuditEvent, Category, Coverage, Detector, Direction, Outcome, RequestId, Role, Sensitive, SharedClock,
    Verdict,
};
use crate::enforce::{TextInspection, contained, inspect_text_beside};
use crate::policy::{Judges, PolicyCache, PolicyError};
use crate::telemetry::Metrics;

/// A longer text is scanned on a thread that may block: at a few µs per KiB it would hold up others.
const MAX_INLINE: usize = 64 * 1024;

/// The body of `POST /process`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessRequest {
    /// The text to scan.
    #[schema(value_type = String, example = "My credit card is 4532-1234-5678-9010")]
    pub user_input: Sensitive<String>,
    /// The application's own name for its end user; kept in the audit row, cut to 256 characters.
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

/// Why a text was not judged; the request is refused with 503 `guard_unavailable`.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A defect of a detector, under a policy that fails closed.
    #[error("the inspection broke")]
    Broken,
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
    /// Scans and judges `request` under the policy of `caller`'s workspace. The audit row is in the journal before this
    /// returns; so it is when the answer is a refusal, unless the journal itself is the reason. Counts what was found, how
    /// long it took and why it was refused; `requests` is counted by the face, which also sees those that never get here.
    ///
    /// # Errors
    /// [`ProcessError`]: 503 `guard_unavailable`.
    pub async fn process(
        &self,
        caller: &Caller,
        request: ProcessRequest,
        request_id: RequestId,
        client_ip: Option<String>,
    ) -> Result<ProcessResponse, ProcessError> {
        let begun = Instant::now();
        let mut event = record::received(Some(caller), request_id, self.clock.now(), self.journal.node());
        event.client_ip = client_ip;
        event.user_id = request.user_id.map(record::short);

        let mut judges = None;
        let result = self.judge(caller, request.user_input.into_inner(), &mut event, &mut judges).await;
        let outcome = match &result {
            Ok((_, inspection)) if inspection.verdict.blocked() => Outcome::Blocked,
            Ok(_) => Outcome::Completed,
            Err(_) => Outcome::Refused,
        };
        let status = if result.is_ok() { 200 } else { 503 };
        let took = begun.elapsed();
        let completion = record::completed(&event, self.clock.now(), outcome, status, took);
        let recorded = self.journal.record(Box::new(event), completion).await;
        if let Some(beside) = judges.as_ref().and_then(|judges| judges.beside.as_ref()) {
            beside.rollout.finished(beside.arm, outcome == Outcome::Blocked, status != 200, took);
        }

        match (result, recorded) {
            (Ok((judges, inspection)), Ok(())) => {
                self.observe(&inspection, took);
                Ok(record::response(request_id, &judges, inspection, begun.elapsed()))
            }
            (Ok(_), Err(error)) => {
                self.metrics.failclosed.with_label_values(&["journal"]).inc();
                Err(error.into())
            }
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(journal)) => {
                tracing::error!(request.id = %request_id, error = %journal, "a refusal was not recorded");
                Err(error)
            }
        }
    }

    /// Records a request that a face refused before there was a text to judge: no valid key, a limit, an unreadable body.
    /// `code` and `status` are what the application is told. A journal that cannot take the record is logged: the refusal
    /// stands.
    pub async fn refused(
        &self,
        caller: Option<&Caller>,
        request_id: RequestId,
        client_ip: Option<String>,
        code: &str,
        status: u16,
        took: Duration,
    ) {
        let mut event = record::received(caller, request_id, self.clock.now(), self.journal.node());
        event.client_ip = client_ip;
        event.error_code = Some(code.to_owned());
        let completion = record::completed(&event, self.clock.now(), Outcome::Refused, status, took);
        if let Err(error) = self.journal.record(Box::new(event), completion).await {
            tracing::error!(request.id = %request_id, %error, "a refusal was not recorded");
        }
    }

    /// Fills in what the decision adds to the event.
    async fn judge(
        &self,
        caller: &Caller,
        text: String,
        event: &mut AuditEvent,
        chosen: &mut Option<Judges>,
    ) -> Result<(Judges, TextInspection), ProcessError> {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        event.coverage = Coverage { received: length, decoded: length, ..Coverage::default() };
        let in_force = self.policies.get(caller).await?;
        let judges = chosen.insert(in_force.judges(caller.key_id, event.user_id.as_deref())).clone();
        let policy = &judges.acting;
        record::under(event, policy.label());
        let text = Arc::<str>::from(text);
        let mut inspection = match self.inspect(judges.clone(), Arc::clone(&text)).await {
            Some(inspection) => inspection,
            None if policy.fails_open() => {
                self.metrics.failopen.with_label_values(&["scan"]).inc();
                event.error_code = Some(record::GUARD_UNAVAILABLE.to_owned());
                TextInspection {
                    verdict: Verdict::clean(),
                    findings: Vec::new(),
                    coverage: event.coverage.clone(),
                    redacted: text.to_string(),
                    comparison: None,
                }
            }
            None => {
                self.metrics.failclosed.with_label_values(&["scan"]).inc();
                return Err(ProcessError::Broken);
            }
        };
        record::judged(event, &inspection);
        if let (Some(beside), Some(comparison)) = (&judges.beside, inspection.comparison.take()) {
            beside.rollout.compared(beside.arm, *comparison, event.id, caller.workspace_id, event.occurred_at);
        }
        Ok((judges, inspection))
    }

    /// None when the inspection broke.
    async fn inspect(&self, judges: Judges, text: Arc<str>) -> Option<TextInspection> {
        let engine = Arc::clone(&self.engine);
        let inspect = move |text: &str| {
            let Judges { acting, beside } = &judges;
            contained(|| inspect_text_beside(&engine, acting, beside.as_ref(), text, Role::User, Direction::Input))
        };
        if text.len() <= MAX_INLINE {
            return inspect(&text);
        }
        tokio::task::spawn_blocking(move || inspect(&text)).await.ok().flatten()
    }

    fn observe(&self, inspection: &TextInspection, took: Duration) {
        self.metrics.scan_duration.with_label_values(&["input", "total"]).observe(took.as_secs_f64());
        self.metrics.count_detections(&inspection.findings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_the_reference_writes_it_and_nothing_else_is_taken() {
        let text = r#"{"user_input": "My credit card is 4532-1234-5678-9010", "user_id": "customer_123"}"#;
        let request: ProcessRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.user_id.as_deref(), Some("customer_123"));
        assert!(!format!("{request:?}").contains("4532"), "a prompt is never printed");
        assert!(serde_json::from_str::<ProcessRequest>(r#"{"user_input": "a"}"#).unwrap().user_id.is_none());
        for bad in [r#"{"user_id": "a"}"#, r#"{"user_input": "a", "userid": "b"}"#, r#"{"user_input": 7}"#] {
            assert!(serde_json::from_str::<ProcessRequest>(bad).is_err(), "{bad}");
        }
    }
}
