//! Sentinel, a security gateway for LLM traffic.
//!
//! The modules are the stages of a request's journey, in order; a later one may use earlier ones, never the
//! other way round (`tests/layers.rs`). See `ARCHITECTURE.md`.

pub mod domain;

pub mod config;
pub mod telemetry;

pub mod store;

pub mod audit;
pub mod authn;
pub mod cache;
pub mod detect;
pub mod enforce;
pub mod health;
pub mod limits;
pub mod mail;
pub mod mock_llm;
pub mod policy;
pub mod process;
pub mod protocol;
pub mod upstream;

pub mod gateway;

pub mod admin;

pub mod cli;
pub mod server;
