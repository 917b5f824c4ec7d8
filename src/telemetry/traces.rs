//! Traces of requests, sent to a collector by OTLP. A request hands over what is known of it when it is over; spans are made
//! of that, and sent, by a task of their own. What finds no room is dropped and counted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use prometheus::IntCounter;
use tokio::sync::{mpsc, watch};

use crate::config::OtlpConfig;
use crate::domain::{Action, ApiKeyId, Dialect, OrgId, PolicyId, RequestId, Timestamp, WorkspaceId};

use super::trace_context::{SAMPLED, TraceParent};

/// Requests that wait for the collector.
const QUEUE: usize = 4096;
/// Requests that are sent together, and how long the first of them waits for others.
const TOGETHER: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
/// For one attempt to send; the exporter makes a few.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The names of the conventions for generative AI (`open-telemetry/semantic-conventions-genai`, still in development; those of
/// guardrails are a proposal there).
mod names {
    pub const OPERATION: &str = "gen_ai.operation.name";
    pub const PROVIDER: &str = "gen_ai.provider.name";
    pub const REQUEST_MODEL: &str = "gen_ai.request.model";
    pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
    pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
    pub const GUARDRAIL_TARGET: &str = "gen_ai.guardrail.target.type";
    pub const GUARDRAIL_VERDICT: &str = "gen_ai.guardrail.verdict.type";
    pub const GUARDRAIL_ACTION: &str = "gen_ai.guardrail.action.type";
    pub const GUARDRAIL_POLICY: &str = "gen_ai.guardrail.security.policy.id";
    pub const GUARDRAIL_SCORE: &str = "gen_ai.guardrail.risk.score";
    pub const ERROR: &str = "error.type";
    pub const STATUS: &str = "http.response.status_code";
    pub const SERVER: &str = "server.address";
}

/// What is known of a request when it is over. No content.
#[derive(Debug)]
pub struct RequestTrace {
    /// The client's span.
    pub parent: Option<TraceParent>,
    pub here: TraceParent,
    pub id: RequestId,
    pub started: Timestamp,
    pub duration: Duration,
    pub method: String,
    pub path: String,
    pub route: &'static str,
    pub status: u16,
    pub error_code: Option<&'static str>,
    pub action: Action,
    pub org_id: Option<OrgId>,
    pub workspace_id: Option<WorkspaceId>,
    pub api_key_id: Option<ApiKeyId>,
    pub dialect: Dialect,
    pub model: Option<String>,
    pub inspection: Option<InspectionTrace>,
    pub upstream: Option<UpstreamTrace>,
}

/// Begin and length of a part of a request, from its start.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub begin: Duration,
    pub length: Duration,
}

#[derive(Debug)]
pub struct InspectionTrace {
    pub stretch: Stretch,
    /// What was decided about the request.
    pub action: Action,
    pub escalated: bool,
    pub risk_score: u8,
    pub policy_id: Option<PolicyId>,
    pub policy: Option<String>,
}

#[derive(Debug)]
pub struct UpstreamTrace {
    pub stretch: Stretch,
    pub name: Arc<str>,
    pub host: String,
    /// None where there was no answer.
    pub status: Option<u16>,
    /// From forwarding to the head of the answer.
    pub first_byte: Option<Duration>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub failed: bool,
}

/// Where finished requests are handed over.
pub struct Traces {
    queue: mpsc::Sender<RequestTrace>,
    dropped: IntCounter,
    /// Of 2^32 traces that begin here, how many are recorded.
    threshold: u64,
}

/// The other end.
pub struct TraceExport {
    queue: mpsc::Receiver<RequestTrace>,
    exporter: SpanExporter,
    dropped: IntCounter,
    scope: InstrumentationScope,
}

impl Traces {
    /// None when no collector is configured.
    ///
    /// # Errors
    /// A collector that cannot be used, with the name of the setting.
    pub fn new(config: &OtlpConfig, dropped: &IntCounter) -> Result<Option<(Arc<Self>, TraceExport)>, String> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(SEND_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| format!("otlp.endpoint: {error}"))?;
        let headers: HashMap<String, String> = config.header_fields().collect();
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(SEND_TIMEOUT)
            .with_headers(headers)
            .build()
            .map_err(|error| format!("otlp.endpoint: {error}"))?;
        let resource = Resource::builder_empty()
            .with_service_name(config.service_name.clone())
            .with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))])
            .build();
        exporter.set_resource(&resource);
        let (queue, receiver) = mpsc::channel(QUEUE);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the ratio is between 0 and 1")]
        let threshold = (config.sample_ratio * 2_f64.powi(32)).round() as u64;
        let scope = InstrumentationScope::builder("sentinel").with_version(env!("CARGO_PKG_VERSION")).build();
        let export = TraceExport { queue: receiver, exporter, dropped: dropped.clone(), scope };
        Ok(Some((Arc::new(Self { queue, dropped: dropped.clone(), threshold }), export)))
    }

    /// Whether a trace that begins here is recorded. The lowest bits of its id are random.
    #[must_use]
    pub fn samples(&self, trace_id: u128) -> bool {
        u64::try_from(trace_id & u128::from(u32::MAX)).is_ok_and(|random| random < self.threshold)
    }

    /// Never waits.
    pub fn tell(&self, request: RequestTrace) {
        if self.queue.try_send(request).is_err() {
            self.dropped.inc();
        }
    }
}

