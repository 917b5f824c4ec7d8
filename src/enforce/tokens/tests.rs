//! Requests and their answers, with the real detectors.

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use super::*;
use crate::detect::Engine;
use crate::domain::{Action, Dialect, Role};
use crate::enforce::{AnswerLimits, Forward, Inspection, RequestBody, inspect, inspect_answer, inspect_text};
use crate::policy::{self, CompiledPolicy, PolicyLabel, Preset};
use crate::protocol::ReadLimits;

const LIMITS: ReadLimits = ReadLimits { max_decoded: 1 << 24, max_ratio: 100, max_depth: 64 };
const ADA: &str = "ada@example.com";
const BOB: &str = "bob.o'neil@example.org";

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Arc::new(Engine::builtin().unwrap()));
static POLICY: LazyLock<Arc<CompiledPolicy>> = LazyLock::new(|| {
    let document = "rules: {pii: {action: tokenize}, CREDIT_CARD: {action: redact}}";
    let document = policy::parse(document).unwrap();
    Arc::new(policy::compile(&document, PolicyLabel::of_preset(Preset::Balanced), &ENGINE).unwrap())
});
static VAULT: LazyLock<Arc<Vault>> = LazyLock::new(|| Arc::new(Vault::new([&[7; 32][..]])));

fn seal(place: &str) -> Seal {
    Seal { vault: VAULT.clone(), place: place.to_owned() }
}

