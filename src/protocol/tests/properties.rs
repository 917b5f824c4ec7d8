//! The walker against `serde_json`, which is the oracle for everything but duplicates, depth and the size of numbers.

use std::collections::HashSet;
use std::fmt;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::*;
use crate::protocol::vocabulary::Word;

/// What `serde_json` sees of a text: its strings in order (keys that are no known words, and values), no duplicates.
struct Seen(Vec<String>);

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeenVisitor)
    }
}

struct SeenVisitor;

impl<'de> Visitor<'de> for SeenVisitor {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen(vec![]))
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen(vec![]))
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen(vec![]))
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen(vec![]))
    }
    fn visit_unit<E: Error>(self) -> Result<Seen, E> {
        Ok(Seen(vec![]))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Seen, E> {
        Ok(Seen(vec![text.to_owned()]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seen, A::Error> {
        let mut strings = vec![];
        while let Some(Seen(more)) = seq.next_element()? {
            strings.extend(more);
        }
        Ok(Seen(strings))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let (mut strings, mut keys) = (vec![], HashSet::new());
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom("duplicate"));
            }
            if Word::of(&key) == Word::Unknown {
                strings.push(key);
            }
            strings.extend(map.next_value::<Seen>()?.0);
        }
        Ok(Seen(strings))
    }
}

/// The strings of a document; its long numbers are not what `serde_json` calls strings.
fn texts(document: &Document<'_>) -> Vec<String> {
    let strings = document.segments.iter().filter(|segment| segment.kind != Source::JsonNumber);
    strings.map(|segment| segment.text().into_owned()).collect()
}

/// Compares the two on one input; for input that both accept, the strings too.
fn compare(dialect: Option<Dialect>, body: &[u8]) -> Result<(), TestCaseError> {
    let ours = read(dialect, Some("application/json"), body, &LIMITS, BinaryRule::Pass);
    let theirs = serde_json::from_slice::<Seen>(body);
    match (ours, theirs) {
        (Ok(document), Ok(Seen(mut strings))) => {
            // A known value of a field of choice is no segment: it may be missing, and nothing else.
            let ours = texts(&document);
            let mut unmatched = ours.iter().peekable();
            strings.retain(|text| {
                !text.is_empty()
                    && (unmatched.next_if(|ours| *ours == text).is_some() || Word::of(text) == Word::Unknown)
            });
            prop_assert_eq!(ours, strings);
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => {
            // RFC 8259 sets no range; serde_json does. An empty body is no JSON, and nothing to scan.
            prop_assert!(
                error.to_string().contains("out of range") || body.is_empty(),
                "only serde_json refuses {:?}: {error}",
                String::from_utf8_lossy(body)
            );
        }
        (Err(error), Ok(_)) => {
            prop_assert!(
                error.message.contains("nested too deeply"),
                "only the walker refuses {:?}: {error}",
                String::from_utf8_lossy(body)
            );
        }
    }
    Ok(())
}

/// A JSON text with escapes and white space of every kind.
fn json() -> impl Strategy<Value = String> {
    let space = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t ")];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,12})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        string().prop_map(|(source, _)| format!("\"{source}\"")),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let key = prop_oneof![
            string().prop_map(|(source, _)| source),
            prop::sample::select(vec!["role", "content", "type", "messages", "text", "model", "input"])
                .prop_map(str::to_owned),
        ];
        let space = space.clone();
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..6), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},")))),
            (prop::collection::vec((key, inner), 0..6), space).prop_map(|(members, space)| {
                let members: Vec<_> =
                    members.into_iter().map(|(key, value)| format!("\"{key}\"{space}:{space}{value}")).collect();
                format!("{{{space}{}{space}}}", members.join(","))
            }),
        ]
    })
}

/// A string's source and the text it stands for.
fn string() -> impl Strategy<Value = (String, String)> {
    let piece = prop_oneof![
        3 => "[ !#-\\[\\]-~]{1,9}".prop_map(|text| (text.clone(), text)),
        1 => prop::sample::select(vec!["é", "日本", "😀", "\u{7f}"]).prop_map(|t| (t.to_owned(), t.to_owned())),
        1 => prop::sample::select(vec![("\\n", "\n"), ("\\\"", "\""), ("\\\\", "\\"), ("\\/", "/"), ("\\b", "\u{8}")])
            .prop_map(|(source, text)| (source.to_owned(), text.to_owned())),
        1 => any::<char>().prop_map(|c| {
            let source = c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
            (source, c.to_string())
        }),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.into_iter().unzip())
}

