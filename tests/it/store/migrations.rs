use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sentinel::domain::SystemClock;
use sentinel::store::{Store, StoreError, migrate};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};

use super::assert_refused;
use crate::support::database::TestDatabase;

const TABLES: [&str; 39] = [
    "admin_events",
    "api_keys",
    "audit_chains",
    "audit_checkpoints",
    "audit_feedback",
    "audit_logs",
    "audit_removals",
    "audit_review_comments",
    "audit_reviews",
    "audit_settings",
    "audit_terms",
    "data_set_parts",
    "data_sets",
    "event_tickets",
    "idempotency_keys",
    "invitations",
    "jobs",
    "login_lockouts",
    "organizations",
    "password_resets",
    "policies",
    "policy_difference_samples",
    "policy_differences",
    "policy_rollout_counts",
    "policy_rollouts",
    "provider_credentials",
    "recovery_codes",
    "refresh_tokens",
    "reports",
    "saved_filters",
    "scim_tokens",
    "sentinel_schema_migrations",
    "sessions",
    "sso_connections",
    "subscriptions",
    "usage_counters",
    "users",
    "workspace_members",
    "workspaces",
];

fn tables() -> BTreeSet<String> {
    TABLES.into_iter().map(str::to_owned).collect()
}

async fn sqlite(database: &TestDatabase) -> SqliteConnection {
    SqliteConnection::connect(&database.config().url).await.unwrap()
}

/// Every object of a SQLite file with the text that made it.
async fn sqlite_schema(database: &TestDatabase) -> Vec<String> {
    let text = "SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_master ORDER BY 1";
    sqlx::query_scalar(text).fetch_all(&mut sqlite(database).await).await.unwrap()
}

