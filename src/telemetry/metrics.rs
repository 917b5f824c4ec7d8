//! Every metric of Sentinel. Base units; no organization, user or key in a label.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::domain::{AuditFinding, Detector, Direction};

/// 50 µs to 250 ms: what an inspection may take.
const SCAN_BUCKETS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25];
/// 1 ms to 10 s: what a model takes for a few words.
const HOLD_BUCKETS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// 5 ms to 5 min: what a model may take.
const UPSTREAM_BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// One instance per process, handed to whoever counts something.
pub struct Metrics {
    registry: Registry,
    /// `route, dialect, action{allow,flag,redact,block,error}, status_class{2xx,4xx,5xx}`
    pub requests: IntCounterVec,
    /// `detector, category, direction`
    pub detections: IntCounterVec,
    /// `direction, stage{read,detect,decide,enforce,total}`
    pub scan_duration: HistogramVec,
    /// How long pieces of streamed answers waited for what follows them.
    pub answer_hold: Histogram,
    /// `action{allow,flag,tokenize,redact,block,unreadable,unseen}`
    pub answers: IntCounterVec,
    /// `event{made,restored}`
    pub reversible_tokens: IntCounterVec,
    /// Time not spent upstream, or waiting for the client's body.
    pub gateway_overhead: Histogram,
    /// `provider`
    pub upstream_duration: HistogramVec,
    /// `provider`
    pub upstream_ttfb: HistogramVec,
    /// `provider, kind{connect,timeout,reset,status_5xx}`
    pub upstream_errors: IntCounterVec,
    /// `provider, type{input,cached_input,output}`
    pub tokens: IntCounterVec,
    /// `provider`
    pub upstream_connect: HistogramVec,
    /// `provider`
    pub upstream_in_flight: IntGaugeVec,
    /// `provider`
    pub upstream_ejections: IntCounterVec,
    /// `provider`: the one that could not have them.
    pub upstream_fallbacks: IntCounterVec,
    /// `scope{key,org,ip,login}`
    pub rate_limited: IntCounterVec,
    /// `component`
    pub failopen: IntCounterVec,
    /// `component`
    pub failclosed: IntCounterVec,
    /// `cache{key,policy}, result{hit,miss,negative}`
    pub cache_requests: IntCounterVec,
    /// Records in the journal that are not yet in the database.
    pub audit_queue_depth: IntGauge,
    pub audit_backlog_bytes: IntGauge,
    pub audit_write_failures: IntCounter,
    pub audit_rows: IntCounter,
    /// `method, route, status_class`
    pub admin_requests: IntCounterVec,
    /// Refused attempts that were not recorded: too many, or the database away.
    pub admin_events_dropped: IntCounter,
    /// Live streams of events that are open.
    pub event_streams: IntGauge,
    /// Events that were left out of one of them.
    pub event_stream_dropped: IntCounter,
    pub requests_in_flight: IntGauge,
    /// `state{idle,used}`
    pub db_pool_connections: IntGaugeVec,
    /// Lines of the access log that were not written.
    pub access_log_dropped: IntCounter,
    /// Requests whose traces were not sent.
    pub traces_dropped: IntCounter,
    /// `version`
    pub build_info: IntGaugeVec,
}

impl Metrics {
    /// # Panics
    /// Never in practice: names and labels are constants, checked by a test.
    #[must_use]
    pub fn new() -> Self {
        Self::build().unwrap_or_else(|error| unreachable!("metric definitions are constants: {error}"))
    }

