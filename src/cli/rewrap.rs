use anyhow::Context as _;

use super::options::{ConfigOptions, open_store};
use super::{Outcome, block_on, output};
use crate::authn::{Sealer, rewrap};
use crate::config::{Config, ensure_secrets};

/// Seal all secrets at rest with today's encryption key
///
/// After a change of `encryption.key`: with the key before in `encryption.previous_key`, which can go afterwards. Servers may
/// run meanwhile, when they know both keys.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigOptions,
}

pub(super) fn run(args: &Args, json: bool) -> anyhow::Result<Outcome> {
    let config = args.config.load_quietly()?;
    block_on(2, seal_anew(config, json))
}

async fn seal_anew(mut config: Config, json: bool) -> anyhow::Result<Outcome> {
    ensure_secrets(&mut config)?;
    let sealer = Sealer::of(&config.encryption, &config.auth).context("encryption.key")?;
    let store = open_store(&mut config).await?;
    let done = rewrap(&store, &sealer).await?;
    if json {
        output::json(&done)?;
    } else {
        output::line(format_args!(
            "sealed anew: {} provider credentials, {} second factors, {} secrets of sign-on providers",
            done.provider_credentials, done.second_factors, done.sign_on_providers
        ))?;
    }
    Ok(Outcome::Done)
}
