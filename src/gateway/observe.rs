//! What is told of a request beside its audit row: the line in the access log, and its trace.

use std::time::{Duration, Instant};

use http::HeaderName;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::authn::ApiKeySecret;
use crate::domain::{Action, Completion, RequestId, Verdict};
use crate::policy::CompiledPolicy;
use crate::telemetry::{
    AccessLine, InspectionTrace, RequestTrace, SAMPLED, Stretch, TraceParent, UpstreamTrace, upstream_span,
};

use super::Gate;
use super::audit::kept_path;
use super::context::Context;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Of a model's name, which is the client's text: bytes that are kept.
const MODEL_KEPT: usize = 128;

/// What is kept of a request that is watched.
pub(super) struct Watched {
    /// Whose span stands above ours; None where the trace begins here.
    parent: Option<TraceParent>,
    /// Our own position in the trace.
    here: TraceParent,
    /// Our spans are sent to a collector.
    recorded: bool,
    model: Option<String>,
    /// When, and for how long.
    pub inspected: Option<(Instant, Duration)>,
    /// Of the request: action, whether a person is to look at it, risk.
    verdict: Option<(Action, bool, u8)>,
}

impl Watched {
    fn new(head: &RequestHeader, id: RequestId, samples: impl FnOnce(u128) -> bool) -> Self {
        let mut values = head.headers.get_all(&TRACEPARENT).iter();
        let parent = match (values.next(), values.next()) {
            (Some(value), None) => TraceParent::parse(value.as_bytes()),
            _ => None,
        };
        let begun = id.trace_id();
        // The half that is random: no second request of this trace has it.
        let span_id = u64::try_from(begun & u128::from(u64::MAX)).unwrap_or(1);
        let here = match parent {
            Some(parent) => TraceParent { span_id, ..parent },
            None => TraceParent { trace_id: begun, span_id, flags: if samples(begun) { SAMPLED } else { 0 } },
        };
        Self { parent, here, recorded: false, model: None, inspected: None, verdict: None }
    }

    /// What was decided about the request, which is about to be recorded.
    pub(super) fn see(&mut self, verdict: Option<&Verdict>, model: Option<&String>) {
        self.verdict = verdict.map(|verdict| (verdict.action, verdict.escalate, verdict.risk_score));
        self.model = model.map(|model| model.get(..model.floor_char_boundary(MODEL_KEPT)).unwrap_or(model).to_owned());
        self.model.take_if(|model| ApiKeySecret::looks_like(model.as_bytes()));
    }

    /// What the upstream is told: our span of its call, if that is recorded; else what the client said, or that a trace
    /// begins here.
    ///
    /// # Errors
    /// Never in practice: what is inserted is plain ASCII.
    pub(super) fn send_on(&self, head: &mut RequestHeader) -> pingora::Result<()> {
        if self.recorded {
            let call = TraceParent { span_id: upstream_span(self.here.span_id), ..self.here };
            head.insert_header(TRACEPARENT, call.to_string())?;
        } else if self.parent.is_none() {
            head.insert_header(TRACEPARENT, self.here.to_string())?;
        }
        if self.parent.is_none() {
            // It belongs to a `traceparent` that was not understood, or to none.
            head.remove_header(&TRACESTATE);
        }
        Ok(())
    }
}

impl Gate {
    /// None where there is neither an access log nor a collector: then nothing of it costs anything.
    pub(super) fn watch(&self, head: &RequestHeader, id: RequestId) -> Option<Box<Watched>> {
        let traces = self.state.traces.as_deref();
        if traces.is_none() && self.state.access_log.is_none() {
            return None;
        }
        let mut watched = Watched::new(head, id, |trace| traces.is_some_and(|traces| traces.samples(trace)));
        watched.recorded = traces.is_some() && watched.here.is_sampled();
        Some(Box::new(watched))
    }

    /// The request is over.
    pub(super) fn tell_watched(&self, session: &Session, context: &Context, watched: Watched) {
        let head = session.req_header();
        let path = kept_path(head.raw_path());
        let completion = self.completion(context, Instant::now());
        let method = head.method.as_str();
        let method = method.get(..16).unwrap_or(method);
        if let Some(log) = &self.state.access_log {
            log.write(&line(context, &watched, &completion, method, &path));
        }
        if let Some(traces) = self.state.traces.as_deref().filter(|_| watched.recorded) {
            traces.tell(trace(context, watched, &completion, method, path));
        }
    }
}

fn line<'a>(
    context: &'a Context,
    watched: &'a Watched,
    completion: &Completion,
    method: &'a str,
    path: &'a str,
) -> AccessLine<'a> {
    let caller = context.caller.as_deref();
    AccessLine {
        time: context.received_at,
        request_id: context.id,
        trace_id: format!("{:032x}", watched.here.trace_id),
        method,
        path,
        route: context.label,
        status: completion.status,
        action: context.action.as_str(),
        outcome: completion.outcome,
        error_code: context.failure.map(|failure| failure.code),
        org_id: caller.map(|caller| caller.org_id),
        workspace_id: caller.map(|caller| caller.workspace_id),
        api_key_id: caller.map(|caller| caller.key_id),
        dialect: context.dialect.as_str(),
        model: watched.model.as_deref(),
        upstream: context.route.as_ref().map(|route| &*route.upstream.name),
        upstream_status: completion.upstream_status.filter(|_| context.forwarded_at.is_some()),
        request_bytes: context.received as u64,
        response_bytes: completion.response_bytes,
        duration_us: completion.duration_us,
        overhead_us: completion.overhead_us,
        ttfb_us: completion.ttfb_us,
        input_tokens: completion.input_tokens,
        output_tokens: completion.output_tokens,
    }
}

fn trace(context: &Context, watched: Watched, completion: &Completion, method: &str, path: String) -> RequestTrace {
    let caller = context.caller.as_deref();
    let duration = Duration::from_micros(completion.duration_us);
    let error_code = context.failure.map(|failure| failure.code);
    let label = context.policy.as_deref().map(CompiledPolicy::label);
    let inspection = watched.inspected.zip(watched.verdict).map(|((at, length), (action, escalated, risk_score))| {
        let begin = at.duration_since(context.started);
        InspectionTrace {
            stretch: Stretch { begin, length },
            action,
            escalated,
            risk_score,
            policy_id: label.and_then(|label| label.id),
            policy: label.map(ToString::to_string),
        }
    });
    let upstream = context.route.as_ref().zip(context.forwarded_at).map(|(route, at)| {
        let begin = at.duration_since(context.started);
        let status = context.answering.status;
        UpstreamTrace {
            stretch: Stretch { begin, length: duration.saturating_sub(begin) },
            name: route.upstream.name.clone(),
            host: route.upstream.host.clone(),
            status,
            first_byte: context.answering.first_byte.map(|first| first.duration_since(at)),
            input_tokens: completion.input_tokens,
            output_tokens: completion.output_tokens,
            failed: status.is_none_or(|status| status >= 400) || error_code == Some("upstream_broke_off"),
        }
    });
    RequestTrace {
        parent: watched.parent,
        here: watched.here,
        id: context.id,
        started: context.received_at,
        duration,
        method: method.to_owned(),
        path,
        route: context.label,
        status: completion.status,
        error_code,
        action: context.action,
        org_id: caller.map(|caller| caller.org_id),
        workspace_id: caller.map(|caller| caller.workspace_id),
        api_key_id: caller.map(|caller| caller.key_id),
        dialect: context.dialect,
        model: watched.model,
        inspection,
        upstream,
    }
}
