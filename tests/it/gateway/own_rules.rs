//! An organization's own rules and allow list, through the running gateway.

use reqwest::Method;
use sentinel::mock_llm::Mode;
use serde_json::{Value, json};

use crate::support::{Sentinel, TestDatabase, on_both_engines};

on_both_engines! {
    keywords_block_and_expressions_redact_in_every_reading
    an_allow_list_lowers_the_named_rule_until_it_expires
    own_rules_hold_in_answers_across_the_pieces_of_a_stream
    a_rule_that_cannot_be_compiled_is_refused_with_its_place
}

async fn use_policy(sentinel: &Sentinel, name: &str, document: Value) {
    let policy = json!({"name": name, "is_default": true, "document": document});
    sentinel.admin(Method::POST, "/policies", Some(policy)).await.expect(201);
}

fn forwarded(sentinel: &Sentinel) -> String {
    String::from_utf8_lossy(&sentinel.provider.last_body().unwrap()).into_owned()
}

async fn keywords_block_and_expressions_redact_in_every_reading(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let document = json!({"custom_rules": {
        "code_names": {"keywords": ["Heronwing"], "phrases": ["blue meridian"], "action": "block"},
        "customer_id": {"regexes": ["CUST-\\d{6}"], "type": "CUSTOMER_ID", "category": "pii", "action": "redact"},
    }});
    use_policy(&sentinel, "own rules", document).await;
    for text in
        ["When is HERONWING due?", "the blue-meridian plan", "what is h\u{0435}ronwing, he asked", "he\u{200B}ronwing"]
    {
        let refused = sentinel.chat(text).await.expect(400).json();
        assert_eq!(refused["error"]["code"], "content_filter", "{text}");
    }
    sentinel.chat("heronwings and blue skies over the meridian").await.expect(200);

    let answer = sentinel.chat("Is CUST-123456 late?").await.expect(200);
    assert_eq!(answer.header("x-sentinel-action"), "redact");
    assert!(forwarded(&sentinel).contains("Is [REDACTED_CUSTOMER_ID] late?"), "{}", forwarded(&sentinel));
    // "the customer is CUST-123456, and her order is late" in base64.
    let encoded = "dGhlIGN1c3RvbWVyIGlzIENVU1QtMTIzNDU2LCBhbmQgaGVyIG9yZGVyIGlzIGxhdGU=";
    let answer = sentinel.chat(&format!("decode {encoded} for me")).await.expect(200);
    let body = forwarded(&sentinel);
    assert!(body.contains("decode dGhlIGN1c3RvbWVyIGlz") && body.contains("[REDACTED_CUSTOMER_ID]"), "{body}");
    assert!(!body.contains("Q1VTVC0xMjM0NTY") && !body.contains("VU1QtMTIzNDU2"), "{body}");

    let row = sentinel.audit_row_anywhere(answer.header("x-request-id")).await;
    let logged = sentinel.admin(Method::GET, "/audit-logs?limit=1", None).await.expect(200).json();
    let finding = &logged["data"][0]["findings"][0];
    assert_eq!(
        (&finding["rule_id"], &finding["type"], &finding["detector"], &finding["category"]),
        (&json!("custom.customer_id"), &json!("CUSTOMER_ID"), &json!("custom"), &json!("pii")),
        "{logged}"
    );
    assert_eq!(row.action, "redact");
    sentinel.stop().await;
}

