//! What `sentinel eval` says of the detectors of personal data and secrets: labelled spans, values and look-alikes, and what they
//! find in ordinary requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::corpus;
use crate::detect::Engine;
use crate::domain::{Detector, Finding, Role};

/// From here on a finding counts, whatever a policy does with it.
const LEAST: f32 = 0.5;

/// A row of a `*pii*` file.
#[derive(Deserialize)]
struct Personal {
    text: String,
    spans: Vec<Span>,
    source: String,
    /// The types that are labelled; all that the source labels anywhere, if it does not say.
    scope: Option<BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Span {
    #[serde(rename = "type")]
    entity: String,
    /// Bytes of the text.
    bstart: usize,
    bend: usize,
}

/// A row of a `*secrets*` file.
#[derive(Deserialize)]
struct Credential {
    text: String,
    label: u8,
    #[serde(rename = "type")]
    format: String,
    source: String,
    /// The value inside of the text.
    secret: Option<String>,
}

/// Counts of one type of personal data.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Score {
    /// Labelled spans that a finding of their type touches.
    hits: usize,
    misses: usize,
    /// Findings that touch no labelled span of their type.
    false_alarms: usize,
}

impl Score {
    fn precision(self) -> f64 {
        share(self.hits, self.hits + self.false_alarms)
    }

    fn recall(self) -> f64 {
        share(self.hits, self.hits + self.misses)
    }

    fn f1(self) -> f64 {
        share(2 * self.hits, 2 * self.hits + self.misses + self.false_alarms)
    }
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Ratio {
    rows: usize,
    found: usize,
}

impl Ratio {
    fn add(&mut self, found: bool) {
        self.rows += 1;
        self.found += usize::from(found);
    }
}

/// The tables.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tables {
    personal_data: BTreeMap<String, Score>,
    /// Rows in which the value was found, by source and format.
    secrets: BTreeMap<String, BTreeMap<String, Ratio>>,
    /// Rows without a secret in which one was found, by source.
    look_alikes: BTreeMap<String, Ratio>,
    /// Rows of ordinary requests, and in how many of them something was found, by type.
    traffic: usize,
    found_in_traffic: BTreeMap<String, usize>,
}

/// Reads all `*pii*` and `*secrets*` files of the directories, and judges them and the `traffic`.
///
/// # Errors
/// When a file cannot be read or a line is not a row.
pub(crate) fn tables<'t>(
    engine: &Engine,
    directories: &[PathBuf],
    traffic: impl Iterator<Item = &'t str>,
) -> anyhow::Result<Tables> {
    let mut tables = Tables::default();
    let mut personal: Vec<Personal> = Vec::new();
    for file in corpus::files(directories, &["pii"])? {
        corpus::each_line(&file, |row| personal.push(row))?;
    }
    let mut labelled: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in &personal {
        labelled.entry(&row.source).or_default().extend(row.spans.iter().map(|span| span.entity.clone()));
    }
    for row in &personal {
        if let Some(scope) = row.scope.as_ref().or_else(|| labelled.get(row.source.as_str())) {
            tables.personal(engine, row, scope);
        }
    }
    for file in corpus::files(directories, &["secrets"])? {
        corpus::each_line(&file, |row| tables.credential(engine, &row))?;
    }
    for text in traffic {
        tables.traffic += 1;
        let found: BTreeSet<String> = scan(engine, text).map(|finding| finding.rule.entity.to_string()).collect();
        found.into_iter().for_each(|entity| *tables.found_in_traffic.entry(entity).or_default() += 1);
    }
    Ok(tables)
}

fn scan(engine: &Engine, text: &str) -> impl Iterator<Item = Finding> {
    let mut found = Vec::new();
    engine.scan(text, 0, Role::User, &mut found);
    found.into_iter().filter(|finding| finding.confidence >= LEAST && finding.rule.detector != Detector::Injection)
}

