//! Configuration: typed sections with their defaults, and the only reader of the environment.
//!
//! Order: defaults → file → environment → flags. Unknown keys are refused with their path.

mod admin;
mod audit;
mod auth;
mod database;
mod encryption;
mod environment;
mod gateway;
mod load;
mod log;
mod mail;
mod otlp;
mod print;
mod secrets;
mod tls;
mod tree;
mod units;
mod upstreams;
mod validate;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use admin::{AdminConfig, Registration};
pub use audit::{AuditConfig, RetentionConfig, SyncMode, WhenFull};
pub use auth::AuthConfig;
pub use database::DatabaseConfig;
pub use encryption::EncryptionConfig;
pub use gateway::GatewayConfig;
pub use load::{ConfigError, Flags, Loaded, environment_variables, explain, load};
pub use log::{LogConfig, LogFormat};
pub use mail::MailConfig;
pub use otlp::OtlpConfig;
pub use secrets::{SecretsError, ensure_secrets};
pub use tls::{TlsConfig, TlsFiles};
pub use units::{ByteSize, HumanDuration};
pub use upstreams::{Balance, CredentialField, RouteConfig, UpstreamConfig, default_upstreams};

/// Where Sentinel runs; decides how strict it is at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    #[default]
    Development,
    Staging,
    /// Refuses generated secrets, unapplied migrations and a database role that could bypass row-level security.
    Production,
}

/// The whole configuration; `config/sentinel.yaml` is its annotated reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub environment: Environment,
    /// SQLite file, audit journal, generated secrets (mode 0600).
    pub data_dir: PathBuf,
    pub database: DatabaseConfig,
    pub gateway: GatewayConfig,
    pub admin: AdminConfig,
    pub auth: AuthConfig,
    pub encryption: EncryptionConfig,
    pub mail: MailConfig,
    pub upstreams: std::collections::BTreeMap<String, UpstreamConfig>,
    /// First match wins, before the built-in table.
    pub routes: Vec<RouteConfig>,
    pub audit: AuditConfig,
    pub log: LogConfig,
    pub otlp: OtlpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            environment: Environment::default(),
            data_dir: PathBuf::from("./data"),
            database: DatabaseConfig::default(),
            gateway: GatewayConfig::default(),
            admin: AdminConfig::default(),
            auth: AuthConfig::default(),
            encryption: EncryptionConfig::default(),
            mail: MailConfig::default(),
            upstreams: default_upstreams(),
            routes: Vec::new(),
            audit: AuditConfig::default(),
            log: LogConfig::default(),
            otlp: OtlpConfig::default(),
        }
    }
}

impl Config {
    /// Fills in what depends on other settings: an empty `database.url` becomes `sentinel.db` in `data_dir`, an empty
    /// `mail.outbox` the folder `outbox` there.
    pub fn fill_in(&mut self) {
        if self.database.url.is_empty() {
            self.database.url = format!("sqlite://{}", self.data_dir.join("sentinel.db").display());
        }
        if self.mail.outbox.as_os_str().is_empty() {
            self.mail.outbox = self.data_dir.join("outbox");
        }
    }
}
