//! Which upstream and which of its addresses a request goes to, and what is learnt from how that went.

use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use http::header::RETRY_AFTER;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use crate::config::UpstreamConfig;
use crate::upstream::Endpoint;

use super::context::{Context, InFlight};
use super::problem::Problem;
use super::{Gate, forward, query};

/// Connections to one upstream are tried at least this often, each at another address where there are several, and at most …
const MIN_ATTEMPTS: usize = 2;
/// … this often before the request fails or goes to a fallback.
const MAX_ATTEMPTS: usize = 4;

impl Gate {
    /// Takes a place at the upstream, or at one that takes over.
    ///
    /// # Errors
    /// 502 while no address is known, 429 when as many requests are under way as may be.
    pub(super) async fn take_place(&self, context: &mut Context) -> std::result::Result<(), Problem> {
        let Some(route) = &context.route else { return Ok(()) };
        let upstream = &route.upstream;
        if upstream.config.fallback.is_empty() || upstream.is_available() {
            context.place = upstream.admit();
        }
        if context.place.is_none() && !self.falls_over(context).await {
            // Nobody takes over: better one that may be out than none.
            context.place = context.route.as_ref().and_then(|route| route.upstream.admit());
        }
        let Some(route) = &context.route else { return Ok(()) };
        if route.upstream.address_count() == 0 {
            return Err(Problem::unreachable());
        }
        if context.place.is_none() {
            return Err(Problem::busy());
        }
        self.count_in(context);
        Ok(())
    }

    fn count_in(&self, context: &mut Context) {
        let destination = context.route.as_ref().and_then(|route| self.destinations.get(route.upstream.index));
        context.upstream_in_flight = destination.map(|destination| InFlight::of(&destination.in_flight));
    }

    /// Whether another upstream took the request over.
    async fn falls_over(&self, context: &mut Context) -> bool {
        let fallback = context.route.as_ref().is_some_and(|route| !route.upstream.config.fallback.is_empty());
        // In a box: few requests come here.
        (fallback || context.origin.is_some()) && Box::pin(self.fall_over(context)).await
    }

    /// Goes on to the next upstream that may be used, works, has room, and whose credential can be had.
    async fn fall_over(&self, context: &mut Context) -> bool {
        let (Some(route), Some(caller)) = (&context.route, context.caller.clone()) else { return false };
        // The client's credential is for the upstream that it asked for.
        if caller.config.passes_credentials_through() {
            return false;
        }
        let origin = context.origin.get_or_insert_with(|| route.upstream.clone()).clone();
        while let Some(name) = origin.config.fallback.get(context.fallbacks) {
            context.fallbacks += 1;
            let Some(next) = self.state.upstreams.named(name) else { continue };
            if !caller.config.allows(&next.name, next.dialect) || !next.is_available() {
                continue;
            }
            let Some(route) = &context.route else { return false };
            let Some(path) = next.path_for(&route.path, context.forwarding.model.as_deref()) else { continue };
            let Some(place) = next.admit() else { continue };
            let Ok(credential) = self.credential(context, next).await else { continue };
            let Some(route) = &mut context.route else { return false };
            route.upstream = next.clone();
            context.forwarding.path = path;
            context.credential = credential;
            context.place = Some(place);
            context.lease = None;
            context.unconnected = 0;
            // It was readable before; what changes is that a credential of the client's goes.
            if let Ok(query) = query::read(context.forwarding.query.as_bytes(), context.dialect, true) {
                context.forwarding.query = query.forward;
            }
            tracing::warn!(request.id = %context.id, upstream = &*origin.name, fallback = &*next.name, "another upstream takes over");
            self.state.metrics.upstream_fallbacks.with_label_values(&[&origin.name]).inc();
            self.count_in(context);
            return true;
        }
        false
    }

    /// The address for the next attempt.
    ///
    /// # Errors
    /// That of the last attempt, when there is nowhere left to go.
    pub(super) async fn next_address(&self, context: &mut Context) -> Result<()> {
        let tried_enough = context.route.as_ref().is_some_and(|route| {
            let most = route.upstream.address_count().clamp(MIN_ATTEMPTS, MAX_ATTEMPTS);
            context.unconnected >= most
        });
        if tried_enough && !self.falls_over(context).await {
            return Err(Error::explain(ErrorType::HTTPStatus(context.unconnected_status), "no upstream is left"));
        }
        let Some(route) = &context.route else {
            return Err(Error::explain(ErrorType::HTTPStatus(500), "no route"));
        };
        let failed = context.lease.take().filter(|_| context.unconnected > 0).map(|lease| lease.address);
        let key = || context.caller.as_deref().map_or(0, |caller| caller.key_id.uuid().as_u64_pair().1);
        context.lease = route.upstream.choose(key, failed);
        match context.lease {
            Some(_) => Ok(()),
            None => Err(Error::explain(ErrorType::HTTPStatus(502), "no address")),
        }
    }

