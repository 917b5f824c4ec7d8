//! What `production` insists on: a login that can neither bypass nor switch off row-level security, migrations applied.

use super::{Store, StoreError, migrate};

/// Asked as the runtime role, about the login behind it.
const ROLE_FAULTS: &str = "
    SELECT 'the login ' || l.rolname || ' is a superuser' AS fault
        FROM pg_roles l WHERE l.rolname = session_user AND l.rolsuper
    UNION ALL
    SELECT 'the login ' || l.rolname || ' bypasses row-level security'
        FROM pg_roles l WHERE l.rolname = session_user AND l.rolbypassrls
    UNION ALL
    SELECT 'the login ' || l.rolname || ' may create roles'
        FROM pg_roles l WHERE l.rolname = session_user AND l.rolcreaterole
    UNION ALL
    SELECT 'the role ' || r.rolname || ' bypasses row-level security'
        FROM pg_roles r WHERE r.rolname = 'sentinel_runtime' AND (r.rolsuper OR r.rolbypassrls)
    UNION ALL
    SELECT 'the login ' || l.rolname || ' owns tables'
        FROM pg_roles l
        WHERE l.rolname = session_user
            AND EXISTS (
                SELECT FROM pg_class c
                WHERE c.relnamespace = current_schema()::regnamespace
                    AND c.relkind IN ('r', 'p')
                    AND pg_has_role(l.oid, c.relowner, 'MEMBER')
            )
    UNION ALL
    SELECT 'row-level security is not forced on the table ' || c.relname
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = current_schema()::regnamespace
            AND c.relkind IN ('r', 'p')
            AND (a.attname = 'org_id' OR (c.relname = 'organizations' AND a.attname = 'id'))
            AND NOT a.attisdropped
            AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    ORDER BY fault";

impl Store {
    /// Why this database is not fit for production: a role that could bypass row-level security, unapplied migrations.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn production_faults(&self) -> Result<Vec<String>, StoreError> {
        let mut tx = self.inner.begin_bare().await?;
        let postgres = tx.either(true, false);
        let applied = match tx.statement(migrate::RECORDED).all().await {
            Ok(rows) => rows,
            Err(error) => match error.into() {
                StoreError::Database(_) => return Ok(vec!["no migration is applied".to_owned()]),
                other => return Err(other),
            },
        };
        let mut faults = migrate::faults(&applied, postgres);
        if postgres {
            let roles: Vec<(String,)> = tx.statement(ROLE_FAULTS).all().await?;
            faults.extend(roles.into_iter().map(|(fault,)| fault));
        }
        tx.commit().await?;
        Ok(faults)
    }
}
