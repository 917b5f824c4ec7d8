//! Secrets at rest, and tokens that only this installation can read: AES-256-GCM under keys derived from its secret.
//!
//! Sealed bytes are a format byte, the id of the key, the nonce, the ciphertext and its tag. What the bytes are for, and
//! whose they are, is authenticated with them: they open nowhere else.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;

use crate::config::{AuthConfig, EncryptionConfig};
use crate::domain::{CredentialId, OrgId, Secret, UserId, WorkspaceId};

const FORMAT: u8 = 1;
const KEY_ID: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the secret was sealed under another key")]
    OtherKey,
    #[error("the sealed bytes are damaged, or belong elsewhere")]
    Damaged,
    #[error("the key cannot be made or used")]
    Key,
}

/// Seals under the key of today's secret; opens under that and those of the secrets before it.
pub struct Sealer {
    today: Key,
    before: Vec<Key>,
}

struct Key {
    id: [u8; KEY_ID],
    key: LessSafeKey,
    values: Secret<[u8; 32]>,
}

/// How many bytes a derivation gives.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    fn of(secret: &str) -> Result<Self, SealError> {
        let material = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sentinel").extract(secret.as_bytes());
        let mut id = [0; KEY_ID];
        let named = material.expand(&[b"seal key id"], Length(KEY_ID)).and_then(|okm| okm.fill(&mut id));
        let mut values = [0; 32];
        let valued = material.expand(&[b"value key"], Length(values.len())).and_then(|okm| okm.fill(&mut values));
        let key = material.expand(&[b"seal key"], &AES_256_GCM).map(UnboundKey::from);
        match (named.and(valued), key) {
            (Ok(()), Ok(key)) => Ok(Self { id, key: LessSafeKey::new(key), values: Secret::new(values) }),
            _ => Err(SealError::Key),
        }
    }
}

/// What a person's TOTP seed is sealed for.
#[must_use]
pub fn mfa_place(user: UserId) -> String {
    format!("users.mfa_secret:{user}")
}

/// What the secret at an organization's sign-on provider is sealed for.
#[must_use]
pub fn sso_place(org: OrgId) -> String {
    format!("sso_connections.client_secret:{org}")
}

/// What a workspace's credential at a provider is sealed for.
#[must_use]
pub fn credential_place(org: OrgId, workspace: WorkspaceId, upstream: &str, id: CredentialId) -> String {
    format!("provider_credentials.ciphertext:{org}/{workspace}/{upstream}/{id}")
}

impl Sealer {
    /// Seals under `encryption.key`, without one under the signing secret; opens under all that are configured.
    ///
    /// # Errors
    /// [`SealError::Key`], also when there is no secret at all.
    pub fn of(encryption: &EncryptionConfig, auth: &AuthConfig) -> Result<Self, SealError> {
        let mut secrets = [&encryption.key, &auth.jwt_secret].into_iter().flatten();
        let today = secrets.next().ok_or(SealError::Key)?;
        let before = secrets.chain(&encryption.previous_key).map(|secret| secret.expose().as_str());
        Self::new(today, before.chain(auth.previous_secrets()))
    }

