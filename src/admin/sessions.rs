//! `/auth/sessions`: where a person is logged in, and ending that.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::answer::List;
use super::extract::{Authorized, LoggedIn, PageQuery, Path, Query};
use super::problem::Problem;
use super::trail::Act;
use crate::domain::{SessionId, Timestamp};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, end_others)).routes(routes!(end))
}

/// A log-in that is still good.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Session {
    id: SessionId,
    /// The session of this request.
    current: bool,
    /// What the client called itself.
    #[schema(example = "curl/8.7.1")]
    user_agent: Option<String>,
    #[schema(example = "192.0.2.1")]
    ip: Option<String>,
    created_at: Timestamp,
    /// When its tokens were last renewed.
    last_used_at: Timestamp,
    /// When it ends, unless its tokens are renewed.
    expires_at: Timestamp,
}

/// Your sessions
///
/// Those that have not ended, newest first.
#[utoipa::path(get, path = "/auth/sessions", tag = "auth", operation_id = "listSessions", security(("session" = [])),
    params(PageQuery), responses(
    (status = 200, description = "A page of sessions", body = List<Session>),
))]
async fn list(me: Authorized<LoggedIn>, Query(query): Query<PageQuery>) -> Result<List<Session>, Problem> {
    let page = me.read().await?.users().sessions(me.session.user.id, &query.into()).await?;
    Ok(List::new(page, |record| Session {
        id: record.id,
        current: record.id == me.session.id,
        user_agent: record.user_agent,
        ip: record.ip,
        created_at: record.created_at,
        last_used_at: record.last_used_at,
        expires_at: record.expires_at,
    }))
}

/// End one of your sessions
///
/// Its access and refresh tokens are refused from now on.
#[utoipa::path(delete, path = "/auth/sessions/{id}", tag = "auth", operation_id = "endSession",
    security(("session" = [])), params(("id" = SessionId, Path)), responses(
    (status = 204, description = "Ended"),
))]
async fn end(me: Authorized<LoggedIn>, Path(id): Path<SessionId>) -> Result<StatusCode, Problem> {
    let mut tx = me.write().await?;
    if !tx.users().end_session(me.session.user.id, id).await? {
        return Err(Problem::not_found());
    }
    tx.commit(Act::new("session.revoke").on("session", id.uuid())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End all your other sessions
///
/// All but the one that this request belongs to.
#[utoipa::path(delete, path = "/auth/sessions", tag = "auth", operation_id = "endOtherSessions",
    security(("session" = [])), responses(
    (status = 204, description = "Ended"),
))]
async fn end_others(me: Authorized<LoggedIn>) -> Result<StatusCode, Problem> {
    let mut tx = me.write().await?;
    tx.users().end_sessions(me.session.user.id, Some(me.session.id)).await?;
    tx.commit(Act::new("session.revoke_others").on("user", me.session.user.id.uuid())).await?;
    Ok(StatusCode::NO_CONTENT)
}
