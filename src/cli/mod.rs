//! The command line: one file per command. Data goes to standard output, everything said to people about it to standard
//! error; with `--json` standard output holds JSON alone.

mod audit;
mod bootstrap;
mod config;
mod corpus;
mod data;
mod demo;
mod dev;
mod eval;
mod eval_spans;
mod keys;
mod migrate;
mod model;
mod openapi;
mod options;
mod orgs;
mod output;
mod policy;
mod policy_files;
mod policy_store;
mod rewrap;
mod scan;
mod scan_explain;
mod scan_lines;
mod serve;
mod transforms;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for `scan`: the text is not blocked
  1  the answer is no: `scan` blocks, `audit verify`, `config check` or `policy lint` found faults, a case of `policy test`
     failed, `policy diff` found differences, `migrate status` has pending migrations
  2  it could not be done: wrong usage, unreadable input, no database …

Secrets are read from the environment or from files (JWT_SECRET_KEY_FILE, DATABASE_URL_FILE, …), never from the
command line. `config/sentinel.yaml` describes every setting.";

/// A security gateway for LLM traffic.
#[derive(Parser)]
#[command(name = "sentinel", version, about, after_help = EXIT_CODES, propagate_version = true)]
struct Cli {
    /// Print JSON on standard output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(dev::Args),
    Serve(serve::Args),
    Migrate(migrate::Args),
    Bootstrap(bootstrap::Args),
    Keys(keys::Args),
    Orgs(orgs::Args),
    Data(data::Args),
    Rewrap(rewrap::Args),
    Audit(audit::Args),
    Scan(scan::Args),
    Eval(eval::Args),
    Policy(policy::Args),
    Model(model::Args),
    Config(config::Args),
    /// Print the OpenAPI document of the admin face
    Openapi,
}

/// What a command that worked came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Exit code 1.
    No,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything opens a connection.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    crate::telemetry::withhold_panic_messages();
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Dev(args) => dev::run(args, cli.json),
        Command::Serve(args) => serve::run(&args),
        Command::Migrate(args) => migrate::run(&args, cli.json),
        Command::Bootstrap(args) => bootstrap::run(args, cli.json),
        Command::Keys(args) => keys::run(args, cli.json),
        Command::Orgs(args) => orgs::run(args, cli.json),
        Command::Data(args) => data::run(args, cli.json),
        Command::Rewrap(args) => rewrap::run(&args, cli.json),
        Command::Audit(args) => audit::run(args, cli.json),
        Command::Scan(args) => scan::run(&args, cli.json),
        Command::Policy(args) => policy::run(args, cli.json),
        Command::Eval(args) => eval::run(&args, cli.json),
        Command::Model(args) => model::run(&args, cli.json),
        Command::Config(args) => config::run(&args, cli.json),
        Command::Openapi => openapi::run(),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(2),
        Err(error) => {
            eprintln!("sentinel: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whoever read the output has left: nothing to tell them.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Runs `work` on `threads` worker threads.
fn block_on<T>(threads: usize, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("sentinel")
        .enable_all()
        .build()?;
    let result = runtime.block_on(work);
    // A blocking call that hangs, such as a name look-up, does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_option_takes_a_secret() {
        fn options(command: &clap::Command, out: &mut Vec<String>) {
            out.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned));
            command.get_subcommands().for_each(|sub| options(sub, out));
        }
        let mut all = Vec::new();
        options(&Cli::command(), &mut all);
        let secret = |name: &&String| name.contains("password") || name.contains("secret") || name.contains("token");
        assert_eq!(all.iter().filter(secret).collect::<Vec<_>>(), ["password-file"]);
    }

    #[test]
    fn the_documented_command_lines_are_understood() {
        for line in [
            "dev --gateway-port 0 --admin-port 0 --data-dir d",
            "serve --config f --only gateway --set gateway.threads=2",
            "migrate up",
            "migrate down --steps 2 --set data_dir=d",
            "migrate new add_reports",
            "bootstrap --org Acme --email a@b.c --full-name A --password-file f --json",
            "keys create --org Acme --name n --workspace w --scope process --scope metrics --rate-limit 60 --expires-in 90d",
            "keys list --org Acme --config f",
            "keys revoke --org Acme 0190b0a0-0000-7000-8000-000000000000",
            "keys rotate --org Acme 0190b0a0-0000-7000-8000-000000000000 --grace-seconds 60",
            "orgs show --org Acme",
            "orgs list --json",
            "orgs delete --org Acme",
            "orgs restore --org 0190b0a0-0000-7000-8000-000000000000",
            "orgs purge --org Acme --confirm acme",
            "orgs set --org Acme --tier pro --max-users 5 --monthly-request-limit none --json",
            "audit verify --org Acme --checkpoints kept.jsonl --public-key AAAA --json",
            "audit checkpoints",
            "scan --policy strict --json -",
            "data import --org Acme customers f.csv --format csv --column id",
            "data list --org Acme --json",
            "data delete --org Acme customers",
            "scan --jsonl",
            "scan --explain --json text",
            "policy lint a.yaml b.yaml --json",
            "policy schema",
            "eval --data d --by-source --json",
            "model train --data d --data e --out f --seed 7",
            "model info f",
            "config check --config f",
            "config print --json",
            "openapi",
        ] {
            let words = std::iter::once("sentinel").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        assert!(Cli::try_parse_from(["sentinel", "serve", "--only", "everything"]).is_err());
        assert!(Cli::try_parse_from(["sentinel", "scan", "--jsonl", "text"]).is_err());
    }
}
