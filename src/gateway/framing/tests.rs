use http::HeaderValue;

use super::*;

const LIMITS: HeadLimits = HeadLimits { headers: 100, bytes: 32 << 10, target: 8 << 10 };

/// Reads a head the way pingora hands it over: content-length gone when there is a transfer coding, a fragment cut off.
fn check_raw(raw: &str) -> Result<(), Fault> {
    let text = raw.replace("\r\n", "\n");
    let mut lines = text.trim_start_matches('\n').lines();
    let mut request = lines.next().unwrap().split(' ');
    let method: Method = request.next().unwrap().parse().unwrap();
    let target = request.next().unwrap().split('#').next().unwrap();
    let version = match request.next() {
        Some("HTTP/1.0") => Version::HTTP_10,
        Some("HTTP/1.1") => Version::HTTP_11,
        _ => Version::HTTP_09,
    };
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':') {
            headers.append(
                name.to_ascii_lowercase().parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.trim().as_bytes()).unwrap(),
            );
        }
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let head = Head {
        version,
        method: &method,
        target: target.as_bytes(),
        authority: None,
        headers: &headers,
        raw: Some(raw.as_bytes()),
    };
    check(&head, &LIMITS)
}

fn check_h2(target: &str, authority: Option<&str>, fields: &[(&'static str, &str)]) -> Result<(), Fault> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let head = Head {
        version: Version::HTTP_2,
        method: &Method::POST,
        target: target.as_bytes(),
        authority,
        headers: &headers,
        raw: None,
    };
    check(&head, &LIMITS)
}

fn post(fields: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn ordinary_heads_pass() {
    for fields in [
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: CHUNKED\r\n",
        "Content-Length: 0\r\nConnection: keep-alive\r\n",
        "Connection: close, TE\r\nTE: trailers\r\nContent-Length: 3\r\n",
        "Expect: 100-continue\r\nContent-Length: 3\r\n",
        "",
    ] {
        assert_eq!(check_raw(&post(fields)), Ok(()), "{fields:?}");
    }
    assert_eq!(check_raw("GET /v1/models?limit=3&after=x HTTP/1.0\r\nHost: a\r\n\r\n"), Ok(()));
    assert_eq!(check_raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(()), "a root path is unknown, not malformed");
    assert_eq!(check_h2("/v1/messages?beta=true", Some("a"), &[("content-length", "3")]), Ok(()));
    assert_eq!(check_h2("/v1/messages", None, &[("host", "a")]), Ok(()));
}

#[test]
fn heads_that_two_parsers_read_in_two_ways_are_refused() {
    let bad = [
        post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        post("Transfer-Encoding: chunked\r\ncontent-LENGTH: 3\r\n"),
        post("Content-Length: 3\r\nContent-Length: 3\r\n"),
        post("Content-Length: 3, 3\r\n"),
        post("Content-Length: +3\r\n"),
        post("Content-Length: 0x3\r\n"),
        post("Content-Length: \r\n"),
        post("Content-Length: 9223372036854775808\r\n"),
        post("Transfer-Encoding: gzip, chunked\r\n"),
        post("Transfer-Encoding: chunked, chunked\r\n"),
        post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        post("Transfer-Encoding: identity\r\n"),
        post("Content-Type: application/json\r\nContent-Type: text/plain\r\n"),
        post("Connection: x-key\r\nX-Key: 1\r\n"),
        post("Connection: close, content-type\r\n"),
        post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"),
        post("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        post("X-A: b\r\n c\r\n"),
        post("X-A: b\nContent-Length: 3\r\n"),
        post("X-A: b\n"),
        "POST /v1/messages HTTP/1.1\nHost: a\n\n".to_owned(),
        format!("\r\n{}", post("Content-Length: 3\r\n")),
        format!("\n{}", post("Content-Length: 3\r\n")),
        "POST http://a/v1/messages HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST /v1/messages HTTP/1.1\r\nContent-Length: 3\r\n\r\n".to_owned(),
        "POST /v1/messages HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
        "POST /v1/messages#x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST /a/../v1/messages HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST //v1/messages HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST /v1/%2e%2e/messages HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST /v1/%2Fmessages HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST /v1\\messages HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST /v1/mess\u{e4}ges HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /v1/models?x=\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "POST /v1/messages HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
    ];
    for raw in &bad {
        assert_eq!(check_raw(raw).map_err(|fault| fault.status), Err(400), "{raw:?}");
    }
    for (target, authority, fields) in [
        ("*", Some("a"), &[][..]),
        ("/v1/../messages", Some("a"), &[]),
        ("/v1/messages", None, &[]),
        ("/v1/messages", Some(""), &[]),
        ("/v1/messages", Some("a"), &[("content-length", "3"), ("content-length", "3")]),
        ("/v1/messages", Some("a"), &[("content-length", "3, 3")]),
        ("/v1/messages", Some("a"), &[("transfer-encoding", "chunked")]),
        ("/v1/messages", Some("a"), &[("connection", "close")]),
    ] {
        assert_eq!(check_h2(target, authority, fields).map_err(|fault| fault.status), Err(400), "{target} {fields:?}");
    }
}

#[test]
fn bounds_have_statuses_of_their_own() {
    let long = format!("GET /v1/models?q={} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9_000));
    assert_eq!(check_raw(&long).unwrap_err().status, 414);
    let many: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(check_raw(&post(&many)).unwrap_err().status, 431);
    let large = format!("X-A: {}\r\n", "a".repeat(40_000));
    assert_eq!(check_raw(&post(&large)).unwrap_err().status, 431);
    let large = "a".repeat(40_000);
    assert_eq!(check_h2("/v1/messages", Some("a"), &[("x-a", &large)]).unwrap_err().status, 431);
    assert_eq!(check_raw(&post("Expect: tea\r\n")).unwrap_err().status, 417);
    assert_eq!(check_raw("GET /v1/models\r\n\r\n").unwrap_err().status, 505);
}

#[test]
fn an_upgrade_is_refused_by_its_name() {
    let fault = check_raw(&post("Connection: Upgrade\r\nUpgrade: websocket\r\n")).unwrap_err();
    assert_eq!(fault.code, "upgrade_not_supported");
}
