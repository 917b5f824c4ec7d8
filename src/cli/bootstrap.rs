use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::options::{ConfigOptions, open_store};
use super::{Outcome, block_on, output};
use crate::authn::{Passwords, temporary_password, weakness};
use crate::config::Config;
use crate::domain::Secret;
use crate::store::{NewAdminEvent, NewOrganization};

/// Create an organization with its first owner
#[derive(clap::Args)]
#[command(after_help = "Example: sentinel bootstrap --org \"Acme Corp\" --email founder@acme.com")]
pub(super) struct Args {
    /// Name of the organization
    #[arg(long)]
    org: String,
    /// The owner's address, which is the login name
    #[arg(long)]
    email: String,
    /// The owner's name [default: the address]
    #[arg(long)]
    full_name: Option<String>,
    /// File that holds the owner's password, `-` for standard input; without it a temporary one is made and printed
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOptions,
}

pub(super) fn run(args: Args, json: bool) -> anyhow::Result<Outcome> {
    let config = args.config.load_quietly()?;
    block_on(2, bootstrap(args, config, json))
}

async fn bootstrap(args: Args, mut config: Config, json: bool) -> anyhow::Result<Outcome> {
    let full_name = args.full_name.unwrap_or_else(|| args.email.clone());
    let given = args.password_file.as_deref().map(read_password).transpose()?;
    if let Some(password) = &given
        && let Some(weakness) = weakness(password.expose(), &[&args.email, &full_name, &args.org])
    {
        bail!("the password {weakness}");
    }
    let temporary = given.is_none();
    let password = given.unwrap_or_else(temporary_password);

    let store = open_store(&mut config).await?;
    let owner_password_hash = Passwords::new(&config.auth).hash(password.clone()).await?;
    let registered = store
        .register(NewOrganization {
            name: args.org,
            owner_email: args.email.clone(),
            owner_full_name: full_name,
            owner_password_hash: owner_password_hash.clone(),
            workspace_name: "default".into(),
        })
        .await?;
    if temporary {
        let mut tx = store.write(registered.scope).await?;
        tx.users().set_password(registered.user_id, &owner_password_hash, true).await?;
        let event = NewAdminEvent::by_operator("user.set_temporary_password", "user", registered.user_id.uuid());
        tx.admin_events().insert(event).await?;
        tx.commit().await?;
    }
    store.close().await;

    let temporary_password = temporary.then(|| password.expose().as_str());
    if json {
        output::json(&json!({
            "org_id": registered.org_id, "user_id": registered.user_id, "workspace_id": registered.workspace_id,
            "email": args.email, "temporary_password": temporary_password,
        }))?;
    } else {
        eprintln!(
            "organization {}, owner {}, workspace {}",
            registered.org_id, registered.user_id, registered.workspace_id
        );
        if let Some(password) = temporary_password {
            eprintln!("temporary password of {}, shown once, to be changed at the first log-in:", args.email);
            output::line(password)?;
        }
    }
    Ok(Outcome::Done)
}

fn read_password(file: &std::path::Path) -> anyhow::Result<Secret<String>> {
    let text =
        if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = Secret::new(text.with_context(|| format!("cannot read {}", file.display()))?);
    Ok(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
}
