//! What the tests of several subjects need.

pub mod database;
mod process;
pub mod raw;
mod rows;
mod sentinel;

pub use database::TestDatabase;
pub use process::{Process, command};
pub use rows::{Row, count_rows};
pub use sentinel::{Reply, Sentinel, Tenant, chat_body, register, reply, test_config};

/// The Python of an environment that `make test` has made, by the variable that names it.
pub fn python(variable: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting, not the program's")]
    let interpreter = std::env::var(variable);
    interpreter.unwrap_or_else(|_| panic!("{variable} is not set: run `make test`"))
}

/// Makes each test twice, as `sqlite::name` and `postgres::name`, from `async fn name(database: TestDatabase)`.
macro_rules! on_both_engines {
    ($($name:ident)+) => {
        mod sqlite { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name($crate::support::TestDatabase::sqlite().await).await }
        )+ }
        mod postgres { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name($crate::support::TestDatabase::postgres().await).await }
        )+ }
    };
}
pub(crate) use on_both_engines;
