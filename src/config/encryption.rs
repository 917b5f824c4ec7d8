use serde::{Deserialize, Serialize};

use crate::domain::Secret;

/// What is encrypted at rest (AES-256-GCM), and with what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncryptionConfig {
    /// Encrypts provider credentials, second factors and the secrets of sign-on providers; at least 32 bytes. Without one,
    /// `auth.jwt_secret` does.
    #[serde(serialize_with = "super::secrets::masked")]
    pub key: Option<Secret<String>>,
    /// The key before, which opens what it sealed until `sentinel rewrap` has sealed that anew.
    #[serde(serialize_with = "super::secrets::masked")]
    pub previous_key: Option<Secret<String>>,
}
