//! What the audit journal costs a request, and a start.
//!
//! - `pair/*`: one request, `begin` and `complete`, of an event with two findings (1.4 KB of records); the shipper runs beside
//!   it into a sink that takes everything. Includes making event and id, which the last one measures alone. Budget: 4 µs on
//!   an idle machine, of which the two JSON texts are 1.5 and the write 2 (a row of its own costs the store 4 to 7).
//! - `open/64MiB`: opening a journal that a crash left, files in the page cache. Budget: 125 ms, so that 1 GiB takes 2 s.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to measure")]

mod rows;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sentinel::audit::{Journal, Sink, ship_to};
use sentinel::config::{AuditConfig, ByteSize, SyncMode};
use sentinel::domain::{AuditEvent, AuditId, SystemClock};
use sentinel::store::{AuditRow, StoreError};
use sentinel::telemetry::Metrics;

use rows::{completion, event};

struct Void;

impl Sink for Void {
    async fn ship(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        black_box(rows);
        Ok(())
    }
}

fn open(dir: &Path, sync: SyncMode) -> Journal {
    let config = AuditConfig { sync, max_backlog: ByteSize::mib(16 << 10), ..AuditConfig::default() };
    Journal::open(dir, &config, Arc::new(SystemClock), Arc::new(Metrics::new())).unwrap()
}

/// Requests after which the clock stops until the shipper has caught up: the steady state is what counts, not the queue
/// that runs over because requests cost nothing here.
const ROUND: u64 = 2000;

/// Time of `requests` requests, made by `tasks` at once.
async fn requests(sync: SyncMode, tasks: u64, requests: u64) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), sync);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shipping = tokio::spawn(ship_to(journal.clone(), Void, stopped));
    let mut time = Duration::ZERO;
    let mut left = requests;
    while left > 0 {
        let round = left.min(ROUND);
        left -= round;
        let start = Instant::now();
        let running: Vec<_> = (0..tasks)
            .map(|task| tokio::spawn(some(journal.clone(), round / tasks + u64::from(task < round % tasks))))
            .collect();
        for task in running {
            task.await.unwrap();
        }
        time += start.elapsed();
        while journal.status().backlog_records > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stop.send(true).unwrap();
    shipping.await.unwrap();
    journal.close().await;
    time
}

async fn some(journal: Journal, requests: u64) {
    let prototype = event();
    for _ in 0..requests {
        let event = AuditEvent { id: AuditId::new(), ..prototype.clone() };
        let completion = completion(event.id);
        journal.begin(Box::new(event)).await.unwrap();
        journal.complete(completion);
    }
}

fn journal(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("pair");
    group.sample_size(20);
    for (name, sync, tasks) in [
        ("never", SyncMode::Never, 1),
        ("interval", SyncMode::Interval, 1),
        ("interval, 8 tasks", SyncMode::Interval, 8),
        ("always, 64 tasks", SyncMode::Always, 64),
    ] {
        group.bench_function(name, |bencher| bencher.iter_custom(|n| runtime.block_on(requests(sync, tasks, n))));
    }
    group.bench_function("event and completion made, not recorded", |bencher| {
        let prototype = event();
        bencher.iter(|| {
            let event = AuditEvent { id: AuditId::new(), ..prototype.clone() };
            black_box((completion(event.id), event))
        });
    });
    group.finish();

    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let journal = open(dir.path(), SyncMode::Never);
        while journal.status().backlog_bytes < 64 << 20 {
            journal.record(Box::new(event()), completion(AuditId::new())).await.unwrap();
        }
        journal.close().await;
    });
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Bytes(64 << 20)).sample_size(10);
    group.bench_function("64MiB", |bencher| bencher.iter(|| open(dir.path(), SyncMode::Never)));
    group.finish();
}

criterion_group!(benches, journal);
criterion_main!(benches);
