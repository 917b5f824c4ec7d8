//! The second factor: time-based codes (RFC 6238: SHA-1, six digits, thirty seconds) and the codes that replace it once.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::{Secret, Timestamp, UserId};

/// Seconds that a code is shown.
const STEP: i64 = 30;
/// RFC 4226 recommends 160 bits.
const SECRET: usize = 20;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What an authenticator app and Sentinel share.
pub struct TotpSecret(Secret<Vec<u8>>);

impl TotpSecret {
    #[must_use]
    pub fn generate() -> Self {
        Self(Secret::new(rand::random::<[u8; SECRET]>().to_vec()))
    }

    #[must_use]
    pub const fn from_bytes(bytes: Secret<Vec<u8>>) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// As people type it: base32 without padding.
    #[must_use]
    pub fn base32(&self) -> String {
        base32(self.expose())
    }

    /// What an authenticator app reads from a QR code.
    #[must_use]
    pub fn otpauth_url(&self, account: &str) -> String {
        let account: String = url::form_urlencoded::byte_serialize(account.as_bytes()).collect();
        let account = account.replace('+', "%20");
        let secret = self.base32();
        format!("otpauth://totp/Sentinel:{account}?secret={secret}&issuer=Sentinel&algorithm=SHA1&digits=6&period=30")
    }

    /// The time step whose code this is: the present one, or one beside it for clocks that are off.
    #[must_use]
    pub fn step_of(&self, code: &str, now: Timestamp) -> Option<i64> {
        let present = now.seconds().div_euclid(STEP);
        let mut found = None;
        for step in [present - 1, present, present + 1] {
            let expected = self.code(step)?;
            if bool::from(expected.as_bytes().ct_eq(code.as_bytes())) {
                found = Some(step);
            }
        }
        found
    }

    fn code(&self, step: i64) -> Option<String> {
        let mut mac = Hmac::<Sha1>::new_from_slice(self.expose()).ok()?;
        mac.update(&step.to_be_bytes());
        let digest: [u8; 20] = mac.finalize().into_bytes().into();
        let at = usize::from(digest.last()? & 0xf);
        let number = u32::from_be_bytes(digest.get(at..at + 4)?.try_into().ok()?) & 0x7fff_ffff;
        Some(format!("{:06}", number % 1_000_000))
    }
}

fn base32(bytes: &[u8]) -> String {
    let (mut text, mut bits, mut count) = (String::new(), 0_u32, 0_u32);
    let mut push = |bits: u32| text.extend(ALPHABET.get((bits & 31) as usize).map(|letter| char::from(*letter)));
    for byte in bytes {
        bits = (bits << 8 | u32::from(*byte)) & 0xffff;
        count += 8;
        while count >= 5 {
            count -= 5;
            push(bits >> count);
        }
    }
    if count > 0 {
        push(bits << (5 - count));
    }
    text
}

/// Ten codes that each replace the second factor once.
pub struct RecoveryCodes(Vec<String>);

impl RecoveryCodes {
    /// 80 random bits each, in four groups.
    #[must_use]
    pub fn generate() -> Self {
        let code = |_| {
            let text = base32(&rand::random::<[u8; 10]>()).to_lowercase();
            text.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join("-")
        };
        Self((0..10).map(code).collect())
    }

    /// To be shown once.
    #[must_use]
    pub fn into_codes(self) -> Vec<String> {
        self.0
    }

    #[must_use]
    pub fn hashes(&self, user: UserId) -> Vec<String> {
        self.0.iter().map(|code| Self::hash_of(user, code)).collect()
    }

    /// The hash of what someone presents as a code: case and dashes do not matter. No slower hash is needed for what
    /// cannot be guessed.
    #[must_use]
    pub fn hash_of(user: UserId, presented: &str) -> String {
        let plain: String = presented.chars().filter(char::is_ascii_alphanumeric).collect();
        let digest = Sha256::digest(format!("{user}:{}", plain.to_lowercase()).as_bytes());
        digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc() -> TotpSecret {
        TotpSecret::from_bytes(Secret::new(b"12345678901234567890".to_vec()))
    }

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// RFC 6238, appendix B, the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let table = [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ];
        for (seconds, code) in table {
            assert_eq!(rfc().step_of(code, at(seconds)), Some(seconds / 30), "{seconds}");
        }
    }

    #[test]
    fn a_code_is_good_one_step_before_and_after_and_no_longer() {
        let good: Vec<i64> =
            (-3..=3).filter(|n| rfc().step_of("050471", at(1_111_111_111 + n * 30)).is_some()).collect();
        assert_eq!(good, [-1, 0, 1]);
        for other in ["", "50471", "0050471", "050472", "05047a"] {
            assert_eq!(rfc().step_of(other, at(1_111_111_111)), None, "{other}");
        }
    }

    /// RFC 4648, section 10, without its padding.
    #[test]
    fn base32_is_that_of_the_rfc() {
        let table =
            [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("fooba", "MZXW6YTB")];
        for (plain, text) in table {
            assert_eq!(base32(plain.as_bytes()), text);
        }
        let url = rfc().otpauth_url("a b@acme.com");
        assert!(
            url.starts_with("otpauth://totp/Sentinel:a%20b%40acme.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&"),
            "{url}"
        );
    }

    #[test]
    fn recovery_codes_differ_and_are_read_without_case_and_dashes() {
        let user = UserId::new();
        let codes = RecoveryCodes::generate();
        let hashes: std::collections::BTreeSet<_> = codes.hashes(user).into_iter().collect();
        assert_eq!(hashes.len(), 10);
        let typed = codes.into_codes().swap_remove(0).replace('-', " ").to_uppercase();
        assert!(hashes.contains(&RecoveryCodes::hash_of(user, &typed)));
        assert!(!hashes.contains(&RecoveryCodes::hash_of(UserId::new(), &typed)));
    }
}
