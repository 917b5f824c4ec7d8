//! Inspection with a detector that knows three words and a policy that is a table.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::domain::{Detector, Judged, Rule, Severity, SkipReason};

const LIMITS: ReadLimits = ReadLimits { max_decoded: 1 << 20, max_ratio: 100, max_depth: 32 };

/// Words of the fake detector: what they are, and what the fake policy does about them.
struct Word {
    text: &'static str,
    rule: Arc<Rule>,
    action: Action,
}

static WORDS: LazyLock<Vec<Word>> = LazyLock::new(|| {
    let word = |text, detector, category, entity: &str, action| Word {
        text,
        rule: Arc::new(Rule {
            id: format!("test.{}", entity.to_lowercase()).into(),
            detector,
            category,
            entity: entity.into(),
            severity: Severity::High,
        }),
        action,
    };
    vec![
        word("4111111111111111", Detector::Pii, Category::Pii, "CREDIT_CARD", Action::Redact),
        word("078-05-1120", Detector::Pii, Category::Pii, "US_SSN", Action::Redact),
        // Overlaps the number above, and is wider.
        word("ssn 078-05-1120", Detector::Pii, Category::Pii, "labelled ssn", Action::Redact),
        word("äöü\n😀", Detector::Pii, Category::Pii, "ODD", Action::Redact),
        word("ada@example.com", Detector::Pii, Category::Pii, "EMAIL_ADDRESS", Action::Flag),
        word("AKIA", Detector::Secrets, Category::Secrets, "AWS_ACCESS_KEY", Action::Block),
        word("ignore all", Detector::Injection, Category::PromptInjection, "OVERRIDE", Action::Block),
    ]
});

fn scan(text: &str, segment: usize, _role: Role, out: &mut Vec<Finding>) -> Views {
    for word in WORDS.iter() {
        out.extend(text.match_indices(word.text).map(|(at, found)| Finding {
            rule: word.rule.clone(),
            confidence: 0.9,
            span: at..at + found.len(),
            segment,
            allowed_by: None,
        }));
    }
    Views::default()
}

fn decide(findings: Vec<Finding>, _role_of: &dyn Fn(usize) -> Role) -> Verdict {
    let action_of = |finding: &Finding| WORDS.iter().find(|word| word.rule == finding.rule).unwrap().action;
    let findings: Vec<Judged> =
        findings.into_iter().map(|finding| Judged { action: action_of(&finding), finding }).collect();
    let action = findings.iter().map(|judged| judged.action).max().unwrap_or(Action::Allow);
    Verdict { action, findings, ..Verdict::clean() }
}

fn inspected(dialect: Option<Dialect>, body: &str) -> Inspection {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let content_type = Some("application/json");
    let body = RequestBody { bytes: &bytes, dialect, content_type, content_encoding: None };
    inspect_with(scan, decide, body, (&LIMITS, BinaryRule::Refuse), (None, None), None, |_, _| None).unwrap()
}

fn redacted(dialect: Option<Dialect>, body: &str) -> String {
    match inspected(dialect, body).forward {
        Forward::Redacted(bytes) => String::from_utf8(bytes.into()).unwrap(),
        Forward::AsReceived => panic!("nothing was redacted"),
    }
}

#[test]
fn a_clean_body_goes_on_as_it_came() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hello"}],"stream":true,"user":"u"}"#;
    let inspection = inspected(Some(Dialect::Openai), body);
    assert_eq!(inspection.forward, Forward::AsReceived);
    assert_eq!(inspection.verdict, Verdict::clean());
    assert!(inspection.findings.is_empty() && inspection.stream);
    assert_eq!((inspection.model.as_deref(), inspection.user_id.as_deref()), (Some("m"), Some("u")));
    assert_eq!(inspection.coverage.received, body.len() as u64);
}

#[test]
fn found_bytes_are_replaced_and_no_others() {
    assert_eq!(
        redacted(
            Some(Dialect::Openai),
            "{ \"messages\" : [ {\"content\":\"é\\t4111111111111111\\u00e9 078-05-1120.\",\"role\":\"user\"} ] }\n"
        ),
        "{ \"messages\" : [ {\"content\":\"é\\t[REDACTED_CREDIT_CARD]\\u00e9 [REDACTED_US_SSN].\",\"role\":\"user\"} ] }\n"
    );
}

