//! The admin face from outside, over HTTP.

mod api_keys;
mod audit_logs;
mod client;
mod errors;
mod isolation;
mod lists;
mod policies;
mod reference_flow;
mod roles;
mod sessions;
mod workspaces;
