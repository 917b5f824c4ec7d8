//! Answers: scanned whole, or as they stream by.
//!
//! A stream is cut into frames, and strings of frames are put together into texts (`protocol/stream`). A frame goes out as soon
//! as all its texts are settled as far as they stand in it, byte for byte as it came unless something in it is replaced; frames
//! keep their order. So what is held back is the longest match that is not complete, and nothing else.

mod channel;
mod json;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;

use super::receipt;
use super::splice::Splice;
use super::tokens::Restorer;
use crate::detect::Engine;
use crate::domain::{
    Action, AuditFinding, Coverage, Detector, Direction, Finding, Judged, Role, SkipReason, Skipped, Verdict,
};
use crate::policy::CompiledPolicy;
use crate::protocol::stream::{Ending, Frame, Framer, Framing};
use crate::protocol::{self, BinaryRule, Document, ReadLimits, Source, Unreadable};

use channel::{Effects, LONGEST_WAIT, Text};
use json::Reader;

/// Findings of one answer that are kept.
const MAX_FINDINGS: usize = 256;
/// Texts of one answer that are known at a time; with more, all are taken to be complete.
const MAX_TEXTS: usize = 512;
/// Frames that wait behind one another, in bytes; beyond it nothing is waited for.
const MAX_WAITING: usize = 1 << 20;

/// Bounds of looking at answers.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    pub read: ReadLimits,
    /// Bytes of one frame of a stream.
    pub max_frame: usize,
}

/// What was found in an answer, and how much of it was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerReport {
    /// Without its findings.
    pub verdict: Verdict,
    pub findings: Vec<AuditFinding>,
    pub coverage: Coverage,
    /// Tokens that were replaced by what they stand for.
    pub restored: u64,
}

impl Default for AnswerReport {
    fn default() -> Self {
        Self { verdict: Verdict::clean(), findings: Vec::new(), coverage: Coverage::default(), restored: 0 }
    }
}

impl AnswerReport {
    fn add(&mut self, verdict: Verdict, path: &str, base: usize) {
        if verdict.findings.is_empty() {
            return;
        }
        let found = receipt::findings(&verdict, Direction::Output, |_| Role::Assistant, |_| path.to_owned());
        for mut finding in found {
            finding.start += base;
            finding.end += base;
            let same = |old: &&mut AuditFinding| {
                old.start == finding.start && old.rule_id == finding.rule_id && old.path == finding.path
            };
            // Of a sentence that has grown.
            if let Some(old) = self.findings.iter_mut().find(same) {
                *old = finding;
            } else if self.findings.len() < MAX_FINDINGS {
                self.findings.push(finding);
            }
        }
        let all = &mut self.verdict;
        all.action = all.action.max(verdict.action);
        all.escalate |= verdict.escalate;
        all.risk_score = all.risk_score.max(verdict.risk_score);
        all.pii_detected |= verdict.pii_detected;
        all.injection_detected |= verdict.injection_detected;
        all.categories.extend(verdict.categories);
        all.categories.sort_unstable();
        all.categories.dedup();
    }
}

/// Why an answer goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The policy blocks what was found.
    Blocked,
    /// It cannot be looked at.
    Unreadable(Unreadable),
}

/// What goes on to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub bytes: Vec<u8>,
    /// Nothing goes on after `bytes`.
    pub stop: Option<Stop>,
}

/// Detector and policy, and what has been found.
struct Judge {
    engine: Arc<Engine>,
    policy: Arc<CompiledPolicy>,
    restorer: Option<Arc<Restorer>>,
    report: AnswerReport,
}

/// What there is to do in a text.
struct Look {
    /// What is found and is not allowed.
    verdict: Verdict,
    restored: Vec<(Range<usize>, String)>,
    /// Where a token begins that has not come whole.
    open: usize,
}

