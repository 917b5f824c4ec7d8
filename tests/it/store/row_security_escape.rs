//! Row-level security as the only defence: raw statements of the runtime role, and every way to switch it off that a
//! statement has.

use sentinel::domain::OrgId;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::World;
use super::row_security::{TENANT_TABLES, run, runtime};

/// What does not become a row's value by its type alone.
const FILL: &str = "
    SELECT 'INSERT INTO ' || c.relname || ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ') VALUES ('
        || string_agg(CASE
            WHEN a.attname = $1 THEN quote_literal($2) || '::uuid'
            WHEN t.typname = 'uuid' THEN 'gen_random_uuid()'
            WHEN t.typname IN ('text', 'varchar') THEN 'gen_random_uuid()::text'
            WHEN t.typname = 'bytea' THEN 'decode(md5(random()::text), ''hex'')'
            WHEN t.typname IN ('timestamptz', 'date') THEN 'now()'
            WHEN t.typname = 'bool' THEN 'false'
            WHEN t.typname IN ('jsonb', 'json') THEN '''{}'''
            WHEN t.typname IN ('_text', '_uuid') THEN '''{}'''
            ELSE '1'
        END, ', ' ORDER BY a.attnum) || ')'
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.relname = $3 AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
        AND (a.attnotnull OR a.attname = $1) AND a.attidentity = '' AND a.attgenerated = ''
    GROUP BY c.relname";

/// Tables of tenants with the column that names the tenant.
async fn tables(admin: &mut PgConnection) -> Vec<(String, String)> {
    let rows: Vec<(String, String, bool, bool)> = sqlx::query_as(TENANT_TABLES).fetch_all(admin).await.unwrap();
    rows.into_iter().map(|(table, column, ..)| (table, column)).collect()
}

/// Two organizations with a row in every table. What a row must satisfy beyond its types is not the question here, so a
/// superuser takes the checks and references away first.
async fn filled() -> (World, Vec<(String, String)>) {
    let world = World::on_postgres().await;
    let mut admin = world.database.admin().await;
    let tables = tables(&mut admin).await;
    let checks = "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
        WHERE contype = 'c' AND conislocal AND connamespace = 'public'::regnamespace AND conrelid <> 0";
    let checks: Vec<String> = sqlx::query_scalar(checks).fetch_all(&mut admin).await.unwrap();
    for check in checks {
        run(&mut admin, &check).await.unwrap();
    }
    run(&mut admin, "SET session_replication_role = replica").await.unwrap();
    for org in [world.acme.org_id, world.other.org_id] {
        for (table, column) in &tables {
            if count(&mut admin, table, column, org, true).await > 0 {
                continue;
            }
            let insert: String = sqlx::query_scalar(FILL)
                .bind(column)
                .bind(org.to_string())
                .bind(table)
                .fetch_one(&mut admin)
                .await
                .unwrap();
            run(&mut admin, &insert).await.unwrap_or_else(|error| panic!("{insert}: {error}"));
        }
    }
    (world, tables)
}

/// Rows of `org`, or of all others.
async fn count(connection: &mut PgConnection, table: &str, column: &str, org: OrgId, its_own: bool) -> usize {
    seen(connection, table, column, org, its_own).await.unwrap()
}

/// `SELECT *`, counted here: the statement has no condition that could hide a row.
async fn seen(
    connection: &mut PgConnection,
    table: &str,
    column: &str,
    org: OrgId,
    its_own: bool,
) -> Result<usize, sqlx::Error> {
    let rows = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(connection).await?;
    let owner = |row: &sqlx::postgres::PgRow| row.get::<Option<sqlx::types::Uuid>, _>(column);
    Ok(rows.iter().filter(|row| (owner(row) == Some(org.uuid())) == its_own).count())
}

