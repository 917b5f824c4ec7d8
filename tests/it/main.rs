//! Sentinel from outside, and its store, in one test binary.

mod admin;
mod gateway;
mod reliability;
mod sdk;
mod store;
mod support;
