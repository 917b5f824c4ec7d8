use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::Secret;

/// Mail to people: links to set a new password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailConfig {
    /// The sender: `Sentinel <sentinel@example.com>`.
    pub from: String,
    /// `smtps://user:password@host` (TLS), `smtp://user:password@host:587?tls=required` (STARTTLS) or `smtp://host`
    /// (neither, for a relay on the same machine). Without one, mails become files in `outbox`.
    #[serde(serialize_with = "super::secrets::masked")]
    pub smtp_url: Option<Secret<String>>,
    /// Where mails are written to, one file each (mode 0600), when there is no `smtp_url`. Empty: `outbox` in `data_dir`.
    pub outbox: PathBuf,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self { from: "Sentinel <sentinel@localhost>".into(), smtp_url: None, outbox: PathBuf::new() }
    }
}
