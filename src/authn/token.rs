//! The tokens of a person's session: a short-lived signed access token and a random refresh token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::{OrgId, Secret, SessionId, Timestamp, UserId};

/// Who access tokens are for.
const AUDIENCE: &str = "sentinel-admin";

/// What an access token says. It names the session; what the person may do is looked up on every request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub sub: UserId,
    pub org: OrgId,
    pub sid: SessionId,
    /// The role at the time of issue, for the eyes of clients only.
    pub role: Option<String>,
    /// Seconds since 1970.
    pub iat: i64,
    pub exp: i64,
    pub iss: String,
    pub aud: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not signed by us, not for us, or not a token.
    #[error("the access token is invalid")]
    Invalid,
    #[error("the access token has expired")]
    Expired,
    #[error("the access token cannot be signed")]
    Unsigned,
}

/// One secret, and how tokens name it.
struct Key {
    id: String,
    decoding: DecodingKey,
}

impl Key {
    fn new(secret: &str) -> Self {
        let digest = Sha256::new_with_prefix("sentinel access token key").chain_update(secret).finalize();
        let id = URL_SAFE_NO_PAD.encode(digest.get(..8).unwrap_or_default());
        Self { id, decoding: DecodingKey::from_secret(secret.as_bytes()) }
    }
}

/// Signs and checks access tokens: HMAC-SHA256 and nothing else. Signs with the current secret; accepts what former ones
/// have signed. The header's `kid` says which.
pub struct Tokens {
    encoding: EncodingKey,
    current: Key,
    previous: Vec<Key>,
    validation: Validation,
    issuer: String,
    ttl: Duration,
}

impl Tokens {
    #[must_use]
    pub fn new<'p>(
        secret: &Secret<String>,
        previous: impl Iterator<Item = &'p str>,
        issuer: &str,
        ttl: Duration,
    ) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Time is compared below, against the clock that the rest of Sentinel lives by.
        validation.validate_exp = false;
        Self {
            encoding: EncodingKey::from_secret(secret.expose().as_bytes()),
            current: Key::new(secret.expose()),
            previous: previous.map(Key::new).collect(),
            validation,
            issuer: issuer.to_owned(),
            ttl,
        }
    }

    /// How long an access token lives.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// # Errors
    /// [`TokenError::Unsigned`].
    pub fn issue(
        &self,
        user: UserId,
        org: OrgId,
        session: SessionId,
        role: Option<String>,
        now: Timestamp,
    ) -> Result<Secret<String>, TokenError> {
        let claims = Claims {
            sub: user,
            org,
            sid: session,
            role,
            iat: now.seconds(),
            exp: now.plus(self.ttl).seconds(),
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
        };
        let header = Header { kid: Some(self.current.id.clone()), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding);
        token.map(Secret::new).map_err(|_| TokenError::Unsigned)
    }

    /// # Errors
    /// [`TokenError::Invalid`], [`TokenError::Expired`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let key = match header.kid {
            // Signed by a version that did not name its key.
            None => &self.current,
            Some(id) => std::iter::once(&self.current)
                .chain(&self.previous)
                .find(|key| key.id == id)
                .ok_or(TokenError::Invalid)?,
        };
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &self.validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        if claims.exp <= now.seconds() { Err(TokenError::Expired) } else { Ok(claims) }
    }
}

/// 256 random bits that are worth something once: new tokens or, in a mailed link, a new password. Stored as SHA-256 only:
/// no slower hash is needed for what cannot be guessed.
#[derive(Clone, Debug)]
pub struct RefreshToken(Secret<String>);

