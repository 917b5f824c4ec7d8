//! Upstreams with several addresses, and those that take over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use parking_lot::Mutex;
use sentinel::config::{Balance, Config, UpstreamConfig};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{Sentinel, TestDatabase, chat_body, register, reply};

/// A server that an upstream may consist of.
struct Node {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

struct Seen {
    status: AtomicU16,
    retry_after: Mutex<Option<&'static str>>,
    requests: AtomicUsize,
    checks: AtomicUsize,
    /// Head of the last request.
    last: Mutex<Option<http::request::Parts>>,
    /// One permit lets one request be answered.
    gate: Semaphore,
}

impl Node {
    async fn start() -> Self {
        let seen = Arc::new(Seen {
            status: AtomicU16::new(200),
            retry_after: Mutex::default(),
            requests: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
            last: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer).with_state(seen.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, task }
    }

    fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::Relaxed)
    }

    fn answers(&self, status: u16, retry_after: Option<&'static str>) {
        self.seen.status.store(status, Ordering::Relaxed);
        *self.seen.retry_after.lock() = retry_after;
    }

    fn at(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    let status = seen.status.load(Ordering::Relaxed);
    if request.uri().path() == "/health" {
        seen.checks.fetch_add(1, Ordering::Relaxed);
        return Response::builder().status(status).body("".into()).unwrap();
    }
    seen.requests.fetch_add(1, Ordering::Relaxed);
    *seen.last.lock() = Some(request.into_parts().0);
    seen.gate.acquire().await.unwrap().forget();
    let mut answer = Response::builder().status(status).header("content-type", "application/json");
    if let Some(pause) = *seen.retry_after.lock() {
        answer = answer.header("retry-after", pause);
    }
    answer.body(json!({"choices": []}).to_string().into()).unwrap()
}

/// An address where nobody listens.
fn nobody() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn start(change: impl FnOnce(&mut Config)) -> Sentinel {
    Sentinel::start_with(TestDatabase::sqlite().await, change).await
}

fn openai(config: &mut Config) -> &mut UpstreamConfig {
    config.upstreams.get_mut("openai").unwrap()
}

async fn metric(sentinel: &Sentinel, line: &str) -> f64 {
    let text = sentinel.client.get(format!("{}/metrics", sentinel.admin_url())).send().await.unwrap();
    let text = text.text().await.unwrap();
    let value = text.lines().find_map(|found| found.strip_prefix(line)).unwrap_or("0");
    value.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spread_and_a_dead_address_costs_no_request() {
    let (a, b) = (Node::start().await, Node::start().await);
    let dead = nobody();
    let sentinel = start(|config| {
        let upstream = openai(config);
        upstream.url = "http://provider.invalid/base".to_owned();
        upstream.addresses = vec![a.at(), dead, b.at()];
        upstream.eject_after = std::num::NonZeroU32::new(2);
        upstream.eject_for = Some("1h".parse().unwrap());
    })
    .await;
    for _ in 0..12 {
        sentinel.chat("hello").await.expect(200);
    }
    assert_eq!(a.requests() + b.requests(), 12);
    assert!(a.requests() >= 4 && b.requests() >= 4, "{} and {}", a.requests(), b.requests());
    let last = a.seen.last.lock().take().unwrap();
    assert_eq!(
        (last.headers["host"].to_str().unwrap(), last.uri.path()),
        ("provider.invalid", "/base/v1/chat/completions")
    );
    assert_eq!(metric(&sentinel, "sentinel_upstream_ejections_total{provider=\"openai\"}").await, 1.0);
    assert_eq!(metric(&sentinel, "sentinel_upstream_errors_total{kind=\"connect\",provider=\"openai\"}").await, 2.0);
    assert!(metric(&sentinel, "sentinel_upstream_connect_seconds_count{provider=\"openai\"}").await >= 2.0);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_answered_is_not_sent_again_and_a_server_that_is_unavailable_is_left_out() {
    let (bad, good) = (Node::start().await, Node::start().await);
    bad.answers(503, None);
    let sentinel = start(|config| {
        let upstream = openai(config);
        upstream.addresses = vec![bad.at(), good.at()];
        upstream.eject_after = std::num::NonZeroU32::new(3);
        upstream.eject_for = Some("1h".parse().unwrap());
    })
    .await;
    let mut failed = 0;
    for _ in 0..20 {
        match sentinel.chat("hello").await.status {
            200 => {}
            503 => failed += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!((failed, bad.requests(), good.requests()), (3, 3, 17));
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_organization_provokes_takes_no_address_from_others() {
    let (bad, good) = (Node::start().await, Node::start().await);
    bad.answers(500, None);
    let sentinel = start(|config| {
        let upstream = openai(config);
        upstream.addresses = vec![bad.at(), good.at()];
        upstream.eject_after = std::num::NonZeroU32::new(2);
        upstream.eject_for = Some("1h".parse().unwrap());
    })
    .await;
    let ask = async |key: &str| {
        let request = sentinel.client.post(format!("{}/v1/chat/completions", sentinel.gateway_url()));
        reply(request.header("x-api-key", key).json(&chat_body("hello"))).await.status
    };
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(ask(&sentinel.tenant.key).await == 500);
    }
    assert_eq!((failed, bad.requests()), (10, 10), "it goes on to have its turn");
    // Seen by two organizations in turn, it is the server's fault.
    let other = register(&sentinel.client, &sentinel.admin_url(), "Other", "other@sentinel.test").await;
    let mut failed = 0;
    for turn in 0..24 {
        let key = if turn / 2 % 2 == 0 { &other.key } else { &sentinel.tenant.key };
        failed += usize::from(ask(key).await == 500);
    }
    assert_eq!((failed, bad.requests()), (2, 12));
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_may_be_a_date() {
    let (a, b) = (Node::start().await, Node::start().await);
    // The year in which RFC 9110's two digits for one end.
    a.answers(503, Some("Fri, 31 Dec 2049 23:59:59 GMT"));
    let sentinel = start(|config| {
        openai(config).addresses = vec![a.at(), b.at()];
        // What counts is the date, not the failure.
        openai(config).eject_after = std::num::NonZeroU32::new(100);
    })
    .await;
    for _ in 0..10 {
        sentinel.chat("hello").await;
    }
    assert_eq!((a.requests(), b.requests()), (1, 9));
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_takes_longer_than_its_total_timeout_is_given_up() {
    let node = Node::start().await;
    node.seen.gate.forget_permits(Semaphore::MAX_PERMITS);
    let sentinel = start(|config| {
        openai(config).url = format!("http://{}", node.address);
        openai(config).total_timeout = Some("100ms".parse().unwrap());
    })
    .await;
    let answer = sentinel.chat("hello").await.expect(504);
    assert_eq!(answer.json()["error"]["code"], "upstream_timeout", "{}", answer.text);
    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    assert_eq!((row.outcome.as_deref(), row.status), (Some("upstream_failed"), Some(504)), "{row:?}");
    assert_eq!(metric(&sentinel, "sentinel_upstream_errors_total{kind=\"timeout\",provider=\"openai\"}").await, 1.0);
    sentinel.stop().await;
}

/// Answers each request with a stream that never ends.
async fn drips() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(async || {
        let events = futures_util::stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a \"}}]}\n\n";
            Some((Ok::<_, std::convert::Infallible>(event), ()))
        });
        let body = axum::body::Body::from_stream(events);
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_drips_ends_with_an_error_event_at_its_total_timeout() {
    let address = drips().await;
    let sentinel = start(|config| {
        openai(config).url = format!("http://{address}");
        openai(config).total_timeout = Some("300ms".parse().unwrap());
    })
    .await;
    let answer = sentinel.chat("hello").await.expect(200);
    assert!(answer.text.contains("\"a \""), "{}", answer.text);
    assert!(answer.text.contains("\"error\"") && answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    assert_eq!(row.outcome.as_deref(), Some("upstream_failed"), "{row:?}");
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_stays_with_its_address() {
    let nodes = [Node::start().await, Node::start().await, Node::start().await];
    let sentinel = start(|config| {
        openai(config).addresses = nodes.iter().map(Node::at).collect();
        openai(config).balance = Balance::ConsistentHash;
    })
    .await;
    for _ in 0..9 {
        sentinel.chat("hello").await.expect(200);
    }
    let mut counts: Vec<usize> = nodes.iter().map(Node::requests).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 9]);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_passed_on_and_the_address_spared_while_there_is_another() {
    let (a, b) = (Node::start().await, Node::start().await);
    a.answers(503, Some("120"));
    let sentinel = start(|config| openai(config).addresses = vec![a.at(), b.at()]).await;
    let mut told = 0;
    for _ in 0..10 {
        let answer = sentinel.chat("hello").await;
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), "120");
            told += 1;
        }
    }
    assert_eq!((told, a.requests(), b.requests()), (1, 1, 9));
    // Nobody else is left: what it says is passed on.
    b.answers(503, Some("130"));
    for _ in 0..3 {
        sentinel.chat("hello").await.expect(503);
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_counts_for_all_only_under_the_operators_own_credential() {
    for (key, first) in [(Some("sk-operator"), 1), (None, 5)] {
        let (a, b) = (Node::start().await, Node::start().await);
        a.answers(429, Some("120"));
        let sentinel = start(|config| {
            openai(config).addresses = vec![a.at(), b.at()];
            openai(config).api_key = key.map(|key| key.to_owned().into());
        })
        .await;
        for _ in 0..10 {
            sentinel.chat("hello").await;
        }
        assert_eq!((a.requests(), b.requests()), (first, 10 - first), "{key:?}");
        sentinel.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_upstream_takes_over_with_its_own_credential_and_path() {
    let spare = Node::start().await;
    let dead = nobody();
    let sentinel = start(|config| {
        let mut other =
            UpstreamConfig::new(sentinel::domain::Dialect::Gemini, format!("http://{}/spare", spare.address));
        other.api_key = Some("the spare's key".to_owned().into());
        config.upstreams.insert("spare".to_owned(), other);
        let upstream = config.upstreams.get_mut("gemini").unwrap();
        upstream.url = format!("http://{dead}/first");
        upstream.fallback = vec!["spare".to_owned()];
        upstream.eject_after = std::num::NonZeroU32::new(2);
        upstream.eject_for = Some("1h".parse().unwrap());
    })
    .await;
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}).to_string();
    for turn in 0..3 {
        let request = sentinel
            .request("/v1beta/models/gemini-pro:generateContent?key=the-clients-key&alt=json")
            .header("authorization", "Bearer the client's own");
        let answer = reply(request.body(body.clone())).await.expect(200);
        let last = spare.seen.last.lock().take().unwrap();
        assert_eq!(last.uri.to_string(), "/spare/v1beta/models/gemini-pro:generateContent?alt=json", "{turn}");
        assert_eq!(last.headers["x-goog-api-key"], "the spare's key");
        assert!(last.headers.get("authorization").is_none(), "{:?}", last.headers);
        let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
        assert_eq!(row.outcome.as_deref(), Some("completed"), "{row:?}");
        // What was known when it was recorded: before the first connection failed, or that the first address was out.
        let chosen = if turn == 0 { "gemini" } else { "spare" };
        assert_eq!(row.upstream.as_deref(), Some(chosen), "{turn}: {row:?}");
    }
    assert_eq!(metric(&sentinel, "sentinel_upstream_fallbacks_total{provider=\"gemini\"}").await, 3.0);
    // From the second on nobody is tried at the address that is out.
    assert_eq!(metric(&sentinel, "sentinel_upstream_errors_total{kind=\"connect\",provider=\"gemini\"}").await, 2.0);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nowhere_left_to_go_the_client_is_told_502() {
    let (dead, other) = (nobody(), nobody());
    let sentinel = start(|config| {
        let spare = UpstreamConfig::new(sentinel::domain::Dialect::Openai, format!("http://{other}"));
        config.upstreams.insert("spare".to_owned(), spare);
        openai(config).url = format!("http://{dead}");
        openai(config).fallback = vec!["spare".to_owned()];
    })
    .await;
    for _ in 0..4 {
        let answer = sentinel.chat("hello").await.expect(502);
        assert_eq!(answer.json()["error"]["code"], "upstream_failed", "{}", answer.text);
        let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
        assert_eq!(row.outcome.as_deref(), Some("upstream_failed"), "{row:?}");
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_to_take_over_a_request_goes_on_as_it_came() {
    let node = Node::start().await;
    node.answers(502, None);
    let sentinel = start(|config| {
        let spare = UpstreamConfig::new(sentinel::domain::Dialect::Openai, "http://spare.invalid");
        config.upstreams.insert("spare".to_owned(), spare);
        openai(config).url = format!("http://{}", node.address);
        openai(config).fallback = vec!["spare".to_owned()];
        openai(config).eject_after = std::num::NonZeroU32::new(1);
        openai(config).eject_for = Some("1h".parse().unwrap());
    })
    .await;
    for _ in 0..2 {
        let request = sentinel.request("/v1/chat/completions").header("authorization", "Bearer the client's own");
        reply(request.body(chat_body("hello").to_string())).await.expect(502);
        let last = node.seen.last.lock().take().unwrap();
        assert_eq!(last.headers["authorization"], "Bearer the client's own");
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_under_way_than_the_operator_allows() {
    let node = Node::start().await;
    let sentinel = start(|config| {
        openai(config).url = format!("http://{}", node.address);
        openai(config).max_concurrent = std::num::NonZeroUsize::new(1);
    })
    .await;
    node.seen.gate.forget_permits(Semaphore::MAX_PERMITS);
    let first = tokio::spawn(reply(sentinel.request("/v1/chat/completions").body(chat_body("hello").to_string())));
    while node.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(metric(&sentinel, "sentinel_upstream_requests_in_flight{provider=\"openai\"}").await, 1.0);
    let second = sentinel.chat("hello").await.expect(429);
    assert_eq!(second.json()["error"]["code"], "rate_limit_exceeded", "{}", second.text);
    assert_eq!(second.header("retry-after"), "1");
    node.seen.gate.add_permits(10);
    first.await.unwrap().expect(200);
    sentinel.chat("hello").await.expect(200);
    assert_eq!(node.requests(), 2);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_place_goes_to_the_fallback() {
    let (node, spare) = (Node::start().await, Node::start().await);
    let sentinel = start(|config| {
        let other = UpstreamConfig::new(sentinel::domain::Dialect::Openai, format!("http://{}", spare.address));
        config.upstreams.insert("spare".to_owned(), other);
        openai(config).url = format!("http://{}", node.address);
        openai(config).fallback = vec!["spare".to_owned()];
        openai(config).max_concurrent = std::num::NonZeroUsize::new(1);
    })
    .await;
    node.seen.gate.forget_permits(Semaphore::MAX_PERMITS);
    let first = tokio::spawn(reply(sentinel.request("/v1/chat/completions").body(chat_body("hello").to_string())));
    while node.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sentinel.chat("hello").await.expect(200);
    node.seen.gate.add_permits(1);
    first.await.unwrap().expect(200);
    assert_eq!((node.requests(), spare.requests()), (1, 1));
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_whose_health_check_fails_is_left_out_until_it_is_well() {
    let (a, b) = (Node::start().await, Node::start().await);
    a.answers(500, None);
    let sentinel = start(|config| {
        let upstream = openai(config);
        upstream.addresses = vec![a.at(), b.at()];
        upstream.health_path = Some("/health".to_owned());
        upstream.health_interval = Some("20ms".parse().unwrap());
    })
    .await;
    let checked = async |count: usize| {
        let until = a.seen.checks.load(Ordering::Relaxed) + count;
        while a.seen.checks.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    checked(4).await;
    for _ in 0..6 {
        sentinel.chat("hello").await.expect(200);
    }
    assert_eq!((a.requests(), b.requests()), (0, 6));
    a.answers(200, None);
    checked(2).await;
    for _ in 0..6 {
        sentinel.chat("hello").await.expect(200);
    }
    assert!(a.requests() >= 2, "{}", a.requests());
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_resolved_before_the_first_request() {
    let node = Node::start().await;
    let sentinel = start(|config| openai(config).url = format!("http://localhost:{}", node.address.port())).await;
    sentinel.chat("hello").await.expect(200);
    assert_eq!(node.requests(), 1);
    sentinel.stop().await;
}