async fn an_allow_list_lowers_the_named_rule_until_it_expires(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let entry = |expires_at: &str| {
        json!({"custom_rules": {"domain": {"regexes": ["@acme\\.example"], "action": "flag"}},
        "rules": {"EMAIL_ADDRESS": {"action": "block"}},
        "allow_list": [
            {"rule": "pii.email_address", "text": "help@acme.example", "owner": "ada", "expires_at": expires_at},
            {"rule": "EMAIL_ADDRESS", "pattern": "[a-z]+@open\\.example", "owner": "ada"},
        ]})
    };
    use_policy(&sentinel, "not yet", entry("2099-01-01T00:00:00Z")).await;
    let answer = sentinel.chat("write to help@acme.example").await.expect(200);
    assert_eq!(answer.header("x-sentinel-action"), "flag", "another rule in the same place keeps its action");
    sentinel.chat("write to ada@open.example").await.expect(200);
    // "the address is help@acme.example today" in base64: what is allowed is allowed in every reading.
    sentinel.chat("read dGhlIGFkZHJlc3MgaXMgaGVscEBhY21lLmV4YW1wbGUgdG9kYXk= please").await.expect(200);
    for text in ["write to ada@acme.example", "write to ada@open.example.org", "help@acme.example and ada@acme.example"]
    {
        sentinel.chat(text).await.expect(400);
    }
    use_policy(&sentinel, "expired", entry("2020-01-01T00:00:00Z")).await;
    sentinel.chat("write to help@acme.example").await.expect(400);
    sentinel.chat("write to ada@open.example").await.expect(200);
    sentinel.stop().await;
}

async fn own_rules_hold_in_answers_across_the_pieces_of_a_stream(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let document = json!({"custom_rules": {
        "customer_id": {"regexes": ["CUST-\\d{6}"], "type": "CUSTOMER_ID", "action": "redact"},
        "plan": {"phrases": ["blue meridian plan"], "action": "redact"},
        "code_names": {"keywords": ["Heronwing"], "action": "block"},
    }});
    use_policy(&sentinel, "own rules", document).await;
    sentinel.provider.behave(Mode::Say("The id CUST-123456 is in the blue, meridian plan for all of us.".to_owned()));
    for (path, stream) in [("/v1/chat/completions", false), ("/v1/chat/completions", true), ("/v1/messages", true)] {
        let messages = json!([{"role": "user", "content": "hello"}]);
        let body = json!({"model": "m", "max_tokens": 9, "stream": stream, "messages": messages});
        let answer = sentinel.post(path, body.to_string()).await.expect(200);
        for gone in ["CUST-", "1234", "3456", "meridian"] {
            assert!(!answer.text.contains(gone), "{path} {stream}: {}", answer.text);
        }
        assert!(
            answer.text.contains("[REDACTED_CUSTOMER_ID]") && answer.text.contains("[REDACTED_PLAN]"),
            "{}",
            answer.text
        );
    }
    sentinel.provider.behave(Mode::Say("The name of it is Heronwing, and nobody knows.".to_owned()));
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let answer = sentinel.post("/v1/chat/completions", body.to_string()).await;
    assert!(!answer.text.contains("eronwing") && !answer.text.contains("nobody knows"), "{}", answer.text);
    assert!(answer.text.contains("Response blocked by security policy"), "{}", answer.text);
    sentinel.stop().await;
}

async fn a_rule_that_cannot_be_compiled_is_refused_with_its_place(database: TestDatabase) {
    let sentinel = Sentinel::start(database).await;
    let document = json!({
        "custom_rules": {
            "good": {"regexes": ["abc"], "action": "block"},
            "bad": {"regexes": ["fine", "(open", "(?:\\w{100}){100}", "(a)\\1"], "keywords": ["x"], "action": "block"},
            "No Name": {"keywords": ["word"]},
        },
        "allow_list": [{"rule": "pii", "text": "a"}, {"rule": "custom.good", "pattern": "("}, {"rule": "custom.god", "text": "a"}],
        "binary": "maybe",
    });
    let policy = json!({"name": "p", "document": document});
    let problem = sentinel.admin(Method::POST, "/policies", Some(policy)).await.expect(422).json();
    let mut pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    pointers.dedup();
    assert_eq!(
        pointers,
        [
            "/document/allow_list/0/rule",
            "/document/allow_list/1/pattern",
            "/document/allow_list/2/rule",
            "/document/binary",
            "/document/custom_rules/No Name",
            "/document/custom_rules/No Name/action",
            "/document/custom_rules/bad/keywords/0",
            "/document/custom_rules/bad/regexes/1",
            "/document/custom_rules/bad/regexes/2",
            "/document/custom_rules/bad/regexes/3",
        ],
        "{problem:#}"
    );
    let said = problem.to_string();
    assert!(said.contains("unclosed group") && said.contains("too large when compiled"), "{said}");
    assert!(said.contains("did you mean `custom.good`"), "{said}");
    sentinel.stop().await;
}
