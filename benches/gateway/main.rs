//! What Sentinel costs per request, against a plain pingora pass-through over the same upstream.
//!
//! One process tree: this process is the load and the upstream, on one core; `sentinel serve` (everything on: key,
//! whole body, all detectors, decision, journal, row in SQLite) and the pass-through (no hooks) are its children, on
//! another core, one worker each. They are stopped and woken in turn, so that only one runs at a time; rounds are
//! interleaved in shuffled order. The unit is CPU microseconds per request, all threads of the system, from the
//! kernel's own count (`/proc/PID/task/*/schedstat`). Only the ratios travel to another machine.
//!
//! `cargo bench --bench gateway -- [--rounds N] [--quick] [--only NAME]`. Budgets: 1.5 × at 0.5 and 2 KiB, 3.0 × at 32 KiB, 4.2 ×
//! at 256 KiB, 3.3 × for 126 turns in 32 KiB; a blocked request 0.8 × a 2 KiB pass-through.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark ends at the first surprise"
)]

mod bodies;
mod load;
mod passthrough;
mod systems;

use std::net::TcpListener;

use bodies::Shape;
use systems::System;

/// One row of the table.
struct Scenario {
    name: &'static str,
    shape: Shape,
    /// Requests of one system in one round.
    requests: usize,
    budget: f64,
    /// What Sentinel must answer.
    status: u16,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "0.5 KiB", shape: Shape::Text(512), requests: 6_000, budget: 1.5, status: 200 },
    Scenario { name: "2 KiB", shape: Shape::Text(2 << 10), requests: 6_000, budget: 1.5, status: 200 },
    Scenario { name: "32 KiB", shape: Shape::Text(32 << 10), requests: 3_000, budget: 3.0, status: 200 },
    Scenario { name: "256 KiB", shape: Shape::Text(256 << 10), requests: 600, budget: 4.2, status: 200 },
    Scenario {
        name: "126 turns, 32 KiB",
        shape: Shape::Turns(32 << 10, 126),
        requests: 3_000,
        budget: 3.3,
        status: 200,
    },
    Scenario { name: "blocked, 2 KiB", shape: Shape::Attack(2 << 10), requests: 6_000, budget: 0.8, status: 400 },
];

const CONNECTIONS: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| arguments.iter().position(|a| a == flag).and_then(|at| arguments.get(at + 1));
    if let Some(upstream) = after("--passthrough") {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        println!("{}", listener.local_addr().expect("bound"));
        passthrough::serve_passthrough(listener, upstream.parse().expect("an address"), 1);
        return;
    }
    let quick = arguments.iter().any(|a| a == "--quick");
    let rounds: usize = after("--rounds").and_then(|n| n.parse().ok()).unwrap_or(if quick { 3 } else { 12 });
    let divide = if quick { 4 } else { 1 };

    load::pin_this_process();
    let upstream = load::start_upstream();
    let mut sentinel = System::sentinel(upstream);
    let mut plain = System::passthrough(upstream);

    println!("CPU µs per request, medians of {rounds} interleaved rounds, {CONNECTIONS} connections");
    println!("{:<20} {:>12} {:>12} {:>8} {:>8}", "body", "pass-through", "sentinel", "ratio", "budget");
    let mut seed = 1_u64;
    let only = after("--only");
    for scenario in SCENARIOS.iter().filter(|scenario| only.is_none_or(|name| scenario.name == name)) {
        let bodies = bodies::make(scenario.shape, 64);
        // The blocked request is compared with a pass-through of the same size.
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let sentinel_first = seed >> 63 == 1;
            for turn in [sentinel_first, !sentinel_first] {
                let (system, expected) = if turn { (&mut sentinel, scenario.status) } else { (&mut plain, 200) };
                let cost = system.measure(&bodies, scenario.requests / divide, CONNECTIONS, expected);
                // The first round warms up.
                if round > 0 {
                    if turn { ours.push(cost) } else { theirs.push(cost) }
                }
            }
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        println!("{:<20} {theirs:>12.1} {ours:>12.1} {:>8.2} {:>8.2}", scenario.name, ours / theirs, scenario.budget);
    }

    if only.is_some() {
        return;
    }
    println!("\nmilliseconds for one request on one connection, p50 (pass-through, sentinel, difference)");
    for (name, size, requests) in [("2 KiB", 2 << 10, 1_000), ("32 KiB", 32 << 10, 500), ("256 KiB", 256 << 10, 200)] {
        let bodies = bodies::make(Shape::Text(size), 64);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds.min(6) {
            ours.extend(sentinel.latencies(&bodies, requests / divide));
            theirs.extend(plain.latencies(&bodies, requests / divide));
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        println!("{name:<20} {theirs:>12.3} {ours:>12.3} {:>8.3}", ours - theirs);
    }
    println!("\nresident memory of sentinel after the load: {:.1} MiB", sentinel.resident_mib());
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
