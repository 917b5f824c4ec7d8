//! How credentials travel to each provider: signed, in a field, in the query; and never the client's beside them.

use std::fmt::Write as _;

use hmac::{KeyInit as _, Mac as _};
use reqwest::Method;
use sentinel::config::{Config, CredentialField, UpstreamConfig};
use sentinel::domain::Dialect;
use sentinel::mock_llm::Recorded;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Sentinel, TestDatabase, chat_body, on_both_engines, reply};

on_both_engines! {
    bedrock_is_sent_a_signature_of_what_it_is_sent
    azure_is_asked_for_a_deployment_with_its_key
    gemini_is_sent_the_stored_key_and_never_the_clients
}

const KEY_ID: &str = "AKIDEXAMPLE123456789";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLE//token==";

async fn store(sentinel: &Sentinel, upstream: &str, credential: &str) {
    let body = json!({"workspace_id": sentinel.tenant.workspace_id, "upstream": upstream, "name": "own",
        "credential": credential});
    let made = sentinel.admin(Method::POST, "/provider-credentials", Some(body)).await.expect(201);
    assert!(!made.text.contains(credential), "{}", made.text);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = hmac::Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The `Authorization` that AWS expects of a request, from its documentation of Signature Version 4 alone: every header that
/// the request says is signed must be there, and the body's hash is that of the bytes that came.
fn expected(request: &Recorded, region: &str) -> String {
    let header = |name: &str| request.headers.get(name).unwrap_or_else(|| panic!("{name}")).to_str().unwrap().trim();
    let given = header("authorization");
    let signed = given.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
    let encode = |text: &str, slash: bool| {
        text.bytes().fold(String::new(), |mut out, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                b'/' if !slash => out.push('/'),
                byte => drop(write!(out, "%{byte:02X}")),
            }
            out
        })
    };
    assert_eq!(request.target.query(), None);
    let fields = signed.split(';').fold(String::new(), |text, name| format!("{text}{name}:{}\n", header(name)));
    let body = hex(&Sha256::digest(&request.body));
    assert_eq!(header("x-amz-content-sha256"), body);
    let canonical =
        format!("{}\n{}\n\n{fields}\n{signed}\n{body}", request.method, encode(request.target.path(), false));
    let time = header("x-amz-date");
    let day = &time[..8];
    let scope = format!("{day}/{region}/bedrock/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let key = [day, region, "bedrock", "aws4_request"]
        .iter()
        .fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part));
    let signature = hex(&hmac(&key, &to_sign));
    format!("AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={signed}, Signature={signature}")
}

async fn bedrock_is_sent_a_signature_of_what_it_is_sent(database: TestDatabase) {
    let sentinel = Sentinel::start_with(database, |config| {
        let bedrock = config.upstreams.get_mut("bedrock").unwrap();
        bedrock.api_key = Some(format!("{KEY_ID}:{SECRET}").into());
        bedrock.aws_region = Some("eu-west-1".to_owned());
    })
    .await;
    let said =
        |text: &str| json!({"max_tokens": 9, "messages": [{"role": "user", "content": [{"text": text}]}]}).to_string();
    let ask = async |path: &str, body: String| {
        // A client that signs for itself, with nothing that AWS would take.
        let request = sentinel
            .request(path)
            .header("authorization", "AWS4-HMAC-SHA256 Credential=client/20200101/us-east-1/bedrock/aws4_request")
            .header("x-amz-date", "20200101T000000Z")
            .header("x-amz-security-token", "the client's")
            .header("x-amz-content-sha256", "00")
            .header("x-amzn-bedrock-guardrailidentifier", "g1");
        reply(request.body(body)).await.expect(200);
        sentinel.provider.last().unwrap()
    };
    let signed = |request: &Recorded| request.headers["authorization"].to_str().unwrap().to_owned();

    let sent = ask("/model/anthropic.claude-v2:1/converse", said("hello")).await;
    assert_eq!(sent.target.path(), "/model/anthropic.claude-v2%3A1/converse");
    assert_eq!(signed(&sent), expected(&sent, "eu-west-1"));
    assert!(sent.headers.get("x-amz-security-token").is_none(), "{:?}", sent.headers);
    assert!(signed(&sent).contains(";host;x-amz-content-sha256;x-amz-date;x-amzn-bedrock-guardrailidentifier,"));

    // After redaction: another body, another signature.
    let sent = ask("/model/anthropic.claude-v2%3A1/invoke", said("my card is 4111 1111 1111 1111")).await;
    assert!(String::from_utf8_lossy(&sent.body).contains("[REDACTED_CREDIT_CARD]"));
    assert_eq!(signed(&sent), expected(&sent, "eu-west-1"));

    // The workspace's own, which is temporary.
    store(&sentinel, "bedrock", &format!("{KEY_ID}:{SECRET}:{TOKEN}")).await;
    let sent = ask("/model/m/converse", said("hello")).await;
    assert_eq!(sent.headers["x-amz-security-token"], TOKEN);
    assert!(signed(&sent).contains("x-amz-security-token"), "{}", signed(&sent));
    assert_eq!(signed(&sent), expected(&sent, "eu-west-1"));

    // The operator's trial of a credential is signed alike.
    let list = sentinel.admin(Method::GET, "/provider-credentials", None).await.expect(200).json();
    let path = format!("/provider-credentials/{}/test", list["data"][0]["id"].as_str().unwrap());
    sentinel.admin(Method::POST, &path, None).await.expect(200);
    let sent = sentinel.provider.last().unwrap();
    assert!(sent.target.path() == "/async-invoke" && signed(&sent).starts_with("AWS4-HMAC-SHA256 Credential=AKID"));

    // A pair that is none is refused where it is stored, and not repeated.
    let body = json!({"workspace_id": sentinel.tenant.workspace_id, "upstream": "bedrock", "name": "n",
        "credential": "short:secret-access-key"});
    let refused = sentinel.admin(Method::POST, "/provider-credentials", Some(body)).await.expect(422);
    assert_eq!(refused.json()["errors"][0]["pointer"], "/credential");
    assert!(!refused.text.contains("secret-access-key"), "{}", refused.text);
    sentinel.stop().await;
}

