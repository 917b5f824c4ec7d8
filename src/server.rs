//! Puts everything together: the only place that starts threads and tasks.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::admin::{self, AdminState};
use crate::audit::{self, Journal, Signer};
use crate::authn::{KeyCache, ProviderCredentialCache, Sealer};
use crate::config::{Config, Environment, RetentionConfig, ensure_secrets};
use crate::detect::Engine;
use crate::domain::{SharedClock, SystemClock};
use crate::enforce::Vault;
use crate::gateway::{self, Certificates, GatewayState};
use crate::health::Health;
use crate::limits::{MonthlyUsage, RateLimiter};
use crate::mail::Mailer;
use crate::policy::PolicyCache;
use crate::process::Processor;
use crate::store::{Store, migrate};
use crate::telemetry::{AccessLog, Metrics, Traces};
use crate::upstream::Upstreams;

use handover::Listeners;

/// How often it is written down when keys were last used.
const LAST_USED_INTERVAL: Duration = Duration::from_secs(5);
/// How often nodes tell each other how many requests they have admitted.
const USAGE_INTERVAL: Duration = Duration::from_secs(1);
/// How often nodes write what rollouts have counted, and look at their guards.
const ROLLOUT_INTERVAL: Duration = Duration::from_secs(1);
/// How often expired sessions, tokens and links are removed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
/// How long background tasks, the last shipment among them, may take to end.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(30);

mod handover;

/// Which faces a process shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    Gateway,
    Admin,
    /// No listener: ships what the journal holds.
    Worker,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub only: Option<Only>,
    /// Apply missing migrations before starting. Development on SQLite always does.
    pub migrate: bool,
    /// Take the sockets, and then the place, of the process that runs on this `data_dir`.
    pub take_over: bool,
}

impl Options {
    fn shows(&self, face: Only) -> bool {
        self.only.is_none_or(|only| only == face)
    }
}

/// A running Sentinel.
pub struct Sentinel {
    pub gateway: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub store: Store,
    running: Option<gateway::Running>,
    access_log: Option<Arc<AccessLog>>,
    certificates: Option<Arc<Certificates>>,
    /// Copies, for a successor.
    listeners: Arc<Mutex<Listeners>>,
    successor: PathBuf,
    signing: Arc<Signing>,
    drain_timeout: Duration,
    journals: Vec<Journal>,
    /// The admin face.
    faces: Tasks,
    background: Tasks,
}

