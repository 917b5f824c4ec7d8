//! Logs, metrics and traces: every metric name is in `metrics.rs`, every log line but the access log's is made through
//! `tracing`.

mod access_log;
mod logs;
mod metrics;
mod trace_context;
mod traces;

pub use access_log::{AccessLine, AccessLog};
pub use logs::{init_logs, withhold_panic_messages};
pub use metrics::Metrics;
pub use trace_context::{SAMPLED, TraceParent};
pub use traces::{InspectionTrace, RequestTrace, Stretch, TraceExport, Traces, UpstreamTrace, upstream_span};
