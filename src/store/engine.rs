//! Where the two engines differ: connecting, beginning a transaction, entering an organization, notifying. No pool is
//! reachable from outside this file, and the words PostgreSQL and SQLite decide nothing elsewhere in the repositories.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Postgres, Sqlite, Transaction};

use super::statement::Statement;
use super::{Change, Purged, StoreError, TenantScope};
use crate::config::DatabaseConfig;
use crate::domain::{ApiKeyId, OrgId, SharedClock, Timestamp};

/// The channel of PostgreSQL's `NOTIFY`.
pub(super) const CHANNEL: &str = "sentinel_changes";
/// Every runtime connection becomes this role, which owns nothing and is under row-level security.
const BECOME_RUNTIME: &str = "SET ROLE sentinel_runtime";
/// A server that acknowledges commits before they are in its log would lose audit rows whose journal is already gone. The
/// stricter levels of a replicated server stay as they are.
const COMMIT_FOR_GOOD: &str =
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
/// How long SQLite waits for another process's write.
const BUSY: Duration = Duration::from_secs(5);
/// The same for a migration, which may follow a long one.
const MIGRATION_BUSY: Duration = Duration::from_secs(60);
/// Where a SQLite file keeps what was told; see [`Tx::notify`].
pub(super) const NOTICES: &str = "SELECT id, payload FROM change_notices WHERE id > $1 ORDER BY id";
const FORGET_NOTICES: &str = "DELETE FROM change_notices WHERE id <= (SELECT max(id) FROM change_notices) - 1000";
const PART_OF_AUDIT_LOGS: &str =
    "DELETE FROM audit_logs WHERE id IN (SELECT id FROM audit_logs WHERE org_id = $1 LIMIT 5000)";
const PART_OF_ADMIN_EVENTS: &str =
    "DELETE FROM admin_events WHERE id IN (SELECT id FROM admin_events WHERE org_id = $1 LIMIT 5000)";
const BUSY_RETRY: Duration = Duration::from_millis(10);

pub(super) type Listener = Arc<dyn Fn(&Change) + Send + Sync>;

/// Where `database.url` points.
#[derive(Clone)]
pub(super) enum Target {
    Postgres(Box<PgConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
    /// Lives as long as one connection, and is reachable through no other.
    Memory,
}

impl Target {
    pub(super) fn of(url: &str) -> Result<Self, StoreError> {
        // sqlx's own messages may quote the address, and with it a password.
        let unreadable = |kind| move |_| StoreError::Database(format!("database.url is not an address of {kind}"));
        if url.is_empty() {
            Err(StoreError::Database("database.url is empty".to_owned()))
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(unreadable("a PostgreSQL server"))?;
            Ok(Self::Postgres(Box::new(options.application_name("sentinel").disable_statement_logging())))
        } else if url.starts_with("sqlite:") {
            if url.contains(":memory:") || url.contains("mode=memory") {
                return Ok(Self::Memory);
            }
            let options = SqliteConnectOptions::from_str(url).map_err(unreadable("a SQLite file"))?;
            let options = tuned(options).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
            Ok(Self::Sqlite(Box::new(options)))
        } else {
            Err(StoreError::Database("database.url starts with neither sqlite: nor postgres://".to_owned()))
        }
    }
}

fn tuned(options: SqliteConnectOptions) -> SqliteConnectOptions {
    // NORMAL with WAL: a power cut may lose the last commits, never the file. What must not be lost of the traffic is
    // in the audit journal until it is shipped.
    options.synchronous(SqliteSynchronous::Normal).foreign_keys(true).busy_timeout(BUSY).disable_statement_logging()
}

fn make_parent(path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(parent)
        .map_err(|cause| StoreError::Unavailable(format!("cannot make the folder of the database: {cause}")))
}

enum Pools {
    Postgres {
        pool: PgPool,
        options: Box<PgConnectOptions>,
    },
    /// One writer: SQLite has one anyway, and a queue in front of it is better than `database is locked`.
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
        /// Other processes may write to it, too.
        file: bool,
    },
}

pub(super) struct Inner {
    pools: Pools,
    pub(super) clock: SharedClock,
    listeners: RwLock<Vec<Listener>>,
    /// Tells this process's notifications from others'.
    node: String,
}

/// What a transaction may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
}

