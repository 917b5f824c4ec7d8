//! What the tests of several subjects need.

pub mod database;
mod process;
pub mod raw;
mod rows;
mod sentinel;

pub use database::TestDatabase;
pub use process::Process;
pub use rows::{Row, count_rows};
pub use sentinel::{Reply, Sentinel, chat_body, register, reply};
