//! The answer on its way to the client, where the policy looks at answers: held until it was looked at, or passed on event by
//! event as far as it was. pingora's filters are synchronous and come after the head: what a verdict does to the head, and to
//! the end of the answer, goes through the [`Valve`] to the stand-in session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use pingora::http::ResponseHeader;

use crate::domain::{Action, AnswerRecord, Coverage, Dialect, Outcome, RequestId, SkipReason, Skipped, Verdict};
use crate::enforce::{self, AnswerReport, AnswerStream, Flow, Restorer, Stop};
use crate::policy::CompiledPolicy;
use crate::protocol::stream::Framing;
use crate::protocol::{self, BinaryRule, Unreadable};

use super::Gate;
use super::answer::dress;
use super::context::{Context, Failure};
use super::inspect::ASIDE;
use super::problem::{Blocked, Problem, StreamShape};
use super::replay::{NewHead, Valve};

/// What is done with the pieces of an answer.
#[derive(Default)]
pub(super) enum Screen {
    /// They pass: nobody wants them looked at, or there is a reason in the record.
    #[default]
    Off,
    /// Collected.
    Whole { body: Vec<u8>, content_type: Option<String> },
    /// Looked at as they come.
    Stream(Box<AnswerStream>),
    /// The answer is another one already.
    Over,
}

/// What the screen knows at the end.
#[derive(Default)]
pub(super) struct Screened {
    pub screen: Screen,
    pub valve: Option<Arc<Valve>>,
    report: Option<Box<AnswerReport>>,
    /// What became of the answer, where that is not its action.
    fate: Option<&'static str>,
    /// Why it passes unseen, where that is so from the head on.
    skipped: Option<SkipReason>,
    /// Time spent looking.
    took: Duration,
    /// Since when something is held back.
    held: Option<Instant>,
}

impl Screened {
    fn report(&self) -> Option<&AnswerReport> {
        match &self.screen {
            Screen::Stream(stream) => Some(stream.report()),
            _ => self.report.as_deref(),
        }
    }

    /// For the audit row; of an answer of `bytes`.
    pub(super) fn record(&self, bytes: u64) -> Option<Box<AnswerRecord>> {
        let passed = self.skipped.map(|reason| {
            let skipped = vec![Skipped { reason, path: "body".to_owned(), bytes }];
            AnswerReport {
                coverage: Coverage { received: bytes, skipped, ..Coverage::default() },
                ..AnswerReport::default()
            }
        });
        let report = passed.as_ref().or_else(|| self.report())?;
        let verdict = &report.verdict;
        Some(Box::new(AnswerRecord {
            action: verdict.action,
            risk_score: verdict.risk_score,
            pii_detected: verdict.pii_detected,
            escalated: verdict.escalate,
            categories: verdict.categories.clone(),
            findings: report.findings.clone(),
            coverage: report.coverage.clone(),
        }))
    }
}

/// A whole answer and what is needed to judge it.
struct Case {
    id: RequestId,
    /// Of the request.
    action: Action,
    reveal: bool,
    policy: Arc<CompiledPolicy>,
    restorer: Option<Arc<Restorer>>,
    content_type: Option<String>,
    body: Vec<u8>,
}

/// What a look at a whole answer comes to: how it goes on, or what is said instead.
struct Judgement {
    passed: Result<(Option<NewHead>, Bytes), Box<Problem>>,
    settled: Settled,
}

/// What becomes of it.
pub(super) struct Resolved {
    pub head: Option<NewHead>,
    pub body: Bytes,
    pub cut: bool,
    pub settled: Settled,
}

/// What the record and the metrics are told.
pub(super) struct Settled {
    report: Option<Box<AnswerReport>>,
    fate: Option<&'static str>,
    skipped: Option<SkipReason>,
    action: Action,
    failure: Option<Failure>,
    took: Duration,
}

impl Default for Settled {
    fn default() -> Self {
        Self { report: None, fate: None, skipped: None, action: Action::Allow, failure: None, took: Duration::ZERO }
    }
}

