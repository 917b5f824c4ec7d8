//! Secrets that Sentinel makes itself, and the ones that it refuses.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use rand::Rng as _;
use serde::Serializer;

use super::{Config, Environment};
use crate::domain::Secret;

#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("{0}")]
    Message(String),
    #[error("{path}: {cause}")]
    Io { path: String, cause: io::Error },
}

/// The value in the reference document's sample `.env`, which everybody can read.
const SAMPLE: &str = "your-secret-key-change-in-production";

/// Fills in secrets that are not configured: generated once into `data_dir/secrets/` (mode 0600) in development,
/// refused elsewhere.
///
/// # Errors
/// [`SecretsError`], which names the setting and never the value.
pub fn ensure_secrets(config: &mut Config) -> Result<(), SecretsError> {
    let development = config.environment == Environment::Development;
    if config.environment == Environment::Production && config.auth.previous_secrets().any(|secret| secret == SAMPLE) {
        let message =
            "auth.jwt_previous_secrets holds the documentation's sample value, with which anybody signs tokens";
        return Err(SecretsError::Message(message.into()));
    }
    match &config.auth.jwt_secret {
        Some(secret) if secret.expose() == SAMPLE && config.environment == Environment::Production => {
            Err(SecretsError::Message(
                "auth.jwt_secret is the documentation's sample value; set JWT_SECRET_KEY or JWT_SECRET_KEY_FILE to a \
                 random one of at least 32 bytes (openssl rand -base64 48)"
                    .into(),
            ))
        }
        Some(_) => Ok(()),
        None if development => {
            config.auth.jwt_secret = Some(generated(&config.data_dir.join("secrets"), "jwt_secret")?);
            Ok(())
        }
        None => Err(SecretsError::Message(
            "auth.jwt_secret is not set; only development generates one. Set JWT_SECRET_KEY or JWT_SECRET_KEY_FILE to \
             a random value of at least 32 bytes (openssl rand -base64 48)"
                .into(),
        )),
    }
}

/// Reads the secret `name` of `dir`; the first process that asks makes it.
fn generated(dir: &Path, name: &str) -> Result<Secret<String>, SecretsError> {
    let path = dir.join(name);
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |cause| SecretsError::Io { path, cause }
    };
    if !path.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        make(dir, name).map_err(at(&path))?;
    }
    let mode = fs::metadata(&path).map_err(at(&path))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(SecretsError::Message(format!(
            "{}: other users of this machine can read it (mode {:o}); make it private (chmod 600) or delete it to have a \
             new one made",
            path.display(),
            mode & 0o777
        )));
    }
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let text = text.trim_end();
    if text.len() < 32 {
        return Err(SecretsError::Message(format!("{}: shorter than 32 bytes", path.display())));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Writes 32 random bytes in base64. The file appears whole or not at all, and never replaces one that another process
/// made meanwhile.
fn make(dir: &Path, name: &str) -> io::Result<()> {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let text = Secret::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes));

    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.expose().as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, dir.join(name));
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Shows that a secret is set, and nothing of it.
#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
pub(super) fn masked<S: Serializer>(secret: &Option<Secret<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(_) => serializer.serialize_some("***"),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn config(dir: &Path, environment: Environment) -> Config {
        Config { data_dir: dir.join("data"), environment, ..Config::default() }
    }

    #[test]
    fn development_makes_a_private_secret_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = config(dir.path(), Environment::Development);
        let mut second = first.clone();
        ensure_secrets(&mut first).unwrap();
        ensure_secrets(&mut second).unwrap();
        let secret = first.auth.jwt_secret.unwrap();
        assert!(secret.expose().len() >= 32);
        assert_eq!(Some(secret), second.auth.jwt_secret, "the second start must read the first one's secret");
        assert_eq!(mode(&dir.path().join("data/secrets")), 0o700);
        assert_eq!(mode(&dir.path().join("data/secrets/jwt_secret")), 0o600);
        assert_eq!(fs::read_dir(dir.path().join("data/secrets")).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), Environment::Development);
        ensure_secrets(&mut config.clone()).unwrap();
        fs::set_permissions(dir.path().join("data/secrets/jwt_secret"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(ensure_secrets(&mut config).unwrap_err().to_string().contains("mode 644"));
    }

    #[test]
    fn production_wants_a_secret_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for environment in [Environment::Staging, Environment::Production] {
            let error = ensure_secrets(&mut config(dir.path(), environment)).unwrap_err().to_string();
            assert!(error.contains("auth.jwt_secret") && error.contains("JWT_SECRET_KEY"), "{error}");
        }
        assert!(!dir.path().join("data").exists());

        let mut sample = config(dir.path(), Environment::Production);
        sample.auth.jwt_secret = Some(Secret::new(SAMPLE.to_owned()));
        let error = ensure_secrets(&mut sample).unwrap_err().to_string();
        assert!(error.contains("sample value") && !error.contains(SAMPLE), "{error}");

        sample.auth.jwt_previous_secrets = sample.auth.jwt_secret.replace(Secret::new("k7".repeat(20)));
        let error = ensure_secrets(&mut sample).unwrap_err().to_string();
        assert!(error.contains("auth.jwt_previous_secrets") && !error.contains(SAMPLE), "{error}");

        let mut own = config(dir.path(), Environment::Production);
        own.auth.jwt_secret = Some(Secret::new("k7".repeat(20)));
        ensure_secrets(&mut own).unwrap();
    }
}
