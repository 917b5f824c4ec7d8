use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::options::{ConfigOptions, every_page, open_store, organization};
use super::{Outcome, block_on, output};
use crate::authn::ApiKeySecret;
use crate::config::{Config, HumanDuration};
use crate::domain::{ApiKeyId, Clock as _, SystemClock};
use crate::store::{ApiKeyRecord, NewAdminEvent, NewApiKey, Store, TenantScope, TenantTx, WorkspaceRecord};

/// Create, list, revoke or rotate API keys of applications
#[derive(clap::Args)]
#[command(after_help = "Example: sentinel keys create --org \"Acme Corp\" --name checkout")]
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
    /// Make a key and print it, once
    Create(Create),
    /// List keys, without their text
    List {
        /// Name, slug or id of a workspace [default: all]
        #[arg(long)]
        workspace: Option<String>,
    },
    /// Refuse a key from now on
    Revoke { id: ApiKeyId },
    /// Make a key like an old one, and let the old one end
    Rotate {
        id: ApiKeyId,
        /// How long the old key goes on working
        #[arg(long, default_value_t = 0)]
        grace_seconds: u32,
    },
}

#[derive(clap::Args)]
struct Create {
    /// What the key is for
    #[arg(long)]
    name: String,
    /// Name, slug or id of the workspace [default: the organization's only one]
    #[arg(long)]
    workspace: Option<String>,
    /// May be given more than once
    #[arg(long = "scope", value_parser = ["process", "metrics", "reports"], default_value = "process")]
    scopes: Vec<String>,
    /// Requests a minute
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit: Option<u32>,
    /// Such as 90d [default: never]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<HumanDuration>,
    /// Make a snt_test_ key
    #[arg(long)]
    test: bool,
}

pub(super) fn run(args: Args, json: bool) -> anyhow::Result<Outcome> {
    if args.org.is_empty() {
        anyhow::bail!("--org is missing: the name, slug or id of the organization");
    }
    let config = args.config.load_quietly()?;
    block_on(2, keys(args, config, json))
}

async fn keys(args: Args, mut config: Config, json: bool) -> anyhow::Result<Outcome> {
    let store = open_store(&mut config).await?;
    let scope = organization(&store, &args.org).await?;
    match args.command {
        Command::Create(wanted) => {
            let (key, record) = create(&store, scope, wanted).await?;
            show_new(&key, &record, json)?;
        }
        Command::List { workspace } => show_list(&list(&store, scope, workspace.as_deref()).await?, json)?,
        Command::Revoke { id } => {
            let mut tx = store.write(scope).await?;
            let revoked = tx.api_keys().revoke(id).await?.with_context(|| format!("there is no key {id}"))?;
            tx.admin_events().insert(NewAdminEvent::by_operator("api_key.revoke", "api_key", id.uuid())).await?;
            tx.commit().await?;
            eprintln!("revoked");
            if json {
                output::json(&as_json(&revoked))?;
            }
        }
        Command::Rotate { id, grace_seconds } => {
            let (key, record) = rotate(&store, scope, id, Duration::from_secs(grace_seconds.into())).await?;
            show_new(&key, &record, json)?;
        }
    }
    store.close().await;
    Ok(Outcome::Done)
}

async fn create(store: &Store, scope: TenantScope, wanted: Create) -> anyhow::Result<(ApiKeySecret, ApiKeyRecord)> {
    let mut tx = store.write(scope).await?;
    let workspace = workspace(&mut tx, wanted.workspace.as_deref()).await?;
    let expires_at = wanted.expires_in.map(|after| SystemClock.now().plus(after.get()));
    let key = ApiKeySecret::generate(!wanted.test);
    let record = tx
        .api_keys()
        .insert(NewApiKey {
            workspace_id: workspace.id,
            name: wanted.name,
            scopes: wanted.scopes,
            rate_limit_per_minute: wanted.rate_limit,
            expires_at,
            ..new_key(&key, workspace.id)
        })
        .await?;
    tx.admin_events().insert(NewAdminEvent::by_operator("api_key.create", "api_key", record.id.uuid())).await?;
    tx.commit().await?;
    Ok((key, record))
}

/// What a row says of the text of a key; the rest as a key for `/process` has it.
pub(super) fn new_key(key: &ApiKeySecret, workspace: crate::domain::WorkspaceId) -> NewApiKey {
    NewApiKey {
        id: ApiKeyId::new(),
        workspace_id: workspace,
        name: String::new(),
        hash: key.hash(),
        key_prefix: key.display_prefix(),
        last_four: key.last_four(),
        scopes: vec!["process".into()],
        rate_limit_per_minute: None,
        expires_at: None,
        rotated_from: None,
        created_by: None,
    }
}

