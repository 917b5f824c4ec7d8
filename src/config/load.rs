use std::path::PathBuf;

use super::Config;

/// What the command line overrides.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub file: Option<PathBuf>,
    /// `path.to.key=value` pairs.
    pub set: Vec<(String, String)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {cause}")]
    Unreadable { path: String, cause: std::io::Error },
    #[error("{origin}: {message}")]
    Invalid { origin: String, message: String },
    /// Every fault at once.
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
}

pub fn load(_flags: &Flags, _env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    todo!()
}
