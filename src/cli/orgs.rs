use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::options::{ConfigOptions, every_page, open_store, organization};
use super::{Outcome, block_on, output};
use crate::config::Config;
use crate::domain::{Clock as _, SystemClock};
use crate::store::{NewAdminEvent, OrganizationRecord, Plan, RESTORABLE, Store, TenantScope, Tier};

/// Requests that were under way when an organization was deleted still write what happened.
const SETTLING: Duration = Duration::from_secs(60);

/// List organizations, set what they may use, delete, restore and remove them
#[derive(clap::Args)]
#[command(
    after_help = "Example: sentinel orgs set --org \"Acme Corp\" --monthly-request-limit 100000 --max-users none"
)]
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
    /// Print the tier, the limits and the requests of this month
    Show,
    /// Change what is named; running servers follow within a second
    Set(Set),
    /// Print all organizations, deleted ones too
    List,
    /// Refuse its keys and end its sessions; it can be restored for 30 days
    Delete,
    /// Take a deletion back; its keys work again
    Restore,
    /// Remove a deleted organization for good, with its audit trails, before the 30 days are over
    Purge {
        /// Its slug, to be sure
        #[arg(long)]
        confirm: String,
    },
}

#[derive(clap::Args)]
struct Set {
    #[arg(long, value_parser = tier)]
    tier: Option<Tier>,
    /// A number, or `none` for no bound
    #[arg(long, value_parser = bound::<u32>)]
    max_users: Option<Bound<u32>>,
    /// A number, or `none`
    #[arg(long, value_parser = bound::<u32>)]
    max_workspaces: Option<Bound<u32>>,
    /// A number, or `none`
    #[arg(long, value_parser = bound::<u32>)]
    max_api_keys: Option<Bound<u32>>,
    /// Requests in a calendar month (UTC), or `none`
    #[arg(long, value_parser = bound::<u64>)]
    monthly_request_limit: Option<Bound<u64>>,
}

/// A limit as the command line has it.
#[derive(Clone, Copy)]
struct Bound<T>(Option<T>);

fn bound<T: std::str::FromStr>(text: &str) -> Result<Bound<T>, String> {
    match text {
        "none" => Ok(Bound(None)),
        number => number.parse().map(|number| Bound(Some(number))).map_err(|_| "a number, or `none`".to_owned()),
    }
}

fn tier(text: &str) -> Result<Tier, String> {
    serde_json::from_value(json!(text)).map_err(|_| "no such tier".to_owned())
}

pub(super) fn run(args: Args, json: bool) -> anyhow::Result<Outcome> {
    if args.org.is_empty() && !matches!(args.command, Command::List) {
        anyhow::bail!("--org is missing: the name, slug or id of the organization");
    }
    let config = args.config.load_quietly()?;
    block_on(2, orgs(args, config, json))
}

async fn orgs(args: Args, mut config: Config, json: bool) -> anyhow::Result<Outcome> {
    let store = open_store(&mut config).await?;
    match args.command {
        Command::Show => show(&store, organization(&store, &args.org).await?, None, json).await?,
        Command::Set(wanted) => show(&store, organization(&store, &args.org).await?, Some(wanted), json).await?,
        Command::List => {
            let all = every_page!(page => store.operator_organizations(None, &page));
            show_list(all.into_iter().map(|(_, record)| record), json)?;
        }
        Command::Delete => {
            let mut tx = store.write(organization(&store, &args.org).await?).await?;
            let record = tx.organization().delete(None).await?.context("it was deleted meanwhile")?;
            tx.admin_events().insert(event("organization.delete", &record)).await?;
            tx.commit().await.context("the change is not saved")?;
            show_list([record], json)?;
        }
        Command::Restore => {
            let (scope, record) = deleted(&store, &args.org).await?;
            let restored = store.restore_organization(scope, event("organization.restore", &record)).await;
            show_list([restored.context("it can no longer be restored")?], json)?;
        }
        Command::Purge { confirm } => {
            let (scope, record) = deleted(&store, &args.org).await?;
            if store.read(scope).await?.audit_settings().get().await?.legal_hold {
                anyhow::bail!("its audit trail is on legal hold");
            }
            if confirm != record.slug {
                anyhow::bail!("--confirm is not its slug, `{}`", record.slug);
            }
            let before = SystemClock.now().minus(SETTLING);
            if !store.purge_organization(record.id, before, event("organization.purge", &record)).await? {
                anyhow::bail!("it was deleted less than a minute ago: what was under way then is still being written");
            }
            eprintln!("removed");
        }
    }
    store.close().await;
    Ok(Outcome::Done)
}