impl Tables {
    pub(crate) fn is_empty(&self) -> bool {
        self.personal_data.is_empty() && self.secrets.is_empty() && self.look_alikes.is_empty()
    }

    fn personal(&mut self, engine: &Engine, row: &Personal, scope: &BTreeSet<String>) {
        let found: Vec<Finding> =
            scan(engine, &row.text).filter(|finding| finding.rule.detector == Detector::Pii).collect();
        for entity in scope {
            let own: Vec<_> = found.iter().filter(|finding| *finding.rule.entity == **entity).collect();
            let labels: Vec<_> = row.spans.iter().filter(|span| span.entity == *entity).collect();
            let hits =
                labels.iter().filter(|label| own.iter().any(|f| touch(&f.span, label.bstart..label.bend))).count();
            let score = self.personal_data.entry(entity.clone()).or_default();
            score.hits += hits;
            score.misses += labels.len() - hits;
            score.false_alarms +=
                own.iter().filter(|f| !labels.iter().any(|label| touch(&f.span, label.bstart..label.bend))).count();
        }
    }

    fn credential(&mut self, engine: &Engine, row: &Credential) {
        let mut found = scan(engine, &row.text).filter(|finding| finding.rule.detector == Detector::Secrets);
        if row.label == 0 {
            let source = self.look_alikes.entry(row.source.clone()).or_default();
            return source.add(found.next().is_some());
        }
        let hit = match row.secret.as_deref() {
            // Where it stands more than once, any of them will do.
            Some(value) => found.any(|finding| {
                row.text.match_indices(value).any(|(start, _)| touch(&finding.span, start..start + value.len()))
            }),
            None => found.next().is_some(),
        };
        let source = self.secrets.entry(row.source.clone()).or_default();
        source.entry(row.format.clone()).or_default().add(hit);
    }
}

fn touch(a: &Range<usize>, b: Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn total<'r>(ratios: impl Iterator<Item = &'r Ratio>) -> Ratio {
    ratios.fold(Ratio::default(), |sum, ratio| Ratio { rows: sum.rows + ratio.rows, found: sum.found + ratio.found })
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.personal_data.is_empty() {
            writeln!(
                f,
                "  {:24} {:>6} {:>6} {:>6} {:>10} {:>7} {:>6}",
                "personal data", "hits", "misses", "false", "precision", "recall", "F1"
            )?;
        }
        for (entity, score) in &self.personal_data {
            let Score { hits, misses, false_alarms } = score;
            let (precision, recall, f1) = (score.precision(), score.recall(), score.f1());
            writeln!(f, "  {entity:24} {hits:6} {misses:6} {false_alarms:6} {precision:10.3} {recall:7.3} {f1:6.3}")?;
        }
        let line = |f: &mut fmt::Formatter<'_>, name: &str, ratio: Ratio| {
            writeln!(f, "  {name:40} {:6} {:9.1}", ratio.rows, 100.0 * share(ratio.found, ratio.rows))
        };
        for (source, formats) in &self.secrets {
            writeln!(f, "\n  {:40} {:>6} {:>9}", format!("secrets of {source}"), "rows", "found %")?;
            formats.iter().try_for_each(|(format, ratio)| line(f, format, *ratio))?;
            line(f, "all", total(formats.values()))?;
        }
        if !self.secrets.is_empty() {
            line(f, "all secrets", total(self.secrets.values().flat_map(BTreeMap::values)))?;
        }
        if !self.look_alikes.is_empty() {
            writeln!(f, "\n  {:40} {:>6} {:>9}", "look-alikes of secrets", "rows", "found %")?;
            self.look_alikes.iter().try_for_each(|(source, ratio)| line(f, source, *ratio))?;
            line(f, "all", total(self.look_alikes.values()))?;
        }
        writeln!(f, "\n  {:40} {:>6}", "found in rows of traffic", self.traffic)?;
        self.found_in_traffic.iter().try_for_each(|(entity, rows)| writeln!(f, "  {entity:40} {rows:6}"))
    }
}
