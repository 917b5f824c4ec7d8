//! Walks a request that was read through detection and decision.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};

use crate::authn::Caller;
use crate::detect::Engine;
use crate::domain::{Action, AuditFinding, Dialect, Direction, Role, Verdict};
use crate::enforce::{self, Forward, Inspection, RequestBody, Seal};
use crate::policy::{InForce, Judges};
use crate::protocol::{ReadLimits, Unreadable};

use super::context::Context;
use super::problem::{Blocked, Problem};
use super::{Gate, anchor};

/// From this size on a body is inspected on another thread: it takes milliseconds, in which this one serves others.
pub(super) const ASIDE: usize = 256 << 10;

impl Gate {
    /// What the caller is under.
    ///
    /// # Errors
    /// 503 `guard_unavailable`.
    pub(super) async fn pin_policy(&self, context: &mut Context) -> Result<InForce, Problem> {
        let Some(caller) = context.caller.as_deref() else { return Err(Problem::invalid_key()) };
        match anchor::on_main(self.main.as_ref(), self.state.policies.get(caller)).await {
            Ok(policy) => {
                context.policy = Some(Arc::clone(&policy.live));
                Ok(policy)
            }
            Err(error) => {
                tracing::error!(request.id = %context.id, %error, "no policy can be had");
                Err(Problem::unguarded())
            }
        }
    }

    /// Inspects body and query, and says what goes on to the upstream.
    ///
    /// # Errors
    /// The refusal: by the policy, or because the body cannot be looked at.
    pub(super) async fn inspect(
        &self,
        headers: &HeaderMap,
        context: &mut Context,
        body: Bytes,
        query: &str,
    ) -> Result<Bytes, Problem> {
        let in_force = self.pin_policy(context).await?;
        let started = Instant::now();
        let Some(caller) = context.caller.clone() else { return Err(Problem::invalid_key()) };
        let judges = if in_force.asks_for_user() {
            let user = self.end_user(headers, context.dialect, &in_force, &body)?;
            in_force.judges(caller.key_id, user.as_deref())
        } else {
            in_force.judges(caller.key_id, None)
        };
        let policy = Arc::clone(&judges.acting);
        context.policy = Some(Arc::clone(&policy));
        context.beside = judges.beside.clone();
        let seal = policy.tokens().map(|_| Seal {
            vault: Arc::clone(&self.state.vault),
            place: format!("{}/{}", caller.org_id, caller.workspace_id),
        });
        let ruled = caller.config.rules_models().then(|| Arc::clone(&caller));
        let inspected = self.inspect_body(headers, context.dialect, (judges, seal, ruled), &body, query).await?;
        let mut inspection = match inspected {
            Some(inspected) => {
                inspected.map_err(|Unreadable { status, code, message }| Problem::new(status, code, message))?
            }
            None if policy.fails_open() => {
                self.state.metrics.failopen.with_label_values(&["scan"]).inc();
                Inspection::unseen(body.len())
            }
            None => {
                self.state.metrics.failclosed.with_label_values(&["scan"]).inc();
                return Err(Problem::unguarded());
            }
        };
        if let (Some(beside), Some(comparison)) = (&context.beside, inspection.comparison.take()) {
            let (id, at) = (context.id.audit_id(), context.received_at);
            beside.rollout.compared(beside.arm, *comparison, id, caller.workspace_id, at);
        }
        let took = started.elapsed();
        self.scan_total.observe(took.as_secs_f64());
        if let Some(watched) = &mut context.watched {
            watched.inspected = Some((started, took));
        }
        self.state.metrics.count_detections(&inspection.findings);
        context.action = inspection.verdict.action;
        if inspection.verdict.blocked() {
            let reveal = context.caller.as_deref().is_some_and(|caller| caller.config.reveals());
            let revealed = reveal.then(|| (inspection.verdict.categories.clone(), policy.label().to_string()));
            let blocked = Blocked::input(inspection.verdict.risk_score, inspection.verdict.pii_detected, revealed);
            context.inspection = Some(inspection);
            let message = policy.block_message();
            return Err(Problem::blocked(self.state.config.block_status, context.id, blocked, message));
        }
        self.state.metrics.reversible_tokens.with_label_values(&["made"]).inc_by(inspection.tokens);
        context.restorer = inspection.restorer.take();
        let forward = std::mem::replace(&mut inspection.forward, Forward::AsReceived);
        context.inspection = Some(inspection);
        Ok(match forward {
            Forward::AsReceived => body,
            Forward::Redacted(bytes) => {
                context.forwarding.rewritten = true;
                bytes
            }
        })
    }