impl Judge {
    /// What is to be done in `text`, which stands at `path`, from byte `from` on. `ended`: nothing follows.
    fn judge(&mut self, text: &str, path: &str, from: usize, ended: bool) -> Look {
        let mut found = Vec::new();
        let attacks = self.policy.asks_about_attacks_in_answers();
        self.report.coverage.views |= self.engine.scan_answer(text, attacks, self.policy.custom(), &mut found);
        let looked = self.restorer.as_ref().map(|restorer| restorer.look(text, from, ended, is_signed(path)));
        let (mut restored, open) = looked.unwrap_or((Vec::new(), text.len()));
        // A token of ours is no data of anybody's, whatever it looks like; what is found around one goes with it.
        found.retain(|Finding { span, .. }| {
            let around = restored.get(restored.partition_point(|(range, _)| range.end < span.end));
            around.is_none_or(|(range, _)| range.start > span.start)
        });
        let mut verdict = self.policy.decide_answer(found);
        verdict.findings.retain(|judged| judged.action != Action::Allow);
        for Judged { finding, .. } in verdict.findings.iter().filter(|judged| judged.action == Action::Redact) {
            let first = restored.partition_point(|(range, _)| range.end <= finding.span.start);
            let end = restored.partition_point(|(range, _)| range.start < finding.span.end);
            if first < end {
                restored.drain(first..end);
            }
        }
        Look { verdict, restored, open }
    }

    fn whole(&mut self, text: &str, path: &str) -> Look {
        self.judge(text, path, 0, true)
    }

    /// Looks at a string that stands for itself. Returns what is to be replaced in `body`.
    fn string(
        &mut self,
        document: &Document<'_>,
        index: usize,
        body: &[u8],
        scratch: &mut String,
    ) -> Vec<(Range<usize>, String)> {
        let Some(segment) = document.segments.get(index) else { return Vec::new() };
        let text = segment.text_in(scratch);
        let placed = segment.placed();
        let mut whole = Text::new(None, String::new());
        let path = self.restorer.as_ref().map(|_| document.path(index)).unwrap_or_default();
        let look = if Reader::applies_to(text.trim_start()) {
            whole.append(0, placed.clone(), text);
            self.whole(whole.look().0, &path)
        } else {
            let look = self.whole(text, &path);
            if look.verdict.findings.is_empty() && look.restored.is_empty() {
                return Vec::new();
            }
            whole.append(0, placed.clone(), text);
            look
        };
        let mut effects = Effects::default();
        whole.settle(whole.look().0.len(), &look.verdict.findings, &look.restored, &mut effects);
        self.report.restored += look.restored.len() as u64;
        self.report.add(look.verdict, &document.path(index), 0);
        let edits = effects.edits.into_iter().enumerate();
        match segment.kind {
            // Part of a number replaced would be no JSON: the whole becomes a string.
            Source::JsonNumber => {
                edits.take(1).map(|(_, edit)| (placed.range().clone(), format!("\"{}\"", edit.replacement))).collect()
            }
            kind => edits
                .filter_map(|(nth, mut edit)| {
                    // Two keys of one object must not become the same.
                    if kind == Source::JsonKey && nth == 0 && !edit.restores {
                        edit.replacement.insert_str(edit.replacement.len().saturating_sub(1), &format!("_{index}"));
                    }
                    let range = placed.raw_spans(body, std::iter::once(edit.range)).pop()?;
                    Some((range, edit.replacement))
                })
                .collect(),
        }
    }

    /// Looks at texts that cannot be changed. Returns what the policy wants done.
    fn beside(&mut self, texts: &[String]) -> Action {
        let mut action = Action::Allow;
        for text in texts {
            let Look { verdict, .. } = self.whole(text, "*");
            self.report.coverage.scanned += text.len() as u64;
            action = action.max(verdict.action);
            self.report.add(verdict, "*", 0);
        }
        action
    }

    fn covered(&mut self, coverage: &Coverage) {
        let all = &mut self.report.coverage;
        all.decoded += coverage.decoded;
        all.scanned += coverage.scanned;
        all.segments = all.segments.saturating_add(coverage.segments);
        all.skipped.extend(coverage.skipped.iter().take(MAX_FINDINGS.saturating_sub(all.skipped.len())).cloned());
    }
}

/// An answer that came whole, inspected.
#[derive(Clone, Debug)]
pub struct InspectedAnswer {
    pub report: AnswerReport,
    /// None when it goes on as it came.
    pub redacted: Option<Vec<u8>>,
}