impl Sentinel {
    /// Starts everything and returns once both faces listen.
    ///
    /// # Errors
    /// Whatever keeps it from starting, with the name of the setting.
    pub async fn start(mut config: Config, options: Options) -> anyhow::Result<Self> {
        // The first caller of a process decides; all of them decide the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        ensure_secrets(&mut config)?;
        let clock: SharedClock = Arc::new(SystemClock);
        let store = open_store(&mut config, options.migrate, Arc::clone(&clock)).await?;
        let engine =
            Arc::new(Engine::builtin().map_err(|faults| anyhow::anyhow!("detection rules: {}", lines(&faults)))?);
        let upstreams = Upstreams::new(&config).map_err(|faults| anyhow::anyhow!("{}", lines(&faults)))?;
        let config = Arc::new(config);

        let certificates = if options.shows(Only::Gateway) {
            Certificates::load(&config.gateway.tls).map_err(|faults| anyhow::anyhow!("{}", lines(&faults)))?
        } else {
            None
        };
        let (inherited, predecessor) = if options.take_over {
            let path = handover::socket(&config.data_dir, options.only);
            let asked = handover::ask(&path);
            let (listeners, predecessor) = asked.with_context(|| format!("--take-over: {}", path.display()))?;
            (listeners, Some(predecessor))
        } else {
            (Listeners::default(), None)
        };
        let listen = |face, setting, address: &str, inherited| listen(&options, face, setting, address, inherited);
        let gateway_listener = listen(Only::Gateway, "gateway.listen", &config.gateway.listen, inherited.gateway)?;
        let admin_listener = listen(Only::Admin, "admin.listen", &config.admin.listen, inherited.admin)?;
        let mut listeners = Listeners { gateway: gateway_listener, admin: admin_listener };
        let kept = listeners.copies()?;
        let Listeners { gateway: gateway_listener, admin: admin_listener } = std::mem::replace(&mut listeners, kept);

        let metrics = Arc::new(Metrics::new());
        let access_log = match &config.log.access {
            Some(target) if options.shows(Only::Gateway) => {
                let dropped = metrics.access_log_dropped.clone();
                let log = AccessLog::open(target, dropped).with_context(|| format!("log.access: {}", target.display()));
                Some(Arc::new(log?))
            }
            _ => None,
        };
        let (journal, leftovers) = open_journals(&config, &options, &clock, &metrics)?;
        let signing = Arc::new(Signing {
            signer: Signer::open(&config.data_dir).context("data_dir")?,
            store: store.clone(),
            node: Arc::clone(journal.node()),
            clock: Arc::clone(&clock),
        });
        let keys = KeyCache::new(store.clone(), Arc::clone(&clock), &metrics);
        let sealer = Arc::new(Sealer::of(&config.encryption, &config.auth).context("encryption.key")?);
        let credentials =
            ProviderCredentialCache::new(store.clone(), Arc::clone(&sealer), Arc::clone(&clock), &metrics);
        let vault = Arc::new(Vault::new(sealer.value_keys()));
        let policies = PolicyCache::new(store.clone(), Arc::clone(&engine), Arc::clone(&metrics));
        let limiter = Arc::new(RateLimiter::new());
        let usage = Arc::new(MonthlyUsage::new());
        let mailer = Mailer::new(&config.mail)?;
        if config.mail.smtp_url.is_none() && config.environment != Environment::Development {
            tracing::warn!(outbox = %config.mail.outbox.display(), "no mail.smtp_url: mails to people become files");
        }
        let health = Health { store: store.clone(), journal: journal.clone() };
        let processor = Processor {
            engine: Arc::clone(&engine),
            policies: Arc::clone(&policies),
            journal: journal.clone(),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
        };

        let mut background = Tasks::new();
        let journals: Vec<Journal> = [journal.clone()].into_iter().chain(leftovers).collect();
        for journal in &journals {
            background.spawn("audit shipper", |stop| audit::ship(journal.clone(), store.clone(), stop));
        }
        let every = config.audit.checkpoint_interval.get();
        background.spawn("checkpoints of the audit trail", |stop| sign(Arc::clone(&signing), every, stop));
        let traces = match Traces::new(&config.otlp, &metrics.traces_dropped).map_err(anyhow::Error::msg)? {
            Some((traces, export)) if options.shows(Only::Gateway) => {
                background.spawn("export of traces", |stop| export.run(stop));
                Some(traces)
            }
            _ => None,
        };
        background.spawn("change feed", |stop| follow_changes(store.clone(), stop));
        background.spawn("last-used times of keys", |stop| flush_last_used(Arc::clone(&keys), stop));

        background.spawn("counts of rollouts", |stop| write_rollouts(Arc::clone(&policies), stop));
        background.spawn("counters of requests", |stop| write_usage(store.clone(), Arc::clone(&usage), stop));

        if options.only != Some(Only::Gateway) {
            let refresh_ttl = config.auth.refresh_token_ttl.get();
            background.spawn("retention of the audit trail", |stop| {
                expire(Arc::clone(&signing), config.audit.retention.clone(), stop)
            });
            background.spawn("pruning", |stop| prune(store.clone(), refresh_ttl, stop));
        }

        let mut faces = Tasks::new();
        let admin = address(admin_listener.as_ref())?;
        if let Some(listener) = admin_listener {
            let state = AdminState {
                config: Arc::clone(&config),
                store: store.clone(),
                keys: Arc::clone(&keys),
                sealer,
                engine: Arc::clone(&engine),
                limiter: Arc::clone(&limiter),
                usage: Arc::clone(&usage),
                processor: processor.clone(),
                health: health.clone(),
                mailer,
                metrics: Arc::clone(&metrics),
                clock: Arc::clone(&clock),
            };
            faces.spawn("admin face", |stop| async move {
                if let Err(error) = admin::serve(listener, state, stop).await {
                    tracing::error!(%error, "the admin face failed");
                }
            });
        }
        let running = match gateway_listener {
            None => None,
            Some(listener) => {
                if let Some(certificates) = &certificates {
                    background.spawn("certificates", |stop| Arc::clone(certificates).keep_fresh(stop));
                }
                background.spawn("name resolution", |stop| Arc::clone(&upstreams).keep_resolved(stop));
                background.spawn("health checks", |stop| Arc::clone(&upstreams).keep_checked(stop));
                let state = GatewayState {
                    config: config.gateway.clone(),
                    keys,
                    credentials,
                    vault,
                    policies,
                    engine,
                    limiter,
                    usage,
                    upstreams,
                    journal,
                    processor,
                    health,
                    metrics,
                    access_log: access_log.clone(),
                    traces,
                    certificates: certificates.clone(),
                    clock,
                };
                Some(gateway::start(listener, state).context("gateway.listen: the gateway cannot start")?)
            }
        };
        if let Some(predecessor) = predecessor
            && let Err(error) = predecessor.release()
        {
            tracing::warn!(%error, "the process before this one is gone already");
        }
        Ok(Self {
            gateway: running.as_ref().map(|running| running.address),
            admin,
            store,
            running,
            access_log,
            certificates,
            listeners: Arc::new(Mutex::new(listeners)),
            successor: handover::socket(&config.data_dir, options.only),
            signing,
            drain_timeout: config.gateway.drain_timeout.get(),
            journals,
            faces,
            background,
        })
    }

