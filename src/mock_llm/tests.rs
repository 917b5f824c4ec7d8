use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn post(mock: &MockLlm, path: &str, body: &Value) -> reqwest::Response {
    client().post(format!("{}{path}", mock.url())).json(body).send().await.unwrap()
}

async fn answer(mock: &MockLlm, path: &str, body: Value) -> Value {
    let response = post(mock, path, &body).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

fn chat(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": text}]})
}

/// The `data:` values of a stream of events, and their event names.
fn events(text: &str) -> Vec<(Option<&str>, &str)> {
    let blocks = text.split("\n\n").filter(|block| !block.is_empty());
    blocks
        .map(|block| {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            (field("event: "), field("data: ").unwrap())
        })
        .collect()
}

#[tokio::test]
async fn every_dialect_echoes_the_last_words_of_the_user() {
    let mock = MockLlm::start().await.unwrap();
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "you"}]}]);
    for (path, body, pointer, expected) in [
        ("/v1/chat/completions", chat("hé"), "/choices/0/message/content", "You said: hé"),
        ("/v1/chat/completions", json!({"messages": parts}), "/choices/0/message/content", "You said: hi you"),
        ("/v1/responses", json!({"input": "hi"}), "/output/0/content/0/text", "You said: hi"),
        ("/v1/messages", json!({"max_tokens": 9, "messages": parts}), "/content/0/text", "You said: hi you"),
        ("/api/chat", json!({"stream": false, "messages": parts}), "/message/content", "You said: hi you"),
        ("/api/generate", json!({"stream": false, "prompt": "hi"}), "/response", "You said: hi"),
        (
            "/v1beta/models/m:generateContent",
            json!({"contents": [{"parts": [{"text": "hi"}]}]}),
            "/candidates/0/content/parts/0/text",
            "You said: hi",
        ),
        (
            "/model/m/converse",
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
            "/output/message/content/0/text",
            "You said: hi",
        ),
    ] {
        let answer = answer(&mock, path, body).await;
        assert_eq!(answer.pointer(pointer).and_then(Value::as_str), Some(expected), "{path}: {answer}");
    }
    assert_eq!(mock.requests(), 8);
    assert_eq!(answer(&mock, "/v1/messages/count_tokens", json!({"messages": parts})).await["input_tokens"], 2);
    let vector = answer(&mock, "/v1/embeddings", json!({"input": ["a", "b"]})).await;
    assert_eq!(vector["data"][1]["embedding"].as_array().unwrap().len(), 8);
    assert_eq!(post(&mock, "/v1/nothing", &json!({})).await.status(), 404);
}

#[tokio::test]
async fn a_chat_stream_ends_with_usage_and_done() {
    let mock = MockLlm::start().await.unwrap();
    let mut body = chat("one two");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let response = post(&mock, "/v1/chat/completions", &body).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = response.text().await.unwrap();
    let events = events(&text);
    assert_eq!(events.last().unwrap().1, "[DONE]");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    let said: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "You said: one two");
    assert!(chunks.last().unwrap()["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_message_stream_has_the_whole_sequence_of_events() {
    let mock = MockLlm::start().await.unwrap();
    let body = json!({"max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let text = post(&mock, "/v1/messages", &body).await.text().await.unwrap();
    let mut names: Vec<_> = events(&text)
        .into_iter()
        .map(|(name, data)| {
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"].as_str(), name, "the SDK reads both");
            name.unwrap()
        })
        .collect();
    names.dedup();
    let expected = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn bodies_and_headers_are_recorded_as_they_came() {
    let mock = MockLlm::start().await.unwrap();
    let mut stream = TcpStream::connect(mock.address).await.unwrap();
    let request = b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: m\r\nX-Odd: a  b\r\nTransfer-Encoding: chunked\r\n\
        Connection: close\r\n\r\n5\r\n{\"a\" \r\n4\r\n: 1}\r\n0\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(mock.last_body().unwrap(), &b"{\"a\" : 1}"[..]);
    assert_eq!(mock.last_headers().unwrap()["x-odd"], "a  b");
    assert_eq!(mock.last().unwrap().target, "/v1/chat/completions?x=1");

    mock.forget();
    mock.set_recording(false);
    post(&mock, "/v1/chat/completions", &chat("x")).await;
    assert_eq!((mock.requests(), mock.recorded().len(), mock.connections()), (2, 0, 2));
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let mock = MockLlm::start().await.unwrap();
    for framing in ["Content-Length: 2\r\nContent-Length: 3\r\n", "Transfer-Encoding: chunked, gzip\r\n"] {
        let mut stream = TcpStream::connect(mock.address).await.unwrap();
        let request = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: m\r\n{framing}\r\n{{}}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{framing}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(mock.recorded().len(), 0);
}

#[tokio::test]
async fn it_misbehaves_as_it_is_told() {
    let mock = MockLlm::start().await.unwrap();
    let url = format!("{}/v1/chat/completions", mock.url());
    let ask = |mode: &'static str| client().post(&url).header("x-mock", mode).json(&chat("hello")).send();

    assert!(ask("close").await.is_err());

    let cut = ask("cut").await.unwrap();
    assert!(cut.content_length().unwrap() > 0);
    assert!(cut.bytes().await.is_err(), "the body ends before its length");

    let refused = ask("status:429").await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(ask("status:500").await.unwrap().status(), 500);
    assert_eq!(ask("nonsense").await.unwrap().status(), 400);

    let zipped = ask("gzip").await.unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    let mut text = String::new();
    let bytes = zipped.bytes().await.unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bytes), &mut text).unwrap();
    assert!(text.contains("You said: hello"));

    let long = ask("stream:3000000").await.unwrap().bytes().await.unwrap();
    assert!(long.len() >= 3_000_000 && long.ends_with(b"data: [DONE]\n\n"));

    assert_eq!(ask("delay:1").await.unwrap().status(), 200);
    let hanging = tokio::spawn(ask("hang"));
    let before = mock.requests();
    while mock.requests() == before {
        tokio::task::yield_now().await;
    }
    assert!(!hanging.is_finished());
    drop(mock);
    assert!(hanging.await.unwrap().is_err(), "dropped, the mock closes its connections");
}

#[tokio::test]
async fn a_cut_stream_has_no_end() {
    let mock = MockLlm::start().await.unwrap();
    let mut stream = TcpStream::connect(mock.address).await.unwrap();
    let body = r#"{"model":"mock:cut","stream":true,"messages":[{"role":"user","content":"one two three"}]}"#;
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: m\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("You ") && !answer.contains("[DONE]") && !answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn the_mode_for_all_requests_yields_to_the_requests_own() {
    let mock = MockLlm::start().await.unwrap();
    mock.behave(Mode::Status(StatusCode::BAD_GATEWAY));
    assert_eq!(post(&mock, "/v1/chat/completions", &chat("x")).await.status(), 502);
    let mut own = chat("x");
    own["model"] = json!("mock:well");
    assert_eq!(post(&mock, "/v1/chat/completions", &own).await.status(), 200);
}
