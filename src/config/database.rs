use serde::{Deserialize, Serialize};

use super::HumanDuration;

/// Where everything durable but the journal lives.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite://path/to/file.db` (relative to the working directory), `sqlite::memory:` in tests, or `postgres://…`.
    /// Empty: `sentinel.db` in `data_dir`.
    pub url: String,
    /// The owner's login on PostgreSQL, when it is another one than `url`'s; used by `sentinel migrate` alone.
    pub migrate_url: Option<String>,
    /// Connections of one node.
    pub max_connections: u32,
    /// How long a request waits for a free connection.
    pub acquire_timeout: HumanDuration,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: String::new(), migrate_url: None, max_connections: 16, acquire_timeout: HumanDuration::secs(5) }
    }
}

impl std::fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("url", &mask_password(&self.url))
            .field("migrate_url", &self.migrate_url.as_deref().map(mask_password))
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// A database address with its password replaced.
pub(super) fn mask_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((login, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    match login.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => url.to_owned(),
    }
}
