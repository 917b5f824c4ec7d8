//! Whole scan of text: input is synthetic chat and document prose, the unit is one scan of 2 KiB or 32 KiB. Budget: 3 µs/KiB on
//! ordinary text (aim 1.5), at most four times that on hostile text, and nothing to speak of for a text of a few bytes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sentinel::detect::Engine;
use sentinel::domain::Role;

const PROSE: &str = "The committee met on Tuesday and discussed the budget for 2024, which grew by 3.5 percent over the previous year. \
    Please summarise the main points in a table, and keep the names of the speakers. You can find the system requirements in the manual: \
    https://docs.example.com/guide/install. \"Why not?\" she asked. The rules for the new office are simple; nobody has to follow them blindly.\n";

fn text(pattern: &str, bytes: usize) -> String {
    let mut text = pattern.repeat(bytes / pattern.len() + 1);
    text.truncate(text.floor_char_boundary(bytes));
    text
}

fn detect(c: &mut Criterion) {
    let Ok(engine) = Engine::builtin() else { return };
    let mut group = c.benchmark_group("detect");
    let cases = [
        ("prose/2KiB", text(PROSE, 2048)),
        ("prose/32KiB", text(PROSE, 32 * 1024)),
        ("short/8B", "hi there".to_owned()),
        ("russian/2KiB", text("Комитет собрался во вторник и обсудил бюджет на следующий год. ", 2048)),
        ("hostile/digits/32KiB", text("7", 32 * 1024)),
        ("hostile/groups/32KiB", text("123-45-6789 ", 32 * 1024)),
        ("hostile/at-signs/32KiB", text("a@", 32 * 1024)),
        ("hostile/ignore/32KiB", text("ignore ", 32 * 1024)),
        ("hostile/token-starts/32KiB", text("sk-a1b2c3d4e5f6g7h8i9 ", 32 * 1024)),
        ("hostile/invisible/32KiB", text("i\u{200B}g", 32 * 1024)),
    ];
    for (name, text) in &cases {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), text, |b, text| {
            let mut found = Vec::new();
            b.iter(|| {
                found.clear();
                engine.scan(black_box(text), 0, Role::User, &mut found);
                found.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, detect);
criterion_main!(benches);
