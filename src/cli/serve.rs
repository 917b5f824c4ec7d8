use tokio::signal::unix::{Signal, SignalKind, signal};

use super::options::ConfigOptions;
use super::{Outcome, block_on};
use crate::config::{Config, Environment};
use crate::server::{Only, Options, Sentinel};
use crate::telemetry;

/// Run Sentinel: SIGTERM or SIGINT drains and stops it, a second one ends it at once; SIGHUP opens the access log anew and reads the certificate
#[derive(clap::Args)]
#[command(after_help = "Example: SENTINEL_CONFIG=/etc/sentinel.yaml DATABASE_URL_FILE=/run/secrets/db sentinel serve")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigOptions,
    /// Show one face alone, or none (worker: ships what the journal holds)
    #[arg(long, value_enum)]
    only: Option<Face>,
    /// Apply missing migrations first; not in production, where `sentinel migrate up` is a step of its own
    #[arg(long)]
    migrate: bool,
    /// Take the place of the process that runs on the same data_dir: its sockets at once, and when this one serves, it drains
    #[arg(long)]
    take_over: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Face {
    Gateway,
    Admin,
    Worker,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let loaded = args.config.load()?;
    let config = loaded.config;
    telemetry::init_logs(&config.log);
    if args.migrate && config.environment == Environment::Production {
        anyhow::bail!("--migrate is not for production: run `sentinel migrate up` as the owner of the database");
    }
    loaded.notes.iter().for_each(|note| tracing::warn!("{note}"));
    let only = args.only.map(|face| match face {
        Face::Gateway => Only::Gateway,
        Face::Admin => Only::Admin,
        Face::Worker => Only::Worker,
    });
    let options = Options { only, migrate: args.migrate, take_over: args.take_over };
    block_on(config.admin.threads, serve(config, options))
}

async fn serve(config: Config, options: Options) -> anyhow::Result<Outcome> {
    let environment = config.environment;
    let signals = Signals::new()?;
    let sentinel = Sentinel::start(config, options).await?;
    let shown = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "off".into(), |a| a.to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        environment = ?environment,
        database = sentinel.store.engine_name(),
        gateway = %shown(sentinel.gateway),
        admin = %shown(sentinel.admin),
        "listening"
    );
    signals.run(sentinel).await
}

/// SIGTERM, SIGINT and SIGHUP, caught from the moment this is made: before a face listens, so that nobody who has seen it listen
/// can end the process without its drain.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one, then stops in order. Whatever ends that should not takes the process with it, so that its
    /// supervisor starts it anew.
    pub(super) async fn run(self, mut sentinel: Sentinel) -> anyhow::Result<Outcome> {
        let Self { mut terminate, mut interrupt, mut hang_up } = self;
        let mut successor = sentinel.offer_place();
        let failed = loop {
            tokio::select! {
                Ok(()) = &mut successor => {
                    tracing::info!("another process has taken over");
                    break None;
                }
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                _ = hang_up.recv() => sentinel.reload().await,
                name = sentinel.failed() => break Some(name),
            }
        };
        match failed {
            None => tracing::info!("stopping; a second signal ends the process at once"),
            Some(name) => tracing::error!(task = name, "ended although it should not have; stopping"),
        }
        tokio::select! {
            () = sentinel.stop() => {}
            _ = terminate.recv() => anyhow::bail!("ended by a second signal"),
            _ = interrupt.recv() => anyhow::bail!("ended by a second signal"),
        }
        match failed {
            None => Ok(Outcome::Done),
            Some(name) => anyhow::bail!("{name} ended although it should not have"),
        }
    }
}
