use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The log, on standard error. It never holds a prompt, a key or a person's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,sentinel::audit=debug`.
    pub level: String,
    /// Where the access log goes, one JSON line per request of an application: `stdout`, or a file that SIGHUP opens anew.
    /// None: there is none.
    pub access: Option<PathBuf>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into(), access: None }
    }
}
