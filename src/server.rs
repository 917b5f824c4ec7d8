//! Puts everything together: the only place that starts threads and tasks.

use std::net::SocketAddr;

use crate::config::Config;

/// Which faces a process shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    Gateway,
    Admin,
    /// No listener: ships what the journal holds.
    Worker,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub only: Option<Only>,
    /// Apply missing migrations before starting.
    pub migrate: bool,
}

/// A running Sentinel.
pub struct Sentinel {
    pub gateway: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub store: crate::store::Store,
}

impl Sentinel {
    /// Starts everything and returns once both faces listen.
    ///
    /// # Errors
    /// Whatever keeps it from starting, with the name of the setting.
    pub async fn start(_config: Config, _options: Options) -> anyhow::Result<Self> {
        todo!()
    }

    /// Drains the gateway, finishes admin requests, ships the journal, closes the store.
    pub async fn stop(self) {
        todo!()
    }
}
