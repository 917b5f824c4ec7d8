use serde::Serializer;

use super::Config;
use crate::domain::Secret;

#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("{0}")]
    Message(String),
}

/// Fills in secrets that are not configured: generated once into `data_dir/secrets/` (mode 0600) in development,
/// refused in production.
pub fn ensure_secrets(_config: &mut Config) -> Result<(), SecretsError> {
    todo!()
}

/// Shows that a secret is set, and nothing of it.
#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
pub(super) fn masked<S: Serializer>(secret: &Option<Secret<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(_) => serializer.serialize_some("***"),
        None => serializer.serialize_none(),
    }
}
