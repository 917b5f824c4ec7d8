//! The API key's format: `snt_live_` or `snt_test_`, 32 random base62 characters (190 bits), and 6 base62 characters
//! of CRC-32 (ISO-HDLC) over everything before. A mistyped key is refused without a look-up.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use rand::RngExt as _;
use sha2::{Digest as _, Sha256};

use crate::domain::Secret;
use crate::store::KeyHash;

/// What every Sentinel key starts with.
pub const KEY_PREFIXES: [&str; 2] = ["snt_live_", "snt_test_"];

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM: usize = 32;
const CHECK: usize = 6;

/// Not the text of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Sentinel API key")]
pub struct MalformedKey;

/// The text of a well-formed key.
#[derive(Clone, Debug)]
pub struct ApiKeySecret(Secret<String>);

impl ApiKeySecret {
    /// A new random key.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "a bool indexes two prefixes, a number below 62 the 62 digits")]
    pub fn generate(live: bool) -> Self {
        let mut rng = rand::rng();
        let mut text = String::from(KEY_PREFIXES[usize::from(!live)]);
        text.extend((0..RANDOM).map(|_| char::from(BASE62[rng.random_range(0..62)])));
        let check = checksum(&text);
        text.push_str(&check);
        Self(Secret::new(text))
    }

    /// # Errors
    /// When prefix, length, alphabet or checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let prefix = KEY_PREFIXES.iter().find(|prefix| text.starts_with(**prefix)).ok_or(MalformedKey)?;
        let rest = text.get(prefix.len()..).ok_or(MalformedKey)?;
        if rest.len() != RANDOM + CHECK || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(MalformedKey);
        }
        let (body, check) = text.split_at_checked(text.len() - CHECK).ok_or(MalformedKey)?;
        if checksum(body) != check {
            return Err(MalformedKey);
        }
        Ok(Self(Secret::new(text.to_owned())))
    }

    /// Whether a header value carries a Sentinel key, well-formed or not: such a value never leaves.
    #[must_use]
    pub fn looks_like(value: &[u8]) -> bool {
        // Made once: every header value of every request is looked at.
        static START: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("snt_"));
        let mut rest = value;
        // Not `find_iter`, which copies the searcher for every value.
        while let Some(found) = START.find(rest).and_then(|at| rest.get(at..)) {
            if KEY_PREFIXES.iter().any(|prefix| found.starts_with(prefix.as_bytes())) {
                return true;
            }
            rest = found.get(1..).unwrap_or_default();
        }
        false
    }

    /// The key itself, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.expose().as_bytes()).into())
    }

    /// `snt_live_` and the first four random characters, for display.
    #[must_use]
    pub fn display_prefix(&self) -> String {
        self.expose().chars().take(13).collect()
    }

    #[must_use]
    pub fn last_four(&self) -> String {
        let text = self.expose();
        text.get(text.len() - 4..).unwrap_or_default().to_owned()
    }
}

/// Six base62 digits, most significant first.
#[expect(clippy::indexing_slicing, reason = "a remainder of 62 indexes 62 digits")]
fn checksum(text: &str) -> String {
    let mut crc = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(crc % 62) as usize];
        crc /= 62;
    }
    digits.iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_well_formed_and_a_mistyped_one_is_not() {
        let key = ApiKeySecret::generate(true);
        let text = key.expose();
        assert_eq!(text.len(), 9 + 32 + 6);
        assert_eq!(ApiKeySecret::parse(text).unwrap().hash(), key.hash());
        let typo: String =
            text.chars().enumerate().map(|(i, c)| if i == 20 { if c == 'x' { 'y' } else { 'x' } } else { c }).collect();
        assert_eq!(ApiKeySecret::parse(&typo).unwrap_err(), MalformedKey);
        for bad in ["", "snt_live_", "sk_live_abc", "snt_live_é", &format!("{text}0")] {
            assert!(ApiKeySecret::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_seen_wherever_it_stands_in_a_value() {
        for value in ["snt_live_x", "Bearer snt_test_x", "snt_snt_live_", "a=1; k=snt_other_1 snt_live_"] {
            assert!(ApiKeySecret::looks_like(value.as_bytes()), "{value}");
        }
        for value in ["", "snt_", "snt_other_1", "SNT_LIVE_X", "sk-live-1"] {
            assert!(!ApiKeySecret::looks_like(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let key = ApiKeySecret::generate(false);
        assert_eq!(format!("{key:?}"), "ApiKeySecret(Secret(…))");
    }
}
