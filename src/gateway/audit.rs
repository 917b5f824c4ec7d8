//! What the audit trail is told about a request, and when: the decision before anybody acts on it, the end at the end.

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use pingora::proxy::Session;

use crate::authn::ApiKeySecret;
use crate::domain::{Action, AuditEvent, Completion, Coverage, Direction, Outcome};

use super::Gate;
use super::context::{Context, Failure, Recorded};
use super::framing::split_target;
use super::problem::Problem;

/// Of a path, bytes that are kept in a row. Paths of the route table are shorter; others are a stranger's invention.
const PATH_KEPT: usize = 256;

impl Gate {
    /// Records the decision to forward.
    ///
    /// # Errors
    /// 503: what cannot be recorded is not served.
    pub(super) async fn begin(&self, session: &Session, context: &mut Context) -> Result<(), Problem> {
        let event = self.event(session, context, None);
        if let Err(error) = self.state.journal.begin(event).await {
            return Err(self.unrecorded(context, &error));
        }
        context.recorded = Recorded::Begun;
        Ok(())
    }

    /// Records a request that ends here with `failure`.
    ///
    /// # Errors
    /// 503, to be answered instead; nothing more can be recorded then.
    pub(super) async fn record(
        &self,
        session: &Session,
        context: &mut Context,
        failure: Failure,
    ) -> Result<(), Problem> {
        context.failure = Some(failure);
        let event = self.event(session, context, Some(failure.code));
        let completion = self.completion(context, Instant::now());
        context.recorded = Recorded::Done;
        match self.state.journal.record(event, completion).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.unrecorded(context, &error)),
        }
    }

    fn unrecorded(&self, context: &Context, error: &dyn std::error::Error) -> Problem {
        tracing::error!(request.id = %context.id, error = %error, "a request could not be recorded");
        self.state.metrics.failclosed.with_label_values(&["journal"]).inc();
        Problem::unguarded()
    }

    fn event(&self, session: &Session, context: &mut Context, error_code: Option<&str>) -> Box<AuditEvent> {
        let head = session.req_header();
        let inspection = context.inspection.take();
        let caller = context.caller.as_deref();
        let label = context.policy.as_deref().map(crate::policy::CompiledPolicy::label);
        let (verdict, findings, coverage, model, user_id) = match inspection {
            Some(seen) => (Some(seen.verdict), seen.findings, seen.coverage, seen.model, seen.user_id),
            None => (None, Vec::new(), Coverage::default(), None, None),
        };
        let verdict = verdict.as_ref();
        if let Some(watched) = &mut context.watched {
            watched.see(verdict, model.as_ref());
        }
        Box::new(AuditEvent {
            id: context.id.audit_id(),
            org_id: caller.map(|caller| caller.org_id),
            workspace_id: caller.map(|caller| caller.workspace_id),
            api_key_id: caller.map(|caller| caller.key_id),
            occurred_at: context.received_at,
            node: Arc::clone(self.state.journal.node()),
            source: context.source,
            method: self.method(&head.method),
            path: kept_path(head.raw_path()),
            dialect: Some(context.dialect.shared()),
            upstream: context.route.as_ref().map(|route| Arc::clone(&route.upstream.name)),
            model,
            user_id,
            client_ip: self.client_ip(session),
            policy_id: label.and_then(|label| label.id),
            policy_name: label.map(|label| Arc::clone(&label.name)),
            policy_version: label.map(|label| label.version),
            action: context.action,
            direction: Direction::Input,
            risk_score: verdict.map_or(0, |verdict| verdict.risk_score),
            pii_detected: verdict.is_some_and(|verdict| verdict.pii_detected),
            injection_detected: verdict.is_some_and(|verdict| verdict.injection_detected),
            escalated: verdict.is_some_and(|verdict| verdict.escalate),
            categories: verdict.map(|verdict| verdict.categories.clone()).unwrap_or_default(),
            findings,
            coverage,
            error_code: error_code.map(str::to_owned),
        })
    }

    /// The client's address, as trusted proxies tell it.
    pub(super) fn client_ip(&self, session: &Session) -> Option<String> {
        let mut address = session.client_addr()?.as_inet()?.ip().to_canonical();
        let config = &self.state.config;
        if !config.trusted_proxies.is_empty() {
            let values = session.req_header().headers.get_all(config.forwarded_header.name()).iter();
            let values = values.map(http::HeaderValue::as_bytes);
            address = config.forwarded_header.client(address, &config.trusted_proxies, values);
        }
        Some(address.to_string())
    }

    /// The name of a method, cut to what is kept of a stranger's invention.
    fn method(&self, method: &Method) -> Arc<str> {
        if method == Method::POST {
            Arc::clone(&self.post)
        } else {
            method.as_str().get(..16).unwrap_or(method.as_str()).into()
        }
    }

    /// How the request ended, as known at `now`.
    pub(super) fn completion(&self, context: &Context, now: Instant) -> Completion {
        let failure = context.failure;
        let answering = &context.answering;
        let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Completion {
            id: context.id.audit_id(),
            completed_at: context.received_at.plus(now.duration_since(context.started)),
            outcome: failure.map_or(Outcome::Completed, |failure| failure.outcome),
            status: failure.map(|failure| failure.status).or(answering.status).unwrap_or(0),
            upstream_status: answering.status,
            duration_us: micros(now.duration_since(context.started)),
            overhead_us: micros(context.overhead(now)),
            ttfb_us: answering.first_byte.map(|at| micros(at.duration_since(context.started))),
            response_bytes: answering.bytes,
            input_tokens: context.usage.input,
            output_tokens: context.usage.output,
            // The event of a refusal already says it.
            error_code: failure.filter(|_| context.recorded == Recorded::Begun).map(|failure| failure.code.to_owned()),
            answer: context.screened.record(answering.bytes),
        }
    }

    /// Writes what is still owed when the request is over.
    pub(super) async fn close_record(&self, session: &Session, context: &mut Context) {
        match context.recorded {
            Recorded::Done => {}
            Recorded::Begun => {
                let completion = self.completion(context, Instant::now());
                self.state.journal.complete(completion);
                context.recorded = Recorded::Done;
            }
            Recorded::Nothing if context.audited => {
                // Nobody is left to be told: the client went before there was an answer.
                context.action = Action::Block;
                let failure = context.failure.unwrap_or(Failure {
                    status: 499,
                    code: "client_closed",
                    outcome: Outcome::ClientClosed,
                });
                let _ = Box::pin(self.record(session, context, failure)).await;
            }
            Recorded::Nothing => {}
        }
    }
}

/// The path without its query; a key that strayed into it is not kept.
pub(super) fn kept_path(target: &[u8]) -> String {
    let (path, _) = split_target(target);
    if ApiKeySecret::looks_like(path) {
        return "(not kept: it has the form of a key)".to_owned();
    }
    String::from_utf8_lossy(path.get(..PATH_KEPT).unwrap_or(path)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_the_path_without_query_bounds_it_and_keeps_no_key() {
        assert_eq!(kept_path(b"/v1/models?key=secret"), "/v1/models");
        assert_eq!(kept_path(&[b'/'; 5_000]).len(), PATH_KEPT);
        assert!(!kept_path(b"/v1/snt_live_0123").contains("snt_live_"));
    }
}
