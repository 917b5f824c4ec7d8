use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::options::ConfigOptions;
use super::scan::told;
use super::{Outcome, output, policy_files, policy_store};
use crate::detect::Engine;
use crate::policy::{self, CompileError, PolicyLabel};

/// Work on policies: as files, and as an organization has them
#[derive(clap::Args)]
#[command(after_help = "\
A policy is a file called like it (`support desk.yaml`), its test cases are a list in a file beside it
(`support desk.tests.yaml`):
  - { name: cards are blocked, input: 4111 1111 1111 1111, role: user, expect: { action: block, category: pii } }

In a pipeline:
  sentinel policy lint policies/*.yaml && sentinel policy test policies/*.yaml
  sentinel policy apply --org Acme --dry-run policies/*.yaml
  sentinel policy apply --org Acme --comment \"$COMMIT\" policies/*.yaml")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Name, slug or id of the organization
    #[arg(long, global = true, default_value = "")]
    org: String,
    #[command(flatten)]
    config: ConfigOptions,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Tell every fault of policy files; exit code 0 none, 1 faults, 2 a file cannot be read
    #[command(after_help = "Example:\n  sentinel policy lint policies/*.yaml")]
    Lint {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
    },
    /// Print the JSON Schema of policy documents, for editors
    Schema,
    /// Run the test cases beside policy files; exit code 0 all pass, 1 some fail, 2 a file cannot be read or has no cases
    Test {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
    },
    #[command(flatten)]
    Stored(policy_store::Command),
}

pub(super) fn run(args: Args, json: bool) -> anyhow::Result<Outcome> {
    let engine = || Engine::builtin().map_err(|faults| told(&faults));
    match args.command {
        Command::Lint { files } => lint(&files, &engine()?, json),
        Command::Schema => {
            output::json(&policy::schema(engine()?.rules()))?;
            Ok(Outcome::Done)
        }
        Command::Test { files } => policy_files::test(&files, &engine()?, json),
        Command::Stored(command) => policy_store::run(command, args.org, &args.config, json),
    }
}

/// What is wrong with one file.
#[derive(Serialize)]
struct Linted<'f> {
    file: &'f str,
    errors: Vec<CompileError>,
}

fn lint(files: &[String], engine: &Engine, json: bool) -> anyhow::Result<Outcome> {
    let mut linted = Vec::with_capacity(files.len());
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let errors = if policy_files::holds_cases(file) {
            let fault = policy::read_cases(&text).err();
            fault.map(|detail| CompileError { pointer: String::new(), detail }).into_iter().collect()
        } else {
            policy::compile_text(&text, label(file), engine).err().unwrap_or_default()
        };
        linted.push(Linted { file, errors });
    }
    let faulty = linted.iter().any(|linted| !linted.errors.is_empty());
    if json {
        output::json(&linted)?;
    } else {
        for Linted { file, errors } in &linted {
            for error in errors {
                output::line(format_args!("{file}: {error}"))?;
            }
        }
    }
    Ok(if faulty { Outcome::No } else { Outcome::Done })
}

/// A policy that is a file, called like that.
pub(super) fn label(file: &str) -> PolicyLabel {
    let name = Path::new(file).file_stem().map_or_else(|| file.into(), |stem| stem.to_string_lossy());
    PolicyLabel { id: None, name: name.into(), version: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_faults_is_told_and_a_good_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::rules_only().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name).display().to_string();
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = file("good.yaml", "custom_rules: { a: { keywords: [heron], action: block } }");
        let bad = file("bad.yaml", "rules: { pi: { action: erase } }\ncustom_rules: { a: { regexes: ['('] } }");
        let lint = |files: &[String]| lint(files, &engine, true).unwrap();
        assert_eq!(lint(std::slice::from_ref(&good)), Outcome::Done);
        assert_eq!(lint(&[good, bad.clone()]), Outcome::No);
        let errors = policy::compile_text(&std::fs::read_to_string(&bad).unwrap(), label(&bad), &engine).unwrap_err();
        let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        let expected =
            ["/rules/pi/action", "/custom_rules/a/action", "/custom_rules/a/regexes/0", "/rules/pi", "/rules/pi"];
        assert_eq!(pointers, expected, "{errors:?}");
    }
}