fn failure(problem: &Problem, status: u16) -> Failure {
    let outcome = match problem.status {
        _ if problem.blocked.is_some() => Outcome::Blocked,
        502 => Outcome::UpstreamFailed,
        _ => Outcome::Refused,
    };
    Failure { status, code: problem.code, outcome }
}

impl Context {
    fn fail_answer(&mut self, problem: &Problem, status: u16) {
        self.action = Action::Block;
        self.failure = Some(failure(problem, status));
    }

    fn settle_answer(&mut self, settled: Settled) {
        self.action = self.action.max(settled.action);
        self.failure = settled.failure.or(self.failure);
        self.screened.report = settled.report;
        self.screened.fate = settled.fate;
        self.screened.skipped = settled.skipped;
        self.screened.took += settled.took;
    }

    /// Takes in what was found on another thread.
    pub(super) fn collect_answer(&mut self) {
        if let Some(settled) = self.screened.valve.as_ref().and_then(|valve| valve.settled()) {
            self.settle_answer(settled);
        }
    }
}

impl Judgement {
    /// `marked` is needed only where something else is said.
    fn resolve(self, dialect: Dialect, id: RequestId, marked: Option<ResponseHeader>) -> Resolved {
        let settled = self.settled;
        match self.passed {
            Ok((head, body)) => Resolved { head, body, cut: false, settled },
            Err(problem) => {
                let body = problem.body(dialect, id);
                let head = marked.and_then(|mut marked| {
                    marked.insert_header("x-sentinel-action", HeaderValue::from_static("block")).ok()?;
                    dress(marked, dialect, &problem, body.len()).ok()
                });
                Resolved { head: head.map(NewHead::Instead), body, cut: true, settled }
            }
        }
    }
}

