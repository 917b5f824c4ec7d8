use serde_json::json;

use super::options::ConfigOptions;
use super::{Outcome, output};
use crate::config::{self, ConfigError};

/// Check or show the configuration
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Tell every fault of the configuration; exit code 1 when there is one
    Check(ConfigOptions),
    /// Print the configuration in force as YAML, with secrets masked
    Print {
        #[command(flatten)]
        options: ConfigOptions,
        /// Print where each value that is not a default came from, instead of the values
        #[arg(long)]
        origins: bool,
    },
}

pub(super) fn run(args: &Args, json: bool) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Check(options) => check(options, json),
        Command::Print { options, origins } => {
            let loaded = options.load()?;
            if json {
                output::json(&json!({
                    "config": loaded.config.masked(), "origins": loaded.origins, "notes": loaded.notes,
                }))?;
            } else if *origins {
                loaded.origins.iter().try_for_each(|(key, origin)| output::line(format_args!("{key}: {origin}")))?;
            } else {
                output::line(serde_yaml::to_string(&loaded.config.masked())?.trim_end())?;
            }
            Ok(Outcome::Done)
        }
    }
}

fn check(options: &ConfigOptions, json: bool) -> anyhow::Result<Outcome> {
    let flags = config::Flags { check_files: true, ..options.flags() };
    let (faults, notes) = match config::explain(&flags, config::environment_variables()) {
        Ok(loaded) => (Vec::new(), loaded.notes),
        Err(ConfigError::Faults(faults)) => (faults, Vec::new()),
        Err(error @ ConfigError::Invalid { .. }) => (vec![error.to_string()], Vec::new()),
        Err(error @ ConfigError::Unreadable { .. }) => return Err(error.into()),
    };
    if json {
        output::json(&json!({"valid": faults.is_empty(), "faults": faults, "notes": notes}))?;
    } else {
        faults.iter().for_each(|fault| eprintln!("{fault}"));
        notes.iter().for_each(|note| eprintln!("note: {note}"));
        if faults.is_empty() {
            eprintln!("the configuration is valid");
        }
    }
    Ok(if faults.is_empty() { Outcome::Done } else { Outcome::No })
}