async fn workspace(tx: &mut TenantTx, name: Option<&str>) -> anyhow::Result<WorkspaceRecord> {
    let mut all = every_page!(page => tx.workspaces().list(&page));
    match name {
        Some(name) => {
            let wanted = |w: &WorkspaceRecord| w.slug == name || w.name == name || w.id.to_string() == name;
            all.into_iter().find(wanted).with_context(|| format!("there is no workspace `{name}`"))
        }
        None if all.len() == 1 => all.pop().context("no workspace"),
        None => {
            let slugs: Vec<&str> = all.iter().map(|workspace| workspace.slug.as_str()).collect();
            anyhow::bail!("--workspace is missing; there are: {}", slugs.join(", "))
        }
    }
}

async fn list(store: &Store, scope: TenantScope, of: Option<&str>) -> anyhow::Result<Vec<ApiKeyRecord>> {
    let mut tx = store.read(scope).await?;
    let id = match of {
        Some(_) => Some(workspace(&mut tx, of).await?.id),
        None => None,
    };
    Ok(every_page!(page => tx.api_keys().list(id, &page)))
}

async fn rotate(
    store: &Store,
    scope: TenantScope,
    id: ApiKeyId,
    grace: Duration,
) -> anyhow::Result<(ApiKeySecret, ApiKeyRecord)> {
    let mut tx = store.write(scope).await?;
    let old = tx.api_keys().find(id).await?.with_context(|| format!("there is no key {id}"))?;
    if old.revoked_at.is_some() {
        anyhow::bail!("key {id} is revoked: make a new one");
    }
    let key = ApiKeySecret::generate(old.key_prefix.starts_with(crate::authn::KEY_PREFIXES[0]));
    let record = tx
        .api_keys()
        .insert(NewApiKey {
            name: old.name,
            scopes: old.scopes,
            rate_limit_per_minute: old.rate_limit_per_minute,
            expires_at: old.expires_at,
            rotated_from: Some(old.id),
            ..new_key(&key, old.workspace_id)
        })
        .await?;
    if grace.is_zero() {
        tx.api_keys().revoke(id).await?;
    } else {
        tx.api_keys().expire_at(id, SystemClock.now().plus(grace)).await?;
    }
    let mut event = NewAdminEvent::by_operator("api_key.rotate", "api_key", id.uuid());
    event.after = Some(json!({ "replaced_by": record.id }));
    tx.admin_events().insert(event).await?;
    tx.commit().await?;
    Ok((key, record))
}

fn show_new(key: &ApiKeySecret, record: &ApiKeyRecord, json: bool) -> anyhow::Result<()> {
    if json {
        let mut value = as_json(record);
        if let Value::Object(fields) = &mut value {
            fields.insert("key".into(), json!(key.expose()));
        }
        return output::json(&value);
    }
    eprintln!("key {} ({}), shown once:", record.id, record.name);
    output::line(key.expose())
}

fn show_list(keys: &[ApiKeyRecord], json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&json!({ "keys": keys.iter().map(as_json).collect::<Vec<_>>() }));
    }
    for key in keys {
        let state = match (key.revoked_at, key.expires_at) {
            (Some(at), _) => format!("revoked {at}"),
            (None, _) if !key.is_active => "inactive".into(),
            (None, Some(at)) if at <= SystemClock.now() => format!("expired {at}"),
            (None, Some(at)) => format!("until {at}"),
            (None, None) => "active".into(),
        };
        let used = key.last_used_at.map_or_else(|| "never used".into(), |at| format!("used {at}"));
        output::line(format_args!(
            "{}  {}…{}  {}  {}  {state}  {used}",
            key.id,
            key.key_prefix,
            key.last_four,
            key.name,
            key.scopes.join(",")
        ))?;
    }
    Ok(())
}

fn as_json(key: &ApiKeyRecord) -> Value {
    json!({
        "id": key.id, "workspace_id": key.workspace_id, "name": key.name, "key_prefix": key.key_prefix,
        "last_four": key.last_four, "scopes": key.scopes, "rate_limit_per_minute": key.rate_limit_per_minute,
        "is_active": key.is_active, "expires_at": key.expires_at, "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at, "created_at": key.created_at,
    })
}
