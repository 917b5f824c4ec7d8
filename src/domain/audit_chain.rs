//! The chain of the audit trail: what of a row is hashed, and how the hashes follow on each other.
//!
//! A stream is what one node records of one organization. Row `seq` of it, counted from 1, has the hash
//! `SHA-256(VERSION ‖ hash of row seq − 1 ‖ seq ‖ SHA-256(content))`. A row enters the chain when it is complete.
//!
//! The content is written field by field, a field that is empty not at all: a field that a later release adds leaves the
//! hashes of older rows as they are. The end user's name and the client's address are in it as hashes of their own, salted with
//! the row's id, so that they can be erased and the row still be checked.

use sha2::{Digest as _, Sha256};

use super::{
    Action, AnswerRecord, AuditEvent, AuditFinding, AuditId, Category, Completion, Coverage, Detector, Direction,
    Outcome, Role, Severity, SkipReason, Source, Timestamp, ViewStop,
};

/// SHA-256.
pub type Hash = [u8; 32];

/// A row's place in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// From 1.
    pub seq: i64,
    pub hash: Hash,
}

/// What the first row of a stream follows.
pub const CHAIN_ORIGIN: Hash = [0; 32];

const VERSION: u8 = 1;

/// What a row keeps of fields that were erased: their [`personal_hash`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub user_id: Option<Hash>,
    pub client_ip: Option<Hash>,
}

impl Erased {
    #[must_use]
    pub const fn is_anything(&self) -> bool {
        self.user_id.is_some() || self.client_ip.is_some()
    }
}

/// What of a field that can be erased is in the chain: a hash that is salted with the row's id.
#[must_use]
pub fn personal_hash(row: AuditId, value: &str) -> Hash {
    Sha256::new().chain_update(row.uuid().as_bytes()).chain_update(value).finalize().into()
}

/// The hash of row `seq`, which follows on a row with the hash `previous` and has this content.
#[must_use]
pub fn link(previous: &Hash, seq: i64, content: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([VERSION]);
    hasher.update(previous);
    hasher.update(seq.to_be_bytes());
    hasher.update(content);
    hasher.finalize().into()
}

/// Hashes contents; keeps its memory from row to row.
#[derive(Debug, Default)]
pub struct ContentHasher(Form);

impl ContentHasher {
    #[must_use]
    pub fn hash(&mut self, event: &AuditEvent, done: &Completion, erased: &Erased) -> Hash {
        self.0.0.clear();
        self.0.event(event, erased);
        self.0.completion(event.id, done);
        Sha256::digest(&self.0.0).into()
    }
}

/// Fields as bytes: a tag, the length, the value. Tags are never used for anything else again.
#[derive(Debug, Default)]
struct Form(Vec<u8>);

impl Form {
    fn bytes(&mut self, tag: u8, value: &[u8]) {
        self.0.push(tag);
        // A row is bounded by the journal to 1 MiB.
        self.0.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, tag: u8, value: Option<&str>) {
        if let Some(value) = value {
            self.bytes(tag, value.as_bytes());
        }
    }

    /// Zero is not written, as no field distinguishes it from nothing but by its neighbours.
    fn number(&mut self, tag: u8, value: u64) {
        if value != 0 {
            self.bytes(tag, &value.to_be_bytes());
        }
    }

    fn optional(&mut self, tag: u8, value: Option<u64>) {
        if let Some(value) = value {
            self.bytes(tag, &value.to_be_bytes());
        }
    }

    fn id(&mut self, tag: u8, value: Option<uuid::Uuid>) {
        if let Some(value) = value {
            self.bytes(tag, value.as_bytes());
        }
    }

    fn time(&mut self, tag: u8, value: Timestamp) {
        self.bytes(tag, &value.micros().to_be_bytes());
    }

    /// What can be erased.
    fn personal(&mut self, tag: u8, row: AuditId, value: Option<&str>, erased: Option<Hash>) {
        if let Some(hash) = value.map(|value| personal_hash(row, value)).or(erased) {
            self.bytes(tag, &hash);
        }
    }