    /// Waits until something ends that should run as long as the process, and names it.
    pub async fn failed(&mut self) -> &'static str {
        tokio::select! {
            name = self.faces.first_to_end() => name,
            name = self.background.first_to_end() => name,
        }
    }

    /// What SIGHUP asks for: the access log is opened anew, the certificate read anew.
    pub async fn reload(&self) {
        if let Some(certificates) = self.certificates.clone() {
            let _ = tokio::task::spawn_blocking(move || certificates.reload()).await;
        }
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Lets a successor take the sockets (`Options::take_over`). The channel tells that one serves, and is closed where none can.
    pub fn offer_place(&self) -> oneshot::Receiver<()> {
        handover::offer(&self.successor, Arc::clone(&self.listeners)).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %self.successor.display(), "no successor can take over");
            oneshot::channel().1
        })
    }

    /// Drains the gateway, finishes admin requests, ships the journal, closes the store.
    pub async fn stop(self) {
        // A copy that stays open would hold connections that nobody takes.
        *self.listeners.lock() = Listeners::default();
        if let Some(running) = self.running
            && !running.drain(self.drain_timeout).await
        {
            tracing::warn!("requests were still under way at the end of gateway.drain_timeout");
        }
        self.faces.stop(self.drain_timeout).await;
        for journal in &self.journals {
            journal.close().await;
        }
        self.background.stop(BACKGROUND_TIMEOUT).await;
        // The last rows are in the database now.
        self.signing.sign().await;
        if let Some(log) = self.access_log {
            let _ = tokio::task::spawn_blocking(move || log.close()).await;
        }
        self.store.close().await;
    }
}

/// Opens the database, for `serve` and for commands alike, and makes sure that it fits this version: development on
/// SQLite is migrated without being asked, everything else only with `migrate`.
///
/// # Errors
/// When the database cannot be reached, has unapplied migrations, or (in production) could let one tenant see another.
pub(crate) async fn open_store(config: &mut Config, migrate: bool, clock: SharedClock) -> anyhow::Result<Store> {
    config.fill_in();
    make_private_dir(&config.data_dir).with_context(|| format!("data_dir: {}", config.data_dir.display()))?;
    let database = &config.database;
    let own_file = config.environment == Environment::Development && database.url.starts_with("sqlite:");
    if migrate || own_file {
        for applied in migrate::up(database).await.context("database: cannot migrate")? {
            tracing::info!(migration.number = applied.number, migration.name = %applied.name, "migrated");
        }
    }
    let store = Store::connect(database, clock).await.context("database.url")?;
    let faults = if config.environment == Environment::Production {
        store.production_faults().await.context("database.url")?
    } else {
        let pending = migrate::status(database).await.context("database.url")?;
        let pending = pending.into_iter().filter(|migration| migration.applied_at.is_none());
        pending
            .map(|migration| format!("migration {:04}_{} is not applied", migration.number, migration.name))
            .collect()
    };
    if !faults.is_empty() {
        store.close().await;
        bail!("the database is not ready (`sentinel migrate up` applies migrations):\n  {}", faults.join("\n  "));
    }
    Ok(store)
}

