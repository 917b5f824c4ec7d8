//! What a decision costs: `cargo bench --bench policy`.
//!
//! Input: 200 rules of all categories, the preset `balanced`. Budgets: no findings, 20 ns; one finding, 200 ns; a thousand
//! findings, 100 ns each; compiling a document (off the path of requests), 200 µs.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench may stop")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sentinel::domain::{Category, Detector, Finding, Role, Rule, Severity};
use sentinel::policy::{Compiler, PolicyLabel, Preset, parse};

const RULES: usize = 200;

fn rules() -> Vec<Arc<Rule>> {
    let rule = |index: usize| {
        let category = Category::ALL[index % Category::ALL.len()];
        let entity = match category {
            Category::Pii => ["EMAIL_ADDRESS", "CREDIT_CARD", "PHONE_NUMBER", "IP_ADDRESS"][index / 5 % 4].to_owned(),
            _ => format!("TYPE_{index}"),
        };
        let detector = match category {
            Category::Pii => Detector::Pii,
            Category::Secrets => Detector::Secrets,
            _ => Detector::Injection,
        };
        let id = format!("{}.some_rule_name_{index:03}", category.as_str());
        Arc::new(Rule { id: id.into(), detector, category, entity: entity.into(), severity: Severity::High })
    };
    (0..RULES).map(rule).collect()
}

fn findings(rules: &[Arc<Rule>], count: usize) -> Vec<Finding> {
    let finding = |index: usize| Finding {
        rule: Arc::clone(&rules[index * 7 % rules.len()]),
        confidence: 0.8,
        span: 0..8,
        segment: index % 4,
        allowed_by: None,
    };
    (0..count).map(finding).collect()
}

fn decide(criterion: &mut Criterion) {
    let rules = rules();
    let policy = Compiler::new(&rules).preset(Preset::Balanced);
    let role_of = |segment: usize| if segment == 0 { Role::System } else { Role::User };
    let mut group = criterion.benchmark_group("policy/decide");
    for count in [0, 1, 10, 1000] {
        let findings = findings(&rules, count);
        group.throughput(Throughput::Elements(count.max(1) as u64));
        group.bench_function(format!("{count}_findings"), |bencher| {
            bencher.iter_batched(
                || findings.clone(),
                |findings| policy.decide(black_box(findings), role_of),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let compiler = Compiler::new(&rules());
    let text = "
        extends: strict
        rules:
          prompt_injection: { threshold: 0.6 }
          CREDIT_CARD: { action: block }
          secrets.some_rule_name_004: { action: flag }
        roles: { tool: { pii: { action: flag } } }
        escalate: { min_risk_score: 70 }
    ";
    let document = parse(text).unwrap();
    let label = || PolicyLabel { id: None, name: "bench".into(), version: 1 };
    let mut group = criterion.benchmark_group("policy");
    group.bench_function("parse", |bencher| bencher.iter(|| parse(black_box(text)).unwrap()));
    group.bench_function("compile", |bencher| {
        bencher.iter(|| compiler.compile(black_box(&document), label()).unwrap());
    });
    group.finish();
}

criterion_group!(benches, decide, compile);
criterion_main!(benches);
