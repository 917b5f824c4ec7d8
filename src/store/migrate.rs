//! `sentinel migrate`: numbered, reversible migrations, the same numbers and names on both engines.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use super::engine::{Owner, Target};
use super::statement::Statement;
use crate::config::DatabaseConfig;
use crate::domain::{Clock as _, SystemClock, Timestamp};

/// One migration and when it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    pub number: u32,
    pub name: String,
    pub applied_at: Option<Timestamp>,
}

struct Migration {
    number: u32,
    /// `0001_tenancy`: the beginning of its files' names.
    stem: &'static str,
    postgres: Script,
    sqlite: Script,
}

#[derive(Clone, Copy)]
struct Script {
    up: &'static str,
    down: &'static str,
}

macro_rules! migrations {
    ($($number:literal $stem:literal),+ $(,)?) => {
        &[$(Migration {
            number: $number,
            stem: $stem,
            postgres: migrations!(@script "postgres" $stem),
            sqlite: migrations!(@script "sqlite" $stem),
        }),+]
    };
    (@script $engine:literal $stem:literal) => {
        Script { up: migrations!(@file $engine $stem ".up.sql"), down: migrations!(@file $engine $stem ".down.sql") }
    };
    (@file $engine:literal $stem:literal $end:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $engine, "/", $stem, $end))
    };
}

/// Oldest first. A released migration is never edited: its text is part of what `up` checks.
const MIGRATIONS: &[Migration] = migrations![
    1 "0001_tenancy",
    2 "0002_sessions",
    3 "0003_audit",
    4 "0004_operations",
    5 "0005_accounts",
    6 "0006_identity",
    7 "0007_saved_filters",
    8 "0008_provider_credentials",
    9 "0009_usage",
    10 "0010_invitations",
    11 "0011_workspace_members",
    12 "0012_event_tickets",
    13 "0013_organizations",
    14 "0014_answers",
    15 "0015_audit_chain",
    16 "0016_data_sets",
    17 "0017_audit_search",
    18 "0018_policy_versions",
    19 "0019_policy_rollouts",
];

impl Migration {
    fn name(&self) -> &'static str {
        self.stem.split_once('_').map_or(self.stem, |(_, name)| name)
    }

    fn status(&self, applied_at: Option<Timestamp>) -> MigrationStatus {
        MigrationStatus { number: self.number, name: self.name().to_owned(), applied_at }
    }
}

