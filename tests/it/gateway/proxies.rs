//! Whose address is taken for the client's where proxies stand before the faces.

use reqwest::Method;
use serde_json::json;

use crate::support::{Reply, Sentinel, TestDatabase, on_both_engines, reply};

on_both_engines! {
    the_client_is_who_trusted_proxies_say
    log_ins_are_slowed_down_by_the_clients_address
}

/// The address in the row of a chat that came with these header fields.
async fn recorded(sentinel: &Sentinel, fields: &[(&str, &str)]) -> serde_json::Value {
    let mut request = sentinel.request("/v1/chat/completions");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = reply(request.body(crate::support::chat_body("hello").to_string())).await.expect(200);
    let id = answer.header("x-request-id");
    sentinel.audit_row_anywhere(id).await;
    let hex = id.strip_prefix("req_").unwrap();
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    let row = sentinel.admin(Method::GET, &format!("/audit-logs/{id}"), None).await.expect(200).json();
    assert!(sentinel.provider.last_headers().unwrap().get("x-forwarded-for").is_none());
    row["client_ip"].clone()
}

async fn the_client_is_who_trusted_proxies_say(database: TestDatabase) {
    let sentinel = Sentinel::start_with(database, |config| {
        config.gateway.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap(), "10.1.0.0/16".parse().unwrap()];
    })
    .await;
    for (fields, expected) in [
        (&[][..], "127.0.0.1"),
        (&[("x-forwarded-for", "203.0.113.7")], "203.0.113.7"),
        (&[("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.1.2.3")], "203.0.113.7"),
        (&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
        (&[("forwarded", "for=6.6.6.6"), ("x-real-ip", "6.6.6.6")], "127.0.0.1"),
    ] {
        assert_eq!(recorded(&sentinel, fields).await, expected, "{fields:?}");
    }
    sentinel.stop().await;

    let sentinel = Sentinel::start_with(TestDatabase::sqlite().await, |_| {}).await;
    assert_eq!(recorded(&sentinel, &[("x-forwarded-for", "6.6.6.6")]).await, "127.0.0.1", "nobody is trusted unasked");
    sentinel.stop().await;
}

async fn log_ins_are_slowed_down_by_the_clients_address(database: TestDatabase) {
    let sentinel = Sentinel::start_with(database, |config| {
        config.admin.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        config.admin.forwarded_header = sentinel::domain::ForwardedHeader::Forwarded;
        config.auth.failures_per_address = 3;
    })
    .await;
    let guess = async |number: usize, forwarded: &str| -> Reply {
        let body = json!({"email": format!("nobody-{number}@nowhere.example"), "password": "a wrong guess"});
        let request = sentinel.client.post(format!("{}/auth/login", sentinel.admin_url()));
        reply(request.header("forwarded", forwarded).json(&body)).await
    };
    for number in 0..3 {
        guess(number, "for=198.51.100.9;proto=https, for=203.0.113.7").await.expect(401);
    }
    // What stands before it is the client's own invention.
    guess(3, "for=198.51.100.10, for=203.0.113.7").await.expect(429);
    guess(4, "for=203.0.113.8").await.expect(401);
    sentinel.stop().await;
}
