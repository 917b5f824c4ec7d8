//! `sentinel scan --jsonl`: one JSON object a line in, one a line out, in order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Outcome;
use super::scan::{Scanner, scores};
use crate::domain::{Action, AuditFinding, Category, Role};
use crate::enforce::TextInspection;

#[derive(Deserialize)]
struct LineIn {
    #[serde(default)]
    id: Value,
    text: String,
    #[serde(default)]
    role: Option<Role>,
}

#[derive(Serialize)]
struct LineOut<'a> {
    id: &'a Value,
    action: Action,
    risk_score: u8,
    scores: BTreeMap<&'static str, f32>,
    findings: Vec<FindingOut<'a>>,
}

#[derive(Serialize)]
struct FindingOut<'a> {
    category: Category,
    #[serde(rename = "type")]
    entity: &'a str,
    start: usize,
    end: usize,
    confidence: f32,
}

impl<'a> From<&'a AuditFinding> for FindingOut<'a> {
    fn from(finding: &'a AuditFinding) -> Self {
        let AuditFinding { category, entity, start, end, confidence, .. } = finding;
        Self { category: *category, entity, start: *start, end: *end, confidence: *confidence }
    }
}

#[derive(Serialize)]
struct ErrorOut<'a> {
    id: &'a Value,
    error: &'a str,
}

/// Scans until the input ends. Lines that cannot be scanned are told on standard error too.
///
/// # Errors
/// When reading or writing fails, or, at the end, when any line could not be scanned.
pub(super) fn run(scanner: &Scanner<'_>, input: impl Read, output: impl Write) -> anyhow::Result<Outcome> {
    scan_each(|text, role| scanner.scan(text, role), input, output)
}

fn scan_each(
    scan: impl Fn(&str, Role) -> TextInspection,
    input: impl Read,
    output: impl Write,
) -> anyhow::Result<Outcome> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut output = BufWriter::with_capacity(1 << 18, output);
    let mut line = Vec::new();
    let (mut number, mut bad) = (0_u64, 0_u64);
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<LineIn>(&line) {
            Ok(LineIn { id, text, role }) => {
                let inspection = scan(&text, role.unwrap_or(Role::User));
                serde_json::to_writer(&mut output, &line_out(&id, &inspection))?;
            }
            Err(error) => {
                bad += 1;
                // Where, but not what: serde's message may quote the line.
                let error = format!("not an object with `id` and `text` (column {})", error.column());
                eprintln!("line {number}: {error}");
                serde_json::to_writer(&mut output, &ErrorOut { id: &id_of(&line), error: &error })?;
            }
        }
        output.write_all(b"\n")?;
        if input.buffer().is_empty() {
            // Whoever feeds us line by line waits for the answer.
            output.flush()?;
        }
    }
    output.flush()?;
    anyhow::ensure!(bad == 0, "{bad} of {number} lines could not be scanned");
    Ok(Outcome::Done)
}

fn line_out<'a>(id: &'a Value, inspection: &'a TextInspection) -> LineOut<'a> {
    LineOut {
        id,
        action: inspection.verdict.action,
        risk_score: inspection.verdict.risk_score,
        scores: scores(&inspection.findings),
        findings: inspection.findings.iter().map(FindingOut::from).collect(),
    }
}

