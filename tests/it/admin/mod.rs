//! The admin face from outside, over HTTP.

mod admin_events;
mod api_keys;
mod audit_logs;
mod client;
mod errors;
mod fuzz;
mod invitations;
mod isolation;
mod lists;
mod logins;
mod mass_assignment;
mod mfa;
mod operations;
mod passwords;
mod policies;
mod quality;
mod reference_flow;
mod role_matrix;
mod roles;
mod saved_filters;
mod scim;
mod sessions;
mod sso;
mod tokens;
mod workspace_members;
mod workspaces;