    fn build() -> prometheus::Result<Self> {
        let registry = Registry::new();
        macro_rules! register {
            ($metric:expr) => {{
                let metric = $metric?;
                registry.register(Box::new(metric.clone()))?;
                metric
            }};
        }
        let buckets =
            |name: &str, help: &str, buckets: &[f64]| HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metrics = Self {
            requests: register!(IntCounterVec::new(
                Opts::new("sentinel_requests_total", "Requests of applications."),
                &["route", "dialect", "action", "status_class"],
            )),
            detections: register!(IntCounterVec::new(
                Opts::new("sentinel_detections_total", "Findings of detectors."),
                &["detector", "category", "direction"],
            )),
            scan_duration: register!(HistogramVec::new(
                buckets("sentinel_scan_duration_seconds", "Time to read, scan and judge a message.", SCAN_BUCKETS),
                &["direction", "stage"],
            )),
            answer_hold: register!(Histogram::with_opts(buckets(
                "sentinel_answer_hold_seconds",
                "Time that events of streamed answers were held back for what follows them.",
                HOLD_BUCKETS,
            ))),
            answers: register!(IntCounterVec::new(
                Opts::new(
                    "sentinel_answers_total",
                    "Answers that the policy wants looked at, and what became of them."
                ),
                &["action"],
            )),
            reversible_tokens: register!(IntCounterVec::new(
                Opts::new("sentinel_reversible_tokens_total", "Values that went on as tokens, and tokens put back."),
                &["event"],
            )),
            gateway_overhead: register!(Histogram::with_opts(buckets(
                "sentinel_gateway_overhead_seconds",
                "Time of a request not spent upstream or waiting for its body.",
                SCAN_BUCKETS,
            ))),
            upstream_duration: register!(HistogramVec::new(
                buckets(
                    "sentinel_upstream_duration_seconds",
                    "Time from forwarding to the end of the answer.",
                    UPSTREAM_BUCKETS
                ),
                &["provider"],
            )),
            upstream_ttfb: register!(HistogramVec::new(
                buckets(
                    "sentinel_upstream_ttfb_seconds",
                    "Time from forwarding to the first byte of the answer.",
                    UPSTREAM_BUCKETS
                ),
                &["provider"],
            )),
            upstream_errors: register!(IntCounterVec::new(
                Opts::new("sentinel_upstream_errors_total", "Upstream calls that failed."),
                &["provider", "kind"],
            )),
            tokens: register!(IntCounterVec::new(
                Opts::new(
                    "sentinel_tokens_total",
                    "Tokens as providers count them; `cached_input` were in their cache."
                ),
                &["provider", "type"],
            )),
            upstream_connect: register!(HistogramVec::new(
                buckets(
                    "sentinel_upstream_connect_seconds",
                    "Time until a new connection to an upstream was ready.",
                    UPSTREAM_BUCKETS
                ),
                &["provider"],
            )),
            upstream_in_flight: register!(IntGaugeVec::new(
                Opts::new("sentinel_upstream_requests_in_flight", "Requests under way at an upstream."),
                &["provider"],
            )),
            upstream_ejections: register!(IntCounterVec::new(
                Opts::new("sentinel_upstream_ejections_total", "Times that an address was left out after failures."),
                &["provider"],
            )),
            upstream_fallbacks: register!(IntCounterVec::new(
                Opts::new("sentinel_upstream_fallbacks_total", "Requests that another upstream took over."),
                &["provider"],
            )),
            rate_limited: register!(IntCounterVec::new(
                Opts::new("sentinel_rate_limited_total", "Requests refused by a limit."),
                &["scope"],
            )),
            failopen: register!(IntCounterVec::new(
                Opts::new("sentinel_failopen_total", "Requests served although a component could not do its work."),
                &["component"],
            )),
            failclosed: register!(IntCounterVec::new(
                Opts::new("sentinel_failclosed_total", "Requests refused because a component could not do its work."),
                &["component"],
            )),
            cache_requests: register!(IntCounterVec::new(
                Opts::new("sentinel_cache_requests_total", "Look-ups in in-process caches."),
                &["cache", "result"],
            )),
            audit_queue_depth: register!(IntGauge::new(
                "sentinel_audit_queue_depth",
                "Journal records that are not yet in the database.",
            )),
            audit_backlog_bytes: register!(IntGauge::new(
                "sentinel_audit_backlog_bytes",
                "Bytes of journal that are not yet in the database.",
            )),
            audit_write_failures: register!(IntCounter::new(
                "sentinel_audit_write_failures_total",
                "Failed attempts to write audit records, to the journal or the database.",
            )),
            audit_rows: register!(IntCounter::new("sentinel_audit_rows_total", "Audit rows written to the database.")),
            admin_requests: register!(IntCounterVec::new(
                Opts::new("sentinel_admin_requests_total", "Requests to the admin face."),
                &["method", "route", "status_class"],
            )),
            admin_events_dropped: register!(IntCounter::new(
                "sentinel_admin_events_dropped_total",
                "Refused attempts on the admin face that were not recorded.",
            )),
            event_streams: register!(IntGauge::new("sentinel_event_streams", "Live streams of events that are open.")),
            event_stream_dropped: register!(IntCounter::new(
                "sentinel_event_stream_dropped_total",
                "Events that were left out of a live stream, because its client read too slowly.",
            )),
            requests_in_flight: register!(IntGauge::new(
                "sentinel_requests_in_flight",
                "Requests of applications under way."
            )),
            db_pool_connections: register!(IntGaugeVec::new(
                Opts::new("sentinel_db_pool_connections", "Connections to the database that are open."),
                &["state"],
            )),
            access_log_dropped: register!(IntCounter::new(
                "sentinel_access_log_dropped_total",
                "Lines of the access log that were not written: the disk was too slow, or full.",
            )),
            traces_dropped: register!(IntCounter::new(
                "sentinel_traces_dropped_total",
                "Requests whose traces were not sent: the collector was too slow, or away.",
            )),
            build_info: register!(IntGaugeVec::new(Opts::new("sentinel_build_info", "Always 1."), &["version"])),
            registry,
        };
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(metrics)
    }

    /// Counts findings in `detections`, by detector, category and direction.
    pub fn count_detections(&self, findings: &[AuditFinding]) {
        for finding in findings {
            let detector = match finding.detector {
                Detector::Pii => "pii",
                Detector::Secrets => "secrets",
                Detector::Injection => "injection",
                Detector::Custom => "custom",
            };
            let direction = match finding.direction {
                Direction::Input => "input",
                Direction::Output => "output",
            };
            self.detections.with_label_values(&[detector, finding.category.as_str(), direction]).inc();
        }
    }

    /// The text exposition format.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_valid_and_counters_are_rendered() {
        let metrics = Metrics::build().unwrap();
        metrics.rate_limited.with_label_values(&["key"]).inc();
        let text = metrics.render();
        assert!(text.contains("sentinel_rate_limited_total{scope=\"key\"} 1"), "{text}");
        assert!(text.contains("sentinel_build_info"));
    }
}
