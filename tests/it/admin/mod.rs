//! The admin face from outside, over HTTP.

mod admin_events;
mod api_keys;
mod audit_logs;
mod client;
mod errors;
mod isolation;
mod lists;
mod policies;
mod quality;
mod reference_flow;
mod roles;
mod sessions;
