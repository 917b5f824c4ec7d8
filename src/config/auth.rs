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
    /// Secrets that signed before `jwt_secret` did, one a line: their access tokens are still accepted. To change the
    /// secret without a failed request, put the old one here until `access_token_ttl` has passed; for as long as there are
    /// second factors or sign-on providers that were set up under it, since their secrets are encrypted under it.
    #[serde(serialize_with = "super::secrets::masked")]
    pub jwt_previous_secrets: Option<Secret<String>>,
    pub access_token_ttl: HumanDuration,
    pub refresh_token_ttl: HumanDuration,
    /// Argon2id memory in KiB (OWASP's minimum with two passes).
    pub argon2_memory_kib: u32,
    pub argon2_passes: u32,
    /// Passwords hashed at once; each takes `argon2_memory_kib` and one core. 0: half of the cores, at most four.
    pub argon2_parallel: usize,
    /// Passwords that may wait to be hashed; beyond it the answer is 503 at once.
    pub argon2_queue: usize,
    /// Log-ins a minute that may fail for one account from one address.
    pub logins_per_minute: u32,
    /// Wrong passwords in a row after which an account is locked, wherever they come from (PCI DSS 8.3.4 asks for 10).
    pub lockout_failures: u32,
    pub lockout: HumanDuration,
    /// Wrong passwords from one address, for whatever accounts, before its next try has to wait; two a minute are
    /// forgotten. 0: no limit, for an installation whose proxy hides the addresses.
    pub failures_per_address: u32,
}

impl AuthConfig {
    /// Each secret of `jwt_previous_secrets`.
    pub fn previous_secrets(&self) -> impl Iterator<Item = &str> {
        let all = self.jwt_previous_secrets.as_ref().map_or("", |secrets| secrets.expose().as_str());
        all.lines().map(str::trim).filter(|secret| !secret.is_empty())
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_previous_secrets: None,
            access_token_ttl: HumanDuration::secs(15 * 60),
            refresh_token_ttl: HumanDuration::secs(7 * 86_400),
            argon2_memory_kib: 19_456,
            argon2_passes: 2,
            argon2_parallel: 0,
            argon2_queue: 128,
            logins_per_minute: 5,
            lockout_failures: 10,
            lockout: HumanDuration::secs(30 * 60),
            failures_per_address: 30,
        }
    }
}