/// The span that the upstream's are below of.
#[must_use]
pub const fn upstream_span(here: u64) -> u64 {
    here ^ 1
}

const fn inspection_span(here: u64) -> u64 {
    here ^ 2
}

impl TraceExport {
    /// Sends until `stop` turns true, and then what is waiting.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut failing = false;
        loop {
            let mut batch = Vec::with_capacity(TOGETHER);
            let stopped = tokio::select! {
                _ = self.queue.recv_many(&mut batch, TOGETHER) => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            if stopped {
                while let Ok(request) = self.queue.try_recv() {
                    batch.push(request);
                }
                if !batch.is_empty() {
                    self.send(batch, &mut failing).await;
                }
                return;
            }
            // Nobody is left who could hand anything over.
            if batch.is_empty() {
                let _ = stop.wait_for(|stop| *stop).await;
                return;
            }
            let more = async {
                while batch.len() < TOGETHER {
                    let room = TOGETHER - batch.len();
                    if self.queue.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(GATHER, more) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            self.send(batch, &mut failing).await;
        }
    }

    async fn send(&self, batch: Vec<RequestTrace>, failing: &mut bool) {
        let requests = batch.len() as u64;
        let spans = batch.into_iter().flat_map(|request| spans(request, &self.scope)).collect();
        match self.exporter.export(spans).await {
            Ok(()) => *failing = false,
            Err(error) => {
                self.dropped.inc_by(requests);
                // Once for an outage; the metric says how much.
                if !std::mem::replace(failing, true) {
                    tracing::warn!(%error, "traces cannot be sent to otlp.endpoint");
                }
            }
        }
    }
}

/// A request's span and those below it.
fn spans(request: RequestTrace, scope: &InstrumentationScope) -> Vec<SpanData> {
    let micros = u64::try_from(request.started.micros()).unwrap_or(0);
    let maker = Maker { started: SystemTime::UNIX_EPOCH + Duration::from_micros(micros), here: request.here, scope };
    let whole = Stretch { begin: Duration::ZERO, length: request.duration };
    let own = Some(request.here.span_id);

    let mut attributes = vec![
        KeyValue::new("http.request.method", request.method.clone()),
        KeyValue::new("url.path", request.path.clone()),
        KeyValue::new("http.route", request.route),
        KeyValue::new(names::STATUS, i64::from(request.status)),
        KeyValue::new("sentinel.request.id", request.id.to_string()),
        KeyValue::new("sentinel.action", request.action.as_str()),
    ];
    let ids = [
        ("sentinel.org.id", request.org_id.map(|id| id.to_string())),
        ("sentinel.workspace.id", request.workspace_id.map(|id| id.to_string())),
        ("sentinel.api_key.id", request.api_key_id.map(|id| id.to_string())),
    ];
    attributes.extend(ids.into_iter().filter_map(|(name, id)| Some(KeyValue::new(name, id?))));
    attributes.extend(request.error_code.map(|code| KeyValue::new(names::ERROR, code)));
    let mut spans = Vec::with_capacity(3);
    let name = format!("{} {}", request.method, request.route);
    let mut span = maker.span(request.here.span_id, None, SpanKind::Server, name, whole, attributes);
    if let Some(parent) = request.parent {
        span.parent_span_id = SpanId::from_bytes(parent.span_id.to_be_bytes());
        span.parent_span_is_remote = true;
    }
    // What a client did wrong is no error of a server.
    if request.status >= 500 {
        span.status = Status::error(request.error_code.unwrap_or_default());
    }
    spans.push(span);

    if let Some(seen) = &request.inspection {
        let attributes = inspected(seen);
        let id = inspection_span(request.here.span_id);
        spans.push(maker.span(id, own, SpanKind::Internal, "run_guardrail sentinel", seen.stretch, attributes));
    }
    if let Some(upstream) = &request.upstream {
        let operation = operation(&request.path);
        let name = match &request.model {
            Some(model) => format!("{operation} {model}"),
            None => operation.to_owned(),
        };
        let failed = upstream.failed;
        let stretch = upstream.stretch;
        let attributes = called(upstream, operation, &request);
        let mut span =
            maker.span(upstream_span(request.here.span_id), own, SpanKind::Client, name, stretch, attributes);
        if failed {
            span.status = Status::error(request.error_code.unwrap_or_default());
        }
        spans.push(span);
    }
    spans
}

fn inspected(seen: &InspectionTrace) -> Vec<KeyValue> {
    let (verdict, action) = match seen.action {
        Action::Allow => ("allow", "allow"),
        Action::Flag => ("warn", "allow"),
        Action::Tokenize | Action::Redact => ("modify", "modify"),
        Action::Block => ("deny", "block"),
    };
    let mut attributes = vec![
        KeyValue::new(names::GUARDRAIL_TARGET, "input"),
        KeyValue::new(names::GUARDRAIL_VERDICT, if seen.escalated { "escalate" } else { verdict }),
        KeyValue::new(names::GUARDRAIL_ACTION, action),
        KeyValue::new(names::GUARDRAIL_SCORE, i64::from(seen.risk_score)),
    ];
    attributes.extend(seen.policy_id.map(|id| KeyValue::new(names::GUARDRAIL_POLICY, id.to_string())));
    attributes.extend(seen.policy.clone().map(|policy| KeyValue::new("sentinel.policy", policy)));
    attributes
}

fn called(upstream: &UpstreamTrace, operation: &'static str, request: &RequestTrace) -> Vec<KeyValue> {
    let provider = match request.dialect {
        Dialect::Openai => "openai",
        Dialect::Anthropic => "anthropic",
        Dialect::Gemini => "gcp.gemini",
        Dialect::Bedrock => "aws.bedrock",
        Dialect::Ollama => "ollama",
    };
    let mut attributes = vec![
        KeyValue::new(names::OPERATION, operation),
        KeyValue::new(names::PROVIDER, provider),
        KeyValue::new(names::SERVER, upstream.host.clone()),
        KeyValue::new("sentinel.upstream", upstream.name.to_string()),
    ];
    attributes.extend(request.model.clone().map(|model| KeyValue::new(names::REQUEST_MODEL, model)));
    attributes.extend(upstream.status.map(|status| KeyValue::new(names::STATUS, i64::from(status))));
    let tokens = [(names::INPUT_TOKENS, upstream.input_tokens), (names::OUTPUT_TOKENS, upstream.output_tokens)];
    attributes
        .extend(tokens.into_iter().filter_map(|(name, count)| Some(KeyValue::new(name, i64::try_from(count?).ok()?))));
    attributes.extend(upstream.first_byte.map(|after| KeyValue::new("sentinel.upstream.ttfb", after.as_secs_f64())));
    if upstream.failed {
        attributes.extend(request.error_code.map(|code| KeyValue::new(names::ERROR, code)));
    }
    attributes
}

/// What the conventions call it.
fn operation(path: &str) -> &'static str {
    const OPERATIONS: [(&str, &str); 14] = [
        ("/chat/completions", "chat"),
        ("/messages", "chat"),
        ("/responses", "chat"),
        ("/converse", "chat"),
        ("/converse-stream", "chat"),
        ("/api/chat", "chat"),
        ("/completions", "text_completion"),
        ("/api/generate", "text_completion"),
        (":generateContent", "generate_content"),
        (":streamGenerateContent", "generate_content"),
        ("/embeddings", "embeddings"),
        ("/api/embed", "embeddings"),
        (":embedContent", "embeddings"),
        ("/api/embeddings", "embeddings"),
    ];
    OPERATIONS.iter().find(|(end, _)| path.ends_with(end)).map_or("other", |(_, operation)| operation)
}

/// What the spans of one request have in common.
struct Maker<'a> {
    started: SystemTime,
    here: TraceParent,
    scope: &'a InstrumentationScope,
}

