use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::options::{ConfigOptions, every_page, open_store, organization};
use super::{Outcome, block_on, output};
use crate::audit::{ChainReport, Erasure, SignedCheckpoint, Trusted, erase, verify};
use crate::config::Config;
use crate::store::{NewAdminEvent, Store, StoreError, TenantScope};

/// Check the audit trail against its chains, print what nodes have signed, and erase end users
#[derive(clap::Args)]
#[command(after_help = "Keep the output of `sentinel audit checkpoints` elsewhere, and check against it:\n  \
                  sentinel audit verify --checkpoints kept.jsonl")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Name, slug or id of the organization; all when it is not given
    #[arg(long, global = true)]
    org: Option<String>,
    #[command(flatten)]
    config: ConfigOptions,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Find rows that were changed, removed, moved or put in; exit code 1 when there are any
    Verify {
        /// Checkpoints that were kept elsewhere, as `audit checkpoints` printed them
        #[arg(long, value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// A public key of a node, in base64; when given, no other key is trusted
        #[arg(long, value_name = "BASE64")]
        public_key: Vec<String>,
    },
    /// Print the signed checkpoints as JSON lines
    Checkpoints,
    /// Remove the names and addresses of end users; the chains stay verifiable
    #[command(group = clap::ArgGroup::new("whom").required(true))]
    Erase {
        /// The application's own name for its end user
        #[arg(long, value_name = "NAME", group = "whom")]
        user_id: Option<String>,
        /// All end users of the organization
        #[arg(long, group = "whom")]
        everyone: bool,
    },
}

pub(super) fn run(args: Args, json: bool) -> anyhow::Result<Outcome> {
    let trusted = match &args.command {
        Command::Verify { checkpoints, public_key } => trusted(checkpoints, public_key)?,
        Command::Checkpoints => Trusted::default(),
        Command::Erase { .. } if args.org.is_none() => anyhow::bail!("--org is needed: name the organization"),
        Command::Erase { .. } => Trusted::default(),
    };
    let config = args.config.load_quietly()?;
    block_on(2, audit(args, trusted, config, json))
}

fn trusted(files: &[PathBuf], keys: &[String]) -> anyhow::Result<Trusted> {
    let mut trusted = Trusted::default();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let at = || format!("{}:{}", file.display(), number + 1);
            let line: SignedCheckpoint = serde_json::from_str(line).with_context(at)?;
            trusted.checkpoints.push(line.try_into().map_err(anyhow::Error::msg).with_context(at)?);
        }
    }
    for key in keys {
        let bytes = BASE64_STANDARD.decode(key).ok().filter(|bytes| bytes.len() == 32);
        trusted.keys.push(bytes.context("--public-key is no Ed25519 key in base64")?);
    }
    Ok(trusted)
}

async fn audit(args: Args, trusted: Trusted, mut config: Config, json: bool) -> anyhow::Result<Outcome> {
    let store = open_store(&mut config).await?;
    let organizations = match &args.org {
        Some(name) => vec![(name.clone(), organization(&store, name).await?)],
        None => {
            let all = every_page!(page => store.operator_organizations(None, &page));
            all.into_iter().map(|(scope, record)| (record.slug, scope)).collect()
        }
    };
    let outcome = match args.command {
        Command::Verify { .. } => check(&store, organizations, &trusted, json).await?,
        Command::Checkpoints => {
            for (_, scope) in organizations {
                for point in store.read(scope).await?.audit_logs().checkpoints().await? {
                    output::line(serde_json::to_string(&SignedCheckpoint::from(point))?)?;
                }
            }
            Outcome::Done
        }
        Command::Erase { user_id, .. } => {
            for (name, scope) in organizations {
                wipe(&store, &name, scope, user_id.as_deref(), json).await?;
            }
            Outcome::Done
        }
    };
    store.close().await;
    Ok(outcome)
}

async fn wipe(store: &Store, name: &str, scope: TenantScope, user: Option<&str>, json: bool) -> anyhow::Result<()> {
    // Before and after: an erasure that breaks off is an act as well.
    let event = |action, what| NewAdminEvent {
        after: Some(what),
        ..NewAdminEvent::by_operator(action, "organization", scope.org_id().uuid())
    };
    let begun = event("audit_log.erase", serde_json::json!({ "everyone": user.is_none() }));
    store.record_event(Some(scope), begun).await?;
    let requests = match erase(store, scope, user.map_or(Erasure::Everyone, Erasure::User)).await {
        Err(StoreError::Conflict("legal hold")) => anyhow::bail!("the audit trail of {name} is on legal hold"),
        erased => erased?,
    };
    store.record_event(Some(scope), event("audit_log.erased", serde_json::json!({ "requests": requests }))).await?;
    if json {
        output::line(serde_json::json!({ "org": name, "requests": requests }))
    } else {
        output::line(format_args!("{name}: erased from {requests} requests"))
    }
}

async fn check(
    store: &Store,
    organizations: Vec<(String, TenantScope)>,
    trusted: &Trusted,
    json: bool,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    for (name, scope) in organizations {
        let report = verify(store, scope, trusted).await?;
        if !report.intact {
            outcome = Outcome::No;
        }
        if json {
            // One line an organization.
            output::line(serde_json::json!({ "org": name, "report": report }))?;
        } else {
            show(&name, &report)?;
        }
    }
    Ok(outcome)
}

fn show(name: &str, report: &ChainReport) -> anyhow::Result<()> {
    let word = if report.intact { "intact" } else { "NOT INTACT" };
    output::line(format_args!(
        "{name}: {word}; {} rows checked in {} streams, {} checkpoints, {} rows still open, {} from before the chain",
        report.checked,
        report.streams.len(),
        report.checkpoints,
        report.open,
        report.before_chain
    ))?;
    for fault in &report.faults {
        let kind = serde_json::to_value(fault.kind)?;
        let place = match (fault.seq, fault.to_seq) {
            (Some(first), Some(last)) => format!(" {first} to {last}"),
            (Some(seq), None) => format!(" {seq}"),
            _ => String::new(),
        };
        let id = fault.id.map(|id| format!(", row {id}")).unwrap_or_default();
        output::line(format_args!("  {}{place} of node {}{id}", kind.as_str().unwrap_or("?"), fault.node))?;
    }
    if report.fault_count > report.faults.len() as u64 {
        output::line(format_args!("  and {} more", report.fault_count - report.faults.len() as u64))?;
    }
    Ok(())
}
