//! `/health` and `/metrics`: for load balancers and Prometheus.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::health::{HealthReport, HealthStatus};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(metrics))
}

/// Whether Sentinel works
///
/// `degraded`: requests are served, something waits. `failing`: requests are refused.
#[utoipa::path(get, path = "/health", tag = "operations", operation_id = "getHealth", responses(
    (status = 200, description = "`ok` or `degraded`", body = HealthReport),
    (status = 503, description = "`failing`", body = HealthReport),
))]
async fn health(State(api): State<Api>) -> impl IntoResponse {
    let report = api.state.health.report().await;
    let failing = report.status == HealthStatus::Failing;
    (if failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, axum::Json(report))
}

/// Metrics
///
/// In Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "getMetrics", responses(
    (status = 200, description = "The metrics of this node", body = String, content_type = "text/plain"),
))]
async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let (open, idle) = api.state.store.connections();
    let pool = &api.state.metrics.db_pool_connections;
    pool.with_label_values(&["idle"]).set(idle);
    pool.with_label_values(&["used"]).set(open.saturating_sub(idle));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.state.metrics.render())
}