/// Makes `dir` where it is missing; nobody else on the machine may look into it.
pub(crate) fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn lines<T: std::fmt::Display>(faults: &[T]) -> String {
    faults.iter().map(T::to_string).collect::<Vec<_>>().join("\n  ")
}

/// None when this process does not show the face.
fn listen(
    options: &Options,
    face: Only,
    setting: &str,
    address: &str,
    inherited: Option<TcpListener>,
) -> anyhow::Result<Option<TcpListener>> {
    if !options.shows(face) {
        return Ok(None);
    }
    let listener = match inherited {
        Some(listener) => listener,
        None => TcpListener::bind(address).with_context(|| format!("{setting}: cannot listen on {address}"))?,
    };
    listener.set_nonblocking(true).with_context(|| setting.to_owned())?;
    Ok(Some(listener))
}

fn address(listener: Option<&TcpListener>) -> std::io::Result<Option<SocketAddr>> {
    listener.map(TcpListener::local_addr).transpose()
}

/// The process's journal, and what other processes may have left in the same folder.
///
/// A journal has one owner. `serve --only admin` has one of its own, so that a gateway may run beside it on the same
/// `data_dir`; so has a process that takes over while the one before it still writes its own. What is in use is shipped by
/// who uses it, and otherwise by whoever starts next.
fn open_journals(
    config: &Config,
    options: &Options,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Journal, Vec<Journal>)> {
    const BOTH: [&str; 2] = ["journal", "journal-2"];
    const ADMIN: [&str; 2] = ["journal-admin", "journal-admin-2"];
    let own = if options.only == Some(Only::Admin) { ADMIN } else { BOTH };
    let open = |name: &str, metrics: &Arc<Metrics>| {
        Journal::open(&config.data_dir.join(name), &config.audit, Arc::clone(clock), Arc::clone(metrics))
    };
    let [mut name, second] = own;
    let opened = match open(name, metrics) {
        Err(_) if options.take_over => {
            name = second;
            open(name, metrics)
        }
        opened => opened,
    };
    let journal = opened.with_context(|| format!("data_dir: {}", config.data_dir.join(name).display()))?;
    let others = if matches!(options.only, None | Some(Only::Worker)) { [BOTH, ADMIN].concat() } else { own.to_vec() };
    let left = others.into_iter().filter(|other| *other != name && config.data_dir.join(other).is_dir());
    // Their own metrics: the gauges describe one journal.
    let leftovers = left.filter_map(|other| open(other, &Arc::new(Metrics::new())).ok()).collect();
    Ok((journal, leftovers))
}

/// What the heads of this node's chains are signed with.
struct Signing {
    signer: Signer,
    store: Store,
    node: Arc<str>,
    clock: SharedClock,
}

impl Signing {
    async fn sign(&self) {
        if let Err(error) = audit::sign_heads(&self.store, &self.signer, &self.node, self.clock.now()).await {
            tracing::warn!(%error, "the chains of the audit trail are signed later");
        }
    }
}

async fn sign(signing: Arc<Signing>, every: Duration, mut stop: watch::Receiver<bool>) {
    while tokio::time::timeout(every, stop.wait_for(|stop| *stop)).await.is_err() {
        signing.sign().await;
    }
}

/// Every node does it; what another one is about is left to it.
async fn expire(signing: Arc<Signing>, retention: RetentionConfig, mut stop: watch::Receiver<bool>) {
    while tokio::time::timeout(PRUNE_INTERVAL, stop.wait_for(|stop| *stop)).await.is_err() {
        let Signing { store, signer, clock, .. } = &*signing;
        match audit::expire_all(store, signer, &retention, clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "removed requests that are older than they are kept"),
            Err(error) => tracing::warn!(%error, "old requests are removed later"),
        }
    }
}

async fn follow_changes(store: Store, mut stop: watch::Receiver<bool>) {
    store.follow_changes(stop.clone()).await;
    // On SQLite there is nothing to follow.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn flush_last_used(keys: Arc<KeyCache>, mut stop: watch::Receiver<bool>) {
    loop {
        let stopped = tokio::time::timeout(LAST_USED_INTERVAL, stop.wait_for(|stop| *stop)).await.is_ok();
        if let Err(error) = keys.flush_last_used().await {
            tracing::debug!(%error, "last-used times of keys are kept for the next time");
        }
        if stopped {
            return;
        }
    }
}

