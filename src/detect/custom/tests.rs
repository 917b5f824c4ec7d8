use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::detect::Engine;
use crate::domain::{Category, Detector, Finding, Role, Severity};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::builtin().unwrap());

fn rule(name: &str) -> Arc<Rule> {
    Arc::new(Rule {
        id: format!("custom.{name}").into(),
        detector: Detector::Custom,
        category: Category::Custom,
        entity: name.into(),
        severity: Severity::High,
    })
}

fn keywords(words: &[&str]) -> CustomRules {
    let mut builder = CustomRules::builder();
    let number = builder.rule(rule("words"), 1.0);
    words.iter().for_each(|word| builder.keyword(number, word).unwrap());
    builder.build(|_| true).unwrap()
}

fn phrases(words: &[&str]) -> CustomRules {
    let mut builder = CustomRules::builder();
    let number = builder.rule(rule("words"), 1.0);
    words.iter().for_each(|word| builder.phrase(number, word).unwrap());
    builder.build(|_| true).unwrap()
}

fn regexes(patterns: &[&str]) -> CustomRules {
    let mut builder = CustomRules::builder();
    for (index, pattern) in patterns.iter().enumerate() {
        let number = builder.rule(rule(&format!("r{index}")), 1.0);
        builder.regex(number, pattern).unwrap();
    }
    builder.build(|_| true).unwrap()
}

fn findings(custom: &CustomRules, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    ENGINE.scan_with(text, 0, Role::User, Some(custom), &mut found);
    found.retain(|finding| finding.rule.detector == Detector::Custom);
    found
}

fn found<'t>(custom: &CustomRules, text: &'t str) -> Vec<&'t str> {
    findings(custom, text).into_iter().map(|finding| &text[finding.span]).collect()
}

#[test]
fn keywords_are_whole_words_whatever_their_case() {
    let custom = keywords(&["atlas", "C++", "Ärzte", "東京", "x-1"]);
    for (text, expected) in [
        ("Atlas, ATLAS; atlas_v2", &["Atlas", "ATLAS", "atlas"][..]),
        ("atlases and batlas", &[]),
        ("c++ and C+", &["c++"]),
        ("die ÄRZTE, ärzte", &["ÄRZTE", "ärzte"]),
        ("私は東京に住む", &["東京"]),
        ("x-1 x-12 ax-1", &["x-1"]),
        ("x-1", &["x-1"]),
    ] {
        assert_eq!(found(&custom, text), expected, "{text}");
    }
}

#[test]
fn the_words_of_a_phrase_follow_each_other_over_anything_but_letters() {
    let custom = phrases(&["project blue heron"]);
    for (text, expected) in [
        ("about Project Blue Heron.", &["Project Blue Heron"][..]),
        ("project_blue-heron", &["project_blue-heron"]),
        ("**project**\n> blue\n> heron", &["project**\n> blue\n> heron"]),
        ("project dark blue heron", &[]),
        ("projectblueheron", &[]),
        ("subproject blue heron", &[]),
        ("project blue herons", &[]),
        ("project                  blue heron", &[]),
    ] {
        assert_eq!(found(&custom, text), expected, "{text}");
    }
}

#[test]
fn own_rules_see_every_reading_and_spans_lead_back() {
    let custom = regexes(&[r"ACME-\d{6}", "[0-9]{3}#[0-9]{3}"]);
    let encoded = "the id is QUNNRS0xMjM0NTYgb2YgdGhlIGN1c3RvbWVyIGluIGNoYXJnZQ== please";
    let [finding] = &findings(&custom, encoded)[..] else { panic!("one finding") };
    assert!(encoded[finding.span.clone()].starts_with("QUNNRS0xMjM0NT"), "{finding:?}");
    assert!(!encoded[finding.span.clone()].contains(' '));
    assert_eq!(found(&custom, "ＡＣＭＥ-１２３４５６"), ["ＡＣＭＥ-１２３４５６"]);
    assert_eq!(found(&custom, "x 123#456 y"), ["123#456"], "an expression without a literal runs always");
    let custom = keywords(&["heron"]);
    assert_eq!(found(&custom, "he\u{200B}ron"), ["he\u{200B}ron"]);
}

#[test]
fn rules_that_overlap_stand_each_for_itself_and_one_rule_covers_all_that_it_matches() {
    let custom = regexes(&["abcdef", "cd"]);
    assert_eq!(found(&custom, "abcdef"), ["abcdef", "cd"]);
    let custom = phrases(&["one two", "two three"]);
    assert_eq!(found(&custom, "one two three"), ["one two three"]);
}

#[test]
fn an_allow_list_covers_the_named_rule_and_nothing_beside_it() {
    let mut builder = CustomRules::builder();
    let number = builder.rule(rule("mail"), 1.0);
    builder.regex(number, r"[a-z]+@acme\.example").unwrap();
    builder.allow(["pii.email_address"], Some("help@acme.example"), None).unwrap();
    builder.allow(["pii.email_address"], None, Some(r".*@open\.example")).unwrap();
    let custom = builder.build(|_| true).unwrap();
    let allowed = |text: &str| {
        let mut found = Vec::new();
        ENGINE.scan_with(text, 0, Role::User, Some(&custom), &mut found);
        found.into_iter().map(|finding| (finding.rule.id.to_string(), finding.allowed_by)).collect::<Vec<_>>()
    };
    let mail = "pii.email_address".to_owned();
    assert_eq!(allowed("to help@acme.example"), [(mail.clone(), Some(0)), ("custom.mail".to_owned(), None)]);
    assert_eq!(allowed("to ada@open.example"), [(mail.clone(), Some(1))]);
    assert_eq!(allowed("to ada@open.example.org"), [(mail, None)]);
}