impl Maker<'_> {
    fn span(
        &self,
        id: u64,
        parent: Option<u64>,
        span_kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        stretch: Stretch,
        attributes: Vec<KeyValue>,
    ) -> SpanData {
        let start_time = self.started + stretch.begin;
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(self.here.trace_id.to_be_bytes()),
                SpanId::from_bytes(id.to_be_bytes()),
                TraceFlags::new(self.here.flags | SAMPLED),
                false,
                TraceState::default(),
            ),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
            parent_span_is_remote: false,
            span_kind,
            name: name.into(),
            start_time,
            end_time: start_time + stretch.length,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(ratio: f64) -> Traces {
        let config =
            OtlpConfig { endpoint: Some("http://127.0.0.1:1".into()), sample_ratio: ratio, ..OtlpConfig::default() };
        let dropped = IntCounter::new("dropped", "requests").unwrap();
        let (traces, _) = Traces::new(&config, &dropped).unwrap().unwrap();
        Arc::into_inner(traces).unwrap()
    }

    #[test]
    fn as_many_traces_are_recorded_as_the_ratio_says() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for (ratio, expected) in [(0.0, 0..1), (1.0, 2000..2001), (0.25, 400..600)] {
            let traces = traces(ratio);
            let recorded = (0..2000).filter(|_| traces.samples(RequestId::new().trace_id())).count();
            assert!(expected.contains(&recorded), "{recorded} of 2000 at {ratio}");
        }
    }

    #[test]
    fn operations_have_the_names_of_the_conventions() {
        for (path, expected) in [
            ("/v1/chat/completions", "chat"),
            ("/v1/completions", "text_completion"),
            ("/v1beta/models/gemini-pro:generateContent", "generate_content"),
            ("/model/m/converse-stream", "chat"),
            ("/v1/embeddings", "embeddings"),
            ("/v1/models", "other"),
        ] {
            assert_eq!(operation(path), expected);
        }
    }
}