/// Adds this node's requests to the counters, and learns of the others'. What cannot be written is kept.
async fn write_usage(store: Store, usage: Arc<MonthlyUsage>, mut stop: watch::Receiver<bool>) {
    loop {
        let stopped = tokio::time::timeout(USAGE_INTERVAL, stop.wait_for(|stop| *stop)).await.is_ok();
        for unwritten in usage.unwritten() {
            match store.add_requests(unwritten.org, unwritten.month, unwritten.requests).await {
                Ok(total) => usage.wrote(unwritten, total),
                Err(error) => {
                    tracing::debug!(%error, "counters of requests are written later");
                    break;
                }
            }
        }
        if stopped {
            return;
        }
    }
}

/// What cannot be written is kept.
async fn write_rollouts(policies: Arc<PolicyCache>, mut stop: watch::Receiver<bool>) {
    loop {
        let stopped = tokio::time::timeout(ROLLOUT_INTERVAL, stop.wait_for(|stop| *stop)).await.is_ok();
        if let Err(error) = policies.flush_rollouts().await {
            tracing::debug!(%error, "counts of rollouts are written later");
        }
        if stopped {
            return;
        }
    }
}

/// Every node does it; what another one was faster with is not there any more.
async fn prune(store: Store, refresh_ttl: Duration, mut stop: watch::Receiver<bool>) {
    while tokio::time::timeout(PRUNE_INTERVAL, stop.wait_for(|stop| *stop)).await.is_err() {
        match store.prune_expired(refresh_ttl).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "removed what has expired"),
            Err(error) => tracing::debug!(%error, "what has expired is removed later"),
        }
        match store.purge_deleted().await {
            Ok(0) => {}
            Ok(organizations) => tracing::info!(organizations, "removed what can no longer be restored"),
            Err(error) => tracing::warn!(%error, "deleted organizations are removed later"),
        }
    }
}

/// Tasks that end together.
struct Tasks {
    stop: watch::Sender<bool>,
    running: JoinSet<&'static str>,
}

impl Tasks {
    fn new() -> Self {
        Self { stop: watch::Sender::new(false), running: JoinSet::new() }
    }

    fn spawn<F>(&mut self, name: &'static str, task: impl FnOnce(watch::Receiver<bool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = task(self.stop.subscribe());
        self.running.spawn(async move {
            task.await;
            name
        });
    }

    /// Never, when there are no tasks.
    async fn first_to_end(&mut self) -> &'static str {
        match self.running.join_next().await {
            Some(Ok(name)) => name,
            // Its panic has been printed.
            Some(Err(_)) => "a background task",
            None => std::future::pending().await,
        }
    }

    /// Waits for all to end; those that do not within `within` are ended.
    async fn stop(mut self, within: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!(tasks = self.running.len(), "tasks did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_end_when_they_are_told_and_the_first_to_end_by_itself_is_named() {
        let mut tasks = Tasks::new();
        let (ended, mut seen) = watch::channel(false);
        tasks.spawn("patient", |mut stop| async move {
            let _ = stop.wait_for(|stop| *stop).await;
            ended.send_replace(true);
        });
        tasks.spawn("brief", |_| async {});
        assert_eq!(tasks.first_to_end().await, "brief");
        tasks.stop(Duration::from_secs(60)).await;
        assert!(*seen.borrow_and_update());
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_ended() {
        let mut tasks = Tasks::new();
        tasks.spawn("stubborn", |_| std::future::pending());
        tasks.stop(Duration::from_millis(1)).await;
    }

    #[test]
    fn each_face_is_shown_unless_another_was_asked_for() {
        let only = |only| Options { only, ..Options::default() };
        assert!(only(None).shows(Only::Gateway) && only(None).shows(Only::Admin));
        assert!(only(Some(Only::Admin)).shows(Only::Admin) && !only(Some(Only::Admin)).shows(Only::Gateway));
        assert!(!only(Some(Only::Worker)).shows(Only::Gateway) && !only(Some(Only::Worker)).shows(Only::Admin));
    }

    #[test]
    fn an_address_in_use_is_named_with_its_setting() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = listen(&Options::default(), Only::Admin, "admin.listen", &address, None).unwrap_err();
        assert!(error.to_string().starts_with("admin.listen: cannot listen on 127.0.0.1:"), "{error}");
    }
}
