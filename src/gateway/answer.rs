//! Answers: Sentinel's own, and what is added to an upstream's.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::domain::{Action, Dialect, Outcome};

use super::Gate;
use super::admission::tell_allowance;
use super::body;
use super::context::{Context, Failure, Recorded};
use super::problem::{Problem, StreamShape};
use super::screen::Screen;

// As text: pingora takes the case of a text as it is, and of a `HeaderName` makes a copy.
const REQUEST_ID: &str = "x-request-id";
const ANTHROPIC_REQUEST_ID: &str = "request-id";
const UPSTREAM_REQUEST_ID: &str = "x-upstream-request-id";
const ACTION: &str = "x-sentinel-action";
const POLICY: &str = "x-sentinel-policy";
const SHOULD_RETRY: &str = "x-should-retry";
const AMAZON_ERROR: &str = "x-amzn-errortype";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Gate {
    /// The fields that every answer carries.
    pub(super) fn mark(&self, head: &mut ResponseHeader, context: &Context) -> pingora::Result<()> {
        head.insert_header(REQUEST_ID, context.id_header.clone())?;
        head.insert_header(ANTHROPIC_REQUEST_ID, context.id_header.clone())?;
        head.insert_header(ACTION, HeaderValue::from_static(context.action.as_str()))?;
        if let Some(policy) = &context.policy {
            head.insert_header(POLICY, policy_value(policy.shown()))?;
        } else if let Some(shown) = &context.policy_shown {
            head.insert_header(POLICY, policy_value(shown))?;
        }
        if let Some(allowance) = &context.allowance {
            tell_allowance(head, allowance)?;
        }
        Ok(())
    }

    /// An upstream's final head: its own request id is kept beside ours.
    pub(super) fn mark_upstream(&self, head: &mut ResponseHeader, context: &Context) -> pingora::Result<()> {
        let theirs = head.headers.get(REQUEST_ID).or_else(|| head.headers.get(ANTHROPIC_REQUEST_ID)).cloned();
        if let Some(theirs) = theirs {
            head.insert_header(UPSTREAM_REQUEST_ID, theirs)?;
        }
        self.mark(head, context)
    }

    /// Answers with `problem` after recording it; `trusted` says that the connection's framing can be relied on.
    ///
    /// # Errors
    /// Never for the client's sake: when it has left, the row is there and that is all.
    pub(super) async fn refuse(
        &self,
        session: &mut Session,
        context: &mut Context,
        problem: Problem,
        trusted: bool,
    ) -> pingora::Result<bool> {
        let settled = trusted && body::settle(session).await;
        context.action = Action::Block;
        let outcome = match problem.status {
            _ if problem.blocked.is_some() => Outcome::Blocked,
            502 | 504 => Outcome::UpstreamFailed,
            _ => Outcome::Refused,
        };
        let failure = Failure { status: problem.status, code: problem.code, outcome };
        let problem = match context.recorded {
            Recorded::Nothing if context.audited => match self.record(session, context, failure).await {
                Ok(()) => problem,
                Err(instead) => {
                    context.failure = Some(Failure { status: instead.status, code: instead.code, outcome });
                    instead
                }
            },
            _ => {
                context.failure = Some(failure);
                problem
            }
        };
        self.tell(session, context, &problem, settled).await;
        if !settled {
            body::linger(session).await;
        }
        Ok(true)
    }

    /// Writes `problem` in the shape of the request's dialect.
    pub(super) async fn tell(&self, session: &mut Session, context: &Context, problem: &Problem, keep: bool) {
        let body = problem.body(context.dialect, context.id);
        let written = match self.problem_head(context, problem, body.len()) {
            Ok(head) => write(session, head, body, self.keeps(keep)).await,
            Err(error) => Err(error),
        };
        if written.is_err() {
            session.set_keepalive(None);
        }
    }

    pub(super) fn problem_head(
        &self,
        context: &Context,
        problem: &Problem,
        length: usize,
    ) -> pingora::Result<Box<ResponseHeader>> {
        let mut head = ResponseHeader::build(problem.status, Some(16))?;
        self.mark(&mut head, context)?;
        dress(head, context.dialect, problem, length)
    }

    /// A result that Sentinel gives itself.
    pub(super) async fn give(
        &self,
        session: &mut Session,
        context: &Context,
        status: u16,
        body: Bytes,
        keep: bool,
    ) -> pingora::Result<bool> {
        let mut head = ResponseHeader::build(status, Some(8))?;
        head.insert_header(CONTENT_TYPE, JSON)?;
        head.insert_header(CONTENT_LENGTH, body.len())?;
        self.mark(&mut head, context)?;
        if write(session, Box::new(head), body, self.keeps(keep)).await.is_err() {
            session.set_keepalive(None);
        }
        Ok(true)
    }

    /// A node that is about to end keeps no connection.
    fn keeps(&self, keep: bool) -> bool {
        keep && !self.leaving.load(Ordering::Acquire)
    }

    /// Ends a stream that broke off: an error event and a proper end instead of a cut, which SDKs would take for one.
    /// `rest` is what may still go out before.
    pub(super) async fn end_stream(&self, session: &mut Session, context: &Context, rest: Bytes, problem: &Problem) {
        let Some(shape) = context.answering.stream else { return };
        // Where messages pass unread, nobody knows whether the last is whole; after half a one nothing can be said.
        if shape == StreamShape::Amazon && matches!(context.screened.screen, Screen::Off) {
            return;
        }
        let Some(end) = problem.stream_end(context.dialect, shape, context.id) else { return };
        let screened = context.screened.valve.is_some();
        let separator: &'static [u8] = match (screened || context.answering.between_events(), shape) {
            (true, _) => b"",
            (false, StreamShape::Lines) => b"\n",
            (false, _) => b"\n\n",
        };
        let plain = separator.is_empty() && rest.is_empty();
        let bytes = if plain { end } else { [&rest, separator, &end].concat().into() };
        if session.write_response_body(Some(bytes), true).await.is_err() {
            tracing::debug!(request.id = %context.id, "the client left a broken stream");
        }
    }
}

