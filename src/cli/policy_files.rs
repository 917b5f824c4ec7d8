//! Policies as files: a document called like the policy, and its test cases beside it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::policy::label;
use super::{Outcome, output};
use crate::detect::Engine;
use crate::domain::Category;
use crate::policy::{self, CaseResult, CompileError, PolicyDocument};

const CASES: &str = ".tests.yaml";

/// Whether a file is one of test cases, by its name.
pub(super) fn holds_cases(file: &str) -> bool {
    file.ends_with(CASES)
}

/// Whether an argument names a file, and not a policy of an organization.
pub(super) fn is_file(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

/// The name of the policy that a file is.
pub(super) fn name_of(file: &str) -> anyhow::Result<String> {
    let name = label(file).name.to_string();
    anyhow::ensure!(
        policy::is_policy_name(&name),
        "{file}: `{name}` cannot be the name of a policy: letters, digits, spaces, `_`, `-` and `.`, at most 64"
    );
    Ok(name)
}

/// The document in a file, as JSON.
///
/// # Errors
/// When it cannot be read; the document's faults within.
pub(super) fn read(file: &str) -> anyhow::Result<Result<Value, Vec<CompileError>>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    Ok(match policy::parse(&text) {
        Ok(document) => Ok(serde_json::to_value(&document)?),
        Err(faults) => Err(faults),
    })
}

/// The document as a file has it.
pub(super) fn written(document: &Value) -> anyhow::Result<String> {
    match policy::read(document) {
        Ok(read) if read == PolicyDocument::default() => Ok("{}\n".to_owned()),
        Ok(read) => Ok(serde_yaml::to_string(&read)?),
        Err(_) => Ok(serde_yaml::to_string(document)?),
    }
}

/// Faults of a file, for people.
pub(super) fn tell_faults(file: &str, faults: &[CompileError]) {
    for fault in faults {
        eprintln!("{file}: {fault}");
    }
}

/// Beside a policy's file.
fn cases_of(file: &str) -> PathBuf {
    Path::new(file).with_file_name(format!("{}{CASES}", label(file).name))
}

/// `--json` of the cases of one file.
#[derive(Serialize)]
struct Tested<'f> {
    file: &'f str,
    results: Vec<CaseResult>,
}

/// Runs the cases beside each policy file; files of cases among them are passed over.
pub(super) fn test(files: &[String], engine: &Engine, json: bool) -> anyhow::Result<Outcome> {
    let mut tested = Vec::new();
    let mut faulty = false;
    for file in files.iter().filter(|file| !holds_cases(file)) {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let compiled = match policy::compile_text(&text, label(file), engine) {
            Ok(compiled) => compiled,
            Err(faults) => {
                tell_faults(file, &faults);
                faulty = true;
                continue;
            }
        };
        let beside = cases_of(file);
        if !beside.exists() {
            eprintln!("{file}: no cases ({} is not there)", beside.display());
            continue;
        }
        let cases = std::fs::read_to_string(&beside).with_context(|| format!("cannot read {}", beside.display()))?;
        let cases = policy::read_cases(&cases).map_err(|fault| anyhow::anyhow!("{}: {fault}", beside.display()))?;
        tested.push(Tested { file, results: policy::run_cases(engine, &compiled, &cases) });
    }
    let all: Vec<&CaseResult> = tested.iter().flat_map(|tested| &tested.results).collect();
    anyhow::ensure!(faulty || !all.is_empty(), "there are no cases");
    let passed = all.iter().filter(|result| result.passed).count();
    if json {
        output::json(&tested)?;
    } else {
        for Tested { file, results } in &tested {
            for result in results {
                output::line(row(file, result))?;
            }
        }
        output::line(format_args!("{passed} of {} passed", all.len()))?;
    }
    Ok(if faulty || passed < all.len() { Outcome::No } else { Outcome::Done })
}

fn row(file: &str, result: &CaseResult) -> String {
    let CaseResult { name, passed, expected, action, categories, escalated, rules, .. } = result;
    if *passed {
        return format!("pass  {file}  {name}");
    }
    let mut wanted = Vec::new();
    wanted.extend(expected.action.map(|action| action.as_str().to_owned()));
    wanted.extend(expected.category.map(|category| category.as_str().to_owned()));
    wanted.extend(expected.escalate.map(review));
    let mut got = vec![action.as_str().to_owned()];
    got.extend(categories.iter().map(|category: &Category| category.as_str().to_owned()));
    if expected.escalate.is_some() {
        got.push(review(*escalated));
    }
    let by = if rules.is_empty() { "nothing acted".to_owned() } else { format!("by {}", rules.join(", ")) };
    format!("FAIL  {file}  {name}: expected {}, got {} ({by})", wanted.join(" "), got.join(" "))
}

fn review(escalate: bool) -> String {
    if escalate { "review" } else { "no review" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_beside_a_policy_decide_the_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::rules_only().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let policy = write("support desk.yaml", "rules: { EMAIL_ADDRESS: { action: block } }");
        let test =
            |files: &[&String]| test(&files.iter().map(|file| (*file).clone()).collect::<Vec<_>>(), &engine, true);
        assert!(test(&[&policy]).is_err(), "no cases");
        let cases = write("support desk.tests.yaml", "- { input: ada@example.com, expect: { action: block } }");
        assert_eq!(test(&[&policy, &cases]).unwrap(), Outcome::Done);
        write("support desk.tests.yaml", "- { input: ada@example.com, expect: { action: flag } }");
        assert_eq!(test(&[&policy]).unwrap(), Outcome::No);
        write("support desk.yaml", "rules: { EMAIL: { action: block } }");
        assert_eq!(test(&[&policy]).unwrap(), Outcome::No, "a document with faults");
        assert_eq!(name_of(&policy).unwrap(), "support desk");
        assert!(name_of("größe.yaml").is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let document = serde_json::json!({"extends": "strict", "rules": {"pii": {"threshold": 0.25}}});
        let text = written(&document).unwrap();
        assert_eq!(serde_json::to_value(policy::parse(&text).unwrap()).unwrap(), document, "{text}");
        let nothing = written(&serde_json::json!({})).unwrap();
        assert_eq!(policy::parse(&nothing).unwrap(), PolicyDocument::default());
    }
}