impl Gate {
    /// An upstream's final head: decides how its body is looked at.
    pub(super) fn screen_head(&self, head: &mut ResponseHeader, method: &Method, context: &mut Context) {
        let Some(valve) = context.screened.valve.clone() else { return };
        let Some(policy) = context.policy.clone() else { return };
        if method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304) {
            return;
        }
        let (kind, coding) = match (single(&head.headers, &CONTENT_TYPE), single(&head.headers, &CONTENT_ENCODING)) {
            (Ok(kind), Ok(coding)) => (kind.map(str::to_owned), coding.map(str::to_owned)),
            _ => return self.refuse_answer(&valve, context, unreadable("its head cannot be read")),
        };
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return self.refuse_answer(&valve, context, unreadable("it is encoded"));
        }
        if kind.as_deref().is_some_and(protocol::is_binary) {
            if policy.binary_answers() == BinaryRule::Refuse {
                return self.refuse_answer(&valve, context, unreadable("its content type holds no text"));
            }
            // As it comes: a stream stays one.
            context.screened.fate = Some("unseen");
            context.screened.skipped = Some(SkipReason::Binary);
            return;
        }
        context.screened.screen = match framing(kind.as_deref().unwrap_or_default()) {
            Some(framing) => {
                // It may become longer or shorter; pingora frames what has no length.
                head.remove_header(&CONTENT_LENGTH);
                if framing == Framing::Lines {
                    context.answering.stream = Some(StreamShape::Lines);
                }
                let limits = self.answer_limits;
                let restorer = context.restorer.clone();
                Screen::Stream(Box::new(AnswerStream::new(
                    self.state.engine.clone(),
                    policy,
                    framing,
                    limits,
                    restorer,
                )))
            }
            None => {
                valve.hold();
                Screen::Whole { body: Vec::new(), content_type: kind }
            }
        };
    }

    /// A piece of an answer's body, or its end.
    pub(super) fn screen(&self, piece: &mut Option<Bytes>, end: bool, context: &mut Context) {
        match &mut context.screened.screen {
            Screen::Off => {}
            Screen::Over => *piece = None,
            Screen::Whole { body, .. } => {
                body.extend_from_slice(&piece.take().unwrap_or_default());
                if body.len() > self.answer_limits.max_frame {
                    *piece = self.too_large(context);
                } else if end {
                    *piece = self.judge_whole(context);
                }
            }
            Screen::Stream(_) => *piece = self.pass_on(piece.take(), end, context),
        }
    }

    /// Trailers follow, which no filter of bodies is told.
    pub(super) fn screen_trailers(&self, context: &mut Context) {
        let mut rest = None;
        self.screen(&mut rest, true, context);
        if let (Some(valve), Some(rest)) = (&context.screened.valve, rest) {
            valve.add(rest);
        }
    }

    /// The upstream broke off in the middle of a stream: what may still go out, and what is said in the end.
    pub(super) fn screen_broken(&self, context: &mut Context, problem: Problem) -> (Bytes, Problem) {
        let Screen::Stream(stream) = &mut context.screened.screen else { return (Bytes::new(), problem) };
        let Some(flow) = enforce::contained(|| stream.break_off()) else { return (Bytes::new(), problem) };
        let stopped = flow.stop.map(|stop| self.stopped(context, stop));
        (flow.bytes.into(), stopped.unwrap_or(problem))
    }

    fn pass_on(&self, piece: Option<Bytes>, end: bool, context: &mut Context) -> Option<Bytes> {
        let Screen::Stream(stream) = &mut context.screened.screen else { return piece };
        let started = Instant::now();
        let flow = enforce::contained(|| {
            let mut flow = piece.as_ref().map(|piece| stream.push(piece)).unwrap_or_default();
            if end && flow.stop.is_none() {
                let rest = stream.finish();
                flow.bytes.extend(rest.bytes);
                flow.stop = rest.stop;
            }
            flow
        });
        let holding = stream.is_holding();
        context.screened.took += started.elapsed();
        let Some(Flow { mut bytes, stop }) = flow else { return self.broken(context) };
        if (!bytes.is_empty() || end)
            && let Some(since) = context.screened.held.take()
        {
            self.state.metrics.answer_hold.observe(since.elapsed().as_secs_f64());
        }
        if holding {
            context.screened.held.get_or_insert_with(Instant::now);
        }
        if let Some(stop) = stop {
            let problem = self.stopped(context, stop);
            self.end_early(context, &problem, &mut bytes);
        } else if end {
            self.settle_report(context);
        }
        (!bytes.is_empty()).then(|| bytes.into())
    }

    /// Keeps what the stream has found when it goes no further.
    fn settle_report(&self, context: &mut Context) {
        if let Screen::Stream(stream) = &context.screened.screen {
            context.screened.report = Some(Box::new(stream.report().clone()));
            context.action = context.action.max(stream.report().verdict.action);
        }
        context.screened.screen = Screen::Over;
    }

    /// The last words of a stream.
    fn end_early(&self, context: &mut Context, problem: &Problem, bytes: &mut Vec<u8>) {
        let shape = context.answering.stream.unwrap_or(StreamShape::Events);
        bytes.extend_from_slice(&problem.stream_end(context.dialect, shape, context.id).unwrap_or_else(|| {
            let body = problem.body(context.dialect, context.id);
            match shape {
                StreamShape::Lines => [&*body, b"\n"].concat().into(),
                _ => [b"event: error\ndata: ", &*body, b"\n\n"].concat().into(),
            }
        }));
        if let Some(valve) = &context.screened.valve {
            valve.cut();
        }
        self.settle_report(context);
    }

    /// What a stream's client is told, and the row.
    fn stopped(&self, context: &mut Context, stop: Stop) -> Problem {
        self.settle_report(context);
        let problem = match stop {
            Stop::Blocked => {
                let reveal = context.caller.as_deref().is_some_and(|caller| caller.config.reveals());
                match (&context.policy, context.screened.report()) {
                    (Some(policy), Some(report)) => self.blocked_answer(context.id, policy, &report.verdict, reveal),
                    _ => Problem::unguarded(),
                }
            }
            Stop::Unreadable(why) => {
                context.screened.fate = Some("unreadable");
                unreadable(&why.message)
            }
        };
        // The status of the head that has gone out.
        let status = context.answering.status.unwrap_or(problem.status);
        context.fail_answer(&problem, status);
        problem
    }

    fn blocked_answer(&self, id: RequestId, policy: &CompiledPolicy, verdict: &Verdict, reveal: bool) -> Problem {
        let revealed = reveal.then(|| (verdict.categories.clone(), policy.label().to_string()));
        let blocked = Blocked::output(verdict.risk_score, verdict.pii_detected, revealed);
        Problem::blocked(self.state.config.block_status, id, blocked, policy.block_message())
    }

    /// A detector broke.
    fn broken(&self, context: &mut Context) -> Option<Bytes> {
        let metrics = &self.state.metrics;
        if context.policy.as_deref().is_some_and(CompiledPolicy::fails_open) {
            metrics.failopen.with_label_values(&["answer"]).inc();
            let Screen::Stream(stream) = &mut context.screened.screen else { return None };
            let rest = stream.abandon();
            self.settle_report(context);
            context.screened.screen = Screen::Off;
            context.screened.fate = Some("unseen");
            return Some(rest.into());
        }
        metrics.failclosed.with_label_values(&["answer"]).inc();
        let problem = Problem::unguarded();
        let status = context.answering.status.unwrap_or(problem.status);
        context.fail_answer(&problem, status);
        let mut bytes = Vec::new();
        self.end_early(context, &problem, &mut bytes);
        context.screened.fate = Some("unseen");
        Some(bytes.into())
    }

    fn judge_whole(&self, context: &mut Context) -> Option<Bytes> {
        let screen = std::mem::replace(&mut context.screened.screen, Screen::Over);
        let (Screen::Whole { body, content_type }, Some(policy)) = (screen, context.policy.clone()) else {
            return None;
        };
        let valve = context.screened.valve.clone()?;
        let case = Case {
            id: context.id,
            action: context.action,
            reveal: context.caller.as_deref().is_some_and(|caller| caller.config.reveals()),
            policy,
            restorer: context.restorer.clone(),
            content_type,
            body,
        };
        let (id, dialect) = (context.id, context.dialect);
        if case.body.len() >= ASIDE {
            let gate = self.clone();
            let marked = self.marked(context);
            valve.defer(Box::new(move || gate.judge_case(case).resolve(dialect, id, marked)));
            return None;
        }
        let judgement = self.judge_case(case);
        let marked = if judgement.passed.is_err() { self.marked(context) } else { None };
        let Resolved { head, body, cut, settled } = judgement.resolve(dialect, id, marked);
        valve.open(head);
        if cut {
            valve.cut();
        }
        context.settle_answer(settled);
        Some(body)
    }

    /// A head with the fields that every answer carries.
    fn marked(&self, context: &Context) -> Option<ResponseHeader> {
        let mut marked = ResponseHeader::build(200, Some(16)).ok()?;
        self.mark(&mut marked, context).ok()?;
        Some(marked)
    }

    fn judge_case(&self, case: Case) -> Judgement {
        let started = Instant::now();
        let (engine, limits, policy) = (&self.state.engine, &self.answer_limits, &case.policy);
        let kind = case.content_type.as_deref();
        let restorer = case.restorer.clone();
        let inspected =
            enforce::contained(|| enforce::inspect_answer(engine, policy, kind, &case.body, limits, restorer));
        let mut settled = Settled { action: case.action, took: started.elapsed(), ..Settled::default() };
        let metrics = &self.state.metrics;
        let problem = match inspected {
            None if policy.fails_open() => {
                metrics.failopen.with_label_values(&["answer"]).inc();
                settled.skipped = Some(SkipReason::NotInspected);
                settled.fate = Some("unseen");
                return Judgement { passed: Ok((None, case.body.into())), settled };
            }
            None => {
                metrics.failclosed.with_label_values(&["answer"]).inc();
                settled.fate = Some("unseen");
                Problem::unguarded()
            }
            Some(Err(Unreadable { message, .. })) => {
                settled.fate = Some("unreadable");
                unreadable(&message)
            }
            Some(Ok(inspected)) => {
                let verdict = inspected.report.verdict.clone();
                settled.action = case.action.max(verdict.action);
                settled.report = Some(Box::new(inspected.report));
                if !verdict.blocked() {
                    let rewritten = inspected.redacted.is_some();
                    let body = Bytes::from(inspected.redacted.unwrap_or(case.body));
                    let action = HeaderValue::from_static(settled.action.as_str());
                    let head = Some(NewHead::Changed { length: body.len(), action, rewritten });
                    return Judgement { passed: Ok((head, body)), settled };
                }
                self.blocked_answer(case.id, policy, &verdict, case.reveal)
            }
        };
        settled.action = Action::Block;
        settled.failure = Some(failure(&problem, problem.status));
        Judgement { passed: Err(Box::new(problem)), settled }
    }

    /// Puts `problem` in the place of an answer whose head is still held.
    fn answer_instead(&self, valve: &Valve, context: &mut Context, problem: Problem) -> Option<Bytes> {
        context.screened.screen = Screen::Over;
        context.fail_answer(&problem, problem.status);
        let body = problem.body(context.dialect, context.id);
        let head = self.problem_head(context, &problem, body.len()).ok()?;
        valve.open(Some(NewHead::Instead(head)));
        valve.cut();
        Some(body)
    }

    /// The same before there is anything of a body; it is written with the first piece, or the end.
    fn refuse_answer(&self, valve: &Valve, context: &mut Context, problem: Problem) {
        context.screened.fate = Some("unreadable");
        if let Some(body) = self.answer_instead(valve, context, problem) {
            valve.add(body);
        }
    }

    fn too_large(&self, context: &mut Context) -> Option<Bytes> {
        let screen = std::mem::replace(&mut context.screened.screen, Screen::Over);
        let (Screen::Whole { body, .. }, Some(valve)) = (screen, context.screened.valve.clone()) else { return None };
        if context.policy.as_deref().is_some_and(CompiledPolicy::fails_open) {
            self.unseen(context);
            context.screened.screen = Screen::Off;
            valve.open(None);
            return Some(body.into());
        }
        self.state.metrics.failclosed.with_label_values(&["answer"]).inc();
        context.screened.fate = Some("unreadable");
        let message = format!("the answer is larger than {} bytes", self.answer_limits.max_frame);
        let problem = Problem { final_answer: true, ..Problem::new(502, "answer_too_large", message) };
        self.answer_instead(&valve, context, problem)
    }

    /// The answer passes although nobody looked at it.
    fn unseen(&self, context: &mut Context) {
        self.state.metrics.failopen.with_label_values(&["answer"]).inc();
        context.screened.skipped = Some(SkipReason::NotInspected);
        context.screened.fate = Some("unseen");
    }

    /// Counts what was found when the request is over.
    pub(super) fn measure_answer(&self, context: &Context) {
        let screened = &context.screened;
        let Some(report) = screened.report() else {
            if let Some(fate) = screened.fate {
                self.state.metrics.answers.with_label_values(&[fate]).inc();
            }
            return;
        };
        let fate = screened.fate.unwrap_or(report.verdict.action.as_str());
        self.state.metrics.answers.with_label_values(&[fate]).inc();
        self.state.metrics.count_detections(&report.findings);
        self.state.metrics.reversible_tokens.with_label_values(&["restored"]).inc_by(report.restored);
        self.answer_total.observe(screened.took.as_secs_f64());
    }
}

/// An answer that cannot be looked at. SDKs resend after 502 unless they are told not to.
fn unreadable(why: &str) -> Problem {
    let message = format!("the upstream's answer cannot be inspected: {why}");
    Problem { final_answer: true, ..Problem::new(502, "answer_unreadable", message) }
}

/// The one value of a field.
fn single<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Result<Option<&'h str>, Problem> {
    super::inspect::text(headers, name)
}

fn framing(content_type: &str) -> Option<Framing> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "text/event-stream" => Some(Framing::Events),
        "application/vnd.amazon.eventstream" => Some(Framing::Amazon),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonl" => {
            Some(Framing::Lines)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_known_by_their_type() {
        assert_eq!(framing("text/event-stream; charset=utf-8"), Some(Framing::Events));
        assert_eq!(framing("Application/X-NDJSON"), Some(Framing::Lines));
        assert_eq!(framing("application/vnd.amazon.eventstream"), Some(Framing::Amazon));
        assert_eq!((framing("application/json"), framing("")), (None, None));
    }
}