/// Inspects an answer that is there as a whole and not encoded.
///
/// # Errors
/// [`Unreadable`]: it cannot be looked at, and the policy does not let such things pass.
pub fn inspect_answer(
    engine: &Arc<Engine>,
    policy: &Arc<CompiledPolicy>,
    content_type: Option<&str>,
    body: &[u8],
    limits: &AnswerLimits,
    restorer: Option<Arc<Restorer>>,
) -> Result<InspectedAnswer, Unreadable> {
    let document = protocol::read_answer(content_type, body, &limits.read, policy.binary())?;
    let mut judge = Judge { engine: engine.clone(), policy: policy.clone(), restorer, report: AnswerReport::default() };
    judge.report.coverage.received = body.len() as u64;
    judge.covered(&document.coverage);
    let mut edits = Vec::new();
    let mut scratch = String::new();
    let mut texts: Vec<Text> = Vec::new();
    for (index, segment) in document.segments.iter().enumerate() {
        let Some(channel) = document.channel(index, false) else {
            edits.extend(judge.string(&document, index, body, &mut scratch));
            continue;
        };
        let known = texts.iter().position(|text| text.channel == Some(channel));
        let place = known.unwrap_or_else(|| {
            texts.push(Text::new(Some(channel), document.path(index)));
            texts.len() - 1
        });
        if let Some(text) = texts.get_mut(place) {
            text.append(0, segment.placed(), segment.text_in(&mut scratch));
        }
    }
    for mut text in texts {
        let Look { verdict, restored, .. } = judge.whole(text.look().0, &text.path);
        let mut effects = Effects::default();
        text.settle(text.look().0.len(), &verdict.findings, &restored, &mut effects);
        judge.report.restored += restored.len() as u64;
        judge.report.add(verdict, &text.path, 0);
        edits.extend(effects.edits.into_iter().filter_map(|edit| {
            Some((edit.placed.raw_spans(body, std::iter::once(edit.range)).pop()?, edit.replacement))
        }));
    }
    let redacted = (!edits.is_empty() && !judge.report.verdict.blocked()).then(|| changed(body, edits));
    Ok(InspectedAnswer { report: judge.report, redacted })
}

/// A frame that waits.
struct Held {
    frame: Frame,
    edits: Vec<(Range<usize>, String)>,
    /// Pieces of texts in it that are not settled.
    open: usize,
}

/// A streamed answer on its way: bytes in, bytes out, no I/O and no clock.
pub struct AnswerStream {
    judge: Judge,
    limits: AnswerLimits,
    attacks: bool,
    framer: Framer,
    /// The frame that is being read.
    current: Option<Frame>,
    queue: VecDeque<Held>,
    /// The number of the first frame in the queue.
    first: u64,
    waiting: usize,
    texts: Vec<Text>,
    /// The first frame that does not go out, and why.
    stop: Option<(u64, Stop)>,
    scratch: String,
}