fn dialect() -> impl Strategy<Value = Option<Dialect>> {
    prop::sample::select(vec![None, Some(Dialect::Openai), Some(Dialect::Anthropic), Some(Dialect::Gemini)])
}

/// Seeded, so that a failure is the same failure the next time.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_260_101),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn reads_what_serde_json_reads(body in json(), dialect in dialect()) {
        compare(dialect, body.as_bytes())?;
    }

    #[test]
    fn refuses_what_serde_json_refuses(
        body in json(),
        dialect in dialect(),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![
                prop::sample::select(b"\"\\{}[]:,0-+.eEu \n\t\x00d8Ntrue\xff\xed\xa0".to_vec()),
                any::<u8>(),
            ], 0_u8..3),
            1..4,
        ),
    ) {
        let mut body = body.into_bytes();
        for (index, byte, edit) in edits {
            let at = index.index(body.len() + 1);
            match edit {
                0 => body.insert(at, byte),
                1 if at < body.len() => body[at] = byte,
                _ if at < body.len() => drop(body.remove(at)),
                _ => body.truncate(at / 2),
            }
        }
        // Another content type would be another question; a mark is refused by both.
        compare(dialect, &body)?;
    }

    #[test]
    fn never_panics_on_any_bytes(
        body in prop::collection::vec(any::<u8>(), 0..200),
        content_type in prop::sample::select(vec![None, Some("text/plain"), Some("application/jsonl"), Some("a/b")]),
        dialect in dialect(),
    ) {
        let _ = read(dialect, content_type, &body, &LIMITS, BinaryRule::Pass);
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            let _ = decode(&bytes::Bytes::copy_from_slice(&body), Some(encoding), &LIMITS);
        }
    }

    #[test]
    fn a_span_of_the_text_is_found_in_the_source(
        (source, text) in string(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!text.is_empty());
        let body = format!("{{\"k\":[\"{source}\"]}}");
        let document = read_json(None, &body).unwrap();
        let segment = document.segments.last().unwrap();
        prop_assert_eq!(segment.text(), &*text);
        prop_assert_eq!(&body[segment.raw()], &*source);

        let boundaries: Vec<usize> = (0..=text.len()).filter(|&i| text.is_char_boundary(i)).collect();
        let (a, b) = (*from.get(&boundaries), *to.get(&boundaries));
        let span = a.min(b)..a.max(b);
        prop_assume!(!span.is_empty());
        let raw = segment.raw_span(span.clone());
        // Every character is one piece of source, so the piece of source reads as exactly the piece of text.
        let piece = format!("\"{}\"", &body[raw]);
        prop_assert_eq!(serde_json::from_str::<String>(&piece).unwrap(), &text[span]);
    }

    #[test]
    fn a_span_that_cuts_a_character_covers_it_whole(
        (source, text) in string(),
        from in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!text.is_empty());
        let body = format!("[\"{source}\"]");
        let document = read_json(None, &body).unwrap();
        let segment = document.segments.last().unwrap();
        let at = from.index(text.len());
        let whole = text.floor_char_boundary(at)..text.ceil_char_boundary(at + 1);
        prop_assert_eq!(segment.raw_span(at..at + 1), segment.raw_span(whole));
    }

    #[test]
    fn many_spans_in_one_walk_are_the_same_as_one_by_one(
        (source, text) in string(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        prop_assume!(!text.is_empty());
        let body = format!("[\"{source}\"]");
        let document = read_json(None, &body).unwrap();
        let segment = document.segments.last().unwrap();
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let spans: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        let together: Vec<_> = segment.raw_spans(spans.clone().into_iter()).collect();
        let apart: Vec<_> = spans.into_iter().map(|span| segment.raw_span(span)).collect();
        prop_assert_eq!(together, apart);
    }
}