impl RefreshToken {
    #[must_use]
    pub fn generate() -> Self {
        Self(Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Self::hash_of(self.expose())
    }

    /// The hash of what someone presents as a refresh token.
    #[must_use]
    pub fn hash_of(presented: &str) -> [u8; 32] {
        Sha256::digest(presented.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of the tests that is long enough";
    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn tokens(secret: &str, issuer: &str) -> Tokens {
        Tokens::new(&Secret::new(secret.to_owned()), std::iter::empty(), issuer, Duration::from_secs(900))
    }

    fn issue(tokens: &Tokens) -> (SessionId, String) {
        let session = SessionId::new();
        let token = tokens.issue(UserId::new(), OrgId::new(), session, Some("owner".into()), NOW).unwrap();
        (session, token.expose().clone())
    }

    fn with_claims(header: &str, claims: &serde_json::Value, signature: &str) -> String {
        let body = URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let tokens = tokens(SECRET, "http://localhost:8000");
        let (session, token) = issue(&tokens);
        assert_eq!(tokens.verify(&token, NOW).unwrap().sid, session);
        assert!(tokens.verify(&token, NOW.plus(Duration::from_secs(899))).is_ok());
        assert_eq!(tokens.verify(&token, NOW.plus(Duration::from_secs(900))), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_of_another_secret_or_issuer_is_refused() {
        let (_, token) = issue(&tokens(SECRET, "http://localhost:8000"));
        let other_secret = tokens("another secret that is long enough too", "http://localhost:8000");
        assert_eq!(other_secret.verify(&token, NOW), Err(TokenError::Invalid));
        assert_eq!(tokens(SECRET, "https://elsewhere").verify(&token, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn a_former_secret_is_accepted_as_long_as_it_is_listed_and_signs_nothing() {
        const ISSUER: &str = "http://localhost:8000";
        let new = |previous: &[&str]| {
            let secret = Secret::new("the secret that came after the other".to_owned());
            Tokens::new(&secret, previous.iter().copied(), ISSUER, Duration::from_secs(900))
        };
        let old = tokens(SECRET, ISSUER);
        let (session, token) = issue(&old);
        assert_eq!(new(&["an even older one of enough length", SECRET]).verify(&token, NOW).unwrap().sid, session);
        assert_eq!(new(&[]).verify(&token, NOW), Err(TokenError::Invalid));
        let (_, token) = issue(&new(&[SECRET]));
        assert_eq!(old.verify(&token, NOW), Err(TokenError::Invalid));
        assert!(new(&[]).verify(&token, NOW).is_ok());
        // The header names the key, but does not choose what it is checked with.
        let (_, stolen) = issue(&tokens("a secret that someone else made up for it", ISSUER));
        let mut parts = stolen.split('.');
        let header = token.split('.').next().unwrap();
        let renamed = format!("{header}.{}.{}", parts.nth(1).unwrap(), parts.next().unwrap());
        assert_eq!(new(&[SECRET]).verify(&renamed, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn a_token_without_a_key_id_is_checked_with_the_current_secret() {
        let tokens = tokens(SECRET, "http://localhost:8000");
        let (_, token) = issue(&tokens);
        let claims = tokens.verify(&token, NOW).unwrap();
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        assert_eq!(tokens.verify(&token, NOW).unwrap(), claims);
    }

    #[test]
    fn no_other_algorithm_and_no_other_claims_pass() {
        let tokens = tokens(SECRET, "http://localhost:8000");
        let (_, token) = issue(&tokens);
        let (_, claims) = (token.split('.').next(), token.split('.').nth(1).unwrap());
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let signature = token.rsplit('.').next().unwrap();
        let none = with_claims(r#"{"typ":"JWT","alg":"none"}"#, &claims, "");
        assert_eq!(tokens.verify(&none, NOW), Err(TokenError::Invalid));
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap();
            assert_eq!(tokens.verify(&token, NOW), Err(TokenError::Invalid), "{algorithm:?}");
        }
        let mut altered = claims.clone();
        altered["exp"] = serde_json::json!(i64::MAX);
        let altered = with_claims(r#"{"typ":"JWT","alg":"HS256"}"#, &altered, signature);
        assert_eq!(tokens.verify(&altered, NOW), Err(TokenError::Invalid));
        for missing in ["aud", "iss", "exp", "sub"] {
            let mut partial = claims.clone();
            partial.as_object_mut().unwrap().remove(missing);
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &partial, &key).unwrap();
            assert_eq!(tokens.verify(&token, NOW), Err(TokenError::Invalid), "without {missing}");
        }
    }

    #[test]
    fn refresh_tokens_differ_and_are_not_printed() {
        let (a, b) = (RefreshToken::generate(), RefreshToken::generate());
        assert_eq!(a.expose().len(), 43);
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.hash(), RefreshToken::hash_of(a.expose()));
        assert_eq!(format!("{a:?}"), "RefreshToken(Secret(…))");
    }
}