fn asked(body: &Value, place: &str) -> (String, Inspection) {
    let bytes = Bytes::from(body.to_string());
    let request = RequestBody {
        bytes: &bytes,
        dialect: Some(Dialect::Openai),
        content_type: Some("application/json"),
        content_encoding: None,
    };
    let inspection = inspect(&ENGINE, &POLICY, request, &LIMITS, Some(&seal(place)), None).unwrap();
    let forwarded = match &inspection.forward {
        Forward::AsReceived => body.to_string(),
        Forward::Redacted(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
    };
    (forwarded, inspection)
}

fn chat(messages: &[(&str, &str)]) -> Value {
    let messages: Vec<Value> = messages.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
    json!({"model": "m", "messages": messages})
}

/// What the client reads of an answer that says `text`.
fn answered(inspection: &Inspection, text: &str) -> String {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": text}}]}).to_string();
    let limits = AnswerLimits { read: LIMITS, max_frame: 1 << 20 };
    let kind = Some("application/json");
    let seen = inspect_answer(&ENGINE, &POLICY, kind, body.as_bytes(), &limits, inspection.restorer.clone()).unwrap();
    let out: Value = serde_json::from_slice(&seen.redacted.unwrap_or(body.into_bytes())).unwrap();
    out["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

#[test]
fn a_conversation_goes_on_under_the_same_tokens() {
    let mut said = vec![("user", "write to ada@example.com and bob@example.org, then ada@example.com again")];
    let (first, inspection) = asked(&chat(&said), "acme");
    assert_eq!(inspection.verdict.action, Action::Tokenize);
    assert_eq!(inspection.tokens, 3);
    let text = "write to <EMAIL_ADDRESS_1> and <EMAIL_ADDRESS_2>, then <EMAIL_ADDRESS_1> again";
    assert!(first.contains(text), "{first}");
    let answer = answered(&inspection, "Done: <EMAIL_ADDRESS_2>, &lt;email_address_1&gt; **EMAIL\\_ADDRESS\\_1**");
    assert_eq!(answer, "Done: bob@example.org, ada@example.com **ada@example.com**");

    said.extend([("assistant", answer.as_str()), ("user", "and to carl@example.net")]);
    let mut body = chat(&said);
    // What stands outside of the conversation takes no number away from it.
    body["metadata"] = json!({"by": "zoe@example.net"});
    let (second, inspection) = asked(&body, "acme");
    let common = first.find("]").unwrap();
    let start = |text: &str| text[text.find("\"messages\"").unwrap()..].to_owned();
    assert!(start(&second).starts_with(&start(&first[..common])), "{second}");
    assert!(second.contains("Done: <EMAIL_ADDRESS_2>, <EMAIL_ADDRESS_1> **<EMAIL_ADDRESS_1>**"), "{second}");
    assert!(second.contains("to <EMAIL_ADDRESS_3>") && second.contains("\"by\":\"<EMAIL_ADDRESS_4>\""), "{second}");
    assert_eq!(answered(&inspection, "<EMAIL_ADDRESS_3>"), "carl@example.net");
}

#[test]
fn what_was_replaced_once_is_replaced_where_nobody_finds_it() {
    let said = [("user", "my SSN is 536-22-8762."), ("assistant", "So it is 536-22-8762"), ("user", "536-22-87621")];
    let (forwarded, _) = asked(&chat(&said), "acme");
    assert!(forwarded.contains("So it is <US_SSN_1>") && forwarded.contains("536-22-87621"), "{forwarded}");
    let (forwarded, _) =
        asked(&json!({"messages": [{"content": "call +1 (415) 555-0132"}], "n": [4_155_550_132_u64]}), "a");
    assert!(serde_json::from_str::<Value>(&forwarded).is_ok(), "{forwarded}");
}

#[test]
fn a_text_that_reads_like_a_token_is_a_value_itself() {
    let said = [("user", "a template: <EMAIL_ADDRESS_1>, IP_ADDRESS_1; mine is ada@example.com, host 10.1.2.3")];
    let (forwarded, inspection) = asked(&chat(&said), "acme");
    assert!(
        forwarded.contains("template: <EMAIL_ADDRESS_1>, IP_ADDRESS_1; mine is <EMAIL_ADDRESS_2>, host <IP_ADDRESS_1>"),
        "{forwarded}"
    );
    let answer = answered(
        &inspection,
        "<EMAIL_ADDRESS_1> is a template, <EMAIL_ADDRESS_2> is yours; IP_ADDRESS_1, <IP_ADDRESS_1>",
    );
    assert_eq!(answer, "<EMAIL_ADDRESS_1> is a template, ada@example.com is yours; IP_ADDRESS_1, 10.1.2.3");
    let (forwarded, inspection) = asked(&chat(&[("user", "ada@example.com <EMAIL_ADDRESS_1>")]), "acme");
    assert!(forwarded.contains("<EMAIL_ADDRESS_1> <EMAIL_ADDRESS_2>"), "{forwarded}");
    assert_eq!(
        answered(&inspection, "<EMAIL_ADDRESS_2> <EMAIL_ADDRESS_1> <EMAIL_ADDRESS_3>"),
        "<EMAIL_ADDRESS_1> ada@example.com <EMAIL_ADDRESS_3>"
    );
}

#[test]
fn where_the_provider_keeps_the_conversation_the_value_is_in_the_token() {
    let body = json!({"model": "m", "input": format!("write to {ADA}"), "user": "u1"});
    let (forwarded, first) = asked(&body, "acme");
    assert!(!forwarded.contains(ADA), "{forwarded}");
    let start = forwarded.find("<EMAIL_ADDRESS_").unwrap();
    let token = &forwarded[start..=start + forwarded[start..].find('>').unwrap()];
    assert_eq!(asked(&body, "acme").0, forwarded, "a token is the same every time");
    assert_eq!(answered(&first, &format!("sent to {}", token.to_lowercase())), format!("sent to {ADA}"));

    let next = |user: &str, place: &str| {
        asked(&json!({"input": "again", "previous_response_id": "resp_1", "user": user}), place).1
    };
    assert_eq!(answered(&next("u1", "acme"), token), ADA);
    assert_eq!(answered(&next("u2", "acme"), token), token, "another end user's");
    assert_eq!(answered(&next("u1", "other"), token), token, "another workspace's");
    // Whoever has a token and says it gets that back, and not what is in it.
    let (forwarded, pasted) = asked(&json!({"input": format!("what is {token}"), "user": "u1"}), "acme");
    assert!(!forwarded.contains(token), "{forwarded}");
    let start = forwarded.find("<EMAIL_ADDRESS_").unwrap();
    let own = &forwarded[start..=start + forwarded[start..].find('>').unwrap()];
    assert_eq!(answered(&pasted, own), token);
}

#[test]
fn what_stands_before_a_conversation_keeps_its_numbers_and_a_batch_belongs_to_the_workspace() {
    let mut body = chat(&[("user", ADA)]);
    body["zz_schema"] = json!({"description": "from zoe@example.net"});
    let one = asked(&body, "acme").0;
    body["messages"] = json!([{"role": "user", "content": ADA}, {"role": "user", "content": "and carl@example.net"}]);
    let two = asked(&body, "acme").0;
    for (forwarded, text) in
        [(&one, "from <EMAIL_ADDRESS_1>"), (&two, "from <EMAIL_ADDRESS_1>"), (&two, "and <EMAIL_ADDRESS_3>")]
    {
        assert!(forwarded.contains(text), "{forwarded}");
    }

    let batch =
        json!({"requests": [{"custom_id": "a", "user": "u1", "params": {"user": "u1", "input": format!("to {ADA}")}}]});
    let (forwarded, _) = asked(&batch, "acme");
    let start = forwarded.find("<EMAIL_ADDRESS_").unwrap();
    let token = &forwarded[start..=start + forwarded[start..].find('>').unwrap()];
    // The results are fetched by a request that says nothing.
    let fetched = asked(&json!({}), "acme").1;
    assert_eq!(answered(&fetched, token), ADA);
}

#[test]
fn a_redaction_in_it_keeps_a_value_from_coming_back() {
    let (forwarded, inspection) = asked(&chat(&[("user", "card 4111 1111 1111 1111, ada@example.com")]), "acme");
    assert_eq!(inspection.verdict.action, Action::Redact);
    assert!(forwarded.contains("card [REDACTED_CREDIT_CARD], <EMAIL_ADDRESS_1>"), "{forwarded}");
    let seen = inspect_text(&ENGINE, &POLICY, "to ada@example.com", Role::User, crate::domain::Direction::Input);
    assert_eq!((seen.redacted.as_str(), seen.verdict.action), ("to <EMAIL_ADDRESS_1>", Action::Tokenize));
}

#[test]
fn nothing_is_made_of_a_text_without_values_and_none_is_printed() {
    let (_, inspection) = asked(&chat(&[("user", "hello")]), "acme");
    assert!(inspection.restorer.is_none() && inspection.forward == Forward::AsReceived);
    let (_, inspection) = asked(&chat(&[("user", &format!("{ADA} {BOB}"))]), "acme");
    let printed = format!("{inspection:?}");
    assert!(!printed.contains(ADA) && !printed.contains(BOB), "{printed}");
}

#[test]
fn every_value_comes_back_as_it_was_whatever_it_is_made_of() {
    let said =
        format!("{BOB} ada@example.com 10.1.2.3 +1 (415) 555-0132 <EMAIL_ADDRESS_7> GB82 WEST 1234 5698 7654 32");
    let (forwarded, inspection) = asked(&chat(&[("user", &said)]), "acme");
    let forwarded: Value = serde_json::from_str(&forwarded).unwrap();
    let text = forwarded["messages"][0]["content"].as_str().unwrap();
    assert!(text.matches('<').count() >= 5, "{text}");
    assert_eq!(answered(&inspection, text), said);
}

/// Parts of texts that hold values, tokens and what is nearly either.
const PARTS: &[&str] = &[
    ADA,
    BOB,
    "10.1.2.3",
    "+1 (415) 555-0132",
    "my SSN is 536-22-8762",
    "536-22-8762",
    "4111 1111 1111 1111",
    "<EMAIL_ADDRESS_1>",
    "<EMAIL_ADDRESS_2>",
    "\\<US\\_SSN\\_1\\>",
    "&lt;IP_ADDRESS_1&gt;",
    "EMAIL_ADDRESS_1",
    "<EMAIL_ADDRESS",
    "_1>",
    "<",
    "&",
    " ",
    " ",
    ", ",
    "\n",
    "\"",
    "a",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), cases: 150, ..ProptestConfig::default() })]

    /// A model that repeats what it was told gives the user's own words back, and was told no value.
    #[test]
    fn what_goes_on_comes_back_as_it_was(
        parts in proptest::collection::vec(proptest::sample::select(PARTS), 1..10),
        kept in any::<bool>(),
    ) {
        let said = parts.concat();
        let list = if kept { "input" } else { "messages" };
        let body = json!({list: [{"role": "user", "content": said}]});
        let (forwarded, inspection) = asked(&body, "acme");
        prop_assume!(!inspection.verdict.blocked());
        let forwarded: Value = serde_json::from_str(&forwarded).unwrap();
        let text = forwarded[list][0]["content"].as_str().unwrap();
        let value = format!(" {ADA} ");
        prop_assert!(!text.contains(&value));
        // What is redacted does not come back, and neither does what touches it.
        if inspection.verdict.action != Action::Redact {
            prop_assert_eq!(&answered(&inspection, text), &said, "{}", text);
        }
        let again = json!({list: [{"role": "user", "content": said}, {"role": "user", "content": "and eve@example.net"}]});
        let again: Value = serde_json::from_str(&asked(&again, "acme").0).unwrap();
        prop_assert_eq!(&again[list][0]["content"], text, "the next turn begins with this one");
    }

    /// What is not waited for stays what it is.
    #[test]
    fn nothing_that_is_settled_changes(
        parts in proptest::collection::vec(proptest::sample::select(PARTS), 1..10),
        at in any::<prop::sample::Index>(),
    ) {
        let text = parts.concat();
        let labels: Vec<Box<str>> = vec!["EMAIL_ADDRESS".into(), "US_SSN".into(), "IP_ADDRESS".into()];
        let at = text.floor_char_boundary(at.index(text.len() + 1));
        let (come, open) = placeholder::scan(&text[..at], 0, &labels, false);
        let (whole, _) = placeholder::scan(&text, 0, &labels, true);
        prop_assert!(whole.iter().all(|found| found.range.end <= open || found.range.start >= open));
        let settled: Vec<_> = whole.into_iter().filter(|found| found.range.end <= open).collect();
        prop_assert_eq!(come, settled, "{:?} at {}", &text, at);
    }
}