/// The id of a line that is JSON at least.
fn id_of(line: &[u8]) -> Value {
    serde_json::from_slice::<Value>(line).ok().and_then(|value| value.get("id").cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::json;

    use super::*;
    use crate::domain::{Coverage, Detector, Direction, Severity, Verdict};

    fn finding(category: Category, entity: &str, confidence: f32) -> AuditFinding {
        AuditFinding {
            detector: Detector::Injection,
            rule_id: "x.y".into(),
            category,
            entity: entity.into(),
            severity: Severity::High,
            confidence,
            action: Action::Block,
            direction: Direction::Input,
            role: Role::User,
            path: String::new(),
            start: 2,
            end: 5,
        }
    }

    /// Blocks what contains `bad`, as jailbreak and e-mail address.
    fn scan(text: &str, _: Role) -> TextInspection {
        let bad = text.contains("bad");
        let findings = if bad {
            vec![finding(Category::Jailbreak, "ROLE_PLAY", 0.9), finding(Category::Pii, "EMAIL_ADDRESS", 0.5)]
        } else {
            Vec::new()
        };
        let action = if bad { Action::Block } else { Action::Allow };
        let verdict = Verdict { action, risk_score: if bad { 90 } else { 0 }, ..Verdict::clean() };
        TextInspection { verdict, findings, coverage: Coverage::default(), redacted: text.to_owned(), comparison: None }
    }

    fn lines(output: &[u8]) -> Vec<Value> {
        output.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    #[test]
    fn each_line_is_answered_in_order_in_the_documented_shape() {
        let input =
            "{\"id\":\"a\",\"text\":\"good\",\"label\":0}\n\n{\"id\":7,\"text\":\"a bad one\",\"role\":\"tool\"}";
        let mut output = Vec::new();
        assert_eq!(
            scan_each(scan, input.as_bytes(), &mut output).unwrap(),
            Outcome::Done,
            "blocked lines are no error"
        );
        let none = json!({"prompt_injection": 0.0, "jailbreak": 0.0, "prompt_extraction": 0.0, "pii": 0.0, "secrets": 0.0, "custom": 0.0});
        let lines = lines(&output);
        assert_eq!(lines[0], json!({"id": "a", "action": "allow", "risk_score": 0, "scores": none, "findings": []}));
        assert_eq!(lines[1]["id"], 7);
        assert_eq!(lines[1]["findings"][1]["type"], "EMAIL_ADDRESS");
        let text = String::from_utf8(output).unwrap();
        assert!(
            text.contains(r#"{"category":"jailbreak","type":"ROLE_PLAY","start":2,"end":5,"confidence":0.9}"#),
            "{text}"
        );
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_jailbreak_counts_as_prompt_injection_but_personal_data_does_not() {
        let found = scores(&scan("bad", Role::User).findings);
        assert_eq!((found["jailbreak"], found["prompt_injection"], found["pii"]), (0.9, 0.9, 0.5));
        assert_eq!((found["secrets"], found["prompt_extraction"]), (0.0, 0.0));
    }

    #[test]
    fn a_bad_line_is_answered_in_its_place_and_fails_the_whole_at_the_end() {
        let input = b"{\"id\":1,\"text\":\"x\"}\nnonsense\n{\"id\":3}\n{\"id\":4,\"text\":\"\xff\"}\n{\"id\":5,\"text\":\"y\"}\n";
        let mut output = Vec::new();
        let error = scan_each(scan, &input[..], &mut output).unwrap_err();
        assert_eq!(error.to_string(), "3 of 5 lines could not be scanned");
        let lines = lines(&output);
        let ids: Vec<&Value> = lines.iter().map(|line| &line["id"]).collect();
        assert_eq!(ids, [&json!(1), &Value::Null, &json!(3), &Value::Null, &json!(5)]);
        assert!(lines[1]["error"].is_string() && lines[2]["error"].is_string() && lines[4]["error"].is_null());
    }

    #[test]
    fn the_role_is_the_users_unless_the_line_says_otherwise() {
        let roles = RefCell::new(Vec::new());
        let note = |text: &str, role: Role| {
            roles.borrow_mut().push(role);
            scan(text, role)
        };
        let input = "{\"id\":1,\"text\":\"x\"}\n{\"id\":2,\"text\":\"x\",\"role\":\"tool_definition\"}\n";
        scan_each(note, input.as_bytes(), std::io::sink()).unwrap();
        assert_eq!(*roles.borrow(), [Role::User, Role::ToolDefinition]);
    }
}
