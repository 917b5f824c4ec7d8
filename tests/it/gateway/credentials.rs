//! What a workspace presents to a provider: injected from the next request on, and never told again.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Sentinel, TestDatabase, chat_body, on_both_engines, reply};

const CREDENTIAL: &str = "sk-workspace-0123456789";

on_both_engines! {
    a_workspaces_credential_is_injected_until_it_is_deleted
    a_test_says_what_the_provider_said
    what_cannot_be_a_credential_is_refused
}

async fn a_workspaces_credential_is_injected_until_it_is_deleted(database: TestDatabase) {
    let operator = |config: &mut sentinel::config::Config| {
        config.upstreams.get_mut("openai").unwrap().api_key = Some("sk-operator".to_owned().into());
    };
    let sentinel = Sentinel::start_with(database, operator).await;
    let sent = async || {
        let body = chat_body("hello").to_string();
        reply(sentinel.request("/v1/chat/completions").header("authorization", "Bearer sk-client").body(body))
            .await
            .expect(200);
        sentinel.provider.last_headers().unwrap()["authorization"].to_str().unwrap().to_owned()
    };
    assert_eq!(sent().await, "Bearer sk-operator");

    let body = json!({"workspace_id": sentinel.tenant.workspace_id, "upstream": "openai", "name": "team",
        "credential": CREDENTIAL});
    let made = sentinel.admin(Method::POST, "/provider-credentials", Some(body.clone())).await.expect(201);
    assert!(!made.text.contains(CREDENTIAL), "{}", made.text);
    assert_eq!(made.json()["last_four"], "6789");
    assert_eq!(sent().await, format!("Bearer {CREDENTIAL}"));
    let second = sentinel.admin(Method::POST, "/provider-credentials", Some(body)).await.expect(409);
    assert!(!second.text.contains(CREDENTIAL), "{}", second.text);

    // Another upstream of the same workspace keeps the client's own.
    let messages = json!({"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]});
    reply(sentinel.request("/v1/messages").header("authorization", "Bearer sk-client").body(messages.to_string()))
        .await
        .expect(200);
    assert_eq!(sentinel.provider.last_headers().unwrap()["authorization"], "Bearer sk-client");

    let list = sentinel.admin(Method::GET, "/provider-credentials", None).await.expect(200);
    assert!(!list.text.contains(CREDENTIAL) && list.json()["data"].as_array().unwrap().len() == 1, "{}", list.text);
    let workspace = format!("/workspaces/{}", sentinel.tenant.workspace_id);
    for (source, expected) in
        [("pass_through", "Bearer sk-client".to_owned()), ("stored", format!("Bearer {CREDENTIAL}"))]
    {
        let tag = sentinel.admin(Method::GET, &workspace, None).await.expect(200).header("etag").to_owned();
        let change = Some(json!({"config": {"provider_credentials": source}}));
        sentinel.admin_with(Method::PATCH, &workspace, change, &[("if-match", &tag)]).await.expect(200);
        assert_eq!(sent().await, expected, "{source}");
    }

    let path = format!("/provider-credentials/{}", made.json()["id"].as_str().unwrap());
    sentinel.admin(Method::DELETE, &path, None).await.expect(204);
    assert_eq!(sent().await, "Bearer sk-operator");
    sentinel.admin(Method::DELETE, &path, None).await.expect(404);
    sentinel.stop().await;
}

/// A provider that answers everything with `status`; its url.
async fn provider(status: u16) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = connection.read_u8().await else { break };
                head.push(byte);
            }
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

async fn a_test_says_what_the_provider_said(database: TestDatabase) {
    let (refusing, broken) = (provider(401).await, provider(500).await);
    let sentinel = Sentinel::start_with(database, |config| {
        config.upstreams.get_mut("gemini").unwrap().url = refusing;
        config.upstreams.get_mut("bedrock").unwrap().url = broken;
        config.upstreams.get_mut("ollama").unwrap().url = "http://127.0.0.1:9".to_owned();
    })
    .await;
    for (upstream, result, status) in [
        ("openai", "accepted", json!(200)),
        ("anthropic", "accepted", json!(200)),
        ("gemini", "refused", json!(401)),
        ("bedrock", "unclear", json!(500)),
        ("ollama", "unreachable", json!(null)),
    ] {
        let body = json!({"workspace_id": sentinel.tenant.workspace_id, "upstream": upstream, "name": upstream,
            "credential": CREDENTIAL});
        let made = sentinel.admin(Method::POST, "/provider-credentials", Some(body)).await.expect(201).json();
        let path = format!("/provider-credentials/{}/test", made["id"].as_str().unwrap());
        let said = sentinel.admin(Method::POST, &path, None).await.expect(200).json();
        assert_eq!(said, json!({"result": result, "upstream_status": status}), "{upstream}");
    }
    assert_eq!(sentinel.provider.last_headers().unwrap()["x-api-key"], CREDENTIAL, "Anthropic's field");
    sentinel.stop().await;
}

async fn what_cannot_be_a_credential_is_refused(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let good = json!({"workspace_id": sentinel.tenant.workspace_id, "upstream": "openai", "name": "n",
        "credential": CREDENTIAL});
    for (field, wrong) in [
        ("upstream", json!("nowhere")),
        ("credential", json!("a b c d e f")),
        ("credential", json!("short")),
        ("name", json!(" ")),
    ] {
        let mut body = good.clone();
        body[field] = wrong;
        let refused = sentinel.admin(Method::POST, "/provider-credentials", Some(body)).await.expect(422).json();
        assert_eq!(refused["errors"][0]["pointer"], format!("/{field}"), "{refused}");
    }
    sentinel.stop().await;
}