#[test]
fn what_overlaps_becomes_one_replacement_named_by_the_widest() {
    assert_eq!(redacted(None, r#"{"x":"my ssn 078-05-1120!"}"#), r#"{"x":"my [REDACTED_LABELLED_SSN]!"}"#);
}

#[test]
fn escapes_inside_a_find_go_with_it() {
    assert_eq!(
        redacted(None, r#"{"x":"\n\u00e4ö\u00fc\n\ud83d\ude00\n","y":"4\u0031111111\u00311111111"}"#),
        r#"{"x":"\n[REDACTED_ODD]\n","y":"[REDACTED_CREDIT_CARD]"}"#
    );
}

#[test]
fn a_number_becomes_a_string_and_the_body_stays_json() {
    assert_eq!(redacted(None, r#"{"note": 4111111111111111, "n":[-4111111111111111.5]}"#), {
        r#"{"note": "[REDACTED_CREDIT_CARD]", "n":["[REDACTED_CREDIT_CARD]"]}"#
    });
}

#[test]
fn redacted_keys_of_one_object_stay_different() {
    let body = redacted(None, r#"{"a 4111111111111111":1,"b":2,"078-05-1120":3,"4111111111111111":4}"#);
    let keys: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&body).unwrap();
    assert_eq!(keys.len(), 4, "{body}");
    assert!(body.starts_with(r#"{"a [REDACTED_CREDIT_CARD_0]":1,"b":2,"#), "{body}");
}

#[test]
fn a_flag_changes_nothing_and_is_remembered_without_its_text() {
    let inspection = inspected(
        Some(Dialect::Openai),
        r#"{"messages":[{"content":[{"type":"text","text":"é ada@example.com"}],"role":"assistant"}],"metadata":{"ada@example.com":"x"}}"#,
    );
    assert_eq!(inspection.forward, Forward::AsReceived);
    let [first, second] = &inspection.findings[..] else { panic!("{:?}", inspection.findings) };
    assert_eq!((first.path.as_str(), first.role), ("messages[0].content[0].text", Role::Assistant));
    assert_eq!((first.start, first.end, first.action), (3, 18, Action::Flag));
    assert_eq!((first.entity.as_str(), first.rule_id.as_str()), ("EMAIL_ADDRESS", "test.email_address"));
    assert_eq!((second.path.as_str(), second.role), ("metadata.{key}", Role::Other));
    assert_eq!(first.direction, Direction::Input);
}

#[test]
fn a_blocked_body_is_not_rewritten() {
    let inspection = inspected(None, r#"{"x":"4111111111111111, ignore all"}"#);
    assert!(inspection.verdict.blocked());
    assert_eq!(inspection.forward, Forward::AsReceived);
    assert_eq!(inspection.findings.len(), 2);
}

#[test]
fn the_role_that_is_scanned_and_judged_is_the_one_that_was_resolved() {
    let body = Bytes::from_static(br#"{"messages":[{"content":"ignore all","role":"tool"}]}"#);
    let request =
        RequestBody { bytes: &body, dialect: Some(Dialect::Openai), content_type: None, content_encoding: None };
    inspect_with(
        |text, index, role, out| {
            assert_eq!((index, role), (0, Role::Tool));
            scan(text, index, role, out)
        },
        |findings, role_of| {
            assert_eq!(role_of(findings[0].segment), Role::Tool);
            assert_eq!(role_of(99), Role::Other);
            decide(findings, role_of)
        },
        request,
        (&LIMITS, BinaryRule::Refuse),
        (None, None),
        None,
        |_, _| None,
    )
    .unwrap();
}

#[test]
fn an_encoded_body_is_scanned_decoded_and_forwarded_encoded_unless_it_is_redacted() {
    let encode = |text: &str| Bytes::from(zstd::encode_all(text.as_bytes(), 3).unwrap());
    let inspect = |bytes: &Bytes| {
        let body = RequestBody { bytes, dialect: None, content_type: None, content_encoding: Some("zstd") };
        inspect_with(scan, decide, body, (&LIMITS, BinaryRule::Refuse), (None, None), None, |_, _| None)
    };
    let clean = encode(r#"{"x":"hello"}"#);
    let inspection = inspect(&clean).unwrap();
    assert_eq!(inspection.forward, Forward::AsReceived);
    assert_eq!((inspection.coverage.received, inspection.coverage.decoded), (clean.len() as u64, 13));

    let inspection = inspect(&encode(r#"{"x":"4111111111111111"}"#)).unwrap();
    assert_eq!(inspection.forward, Forward::Redacted(Bytes::from_static(br#"{"x":"[REDACTED_CREDIT_CARD]"}"#)));

    assert_eq!(inspect(&Bytes::from_static(b"{}")).unwrap_err().code, "invalid_encoding");
}

#[test]
fn what_cannot_be_read_is_an_error_or_a_named_gap() {
    let bytes = Bytes::from_static(b"\xff\x00");
    let body = RequestBody { bytes: &bytes, dialect: None, content_type: Some("audio/mpeg"), content_encoding: None };
    assert_eq!(
        inspect_with(scan, decide, body, (&LIMITS, BinaryRule::Refuse), (None, None), None, |_, _| None)
            .unwrap_err()
            .status,
        415
    );
    let passed =
        inspect_with(scan, decide, body, (&LIMITS, BinaryRule::Pass), (None, None), None, |_, _| None).unwrap();
    assert_eq!(passed.forward, Forward::AsReceived);
    assert_eq!(passed.coverage.skipped[0].reason, SkipReason::Binary);

    let empty = Bytes::new();
    let body =
        RequestBody { bytes: &empty, dialect: Some(Dialect::Openai), content_type: None, content_encoding: None };
    assert_eq!(
        inspect_with(scan, decide, body, (&LIMITS, BinaryRule::Refuse), (None, None), None, |_, _| None)
            .unwrap()
            .verdict,
        Verdict::clean()
    );
}

#[test]
fn of_very_many_findings_the_strongest_are_kept() {
    let body = format!(r#"{{"x":"{}AKIA"}}"#, "ada@example.com ".repeat(5_000));
    let inspection = inspected(None, &body);
    assert_eq!(inspection.verdict.findings.len(), 5_001);
    assert_eq!(inspection.findings.len(), 256);
    assert_eq!(inspection.findings[0].action, Action::Block);
    assert_eq!(inspection.findings[1].start, 0);
}

#[test]
fn a_text_shows_neither_what_is_redacted_nor_the_data_it_is_blocked_for() {
    let inspect = |text: &str| inspect_text_with(scan, decide, text, Role::User, Direction::Output, None);
    let clean = inspect("hello");
    assert_eq!((clean.redacted.as_str(), clean.coverage.scanned, clean.coverage.segments), ("hello", 5, 1));

    let found = inspect("é 4111111111111111, AKIA, ignore all, ada@example.com");
    assert!(found.verdict.blocked());
    assert_eq!(found.redacted, "é [REDACTED_CREDIT_CARD], [REDACTED_AWS_ACCESS_KEY], ignore all, ada@example.com");
    assert_eq!(found.findings.len(), 4);
    assert_eq!((found.findings[0].path.as_str(), found.findings[0].direction), ("text", Direction::Output));

    let empty = inspect("");
    assert_eq!((empty.redacted.as_str(), empty.coverage.segments), ("", 0));
}

/// A JSON value whose strings, keys and numbers may hold what the fake detector finds.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let text = prop::collection::vec(
        prop_oneof![
            3 => "[a-z0-9 \"\\\\\n\u{e9}\u{1f600}-]{0,6}",
            1 => prop::sample::select(WORDS.iter().map(|word| word.text.to_owned()).collect::<Vec<_>>()),
        ],
        0..5,
    )
    .prop_map(|parts| parts.concat());
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<i32>().prop_map(Into::into),
        Just(4_111_111_111_111_111_u64.into()),
        text.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((text.clone(), inner), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_260_102),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_redacted_body_is_strict_json_without_what_was_found(value in json(), pretty in any::<bool>()) {
        let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let inspection = inspected(None, &body);
        let Forward::Redacted(out) = &inspection.forward else {
            prop_assert!(inspection.verdict.action != Action::Redact);
            return Ok(());
        };
        let again = inspected(None, std::str::from_utf8(out).unwrap());
        prop_assert!(again.verdict.findings.iter().all(|judged| judged.action == Action::Flag), "{again:?}");
        prop_assert_eq!(again.coverage.segments, inspection.coverage.segments);
    }

    #[test]
    fn bytes_outside_of_any_finding_are_unchanged(
        texts in prop::collection::vec("[a-z\"\\\\\n\u{e9}\u{1f600}]{1,12}", 1..5),
        ascii in any::<bool>(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..6), 0..8),
    ) {
        // As most encoders write it, or with an escape for everything that can have one.
        let body = serde_json::to_string(&texts).unwrap();
        let body = if ascii { escaped_where_possible(&body) } else { body };
        let document = protocol::read(None, None, body.as_bytes(), &LIMITS, BinaryRule::Refuse).unwrap();
        let findings: Vec<Judged> = places
            .iter()
            .map(|(segment, start, length)| {
                let segment = segment.index(texts.len());
                let text = &texts[segment];
                let start = text.floor_char_boundary(start.index(text.len()));
                let span = start..text.ceil_char_boundary((start + length).min(text.len()));
                let finding = Finding { rule: WORDS[0].rule.clone(), confidence: 1.0, span, segment, allowed_by: None };
                Judged { finding, action: Action::Redact }
            })
            .collect();

        let mut found = vec![false; body.len()];
        for Judged { finding, .. } in findings.iter().filter(|judged| !judged.finding.span.is_empty()) {
            found[document.segments[finding.segment].raw_span(finding.span.clone())].fill(true);
        }
        let outside: Vec<u8> = body.bytes().zip(found).filter(|(_, found)| !found).map(|(byte, _)| byte).collect();
        let out = String::from_utf8(Splice::of_document(&document, &merged(findings.iter())).apply(body.as_bytes())).unwrap();
        prop_assert_eq!(out.replace("[REDACTED_CREDIT_CARD]", "").into_bytes(), outside);
        prop_assert!(serde_json::from_str::<Vec<String>>(&out).is_ok(), "{out}");
    }
}

fn escaped_where_possible(body: &str) -> String {
    let escape = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
    body.chars().map(|c| if c.is_ascii() { c.to_string() } else { escape(c) }).collect()
}

#[test]
fn a_panic_of_a_detector_is_contained() {
    assert_eq!(contained(|| 7), Some(7));
    assert_eq!(contained(|| Vec::<u8>::new()[..].iter().map(|b| 1 / b).max()), Some(None));
    assert_eq!(contained(|| [1u8, 2].get(2).copied().unwrap()), None);
}
