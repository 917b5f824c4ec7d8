use serde::{Deserialize, Serialize};

use super::HumanDuration;
use crate::domain::Secret;

/// Sessions of people on the admin face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Signs access tokens (HMAC-SHA256), at least 32 bytes. Without one, development generates it once into
    /// `data_dir/secrets/`; production refuses to start.
    #[serde(serialize_with = "super::secrets::masked")]
    pub jwt_secret: Option<Secret<String>>,
    pub access_token_ttl: HumanDuration,
    pub refresh_token_ttl: HumanDuration,
    /// Argon2id memory in KiB (OWASP's minimum with two passes).
    pub argon2_memory_kib: u32,
    pub argon2_passes: u32,
    /// Passwords hashed at once; each takes `argon2_memory_kib`.
    pub argon2_parallel: usize,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            access_token_ttl: HumanDuration::secs(15 * 60),
            refresh_token_ttl: HumanDuration::secs(7 * 86_400),
            argon2_memory_kib: 19_456,
            argon2_passes: 2,
            argon2_parallel: 4,
        }
    }
}
