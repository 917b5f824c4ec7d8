//! Stage 6: make it so. Read, detect, decide, and rewrite the bytes if the verdict says so; the same code runs in the
//! gateway, `/process`, the command line, tests and benches.

mod answer;
mod models;
mod receipt;
mod seams;
mod splice;
#[cfg(test)]
mod tests;
mod tokens;

pub use answer::{AnswerLimits, AnswerReport, AnswerStream, Flow, InspectedAnswer, Stop, inspect_answer};
pub use models::Named;
pub use tokens::{Restorer, Seal, Vault};

use std::sync::Arc;

use bytes::Bytes;

use crate::detect::Engine;
use crate::domain::{
    Action, AuditFinding, Category, Coverage, Detector, Dialect, Direction, Finding, Judged, Role, Verdict, Views,
    WorkspaceConfig, is_model_name,
};
use crate::policy::{Beside, Comparison, CompiledPolicy, Place};
use crate::protocol::{self, BinaryRule, Document, ReadLimits, Segment, Source, Unreadable};

use splice::{Found, Splice, merged};
use tokens::{Assigned, Labels, Mint, Passage, assign};

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
    /// The verdict's findings as the audit trail keeps them; of a great many, the 256 with the strongest actions.
    pub findings: Vec<AuditFinding>,
    pub coverage: Coverage,
    pub model: Option<String>,
    /// What the workspace says about the models that the body names.
    pub named: Named,
    pub stream: bool,
    pub user_id: Option<String>,
    /// Meaningless when the verdict blocks: nothing is forwarded then.
    pub forward: Forward,
    /// Tokens that stand in `forward`.
    pub tokens: u64,
    /// What the answer's tokens stand for; None when none can be put back.
    pub restorer: Option<Arc<Restorer>>,
    /// What the other policy of a rollout says.
    pub comparison: Option<Box<Comparison>>,
}

impl Inspection {
    /// Of a body that nobody looked at, although it goes on: the detectors broke and the policy fails open.
    #[must_use]
    pub fn unseen(received: usize) -> Self {
        let received = u64::try_from(received).unwrap_or(u64::MAX);
        Self {
            verdict: Verdict::clean(),
            findings: Vec::new(),
            coverage: Coverage { received, ..Coverage::default() },
            model: None,
            named: Named::Nothing,
            stream: false,
            user_id: None,
            forward: Forward::AsReceived,
            tokens: 0,
            restorer: None,
            comparison: None,
        }
    }
}

/// Runs an inspection; None when it panicked, so that the policy can say what becomes of the request.
pub fn contained<T>(inspect: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(inspect)).ok()
}

/// Inspects a request's body. An empty body is clean.
///
/// `seal` is for tokens in requests whose conversation is kept elsewhere; without it their values are redacted. `workspace`
/// is for what it says about models.
///
/// # Errors
/// [`Unreadable`]: the body cannot be looked at, so it must not be forwarded.
pub fn inspect(
    engine: &Engine,
    policy: &CompiledPolicy,
    body: RequestBody<'_>,
    limits: &ReadLimits,
    seal: Option<&Seal>,
    workspace: Option<&WorkspaceConfig>,
) -> Result<Inspection, Unreadable> {
    inspect_beside(engine, (policy, None), body, limits, seal, workspace)
}

/// [`inspect`], compared with what the other policy of a rollout says.
///
/// Where both look for the same the other one judges the findings that are there; else the texts are scanned once more.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_beside(
    engine: &Engine,
    (policy, beside): (&CompiledPolicy, Option<&Beside>),
    body: RequestBody<'_>,
    limits: &ReadLimits,
    seal: Option<&Seal>,
    workspace: Option<&WorkspaceConfig>,
) -> Result<Inspection, Unreadable> {
    inspect_with(
        |text, segment, role, found| engine.scan_with(text, segment, role, policy.custom(), found),
        |findings, role_of| policy.decide(findings, role_of),
        body,
        (limits, policy.binary()),
        (policy.tokens(), seal),
        workspace,
        |verdict, document| {
            let beside = beside?;
            let own = beside.scans().then(|| {
                let (mut found, mut scratch) = (Vec::new(), String::new());
                let custom = beside.other().custom();
                for (index, segment) in document.segments.iter().enumerate() {
                    engine.scan_with(segment.text_in(&mut scratch), index, segment.role, custom, &mut found);
                }
                found
            });
            let place = |segment: usize| Place {
                role: document.role(segment),
                path: document.path(segment),
                text: document.segments.get(segment).map(Segment::text).unwrap_or_default(),
            };
            Some(beside.compare(verdict, own, |segment| document.role(segment), place))
        },
    )
}

