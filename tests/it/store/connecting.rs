use std::sync::Arc;

use sentinel::config::DatabaseConfig;
use sentinel::domain::SystemClock;
use sentinel::store::{Store, StoreError, migrate};

use super::{assert_refused, on_both_engines, organization};
use crate::support::database::TestDatabase;

async fn connect(url: &str) -> Result<String, StoreError> {
    let config = DatabaseConfig { url: url.to_owned(), ..DatabaseConfig::default() };
    Store::connect(&config, Arc::new(SystemClock)).await.map(|store| store.engine_name().to_owned())
}

on_both_engines! {
    async fn a_database_that_is_there_answers(world: World) {
        world.store.ping().await.unwrap();
        let name = world.store.engine_name();
        assert_eq!(world.database.config().url.starts_with("sqlite"), name == "sqlite");
        assert_eq!(world.database.config().url.starts_with("postgres"), name == "postgresql");
        assert_eq!(world.store.production_faults().await.unwrap(), Vec::<String>::new());
    }

    async fn a_closed_store_is_unavailable(world: World) {
        world.store.close().await;
        assert_refused!(world.store.ping().await, StoreError::Unavailable(_));
        assert_refused!(world.store.write(world.acme.scope).await.map(|_| ()), StoreError::Unavailable(_));
    }

    async fn a_transaction_that_only_reads_cannot_write(world: World) {
        let mut tx = world.read().await;
        assert_refused!(tx.workspaces().remove(world.acme.workspace_id).await, StoreError::Database(_));
    }
}

#[tokio::test]
async fn what_is_not_an_address_is_refused_without_quoting_it() {
    for url in ["", "mysql://root:hunter2@db/x", "postgres://app:hunter2@[bad/x", "/var/lib/sentinel.db"] {
        match connect(url).await {
            Err(StoreError::Database(text)) => {
                assert!(text.contains("database.url") && !text.contains("hunter2"), "{url}: {text}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().replace('/', "%2F");
    assert_refused!(connect(&format!("postgresql://app@localhost/x?host={path}")).await, StoreError::Unavailable(_));
    assert_refused!(connect(&format!("postgres://app@{path}/x")).await, StoreError::Unavailable(_));
    // A folder is no SQLite file.
    assert_refused!(connect(&format!("sqlite://{}", folder.path().display())).await, StoreError::Unavailable(_));
}

mod on_sqlite {
    use super::*;

    #[tokio::test]
    async fn a_database_in_memory_is_ready_at_once() {
        let config = DatabaseConfig { url: "sqlite::memory:".to_owned(), ..DatabaseConfig::default() };
        let store = Store::connect(&config, Arc::new(SystemClock)).await.unwrap();
        let registered = store.register(organization("Acme", "a@acme.com")).await.unwrap();
        let mut tx = store.read(registered.scope).await.unwrap();
        assert_eq!(tx.organization().get().await.unwrap().name, "Acme");
        tx.commit().await.unwrap();
        assert_eq!(store.production_faults().await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_database_without_tables_is_not_fit_for_production() {
        let database = TestDatabase::empty_sqlite();
        let store = database.store(Arc::new(SystemClock)).await;
        assert_eq!(store.production_faults().await.unwrap(), ["no migration is applied"]);
    }

    #[tokio::test]
    async fn two_stores_on_one_file_write_one_after_the_other() {
        let database = TestDatabase::sqlite().await;
        let (first, second) =
            (database.store(Arc::new(SystemClock)).await, database.store(Arc::new(SystemClock)).await);
        let register = async |store: &Store, name: &str| {
            for n in 0..10 {
                store.register(organization(name, &format!("{name}{n}@acme.com"))).await.unwrap();
            }
        };
        tokio::join!(register(&first, "first"), register(&second, "second"));
        assert!(first.find_login("second9@acme.com").await.unwrap().is_some());
    }
}

mod on_postgres {
    use super::*;

    #[tokio::test]
    async fn a_login_that_cannot_become_the_runtime_role_is_told_to_migrate() {
        let database = TestDatabase::postgres().await;
        let mut admin = database.admin().await;
        let stranger = format!("stranger_{}", database.name());
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE ROLE {stranger} LOGIN"))).execute(&mut admin).await.unwrap();
        let url = database.config().url.replace("sentinel_test_app", &stranger);
        match connect(&url).await {
            Err(StoreError::Database(text)) => assert!(text.contains("sentinel migrate up"), "{text}"),
            other => panic!("{other:?}"),
        }
        // `up` makes the login of `database.url` a member.
        let config = DatabaseConfig { url: url.clone(), ..database.config() };
        migrate::up(&config).await.unwrap();
        assert_eq!(connect(&url).await.unwrap(), "postgresql");
    }

    #[tokio::test]
    async fn the_owner_is_not_fit_for_production() {
        let database = TestDatabase::postgres().await;
        let url = database.config().migrate_url.unwrap();
        let config = DatabaseConfig { url, migrate_url: None, ..database.config() };
        migrate::up(&config).await.unwrap();
        let store = Store::connect(&config, Arc::new(SystemClock)).await.unwrap();
        assert_eq!(
            store.production_faults().await.unwrap(),
            ["the login sentinel_test_owner may create roles", "the login sentinel_test_owner owns tables"]
        );
        let mut admin = database.admin().await;
        sqlx::raw_sql("ALTER TABLE users NO FORCE ROW LEVEL SECURITY").execute(&mut admin).await.unwrap();
        let faults = store.production_faults().await.unwrap();
        assert!(faults.contains(&"row-level security is not forced on the table users".to_owned()), "{faults:?}");
    }

    #[tokio::test]
    async fn connections_that_were_cut_are_replaced() {
        let database = TestDatabase::postgres().await;
        let store = database.store(Arc::new(SystemClock)).await;
        store.ping().await.unwrap();
        let mut admin = database.admin().await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'sentinel'";
        sqlx::raw_sql(cut).execute(&mut admin).await.unwrap();
        store.ping().await.expect("a dead connection is noticed before it is used");
    }
}
