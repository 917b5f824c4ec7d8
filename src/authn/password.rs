//! Passwords of people: what is accepted, and Argon2id hashing that neither blocks the runtime nor fills the memory.

use std::sync::{Arc, OnceLock};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error as HashError, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::RngExt as _;
use tokio::sync::Semaphore;
use zxcvbn::Score;

use crate::config::AuthConfig;
use crate::domain::Secret;

/// Characters of the shortest password (NIST SP 800-63B asks for 8, PCI DSS 8.3.6 for 12).
pub const MIN_LENGTH: usize = 12;
/// Characters of the longest: the estimate of strength takes time that grows with the square of the length.
pub const MAX_LENGTH: usize = 128;

/// Letters and digits that are not mistaken for each other when read aloud or copied by hand.
const TEMPORARY_ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// 20 of 55 characters: 115 bits.
const TEMPORARY_LENGTH: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("password hashing failed: {0}")]
    Hash(String),
    #[error("password hashing was interrupted")]
    Interrupted,
    /// As many passwords wait as may.
    #[error("too many passwords wait to be hashed")]
    Busy,
}

/// What comparing a password with a stored hash came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Wrong,
    Right,
    /// Right, but hashed with weaker parameters than the configured ones: hash it anew.
    Outdated,
}

/// Hashes and verifies passwords, a bounded number at once; a bounded number waits. Clones share the bounds.
#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    permits: Arc<Semaphore>,
    /// One for each that is hashed or waits.
    places: Arc<Semaphore>,
    /// The hash that unknown accounts are compared with, so that they take as long as known ones.
    decoy: Arc<OnceLock<String>>,
}

