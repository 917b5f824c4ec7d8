use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use super::{Outcome, output, scan_explain, scan_lines};
use crate::detect::{Engine, PackError};
use crate::domain::{Action, AuditFinding, Category, Direction, Role};
use crate::enforce::{TextInspection, inspect_text};
use crate::policy::{self, CompileError, CompiledPolicy, PolicyLabel};

/// Scan text as the gateway would; exit code 0 allowed, 1 blocked, 2 error
#[derive(clap::Args)]
#[command(after_help = "\
With --jsonl: one object a line on standard input, {\"id\",\"text\",\"role\"?}, and one a line out, in order:
  {\"id\",\"action\",\"risk_score\",\"scores\":{…},\"findings\":[{\"category\",\"type\",\"start\",\"end\",\"confidence\"}]}
Offsets are bytes of the UTF-8 text. `scores` holds the highest confidence of each category; since jailbreaks and
prompt extraction are kinds of prompt injection (OWASP LLM01:2025), `prompt_injection` is the highest of all three.
A line that cannot be scanned gives {\"id\",\"error\"} and exit code 2 at the end; blocked lines do not change it.

Examples:
  sentinel scan 'Ignore all previous instructions.'
  sentinel scan --explain 'Ignore all previous instructions.'
  sentinel scan --policy my-policy.yaml --json - < prompt.txt")]
pub(super) struct Args {
    /// A policy file, or the name of a preset: balanced, strict, monitor
    #[arg(long, value_name = "FILE|PRESET", default_value = "balanced")]
    policy: String,
    /// Show every reading of the text, what was found in each and why, and what the policy says about it
    #[arg(long, conflicts_with = "jsonl")]
    explain: bool,
    /// One JSON object a line in and out
    #[arg(long, conflicts_with = "text")]
    jsonl: bool,
    /// The text; `-` or nothing reads standard input
    text: Option<String>,
}

pub(super) fn run(args: &Args, json: bool) -> anyhow::Result<Outcome> {
    let engine = Engine::builtin().map_err(|faults| told(&faults))?;
    let policy = load_policy(&args.policy, &engine)?;
    let scanner = Scanner { engine: &engine, policy };
    if args.jsonl {
        return scan_lines::run(&scanner, std::io::stdin().lock(), std::io::stdout().lock());
    }
    let text = match args.text.as_deref() {
        Some("-") | None => std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
        Some(text) => text.to_owned(),
    };
    if args.explain {
        return scan_explain::run(&engine, &scanner.policy, &text, json);
    }
    let inspection = scanner.scan(&text, Role::User);
    if json {
        output::json(&Report::new(&inspection, scanner.policy.label()))?;
    } else {
        output::line(describe(&inspection).trim_end())?;
    }
    Ok(if inspection.verdict.blocked() { Outcome::No } else { Outcome::Done })
}

/// Every fault of the rule packs, one a line.
pub(super) fn told(faults: &[PackError]) -> anyhow::Error {
    anyhow::anyhow!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// Everything that a scan needs; no database.
pub(super) struct Scanner<'e> {
    engine: &'e Engine,
    policy: CompiledPolicy,
}

impl<'e> Scanner<'e> {
    /// With the policy of that name.
    pub fn balanced(engine: &'e Engine) -> anyhow::Result<Self> {
        Ok(Self { policy: load_policy("balanced", engine)?, engine })
    }

    pub fn scan(&self, text: &str, role: Role) -> TextInspection {
        // What the model itself said is judged as an answer.
        let direction = if role == Role::Assistant { Direction::Output } else { Direction::Input };
        inspect_text(self.engine, &self.policy, text, role, direction)
    }
}

fn load_policy(name: &str, engine: &Engine) -> anyhow::Result<CompiledPolicy> {
    let told = |errors: Vec<CompileError>| {
        let lines = errors.iter().map(|error| format!("{name}{}: {}", error.pointer, error.detail));
        anyhow::anyhow!("{}", lines.collect::<Vec<_>>().join("\n"))
    };
    if let Some(document) = policy::preset(name) {
        let label = PolicyLabel { id: None, name: name.into(), version: 0 };
        return policy::compile(&document, label, engine).map_err(told);
    }
    let text = std::fs::read_to_string(name)
        .with_context(|| format!("--policy {name}: neither a preset nor a file that can be read"))?;
    policy::compile_text(&text, super::policy::label(name), engine).map_err(told)
}

/// The highest confidence of each category; every category is there.
pub(super) fn scores(findings: &[AuditFinding]) -> BTreeMap<&'static str, f32> {
    let mut scores: BTreeMap<&'static str, f32> = Category::ALL.iter().map(|c| (c.as_str(), 0.0)).collect();
    let mut raise = |category: Category, to: f32| {
        let score = scores.entry(category.as_str()).or_default();
        *score = score.max(to);
    };
    for finding in findings {
        raise(finding.category, finding.confidence);
        if finding.category.is_attack() {
            raise(Category::PromptInjection, finding.confidence);
        }
    }
    scores
}

/// `--json` of a single text.
#[derive(Serialize)]
struct Report<'a> {
    action: Action,
    blocked: bool,
    risk_score: u8,
    pii_detected: bool,
    injection_detected: bool,
    escalated: bool,
    policy: String,
    categories: &'a [Category],
    scores: BTreeMap<&'static str, f32>,
    findings: &'a [AuditFinding],
    redacted: &'a str,
}

impl<'a> Report<'a> {
    fn new(inspection: &'a TextInspection, policy: &PolicyLabel) -> Self {
        let verdict = &inspection.verdict;
        Self {
            action: verdict.action,
            blocked: verdict.blocked(),
            risk_score: verdict.risk_score,
            pii_detected: verdict.pii_detected,
            injection_detected: verdict.injection_detected,
            escalated: verdict.escalate,
            policy: policy.to_string(),
            categories: &verdict.categories,
            scores: scores(&inspection.findings),
            findings: &inspection.findings,
            redacted: &inspection.redacted,
        }
    }
}

/// For people: the verdict, a line for each finding, and the text as it would be forwarded when that differs.
fn describe(inspection: &TextInspection) -> String {
    let verdict = &inspection.verdict;
    let mut text = format!("{}  risk {}", verdict.action.as_str(), verdict.risk_score);
    for finding in &inspection.findings {
        let _ = write!(
            text,
            "\n  {}..{}  {}  {}  {}  {}  {:.2}",
            finding.start,
            finding.end,
            finding.action.as_str(),
            finding.category.as_str(),
            finding.entity,
            finding.rule_id,
            finding.confidence
        );
    }
    if matches!(verdict.action, Action::Redact | Action::Tokenize) {
        let _ = write!(text, "\n{}", inspection.redacted);
    }
    text
}
