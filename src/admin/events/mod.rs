//! `/events`: what happens, as it happens, over a WebSocket.
//!
//! A page cannot send a header with a WebSocket, and a token in an address ends up in logs: a stream is opened with a ticket
//! that is good once and for half a minute. What is streamed is read from the store (`tail.rs`), so that it is the same on
//! every node and costs the gateway nothing.

mod connection;
mod event;
mod live;
mod queue;
mod tail;

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Authorized, Query, Stranger, WatchEvents};
use super::problem::{Code, Fault, Problem};
use super::trail::{self, Act, Who};
use crate::authn::{Permission, RefreshToken, Session};
use crate::domain::{Action, ApiKeyId, Category, Timestamp, WorkspaceId};
use crate::store::{EventOutcome, EventPosition, StoreError, TenantScope};
use connection::Connection;
use event::{EventKind, Filter, Kinds};

pub use event::EventMessage;
pub use live::Live;

/// How long a ticket is good.
const TICKET_LIFE: Duration = Duration::from_secs(30);
/// Events that a stream catches up with at most.
const REPLAYED: u32 = 10_000;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(ticket)).routes(routes!(stream))
}

/// Opens one stream.
#[derive(Serialize, utoipa::ToSchema)]
pub struct EventTicket {
    /// For `GET /events?ticket=…`, once.
    #[schema(example = "4vJ9Zk1rQ0h3c0xwUjN2VGd5bUFlOFhkMm5KcVdpQmZ")]
    ticket: String,
    expires_at: Timestamp,
}

/// Get a ticket for a live stream of events
///
/// Good once, for 30 seconds, and for this session. With `audit:read` the stream has verdicts, with `admin_events:read` the
/// events of the admin face; one of the two is enough.
#[utoipa::path(post, path = "/events/ticket", tag = "audit", operation_id = "createEventTicket",
    security(("session" = ["audit:read"])), responses(
    (status = 201, description = "The ticket", body = EventTicket),
))]
async fn ticket(
    admin: Authorized<WatchEvents>,
    State(api): State<Api>,
) -> Result<(StatusCode, axum::Json<EventTicket>), Problem> {
    let ticket = RefreshToken::generate();
    let expires_at = api.state.clock.now().plus(TICKET_LIFE);
    let mut tx = admin.write().await?;
    let (user, session) = (admin.session.user.id, admin.session.id);
    tx.event_stream().add_ticket(user, session, &ticket.hash(), expires_at).await?;
    tx.commit(Act::new("event_ticket.create").on("session", session.uuid())).await?;
    Ok((StatusCode::CREATED, axum::Json(EventTicket { ticket: ticket.expose().to_owned(), expires_at })))
}

/// Conditions on verdicts leave the events of the admin face alone, and the other way round.
#[derive(Deserialize, Serialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    /// Of `POST /events/ticket`. Required.
    ticket: Option<String>,
    /// The `id` of the last message that you have: what came after it is sent first, up to 10,000 events.
    last_id: Option<uuid::Uuid>,
    /// Only this kind.
    #[serde(rename = "type")]
    #[param(inline)]
    kind: Option<EventKind>,
    /// Only verdicts on requests of this workspace.
    #[param(value_type = Option<uuid::Uuid>)]
    workspace_id: Option<WorkspaceId>,
    /// Only verdicts on requests with this key.
    #[param(value_type = Option<uuid::Uuid>)]
    api_key_id: Option<ApiKeyId>,
    /// Only verdicts by which this was done.
    #[param(inline)]
    verdict: Option<Action>,
    /// Only verdicts with a finding of this kind.
    #[param(inline)]
    category: Option<Category>,
    /// Only verdicts with at least this risk, 0 to 100.
    #[param(minimum = 0, maximum = 100)]
    min_risk_score: Option<u8>,
    /// Only this act on the admin face, `resource.verb`.
    #[param(example = "policy.update")]
    action: Option<String>,
    /// Only acts on the admin face that ended so.
    #[param(inline)]
    outcome: Option<EventOutcome>,
}