impl Inner {
    pub(super) async fn connect(config: &DatabaseConfig, clock: SharedClock) -> Result<Self, StoreError> {
        let pools = match Target::of(&config.url)? {
            Target::Postgres(options) => postgres_pool(config, options).await?,
            Target::Sqlite(options) => sqlite_pools(config, *options).await?,
            Target::Memory => memory_pool(config).await?,
        };
        // Only its being different from every other process's matters.
        let node = ApiKeyId::new().to_string();
        Ok(Self { pools, clock, listeners: RwLock::default(), node })
    }

    pub(super) const fn engine_name(&self) -> &'static str {
        match self.pools {
            Pools::Postgres { .. } => "postgresql",
            Pools::Sqlite { .. } => "sqlite",
        }
    }

    pub(super) fn connections(&self) -> (i64, i64) {
        let of = |size: u32, idle: usize| (i64::from(size), i64::try_from(idle).unwrap_or(0));
        match &self.pools {
            Pools::Postgres { pool, .. } => of(pool.size(), pool.num_idle()),
            Pools::Sqlite { read, write, .. } => of(read.size() + write.size(), read.num_idle() + write.num_idle()),
        }
    }

    /// Begins a transaction inside an organization.
    pub(super) async fn begin(&self, scope: TenantScope, mode: Mode) -> Result<Tx, StoreError> {
        match &self.pools {
            Pools::Postgres { pool, .. } => {
                let access = if mode == Mode::Read { "READ ONLY" } else { "READ WRITE" };
                // One round trip. The only text that is not a literal: an id is written in hexadecimal digits and hyphens.
                let text = format!("BEGIN {access}; SET LOCAL app.current_org_id = '{}'", scope.org_id());
                Ok(Tx::Postgres(pool.begin_with(AssertSqlSafe(text)).await?))
            }
            Pools::Sqlite { .. } => self.begin_sqlite(mode).await,
        }
    }

    /// Begins a transaction outside any organization; for the few functions that a test lists.
    pub(super) async fn begin_unscoped(&self, mode: Mode) -> Result<Tx, StoreError> {
        match &self.pools {
            Pools::Postgres { pool, .. } => {
                let text = match mode {
                    Mode::Read => "BEGIN READ ONLY; SET LOCAL app.sentinel_unscoped = 'on'",
                    Mode::Write => "BEGIN READ WRITE; SET LOCAL app.sentinel_unscoped = 'on'",
                };
                Ok(Tx::Postgres(pool.begin_with(text).await?))
            }
            Pools::Sqlite { .. } => self.begin_sqlite(mode).await,
        }
    }

    /// Begins a transaction that sees no tenant's rows: the catalogue, `SELECT 1`.
    pub(super) async fn begin_bare(&self) -> Result<Tx, StoreError> {
        match &self.pools {
            Pools::Postgres { pool, .. } => Ok(Tx::Postgres(pool.begin_with("BEGIN READ ONLY").await?)),
            Pools::Sqlite { .. } => self.begin_sqlite(Mode::Read).await,
        }
    }

    async fn begin_sqlite(&self, mode: Mode) -> Result<Tx, StoreError> {
        let Pools::Sqlite { read, write, .. } = &self.pools else {
            return Err(StoreError::Database("not a SQLite database".to_owned()));
        };
        // IMMEDIATE: a transaction that reads first and writes later would be refused when another process wrote between.
        Ok(Tx::Sqlite(match mode {
            Mode::Read => read.begin_with("BEGIN").await?,
            Mode::Write => write.begin_with("BEGIN IMMEDIATE").await?,
        }))
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn listen(&self, listener: Listener) {
        self.listeners.write().push(listener);
    }

    pub(super) fn announce(&self, changes: &[Change]) {
        let listeners = self.listeners.read().clone();
        for change in changes {
            for listener in &listeners {
                listener(change);
            }
        }
    }

    /// Whether notices stand in [`NOTICES`] to be read: in a SQLite file, which has no channel to listen on.
    pub(super) const fn keeps_notices(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { file: true, .. })
    }

    /// A connection that listens on [`CHANNEL`]; None on SQLite.
    pub(super) async fn subscribe(&self) -> Result<Option<PgListener>, StoreError> {
        let Pools::Postgres { options, .. } = &self.pools else { return Ok(None) };
        // A pool of its own: listening for ever must not take a connection from the requests.
        let pool = runtime_pool(PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None));
        let pool = pool.acquire_timeout(Duration::from_secs(5)).connect_lazy_with((**options).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(listener))
    }

    pub(super) async fn close(&self) {
        match &self.pools {
            Pools::Postgres { pool, .. } => pool.close().await,
            Pools::Sqlite { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

fn runtime_pool(options: PgPoolOptions) -> PgPoolOptions {
    options.after_connect(|connection, _| {
        Box::pin(async move {
            connection.execute(BECOME_RUNTIME).await?;
            connection.execute(COMMIT_FOR_GOOD).await.map(|_| ())
        })
    })
}

async fn postgres_pool(config: &DatabaseConfig, options: Box<PgConnectOptions>) -> Result<Pools, StoreError> {
    // The pool would retry a refused `SET ROLE` until its timeout and then say only that it timed out.
    let mut probe = PgConnection::connect_with(&options).await?;
    probe.execute(BECOME_RUNTIME).await.map_err(|error| match error.as_database_error() {
        Some(refusal) => StoreError::Database(format!(
            "the login cannot become the role sentinel_runtime ({}): run `sentinel migrate up`",
            refusal.message()
        )),
        None => error.into(),
    })?;
    probe.close().await?;
    let pool = runtime_pool(PgPoolOptions::new())
        .max_connections(config.max_connections.max(1))
        .acquire_timeout(config.acquire_timeout.get())
        .connect_lazy_with((*options).clone());
    Ok(Pools::Postgres { pool, options })
}

async fn sqlite_pools(config: &DatabaseConfig, options: SqliteConnectOptions) -> Result<Pools, StoreError> {
    make_parent(options.get_filename())?;
    let pool = || SqlitePoolOptions::new().acquire_timeout(config.acquire_timeout.get());
    let write = pool().max_connections(1).connect_with(options.clone()).await?;
    let readers = options.pragma("query_only", "ON");
    let read = pool().max_connections(config.max_connections.max(1)).connect_lazy_with(readers);
    Ok(Pools::Sqlite { read, write, file: true })
}

/// One connection for everything, migrated at once: nobody else could do it.
async fn memory_pool(config: &DatabaseConfig) -> Result<Pools, StoreError> {
    let options = tuned(SqliteConnectOptions::new().in_memory(true));
    let pool = SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(config.acquire_timeout.get())
        .connect_with(options)
        .await?;
    let mut connection = pool.acquire().await?;
    super::migrate::fill(&mut connection).await?;
    drop(connection);
    Ok(Pools::Sqlite { read: pool.clone(), write: pool, file: false })
}

/// A transaction on either engine.
pub(super) enum Tx {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

impl Tx {
    pub(super) fn statement(&mut self, text: &'static str) -> Statement<'_> {
        match self {
            Self::Postgres(tx) => Statement::on_postgres(tx, text),
            Self::Sqlite(tx) => Statement::on_sqlite(tx, text),
        }
    }

    /// For what has no form that both engines understand.
    pub(super) const fn either<T: Copy>(&self, postgres: T, sqlite: T) -> T {
        match self {
            Self::Postgres(_) => postgres,
            Self::Sqlite(_) => sqlite,
        }
    }

    /// Goes on inside one organization; what the transaction could see outside it, it no longer can.
    pub(super) async fn enter(&mut self, scope: TenantScope) -> Result<(), StoreError> {
        if let Self::Postgres(_) = self {
            const ENTER: &str =
                "SELECT set_config('app.current_org_id', $1, true), set_config('app.sentinel_unscoped', '', true)";
            self.statement(ENTER).bind(scope.org_id().to_string()).execute().await?;
        }
        Ok(())
    }

    /// Lets one transaction at a time pass, of those about the same organization. For rules over several rows, such as
    /// "the last owner stays". SQLite's writers are one at a time anyway.
    pub(super) async fn serialize(&mut self, scope: TenantScope) -> Result<(), StoreError> {
        if let Self::Postgres(_) = self {
            let (high, low) = scope.org_id().uuid().as_u64_pair();
            let key = (high ^ low).cast_signed();
            self.statement("SELECT pg_advisory_xact_lock($1)").bind(key).execute().await?;
        }
        Ok(())
    }

    /// Tells the other nodes, when and if the transaction commits.
    pub(super) async fn notify(&mut self, payload: &str) -> Result<(), StoreError> {
        match self {
            Self::Postgres(_) => {
                self.statement("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute().await?;
            }
            Self::Sqlite(_) => {
                self.statement("INSERT INTO change_notices (payload) VALUES ($1)").bind(payload).execute().await?;
                self.statement(FORGET_NOTICES).execute().await?;
            }
        }
        Ok(())
    }

    /// Removes a part, or the last, of an organization that was deleted before `before`. The runtime role of PostgreSQL
    /// may not delete most of it: there the migration `0013_organizations` has a function that does.
    pub(super) async fn purge(&mut self, org: OrgId, before: Timestamp) -> Result<Purged, StoreError> {
        const PURGE: &str = "SELECT sentinel_purge_organization($1, $2)";
        let Self::Sqlite(tx) = self else {
            let (purged,): (i64,) = self.statement(PURGE).bind(org).bind(before).one().await?;
            return Ok(match purged {
                2 => Purged::All,
                1 => Purged::Part,
                _ => Purged::Nothing,
            });
        };
        let deleted = "SELECT id FROM organizations WHERE id = $1 AND deleted_at < $2";
        if sqlx::query(deleted).bind(org).bind(before).fetch_optional(&mut **tx).await?.is_none() {
            return Ok(Purged::Nothing);
        }
        for part in [PART_OF_AUDIT_LOGS, PART_OF_ADMIN_EVENTS] {
            if sqlx::query(part).bind(org).execute(&mut **tx).await?.rows_affected() > 0 {
                return Ok(Purged::Part);
            }
        }
        // Until the commit tables may be emptied in any order.
        sqlx::query("PRAGMA defer_foreign_keys = ON").execute(&mut **tx).await?;
        let tables = "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'org_id'
            WHERE m.type = 'table'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut **tx).await?;
        for table in tables {
            // A name that a migration gave.
            let text = AssertSqlSafe(format!("DELETE FROM {table} WHERE org_id = $1"));
            sqlx::query(text).bind(org).execute(&mut **tx).await?;
        }
        sqlx::query("DELETE FROM organizations WHERE id = $1").bind(org).execute(&mut **tx).await?;
        Ok(Purged::All)
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(tx) => tx.commit().await?,
            Self::Sqlite(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// A connection of the owner, for migrations: outside the pools and outside the runtime role.
pub(super) enum Owner {
    Postgres(Box<PgConnection>),
    Sqlite(SqliteConnection),
}

impl Owner {
    /// None when there is nothing to look at and `create` does not ask for it: a SQLite file that is not there, memory.
    pub(super) async fn connect(config: &DatabaseConfig, create: bool) -> Result<Option<Self>, StoreError> {
        match Target::of(config.migrate_url.as_ref().unwrap_or(&config.url))? {
            Target::Postgres(options) => {
                Ok(Some(Self::Postgres(Box::new(PgConnection::connect_with(&options).await?))))
            }
            Target::Sqlite(options) => {
                if create {
                    make_parent(options.get_filename())?;
                } else if !options.get_filename().exists() {
                    return Ok(None);
                }
                let options = options.busy_timeout(MIGRATION_BUSY);
                let begun = Instant::now();
                loop {
                    match SqliteConnection::connect_with(&options).await {
                        // The first connection to a new file turns on its write-ahead log, and whoever comes meanwhile
                        // is sent away at once: for that SQLite does not wait.
                        Err(sqlx::Error::Database(error))
                            if error.code().as_deref() == Some("5") && begun.elapsed() < MIGRATION_BUSY =>
                        {
                            tokio::time::sleep(BUSY_RETRY).await;
                        }
                        connected => return Ok(Some(Self::Sqlite(connected?))),
                    }
                }
            }
            Target::Memory => Ok(None),
        }
    }

    pub(super) fn statement(&mut self, text: &'static str) -> Statement<'_> {
        match self {
            Self::Postgres(connection) => Statement::on_postgres(connection, text),
            Self::Sqlite(connection) => Statement::on_sqlite(connection, text),
        }
    }

    pub(super) const fn either<T: Copy>(&self, postgres: T, sqlite: T) -> T {
        match self {
            Self::Postgres(_) => postgres,
            Self::Sqlite(_) => sqlite,
        }
    }

    /// Runs several statements in one text.
    pub(super) async fn script(&mut self, text: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Postgres(connection) => sqlx::raw_sql(text).execute(&mut **connection).await.map(|_| ())?,
            Self::Sqlite(connection) => sqlx::raw_sql(text).execute(connection).await.map(|_| ())?,
        }
        Ok(())
    }

    pub(super) async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(connection) => connection.close().await?,
            Self::Sqlite(connection) => connection.close().await?,
        }
        Ok(())
    }
}
