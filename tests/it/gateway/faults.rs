//! What goes wrong: a clear answer, an audit row, no panic, and a connection that can be used again where HTTP allows it.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::support::raw::{RawConnection, exchange};
use crate::support::{Reply, Sentinel, chat_body, reply};

async fn refused(sentinel: &Sentinel, answer: Reply, status: u16, code: &str, outcome: &str) {
    let answer = answer.expect(status);
    assert_eq!(answer.json()["error"]["code"], code, "{}", answer.text);
    assert!(!answer.json()["error"]["message"].as_str().unwrap().is_empty());
    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    assert_eq!(row.outcome.as_deref(), Some(outcome), "{row:?}");
    assert_eq!(row.status, Some(i64::from(status)), "{row:?}");
    assert_eq!(row.error_code.as_deref(), Some(code), "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_refused_whatever_header_they_come_in() {
    let sentinel = Sentinel::start_sqlite().await;
    let url = format!("{}/v1/chat/completions", sentinel.gateway_url());
    let body = chat_body("hello").to_string();
    let ask =
        |name: &'static str, value: String| reply(sentinel.client.post(&url).header(name, value).body(body.clone()));
    let good = sentinel.tenant.key.clone();
    let other = if good.ends_with('x') { "y" } else { "x" };
    let mistyped = format!("{}{other}", &good[..good.len() - 1]);
    for (name, value) in [
        ("x-api-key", String::new()),
        ("x-api-key", "sk-something-else".to_owned()),
        ("x-api-key", mistyped.clone()),
        ("authorization", format!("Bearer {mistyped}")),
        ("authorization", format!("Basic {good}")),
        ("x-sentinel-key", "snt_live_".to_owned()),
    ] {
        refused(&sentinel, ask(name, value).await, 401, "invalid_api_key", "refused").await;
    }
    for (name, value) in
        [("x-sentinel-key", good.clone()), ("x-api-key", good.clone()), ("authorization", format!("Bearer {good}"))]
    {
        ask(name, value).await.expect(200);
    }
    // A well-formed key that nobody was given.
    let unknown = sentinel::authn::ApiKeySecret::generate(true);
    refused(&sentinel, ask("x-api-key", unknown.expose().to_owned()).await, 401, "invalid_api_key", "refused").await;
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_are_refused_and_the_connection_lives_on() {
    let sentinel = Sentinel::start_sqlite().await;
    let mut connection = RawConnection::open(sentinel.gateway()).await;
    let key = sentinel.tenant.key.clone();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(chat_body("hello").to_string().as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let mut torn = gzip.clone();
    torn.truncate(gzip.len() - 6);
    let broken: &[(&str, &str, &[u8])] = &[
        ("application/json", "", b"{\"model\":"),
        ("application/json", "", b"{\"model\":\"m\",\"model\":\"n\"}"),
        ("application/json", "", b"{\"model\":\"\xff\"}"),
        ("application/json", "", b"{\"model\":\"m\"} trailing"),
        ("application/json", "", b"{\"model\":\"\\ud800\"}"),
        ("application/json", "", b"{'model':'m'}"),
        ("application/json", "gzip", b"this is not gzip"),
        ("application/json", "gzip", &torn),
        ("application/json", "snappy", b"{}"),
        ("multipart/form-data; boundary=x", "", b"--x\r\n\r\n\xff\xfe\r\n--x--\r\n"),
    ];
    for (kind, coding, body) in broken {
        let coding = if coding.is_empty() { String::new() } else { format!("content-encoding: {coding}\r\n") };
        let mut bytes = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: sentinel.test\r\nx-api-key: {key}\r\ncontent-type: {kind}\r\n{coding}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        connection.write(&bytes).await;
        let answer = connection.reply().await.unwrap_or_else(|| panic!("the connection was closed before {body:?}"));
        assert!(matches!(answer.status, 400 | 415), "{}: {}", answer.status, answer.text());
        assert!(answer.json()["error"]["code"].is_string(), "{}", answer.text());
        let row = sentinel.audit_row_anywhere(answer.header("x-request-id").unwrap()).await;
        assert_eq!(row.outcome.as_deref(), Some("refused"), "{row:?}");
    }
    assert_eq!(sentinel.provider.requests(), 0);

    // Nesting beyond the bound.
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    sentinel.post("/v1/chat/completions", deep).await.expect(400);

    // A bomb: 200 MB of blanks in some 200 KB.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..200 {
        encoder.write_all(&blanks).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let request = sentinel.request("/v1/chat/completions").header("content-encoding", "gzip").body(bomb);
    refused(&sentinel, reply(request).await, 413, "request_too_large", "refused").await;
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused_with_413_that_the_client_gets_to_read() {
    let sentinel = Sentinel::start_with(crate::support::TestDatabase::sqlite().await, |config| {
        config.gateway.max_request_body = "1MiB".parse().unwrap();
    })
    .await;
    let large = chat_body(&"a ".repeat(1 << 20)).to_string();
    refused(&sentinel, sentinel.post("/v1/chat/completions", large.clone()).await, 413, "request_too_large", "refused")
        .await;
    // Without a declared length it is counted.
    let chunk = format!("{:x}\r\n{}\r\n", large.len(), large);
    let bytes = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sentinel.test\r\nx-api-key: {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n",
        sentinel.tenant.key
    );
    let answer = exchange(sentinel.gateway(), bytes.as_bytes()).await.expect("an answer");
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(sentinel.provider.requests(), 0);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_100_continue_is_answered_and_the_connection_kept() {
    let sentinel = Sentinel::start_sqlite().await;
    let mut connection = RawConnection::open(sentinel.gateway()).await;
    for _ in 0..2 {
        let body = chat_body("hello").to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: sentinel.test\r\nx-api-key: {}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            sentinel.tenant.key,
            body.len()
        );
        connection.write(head.as_bytes()).await;
        assert_eq!(connection.reply().await.expect("100").status, 100);
        connection.write(body.as_bytes()).await;
        assert_eq!(connection.reply().await.expect("the answer").status, 200);
    }
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_midway_is_recorded() {
    let sentinel = Sentinel::start_sqlite().await;
    let mut connection = RawConnection::open(sentinel.gateway()).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sentinel.test\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{\"model\"",
        sentinel.tenant.key
    );
    connection.write(head.as_bytes()).await;
    drop(connection);
    let row = sentinel.database.wait_for_row("outcome = 'client_closed'").await;
    assert_eq!(row.status, Some(499), "{row:?}");
    assert_eq!(sentinel.provider.requests(), 0);
    sentinel.chat("still there?").await.expect(200);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_slow_or_breaks_off_gives_a_clear_answer_and_a_row() {
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut sentinel = Sentinel::start_with(crate::support::TestDatabase::sqlite().await, |config| {
        config.upstreams.get_mut("ollama").unwrap().url = format!("http://{down}");
        config.upstreams.get_mut("openai").unwrap().read_timeout = "500ms".parse().unwrap();
    })
    .await;
    // An answer that broke off is the last on its connection, which a client with a pool may learn too late.
    sentinel.client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let ollama = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).to_string();
    let answer = sentinel.post("/api/chat", ollama).await.expect(502);
    assert!(answer.json()["error"].is_string() || answer.json()["error"]["message"].is_string(), "{}", answer.text);
    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    assert_eq!(row.outcome.as_deref(), Some("upstream_failed"), "{row:?}");

    let mode =
        |mode: &str| json!({"model": format!("mock:{mode}"), "messages": [{"role": "user", "content": "hello"}]});
    for (behaviour, status, outcome) in [
        ("hang", 504, "upstream_failed"),
        ("close", 502, "upstream_failed"),
        ("status:500", 500, "completed"),
        ("status:429", 429, "completed"),
    ] {
        let answer = sentinel.post("/v1/chat/completions", mode(behaviour).to_string()).await;
        assert_eq!(answer.status, status, "{behaviour}: {}", answer.text);
        let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
        assert_eq!(row.outcome.as_deref(), Some(outcome), "{behaviour}: {row:?}");
        if status == 429 {
            assert_eq!(answer.header("retry-after"), "7", "the upstream's own answer passes unchanged");
        }
    }

    // Broken off in the middle of a stream: an error event and a proper end, never a bare cut.
    let mut body = mode("cut");
    body["stream"] = true.into();
    let answer = sentinel.post("/v1/chat/completions", body.to_string()).await.expect(200);
    assert!(answer.text.contains("\"error\"") && answer.text.trim_end().ends_with("data: [DONE]"), "{}", answer.text);
    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    assert_eq!(row.outcome.as_deref(), Some("upstream_failed"), "{row:?}");
    let mut body = mode("cut");
    body["stream"] = true.into();
    body["max_tokens"] = 9.into();
    let answer = sentinel.post("/v1/messages", body.to_string()).await.expect(200);
    assert!(answer.text.contains("event: error"), "{}", answer.text);

    // An upstream that compresses although it was not asked to.
    let answer = sentinel.post("/v1/chat/completions", mode("gzip").to_string()).await.expect(200);
    assert!(answer.text.contains("hello"), "{}", answer.text);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_answered_in_the_dialects_shape() {
    let sentinel = Sentinel::start_sqlite().await;
    let answer = sentinel.post("/v1/unknown", "{}").await.expect(404);
    assert!(answer.json()["error"]["message"].is_string(), "{}", answer.text);
    let url = format!("{}/v1/chat/completions", sentinel.gateway_url());
    let answer = reply(sentinel.client.delete(url).header("x-api-key", &sentinel.tenant.key)).await.expect(405);
    assert!(answer.header("allow").contains("POST"));
    assert_eq!(sentinel.provider.requests(), 0);
    sentinel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_with_503_and_says_so_in_health() {
    let sentinel = Sentinel::start_with(crate::support::TestDatabase::sqlite().await, |config| {
        config.audit.max_backlog = "32KiB".parse().unwrap();
        config.audit.segment_size = "64KiB".parse().unwrap();
    })
    .await;
    // Sooner or later the burst is faster than the shipper; no request is answered without its record.
    let mut refused = None;
    for _ in 0..400 {
        let answers = futures_util::future::join_all((0..8).map(|_| sentinel.chat("hello"))).await;
        refused = answers.into_iter().find(|answer| answer.status == 503);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("a burst beyond the backlog is refused");
    assert_eq!(refused.json()["error"]["code"], "guard_unavailable");
    assert!(!refused.header("retry-after").is_empty());
    // And it recovers by itself.
    let begun = std::time::Instant::now();
    while sentinel.chat("hello").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sentinel.stop().await;
}