/// Hexadecimal SHA-256 of the script.
fn checksum(script: Script) -> String {
    Sha256::digest(script.up.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Applies what is missing, in order, each in a transaction; returns what was applied. Two runs at once wait for each other.
///
/// # Errors
/// When an applied migration has changed since, or is unknown to this version; when a statement fails, naming the migration.
pub async fn up(config: &DatabaseConfig) -> Result<Vec<MigrationStatus>, StoreError> {
    let Some(mut owner) = Owner::connect(config, true).await? else { return Ok(Vec::new()) };
    lock(&mut owner).await?;
    prepare(&mut owner).await?;
    refuse_unknown(&recorded(&mut owner).await?)?;
    let mut done = Vec::new();
    for migration in MIGRATIONS {
        if let Some(applied) = apply(&mut owner, migration).await? {
            done.push(applied);
        }
    }
    // By `database.url`, not `migrate_url`: the login that requests run under.
    if let Target::Postgres(runtime) = Target::of(&config.url)? {
        owner
            .statement("SELECT set_config('app.sentinel_login', $1, false)")
            .bind(runtime.get_username())
            .execute()
            .await?;
        owner.script(JOIN_RUNTIME).await?;
    }
    owner.close().await?;
    Ok(done)
}

/// Reverts the last `steps`; returns them, the last one first.
///
/// # Errors
/// As [`up`].
pub async fn down(config: &DatabaseConfig, steps: u32) -> Result<Vec<MigrationStatus>, StoreError> {
    let Some(mut owner) = Owner::connect(config, false).await? else { return Ok(Vec::new()) };
    lock(&mut owner).await?;
    refuse_unknown(&recorded(&mut owner).await?)?;
    let mut done = Vec::new();
    for migration in MIGRATIONS.iter().rev() {
        if done.len() >= usize::try_from(steps).unwrap_or(usize::MAX) {
            break;
        }
        if revert(&mut owner, migration).await? {
            done.push(migration.status(None));
        }
    }
    owner.close().await?;
    Ok(done)
}

/// All known migrations, oldest first.
///
/// # Errors
/// When the database cannot be reached or read.
pub async fn status(config: &DatabaseConfig) -> Result<Vec<MigrationStatus>, StoreError> {
    let applied = match Owner::connect(config, false).await? {
        Some(mut owner) => {
            if let Owner::Postgres(_) = owner {
                owner.script(READ_AS_RUNTIME).await?;
            }
            let applied = recorded(&mut owner).await?;
            owner.close().await?;
            applied
        }
        None => Vec::new(),
    };
    Ok(MIGRATIONS
        .iter()
        .map(|migration| {
            let row = applied.iter().find(|row| row.number == i64::from(migration.number));
            migration.status(row.map(|row| row.applied_at))
        })
        .collect())
}

/// Writes the four empty files of a new migration below `root/migrations` and returns their paths. The list in
/// `src/store/migrate.rs` gets its line by hand; a test compares the two.
///
/// # Errors
/// When the name is not `[a-z0-9_]+`, or a file cannot be written.
pub fn new(root: &Path, name: &str) -> std::io::Result<Vec<PathBuf>> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Error::new(ErrorKind::InvalidInput, "a migration's name is of a-z, 0-9 and _"));
    }
    let folder = root.join("migrations");
    let number = 1 + stems(&folder.join("sqlite"))?.iter().filter_map(|stem| number(stem)).max().unwrap_or(0);
    let mut paths = Vec::new();
    for engine in ["postgres", "sqlite"] {
        std::fs::create_dir_all(folder.join(engine))?;
        for end in ["up", "down"] {
            let path = folder.join(engine).join(format!("{number:04}_{name}.{end}.sql"));
            std::fs::File::create_new(&path)?;
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The names of the migrations in a folder, without repeats. A folder that is not there has none.
fn stems(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut stems = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if let Some((stem, _)) = name.to_string_lossy().split_once('.') {
            stems.push(stem.to_owned());
        }
    }
    stems.sort_unstable();
    stems.dedup();
    Ok(stems)
}

fn number(stem: &str) -> Option<u32> {
    stem.split_once('_')?.0.parse().ok()
}

/// A line of the table of applied migrations.
#[derive(sqlx::FromRow)]
pub(super) struct Applied {
    number: i64,
    checksum: String,
    applied_at: Timestamp,
}

/// Reads the table, through any role.
pub(super) const RECORDED: &str = "SELECT number, checksum, applied_at FROM sentinel_schema_migrations ORDER BY number";

/// What is wrong between the applied migrations and the known ones: nothing, on a database that is up to date.
pub(super) fn faults(applied: &[Applied], postgres: bool) -> Vec<String> {
    let mut faults = Vec::new();
    for migration in MIGRATIONS {
        let script = if postgres { migration.postgres } else { migration.sqlite };
        match applied.iter().find(|row| row.number == i64::from(migration.number)) {
            None => faults.push(format!("migration {} is not applied", migration.stem)),
            Some(row) if row.checksum != checksum(script) => {
                faults.push(format!("migration {} has changed since it was applied", migration.stem));
            }
            Some(_) => {}
        }
    }
    if let Err(error) = refuse_unknown(applied) {
        faults.push(error.to_string());
    }
    faults
}

fn refuse_unknown(applied: &[Applied]) -> Result<(), StoreError> {
    let unknown = |row: &&Applied| !MIGRATIONS.iter().any(|migration| i64::from(migration.number) == row.number);
    match applied.iter().find(unknown) {
        Some(row) => {
            Err(StoreError::Database(format!("migration {:04} is applied and unknown to this version", row.number)))
        }
        None => Ok(()),
    }
}

/// Without `migrate_url` the login is the one that requests run under, which may do nothing of itself.
const READ_AS_RUNTIME: &str = "
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sentinel_runtime')
        AND pg_has_role(session_user, 'sentinel_runtime', 'MEMBER') THEN
        SET ROLE sentinel_runtime;
    END IF;
END $$";

async fn recorded(owner: &mut Owner) -> Result<Vec<Applied>, StoreError> {
    let there: Option<(i64,)> = owner
        .statement(owner.either(
            "SELECT 1::BIGINT WHERE to_regclass('sentinel_schema_migrations') IS NOT NULL",
            "SELECT 1 FROM sqlite_master WHERE name = 'sentinel_schema_migrations'",
        ))
        .optional()
        .await?;
    Ok(if there.is_some() { owner.statement(RECORDED).all().await? } else { Vec::new() })
}

/// PostgreSQL: until the connection ends. SQLite: see [`begin`].
async fn lock(owner: &mut Owner) -> Result<(), StoreError> {
    if let Owner::Postgres(_) = owner {
        // The number only has to be the same in every version: "sentinel" in ASCII.
        owner.statement("SELECT pg_advisory_lock($1)").bind(0x7365_6e74_696e_656c_i64).execute().await?;
    }
    Ok(())
}

async fn begin(owner: &mut Owner) -> Result<(), StoreError> {
    owner.script(owner.either("BEGIN", "BEGIN IMMEDIATE")).await
}

async fn prepare(owner: &mut Owner) -> Result<(), StoreError> {
    owner.script(owner.either(PREPARE_POSTGRES, PREPARE_SQLITE)).await
}

const PREPARE_SQLITE: &str = "
CREATE TABLE IF NOT EXISTS sentinel_schema_migrations (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;
";

/// Roles belong to the whole cluster: another database's run may make this one at the same moment.
const PREPARE_POSTGRES: &str = "
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sentinel_runtime') THEN
        BEGIN
            CREATE ROLE sentinel_runtime NOLOGIN NOINHERIT;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT has_schema_privilege('sentinel_runtime', current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO sentinel_runtime', current_schema());
    END IF;
    IF to_regclass('sentinel_schema_migrations') IS NULL THEN
        CREATE TABLE sentinel_schema_migrations (
            number BIGINT NOT NULL PRIMARY KEY,
            name TEXT NOT NULL,
            checksum TEXT NOT NULL,
            applied_at TIMESTAMPTZ NOT NULL
        );
        GRANT SELECT ON sentinel_schema_migrations TO sentinel_runtime;
    END IF;
END $$;
";

/// Makes the login `app.sentinel_login` a member of the runtime role, unless it can already become it. Since PostgreSQL 16
/// whoever creates a role is its member without the right to become it, which only `SET` tells.
const JOIN_RUNTIME: &str = "
DO $$
DECLARE
    login TEXT := current_setting('app.sentinel_login');
    enough TEXT := CASE WHEN current_setting('server_version_num')::INT >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF NOT pg_has_role(login, 'sentinel_runtime', enough) THEN
        EXECUTE format('GRANT sentinel_runtime TO %I', login);
    END IF;
END $$;
";

async fn apply(owner: &mut Owner, migration: &Migration) -> Result<Option<MigrationStatus>, StoreError> {
    let script = owner.either(migration.postgres, migration.sqlite);
    begin(owner).await?;
    // Read again inside the transaction: on SQLite it is what makes a second run wait.
    let applied: Option<(String,)> = owner.statement(FIND).bind(i64::from(migration.number)).optional().await?;
    let done = match applied {
        Some((sum,)) if sum != checksum(script) => {
            let stem = migration.stem;
            return Err(StoreError::Database(format!("migration {stem} has changed since it was applied")));
        }
        Some(_) => None,
        None => {
            owner.script(script.up).await.map_err(|error| naming(migration, error))?;
            let now = SystemClock.now();
            insert(owner.statement(INSERT), migration, script, now).await?;
            Some(migration.status(Some(now)))
        }
    };
    owner.script("COMMIT").await?;
    Ok(done)
}

async fn revert(owner: &mut Owner, migration: &Migration) -> Result<bool, StoreError> {
    if recorded(owner).await?.is_empty() {
        return Ok(false);
    }
    let script = owner.either(migration.postgres, migration.sqlite);
    begin(owner).await?;
    let gone = owner
        .statement("DELETE FROM sentinel_schema_migrations WHERE number = $1")
        .bind(i64::from(migration.number))
        .execute()
        .await?;
    if gone == 1 {
        owner.script(script.down).await.map_err(|error| naming(migration, error))?;
    }
    owner.script("COMMIT").await?;
    Ok(gone == 1)
}

const FIND: &str = "SELECT checksum FROM sentinel_schema_migrations WHERE number = $1";
const INSERT: &str = "
    INSERT INTO sentinel_schema_migrations (number, name, checksum, applied_at)
    VALUES ($1, $2, $3, $4)";

async fn insert(to: Statement<'_>, migration: &Migration, script: Script, now: Timestamp) -> Result<(), StoreError> {
    let number = i64::from(migration.number);
    to.bind(number).bind(migration.name()).bind(checksum(script)).bind(now).execute().await?;
    Ok(())
}

fn naming(migration: &Migration, error: StoreError) -> StoreError {
    match error {
        StoreError::Database(cause) => StoreError::Database(format!("migration {}: {cause}", migration.stem)),
        other => other,
    }
}

/// Applies everything to an empty database in memory.
pub(super) async fn fill(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(PREPARE_SQLITE).execute(&mut *connection).await?;
    for migration in MIGRATIONS {
        sqlx::raw_sql(migration.sqlite.up).execute(&mut *connection).await?;
        let statement = Statement::on_sqlite(&mut *connection, INSERT);
        insert(statement, migration, migration.sqlite, SystemClock.now()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn the_embedded_list_is_the_folders() {
        let listed: Vec<&str> = MIGRATIONS.iter().map(|migration| migration.stem).collect();
        for engine in ["postgres", "sqlite"] {
            let folder = root().join("migrations").join(engine);
            assert_eq!(stems(&folder).unwrap(), listed, "{engine}");
            let files = std::fs::read_dir(&folder).unwrap().count();
            assert_eq!(files, 2 * listed.len(), "an up and a down for each, nothing else ({engine})");
        }
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(number(migration.stem), Some(migration.number));
            assert_eq!(usize::try_from(migration.number).unwrap(), at + 1, "no gap");
        }
    }

    #[test]
    fn a_new_migration_has_four_files_and_the_next_number() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(new(root.path(), "first").unwrap().len(), 4);
        let second = new(root.path(), "add_quota").unwrap();
        let names: Vec<_> =
            second.iter().map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "migrations/postgres/0002_add_quota.up.sql",
                "migrations/postgres/0002_add_quota.down.sql",
                "migrations/sqlite/0002_add_quota.up.sql",
                "migrations/sqlite/0002_add_quota.down.sql",
            ]
        );
        for bad in ["", "../x", "Add", "a b"] {
            assert!(new(root.path(), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_applied_migration_that_changed_or_is_unknown_is_a_fault() {
        let row = |number, checksum: String| Applied { number, checksum, applied_at: SystemClock.now() };
        let mut applied: Vec<Applied> =
            MIGRATIONS.iter().map(|m| row(i64::from(m.number), checksum(m.sqlite))).collect();
        assert!(faults(&applied, false).is_empty());
        let others = MIGRATIONS.iter().filter(|m| checksum(m.sqlite) != checksum(m.postgres)).count();
        assert!(others > 5 && faults(&applied, true).len() == others, "the other engine's text is another");
        applied[0].checksum.clear();
        applied[1].number = 99;
        assert_eq!(
            faults(&applied, false),
            [
                "migration 0001_tenancy has changed since it was applied",
                "migration 0002_sessions is not applied",
                "database: migration 0099 is applied and unknown to this version",
            ]
        );
    }
}
