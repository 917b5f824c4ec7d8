//! From the bytes of a request to segments of text, and back from a finding to bytes.
//!
//! Shapes: OpenAI chat JSON of 0.5, 2, 32 and 256 KiB in three messages, plain and with an escape every eighth word; 126
//! turns in 32 KiB; hostile shapes of 1 MiB. Unit: time per body, and bytes per second from which µs/KiB follow.
//! Budget: 0.3 to 0.5 µs/KiB for chat, 12 µs/KiB (four times the whole scan of benign text) for hostile shapes.

use std::hint::black_box;
use std::io::Write;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sentinel::domain::Dialect;
use sentinel::protocol::{BinaryRule, ReadLimits, decode, read};

const LIMITS: ReadLimits = ReadLimits { max_decoded: 64 << 20, max_ratio: 100, max_depth: 64 };

fn words(bytes: usize, escapes: bool) -> String {
    const WORDS: [&str; 11] =
        ["the", "model", "should", "answer", "questions", "about", "rust", "quickly", "and", "gateway", "care"];
    let mut text = String::new();
    let mut state = 7_u64;
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS.get((state >> 33) as usize % WORDS.len()).copied().unwrap_or_default());
        text.push_str(if escapes && (state >> 40).is_multiple_of(8) { r"\n" } else { " " });
    }
    text
}

fn chat(bytes: usize, turns: usize, escapes: bool) -> String {
    let turn = words(bytes / turns, escapes);
    let messages: Vec<String> = (0..turns)
        .map(|n| format!(r#"{{"role":"{}","content":"{turn}"}}"#, if n % 2 == 0 { "user" } else { "assistant" }))
        .collect();
    format!(r#"{{"model":"gpt-4o-mini","messages":[{}],"temperature":0.7,"stream":true}}"#, messages.join(","))
}

fn bodies() -> Vec<(String, String)> {
    let mut bodies = Vec::new();
    for (bytes, name) in [(512, "0.5KiB"), (2 << 10, "2KiB"), (32 << 10, "32KiB"), (256 << 10, "256KiB")] {
        bodies.push((format!("chat/{name}"), chat(bytes, 3, false)));
        bodies.push((format!("chat_escapes/{name}"), chat(bytes, 3, true)));
    }
    bodies.push(("conversation/32KiB".to_owned(), chat(32 << 10, 126, false)));
    let mebibyte = |piece: &str| piece.repeat((1 << 20) / piece.len());
    bodies.push(("hostile/newlines".to_owned(), format!(r#"["{}"]"#, mebibyte(r"\n"))));
    bodies.push(("hostile/unicode_escapes".to_owned(), format!(r#"["{}"]"#, mebibyte(r"\u0061"))));
    bodies.push(("hostile/short_strings".to_owned(), format!(r#"[{}1]"#, mebibyte(r#""a","#))));
    bodies.push(("hostile/nested".to_owned(), format!("[{}1]", mebibyte(r#"[[[["a"]]]],"#))));
    let keys: String = (0..80_000).map(|n| format!(r#""k{n}":1,"#)).collect();
    bodies.push(("hostile/many_keys".to_owned(), format!(r#"{{{keys}"k":1}}"#)));
    bodies
}

fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk");
    for (name, body) in bodies() {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), body.as_bytes(), |bencher, body| {
            let mut scratch = String::new();
            bencher.iter(|| {
                let document =
                    read(Some(Dialect::Openai), Some("application/json"), black_box(body), &LIMITS, BinaryRule::Refuse);
                for segment in document.iter().flat_map(|document| &document.segments) {
                    black_box(segment.text_in(&mut scratch));
                }
            });
        });
    }
    group.finish();
}

fn undo_codings(criterion: &mut Criterion) {
    let body = chat(32 << 10, 126, true);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let gzip = gzip.write_all(body.as_bytes()).and_then(|()| gzip.finish()).unwrap_or_default();
    let zstd = zstd::encode_all(body.as_bytes(), 3).unwrap_or_default();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(body.len() as u64));
    for (coding, encoded) in [("gzip", Bytes::from(gzip)), ("zstd", Bytes::from(zstd))] {
        group.bench_with_input(BenchmarkId::from_parameter(coding), &encoded, |bencher, encoded| {
            bencher.iter(|| decode(black_box(encoded), Some(coding), &LIMITS));
        });
    }
    group.finish();
}

criterion_group!(benches, walk, undo_codings);
criterion_main!(benches);
