//! What PostgreSQL itself refuses, were the program's own scoping wrong.

use sentinel::domain::OrgId;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{World, new_policy};

/// Every table with rows of tenants, and the column that names the tenant.
pub(super) const TENANT_TABLES: &str = "
    SELECT c.relname::text, a.attname::text, c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace
        AND c.relkind IN ('r', 'p')
        AND NOT a.attisdropped
        AND (a.attname = 'org_id' OR (c.relname = 'organizations' AND a.attname = 'id'))
    ORDER BY 1";

/// A connection as the program's: the runtime login in the runtime role.
pub(super) async fn runtime(world: &World) -> PgConnection {
    let mut connection = PgConnection::connect(&world.database.config().url).await.unwrap();
    run(&mut connection, "SET ROLE sentinel_runtime").await.unwrap();
    connection
}

pub(super) async fn run(connection: &mut PgConnection, text: &str) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(AssertSqlSafe(text.to_owned())).execute(connection).await?.rows_affected())
}

async fn enter(connection: &mut PgConnection, org: OrgId) {
    run(connection, &format!("SET app.current_org_id = '{org}'")).await.unwrap();
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let text = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query_scalar(text).fetch_one(connection).await.unwrap()
}

/// The code and message of what the server refused.
fn refusal<T: std::fmt::Debug>(result: Result<T, sqlx::Error>) -> String {
    let error = result.expect_err("row-level security or a missing grant refuses it");
    error.as_database_error().expect("the server refuses it").message().to_owned()
}

/// Two organizations with a row in each of the tables that the program writes.
async fn world() -> World {
    let world = World::on_postgres().await;
    for scope in [world.acme.scope, world.other.scope] {
        let mut tx = world.store.write(scope).await.unwrap();
        tx.policies().insert(new_policy("mine")).await.unwrap();
        tx.commit().await.unwrap();
    }
    world
}

mod postgres {
    use super::*;

    #[tokio::test]
    async fn every_table_of_tenants_is_under_forced_row_security() {
        let world = world().await;
        let mut admin = world.database.admin().await;
        let tables: Vec<(String, String, bool, bool)> =
            sqlx::query_as(TENANT_TABLES).fetch_all(&mut admin).await.unwrap();
        assert_eq!(tables.len(), 37);
        for (table, column, enabled, forced) in tables {
            assert!(enabled && forced, "{table}");
            let text = "SELECT COALESCE(qual, ''), COALESCE(with_check, '') FROM pg_policies
                WHERE tablename = $1 AND policyname = $1 || '_tenant' AND cmd = 'ALL' AND permissive = 'PERMISSIVE'";
            let (using, check): (String, String) =
                sqlx::query_as(text).bind(&table).fetch_one(&mut admin).await.expect(&table);
            assert!(
                using.starts_with(&format!("({column} = ")) && using.contains("app.current_org_id"),
                "{table}: {using}"
            );
            assert_eq!(using, check, "{table}");
        }
    }

    #[tokio::test]
    async fn what_is_open_without_an_organization_is_a_short_list() {
        let world = world().await;
        let text = "SELECT tablename || ' ' || cmd FROM pg_policies WHERE policyname NOT LIKE '%\\_tenant' ORDER BY 1";
        let open: Vec<String> = sqlx::query_scalar(text).fetch_all(&mut world.database.admin().await).await.unwrap();
        assert_eq!(
            open,
            [
                "admin_events INSERT",
                "api_keys SELECT",
                "audit_chains INSERT",
                "audit_chains SELECT",
                "audit_chains UPDATE",
                "audit_checkpoints INSERT",
                "audit_checkpoints SELECT",
                "audit_logs INSERT",
                "audit_logs SELECT",
                "audit_logs UPDATE",
                "audit_reviews INSERT",
                "audit_settings SELECT",
                "audit_terms INSERT",
                "event_tickets DELETE",
                "event_tickets SELECT",
                "invitations SELECT",
                "organizations SELECT",
                "password_resets DELETE",
                "password_resets SELECT",
                "refresh_tokens DELETE",
                "refresh_tokens SELECT",
                "scim_tokens SELECT",
                "sessions DELETE",
                "sessions SELECT",
                "usage_counters SELECT",
                "users SELECT",
                "workspaces SELECT",
            ]
        );
    }

    #[tokio::test]
    async fn the_runtime_role_has_no_way_around_it() {
        let world = world().await;
        let mut admin = world.database.admin().await;
        let (bypass, superuser, login): (bool, bool, bool) = sqlx::query_as(
            "SELECT rolbypassrls, rolsuper, rolcanlogin FROM pg_roles WHERE rolname = 'sentinel_runtime'",
        )
        .fetch_one(&mut admin)
        .await
        .unwrap();
        assert!(!bypass && !superuser && !login);
        let owned: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM pg_class WHERE pg_get_userbyid(relowner) = 'sentinel_runtime'")
                .fetch_one(&mut admin)
                .await
                .unwrap();
        assert_eq!(owned, 0);
        let mut runtime = runtime(&world).await;
        assert!(refusal(run(&mut runtime, "ALTER TABLE users DISABLE ROW LEVEL SECURITY").await).contains("owner"));
        assert!(refusal(run(&mut runtime, "DROP POLICY users_tenant ON users").await).contains("owner"));
        assert!(refusal(run(&mut runtime, "SET ROLE sentinel_test_owner").await).contains("permission denied"));
        assert!(
            refusal(run(&mut runtime, "DELETE FROM sentinel_schema_migrations").await).contains("permission denied")
        );
    }