#[test]
fn what_may_become_a_match_is_waited_for_and_nothing_else() {
    let held = |custom: &CustomRules, text: &str| text[custom.settled(text)..].to_owned();
    let custom = keywords(&["project atlas"]);
    for (text, open) in [
        ("about pro", "pro"),
        ("about Project a", "Project a"),
        ("about project atlas", "project atlas"),
        ("about project atlas ", ""),
        ("about project b", ""),
        ("subpro", ""),
    ] {
        assert_eq!(held(&custom, text), open, "{text:?}");
    }
    let custom = phrases(&["project atlas"]);
    assert_eq!(held(&custom, "the **Project** - at"), "Project** - at");
    assert_eq!(held(&custom, "the project attic"), "");
    let custom = regexes(&[r"ACME-\d{3,6}"]);
    for (text, open) in [
        ("see AC", "AC"),
        ("see ACME-12", "ACME-12"),
        ("see ACME-12345", "ACME-12345"),
        ("see ACME-123456", ""),
        ("see ACME-x", ""),
    ] {
        assert_eq!(held(&custom, text), open, "{text:?}");
    }
    assert_eq!(held(&regexes(&[r"key \w+\b"]), "a key abc"), "key abc");
    let long = format!("BEGIN {}", "x".repeat(5000));
    assert!(held(&regexes(&["(?s)BEGIN.*END"]), &long).len() <= open::LONGEST_WAIT);
}

#[test]
fn too_much_is_refused() {
    let mut builder = CustomRules::builder();
    let number = builder.rule(rule("many"), 1.0);
    for bad in ["", " ", "a", &"x".repeat(words::LONGEST + 1)] {
        assert!(builder.keyword(number, bad).is_err() && builder.phrase(number, bad).is_err(), "{bad}");
    }
    assert!(builder.phrase(number, "+++").is_err());
    (0..MAX_EXPRESSIONS).for_each(|_| builder.regex(number, "ab").unwrap());
    assert!(builder.regex(number, "ab").unwrap_err().contains("more than"));
}

const PARTS: &[&str] = &[
    "acme", "-", "12", "345", " ", "project", "\n", "atlas", "x", "ä", "é", "Ü", "東京", ".", "pro", "AC", "ME-1", "#",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), cases: 600, ..ProptestConfig::default() })]

    /// What is settled stays: no match in the whole reaches from the settled part into the rest.
    #[test]
    fn nothing_that_is_settled_changes(parts in proptest::collection::vec(proptest::sample::select(PARTS), 1..9), at in any::<prop::sample::Index>()) {
        static RULES: LazyLock<CustomRules> = LazyLock::new(|| {
            let mut builder = CustomRules::builder();
            let number = builder.rule(rule("all"), 1.0);
            builder.keyword(number, "acme-12").unwrap();
            builder.keyword(number, "東京").unwrap();
            builder.phrase(number, "project atlas x").unwrap();
            for pattern in [r"(?i)ACME-\d+", r"\bÜ\w*\b", r"#.{1,8}#", r"12\b"] {
                let number = builder.rule(rule(pattern), 1.0);
                builder.regex(number, pattern).unwrap();
            }
            builder.build(|_| true).unwrap()
        });
        let text = parts.concat();
        let at = text.floor_char_boundary(at.index(text.len() + 1));
        let mut settled = RULES.settled(&text[..at]);
        let come = findings(&RULES, &text[..at]);
        while let Some(finding) = come.iter().find(|f| f.span.start < settled && settled < f.span.end) {
            settled = finding.span.start;
        }
        let ending = |text: &str| {
            let mut found = findings(&RULES, text);
            found.retain(|finding| finding.span.end <= settled);
            found.into_iter().map(|finding| (finding.rule.id.clone(), finding.span)).collect::<Vec<_>>()
        };
        prop_assert_eq!(ending(&text[..at]), ending(&text), "{:?} at {:?}", &text, &text[..at]);
        for finding in findings(&RULES, &text) {
            prop_assert!(finding.span.end <= settled || finding.span.start >= settled, "{:?} of {:?}, settled {:?}", finding, text, &text[..settled]);
        }
    }

    #[test]
    fn a_prefilter_changes_nothing(parts in proptest::collection::vec(proptest::sample::select(PARTS), 1..12)) {
        let text = parts.concat();
        for pattern in [r"(?i)acme-\d", "(?i)project.?atlas|ME-1", r"(?i)Ü[a-z]*|東京", "(?i:é)x"] {
            let plain: Vec<_> = regex::Regex::new(pattern).unwrap().find_iter(&text).map(|found| found.range()).collect();
            let own: Vec<_> = findings(&regexes(&[pattern]), &text).into_iter().map(|finding| finding.span).collect();
            // Adjacent matches stay apart; readings that differ from the text add what they show.
            for span in plain {
                prop_assert!(own.iter().any(|other| other.start <= span.start && span.end <= other.end), "{pattern} in {text:?}");
            }
        }
    }
}

#[test]
fn a_text_full_of_matches_is_covered_by_a_bounded_number_of_findings() {
    let custom = regexes(&["[ab]c?", "b", "東"]);
    let text = "ab 東".repeat(20_000);
    let mut found = findings(&custom, &text);
    assert!(found.len() <= MAX_APART + 3, "{}", found.len());
    found.retain(|finding| &*finding.rule.id == "custom.r1");
    let covered = |at: usize| found.iter().any(|finding| finding.span.contains(&at));
    assert!(text.match_indices('b').step_by(97).all(|(at, _)| covered(at)));
}
