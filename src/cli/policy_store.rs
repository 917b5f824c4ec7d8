//! `sentinel policy export|diff|apply|versions|rollback`: an organization's policies from the command line.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::options::{ConfigOptions, every_page, open_store, organization};
use super::policy_files::{holds_cases, is_file, name_of, read, tell_faults, written};
use super::scan::told;
use super::{Outcome, block_on, output};
use crate::config::Config;
use crate::detect::Engine;
use crate::policy::{self, ApplyError, ApplyOutcome, ChangeKind, PolicyChange, Stated, Wanted};
use crate::store::{NewAdminEvent, PolicyRecord, Store, TenantScope, TenantTx};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Write the policies in force to files
    Export {
        /// Which [default: all]
        names: Vec<String>,
        /// Where to
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Tell what differs, setting by setting; exit code 0 nothing, 1 something
    #[command(after_help = "\
What is compared is a file, a policy (`support desk`: the version in force) or a version of one (`support desk@3`). One
alone is compared with what it follows: a file with the policy of its name in force, a version with the one that it
replaced. Two files need no organization.")]
    Diff {
        #[arg(required = true, num_args = 1..=2, value_name = "FILE|NAME[@VERSION]")]
        what: Vec<String>,
    },
    /// Make policies what files say, all or none of them; running servers follow within a second. What is so already stays
    Apply(Apply),
    /// Print the versions of a policy, the newest first
    Versions { name: String },
    /// Go back to an earlier version of a policy
    Rollback {
        name: String,
        /// The version [default: the one that the version in force replaced]
        #[arg(long, value_name = "VERSION")]
        to: Option<i64>,
        /// Why
        #[arg(long)]
        comment: Option<String>,
    },
}

#[derive(clap::Args)]
pub(super) struct Apply {
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave drafts instead of putting them in force
    #[arg(long)]
    draft: bool,
    /// Why
    #[arg(long)]
    comment: Option<String>,
    /// Make this policy the default
    #[arg(long, value_name = "NAME")]
    default: Option<String>,
}

pub(super) fn run(command: Command, org: String, config: &ConfigOptions, json: bool) -> anyhow::Result<Outcome> {
    if let Command::Diff { what } = &command
        && let [before, after] = what.as_slice()
        && is_file(before)
        && is_file(after)
    {
        let [before, after] = [document(before)?, document(after)?];
        let stated = |document| Stated { name: "", description: None, is_default: false, document };
        return tell(&policy::diff(Some(stated(&before)), stated(&after)), json);
    }
    anyhow::ensure!(!org.is_empty(), "--org is missing: the name, slug or id of the organization");
    let config = config.load_quietly()?;
    block_on(2, stored(command, org, config, json))
}

async fn stored(command: Command, org: String, mut config: Config, json: bool) -> anyhow::Result<Outcome> {
    let store = open_store(&mut config).await?;
    let scope = organization(&store, &org).await?;
    let outcome = match command {
        Command::Export { names, dir } => export(&store, scope, &names, &dir, json).await,
        Command::Diff { what } => diff(&store, scope, &what, json).await,
        Command::Apply(wanted) => apply(&store, scope, wanted, json).await,
        Command::Versions { name } => versions(&store, scope, &name, json).await,
        Command::Rollback { name, to, comment } => roll_back(&store, scope, &name, to, comment, json).await,
    };
    store.close().await;
    outcome
}

/// The document in a file that has no faults.
fn document(file: &str) -> anyhow::Result<Value> {
    read(file)?.map_err(|faults| {
        tell_faults(file, &faults);
        anyhow::anyhow!("{file} is no policy")
    })
}

async fn in_force(tx: &mut TenantTx, name: &str) -> anyhow::Result<PolicyRecord> {
    tx.policies().find_by_name(name).await?.with_context(|| format!("there is no policy `{name}`"))
}

