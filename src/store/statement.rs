//! One SQL text for two engines: SQLite accepts `$1` too, so a repository method is written once and run on either.

use sqlx::encode::Encode;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::types::Type;
use sqlx::{Arguments as _, AssertSqlSafe, FromRow, Postgres, Row as _, Sqlite};

/// A value that both engines can take as an argument.
pub(super) trait Bind<'v>: Encode<'v, Postgres> + Type<Postgres> + Encode<'v, Sqlite> + Type<Sqlite> {}

impl<'v, T> Bind<'v> for T where T: Encode<'v, Postgres> + Type<Postgres> + Encode<'v, Sqlite> + Type<Sqlite> {}

/// A row that can be read from both engines; `#[derive(sqlx::FromRow)]` makes one.
pub(super) trait Row: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

impl<T> Row for T where T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

/// A statement about to run inside a transaction.
#[must_use]
pub(super) struct Statement<'c> {
    text: &'static str,
    on: On<'c>,
    /// The first argument that could not be encoded; reported when the statement runs.
    fault: Option<BoxDynError>,
    /// Kept by the connection, with a plan for any arguments.
    kept: bool,
}

enum On<'c> {
    Postgres(&'c mut PgConnection, PgArguments),
    Sqlite(&'c mut SqliteConnection, SqliteArguments),
}

impl<'c> Statement<'c> {
    pub(super) fn on_postgres(connection: &'c mut PgConnection, text: &'static str) -> Self {
        Self { text, on: On::Postgres(connection, PgArguments::default()), fault: None, kept: true }
    }

    pub(super) fn on_sqlite(connection: &'c mut SqliteConnection, text: &'static str) -> Self {
        Self { text, on: On::Sqlite(connection, SqliteArguments::default()), fault: None, kept: true }
    }

    /// Room for `arguments` more, about `bytes` long together.
    pub(super) fn reserve(mut self, arguments: usize, bytes: usize) -> Self {
        match &mut self.on {
            On::Postgres(_, list) => list.reserve(arguments, bytes),
            On::Sqlite(_, list) => list.reserve(arguments, bytes),
        }
        self
    }

    /// The next argument: `$1`, `$2` …
    pub(super) fn bind<'v>(mut self, value: impl Bind<'v>) -> Self {
        self.add(value);
        self
    }

    /// [`Statement::bind`] in place, for statements of thousands of arguments.
    pub(super) fn add<'v>(&mut self, value: impl Bind<'v>) -> &mut Self {
        let added = match &mut self.on {
            On::Postgres(_, arguments) => arguments.add(value),
            On::Sqlite(_, arguments) => arguments.add(value),
        };
        if let Err(fault) = added {
            self.fault.get_or_insert(fault);
        }
        self
    }

    /// Planned anew for these arguments: for searches whose best index depends on what is searched for.
    pub(super) fn planned_for_its_arguments(mut self) -> Self {
        self.kept = false;
        self
    }

    pub(super) async fn one<T: Row>(self) -> Result<T, sqlx::Error> {
        self.optional().await?.ok_or(sqlx::Error::RowNotFound)
    }

    pub(super) async fn optional<T: Row>(self) -> Result<Option<T>, sqlx::Error> {
        self.fault.map_or(Ok(()), |fault| Err(sqlx::Error::Encode(fault)))?;
        match self.on {
            On::Postgres(connection, arguments) => {
                sqlx::query_as_with::<Postgres, T, _>(self.text, arguments)
                    .persistent(self.kept)
                    .fetch_optional(connection)
                    .await
            }
            On::Sqlite(connection, arguments) => {
                sqlx::query_as_with::<Sqlite, T, _>(self.text, arguments)
                    .persistent(self.kept)
                    .fetch_optional(connection)
                    .await
            }
        }
    }

    pub(super) async fn all<T: Row>(self) -> Result<Vec<T>, sqlx::Error> {
        self.fault.map_or(Ok(()), |fault| Err(sqlx::Error::Encode(fault)))?;
        match self.on {
            On::Postgres(connection, arguments) => {
                sqlx::query_as_with::<Postgres, T, _>(self.text, arguments)
                    .persistent(self.kept)
                    .fetch_all(connection)
                    .await
            }
            On::Sqlite(connection, arguments) => {
                sqlx::query_as_with::<Sqlite, T, _>(self.text, arguments)
                    .persistent(self.kept)
                    .fetch_all(connection)
                    .await
            }
        }
    }

    /// How it would be run, line by line.
    pub(super) async fn plan(self) -> Result<Vec<String>, sqlx::Error> {
        self.fault.map_or(Ok(()), |fault| Err(sqlx::Error::Encode(fault)))?;
        match self.on {
            On::Postgres(connection, arguments) => {
                let text = AssertSqlSafe(format!("EXPLAIN {}", self.text));
                sqlx::query_scalar_with::<Postgres, String, _>(text, arguments).fetch_all(connection).await
            }
            On::Sqlite(connection, arguments) => {
                let text = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", self.text));
                let steps = sqlx::query_with::<Sqlite, _>(text, arguments).fetch_all(connection).await?;
                steps.iter().map(|step| step.try_get("detail")).collect()
            }
        }
    }

    /// Runs it and returns the number of rows that it touched.
    pub(super) async fn execute(self) -> Result<u64, sqlx::Error> {
        self.fault.map_or(Ok(()), |fault| Err(sqlx::Error::Encode(fault)))?;
        match self.on {
            On::Postgres(connection, arguments) => {
                let done = sqlx::query_with::<Postgres, _>(self.text, arguments)
                    .persistent(self.kept)
                    .execute(connection)
                    .await?;
                Ok(done.rows_affected())
            }
            On::Sqlite(connection, arguments) => {
                let done = sqlx::query_with::<Sqlite, _>(self.text, arguments)
                    .persistent(self.kept)
                    .execute(connection)
                    .await?;
                Ok(done.rows_affected())
            }
        }
    }
}

