//! The hooks that pingora calls, in the order of a request; what they do is in the files beside.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, Result};

use crate::domain::Outcome;

use super::context::{Context, Failure, Recorded};
use super::problem::Problem;
use super::{Gate, Stop, forward, replay, serve};

#[async_trait]
impl ProxyHttp for Gate {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(&self.state.metrics.requests_in_flight, &*self.state.clock)
    }

    /// None: the default would compress answers.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _context: &mut Context) -> Result<()> {
        // Zero means for ever, which is what HTTP/1.1 clients get without asking.
        if session.get_keepalive() == Some(0) {
            session.set_keepalive(Some(self.state.config.keepalive_timeout.get().as_secs().max(1)));
        }
        if self.leaving.load(Ordering::Acquire) {
            session.set_keepalive(None);
        }
        // Without it a request that comes early cuts the answer under way.
        session.as_mut().set_pipelining_enabled(true);
        session.set_write_timeout(Some(self.state.config.write_timeout.get()));
        serve::head_is_complete();
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        context.watched = self.watch(session.req_header(), context.id);
        match self.walk(session, context).await {
            Ok(answered) => Ok(answered),
            Err(Stop::Refused { problem, trusted }) => Box::pin(self.refuse(session, context, problem, trusted)).await,
            Err(Stop::Broken(error)) => Err(error),
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        self.peer(context).await
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        context: &mut Context,
    ) -> Result<()> {
        self.connected(context, reused);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        head: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<()> {
        self.upstream_head(head, context)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        if head.status.is_informational() {
            return Ok(());
        }
        let path = context.route.as_ref().map(|route| route.path.as_str()).unwrap_or_default();
        self.judge_address(head, context);
        context.answering.begin(head, context.dialect, path);
        self.screen_head(head, &session.req_header().method, context);
        self.mark_upstream(head, context)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        _trailers: &mut HeaderMap,
        context: &mut Context,
    ) -> Result<()> {
        self.screen_trailers(context);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>> {
        if let Some(piece) = body {
            context.answering.see(piece);
        }
        self.screen(body, end, context);
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        self.try_again(session, error, context, reused)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        self.unconnected(error, context)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        replay::restore(session, &mut context.home);
        context.collect_answer();
        let status = forward::status_of(error);
        let upstream = context.route.as_ref().map(|route| &*route.upstream.name).unwrap_or_default();
        let from_upstream = *error.esource() == ErrorSource::Upstream || matches!(status, 502 | 504);
        if from_upstream {
            let kind = forward::kind_of(error);
            if context.unconnected == 0 {
                self.failed_doubtfully(context);
            }
            // The cause can carry an address, never a path or a header.
            tracing::warn!(request.id = %context.id, upstream, kind, error = error.etype().as_str(), "an upstream failed");
            self.state.metrics.upstream_errors.with_label_values(&[upstream, kind]).inc();
        }
        if status == 499 {
            let failure = Failure { status, code: "client_closed", outcome: Outcome::ClientClosed };
            context.failure = Some(failure);
        } else if session.response_written().is_some() {
            context.failure = Some(Failure {
                // What the client was told before.
                status: context.answering.status.unwrap_or(status),
                code: "upstream_broke_off",
                outcome: Outcome::UpstreamFailed,
            });
            let (rest, problem) = self.screen_broken(context, Problem::upstream(502));
            self.end_stream(session, context, rest, &problem).await;
        } else {
            let problem = Problem::other(status);
            let outcome = if from_upstream { Outcome::UpstreamFailed } else { Outcome::Refused };
            let failure = Failure { status, code: problem.code, outcome };
            let problem = match context.recorded {
                Recorded::Nothing if context.audited => {
                    self.record(session, context, failure).await.err().unwrap_or(problem)
                }
                _ => problem,
            };
            context.failure = Some(Failure { status: problem.status, code: problem.code, outcome });
            self.tell(session, context, &problem, false).await;
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    /// Pingora's lines carry paths and hosts; what matters is logged above.
    fn suppress_error_log(&self, _session: &Session, _context: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _context: &Context,
        _error: &Error,
        _when: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, context: &mut Context) {
        replay::restore(session, &mut context.home);
        context.collect_answer();
        context.usage = context.answering.usage();
        self.close_record(session, context).await;
        self.measure(context);
        if let Some(watched) = context.watched.take() {
            self.tell_watched(session, context, *watched);
        }
    }
}

impl Gate {
    fn measure(&self, context: &Context) {
        let metrics = &self.state.metrics;
        let now = Instant::now();
        let status = context.failure.map(|failure| failure.status).or(context.answering.status).unwrap_or(0);
        let class = match status {
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        let action = match context.failure {
            Some(failure) if failure.outcome != Outcome::Blocked => "error",
            _ => context.action.as_str(),
        };
        metrics.requests.with_label_values(&[context.label, context.dialect.as_str(), action, class]).inc();
        self.measure_answer(context);
        if let Some(beside) = &context.beside {
            let blocked = context.failure.is_some_and(|failure| failure.outcome == Outcome::Blocked);
            beside.rollout.finished(beside.arm, blocked, status >= 500, context.overhead(now));
        }
        metrics.gateway_overhead.observe(context.overhead(now).as_secs_f64());
        let (Some(route), Some(forwarded_at)) = (&context.route, context.forwarded_at) else { return };
        let Some(destination) = self.destinations.get(route.upstream.index) else { return };
        destination.duration.observe(now.duration_since(forwarded_at).as_secs_f64());
        if let Some(first_byte) = context.answering.first_byte {
            destination.first_byte.observe(first_byte.duration_since(forwarded_at).as_secs_f64());
        }
        let usage = context.usage;
        destination.input_tokens.inc_by(usage.input.unwrap_or(0));
        destination.cached_tokens.inc_by(usage.cached.unwrap_or(0));
        destination.output_tokens.inc_by(usage.output.unwrap_or(0));
        if status >= 500 && context.answering.status == Some(status) {
            metrics.upstream_errors.with_label_values(&[&route.upstream.name, "status_5xx"]).inc();
        }
    }
}