/// Tried in a session that is in an organization. Refused or without effect: no foreign row is seen afterwards.
const ESCAPES: &[&str] = &[
    "RESET ROLE",
    "SET ROLE NONE",
    "SET ROLE sentinel_test_owner",
    "SET ROLE pg_read_all_data",
    "SET SESSION AUTHORIZATION sentinel_test_owner",
    "RESET SESSION AUTHORIZATION",
    "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE users NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE users OWNER TO sentinel_runtime",
    "ALTER POLICY users_tenant ON users USING (true)",
    "DROP POLICY users_tenant ON users",
    "CREATE POLICY mine ON users USING (true)",
    "ALTER ROLE sentinel_runtime BYPASSRLS",
    "ALTER ROLE sentinel_test_app SUPERUSER",
    "GRANT sentinel_test_owner TO sentinel_runtime",
    "GRANT pg_read_all_data TO sentinel_runtime",
    "SET row_security = off",
    "SELECT set_config('row_security', 'off', false)",
    "SELECT set_config('role', 'none', false)",
    "SELECT set_config('role', 'sentinel_test_owner', false)",
    "SELECT set_config('session_authorization', 'sentinel_test_owner', false)",
    "SELECT set_config('is_superuser', 'on', false)",
    "SELECT set_config('session_replication_role', 'replica', false)",
    "SELECT set_config('app.anything', 'on', false)",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'row_security'",
    "UPDATE pg_class SET relrowsecurity = false",
    "DELETE FROM pg_policy",
    "ALTER DATABASE postgres SET row_security = off",
    "ALTER SYSTEM SET row_security = off",
    "CREATE FUNCTION public.peek() RETURNS SETOF users LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM public.users'",
    "CREATE VIEW public.peek AS SELECT * FROM public.users",
    "CREATE TABLE public.copied AS SELECT * FROM public.users",
    "CREATE EXTENSION dblink",
    "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION f()",
    "CREATE TRIGGER mine BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE mine AS ON SELECT TO users DO INSTEAD SELECT 1",
    "COPY users TO '/tmp/users.csv'",
    "COPY users TO PROGRAM 'cat'",
    "COPY users FROM PROGRAM 'echo'",
    "TRUNCATE users",
    "LOCK TABLE users IN ACCESS EXCLUSIVE MODE",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT pg_reload_conf()",
    "DO $$ BEGIN EXECUTE 'RESET ROLE'; END $$",
    "DO $$ BEGIN EXECUTE 'ALTER TABLE users DISABLE ROW LEVEL SECURITY'; END $$",
    "PREPARE peek AS SELECT * FROM users",
];

mod postgres {
    use super::*;

    #[tokio::test]
    async fn no_foreign_row_is_seen_with_a_tenant_with_none_and_with_a_wrong_one() {
        let (world, tables) = filled().await;
        let mut runtime = runtime(&world).await;
        let acme = world.acme.org_id;
        for (table, column) in &tables {
            run(&mut runtime, "RESET app.current_org_id").await.unwrap();
            assert_eq!(count(&mut runtime, table, column, acme, true).await, 0, "{table}: none set");
            assert_eq!(count(&mut runtime, table, column, acme, false).await, 0, "{table}: none set");
            run(&mut runtime, &format!("SET app.current_org_id = '{acme}'")).await.unwrap();
            assert!(count(&mut runtime, table, column, acme, true).await > 0, "{table}: its own");
            assert_eq!(count(&mut runtime, table, column, acme, false).await, 0, "{table}: foreign");
            run(&mut runtime, &format!("SET app.current_org_id = '{}'", OrgId::new())).await.unwrap();
            assert_eq!(count(&mut runtime, table, column, acme, true).await, 0, "{table}: a wrong one");
            assert_eq!(count(&mut runtime, table, column, acme, false).await, 0, "{table}: a wrong one");
            run(&mut runtime, "SET app.current_org_id = 'x'' OR true --'").await.unwrap();
            assert!(seen(&mut runtime, table, column, acme, false).await.unwrap_or(0) == 0, "{table}: no id");
        }
    }

