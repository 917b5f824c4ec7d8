use anyhow::Context as _;
use serde_json::{Value, json};

use super::options::{ConfigOptions, open_store, organization};
use super::{Outcome, block_on, output};
use crate::config::Config;
use crate::store::{NewAdminEvent, OrganizationRecord, Plan, Tier};

/// Show or set what an organization may use: its tier and limits
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
    if args.org.is_empty() {
        anyhow::bail!("--org is missing: the name, slug or id of the organization");
    }
    let config = args.config.load_quietly()?;
    block_on(2, orgs(args, config, json))
}

async fn orgs(args: Args, mut config: Config, json: bool) -> anyhow::Result<Outcome> {
    let store = open_store(&mut config).await?;
    let scope = organization(&store, &args.org).await?;
    let mut tx = store.write(scope).await?;
    let record = match args.command {
        Command::Show => tx.organization().get().await?,
        Command::Set(wanted) => {
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
    store.close().await;
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
    Ok(Outcome::Done)
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