fn azure(config: &mut Config) -> &mut UpstreamConfig {
    let url = config.upstreams["openai"].url.clone();
    let mut azure = UpstreamConfig::new(Dialect::Openai, url);
    azure.azure_api_version = Some("2024-10-21".to_owned());
    config.upstreams.entry("azure".to_owned()).or_insert(azure)
}

async fn azure_is_asked_for_a_deployment_with_its_key(database: TestDatabase) {
    let sentinel = Sentinel::start_with(database, |config| {
        azure(config).api_key = Some("the operator's".to_owned().into());
        let route = |path: &str| sentinel::config::RouteConfig { path: path.to_owned(), upstream: "azure".to_owned() };
        config.routes = vec![route("/v1/chat/completions"), route("/v1/embeddings")];
    })
    .await;
    let ask = async |path: &str, body: Value| {
        let request =
            sentinel.request(path).header("authorization", "Bearer sk-client").header("api-key", "the client's");
        let status = reply(request.body(body.to_string())).await.status;
        (status, sentinel.provider.last().unwrap())
    };
    // By an OpenAI client, in OpenAI's words.
    let (status, sent) = ask("/v1/chat/completions", chat_body("hello")).await;
    assert_eq!(status, 200);
    assert_eq!(sent.target, "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21");
    assert_eq!(sent.headers.get_all("api-key").iter().collect::<Vec<_>>(), ["the operator's"]);
    assert!(sent.headers.get("authorization").is_none(), "{:?}", sent.headers);
    // By Azure's own client, which names the deployment and the version itself.
    store(&sentinel, "azure", "the-workspaces-0123456789").await;
    let (status, sent) =
        ask("/azure/openai/deployments/mine/chat/completions?api-version=2025-01-01", chat_body("hello")).await;
    assert_eq!(status, 200);
    assert_eq!(sent.target, "/openai/deployments/mine/chat/completions?api-version=2025-01-01");
    assert_eq!(sent.headers["api-key"], "the-workspaces-0123456789");

    let before = sentinel.provider.requests();
    let told = sentinel.post("/v1/embeddings", json!({"input": "hello"}).to_string()).await.expect(400).json();
    assert_eq!(told["error"]["code"], "model_required", "{told}");
    assert_eq!(sentinel.provider.requests(), before);
    sentinel.stop().await;
}

async fn gemini_is_sent_the_stored_key_and_never_the_clients(database: TestDatabase) {
    let sentinel = Sentinel::start_with(database, |config| {
        let mut other = UpstreamConfig::new(Dialect::Gemini, config.upstreams["gemini"].url.clone());
        other.credential_field = Some(CredentialField::KeyParameter);
        config.upstreams.insert("express".to_owned(), other);
    })
    .await;
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}).to_string();
    let ask = async |path: &str| {
        let request =
            sentinel.request(path).header("x-goog-api-key", "client").header("authorization", "Bearer client");
        reply(request.body(body.clone())).await.expect(200);
        sentinel.provider.last().unwrap()
    };
    let path = "/v1beta/models/gemini-pro:generateContent";
    // With nothing stored the client's own goes on, where it put it.
    let sent = ask(&format!("{path}?key=client&alt=json")).await;
    assert_eq!(sent.target.query(), Some("key=client&alt=json"));

    store(&sentinel, "gemini", "AIza-stored-0123456789").await;
    let sent = ask(&format!("{path}?key=client&access_token=client&alt=json")).await;
    assert_eq!(sent.target.query(), Some("alt=json"));
    assert_eq!(sent.headers["x-goog-api-key"], "AIza-stored-0123456789");
    assert!(sent.headers.values().all(|value| !value.to_str().unwrap().contains("client")), "{:?}", sent.headers);

    store(&sentinel, "express", "AIza+stored/0123456789").await;
    let sent = ask(&format!("/express{path}?%6Bey=client")).await;
    assert_eq!(sent.target, format!("{path}?key=AIza%2Bstored%2F0123456789").as_str());
    assert!(sent.headers.get("x-goog-api-key").is_none() && sent.headers.get("authorization").is_none());
    sentinel.stop().await;
}
