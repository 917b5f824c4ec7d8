//! Sentinel from outside, and its store, in one test binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod admin;
mod gateway;
mod reliability;
mod sdk;
mod store;
mod support;