impl AnswerStream {
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        policy: Arc<CompiledPolicy>,
        framing: Framing,
        limits: AnswerLimits,
        restorer: Option<Arc<Restorer>>,
    ) -> Self {
        Self {
            attacks: policy.asks_about_attacks_in_answers(),
            judge: Judge { engine, policy, restorer, report: AnswerReport::default() },
            limits,
            framer: Framer::new(framing, limits.max_frame),
            current: None,
            queue: VecDeque::new(),
            first: 0,
            waiting: 0,
            texts: Vec::new(),
            stop: None,
            scratch: String::new(),
        }
    }

    /// More of the answer has come.
    pub fn push(&mut self, bytes: &[u8]) -> Flow {
        self.judge.report.coverage.received += bytes.len() as u64;
        if self.stop.is_none() {
            self.framer.push(bytes);
            self.frames(false);
        }
        if self.stop.is_none() && self.framer.pending() > self.limits.max_frame {
            self.halt(self.next(), Stop::Unreadable(too_long(self.limits.max_frame)));
        }
        self.flow()
    }

    /// Nothing more comes.
    pub fn finish(&mut self) -> Flow {
        if self.stop.is_none() {
            self.frames(true);
            self.end(Ending::All);
        }
        self.flow()
    }

    /// The upstream has broken off: what stands complete goes out, half a frame does not.
    pub fn break_off(&mut self) -> Flow {
        if self.stop.is_none() {
            self.end(Ending::All);
        }
        self.flow()
    }

    /// What is held, as it came: nobody is going to look at it any more.
    pub fn abandon(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for held in self.queue.drain(..) {
            bytes.extend_from_slice(held.frame.bytes());
        }
        bytes.extend_from_slice(self.current.take().as_ref().map(Frame::bytes).unwrap_or_default());
        bytes.extend_from_slice(&self.framer.take());
        let unseen = Skipped { reason: SkipReason::NotInspected, path: "body".to_owned(), bytes: bytes.len() as u64 };
        self.judge.report.coverage.skipped.push(unseen);
        bytes
    }

    /// Whether anything is held back.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.queue.is_empty()
    }

    #[must_use]
    pub fn report(&self) -> &AnswerReport {
        &self.judge.report
    }

    fn next(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    fn halt(&mut self, at: u64, stop: Stop) {
        if self.stop.as_ref().is_none_or(|(before, _)| at < *before) {
            self.stop = Some((at, stop));
        }
    }

    fn frames(&mut self, last: bool) {
        while self.stop.is_none() {
            let frame = match self.framer.next(last) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(unreadable) => return self.halt(self.next(), Stop::Unreadable(unreadable)),
            };
            self.current = Some(frame.clone());
            if let Err(unreadable) = self.take(frame) {
                self.halt(self.next(), Stop::Unreadable(unreadable));
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), Unreadable> {
        let number = self.next();
        match self.judge.beside(frame.beside()) {
            Action::Redact => {
                return Err(Unreadable {
                    status: 400,
                    code: "unsupported_content",
                    message: "what is to be taken out of it stands outside of the model's words".to_owned(),
                });
            }
            Action::Block => {
                self.halt(number, Stop::Blocked);
                return Ok(());
            }
            _ => {}
        }
        let payload = frame.payload();
        let said = payload.trim_ascii();
        if said.is_empty() || said == b"[DONE]" {
            let ending = if said.is_empty() { Ending::Nothing } else { Ending::All };
            self.waiting += frame.bytes().len();
            self.current = None;
            self.queue.push_back(Held { frame, edits: Vec::new(), open: 0 });
            self.end(ending);
            return Ok(());
        }
        let document = protocol::read_answer(None, payload, &self.limits.read, BinaryRule::Refuse)?;
        self.judge.covered(&document.coverage);
        let mut edits = Vec::new();
        let mut touched: Vec<usize> = Vec::new();
        let mut open = 0;
        for (index, segment) in document.segments.iter().enumerate() {
            let Some(channel) = document.channel(index, frame.is_chunk()) else {
                edits.extend(self.judge.string(&document, index, payload, &mut self.scratch));
                continue;
            };
            let place = self.texts.iter().position(|text| text.channel == Some(channel)).unwrap_or_else(|| {
                self.texts.push(Text::new(Some(channel), document.path(index)));
                self.texts.len() - 1
            });
            if let Some(text) = self.texts.get_mut(place) {
                text.append(number, segment.placed(), segment.text_in(&mut self.scratch));
                open += 1;
            }
            if !touched.contains(&place) {
                touched.push(place);
            }
        }
        if self.judge.report.verdict.blocked() {
            self.halt(number, Stop::Blocked);
        }
        let ending = document.ending(frame.event());
        drop(document);
        self.waiting += frame.bytes().len();
        self.current = None;
        self.queue.push_back(Held { frame, edits, open });
        for place in touched {
            self.settle(place, false);
        }
        self.end(ending);
        if self.waiting > MAX_WAITING {
            self.end(Ending::All);
        }
        if self.texts.len() > MAX_TEXTS {
            self.end(Ending::All);
            self.texts.clear();
        }
        Ok(())
    }

    fn end(&mut self, ending: Ending) {
        if ending == Ending::Nothing {
            return;
        }
        for place in 0..self.texts.len() {
            let ends = self.texts.get(place).and_then(|text| text.channel).is_some_and(|text| text.is_ended_by(ending));
            if ends {
                self.settle(place, true);
            }
        }
    }

    fn settle(&mut self, place: usize, last: bool) {
        let Some(text) = self.texts.get_mut(place) else { return };
        let (shown, from) = text.look();
        let length = shown.len();
        let mut effects = Effects::default();
        if from < length && (last || text.is_due()) {
            let Look { mut verdict, mut restored, open } = self.judge.judge(shown, &text.path, from, last);
            let acts = |judged: &&Judged| judged.action >= Action::Redact;
            let mut to = length;
            let mut complete = last;
            if !last {
                to = self.judge.policy.settled(&self.judge.engine, shown, from).min(open.max(from));
                // What is found across the end is not complete either.
                let matches = verdict.findings.iter().filter(acts);
                let spans = matches.filter(|judged| judged.finding.rule.detector != Detector::Injection);
                let mut spans: Vec<&Range<usize>> = spans.map(|judged| &judged.finding.span).collect();
                spans.extend(restored.iter().map(|(range, _)| range));
                while let Some(span) = spans.iter().find(|span| span.start.max(from) < to && to < span.end) {
                    to = span.start.max(from);
                }
                if length - to > LONGEST_WAIT {
                    (to, complete) = (length, true);
                }
            }
            let beyond = (complete && !last)
                .then(|| verdict.findings.iter().filter(acts).find(|judged| judged.finding.span.end == length))
                .flatten()
                .map(|judged| judged.finding.span.start);
            verdict.findings.retain(|judged| judged.finding.span.end > from && judged.finding.span.end <= to);
            restored.retain(|(range, _)| range.end <= to);
            self.judge.report.restored += restored.len() as u64;
            let blocking = verdict.findings.iter().filter(|judged| judged.action == Action::Block);
            let blocked = blocking.map(|judged| judged.finding.span.start).min();
            let stop = blocked.and_then(|at| text.frame_at(at));
            let base = text.base();
            text.settle(to, &verdict.findings, &restored, &mut effects);
            if !verdict.findings.is_empty() {
                // Judged again, for what is settled alone.
                let settled = verdict.findings.iter().map(|judged| judged.finding.clone()).collect();
                self.judge.report.add(self.judge.policy.decide_answer(settled), &text.path, base);
            }
            match beyond {
                Some(start) => text.keep_head(start),
                None => text.forget(self.attacks),
            }
            if let Some(at) = stop {
                self.stop = match self.stop.take() {
                    Some(before) if before.0 <= at => Some(before),
                    _ => Some((at, Stop::Blocked)),
                };
            }
        }
        if last {
            text.end(&mut effects);
        }
        for number in effects.done {
            if let Some(held) = self.held(number) {
                held.open = held.open.saturating_sub(1);
            }
        }
        for edit in effects.edits {
            if let Some(held) = self.held(edit.frame) {
                let range = edit.placed.raw_spans(held.frame.payload(), std::iter::once(edit.range)).pop();
                held.edits.extend(range.map(|range| (range, edit.replacement)));
            }
        }
    }

    fn held(&mut self, number: u64) -> Option<&mut Held> {
        self.queue.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Lets go what need not wait.
    fn flow(&mut self) -> Flow {
        let mut bytes = Vec::new();
        while let Some(held) = self.queue.front() {
            let stopped = self.stop.as_ref().is_some_and(|(at, _)| *at <= self.first);
            if stopped || held.open > 0 {
                break;
            }
            if held.edits.is_empty() {
                bytes.extend_from_slice(held.frame.bytes());
            } else {
                bytes.extend(held.frame.with_payload(&changed(held.frame.payload(), held.edits.clone())));
            }
            self.waiting -= held.frame.bytes().len().min(self.waiting);
            self.queue.pop_front();
            self.first += 1;
        }
        let stop = self.stop.as_ref().map(|(_, stop)| stop.clone());
        if stop.is_some() {
            self.queue.clear();
        }
        Flow { bytes, stop }
    }
}

/// Thoughts that the provider signs: it takes them back only as it said them.
fn is_signed(path: &str) -> bool {
    path.contains("thinking") || path.contains("reasoningContent")
}

fn too_long(most: usize) -> Unreadable {
    let message = format!("an event of the answer is longer than {most} bytes");
    Unreadable { status: 413, code: "answer_too_large", message }
}

/// `body` with replacements made. Log probabilities spell the text out token by token: they go too.
fn changed(body: &[u8], mut edits: Vec<(Range<usize>, String)>) -> Vec<u8> {
    let probabilities = log_probabilities(body);
    edits
        .retain(|(range, _)| !probabilities.iter().any(|(gone, _)| gone.start <= range.start && range.end <= gone.end));
    edits.extend(probabilities);
    Splice::of_edits(edits).apply(body)
}

/// The values of `logprobs` in a JSON text, and what stands for nothing in their place.
fn log_probabilities(body: &[u8]) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    // In a string the quotes would be escaped.
    for key in [&b"\"logprobs\""[..], b"\"logprobsResult\""] {
        for at in memmem::find_iter(body, key) {
            let rest = body.get(at + key.len()..).unwrap_or_default();
            let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start).unwrap_or_default();
            let nothing = match value.first() {
                Some(b'{') => "null",
                Some(b'[') => "[]",
                _ => continue,
            };
            let start = body.len() - value.len();
            found.push((start..start + container_length(value), nothing.to_owned()));
        }
    }
    found
}

/// Bytes of the object or array that `json` begins with.
fn container_length(json: &[u8]) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    json.len()
}
