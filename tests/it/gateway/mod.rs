//! The gateway from outside: what clients send, what they get, what the upstream saw, and which row is left.

mod answers;
mod bedrock;
mod bodies;
mod credentials;
mod edge_tls;
mod exact_data;
mod faults;
mod framing;
mod journey;
mod limits;
mod models;
mod observe;
mod own_rules;
mod providers;
mod proxies;
mod tls;
mod tokens;
mod upstreams;
mod workspaces;
