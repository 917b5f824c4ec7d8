//! `sentinel migrate`: numbered, reversible migrations, the same numbers and names on both engines.

use std::path::{Path, PathBuf};

use super::StoreError;
use crate::config::DatabaseConfig;
use crate::domain::Timestamp;

/// One migration and when it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    pub number: u32,
    pub name: String,
    pub applied_at: Option<Timestamp>,
}

/// Applies what is missing, in order, each in a transaction; returns what was applied. Two runs at once wait for each other.
pub async fn up(_config: &DatabaseConfig) -> Result<Vec<MigrationStatus>, StoreError> {
    todo!()
}

/// Reverts the last `steps`.
pub async fn down(_config: &DatabaseConfig, _steps: u32) -> Result<Vec<MigrationStatus>, StoreError> {
    todo!()
}

/// All known migrations, oldest first.
pub async fn status(_config: &DatabaseConfig) -> Result<Vec<MigrationStatus>, StoreError> {
    todo!()
}

/// Writes the four empty files of a new migration below `root/migrations` and returns their paths.
pub fn new(_root: &Path, _name: &str) -> std::io::Result<Vec<PathBuf>> {
    todo!()
}