/// Makes a marked head that of `problem`.
pub(super) fn dress(
    mut head: ResponseHeader,
    dialect: Dialect,
    problem: &Problem,
    length: usize,
) -> pingora::Result<Box<ResponseHeader>> {
    head.set_status(problem.status)?;
    head.insert_header(CONTENT_TYPE, JSON)?;
    head.insert_header(CONTENT_LENGTH, length)?;
    if problem.status == 401 {
        head.insert_header(WWW_AUTHENTICATE, "Bearer")?;
    }
    if let Some(allow) = problem.allow {
        head.insert_header(ALLOW, allow)?;
    }
    if let Some(after) = problem.retry_after {
        // Whole seconds, rounded up: whoever comes earlier comes in vain.
        head.insert_header(RETRY_AFTER, after.as_millis().div_ceil(1_000).max(1).to_string())?;
    }
    if problem.final_answer {
        head.insert_header(SHOULD_RETRY, "false")?;
    }
    if dialect == Dialect::Bedrock {
        head.insert_header(AMAZON_ERROR, problem.amazon_type())?;
    }
    Ok(Box::new(head))
}

async fn write(session: &mut Session, head: Box<ResponseHeader>, body: Bytes, keep: bool) -> pingora::Result<()> {
    // The answer to HEAD has the length of a body and none.
    let bodiless = session.req_header().method == Method::HEAD;
    if !keep || bodiless {
        session.set_keepalive(None);
    }
    session.write_response_header(head, bodiless).await?;
    session.write_response_body((!bodiless).then_some(body), true).await
}

fn policy_value(shown: &str) -> HeaderValue {
    HeaderValue::from_str(shown).unwrap_or_else(|_| HeaderValue::from_static("?"))
}