    /// Body and query together; None when a detector broke.
    async fn inspect_body(
        &self,
        headers: &HeaderMap,
        dialect: Dialect,
        (judges, seal, caller): (Judges, Option<Seal>, Option<Arc<Caller>>),
        body: &Bytes,
        query: &str,
    ) -> Result<Option<Result<Inspection, Unreadable>>, Problem> {
        let (content_type, content_encoding) = (text(headers, &CONTENT_TYPE)?, text(headers, &CONTENT_ENCODING)?);
        let look = move |engine: &Engine, body: RequestBody<'_>, query: &str, limits: &ReadLimits| {
            let (policy, beside) = (&judges.acting, judges.beside.as_ref());
            enforce::contained(|| {
                let workspace = caller.as_deref().map(|caller| &caller.config);
                let mut inspection =
                    enforce::inspect_beside(engine, (policy, beside), body, limits, seal.as_ref(), workspace)?;
                if !query.is_empty() {
                    let (role, direction) = (Role::Other, Direction::Input);
                    let mut text = enforce::inspect_text_beside(engine, policy, beside, query, role, direction);
                    if let (Some(whole), Some(part)) = (&mut inspection.comparison, text.comparison.take()) {
                        whole.join(*part, lifted);
                    }
                    merge(&mut inspection, text.verdict, text.findings, query.len());
                }
                Ok(inspection)
            })
        };
        if body.len() < ASIDE {
            let body = RequestBody { bytes: body, dialect: Some(dialect), content_type, content_encoding };
            return Ok(look(&self.state.engine, body, query, &self.read_limits));
        }
        let (engine, limits, body, query) =
            (self.state.engine.clone(), self.read_limits, body.clone(), query.to_owned());
        let (content_type, content_encoding) = (content_type.map(str::to_owned), content_encoding.map(str::to_owned));
        let aside = tokio::task::spawn_blocking(move || {
            let (content_type, content_encoding) = (content_type.as_deref(), content_encoding.as_deref());
            let body = RequestBody { bytes: &body, dialect: Some(dialect), content_type, content_encoding };
            look(&engine, body, &query, &limits)
        });
        Ok(aside.await.ok().flatten())
    }

    /// The end user whom a canary by users asks for: for that the body is read once more.
    fn end_user(
        &self,
        headers: &HeaderMap,
        dialect: Dialect,
        in_force: &InForce,
        body: &Bytes,
    ) -> Result<Option<String>, Problem> {
        let (content_type, content_encoding) = (text(headers, &CONTENT_TYPE)?, text(headers, &CONTENT_ENCODING)?);
        let body = RequestBody { bytes: body, dialect: Some(dialect), content_type, content_encoding };
        Ok(enforce::contained(|| enforce::user_of(&in_force.live, body, &self.read_limits)).flatten())
    }
}

/// The one value of a field that says how the body is to be read.
///
/// # Errors
/// 400 when it is repeated or not plain text: servers would differ about it.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let refused = || Problem::new(400, "malformed_request", format!("`{name}` is repeated or not plain text"));
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value)),
        _ => Err(refused()),
    }
}

/// What an action is in a query, which cannot be rewritten like a body: what would be replaced is refused.
const fn lifted(action: Action) -> Action {
    match action {
        Action::Redact | Action::Tokenize => Action::Block,
        other => other,
    }
}

/// Adds what was found in the query.
fn merge(inspection: &mut Inspection, query: Verdict, findings: Vec<AuditFinding>, bytes: usize) {
    let verdict = &mut inspection.verdict;
    verdict.action = verdict.action.max(lifted(query.action));
    verdict.escalate |= query.escalate;
    verdict.risk_score = verdict.risk_score.max(query.risk_score);
    verdict.categories.extend(query.categories);
    verdict.categories.sort_unstable();
    verdict.categories.dedup();
    verdict.pii_detected |= query.pii_detected;
    verdict.injection_detected |= query.injection_detected;
    verdict.findings.extend(query.findings);
    inspection.findings.extend(findings.into_iter().map(|finding| AuditFinding { path: "query".into(), ..finding }));
    inspection.coverage.scanned += bytes as u64;
    inspection.coverage.segments += 1;
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::domain::Category;

    #[test]
    fn the_stronger_verdict_of_body_and_query_counts_and_a_query_is_never_redacted() {
        for (found, expected) in [
            (Action::Allow, Action::Allow),
            (Action::Flag, Action::Flag),
            (Action::Tokenize, Action::Block),
            (Action::Redact, Action::Block),
            (Action::Block, Action::Block),
        ] {
            let mut inspection = Inspection::unseen(0);
            let query = Verdict { action: found, risk_score: 40, categories: vec![Category::Pii], ..Verdict::clean() };
            merge(&mut inspection, query, Vec::new(), 12);
            assert_eq!(inspection.verdict.action, expected);
            assert_eq!((inspection.verdict.risk_score, inspection.coverage.scanned), (40, 12));
            assert_eq!(inspection.verdict.categories, [Category::Pii]);
        }
        let mut inspection = Inspection::unseen(0);
        inspection.verdict.action = Action::Redact;
        merge(&mut inspection, Verdict::clean(), Vec::new(), 1);
        assert_eq!(inspection.verdict.action, Action::Redact, "a clean query leaves the body's verdict alone");
    }

    #[test]
    fn fields_that_say_how_to_read_a_body_are_single_and_plain() {
        let mut headers = HeaderMap::new();
        assert_eq!(text(&headers, &CONTENT_ENCODING), Ok(None));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(text(&headers, &CONTENT_ENCODING), Ok(Some("gzip")));
        headers.append(CONTENT_ENCODING, HeaderValue::from_static("br"));
        assert_eq!(text(&headers, &CONTENT_ENCODING).unwrap_err().status, 400);
        headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(b"text/\xff").unwrap());
        assert_eq!(text(&headers, &CONTENT_TYPE).unwrap_err().status, 400);
    }
}
