//! A database for one test, on either engine, gone when the test is over.

use sentinel::config::DatabaseConfig;
use sentinel::domain::{ApiKeyId, SharedClock};
use sentinel::store::{Store, migrate};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// The login that owns the tables, and the one that requests run under, as in production.
const OWNER: &str = "sentinel_test_owner";
const RUNTIME: &str = "sentinel_test_app";

pub struct TestDatabase {
    config: DatabaseConfig,
    /// The PostgreSQL database to drop.
    name: Option<String>,
    /// The folder of the SQLite file, which removes itself.
    _folder: Option<TempDir>,
}

impl TestDatabase {
    /// A migrated SQLite file.
    pub async fn sqlite() -> Self {
        let database = Self::empty_sqlite();
        migrate::up(&database.config).await.expect("the migrations apply to an empty file");
        database
    }

    /// A migrated PostgreSQL database, with one login for migrations and one for requests.
    pub async fn postgres() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(make_template).await;
        create_from(template).await
    }

    /// A SQLite file that is not there yet.
    pub fn empty_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = small(format!("sqlite://{}", folder.path().join("below/sentinel.db").display()));
        Self { config, name: None, _folder: Some(folder) }
    }

    /// A PostgreSQL database without tables.
    pub async fn empty_postgres() -> Self {
        make_logins().await;
        create_from("template0").await
    }

    pub fn config(&self) -> DatabaseConfig {
        self.config.clone()
    }

    pub async fn store(&self, clock: SharedClock) -> Store {
        Store::connect(&self.config, clock).await.expect("the test's database can be reached")
    }

    /// A superuser's connection to this database, past row-level security.
    pub async fn admin(&self) -> PgConnection {
        connect(&url("", self.name())).await
    }

    /// A superuser's connection to the cluster, but not to this database.
    pub async fn cluster(&self) -> PgConnection {
        connect(&admin_url()).await
    }

    /// The name of a PostgreSQL database.
    pub fn name(&self) -> &str {
        self.name.as_deref().expect("a SQLite database is a file, without name and logins")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some(name) = &self.name else { return };
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        // A test's runtime cannot wait inside `drop`, a thread with its own can.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { execute(&mut connect(&admin_url()).await, drop).await });
        });
        assert!(dropped.join().is_ok() || std::thread::panicking(), "the test's database was not dropped");
    }
}

fn small(url: String) -> DatabaseConfig {
    DatabaseConfig { url, max_connections: 4, ..DatabaseConfig::default() }
}

fn admin_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting, not the program's")]
    let url = std::env::var("SENTINEL_TEST_POSTGRES");
    url.expect(
        "SENTINEL_TEST_POSTGRES is not set: it is the superuser's URL of a throwaway PostgreSQL cluster; \
         `make test` sets it, or: export SENTINEL_TEST_POSTGRES=$(tests/postgres.sh start $(mktemp -d))",
    )
}

/// The cluster's URL with another login (unless empty) and database.
fn url(login: &str, database: &str) -> String {
    let admin = admin_url();
    let (scheme, rest) = admin.split_once("://").expect("a URL");
    let (user, rest) = rest.split_once('@').expect("SENTINEL_TEST_POSTGRES names its login");
    let (host, path) = rest.split_once('/').expect("SENTINEL_TEST_POSTGRES names a database");
    let parameters = path.find('?').map_or("", |at| &path[at..]);
    let user = if login.is_empty() { user } else { login };
    format!("{scheme}://{user}@{host}/{database}{parameters}")
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the cluster of SENTINEL_TEST_POSTGRES can be reached")
}

async fn execute(connection: &mut PgConnection, text: String) {
    connection.execute(AssertSqlSafe(text.clone())).await.unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// Logins belong to the cluster, which several test processes may share: they make them one after the other.
async fn make_logins() {
    static MADE: OnceCell<()> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        let mut admin = connect(&admin_url()).await;
        execute(&mut admin, "SELECT pg_advisory_lock(1)".to_owned()).await;
        // NOINHERIT: what the program can do, it can do because it became the runtime role.
        for (login, powers) in [(OWNER, "CREATEROLE"), (RUNTIME, "NOINHERIT")] {
            let make = format!(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{login}') THEN
                    CREATE ROLE {login} LOGIN {powers};
                END IF; END $$"
            );
            execute(&mut admin, make).await;
        }
        admin.close().await.expect("the lock is given back");
    })
    .await;
}

async fn make_template() -> String {
    let template = TestDatabase::empty_postgres().await;
    migrate::up(&template.config).await.expect("the migrations apply to an empty database");
    let name = template.name().to_owned();
    // Not dropped: it goes with the cluster.
    std::mem::forget(template);
    name
}

async fn create_from(template: &str) -> TestDatabase {
    let name = format!("sentinel_test_{}", ApiKeyId::new().uuid().simple());
    let mut admin = connect(&admin_url()).await;
    execute(&mut admin, format!("CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")).await;
    let config = DatabaseConfig { migrate_url: Some(url(OWNER, &name)), ..small(url(RUNTIME, &name)) };
    TestDatabase { config, name: Some(name), _folder: None }
}
