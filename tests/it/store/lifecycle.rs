use sentinel::domain::{Month, SavedFilterId, SessionId};
use sentinel::store::{
    AuditRow, KeyHash, LoginMethod, NewAdminEvent, NewSavedFilter, NewSession, NewWorkspace, RESTORABLE,
    RefreshOutcome, StoreError, TenantScope,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::{DAY, START, World, assert_refused, new_policy, on_both_engines, organization, page};

const TOKEN: [u8; 32] = [7; 32];

fn event(world: &World, action: &str) -> NewAdminEvent {
    NewAdminEvent::by_operator(action, "organization", world.acme.org_id.uuid())
}

async fn delete(world: &World) {
    let mut tx = world.write().await;
    assert!(tx.organization().delete(Some(TOKEN)).await.unwrap().is_some());
    tx.commit().await.unwrap();
}

async fn sign_in(world: &World, seed: u8) -> SessionId {
    let session = NewSession {
        id: SessionId::new(),
        method: LoginMethod::Password,
        user_id: world.acme.user_id,
        refresh_hash: [seed; 32],
        expires_at: START.plus(90 * DAY),
        user_agent: None,
        ip: None,
    };
    world.store.open_session(world.acme.scope, session, super::login_event()).await.unwrap().id
}

on_both_engines! {
    async fn a_deleted_organization_is_refused_everywhere(world: World) {
        world.key(1).await;
        let session = sign_in(&world, 1).await;
        world.told();
        delete(&world).await;
        assert_eq!(world.told(), [world.organization_changed()], "caches forget its keys");
        let mut tx = world.write().await;
        assert!(tx.organization().delete(None).await.unwrap().is_none(), "once");
        drop(tx);
        assert!(!world.store.resolve_api_key(&KeyHash([1; 32])).await.unwrap().unwrap().org_active);
        assert!(world.store.resolve_session(session, world.acme.user_id).await.unwrap().is_none());
        assert!(world.store.find_login("founder@acme.com").await.unwrap().is_none());
        assert!(world.store.resolve_person(world.acme.user_id).await.unwrap().is_none());
        assert_eq!(world.store.sign_on_scope("acme-corp").await.unwrap(), None);
        assert_eq!(world.store.operator_scope("Acme Corp").await.unwrap(), None);
        let refreshed = world.store.rotate_session([1; 32], [2; 32], START.plus(DAY)).await.unwrap();
        assert!(matches!(refreshed, RefreshOutcome::Refused), "{refreshed:?}");
        assert!(world.store.find_login("founder@other.com").await.unwrap().is_some(), "the other is untouched");
        // Its addresses stay taken: it may come back.
        assert_refused!(world.store.register(organization("New", "founder@acme.com")).await, StoreError::Conflict("email"));
    }

    async fn a_deletion_is_taken_back_once_and_within_its_time(world: World) {
        world.key(1).await;
        let session = sign_in(&world, 1).await;
        assert_refused!(
            world.store.restore_organization(world.acme.scope, event(&world, "organization.restore")).await,
            StoreError::Missing("organization")
        );
        delete(&world).await;
        assert_eq!(world.store.resolve_restore_token(&[8; 32]).await.unwrap(), None);
        assert_eq!(world.store.resolve_restore_token(&TOKEN).await.unwrap(), Some(world.acme.scope));
        world.clock.advance(RESTORABLE - DAY);
        // Somebody else has its address meanwhile.
        let twin = world.store.register(organization("Acme Corp", "twin@acme.com")).await.unwrap();
        world.told();
        let event_of = event(&world, "organization.restore");
        let restored = world.store.restore_organization(world.acme.scope, event_of).await.unwrap();
        assert!(restored.slug.starts_with("acme-corp-") && restored.deleted_at.is_none(), "{restored:?}");
        assert_eq!(world.told(), [world.organization_changed()]);
        assert_eq!(world.store.operator_scope("acme-corp").await.unwrap(), Some(twin.scope));
        assert!(world.store.resolve_api_key(&KeyHash([1; 32])).await.unwrap().unwrap().org_active);
        assert!(world.store.find_login("founder@acme.com").await.unwrap().is_some());
        assert!(world.store.resolve_session(session, world.acme.user_id).await.unwrap().is_none(), "sessions stay ended");
        assert_eq!(world.store.resolve_restore_token(&TOKEN).await.unwrap(), None, "used");

        delete(&world).await;
        world.clock.advance(RESTORABLE);
        assert_eq!(world.store.resolve_restore_token(&TOKEN).await.unwrap(), None, "too late");
        assert_refused!(
            world.store.restore_organization(world.acme.scope, event(&world, "organization.restore")).await,
            StoreError::Missing("organization")
        );
    }

    async fn what_cannot_be_restored_is_removed_whole_and_nothing_else(world: World) {
        for scope in [world.acme.scope, world.other.scope] {
            furnish(&world, scope).await;
        }
        let (before, others) = (count(&world, true).await, count(&world, false).await);
        assert!(before > 12 && others > 12, "{before} {others}");
        assert!(!world.store.purge_organization(world.acme.org_id, world.clock_now().plus(DAY), event(&world, "x")).await.unwrap());
        assert_eq!(world.store.purge_deleted().await.unwrap(), 0);
        delete(&world).await;
        world.clock.advance(RESTORABLE - DAY);
        assert_eq!(world.store.purge_deleted().await.unwrap(), 0, "it can be restored");
        assert_eq!(count(&world, true).await, before);
        world.clock.advance(DAY + DAY);
        assert_eq!(world.store.purge_deleted().await.unwrap(), 1);
        assert_eq!(count(&world, true).await, 0, "nothing of it is left");
        assert_eq!(count(&world, false).await, others, "nothing of the other is gone");
        assert_eq!(world.store.purge_deleted().await.unwrap(), 0);
        assert_eq!(world.store.add_requests(world.acme.org_id, Month::from_number(202_604), 1).await.unwrap(), None);
        let removed = events_without_organization(&world).await;
        assert_eq!(removed, [("organization.purge".to_owned(), "system".to_owned())]);
        // Its addresses are free.
        world.store.register(organization("Acme Corp", "founder@acme.com")).await.unwrap();
    }

    async fn operators_see_deleted_organizations_too(world: World) {
        delete(&world).await;
        let all = world.store.operator_organizations(None, &page(1, None)).await.unwrap();
        assert_eq!(all.data.iter().map(|(scope, _)| *scope).collect::<Vec<_>>(), [world.other.scope]);
        let rest = world.store.operator_organizations(None, &page(1, all.next_cursor)).await.unwrap();
        assert_eq!((rest.data[0].0, rest.data[0].1.deleted_at), (world.acme.scope, Some(START)));
        assert_eq!(rest.next_cursor, None);
        for name in ["Acme Corp", "acme-corp", &world.acme.org_id.to_string()] {
            let found = world.store.operator_organizations(Some(name), &page(9, None)).await.unwrap().data;
            assert_eq!(found.len(), 1, "{name}");
        }
        assert_eq!(world.read().await.organization().owners().await.unwrap(), ["founder@acme.com"]);
    }
}

/// A row in many tables, those that refer to others among them.
async fn furnish(world: &World, scope: TenantScope) {
    let mut tx = world.store.write(scope).await.unwrap();
    let policy = tx.policies().insert(new_policy("mine")).await.unwrap();
    let workspace = super::new_workspace("bots");
    let workspace = NewWorkspace { policy_id: Some(policy.root_id), ..workspace };
    let workspace = tx.workspaces().insert(workspace).await.unwrap();
    let seed = if scope == world.acme.scope { 1 } else { 2 };
    tx.api_keys().insert(super::new_key(workspace.id, seed)).await.unwrap();
    let user = tx.users().insert(super::new_user(&format!("jane{seed}@people.example"), "owner")).await.unwrap();
    tx.users().set_recovery_codes(user.id, &["a".to_owned(), "b".to_owned()]).await.unwrap();
    tx.users().add_password_reset(user.id, &[seed; 32], START.plus(DAY)).await.unwrap();
    tx.identity().set_scim_token([seed; 32], user.id).await.unwrap();
    let filter = NewSavedFilter {
        id: SavedFilterId::new(),
        user_id: user.id,
        resource: "users".into(),
        name: "mine".into(),
        filter: json!({}),
        is_shared: false,
    };
    tx.saved_filters().insert(filter).await.unwrap();
    tx.commit().await.unwrap();
    world.store.add_requests(scope.org_id(), Month::from_number(202_603), 3).await.unwrap();
    let session = NewSession {
        id: SessionId::new(),
        method: LoginMethod::Password,
        user_id: user.id,
        refresh_hash: [seed + 10; 32],
        expires_at: START.plus(90 * DAY),
        user_agent: None,
        ip: None,
    };
    world.store.open_session(scope, session, super::login_event()).await.unwrap();
    // More than one part of a removal.
    let rows: Vec<AuditRow> = (0..5001).map(|_| super::audit_logs::bare(Some(scope.org_id()), START)).collect();
    for rows in rows.chunks(1000) {
        world.store.ship_audit(rows).await.unwrap();
    }
}

const TABLES: &str = "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'org_id'
    WHERE m.type = 'table'";

/// Rows of acme, or of the other organization, in all tables.
async fn count(world: &World, acme: bool) -> i64 {
    let org = if acme { world.acme.org_id } else { world.other.org_id };
    let url = world.database.config().url;
    let mut rows = 0;
    if url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut connection).await.unwrap();
        let columns = tables.iter().map(|table| (table.as_str(), "org_id")).chain([("organizations", "id")]);
        for (table, column) in columns {
            let id = org.uuid().simple();
            let text = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table} WHERE {column} = X'{id}'"));
            rows += sqlx::query_scalar::<_, i64>(text).fetch_one(&mut connection).await.unwrap();
        }
    } else {
        let mut connection = world.database.admin().await;
        let tables = sqlx::query(super::row_security::TENANT_TABLES).fetch_all(&mut connection).await.unwrap();
        for table in tables {
            let (table, column): (String, String) = (table.get(0), table.get(1));
            let text = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table} WHERE {column} = '{org}'"));
            rows += sqlx::query_scalar::<_, i64>(text).fetch_one(&mut connection).await.unwrap();
        }
    }
    rows
}