/// The end user whom a body names, read as [`inspect`] reads it. None where it cannot be read.
#[must_use]
pub fn user_of(policy: &CompiledPolicy, body: RequestBody<'_>, limits: &ReadLimits) -> Option<String> {
    let decoded = protocol::decode(body.bytes, body.content_encoding, limits).ok()?;
    protocol::read(body.dialect, body.content_type, &decoded, limits, policy.binary()).ok()?.user_id
}

/// [`inspect`] for any detector and any policy.
fn inspect_with(
    scan: impl Fn(&str, usize, Role, &mut Vec<Finding>) -> Views,
    decide: impl FnOnce(Vec<Finding>, &dyn Fn(usize) -> Role) -> Verdict,
    body: RequestBody<'_>,
    (limits, binary): (&ReadLimits, BinaryRule),
    (labels, seal): (Option<&Labels>, Option<&Seal>),
    workspace: Option<&WorkspaceConfig>,
    compare: impl FnOnce(&Verdict, &Document<'_>) -> Option<Comparison>,
) -> Result<Inspection, Unreadable> {
    let decoded = protocol::decode(body.bytes, body.content_encoding, limits)?;
    let mut document = protocol::read(body.dialect, body.content_type, &decoded, limits, binary)?;

    let mut findings = Vec::new();
    let mut scratch = String::new();
    let mut seams = seams::Seams::default();
    for (index, segment) in document.segments.iter().enumerate() {
        let text = segment.text_in(&mut scratch);
        let mut views = scan(text, index, segment.role, &mut findings);
        if segment.is_said() {
            views |= seams.next((index, segment.role, text), &scan, &mut findings);
        }
        document.coverage.views |= views;
    }
    let verdict = decide(findings, &|segment| document.role(segment));
    let comparison = compare(&verdict, &document).map(Box::new);

    let (named, renamed) = workspace.map(|workspace| models::judge(&document, workspace)).unwrap_or_default();
    let mut assigned = Assigned::default();
    let forward = if verdict.blocked() {
        Forward::AsReceived
    } else {
        let mut found = merged(verdict.findings.iter().filter(|judged| is_replaced(judged)));
        if let Some(labels) = labels {
            assigned = tokenized(&document, labels, seal, &mut found);
        }
        let splice = Splice::of_document(&document, &found).with(renamed);
        if splice.is_empty() { Forward::AsReceived } else { Forward::Redacted(splice.apply(&decoded).into()) }
    };
    let findings = receipt::findings(
        &verdict,
        Direction::Input,
        |segment| document.role(segment),
        |segment| document.path(segment),
    );
    let mut coverage = std::mem::take(&mut document.coverage);
    coverage.received = body.bytes.len() as u64;
    Ok(Inspection {
        verdict,
        findings,
        coverage,
        model: document.model.filter(|model| is_model_name(model)),
        named,
        stream: document.stream,
        user_id: document.user_id,
        forward,
        tokens: assigned.made,
        restorer: assigned.restorer.map(Arc::new),
        comparison,
    })
}

const fn is_replaced(judged: &Judged) -> bool {
    matches!(judged.action, Action::Redact | Action::Tokenize)
}

/// Gives `found` its tokens.
fn tokenized(document: &Document<'_>, labels: &Labels, seal: Option<&Seal>, found: &mut Vec<Found<'_>>) -> Assigned {
    let mint = if document.is_whole_conversation() {
        Mint::Numbered
    } else {
        // Values of one end user come back to nobody else.
        let user = document.end_user().unwrap_or_default();
        Mint::Sealed(seal.map(|seal| Seal { place: format!("{}\n{user}", seal.place), ..seal.clone() }))
    };
    let mut passages: Vec<Passage<'_>> = document
        .segments
        .iter()
        .enumerate()
        .map(|(segment, said)| Passage { segment, text: said.text(), number: said.kind == Source::JsonNumber })
        .collect();
    passages.sort_by_cached_key(|passage| document.turn(passage.segment));
    assign(&passages, labels, &mint, found)
}

/// One plain text, inspected.
#[derive(Clone, Debug)]
pub struct TextInspection {
    pub verdict: Verdict,
    pub findings: Vec<AuditFinding>,
    pub coverage: Coverage,
    /// The text with personal data and secrets replaced that the policy redacts or blocks; the text itself when there
    /// are none.
    pub redacted: String,
    /// What the other policy of a rollout says.
    pub comparison: Option<Box<Comparison>>,
}

/// Inspects one text in `role`.
#[must_use]
pub fn inspect_text(
    engine: &Engine,
    policy: &CompiledPolicy,
    text: &str,
    role: Role,
    direction: Direction,
) -> TextInspection {
    inspect_text_beside(engine, policy, None, text, role, direction)
}

/// [`inspect_text`], compared with what the other policy of a rollout says.
#[must_use]
pub fn inspect_text_beside(
    engine: &Engine,
    policy: &CompiledPolicy,
    beside: Option<&Beside>,
    text: &str,
    role: Role,
    direction: Direction,
) -> TextInspection {
    let mut inspection = inspect_text_with(
        |text, segment, role, found| engine.scan_with(text, segment, role, policy.custom(), found),
        |findings, role_of| policy.decide(findings, role_of),
        text,
        role,
        direction,
        policy.tokens(),
    );
    inspection.comparison = beside.map(|beside| {
        let own = beside.scans().then(|| {
            let mut found = Vec::new();
            engine.scan_with(text, 0, role, beside.other().custom(), &mut found);
            found
        });
        let place = |_| Place { role, path: "text".to_owned(), text: text.into() };
        Box::new(beside.compare(&inspection.verdict, own, |_| role, place))
    });
    inspection
}

fn inspect_text_with(
    scan: impl Fn(&str, usize, Role, &mut Vec<Finding>) -> Views,
    decide: impl FnOnce(Vec<Finding>, &dyn Fn(usize) -> Role) -> Verdict,
    text: &str,
    role: Role,
    direction: Direction,
    labels: Option<&Labels>,
) -> TextInspection {
    let mut findings = Vec::new();
    let views = if text.is_empty() { Views::default() } else { scan(text, 0, role, &mut findings) };
    let verdict = decide(findings, &|_| role);

    // A blocked text is shown to nobody but its sender, yet what is shown must not carry what it was blocked for.
    let redactions = verdict.findings.iter().filter(|judged| match judged.action {
        Action::Redact | Action::Tokenize => true,
        Action::Block => {
            let rule = &judged.finding.rule;
            rule.detector == Detector::Custom || matches!(rule.category, Category::Pii | Category::Secrets)
        }
        Action::Allow | Action::Flag => false,
    });
    let mut found = merged(redactions);
    if let Some(labels) = labels {
        let passage = Passage { segment: 0, text: text.into(), number: false };
        assign(&[passage], labels, &Mint::Numbered, &mut found);
    }
    let splice = Splice::of_text(text, &found);
    let redacted = if splice.is_empty() { text.to_owned() } else { splice.apply_to_text(text) };
    let length = text.len() as u64;
    TextInspection {
        findings: receipt::findings(&verdict, direction, |_| role, |_| "text".to_owned()),
        verdict,
        coverage: Coverage {
            received: length,
            decoded: length,
            scanned: length,
            segments: u32::from(!text.is_empty()),
            skipped: Vec::new(),
            views,
        },
        redacted,
        comparison: None,
    }
}