impl Passwords {
    /// Parameters below what Argon2 allows are raised to it.
    #[must_use]
    pub fn new(config: &AuthConfig) -> Self {
        let memory = config.argon2_memory_kib.max(Params::MIN_M_COST);
        let params = Params::new(memory, config.argon2_passes.max(1), 1, None).unwrap_or(Params::DEFAULT);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let parallel = match config.argon2_parallel {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, 4),
            parallel => parallel,
        };
        let places = Arc::new(Semaphore::new(parallel.saturating_add(config.argon2_queue).min(Semaphore::MAX_PERMITS)));
        Self { argon2, permits: Arc::new(Semaphore::new(parallel)), places, decoy: Arc::default() }
    }

    /// The PHC string of `password` under a new salt.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: Secret<String>) -> Result<String, PasswordError> {
        let argon2 = self.argon2.clone();
        self.blocking(move || {
            argon2.hash_password(password.expose().as_bytes()).map(|hash| hash.to_string()).map_err(failed)
        })
        .await
    }

    /// Compares with a stored hash; with None (no such account) it takes as long and is always [`Match::Wrong`].
    ///
    /// # Errors
    /// [`PasswordError`] when the stored hash cannot be read.
    pub async fn verify(
        &self,
        password: Secret<String>,
        stored: Option<Secret<String>>,
    ) -> Result<Match, PasswordError> {
        let (argon2, decoy) = (self.argon2.clone(), self.decoy.clone());
        self.blocking(move || {
            let text = match &stored {
                Some(stored) => stored.expose().as_str(),
                None => decoy_of(&argon2, &decoy)?,
            };
            let hash = PasswordHash::new(text).map_err(failed)?;
            match argon2.verify_password(password.expose().as_bytes(), &hash) {
                Ok(()) if stored.is_none() => Ok(Match::Wrong),
                Ok(()) if is_strong(&hash, argon2.params()) => Ok(Match::Right),
                Ok(()) => Ok(Match::Outdated),
                Err(HashError::PasswordInvalid) => Ok(Match::Wrong),
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    /// The permit goes with the work: a client that leaves does not let more than the configured number run.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| PasswordError::Interrupted)?;
        let result = tokio::task::spawn_blocking(move || {
            let _held = (place, permit);
            work()
        });
        result.await.map_err(|_| PasswordError::Interrupted)?
    }
}

/// Made when first needed: the one log-in that takes twice as long tells nothing, for it is the first of its process.
fn decoy_of<'d>(argon2: &Argon2<'_>, decoy: &'d OnceLock<String>) -> Result<&'d str, PasswordError> {
    if decoy.get().is_none() {
        let hash = argon2.hash_password(temporary_password().expose().as_bytes()).map_err(failed)?.to_string();
        let _ = decoy.set(hash);
    }
    Ok(decoy.get().map(String::as_str).unwrap_or_default())
}

fn failed(error: impl std::fmt::Display) -> PasswordError {
    PasswordError::Hash(error.to_string())
}

/// Whether the hash costs at least what `params` do.
fn is_strong(hash: &PasswordHash, params: &Params) -> bool {
    hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version == Some(Version::V0x13.into())
        && Params::try_from(hash)
            .is_ok_and(|stored| stored.m_cost() >= params.m_cost() && stored.t_cost() >= params.t_cost())
}

/// A password for an invitation, to be changed at the first log-in.
#[must_use]
pub fn temporary_password() -> Secret<String> {
    let mut rng = rand::rng();
    let letter = |_| TEMPORARY_ALPHABET.get(rng.random_range(0..TEMPORARY_ALPHABET.len())).copied().unwrap_or(b'x');
    Secret::new((0..TEMPORARY_LENGTH).map(letter).map(char::from).collect())
}

/// Why `password` is not accepted, or None. `about` is what an attacker would try first: the person's address and name,
/// the organization's name.
#[must_use]
pub fn weakness(password: &str, about: &[&str]) -> Option<&'static str> {
    let length = password.chars().count();
    if length < MIN_LENGTH {
        return Some("must have at least 12 characters");
    }
    if length > MAX_LENGTH {
        return Some("must have at most 128 characters");
    }
    let lower = password.to_lowercase();
    let names = about.iter().flat_map(|text| [*text, text.split('@').next().unwrap_or_default()]);
    for name in names.map(str::to_lowercase).filter(|name| name.chars().count() >= 4) {
        if lower.contains(&name) {
            return Some("must not contain your name, your e-mail address or your organization's name");
        }
    }
    let mut inputs = about.to_vec();
    inputs.push("sentinel");
    (zxcvbn::zxcvbn(password, &inputs).score() < Score::Three).then_some("is too easy to guess")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> AuthConfig {
        AuthConfig { argon2_memory_kib: 64, argon2_passes: 1, ..AuthConfig::default() }
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn the_passwords_of_the_reference_are_accepted_and_common_ones_are_not() {
        assert_eq!(weakness("SecurePass123!", &["founder@acme.com", "John Doe", "Acme Corp"]), None);
        assert_eq!(weakness("SecurePass123!", &["test@example.com", "Test User", "Test Organization"]), None);
        assert_eq!(weakness("correct horse battery staple", &[]), None);
        for guessable in ["password1234", "qwertyuiop12", "aaaaaaaaaaaa", "123456789012", "Password1234"] {
            assert_eq!(weakness(guessable, &[]), Some("is too easy to guess"), "{guessable}");
        }
    }

    #[test]
    fn a_password_that_is_short_endless_or_about_the_person_is_refused() {
        assert!(weakness("tR7#kq9!xZ", &[]).is_some_and(|why| why.contains("at least 12")));
        assert!(weakness(&"tR7#kq9!xZ".repeat(13), &[]).is_some_and(|why| why.contains("at most 128")));
        let about = ["founder@acme.com", "John Doe", "Acme Corp"];
        for personal in ["x7!Founder#k2Qz", "founder@acme.com#8Kz", "9k ACME CORP 9k#z"] {
            assert!(weakness(personal, &about).is_some_and(|why| why.contains("must not contain")), "{personal}");
        }
    }

    #[tokio::test]
    async fn a_hash_matches_its_password_and_no_other() {
        let passwords = Passwords::new(&cheap());
        let hash = passwords.hash(secret("SecurePass123!")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let stored = Some(Secret::new(hash));
        assert_eq!(passwords.verify(secret("SecurePass123!"), stored.clone()).await.unwrap(), Match::Right);
        assert_eq!(passwords.verify(secret("SecurePass123"), stored).await.unwrap(), Match::Wrong);
        assert_eq!(passwords.verify(secret("SecurePass123!"), None).await.unwrap(), Match::Wrong);
    }

    #[tokio::test]
    async fn what_finds_no_place_to_wait_is_told_so_at_once() {
        let passwords = Passwords::new(&AuthConfig { argon2_parallel: 1, argon2_queue: 1, ..cheap() });
        let all = futures_util::future::join_all((0..10).map(|_| passwords.verify(secret("x"), None))).await;
        let busy = all.iter().filter(|one| matches!(one, Err(PasswordError::Busy))).count();
        let wrong = all.iter().filter(|one| matches!(one, Ok(Match::Wrong))).count();
        assert_eq!((wrong, busy), (2, 8));
        assert_eq!(passwords.verify(secret("x"), None).await.unwrap(), Match::Wrong, "the places are given back");
    }

    #[tokio::test]
    async fn a_hash_that_costs_more_than_the_configured_ones_stays() {
        let costly = Passwords::new(&AuthConfig { argon2_passes: 2, argon2_memory_kib: 128, ..cheap() });
        let old = Some(Secret::new(costly.hash(secret("SecurePass123!")).await.unwrap()));
        let now = Passwords::new(&cheap());
        assert_eq!(now.verify(secret("SecurePass123!"), old.clone()).await.unwrap(), Match::Right);
        let now = Passwords::new(&AuthConfig { argon2_memory_kib: 256, ..cheap() });
        assert_eq!(now.verify(secret("SecurePass123!"), old).await.unwrap(), Match::Outdated);
    }

    #[tokio::test]
    async fn a_hash_with_weaker_parameters_still_matches_but_is_outdated() {
        let old = Passwords::new(&cheap()).hash(secret("SecurePass123!")).await.unwrap();
        let now = Passwords::new(&AuthConfig { argon2_passes: 2, ..cheap() });
        assert_eq!(
            now.verify(secret("SecurePass123!"), Some(Secret::new(old.clone()))).await.unwrap(),
            Match::Outdated
        );
        assert_eq!(now.verify(secret("something else"), Some(Secret::new(old))).await.unwrap(), Match::Wrong);
        assert!(now.verify(secret("x"), Some(secret("not a hash"))).await.is_err());
    }

    #[test]
    fn temporary_passwords_differ_and_are_strong() {
        let (a, b) = (temporary_password(), temporary_password());
        assert_ne!(a.expose(), b.expose());
        assert_eq!(weakness(a.expose(), &[]), None);
    }
}