    #[tokio::test]
    async fn no_statement_of_the_runtime_role_switches_it_off() {
        let (world, tables) = filled().await;
        for text in ESCAPES {
            let mut runtime = runtime(&world).await;
            run(&mut runtime, &format!("SET app.current_org_id = '{}'", world.acme.org_id)).await.unwrap();
            let refused = run(&mut runtime, text).await.err();
            for (table, column) in &tables {
                // A server that refuses to read (as with `row_security = off`) shows nothing either.
                let foreign = seen(&mut runtime, table, column, world.acme.org_id, false).await.unwrap_or(0);
                assert_eq!(foreign, 0, "{text} opened {table}");
            }
            println!("{:<14} {text}", if refused.is_some() { "refused" } else { "without effect" });
            runtime.close().await.unwrap();
        }
        let mut admin = world.database.admin().await;
        let open = "SELECT COUNT(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
            AND relname IN (SELECT tablename FROM pg_policies) AND NOT (relrowsecurity AND relforcerowsecurity)";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut admin).await.unwrap();
        assert_eq!(open, 0);
    }

    #[tokio::test]
    async fn neither_copy_nor_a_function_of_ones_own_nor_the_statistics_show_foreign_rows() {
        let (world, _) = filled().await;
        run(&mut world.database.admin().await, "ANALYZE users").await.unwrap();
        let mut runtime = runtime(&world).await;
        run(&mut runtime, &format!("SET app.current_org_id = '{}'", world.acme.org_id)).await.unwrap();
        let own = sqlx::query("SELECT 1 FROM users").fetch_all(&mut runtime).await.unwrap().len();
        let copied = runtime.copy_out_raw("COPY (SELECT id FROM users) TO STDOUT").await.unwrap();
        let lines: usize = futures_util::TryStreamExt::try_collect::<Vec<_>>(copied)
            .await
            .unwrap()
            .iter()
            .map(|chunk| chunk.iter().filter(|byte| **byte == b'\n').count())
            .sum();
        assert_eq!(lines, own);
        // Cheaper than the policy's own condition, so that the planner would like to run it first.
        let leak = format!(
            "CREATE FUNCTION pg_temp.leak(org uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
            $$ BEGIN IF org <> '{}' THEN RAISE EXCEPTION 'leaked'; END IF; RETURN true; END $$",
            world.acme.org_id
        );
        // Where temporary functions are not allowed there is nothing to try.
        if run(&mut runtime, &leak).await.is_ok() {
            run(&mut runtime, "SELECT 1 FROM users WHERE pg_temp.leak(org_id)")
                .await
                .expect("no foreign row was looked at");
        }
        let told =
            sqlx::query("SELECT 1 FROM pg_stats WHERE tablename = 'users'").fetch_all(&mut runtime).await.unwrap();
        assert!(told.is_empty());
    }

    /// The honest exception. Statements that cannot know the organization yet (`src/store/unscoped.rs`) set
    /// `app.sentinel_unscoped`, and any statement of the runtime role could: these tables are then readable, no other.
    #[tokio::test]
    async fn the_setting_of_unscoped_statements_opens_these_tables_and_no_other() {
        let (world, tables) = filled().await;
        let mut runtime = runtime(&world).await;
        run(&mut runtime, &format!("SET app.current_org_id = '{}'", world.acme.org_id)).await.unwrap();
        run(&mut runtime, "SET app.sentinel_unscoped = 'on'").await.unwrap();
        let mut open = Vec::new();
        for (table, column) in &tables {
            if count(&mut runtime, table, column, world.acme.org_id, false).await > 0 {
                open.push(table.as_str());
            }
        }
        assert_eq!(
            open,
            [
                "api_keys",
                "audit_chains",
                "audit_checkpoints",
                "audit_logs",
                "audit_settings",
                "event_tickets",
                "invitations",
                "organizations",
                "password_resets",
                "refresh_tokens",
                "scim_tokens",
                "sessions",
                "usage_counters",
                "users",
                "workspaces"
            ]
        );
        // Readable, not writable.
        run(&mut runtime, "UPDATE users SET full_name = 'planted'").await.unwrap();
        let planted = "SELECT COUNT(*) FROM users WHERE full_name = 'planted' AND org_id <> $1";
        let planted: i64 = sqlx::query_scalar(planted)
            .bind(world.acme.org_id.uuid())
            .fetch_one(&mut world.database.admin().await)
            .await
            .unwrap();
        assert_eq!(planted, 0);
    }
}
