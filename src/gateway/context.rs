//! What one request carries from hook to hook.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use prometheus::IntGauge;

use crate::authn::Caller;
use crate::domain::{Action, Clock, Dialect, Outcome, RequestId, Source, Timestamp};
use crate::enforce::{Inspection, Restorer};
use crate::limits::Allowance;
use crate::policy::{Beside, CompiledPolicy};
use crate::upstream::{Credential, Lease, Place, Route, Upstream};

use super::answering::{Answering, Usage};
use super::observe::Watched;
use super::replay::Home;
use super::screen::Screened;

/// How far the audit trail of a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Nothing,
    /// The decision is in the journal; its completion is owed.
    Begun,
    Done,
}

/// Why a request did not go well, as far as that is known when it is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub status: u16,
    pub code: &'static str,
    pub outcome: Outcome,
}

/// What goes to the upstream, apart from the bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Forwarding {
    /// The bytes, as they were looked at.
    pub body: Bytes,
    /// The body is not the one that came: fields that describe its coding or digest no longer hold.
    pub rewritten: bool,
    /// The upstream's path.
    pub path: String,
    /// The query, without the question mark and without what the upstream's own configuration adds.
    pub query: String,
    /// The model as it is sent, where one is named.
    pub model: Option<String>,
}

/// Made when the head of a request is complete.
pub(super) struct Context {
    pub id: RequestId,
    /// `id` as the two header fields carry it.
    pub id_header: HeaderValue,
    pub started: Instant,
    /// `started` on the wall clock.
    pub received_at: Timestamp,
    pub source: Source,
    /// The shape of answers; a guess until the route is known.
    pub dialect: Dialect,
    /// The row of the route table, for metrics.
    pub label: &'static str,
    pub route: Option<Route>,
    pub caller: Option<Arc<Caller>>,
    /// What the upstream is presented instead of the client's own credential.
    pub credential: Option<Credential>,
    pub policy: Option<Arc<CompiledPolicy>>,
    /// The other policy of a rollout.
    pub beside: Option<Beside>,
    /// The policy as a header field names it, where it is not `policy`.
    pub policy_shown: Option<String>,
    /// Until the audit event is made of it.
    pub inspection: Option<Inspection>,
    /// What the answer's tokens stand for.
    pub restorer: Option<Arc<Restorer>>,
    pub action: Action,
    pub allowance: Option<Allowance>,
    /// Time spent waiting for the client's body.
    pub body_wait: Duration,
    pub forwarding: Forwarding,
    pub home: Home,
    /// The upstream that was asked for, once another has taken over.
    pub origin: Option<Arc<Upstream>>,
    /// How many of its fallbacks were considered.
    pub fallbacks: usize,
    pub place: Option<Place>,
    /// The address of the attempt.
    pub lease: Option<Lease>,
    pub upstream_in_flight: Option<InFlight>,
    /// Connections to the upstream that did not come about.
    pub unconnected: usize,
    /// What the client is told of the last of them.
    pub unconnected_status: u16,
    /// When the attempt began, if it is not the first.
    pub connecting_since: Option<Instant>,
    pub forwarded_at: Option<Instant>,
    pub answering: Answering,
    pub screened: Screened,
    pub recorded: Recorded,
    pub failure: Option<Failure>,
    /// Bytes of the request's body.
    pub received: usize,
    /// Of the answer, once it is over.
    pub usage: Usage,
    /// None where nobody asks.
    pub watched: Option<Box<Watched>>,
    /// False for `GET /health`, which no caller stands behind.
    pub audited: bool,
    _in_flight: InFlight,
}

/// Counts a request for as long as it lives.
pub(super) struct InFlight(IntGauge);

impl InFlight {
    pub(super) fn of(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Context {
    pub(super) fn new(in_flight: &IntGauge, clock: &dyn Clock) -> Self {
        let id = RequestId::new();
        Self {
            id,
            // Never fails: an id is plain ASCII.
            id_header: HeaderValue::try_from(id.to_string()).unwrap_or_else(|_| HeaderValue::from_static("req_")),
            started: Instant::now(),
            received_at: clock.now(),
            source: Source::Gateway,
            dialect: Dialect::Openai,
            label: "none",
            route: None,
            caller: None,
            credential: None,
            policy: None,
            beside: None,
            policy_shown: None,
            inspection: None,
            restorer: None,
            action: Action::Allow,
            allowance: None,
            body_wait: Duration::ZERO,
            forwarding: Forwarding::default(),
            home: Home::default(),
            origin: None,
            fallbacks: 0,
            place: None,
            lease: None,
            upstream_in_flight: None,
            unconnected: 0,
            unconnected_status: 502,
            connecting_since: None,
            forwarded_at: None,
            answering: Answering::default(),
            screened: Screened::default(),
            recorded: Recorded::Nothing,
            failure: None,
            received: 0,
            usage: Usage::default(),
            watched: None,
            audited: true,
            _in_flight: InFlight::of(in_flight),
        }
    }

    /// Time that was spent neither upstream nor waiting for the client's body.
    pub(super) fn overhead(&self, now: Instant) -> Duration {
        self.forwarded_at.unwrap_or(now).duration_since(self.started).saturating_sub(self.body_wait)
    }
}
