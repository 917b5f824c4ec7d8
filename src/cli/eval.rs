//! `sentinel eval`: how much of labelled rows the detectors block, by kind, or by source with that source left out of training; and
//! what they find of labelled personal data and secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::corpus::Purpose;
use super::model::Corpus;
use super::scan::{Scanner, told};
use super::{Outcome, output};
use crate::detect::Engine;
use crate::detect::model::{self, BySource, Options, Row, Speaker};
use crate::domain::{Action, AuditFinding, Role};
use crate::enforce::TextInspection;

/// Judge the detectors by labelled rows
#[derive(clap::Args)]
#[command(after_help = "\
Reads the files that `sentinel model train` reads. Without --by-source: the share of rows that the policy blocks as attacks,
by kind, on rows of `dev` and `traffic` files (or on all rows, if there are none). With `*pii*` and `*secrets*` files also what
is found of labelled personal data and secrets, by type, and in `traffic`, whatever a policy does with it.

Examples:
  sentinel eval --data rows
  sentinel eval --data rows --transforms
  sentinel eval --data rows --by-source")]
pub(super) struct Args {
    /// A directory with rows; may be given more than once
    #[arg(long, value_name = "DIR", required = true)]
    data: Vec<PathBuf>,
    /// Train leaving out one source at a time, and report on the one left out; takes minutes
    #[arg(long)]
    by_source: bool,
    /// Disguise the rows in every way that is read, and report on each way; takes minutes
    #[arg(long, conflicts_with = "by_source")]
    transforms: bool,
}

pub(super) fn run(args: &Args, json: bool) -> anyhow::Result<Outcome> {
    let engine =
        if args.by_source { Engine::rules_only() } else { Engine::builtin() }.map_err(|faults| told(&faults))?;
    if !args.by_source {
        let (rows, purposes): (Vec<Row>, Vec<Purpose>) = super::corpus::read(&args.data)?.into_iter().unzip();
        if args.transforms {
            let report = super::transforms::report(&engine, &rows, &purposes)?;
            if json {
                output::json(&report)?;
            } else {
                output::line(report.to_string().trim_end())?;
            }
            return Ok(Outcome::Done);
        }
        let attacks = tables(&engine, &rows, &purposes)?;
        let traffic = rows.iter().zip(&purposes).filter(|(_, purpose)| **purpose == Purpose::Traffic);
        let spans = super::eval_spans::tables(&engine, &args.data, traffic.map(|(row, _)| row.text.as_str()))?;
        let tables = Judged { attacks, spans: Some(spans).filter(|spans| !spans.is_empty()) };
        if json {
            output::json(&tables)?;
        } else {
            output::line(tables.to_string().trim_end())?;
        }
        return Ok(Outcome::Done);
    }
    let corpus = Corpus::read(&engine, &args.data)?;
    let judge = |options: Options, name: &str| {
        let tell = |source: &str| eprintln!("{name}: leaving out {source}");
        let kept: Vec<usize> =
            corpus.kept.iter().copied().filter(|row| corpus.purposes.get(*row) != Some(&Purpose::Traffic)).collect();
        let found = model::by_source(&corpus.rows, &corpus.samples, &corpus.trained, &kept, options, tell);
        LeftOut::new(&engine, &corpus, &found)
    };
    let report = Report {
        baseline: judge(Options { plain: true, ..Options::default() }, "baseline"),
        shipped: judge(Options::default(), "shipped"),
    };
    if json {
        output::json(&report)?;
    } else {
        let Report { baseline, shipped } = report;
        output::line(format!("baseline: hashed n-grams of the whole text\n{baseline}\nwhat ships\n{shipped}"))?;
    }
    Ok(Outcome::Done)
}

/// What was found in rows of every kind.
#[derive(Serialize)]
struct Judged {
    attacks: Tables,
    #[serde(skip_serializing_if = "Option::is_none")]
    spans: Option<super::eval_spans::Tables>,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.attacks.fmt(f)?;
        self.spans.as_ref().map_or(Ok(()), |spans| write!(f, "\n{spans}"))
    }
}

#[derive(Serialize)]
struct Report {
    baseline: LeftOut,
    shipped: LeftOut,
}

/// How many rows there are, and how many are taken for attacks.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Count {
    rows: usize,
    /// By the model.
    model: usize,
    /// By model or rules.
    any: usize,
}

impl Count {
    fn add(&mut self, model: bool, rules: bool) {
        self.rows += 1;
        self.model += usize::from(model);
        self.any += usize::from(model || rules);
    }

    fn percent(self, of: usize) -> f64 {
        100.0 * of as f64 / self.rows.max(1) as f64
    }
}

/// What holds on sources that training has not seen.
#[derive(Debug, Serialize)]
pub(super) struct LeftOut {
    attacks: BTreeMap<String, Count>,
    harmless: BTreeMap<String, Count>,
    /// Mean over the sources of attacks of the share that the model, and model or rules, find; in per cent.
    macro_recall_model: f64,
    macro_recall: f64,
    /// Share of all harmless rows that are taken for attacks, in per cent.
    false_blocks_model: f64,
    false_blocks: f64,
}

