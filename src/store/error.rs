//! What went wrong, as the rest of the program needs to tell it apart.

use sqlx::error::ErrorKind;

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique value is taken; names what: `email`, `workspace name` …
    #[error("{0} is already in use")]
    Conflict(&'static str),
    /// The row changed since it was read (`If-Match`).
    #[error("the row has changed since it was read")]
    Stale,
    /// The row refers to something that does not exist in this organization.
    #[error("{0} does not exist")]
    Missing(&'static str),
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// A row that this version cannot read.
    #[error("{table}.{column}: {cause}")]
    Corrupt { table: &'static str, column: &'static str, cause: String },
    #[error("database: {0}")]
    Database(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_absence(&error) { Self::Unavailable(error.to_string()) } else { Self::Database(error.to_string()) }
    }
}

/// Names what a unique index refused.
pub(super) fn taken(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| match error.as_database_error().map(|refusal| refusal.kind()) {
        Some(ErrorKind::UniqueViolation) => StoreError::Conflict(what),
        _ => error.into(),
    }
}

/// Names what a foreign key did not find.
pub(super) fn missing(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| match error.as_database_error().map(|refusal| refusal.kind()) {
        Some(ErrorKind::ForeignKeyViolation) => StoreError::Missing(what),
        _ => error.into(),
    }
}

/// The database is away, starting, stopping, full or too busy: the same statement may succeed later.
fn is_absence(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| is_absence_code(&code)),
        _ => false,
    }
}

/// PostgreSQL: class 08 (connection), 53 (resources), 57P01 to 57P05 (shutdown and start), 55P03 and 40001/40P01 (try again).
/// SQLite, whose codes are numbers of at most four digits: BUSY, LOCKED, IOERR, FULL, CANTOPEN in the low byte.
fn is_absence_code(code: &str) -> bool {
    if code.len() == 5 {
        return code.starts_with("08")
            || code.starts_with("53")
            || code.starts_with("57P0")
            || matches!(code, "55P03" | "40001" | "40P01");
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_database_is_told_from_a_refused_statement() {
        for code in ["08006", "57P01", "57P03", "53300", "40P01", "5", "261", "14", "13"] {
            assert!(is_absence_code(code), "{code}");
        }
        for code in ["23505", "42P01", "42501", "19", "2067", "1", "28P01"] {
            assert!(!is_absence_code(code), "{code}");
        }
        assert!(matches!(StoreError::from(sqlx::Error::PoolTimedOut), StoreError::Unavailable(_)));
        assert!(matches!(StoreError::from(sqlx::Error::RowNotFound), StoreError::Database(_)));
    }
}