    /// No connection came about. Nothing was sent, so that anything may be tried again.
    pub(super) fn unconnected(&self, mut error: Box<Error>, context: &mut Context) -> Box<Error> {
        context.unconnected += 1;
        context.unconnected_status = forward::status_of(&error);
        context.connecting_since = Some(Instant::now());
        self.failed(context);
        let Some(route) = &context.route else { return error };
        let most = route.upstream.address_count().clamp(MIN_ATTEMPTS, MAX_ATTEMPTS);
        let list = &context.origin.as_ref().unwrap_or(&route.upstream).config.fallback;
        let again = context.unconnected < most || context.fallbacks < list.len();
        if again {
            let kind = forward::kind_of(&error);
            self.state.metrics.upstream_errors.with_label_values(&[&route.upstream.name, kind]).inc();
        }
        error.set_retry(again);
        error
    }

    /// A connection is there.
    pub(super) fn connected(&self, context: &Context, reused: bool) {
        let since = context.connecting_since.or(context.forwarded_at).filter(|_| !reused);
        let destination = context.route.as_ref().and_then(|route| self.destinations.get(route.upstream.index));
        if let (Some(since), Some(destination)) = (since, destination) {
            destination.connect.observe(since.elapsed().as_secs_f64());
        }
    }

    /// What the head of an answer says about the address that it came from.
    pub(super) fn judge_address(&self, head: &ResponseHeader, context: &Context) {
        let Some(lease) = &context.lease else { return };
        let status = head.status.as_u16();
        if matches!(status, 429 | 503)
            && let Some(value) = head.headers.get(RETRY_AFTER)
            && let Some(pause) = pause(value, self.state.clock.now().into()).filter(|pause| !pause.is_zero())
        {
            // 429 is about the credential: a workspace with one of its own does not decide for the others.
            if status == 503 || self.is_operators_credential(context) {
                lease.wait(pause);
            }
            return;
        }
        match status {
            502..=504 => self.failed(context),
            500.. => self.failed_doubtfully(context),
            _ => lease.succeeded(),
        }
    }

    /// The address did not do what it is there for.
    fn failed(&self, context: &Context) {
        self.left_out(context, Endpoint::failed);
    }

    /// So it seems; it may be the request that brought it about.
    pub(super) fn failed_doubtfully(&self, context: &Context) {
        let org = context.caller.as_deref().map_or(1, |caller| caller.org_id.uuid().as_u64_pair().1 | 1);
        self.left_out(context, |lease, config| lease.failed_doubtfully(config, org));
    }

    fn left_out(&self, context: &Context, failed: impl FnOnce(&Endpoint, &UpstreamConfig) -> bool) {
        let (Some(lease), Some(route)) = (&context.lease, &context.route) else { return };
        if failed(lease, &route.upstream.config) {
            let upstream = &*route.upstream.name;
            tracing::warn!(upstream, address = %lease.address, "an address is left out for a while: it failed repeatedly");
            self.state.metrics.upstream_ejections.with_label_values(&[upstream]).inc();
        }
    }

    fn is_operators_credential(&self, context: &Context) -> bool {
        let destination = context.route.as_ref().and_then(|route| self.destinations.get(route.upstream.index));
        context.credential.is_some() && destination.is_some_and(|known| known.credential == context.credential)
    }
}

/// `Retry-After`: seconds, or the date (RFC 9110, 10.2.3), which may have passed.
fn pause(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let until = |date: SystemTime| date.duration_since(now).unwrap_or_default();
    text.parse().map(Duration::from_secs).ok().or_else(|| httpdate::parse_http_date(text).ok().map(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // 06 Nov 1994 08:49:37.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text: &str| pause(&HeaderValue::from_str(text).unwrap(), now);
        assert_eq!(read(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:51:37 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(read("Sun, 06 Nov 1994 07:00:00 GMT"), Some(Duration::ZERO), "it has passed");
        assert_eq!(read("Sunday, 06-Nov-94 08:51:37 GMT"), Some(Duration::from_secs(120)), "the form that is obsolete");
        for nothing in ["", "soon", "-1", "1.5", "Sun, 06 Nov 1994"] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }
}