impl LeftOut {
    pub(super) fn new(rules: &Engine, corpus: &Corpus, found: &BySource) -> Self {
        let (mut attacks, mut harmless): (BTreeMap<String, Count>, BTreeMap<String, Count>) = Default::default();
        let mut total = Count::default();
        for scored in &found.scores {
            let Some(row) =
                corpus.rows.get(scored.0).filter(|_| corpus.purposes.get(scored.0) != Some(&Purpose::Traffic))
            else {
                continue;
            };
            let (model, by_rules) = (found.fires(&corpus.rows, *scored), blocked_by_rules(rules, row));
            let table = if row.attack { &mut attacks } else { &mut harmless };
            table.entry(row.source.clone()).or_default().add(model, by_rules);
            if !row.attack {
                total.add(model, by_rules);
            }
        }
        let mean = |of: fn(&Count) -> usize| {
            attacks.values().map(|count| count.percent(of(count))).sum::<f64>() / attacks.len().max(1) as f64
        };
        Self {
            macro_recall_model: mean(|count| count.model),
            macro_recall: mean(|count| count.any),
            false_blocks_model: total.percent(total.model),
            false_blocks: total.percent(total.any),
            attacks,
            harmless,
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, count: &Count| {
            writeln!(
                f,
                "  {name:28} {:6} {:7.1} {:7.1}",
                count.rows,
                count.percent(count.model),
                count.percent(count.any)
            )
        };
        writeln!(f, "  {:28} {:>6} {:>7} {:>7}", "attacks", "rows", "model %", "any %")?;
        self.attacks.iter().try_for_each(|(name, count)| line(f, name, count))?;
        writeln!(f, "  {:28} {:6} {:7.1} {:7.1}", "macro recall", "", self.macro_recall_model, self.macro_recall)?;
        writeln!(f, "  harmless, sources with false blocks")?;
        self.harmless.iter().filter(|(_, count)| count.any > 0).try_for_each(|(name, count)| line(f, name, count))?;
        writeln!(f, "  {:28} {:6} {:7.2} {:7.2}", "all harmless rows", "", self.false_blocks_model, self.false_blocks)
    }
}

fn blocked_by_rules(engine: &Engine, row: &Row) -> bool {
    let (role, least) = match row.speaker() {
        Speaker::User => (Role::User, 0.7),
        Speaker::Tool => (Role::Tool, 0.7),
        Speaker::Assistant => (Role::Assistant, 0.7),
        Speaker::System => (Role::System, 0.9),
    };
    let mut found = Vec::new();
    engine.scan(&row.text, 0, role, &mut found);
    found.iter().any(|finding| finding.rule.category.is_attack() && finding.confidence >= least)
}

pub(super) fn role_of(row: &Row) -> Role {
    match row.speaker() {
        Speaker::User => Role::User,
        Speaker::System => Role::System,
        Speaker::Tool => Role::Tool,
        Speaker::Assistant => Role::Assistant,
    }
}

/// Whether a text is blocked as an attack.
pub(super) fn blocks(inspection: &TextInspection) -> bool {
    let attack = |finding: &AuditFinding| finding.category.is_attack() && finding.action == Action::Block;
    inspection.findings.iter().any(attack)
}

/// Shares of rows that the balanced policy blocks as attacks.
#[derive(Debug, Serialize)]
pub(super) struct Tables(Vec<Line>);

#[derive(Debug, Serialize)]
struct Line {
    purpose: &'static str,
    kind: String,
    attack: bool,
    rows: usize,
    blocked: usize,
}

pub(super) fn tables(engine: &Engine, rows: &[Row], purposes: &[Purpose]) -> anyhow::Result<Tables> {
    let scanner = Scanner::balanced(engine)?;
    let judged = |purpose: &Purpose| *purpose != Purpose::Train;
    let all = !purposes.iter().any(judged);
    let mut lines: BTreeMap<(&str, &str, bool), (usize, usize)> = BTreeMap::new();
    for (row, purpose) in rows.iter().zip(purposes).filter(|(_, purpose)| all || judged(purpose)) {
        let blocked = blocks(&scanner.scan(&row.text, role_of(row)));
        let purpose = if *purpose == Purpose::Traffic { "traffic" } else { "dev" };
        let kind = row.kind.split_once(':').map_or(row.kind.as_str(), |(kind, _)| kind);
        for kind in [kind, "all"] {
            let line = lines.entry((purpose, kind, row.attack)).or_default();
            *line = (line.0 + 1, line.1 + usize::from(blocked));
        }
    }
    let line = |((purpose, kind, attack), (rows, blocked)): ((&'static str, &str, bool), (usize, usize))| Line {
        purpose,
        kind: kind.to_owned(),
        attack,
        rows,
        blocked,
    };
    Ok(Tables(lines.into_iter().map(line).collect()))
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:8} {:14} {:8} {:>6} {:>9}", "rows of", "kind", "label", "rows", "blocked %")?;
        self.0.iter().try_for_each(|line| {
            let share = 100.0 * line.blocked as f64 / line.rows.max(1) as f64;
            let label = if line.attack { "attack" } else { "harmless" };
            writeln!(f, "  {:8} {:14} {label:8} {:6} {share:9.2}", line.purpose, line.kind, line.rows)
        })
    }
}