/// Columns, constraints, indexes, policies, security and grants of a PostgreSQL database.
async fn postgres_schema(admin: &mut PgConnection) -> Vec<String> {
    let text = "
        SELECT format('column %s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default)
            FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL
        SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL
        SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL
        SELECT format('policy %s %s %s %s %s', tablename, policyname, cmd, qual, with_check) FROM pg_policies
        UNION ALL
        SELECT format('table %s %s %s %s', relname, relrowsecurity, relforcerowsecurity, relacl::text)
            FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        UNION ALL
        SELECT format('grant %s %s %s', attrelid::regclass, attname, attacl::text)
            FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid::regclass::text = 'audit_logs'
        ORDER BY 1";
    sqlx::query_scalar(text).fetch_all(admin).await.unwrap()
}

mod on_sqlite {
    use super::*;

    #[tokio::test]
    async fn up_down_and_up_again_leaves_the_same_schema() {
        let database = TestDatabase::empty_sqlite();
        let config = database.config();
        assert!(migrate::status(&config).await.unwrap().iter().all(|migration| migration.applied_at.is_none()));
        let applied = migrate::up(&config).await.unwrap();
        let first = sqlite_schema(&database).await;
        assert_eq!(migrate::up(&config).await.unwrap(), [], "nothing is left to apply");
        let reverted = migrate::down(&config, 99).await.unwrap();
        assert_eq!(reverted.len(), applied.len());
        let left = sqlite_schema(&database).await;
        assert!(left.iter().all(|line| line.contains("sentinel_schema_migrations")), "{left:?}");
        assert_eq!(migrate::up(&config).await.unwrap().len(), applied.len());
        assert_eq!(sqlite_schema(&database).await, first);
    }

    #[tokio::test]
    async fn one_step_down_reverts_the_last_one() {
        let database = TestDatabase::sqlite().await;
        let config = database.config();
        let all = migrate::status(&config).await.unwrap();
        assert!(all.iter().all(|migration| migration.applied_at.is_some()));
        let reverted = migrate::down(&config, 1).await.unwrap();
        let last = all.last().unwrap();
        assert_eq!((reverted.len(), reverted[0].number), (1, last.number));
        let status = migrate::status(&config).await.unwrap();
        assert_eq!(status.iter().filter(|migration| migration.applied_at.is_none()).count(), 1);
        let store = database.store(Arc::new(SystemClock)).await;
        let fault = format!("migration {:04}_{} is not applied", last.number, last.name);
        assert_eq!(store.production_faults().await.unwrap(), [fault]);
    }

    #[tokio::test]
    async fn a_migration_that_changed_since_is_refused() {
        let database = TestDatabase::sqlite().await;
        let change = "UPDATE sentinel_schema_migrations SET checksum = 'x' WHERE number = 2";
        sqlx::raw_sql(change).execute(&mut sqlite(&database).await).await.unwrap();
        match migrate::up(&database.config()).await {
            Err(StoreError::Database(text)) => assert!(text.contains("0002_sessions has changed"), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn runs_at_once_wait_for_each_other() {
        let database = TestDatabase::empty_sqlite();
        let config = database.config();
        let (first, second, third) = tokio::join!(migrate::up(&config), migrate::up(&config), migrate::up(&config));
        let applied = first.unwrap().len() + second.unwrap().len() + third.unwrap().len();
        assert_eq!(applied, migrate::status(&config).await.unwrap().len(), "each once");
    }

    #[tokio::test]
    async fn all_tables_are_strict() {
        let database = TestDatabase::sqlite().await;
        let text = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%STRICT' AND sql NOT LIKE '%STRICT, WITHOUT ROWID'";
        let loose: Vec<String> = sqlx::query_scalar(text).fetch_all(&mut sqlite(&database).await).await.unwrap();
        assert_eq!(loose, Vec::<String>::new());
    }
}

mod on_postgres {
    use super::*;

    #[tokio::test]
    async fn up_down_and_up_again_leaves_the_same_schema() {
        let database = TestDatabase::empty_postgres().await;
        let (config, mut admin) = (database.config(), database.admin().await);
        assert!(migrate::status(&config).await.unwrap().iter().all(|migration| migration.applied_at.is_none()));
        let applied = migrate::up(&config).await.unwrap();
        let first = postgres_schema(&mut admin).await;
        assert!(first.len() > 300, "{}", first.len());
        assert_eq!(migrate::up(&config).await.unwrap(), []);
        assert_eq!(migrate::down(&config, 99).await.unwrap().len(), applied.len());
        let left = postgres_schema(&mut admin).await;
        assert!(left.iter().all(|line| line.contains("sentinel_schema_migrations")), "{left:?}");
        assert_eq!(migrate::up(&config).await.unwrap().len(), applied.len());
        assert_eq!(postgres_schema(&mut admin).await, first);
    }

    #[tokio::test]
    async fn a_migration_that_changed_since_or_is_unknown_is_refused() {
        let database = TestDatabase::postgres().await;
        let mut admin = database.admin().await;
        let change = "UPDATE sentinel_schema_migrations SET checksum = 'x' WHERE number = 2";
        sqlx::raw_sql(change).execute(&mut admin).await.unwrap();
        match migrate::up(&database.config()).await {
            Err(StoreError::Database(text)) => assert!(text.contains("0002_sessions has changed"), "{text}"),
            other => panic!("{other:?}"),
        }
        sqlx::raw_sql("UPDATE sentinel_schema_migrations SET number = 99 WHERE number = 2")
            .execute(&mut admin)
            .await
            .unwrap();
        assert_refused!(migrate::up(&database.config()).await, StoreError::Database(_));
        assert_refused!(migrate::down(&database.config(), 1).await, StoreError::Database(_));
    }

    #[tokio::test]
    async fn runs_at_once_wait_for_each_other() {
        let database = TestDatabase::empty_postgres().await;
        let config = database.config();
        let (first, second, third) = tokio::join!(migrate::up(&config), migrate::up(&config), migrate::up(&config));
        let applied = first.unwrap().len() + second.unwrap().len() + third.unwrap().len();
        assert_eq!(applied, migrate::status(&config).await.unwrap().len(), "each once");
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_nothing_of_itself() {
        let database = TestDatabase::empty_postgres().await;
        // In the way of the third migration's last table.
        let obstacle = "CREATE TABLE admin_events (id BIGINT)";
        sqlx::raw_sql(obstacle).execute(&mut database.admin().await).await.unwrap();
        match migrate::up(&database.config()).await {
            Err(StoreError::Database(text)) => assert!(text.starts_with("migration 0003_audit: "), "{text}"),
            other => panic!("{other:?}"),
        }
        let mut admin = database.admin().await;
        let audit: Option<String> =
            sqlx::query_scalar("SELECT to_regclass('audit_logs')::text").fetch_one(&mut admin).await.unwrap();
        assert_eq!(audit, None);
        let applied = migrate::status(&database.config()).await.unwrap();
        let applied: Vec<u32> = applied.iter().filter(|m| m.applied_at.is_some()).map(|m| m.number).collect();
        assert_eq!(applied, [1, 2]);
    }

    #[tokio::test]
    async fn both_engines_have_the_same_tables_and_columns() {
        let (postgres, file) = (TestDatabase::postgres().await, TestDatabase::sqlite().await);
        let mut columns: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let rows = sqlx::query(
            "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public'",
        )
        .fetch_all(&mut postgres.admin().await)
        .await
        .unwrap();
        for row in rows {
            columns.entry(row.get(0)).or_default().insert(row.get(1));
        }
        assert_eq!(columns.keys().cloned().collect::<BTreeSet<_>>(), tables());
        let mut connection = sqlite(&file).await;
        for (table, expected) in columns {
            let text = AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
            let names: Vec<String> = sqlx::query_scalar(text).fetch_all(&mut connection).await.unwrap();
            assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected, "{table}");
        }
    }

    /// One URL is enough to begin: a login that owns the database and may create roles.
    #[tokio::test]
    async fn one_login_can_migrate_and_run() {
        let database = TestDatabase::empty_postgres().await;
        let mut config = database.config();
        config.url = config.migrate_url.take().unwrap();
        migrate::up(&config).await.unwrap();
        let store = Store::connect(&config, Arc::new(SystemClock)).await.unwrap();
        store.register(super::super::organization("Acme", "a@acme.com")).await.unwrap();
    }
}
