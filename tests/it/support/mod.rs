//! What the tests of several subjects need.

pub mod database;