async fn export(
    store: &Store,
    scope: TenantScope,
    names: &[String],
    dir: &std::path::Path,
    json: bool,
) -> anyhow::Result<Outcome> {
    let mut tx = store.read(scope).await?;
    let mut policies = every_page!(page => tx.policies().list(&page));
    drop(tx);
    for name in names {
        let known = policies.iter().any(|policy| policy.name.eq_ignore_ascii_case(name));
        anyhow::ensure!(known, "there is no policy `{name}`");
    }
    policies.retain(|policy| names.is_empty() || names.iter().any(|name| policy.name.eq_ignore_ascii_case(name)));
    policies.sort_by(|one, other| one.name.cmp(&other.name));
    if json {
        return output::json(&json!({ "policies": policies.iter().map(shown).collect::<Vec<_>>() }))
            .map(|()| Outcome::Done);
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for policy in &policies {
        let path = dir.join(format!("{}.yaml", policy.name));
        let text = written(&policy.document)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        output::line(path.display())?;
    }
    Ok(Outcome::Done)
}

fn shown(policy: &PolicyRecord) -> Value {
    json!({ "name": policy.name, "description": policy.description, "version": policy.version,
        "is_default": policy.is_default, "is_active": policy.is_active, "comment": policy.comment,
        "created_at": policy.created_at, "document": policy.document })
}

async fn diff(store: &Store, scope: TenantScope, what: &[String], json: bool) -> anyhow::Result<Outcome> {
    let mut tx = store.read(scope).await?;
    let changes = match what {
        [one] if is_file(one) => {
            let (name, document) = (name_of(one)?, document(one)?);
            let current = tx.policies().find_by_name(&name).await?;
            let kept = current.as_ref().map(Stated::from);
            let after = Stated {
                name: kept.map_or(name.as_str(), |kept| kept.name),
                description: kept.and_then(|kept| kept.description),
                is_default: kept.is_some_and(|kept| kept.is_default),
                document: &document,
            };
            policy::diff(kept, after)
        }
        [one] => {
            let after = version(&mut tx, one).await?;
            let before = match after.parent_policy_id {
                Some(parent) => tx.policies().by_id(parent).await?,
                None => None,
            };
            policy::diff(before.as_ref().map(Stated::from), Stated::from(&after))
        }
        [before, after] => {
            let before = either(&mut tx, before).await?;
            let after = either(&mut tx, after).await?;
            let stated = |document| Stated { name: "", description: None, is_default: false, document };
            policy::diff(Some(stated(&before)), stated(&after))
        }
        _ => Vec::new(),
    };
    tell(&changes, json)
}

/// The document of a file or of a version.
async fn either(tx: &mut TenantTx, what: &str) -> anyhow::Result<Value> {
    if is_file(what) { document(what) } else { Ok(version(tx, what).await?.document) }
}

/// `support desk` or `support desk@3`.
async fn version(tx: &mut TenantTx, what: &str) -> anyhow::Result<PolicyRecord> {
    let Some((name, number)) = what.split_once('@') else { return in_force(tx, what).await };
    let number: i64 = number.parse().with_context(|| format!("`{number}` is no version"))?;
    let root = in_force(tx, name).await?.root_id;
    tx.policies().version(root, number).await?.with_context(|| format!("`{name}` has no version {number}"))
}

fn tell(changes: &[PolicyChange], json: bool) -> anyhow::Result<Outcome> {
    if json {
        output::json(&json!({ "changes": changes }))?;
    } else {
        lines(changes)?;
    }
    Ok(if changes.is_empty() { Outcome::Done } else { Outcome::No })
}

fn lines(changes: &[PolicyChange]) -> anyhow::Result<()> {
    for change in changes {
        let sign = match change.kind {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        output::line(format_args!("  {sign} {}", change.summary))?;
    }
    Ok(())
}

async fn apply(store: &Store, scope: TenantScope, wanted: Apply, json: bool) -> anyhow::Result<Outcome> {
    let engine = Engine::builtin().map_err(|faults| told(&faults))?;
    let is_default = |name: &str| wanted.default.as_ref().is_some_and(|default| default.eq_ignore_ascii_case(name));
    let mut files = Vec::new();
    let mut faulty = false;
    for file in wanted.files.iter().filter(|file| !holds_cases(file)) {
        let name = name_of(file)?;
        match read(file)? {
            Ok(document) => files.push((file, name, document)),
            Err(faults) => {
                tell_faults(file, &faults);
                faulty = true;
            }
        }
    }
    if let Some(default) = &wanted.default {
        anyhow::ensure!(files.iter().any(|(_, name, _)| is_default(name)), "--default: no file is called `{default}`");
    }
    let mut tx = store.write(scope).await?;
    let mut done = Vec::new();
    for (file, name, document) in files {
        let wanted = Wanted {
            is_default: is_default(&name).then_some(true),
            name,
            description: None,
            document,
            comment: wanted.comment.clone(),
            draft: wanted.draft,
            author: None,
        };
        match policy::apply(&mut tx, &engine, wanted).await {
            Ok(applied) => done.push((file, applied)),
            Err(ApplyError::Faults(faults)) => {
                tell_faults(file, &faults);
                faulty = true;
            }
            Err(ApplyError::Store(crate::store::StoreError::Conflict("approval"))) => {
                anyhow::bail!("{file}: the organization wants changes to be approved by somebody: use --draft")
            }
            Err(error) => return Err(error).with_context(|| file.clone()),
        }
    }
    if faulty {
        return Ok(Outcome::No);
    }
    for (_, applied) in &done {
        let Some(action) = applied.outcome.event() else { continue };
        let mut event = NewAdminEvent::by_operator(action, "policy", applied.record.root_id.uuid());
        event.before = applied.before.as_ref().map(shown);
        event.after = Some(shown(&applied.record));
        tx.admin_events().insert(event).await?;
    }
    if !wanted.dry_run {
        tx.commit().await.context("the change is not saved")?;
    }
    if json {
        let each = done.iter().map(|(file, applied)| {
            json!({ "file": file, "outcome": applied.outcome, "changes": applied.changes,
                "version": (!wanted.dry_run).then_some(applied.record.version) })
        });
        output::json(&json!({ "dry_run": wanted.dry_run, "policies": each.collect::<Vec<_>>() }))?;
        return Ok(Outcome::Done);
    }
    for (file, applied) in &done {
        let word = match (applied.outcome, wanted.dry_run) {
            (ApplyOutcome::Unchanged, _) => "unchanged".to_owned(),
            (ApplyOutcome::Created, true) => "would be created".to_owned(),
            (ApplyOutcome::Updated, true) => "would be changed".to_owned(),
            (ApplyOutcome::Drafted, true) => "would be drafted".to_owned(),
            (ApplyOutcome::Created | ApplyOutcome::Updated, false) => format!("version {}", applied.record.version),
            (ApplyOutcome::Drafted, false) => format!("draft {}", applied.record.id),
        };
        output::line(format_args!("{file}: {word}"))?;
        if applied.outcome != ApplyOutcome::Unchanged {
            lines(&applied.changes)?;
        }
    }
    Ok(Outcome::Done)
}

async fn versions(store: &Store, scope: TenantScope, name: &str, json: bool) -> anyhow::Result<Outcome> {
    let mut tx = store.read(scope).await?;
    let root = in_force(&mut tx, name).await?.root_id;
    let all = every_page!(page => tx.policies().versions(root, &page));
    if json {
        output::json(&json!({ "versions": all.iter().map(shown).collect::<Vec<_>>() }))?;
        return Ok(Outcome::Done);
    }
    for policy in &all {
        let mark = if policy.is_active { "*" } else { " " };
        let comment = policy.comment.as_deref().unwrap_or_default();
        output::line(format_args!("{mark} {}  {}  {comment}", policy.version, policy.created_at))?;
    }
    Ok(Outcome::Done)
}

async fn roll_back(
    store: &Store,
    scope: TenantScope,
    name: &str,
    to: Option<i64>,
    comment: Option<String>,
    json: bool,
) -> anyhow::Result<Outcome> {
    let mut tx = store.write(scope).await?;
    let root = in_force(&mut tx, name).await?.root_id;
    let rolled = tx.policies().roll_back(root, to, comment, None).await?;
    let (before, record) = rolled.with_context(|| format!("there is no policy `{name}`"))?;
    let mut event = NewAdminEvent::by_operator("policy.rollback", "policy", root.uuid());
    event.before = Some(shown(&before));
    event.after = Some(shown(&record));
    tx.admin_events().insert(event).await?;
    tx.commit().await.context("the change is not saved")?;
    if json {
        output::json(&shown(&record))?;
    } else {
        output::line(format_args!("version {}", record.version))?;
        lines(&policy::diff(Some(Stated::from(&before)), Stated::from(&record)))?;
    }
    Ok(Outcome::Done)
}
