//! Streamed answers: a chat completion of ordinary words, an event a word. The unit is one event through the stream machine,
//! framing, reading, scanning and judging included. Budget: 3 µs, a twentieth of
//! what an event takes through a pass-through proxy (60 µs and more).

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sentinel::detect::Engine;
use sentinel::enforce::{AnswerLimits, AnswerStream};
use sentinel::policy::{PolicyLabel, Preset, compile, preset};
use sentinel::protocol::ReadLimits;
use sentinel::protocol::stream::Framing;

const EVENTS: usize = 400;
const PROSE: &str = "The committee met on Tuesday and discussed the budget for 2024, which grew by 3.5 percent over the previous year. ";

fn events(delta: impl Fn(&str) -> String) -> Vec<String> {
    PROSE.split_inclusive(' ').cycle().take(EVENTS).map(delta).collect()
}

fn answers(c: &mut Criterion) {
    let Ok(engine) = Engine::builtin().map(Arc::new) else { return };
    let limits =
        AnswerLimits { read: ReadLimits { max_decoded: 1 << 26, max_ratio: 200, max_depth: 64 }, max_frame: 1 << 23 };
    let chat = events(|word| {
        format!(
            "data: {{\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-5-mini\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    });
    let messages = events(|word| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}}}\n\n"
        )
    });
    let mut group = c.benchmark_group("answers");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for name in ["balanced", "strict"] {
        let Some(Ok(policy)) =
            preset(name).map(|document| compile(&document, PolicyLabel::of_preset(Preset::Balanced), &engine))
        else {
            return;
        };
        let policy = Arc::new(policy);
        for (dialect, events) in [("chat", &chat), ("messages", &messages)] {
            group.bench_with_input(BenchmarkId::new(name, dialect), events, |b, events| {
                let stream = || AnswerStream::new(engine.clone(), policy.clone(), Framing::Events, limits, None);
                b.iter_batched(
                    stream,
                    |mut stream| {
                        for event in events {
                            black_box(stream.push(event.as_bytes()));
                        }
                        stream.finish()
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, answers);
criterion_main!(benches);
