//! Stage 6: make it so. Read, detect, decide, and rewrite the bytes if the verdict says so; the same code runs in the
//! gateway, `/process`, the command line, tests and benches.

use bytes::Bytes;

use crate::detect::Engine;
use crate::domain::{AuditFinding, Coverage, Dialect, Direction, Verdict};
use crate::policy::CompiledPolicy;
use crate::protocol::{ReadLimits, Unreadable};

/// A request's body as it came, with the headers that say what it is.
#[derive(Clone, Copy, Debug)]
pub struct RequestBody<'a> {
    pub bytes: &'a Bytes,
    pub dialect: Option<Dialect>,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
}

/// What goes on to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The very bytes that came, still encoded as they came.
    AsReceived,
    /// The decoded body with the found bytes replaced; to be sent without `Content-Encoding`.
    Redacted(Bytes),
}

/// A request, inspected.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub verdict: Verdict,
    /// The verdict's findings as the audit trail keeps them.
    pub findings: Vec<AuditFinding>,
    pub coverage: Coverage,
    pub model: Option<String>,
    pub stream: bool,
    pub user_id: Option<String>,
    pub forward: Forward,
}

/// Inspects a request's body. An empty body is clean.
///
/// # Errors
/// [`Unreadable`]: the body cannot be looked at, so it must not be forwarded.
pub fn inspect(
    _engine: &Engine,
    _policy: &CompiledPolicy,
    _body: RequestBody<'_>,
    _limits: &ReadLimits,
) -> Result<Inspection, Unreadable> {
    todo!()
}

/// One plain text, inspected.
#[derive(Clone, Debug)]
pub struct TextInspection {
    pub verdict: Verdict,
    pub findings: Vec<AuditFinding>,
    pub coverage: Coverage,
    /// The text with what the policy wants redacted replaced; the text itself when there is nothing.
    pub redacted: String,
}

/// Inspects one text in the user's role.
#[must_use]
pub fn inspect_text(
    _engine: &Engine,
    _policy: &CompiledPolicy,
    _text: &str,
    _role: crate::domain::Role,
    _direction: Direction,
) -> TextInspection {
    todo!()
}