    /// Keys for values inside of reversible tokens, today's first.
    pub fn value_keys(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.today).chain(&self.before).map(|key| &key.values.expose()[..])
    }

    /// Names the key that seals: 8 hexadecimal digits.
    #[must_use]
    pub fn key_id(&self) -> String {
        self.today.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `sealed` says that the key that seals today sealed it.
    #[must_use]
    pub fn is_todays(&self, sealed: &[u8]) -> bool {
        sealed.get(1..=KEY_ID) == Some(&self.today.id)
    }

    /// A text that was sealed.
    ///
    /// # Errors
    /// As [`Sealer::open`]; [`SealError::Damaged`] also for what is no text.
    pub fn open_text(&self, context: &str, sealed: &[u8]) -> Result<Secret<String>, SealError> {
        let opened = self.open(context, sealed)?;
        std::str::from_utf8(opened.expose()).map(|text| Secret::new(text.to_owned())).map_err(|_| SealError::Damaged)
    }

    /// The same, sealed under today's key.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn reseal(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal(context, self.open(context, sealed)?.expose())
    }

    /// # Errors
    /// [`SealError::Key`].
    pub fn new<'s>(secret: &Secret<String>, before: impl Iterator<Item = &'s str>) -> Result<Self, SealError> {
        Ok(Self { today: Key::of(secret.expose())?, before: before.map(Key::of).collect::<Result<_, _>>()? })
    }

    /// `context` names what the bytes are for and whose they are.
    ///
    /// # Errors
    /// [`SealError::Key`].
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut body = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.today
            .key
            .seal_in_place_append_tag(unique, Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| SealError::Key)?;
        Ok([&[FORMAT][..], &self.today.id, &nonce, &body].concat())
    }

    /// # Errors
    /// [`SealError::OtherKey`], [`SealError::Damaged`].
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Secret<Vec<u8>>, SealError> {
        let (head, rest) = sealed.split_at_checked(1 + KEY_ID).ok_or(SealError::Damaged)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        let Some((&FORMAT, id)) = head.split_first() else { return Err(SealError::Damaged) };
        let known = std::iter::once(&self.today).chain(&self.before).find(|known| known.id == id);
        let key = &known.ok_or(SealError::OtherKey)?.key;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut body);
        let length = opened.map_err(|_| SealError::Damaged)?.len();
        body.truncate(length);
        Ok(Secret::new(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secret: &str) -> Sealer {
        Sealer::new(&Secret::new(secret.to_owned()), std::iter::empty()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_key_alone() {
        let mine = sealer("a secret of the tests that is long enough");
        let sealed = mine.seal("users.mfa_secret:1", b"seed").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"seed"));
        assert_eq!(mine.open("users.mfa_secret:1", &sealed).unwrap().expose(), b"seed");
        assert_eq!(mine.open("users.mfa_secret:2", &sealed), Err(SealError::Damaged));
        assert_eq!(sealer("another secret").open("users.mfa_secret:1", &sealed), Err(SealError::OtherKey));
        let later =
            Sealer::new(&Secret::new("later".to_owned()), ["a secret of the tests that is long enough"].into_iter());
        assert_eq!(later.unwrap().open("users.mfa_secret:1", &sealed).unwrap().expose(), b"seed");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(mine.open("users.mfa_secret:1", &altered).is_err(), "{at}");
            assert!(mine.open("users.mfa_secret:1", &sealed[..at]).is_err(), "{at}");
        }
        assert_ne!(sealed, mine.seal("users.mfa_secret:1", b"seed").unwrap(), "a nonce is used once");
    }

    #[test]
    fn what_the_signing_secret_sealed_is_sealed_anew_under_a_key_of_its_own() {
        let secret = |text: &str| Some(Secret::new(text.repeat(8)));
        let auth = AuthConfig { jwt_secret: secret("jwt-"), ..AuthConfig::default() };
        let first = Sealer::of(&EncryptionConfig::default(), &auth).unwrap();
        let second = Sealer::of(&EncryptionConfig { key: secret("key-"), previous_key: None }, &auth).unwrap();
        let third = EncryptionConfig { key: secret("new-"), previous_key: secret("key-") };
        let third = Sealer::of(&third, &AuthConfig::default()).unwrap();
        let sealed = first.seal("place", b"seed").unwrap();
        assert!(first.is_todays(&sealed) && !second.is_todays(&sealed));
        let sealed = second.reseal("place", &sealed).unwrap();
        let sealed = third.reseal("place", &sealed).unwrap();
        assert!(third.is_todays(&sealed) && third.open("place", &sealed).unwrap().expose() == b"seed");
        assert_eq!(third.reseal("place", &first.seal("place", b"seed").unwrap()), Err(SealError::OtherKey));
        assert_eq!(Sealer::of(&EncryptionConfig::default(), &AuthConfig::default()).err(), Some(SealError::Key));
        assert_ne!(second.key_id(), third.key_id());
    }
}
