//! The paths that Sentinel answers itself: `POST /process` and `GET /health`.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use pingora::proxy::Session;

use crate::domain::Source;
use crate::health::HealthStatus;
use crate::process::{ProcessError, ProcessRequest};
use crate::{policy, protocol};

use super::context::{Context, Recorded};
use super::problem::Problem;
use super::{Gate, Stop, anchor, inspect};

const JSON_WANTED: &str = "the body must be a JSON object with `user_input` and, if wanted, `user_id`";

impl Gate {
    /// # Errors
    /// 405.
    pub(super) async fn health(&self, session: &mut Session, context: &mut Context) -> Result<(), Stop> {
        context.label = "/health";
        context.audited = false;
        let method = &session.req_header().method;
        if method != Method::GET && method != Method::HEAD {
            return Err(Problem::method("GET, HEAD").into());
        }
        let report = anchor::on_main(self.main.as_ref(), self.state.health.report()).await;
        let status = if report.status == HealthStatus::Failing { 503 } else { 200 };
        let body = serde_json::to_vec(&report).map(Bytes::from).unwrap_or_default();
        context.answering.status = Some(status);
        let keep = super::body::settle(session).await;
        self.give(session, context, status, body, keep).await?;
        Ok(())
    }

    /// # Errors
    /// Everything that keeps a text from being scanned.
    pub(super) async fn process(&self, session: &mut Session, context: &mut Context) -> Result<(), Stop> {
        context.label = "/process";
        context.source = Source::Process;
        let head = session.req_header();
        if head.method != Method::POST {
            return Err(Problem::method("POST").into());
        }
        self.admit(&head.headers, context).await?;
        let body = self.read_body(session, context).await?;
        let headers = &session.req_header().headers;
        let json = inspect::text(headers, &CONTENT_TYPE)?
            .is_none_or(|kind| kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")));
        if !json {
            return Err(Problem::new(415, "unsupported_content", JSON_WANTED).into());
        }
        let decoded = protocol::decode(&body, inspect::text(headers, &CONTENT_ENCODING)?, &self.read_limits)
            .map_err(|unreadable| Problem::new(unreadable.status, unreadable.code, unreadable.message))?;
        // The reader's message may quote the input: it goes to whoever sent it, and nowhere else.
        let request: ProcessRequest = serde_json::from_slice(&decoded)
            .map_err(|error| Problem::new(400, "invalid_json", format!("{JSON_WANTED}: {error}")))?;
        let Some(caller) = context.caller.clone() else { return Err(Problem::invalid_key().into()) };
        let processing = self.state.processor.process(&caller, request, context.id, self.client_ip(session));
        let response = match anchor::on_main(self.main.as_ref(), processing).await {
            Ok(response) => response,
            Err(error) => {
                // Counted, and but for a journal that is at its end recorded, where it happened.
                tracing::error!(request.id = %context.id, %error, "a text could not be processed");
                if !matches!(error, ProcessError::Journal(_)) {
                    context.recorded = Recorded::Done;
                }
                return Err(Problem::unguarded().into());
            }
        };
        // The operation has written its own row.
        context.recorded = Recorded::Done;
        context.action = response.action;
        context.policy_shown = Some(policy::shown(&response.policy.name, response.policy.version));
        context.answering.status = Some(200);
        let body = serde_json::to_vec(&response).map(Bytes::from).unwrap_or_default();
        self.give(session, context, 200, body, true).await?;
        Ok(())
    }
}