fn event(action: &str, record: &OrganizationRecord) -> NewAdminEvent {
    NewAdminEvent::by_operator(action, "organization", record.id.uuid())
}

/// The deleted organization with this name, slug or id.
async fn deleted(store: &Store, name: &str) -> anyhow::Result<(TenantScope, OrganizationRecord)> {
    let mut found = every_page!(page => store.operator_organizations(Some(name), &page));
    found.retain(|(_, record)| record.deleted_at.is_some());
    match found.len() {
        0 | 1 => found.pop().with_context(|| format!("there is no deleted organization `{name}`")),
        _ => anyhow::bail!("several deleted organizations are called `{name}`: give the id"),
    }
}

fn show_list(records: impl IntoIterator<Item = OrganizationRecord>, json: bool) -> anyhow::Result<()> {
    let shown = |record: &OrganizationRecord| {
        let until = record.deleted_at.map(|at| at.plus(RESTORABLE));
        json!({ "id": record.id, "name": record.name, "slug": record.slug, "tier": record.tier,
            "created_at": record.created_at, "deleted_at": record.deleted_at, "restorable_until": until })
    };
    if json {
        let all: Vec<Value> = records.into_iter().map(|record| shown(&record)).collect();
        return output::json(&json!({ "organizations": all }));
    }
    for record in records {
        let state = match record.deleted_at {
            Some(at) => format!("deleted {at}, restorable until {}", at.plus(RESTORABLE)),
            None => "active".to_owned(),
        };
        output::line(format_args!("{}  {}  {}  {state}", record.id, record.slug, record.name))?;
    }
    Ok(())
}

async fn show(store: &Store, scope: TenantScope, set: Option<Set>, json: bool) -> anyhow::Result<()> {
    let mut tx = store.write(scope).await?;
    let record = match set {
        None => tx.organization().get().await?,
        Some(wanted) => {
            let before = tx.organization().get().await?;
            let record = tx
                .organization()
                .set_plan(Plan {
                    tier: wanted.tier,
                    max_users: wanted.max_users.map(|bound| bound.0),
                    max_workspaces: wanted.max_workspaces.map(|bound| bound.0),
                    max_api_keys: wanted.max_api_keys.map(|bound| bound.0),
                    monthly_request_limit: wanted.monthly_request_limit.map(|bound| bound.0),
                })
                .await?;
            let mut event = NewAdminEvent::by_operator("organization.set_plan", "organization", record.id.uuid());
            event.before = Some(plan(&before));
            event.after = Some(plan(&record));
            tx.admin_events().insert(event).await?;
            record
        }
    };
    let requests = tx.organization().requests_this_month().await?;
    tx.commit().await.context("the change is not saved")?;
    let mut shown = plan(&record);
    if let Value::Object(fields) = &mut shown {
        fields.insert("id".into(), json!(record.id));
        fields.insert("name".into(), json!(record.name));
        fields.insert("requests_this_month".into(), json!(requests));
    }
    if json {
        output::json(&shown)?;
    } else if let Value::Object(fields) = &shown {
        for (name, value) in fields {
            let value = match value {
                Value::Null => "none".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            output::line(format_args!("{name}: {value}"))?;
        }
    }
    Ok(())
}

fn plan(record: &OrganizationRecord) -> Value {
    json!({
        "tier": record.tier,
        "max_users": record.max_users,
        "max_workspaces": record.max_workspaces,
        "max_api_keys": record.max_api_keys,
        "monthly_request_limit": record.monthly_request_limit,
    })
}
