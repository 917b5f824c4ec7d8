//! What can be verified about a token without asking its provider.
#![expect(clippy::indexing_slicing, reason = "lengths are compared before each cut")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::detect::checks;

/// Structure checks by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::detect) enum Check {
    /// CRC-32 of what lies between `_` and the last six characters, in base62 (GitHub, npm).
    TokenCrc32,
    /// The same over the prefix as well (Sentinel).
    KeyCrc32,
    /// First part decodes to JSON with `alg`, second to JSON.
    Jwt,
    /// `user:password` in base64.
    Basic,
    /// Digits and letters of both kinds must occur.
    Mixed,
    /// Bech32 checksum (age).
    Bech32,
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detect) enum Proof {
    Proven,
    Unproven,
    Refuted,
}

impl Check {
    pub(in crate::detect) fn prove(self, value: &[u8]) -> Proof {
        match self {
            Self::TokenCrc32 => {
                let body = value.iter().position(|b| *b == b'_').map_or(value, |at| &value[at + 1..]);
                graded(body.len() > 6 && checks::crc32_base62(&body[..body.len() - 6], &body[body.len() - 6..]))
            }
            Self::KeyCrc32 => {
                graded(value.len() > 6 && checks::crc32_base62(&value[..value.len() - 6], &value[value.len() - 6..]))
            }
            Self::Jwt => jwt(value),
            Self::Basic => basic(value),
            Self::Mixed => {
                let (mut digit, mut letter) = (false, false);
                for b in value.iter().skip(3) {
                    digit |= b.is_ascii_digit();
                    letter |= b.is_ascii_alphabetic();
                }
                if digit && letter { Proof::Proven } else { Proof::Refuted }
            }
            Self::Bech32 => graded(checks::bech32(&value.to_ascii_lowercase())),
        }
    }
}

fn graded(valid: bool) -> Proof {
    if valid { Proof::Proven } else { Proof::Unproven }
}

fn jwt(value: &[u8]) -> Proof {
    let mut parts = value.split(|b| *b == b'.');
    let header = parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let (Some(header), Some(claims)) = (header, claims) else { return Proof::Refuted };
    let names_algorithm = serde_json::from_slice::<serde_json::Value>(&header)
        .is_ok_and(|header| header.get("alg").is_some() || header.get("enc").is_some());
    match (names_algorithm, claims.first() == Some(&b'{')) {
        (true, true) => Proof::Proven,
        (true, false) => Proof::Unproven,
        _ => Proof::Refuted,
    }
}

fn basic(value: &[u8]) -> Proof {
    let token = value.rsplit(|b| *b == b' ').next().unwrap_or(value);
    let trimmed = token.iter().rposition(|b| *b != b'=').map_or(&token[..0], |last| &token[..=last]);
    match STANDARD_NO_PAD.decode(trimmed) {
        Ok(plain) if plain.contains(&b':') && plain.iter().all(|b| !b.is_ascii_control()) => Proof::Proven,
        _ => Proof::Refuted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_is_recognised_by_its_decoded_header() {
        let good = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
        assert_eq!(Check::Jwt.prove(good), Proof::Proven);
        assert_eq!(Check::Jwt.prove(b"eyJub3QiOiJhIGp3dCJ9.eyJzdWIiOiIxIn0.abc"), Proof::Refuted);
    }

    #[test]
    fn basic_credentials_are_user_colon_password() {
        assert_eq!(Check::Basic.prove(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), Proof::Proven);
        assert_eq!(Check::Basic.prove(b"Basic cGxhaW4gd29yZHM="), Proof::Refuted);
    }
}
