use http::Method;
use proptest::prelude::*;

use super::*;
use crate::config::{RouteConfig, UpstreamConfig};

fn config() -> Config {
    let mut config = Config::default();
    config.upstreams.insert("vllm".into(), UpstreamConfig::new(Dialect::Openai, "http://127.0.0.1:8001/base/"));
    config
}

fn upstreams() -> Arc<Upstreams> {
    Upstreams::new(&config()).unwrap()
}

#[test]
fn every_path_of_the_contract_leads_to_its_upstream() {
    let upstreams = upstreams();
    let cases = [
        ("POST", "/v1/chat/completions", "openai", "/v1/chat/completions"),
        ("POST", "/v1/completions", "openai", "/v1/completions"),
        ("POST", "/v1/responses", "openai", "/v1/responses"),
        ("GET", "/v1/responses/resp_1", "openai", "/v1/responses/{}"),
        ("POST", "/v1/embeddings", "openai", "/v1/embeddings"),
        ("POST", "/v1/moderations", "openai", "/v1/moderations"),
        ("POST", "/v1/images/generations", "openai", "/v1/images/*"),
        ("POST", "/v1/audio/speech", "openai", "/v1/audio/*"),
        ("GET", "/v1/files", "openai", "/v1/files"),
        ("DELETE", "/v1/files/f1", "openai", "/v1/files/{}"),
        ("GET", "/v1/files/f1/content", "openai", "/v1/files/{}/content"),
        ("POST", "/v1/batches", "openai", "/v1/batches"),
        ("GET", "/v1/models", "openai", "/v1/models"),
        ("GET", "/v1/models/gpt-4o", "openai", "/v1/models/*"),
        ("GET", "/v1/models/meta-llama/Llama-3", "openai", "/v1/models/*"),
        ("GET", "/v1/models/ft:gpt-4o:org::id", "openai", "/v1/models/*"),
        ("POST", "/v1/messages", "anthropic", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens", "anthropic", "/v1/messages/count_tokens"),
        ("GET", "/v1/messages/batches", "anthropic", "/v1/messages/batches"),
        ("POST", "/v1beta/models/gemini-pro:generateContent", "gemini", "/v1beta/models/*"),
        ("GET", "/v1beta/models", "gemini", "/v1beta/models"),
        ("POST", "/v1/models/gemini-pro:generateContent", "gemini", "/v1/models/{}:generateContent"),
        ("POST", "/v1/models/gemini-pro:streamGenerateContent", "gemini", "/v1/models/{}:streamGenerateContent"),
        ("POST", "/model/anthropic.claude-v2%3A1/converse", "bedrock", "/model/{}/converse"),
        ("POST", "/model/m/converse-stream", "bedrock", "/model/{}/converse-stream"),
        ("POST", "/model/m/invoke", "bedrock", "/model/{}/invoke"),
        ("POST", "/model/m/invoke-with-response-stream", "bedrock", "/model/{}/invoke-with-response-stream"),
        ("POST", "/api/chat", "ollama", "/api/chat"),
        ("POST", "/api/generate", "ollama", "/api/generate"),
        ("POST", "/api/embed", "ollama", "/api/embed"),
    ];
    for (method, path, upstream, label) in cases {
        let route = upstreams.route(&method.parse().unwrap(), path, false).expect(path);
        assert_eq!((&*route.upstream.name, route.label, route.path.as_str()), (upstream, label, path));
        assert_eq!(route.dialect, route.upstream.dialect);
    }
}

#[test]
fn paths_that_both_dialects_have_follow_the_version_header() {
    let upstreams = upstreams();
    for path in ["/v1/models", "/v1/models/claude", "/v1/files", "/v1/files/f/content"] {
        assert_eq!(*upstreams.route(&Method::GET, path, true).unwrap().upstream.name, *"anthropic", "{path}");
        assert_eq!(*upstreams.route(&Method::GET, path, false).unwrap().upstream.name, *"openai", "{path}");
    }
}

#[test]
fn a_named_upstream_gets_the_rest_of_the_path_below_its_own_prefix() {
    let upstreams = upstreams();
    let route = upstreams.route(&Method::POST, "/vllm/v1/chat/completions", false).unwrap();
    let sent = route.upstream.path_for(&route.path, None).unwrap();
    assert_eq!((&*route.upstream.name, sent.as_str()), ("vllm", "/base/v1/chat/completions"));
    assert_eq!(route.label, NAMED_LABEL);
    assert_eq!(
        upstreams.route(&Method::POST, "/openai/v1/chat/completions", false).unwrap().path,
        "/v1/chat/completions"
    );
    assert_eq!(upstreams.route(&Method::POST, "/anthropic/v1/messages", false).unwrap().dialect, Dialect::Anthropic);
}

#[test]
fn what_the_table_does_not_name_leads_nowhere() {
    let upstreams = upstreams();
    for (path, dialect) in [
        ("/", Dialect::Openai),
        ("/v1", Dialect::Openai),
        ("/v1/chat/completions/", Dialect::Openai),
        ("/v1/chat/completions/x", Dialect::Openai),
        ("/V1/chat/completions", Dialect::Openai),
        ("/v1/realtime", Dialect::Openai),
        ("/openai/v1/realtime", Dialect::Openai),
        ("/openai", Dialect::Openai),
        ("/openai/", Dialect::Openai),
        ("/unknown/v1/chat/completions", Dialect::Openai),
        ("/v1/images", Dialect::Openai),
        ("/v1/messages/x", Dialect::Anthropic),
        ("/v1beta/tunedModels", Dialect::Gemini),
        ("/model/m", Dialect::Bedrock),
        ("/model/m/n/converse", Dialect::Bedrock),
        ("/api/pull", Dialect::Ollama),
    ] {
        assert_eq!(
            upstreams.route(&Method::POST, path, false).map(|route| route.label),
            Err(NoRoute::UnknownPath { dialect }),
            "{path}"
        );
    }
    let gone = upstreams.route(&Method::POST, "/v1/chat/completions", true);
    assert!(gone.is_ok(), "the version header alone does not move a path of one dialect");
}

#[test]
fn other_spellings_of_a_path_are_refused() {
    for path in [
        "",
        "v1",
        "*",
        "/a/../v1/models",
        "/a/./b",
        "/..",
        "/.",
        "//v1/models",
        "/v1//models",
        "/v1/%2e%2e/models",
        "/v1/%2E/models",
        "/v1%2fmodels",
        "/v1/%5cmodels",
        "/v1/mod%65ls",
        "/v1/%25%32%66",
        "/v1/%00",
        "/v1/%0d%0a",
        "/v1/%c3%a9",
        "/v1/%7f",
        "/v1/%",
        "/v1/%2",
        "/v1/%zz",
        "/v1\\models",
        "/v1/..;/models",
        "/v1/models;x=1",
        "/v1/models#x",
        "/v1/models?x",
        "/v1/modèles",
        "/v1/ models",
        "/v1/\tmodels",
    ] {
        assert!(!is_strict(path.as_bytes()), "{path}");
    }
    assert!(!is_strict(b"/v1/\xffmodels"));
    for path in
        ["/v1/models", "/a/...", "/a/.well-known", "/m/x%3Ay/z", "/m/a:b@c,d(e)", "/m/%7B%20".trim_end_matches("%20")]
    {
        assert!(is_strict(path.as_bytes()), "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]
    #[test]
    fn a_strict_path_has_no_segment_that_moves(path in "/([a-z.%2/;]{0,12}/){0,4}[a-z.%2eE5cCfF]{0,8}") {
        if is_strict(path.as_bytes()) {
            prop_assert!(path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | "..")));
            let lower = path.to_ascii_lowercase();
            prop_assert!(!lower.contains("%2e") && !lower.contains("%2f") && !lower.contains("%5c"));
        }
    }
}

#[test]
fn a_known_path_with_another_method_says_which_are_allowed() {
    let upstreams = upstreams();
    for (method, path, dialect, allow) in [
        ("GET", "/v1/chat/completions", Dialect::Openai, "POST"),
        ("post", "/v1/chat/completions", Dialect::Openai, "POST"),
        ("OPTIONS", "/v1/messages", Dialect::Anthropic, "POST"),
        ("PUT", "/v1/files", Dialect::Openai, "GET, POST"),
        ("HEAD", "/v1/models", Dialect::Openai, "GET"),
        ("TRACE", "/openai/v1/models", Dialect::Openai, ANY_METHOD),
        ("FOO", "/api/chat", Dialect::Ollama, "POST"),
    ] {
        assert_eq!(
            upstreams.route(&method.parse().unwrap(), path, false).map(|route| route.label),
            Err(NoRoute::Method { dialect, allow }),
            "{method} {path}"
        );
    }
}

#[test]
fn routes_of_the_operator_come_first() {
    let mut config = config();
    config.routes = vec![
        RouteConfig { path: "/v1/chat/completions".into(), upstream: "vllm".into() },
        RouteConfig { path: "/azure/deployments/*".into(), upstream: "openai".into() },
    ];
    let upstreams = Upstreams::new(&config).unwrap();
    let route = upstreams.route(&Method::POST, "/v1/chat/completions", false).unwrap();
    assert_eq!((&*route.upstream.name, route.label), ("vllm", CONFIGURED_LABEL));
    assert_eq!(route.upstream.path_for(&route.path, None).unwrap(), "/base/v1/chat/completions");
    let route = upstreams.route(&Method::POST, "/azure/deployments/x/chat", false).unwrap();
    assert_eq!((&*route.upstream.name, route.path.as_str()), ("openai", "/azure/deployments/x/chat"));
    assert!(upstreams.route(&Method::POST, "/azure/deployments/", false).is_err());
}

#[test]
fn every_fault_of_upstreams_and_routes_is_told_with_its_key() {
    let mut config = config();
    config.upstreams.insert("v1".into(), UpstreamConfig::new(Dialect::Openai, "http://a"));
    config.upstreams.insert("b/c".into(), UpstreamConfig::new(Dialect::Openai, "http://a"));
    config.upstreams.insert("bad".into(), UpstreamConfig::new(Dialect::Openai, "nowhere"));
    let mut missing = UpstreamConfig::new(Dialect::Openai, "https://a");
    missing.ca_file = Some("no/such/file.pem".into());
    missing.client_cert_file = Some("no/such/file.pem".into());
    missing.client_key_file = Some("no/such/file.pem".into());
    config.upstreams.insert("ca".into(), missing);
    let mut several = UpstreamConfig::new(Dialect::Openai, "http://a");
    several.addresses = vec!["10.0.0.1:80".into(), "10.0.0.1".into(), "http://a:80".into()];
    several.fallback = vec!["several".into(), "openai".into(), "nobody".into(), "gemini".into()];
    several.health_path = Some("health?".into());
    config.upstreams.insert("several".into(), several);
    let mut signed = UpstreamConfig::new(Dialect::Bedrock, "http://127.0.0.1:1");
    signed.api_key = Some("AKIDEXAMPLE123456:secret".to_owned().into());
    config.upstreams.insert("signed".into(), signed);
    config.routes = vec![
        RouteConfig { path: "/x/../y".into(), upstream: "openai".into() },
        RouteConfig { path: "/a*b".into(), upstream: "nobody".into() },
        RouteConfig { path: "/process".into(), upstream: "bad".into() },
    ];
    let faults = Upstreams::new(&config).unwrap_err();
    let told = |start: &str| faults.iter().filter(|fault| fault.starts_with(start)).count();
    for key in [
        "upstreams.v1:",
        "upstreams.b/c:",
        "upstreams.bad.url:",
        "upstreams.ca.ca_file:",
        "upstreams.ca.client_cert_file:",
        "upstreams.ca.client_key_file:",
        "upstreams.signed.api_key:",
        "routes[0].path:",
    ] {
        assert_eq!(told(key), 1, "{key} in {faults:?}");
    }
    for (key, faults) in [
        ("addresses[", 2),
        ("fallback[0]", 1),
        ("fallback[1]", 0),
        ("fallback[2]", 1),
        ("fallback[3]", 1),
        ("health_path", 1),
    ] {
        assert_eq!(told(&format!("upstreams.several.{key}")), faults, "{key}");
    }
    assert_eq!(told("routes[1].upstream:"), 1, "{faults:?}");
    assert_eq!(told("routes[2].path:"), 1, "{faults:?}");
    assert_eq!(told("routes[2].upstream:"), 0, "an upstream with a fault of its own is not missing: {faults:?}");
}

#[test]
fn azures_deployments_are_named_by_models() {
    let mut config = config();
    config.upstreams.get_mut("openai").unwrap().azure_api_version = Some("2024-10-21".into());
    let upstreams = Upstreams::new(&config).unwrap();
    let azure = upstreams.named("openai").unwrap();
    for (path, model, sent) in [
        ("/v1/chat/completions", Some("gpt 4/o"), Some("/openai/deployments/gpt%204%2Fo/chat/completions")),
        ("/v1/images/generations", Some("dall-e"), Some("/openai/deployments/dall-e/images/generations")),
        ("/v1/chat/completions", None, None),
        ("/v1/files", None, Some("/openai/files")),
        ("/v1/responses", Some("gpt-4o"), Some("/openai/responses")),
        ("/openai/deployments/d/embeddings", Some("x"), Some("/openai/deployments/d/embeddings")),
    ] {
        assert_eq!(azure.path_for(path, model).as_deref(), sent, "{path}");
    }
}

#[test]
fn without_an_upstream_its_rows_lead_nowhere() {
    let mut config = config();
    config.upstreams.remove("ollama");
    let upstreams = Upstreams::new(&config).unwrap();
    assert!(upstreams.route(&Method::POST, "/api/chat", false).is_err());
}