    fn nested(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        self.0.push(tag);
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(self);
        let length = u32::try_from(self.0.len() - at - 4).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&length);
        }
    }

    fn event(&mut self, event: &AuditEvent, erased: &Erased) {
        self.id(1, Some(event.id.uuid()));
        self.id(2, event.org_id.map(|id| id.uuid()));
        self.id(3, event.workspace_id.map(|id| id.uuid()));
        self.id(4, event.api_key_id.map(|id| id.uuid()));
        self.time(5, event.occurred_at);
        self.text(6, Some(&event.node));
        self.number(7, source_code(event.source));
        self.text(8, Some(&event.method));
        self.text(9, Some(&event.path));
        self.text(10, event.dialect.as_deref());
        self.text(11, event.upstream.as_deref());
        self.text(12, event.model.as_deref());
        self.personal(13, event.id, event.user_id.as_deref(), erased.user_id);
        self.personal(14, event.id, event.client_ip.as_deref(), erased.client_ip);
        self.id(15, event.policy_id.map(|id| id.uuid()));
        self.text(16, event.policy_name.as_deref());
        self.optional(17, event.policy_version.map(i64::cast_unsigned));
        self.number(18, action_code(event.action));
        self.number(19, direction_code(event.direction));
        self.number(20, u64::from(event.risk_score));
        self.number(21, u64::from(event.pii_detected));
        self.number(22, u64::from(event.injection_detected));
        self.number(23, u64::from(event.escalated));
        self.categories(24, &event.categories);
        self.findings(25, &event.findings);
        self.coverage(26, &event.coverage);
        self.text(27, event.error_code.as_deref());
    }

    fn completion(&mut self, row: AuditId, done: &Completion) {
        debug_assert_eq!(row, done.id);
        self.time(40, done.completed_at);
        self.number(41, outcome_code(done.outcome));
        self.number(42, u64::from(done.status));
        self.optional(43, done.upstream_status.map(u64::from));
        self.number(44, done.duration_us);
        self.number(45, done.overhead_us);
        self.optional(46, done.ttfb_us);
        self.number(47, done.response_bytes);
        self.optional(48, done.input_tokens);
        self.optional(49, done.output_tokens);
        self.text(50, done.error_code.as_deref());
        if let Some(answer) = done.answer.as_deref() {
            self.nested(51, |form| form.answer(answer));
        }
    }

    fn answer(&mut self, answer: &AnswerRecord) {
        self.number(1, action_code(answer.action));
        self.number(2, u64::from(answer.risk_score));
        self.number(3, u64::from(answer.pii_detected));
        self.number(4, u64::from(answer.escalated));
        self.categories(5, &answer.categories);
        self.findings(6, &answer.findings);
        self.coverage(7, &answer.coverage);
    }

    fn categories(&mut self, tag: u8, categories: &[Category]) {
        for category in categories {
            self.text(tag, Some(category.as_str()));
        }
    }

    fn findings(&mut self, tag: u8, findings: &[AuditFinding]) {
        for finding in findings {
            self.nested(tag, |form| {
                form.number(1, detector_code(finding.detector));
                form.text(2, Some(&finding.rule_id));
                form.text(3, Some(finding.category.as_str()));
                form.text(4, Some(&finding.entity));
                form.number(5, severity_code(finding.severity));
                form.number(6, u64::from(finding.confidence.to_bits()));
                form.number(7, action_code(finding.action));
                form.number(8, direction_code(finding.direction));
                form.number(9, role_code(finding.role));
                form.text(10, Some(&finding.path));
                form.number(11, finding.start as u64);
                form.number(12, finding.end as u64);
            });
        }
    }

    fn coverage(&mut self, tag: u8, coverage: &Coverage) {
        self.nested(tag, |form| {
            form.number(1, coverage.received);
            form.number(2, coverage.decoded);
            form.number(3, coverage.scanned);
            form.number(4, u64::from(coverage.segments));
            for skipped in &coverage.skipped {
                form.nested(5, |form| {
                    form.number(1, reason_code(skipped.reason));
                    form.text(2, Some(&skipped.path));
                    form.number(3, skipped.bytes);
                });
            }
            for read in coverage.views.iter() {
                form.nested(6, |form| {
                    form.text(1, Some(read.view.as_str()));
                    form.number(2, read.stopped.map_or(0, stop_code));
                });
            }
        });
    }
}

// Codes of their own: the order of an enum may change, these never do.

const fn source_code(source: Source) -> u64 {
    match source {
        Source::Gateway => 1,
        Source::Process => 2,
    }
}

const fn action_code(action: Action) -> u64 {
    match action {
        Action::Allow => 1,
        Action::Flag => 2,
        Action::Redact => 3,
        Action::Block => 4,
        Action::Tokenize => 5,
    }
}

const fn direction_code(direction: Direction) -> u64 {
    match direction {
        Direction::Input => 1,
        Direction::Output => 2,
    }
}

const fn outcome_code(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Completed => 1,
        Outcome::Refused => 2,
        Outcome::Blocked => 3,
        Outcome::UpstreamFailed => 4,
        Outcome::ClientClosed => 5,
        Outcome::Interrupted => 6,
    }
}

const fn detector_code(detector: Detector) -> u64 {
    match detector {
        Detector::Pii => 1,
        Detector::Secrets => 2,
        Detector::Injection => 3,
        Detector::Custom => 4,
    }
}

const fn severity_code(severity: Severity) -> u64 {
    match severity {
        Severity::Low => 1,
        Severity::Medium => 2,
        Severity::High => 3,
        Severity::Critical => 4,
    }
}

const fn role_code(role: Role) -> u64 {
    match role {
        Role::System => 1,
        Role::User => 2,
        Role::Assistant => 3,
        Role::Tool => 4,
        Role::ToolDefinition => 5,
        Role::Other => 6,
    }
}

const fn reason_code(reason: SkipReason) -> u64 {
    match reason {
        SkipReason::Binary => 1,
        SkipReason::DecoderLimit => 2,
        SkipReason::NotInspected => 3,
    }
}

const fn stop_code(stop: ViewStop) -> u64 {
    match stop {
        ViewStop::Size => 1,
        ViewStop::Depth => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{View, Views};

    #[test]
    fn readings_are_written_only_where_there_are_any() {
        let form = |views: Views| {
            let mut form = Form::default();
            form.coverage(7, &Coverage { views, ..Coverage::default() });
            form.0
        };
        assert_eq!(form(Views::default()), [7, 0, 0, 0, 0]);
        let mut views = Views::default();
        views.read(View::Morse);
        let morse = [&[7, 0, 0, 0, 15, 6, 0, 0, 0, 10, 1, 0, 0, 0, 5][..], b"morse"].concat();
        assert_eq!(form(views), morse);
        views.stopped(View::Morse, ViewStop::Depth);
        assert_eq!(form(views)[20..], [2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2]);
    }
}