async fn events_without_organization(world: &World) -> Vec<(String, String)> {
    const EVENTS: &str = "SELECT action, actor_type FROM admin_events WHERE org_id IS NULL";
    let url = world.database.config().url;
    if url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query_as(EVENTS).fetch_all(&mut connection).await.unwrap()
    } else {
        sqlx::query_as(EVENTS).fetch_all(&mut world.database.admin().await).await.unwrap()
    }
}

mod postgres_alone {
    use super::super::row_security::{run, runtime};
    use super::*;

    /// The function that removes an organization is the one thing that the runtime role can do to trails.
    #[tokio::test]
    async fn the_function_that_removes_spares_what_is_not_deleted() {
        let world = World::on_postgres().await;
        let before = count(&world, true).await;
        let mut connection = runtime(&world).await;
        let purge = format!("SELECT sentinel_purge_organization('{}', now() + interval '1 year')", world.acme.org_id);
        let done: i64 = sqlx::query_scalar(AssertSqlSafe(purge)).fetch_one(&mut connection).await.unwrap();
        assert_eq!((done, count(&world, true).await), (0, before));
        assert!(run(&mut connection, "DELETE FROM audit_logs").await.is_err());
        assert!(run(&mut connection, "DELETE FROM organizations").await.is_err());
    }
}
