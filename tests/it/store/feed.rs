use std::sync::Arc;

use sentinel::config::DatabaseConfig;
use sentinel::domain::SystemClock;
use sentinel::store::{Change, OrganizationPatch, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{World, on_both_engines};

/// Another node on the same database, which follows the changes of the first.
struct Node {
    heard: mpsc::UnboundedReceiver<Change>,
    stop: watch::Sender<bool>,
    following: JoinHandle<()>,
}

impl Node {
    async fn join(world: &World) -> Self {
        let store = world.database.store(Arc::new(SystemClock)).await;
        Self::following(store)
    }

    fn following(store: Store) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        store.on_change(move |change| drop(tell.send(change.clone())));
        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(async move { store.follow_changes(stopped).await });
        Self { heard, stop, following }
    }

    async fn next(&mut self) -> Change {
        self.heard.recv().await.expect("the node listens")
    }
}

async fn change(world: &World, name: &str) {
    let mut tx = world.write().await;
    let patch = OrganizationPatch { name: Some(name.to_owned()), ..Default::default() };
    tx.organization().update(patch, None).await.unwrap();
    tx.commit().await.unwrap();
}

on_both_engines! {
    async fn every_listener_is_told_before_commit_returns(world: World) {
        let (tell, mut heard) = mpsc::unbounded_channel();
        world.store.on_change(move |change| drop(tell.send(change.clone())));
        change(&world, "Acme").await;
        assert_eq!(heard.try_recv().unwrap(), world.organization_changed());
        assert_eq!(world.told(), [world.organization_changed()]);
    }

    async fn a_commit_whose_caller_left_is_told_all_the_same(world: World) {
        let (tell, mut heard) = mpsc::unbounded_channel();
        world.store.on_change(move |change| drop(tell.send(change.clone())));
        let mut tx = world.write().await;
        let patch = OrganizationPatch { name: Some("Acme".to_owned()), ..Default::default() };
        tx.organization().update(patch, None).await.unwrap();
        let mut commit = Box::pin(tx.commit());
        // Polled once, then dropped: what a client that disconnects does to its handler.
        assert!(futures_util::poll!(commit.as_mut()).is_pending());
        drop(commit);
        assert_eq!(heard.recv().await, Some(world.organization_changed()));
        assert_eq!(world.read().await.organization().get().await.unwrap().name, "Acme");
    }
}

mod on_sqlite {
    use super::*;

    /// The command line beside a running server.
    #[tokio::test]
    async fn another_process_on_the_file_hears_changes_in_order_and_not_its_own() {
        let world = World::on_sqlite().await;
        change(&world, "before anybody listened").await;
        let mut node = Node::join(&world).await;
        assert_eq!(node.next().await, Change::Everything);
        change(&world, "one").await;
        assert_eq!(node.next().await, world.organization_changed());
        node.stop.send(true).unwrap();
        node.following.await.unwrap();
        assert!(node.heard.try_recv().is_err(), "one notice for one change");
    }

    #[tokio::test]
    async fn a_database_in_memory_has_nobody_to_follow() {
        let config = DatabaseConfig { url: "sqlite::memory:".to_owned(), ..DatabaseConfig::default() };
        let store = Store::connect(&config, Arc::new(SystemClock)).await.unwrap();
        let (_stop, stopped) = watch::channel(false);
        store.follow_changes(stopped).await;
    }
}

mod on_postgres {
    use super::*;

    /// Takes the database away, cutting every connection, or gives it back.
    async fn allow_connections(world: &World, allow: bool) {
        let name = world.database.name();
        let mut cluster = world.database.cluster().await;
        let alter = sqlx::AssertSqlSafe(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allow}"));
        sqlx::raw_sql(alter).execute(&mut cluster).await.unwrap();
        if !allow {
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
            sqlx::query(cut).bind(name).execute(&mut cluster).await.unwrap();
        }
    }

    #[tokio::test]
    async fn another_node_hears_what_was_committed_and_nothing_else() {
        let world = World::on_postgres().await;
        let mut node = Node::join(&world).await;
        assert_eq!(node.next().await, Change::Everything, "something may have happened before it listened");

        let mut tx = world.write().await;
        tx.workspaces().remove(world.acme.workspace_id).await.unwrap();
        drop(tx);
        let key = world.key(3).await;
        match node.next().await {
            Change::ApiKey { org, hash } => assert_eq!((org, hash.0), (key.org_id, [3; 32])),
            other => panic!("{other:?}"),
        }

        node.stop.send(true).unwrap();
        node.following.await.unwrap();
        assert_eq!(node.heard.recv().await, None, "and it hears no more");
    }

    #[tokio::test]
    async fn a_node_does_not_hear_itself_twice() {
        let world = World::on_postgres().await;
        let mut node = Node::following(world.store.clone());
        assert_eq!(node.next().await, Change::Everything);
        change(&world, "Acme").await;
        assert_eq!(node.next().await, world.organization_changed());
        // Another node's change is what comes next, with nothing in between.
        let other = world.database.store(Arc::new(SystemClock)).await;
        let mut tx = other.write(world.other.scope).await.unwrap();
        tx.organization().update(OrganizationPatch::default(), None).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(node.next().await, Change::Organization { org: world.other.org_id });
    }

    #[tokio::test]
    async fn a_lost_connection_is_made_again_and_said() {
        let world = World::on_postgres().await;
        let mut node = Node::join(&world).await;
        assert_eq!(node.next().await, Change::Everything);
        allow_connections(&world, false).await;
        assert!(world.store.ping().await.is_err(), "it is away");
        allow_connections(&world, true).await;
        assert_eq!(node.next().await, Change::Everything, "what happened meanwhile is unknown");
        change(&world, "Acme").await;
        assert_eq!(node.next().await, world.organization_changed());
    }

    #[tokio::test]
    async fn a_node_can_be_stopped_while_the_database_is_away() {
        let world = World::on_postgres().await;
        let mut node = Node::join(&world).await;
        assert_eq!(node.next().await, Change::Everything);
        allow_connections(&world, false).await;
        node.stop.send(true).unwrap();
        node.following.await.unwrap();
    }
}