    #[tokio::test]
    async fn without_an_organization_nothing_is_seen() {
        let world = world().await;
        let tables: Vec<(String, String, bool, bool)> =
            sqlx::query_as(TENANT_TABLES).fetch_all(&mut world.database.admin().await).await.unwrap();
        let mut runtime = runtime(&world).await;
        for (table, ..) in tables {
            assert_eq!(count(&mut runtime, &table).await, 0, "{table}");
        }
        // Nor after a transaction had one, which leaves the setting empty instead of unset.
        run(&mut runtime, "BEGIN").await.unwrap();
        run(&mut runtime, &format!("SET LOCAL app.current_org_id = '{}'", world.acme.org_id)).await.unwrap();
        assert_eq!(count(&mut runtime, "users").await, 1);
        run(&mut runtime, "COMMIT").await.unwrap();
        assert_eq!(count(&mut runtime, "users").await, 0);
    }

    #[tokio::test]
    async fn inside_an_organization_only_its_rows_are_seen_and_written() {
        let world = world().await;
        let mut runtime = runtime(&world).await;
        enter(&mut runtime, world.acme.org_id).await;
        for table in ["organizations", "users", "workspaces", "policies"] {
            assert_eq!(count(&mut runtime, table).await, 1, "{table}");
        }
        // A statement that forgot its organization.
        assert_eq!(run(&mut runtime, "UPDATE users SET full_name = 'x'").await.unwrap(), 1);
        let move_away = format!("UPDATE workspaces SET org_id = '{}'", world.other.org_id);
        assert!(refusal(run(&mut runtime, &move_away).await).contains("row-level security"));
        let plant = format!(
            "INSERT INTO policies (org_id, id, root_id, name, version, document, created_at)
            VALUES ('{0}', '{1}', '{1}', 'planted', 1, '{{}}', '2026-03-01T00:00:00Z')",
            world.other.org_id,
            sentinel::domain::PolicyId::new(),
        );
        assert!(refusal(run(&mut runtime, &plant).await).contains("row-level security"));
    }

    #[tokio::test]
    async fn a_row_cannot_refer_to_another_organizations() {
        let world = world().await;
        let mut runtime = runtime(&world).await;
        enter(&mut runtime, world.acme.org_id).await;
        let theirs = format!(
            "INSERT INTO sessions (org_id, id, user_id, expires_at, last_used_at, created_at)
            VALUES ('{}', '{}', '{}', '2026-03-01T00:00:00Z', '2026-03-01T00:00:00Z', '2026-03-01T00:00:00Z')",
            world.acme.org_id,
            sentinel::domain::SessionId::new(),
            world.other.user_id,
        );
        assert!(refusal(run(&mut runtime, &theirs).await).contains("foreign key"));
    }

    #[tokio::test]
    async fn the_audit_trail_is_only_added_to_and_completed() {
        let world = world().await;
        let mut runtime = runtime(&world).await;
        enter(&mut runtime, world.acme.org_id).await;
        for text in [
            "DELETE FROM audit_logs",
            "TRUNCATE audit_logs",
            "UPDATE audit_logs SET action = 'allow'",
            "UPDATE audit_logs SET findings = '[]'",
            "UPDATE audit_logs SET prev_hash = NULL",
            "DELETE FROM audit_chains",
            "UPDATE audit_checkpoints SET seq = 1",
            "DELETE FROM audit_checkpoints",
            "DELETE FROM admin_events",
            "UPDATE admin_events SET action = 'x'",
            "DELETE FROM users",
        ] {
            assert!(refusal(run(&mut runtime, text).await).contains("permission denied"), "{text}");
        }
        run(&mut runtime, "UPDATE audit_logs SET outcome = 'completed' WHERE completed_at IS NULL").await.unwrap();
    }

    #[tokio::test]
    async fn the_programs_own_statements_run_in_the_runtime_role() {
        let world = world().await;
        // The login itself may do nothing (it does not inherit), and yet the program reads and writes through it.
        let mut login = PgConnection::connect(&world.database.config().url).await.unwrap();
        assert!(refusal(run(&mut login, "SELECT 1 FROM users").await).contains("permission denied"));
        assert_eq!(world.read().await.users().count().await.unwrap(), 1);
        let mut admin = world.database.admin().await;
        run(&mut admin, "REVOKE SELECT ON users FROM sentinel_runtime").await.unwrap();
        assert!(world.read().await.users().count().await.is_err(), "what the role may not, the program may not");
    }
}
