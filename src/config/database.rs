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

/// A database address with its passwords replaced: the login's, and any in the query.
pub(super) fn mask_password(url: &str) -> String {
    // The login first: a password may hold a `?`.
    let url = mask_login(url);
    let Some((address, query)) = url.split_once('?') else { return url };
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}=***"),
        _ => parameter.to_owned(),
    });
    format!("{address}?{}", parameters.collect::<Vec<_>>().join("&"))
}

fn mask_login(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let Some((login, host)) = rest.rsplit_once('@') else { return address.to_owned() };
    match login.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_masked() {
        for (url, masked) in [
            ("postgres://u:p@ss:w@h/db", "postgres://u:***@h/db"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            (
                "postgres://h/db?user=u&password=p&sslmode=require",
                "postgres://h/db?user=u&password=***&sslmode=require",
            ),
            ("postgres://u:p?q@h/db", "postgres://u:***@h/db"),
            ("sqlite://data/sentinel.db", "sqlite://data/sentinel.db"),
        ] {
            assert_eq!(mask_password(url), masked);
        }
    }
}
