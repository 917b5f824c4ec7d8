//! Logs and metrics: every metric name is in `metrics.rs`, every log line is made through `tracing`.

mod logs;
mod metrics;

pub use logs::{init_logs, withhold_panic_messages};
pub use metrics::Metrics;