/// Watch what happens
///
/// A WebSocket (RFC 6455), opened with a ticket of `POST /events/ticket`. Each text message is an `EventMessage`: a verdict as
/// `GET /audit-logs` has it, or an event as `GET /admin-events` has it, of your organization, oldest first. An event is sent
/// once it is three seconds old, so that what other nodes recorded meanwhile has its place before it. What reaches the
/// database later, within a minute, is sent without an `id`. A verdict is sent once, as it then stands.
///
/// Reconnect with `last_id` to go on where you were. When you read too slowly, messages are left out, and
/// `{"type":"dropped","count":…}` stands in their place; the lists have them.
///
/// Send nothing. Close codes: 1001 the node stops (reconnect), 1003 you sent something, 1011 Sentinel failed, 3000 the
/// session ended, 3003 the permission is gone.
#[utoipa::path(get, path = "/events", tag = "audit", operation_id = "streamEvents", params(StreamQuery), responses(
    (status = 101, description = "The stream begins"),
    (status = 401, description = "No valid ticket, or its session has ended"),
    (status = 403, description = "The session's person may not see such events"),
    (status = 426, description = "The request does not open a WebSocket"),
    (status = 429, description = "Too many requests, or too many streams are open; see `Retry-After`"),
    (status = 503, description = "The database is away, or too many streams are open; see `Retry-After`"),
))]
async fn stream(
    State(api): State<Api>,
    stranger: Stranger,
    Query(mut query): Query<StreamQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    stranger.attempt.to("event_stream.open");
    // Taken out: the rest is recorded.
    let ticket = query.ticket.take().filter(|ticket| is_ticket(ticket)).ok_or_else(invalid_ticket)?;
    let upgrade = upgrade.map_err(|_| Problem::upgrade_required())?;
    let spent = api.state.store.spend_event_ticket(&RefreshToken::hash_of(&ticket)).await?;
    let spent = spent.ok_or_else(invalid_ticket)?;
    let session = api.sessions.resolve(spent.session_id, spent.user_id).await?;
    stranger.attempt.by(session.scope, session.user.id, &session.user.email);
    if session.scope.org_id() != spent.org_id {
        return Err(invalid_ticket());
    }
    let kinds = Kinds::visible_to(&session).and_only(query.kind);
    if kinds.none() {
        let needed = match query.kind {
            Some(EventKind::AdminEvent) => Permission::ReadAdminEvents,
            _ => Permission::ReadAudit,
        };
        return Err(Problem::forbidden(needed).needing(Some(needed)));
    }
    let place = api.live.enter(session.scope)?;
    let from = match query.last_id {
        Some(id) => Some(resume(&api, session.scope, id).await?),
        None => None,
    };
    let who = Who::person(session.user.id, &session.user.email, stranger.origin);
    trail::record(&api.state.store, session.scope, Act::new("event_stream.open").with(&query), who).await?;
    let filter = filter(query, kinds);
    let connection = Connection { sessions: api.sessions.clone(), session: session.id, user: session.user.id, kinds };
    Ok(connection::settings(upgrade).on_upgrade(move |socket| connection.run(socket, place, filter, from)))
}

/// Where a stream goes on.
async fn resume(api: &Api, scope: TenantScope, last_id: uuid::Uuid) -> Result<EventPosition, Problem> {
    let fault = |detail| Problem::query(vec![Fault::parameter("last_id", detail)]);
    let mut tx = api.state.store.read(scope).await?;
    let mut stream = tx.event_stream();
    let position = stream.position_of(last_id).await?.ok_or_else(|| fault("names no event"))?;
    let now = EventPosition::end_of(api.state.clock.now());
    let missed = stream.positions(position, now, REPLAYED.saturating_add(1)).await?;
    if u32::try_from(missed.len()).unwrap_or(u32::MAX) > REPLAYED {
        return Err(fault("more than 10,000 events came after it: read the lists, and begin a new stream"));
    }
    Ok(position)
}

fn filter(query: StreamQuery, kinds: Kinds) -> Filter {
    Filter {
        kinds,
        workspace_id: query.workspace_id,
        api_key_id: query.api_key_id,
        verdict: query.verdict,
        category: query.category,
        min_risk_score: query.min_risk_score.unwrap_or(0),
        action: query.action,
        outcome: query.outcome,
    }
}

/// What is not even written like a ticket costs no look-up.
fn is_ticket(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

fn invalid_ticket() -> Problem {
    Problem::new(Code::InvalidTicket, "a ticket of `POST /events/ticket` is needed, once and within 30 seconds")
}

/// Whether the person may still see what is being streamed.
fn may_watch(session: &Session, kinds: Kinds) -> bool {
    !session.user.must_change_password && !session.mfa_missing && Kinds::visible_to(session).contain(kinds)
}

/// Reads of the store that outlast their database are tried again, and said once.
fn say(error: &StoreError) {
    tracing::debug!(%error, "live events have to wait for the database");
}