/// The text of a statement that names the tenant; only [`tenant_sql!`] makes one.
#[derive(Clone, Copy)]
pub(super) struct TenantSql(&'static str);

impl TenantSql {
    /// Fails the compilation of [`tenant_sql!`] for a text without the tenant.
    pub(super) const fn checked(text: &'static str) -> Self {
        assert!(
            contains(text, "org_id") || (contains(text, "organizations") && contains(text, "WHERE id = $1")),
            "a tenant's statement names `org_id` (or is about `organizations … WHERE id = $1`)"
        );
        assert!(names_first_argument(text), "`$1` of a tenant's statement is its organization");
        Self(text)
    }

    pub(super) const fn text(self) -> &'static str {
        self.0
    }
}

/// Makes a [`TenantSql`], checked at compile time: the text names `org_id` and `$1`, which the transaction binds.
macro_rules! tenant_sql {
    ($($text:tt)+) => {{
        const SQL: $crate::store::statement::TenantSql = $crate::store::statement::TenantSql::checked(concat!($($text)+));
        SQL
    }};
}
pub(super) use tenant_sql;

#[expect(clippy::indexing_slicing, reason = "bounded by the lengths; runs at compile time, where slices have no `get`")]
const fn contains(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    let mut start = 0;
    while start + word.len() <= text.len() {
        let mut matched = 0;
        while matched < word.len() && text[start + matched] == word[matched] {
            matched += 1;
        }
        if matched == word.len() {
            return true;
        }
        start += 1;
    }
    false
}

/// `$1`, and not as the beginning of `$10`.
#[expect(clippy::indexing_slicing, reason = "bounded by the length; runs at compile time, where slices have no `get`")]
const fn names_first_argument(text: &str) -> bool {
    let text = text.as_bytes();
    let mut at = 0;
    while at + 1 < text.len() {
        let ends = at + 2 == text.len() || !text[at + 2].is_ascii_digit();
        if text[at] == b'$' && text[at + 1] == b'1' && ends {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &'static str) -> bool {
        std::panic::catch_unwind(|| TenantSql::checked(text)).is_ok()
    }

    #[test]
    fn a_tenants_statement_names_the_organization_and_the_first_argument() {
        assert!(accepted("SELECT id FROM users WHERE org_id = $1"));
        assert!(accepted("SELECT id FROM users WHERE $1 = org_id AND id = $10"));
        assert!(accepted("SELECT id FROM organizations WHERE id = $1"));
        assert!(!accepted("SELECT id FROM users WHERE id = $1"), "no org_id");
        assert!(!accepted("SELECT id FROM users WHERE org_id = $10"), "no $1");
        assert!(!accepted("SELECT id FROM users WHERE org_id IS NOT NULL"), "no $1");
        assert!(!accepted("SELECT id FROM organizations"), "no $1");
    }
}
