use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;

use super::options::ConfigOptions;
use super::{Outcome, block_on, output};
use crate::config::{Config, Environment};
use crate::store::migrate::{self, MigrationStatus};

/// Apply, revert or list migrations of the database
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    config: ConfigOptions,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Apply what is missing
    Up,
    /// Revert the latest migrations: their tables and columns are gone, with what is in them
    Down {
        /// How many
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
        /// Needed in production
        #[arg(long)]
        yes: bool,
    },
    /// List all migrations; exit code 1 when one is pending
    Status,
    /// List the applied ones, in the order in which they were applied
    History,
    /// Write the empty files of a new migration below ROOT/migrations
    New {
        /// Lower case with underscores, such as add_reports
        name: String,
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
}

pub(super) fn run(args: &Args, json: bool) -> anyhow::Result<Outcome> {
    if let Command::New { name, root } = &args.command {
        let files = migrate::new(root, name).with_context(|| format!("cannot write migration `{name}`"))?;
        if json {
            output::json(&json!({ "files": files }))?;
        } else {
            files.iter().try_for_each(|file| output::line(file.display()))?;
        }
        return Ok(Outcome::Done);
    }
    let mut config = args.config.load_quietly()?;
    config.fill_in();
    block_on(1, migrate(&config, &args.command, json))
}

async fn migrate(config: &Config, command: &Command, json: bool) -> anyhow::Result<Outcome> {
    let database = &config.database;
    if let Command::Up = command {
        // SQLite's file is made in it.
        std::fs::create_dir_all(&config.data_dir).context("data_dir")?;
    }
    let (said, list) = match command {
        Command::Up => ("applied", migrate::up(database).await?),
        Command::Down { yes: false, .. } if config.environment == Environment::Production => {
            anyhow::bail!("reverting migrations deletes data; in production say --yes");
        }
        Command::Down { steps, .. } => ("reverted", migrate::down(database, *steps).await?),
        Command::Status => ("", migrate::status(database).await?),
        Command::History | Command::New { .. } => {
            let mut applied = migrate::status(database).await?;
            applied.retain(|migration| migration.applied_at.is_some());
            applied.sort_by_key(|migration| (migration.applied_at, migration.number));
            ("", applied)
        }
    };
    if json {
        output::json(&json!({ "migrations": list.iter().map(as_json).collect::<Vec<_>>() }))?;
    } else {
        for MigrationStatus { number, name, applied_at } in &list {
            let state = match (said, applied_at) {
                ("", Some(at)) => at.to_string(),
                ("", None) => "pending".into(),
                (said, _) => said.into(),
            };
            output::line(format_args!("{number:04}_{name}  {state}"))?;
        }
        if list.is_empty() {
            eprintln!("nothing to do");
        }
    }
    let pending = matches!(command, Command::Status) && list.iter().any(|migration| migration.applied_at.is_none());
    Ok(if pending { Outcome::No } else { Outcome::Done })
}

fn as_json(migration: &MigrationStatus) -> serde_json::Value {
    json!({"number": migration.number, "name": migration.name, "applied_at": migration.applied_at})
}
