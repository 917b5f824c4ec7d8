//! Values inside of tokens: AES-256-GCM-SIV, so that a value is the same token every time and tells nothing but that.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes of a value that are put into a token.
pub(super) const MAX_VALUE: usize = 256;
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Seals under the first key, opens under all.
pub struct Vault {
    keys: Vec<LessSafeKey>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// Of keys of 32 bytes; those that are not are left out.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        let keys = keys.into_iter().filter_map(|key| UnboundKey::new(&AES_256_GCM_SIV, key).ok());
        Self { keys: keys.map(LessSafeKey::new).collect() }
    }

    /// None when the value is too long for a token.
    pub(super) fn seal(&self, place: &str, label: &str, value: &str) -> Option<String> {
        let key = self.keys.first().filter(|_| value.len() <= MAX_VALUE)?;
        let mut bytes = value.as_bytes().to_vec();
        key.seal_in_place_append_tag(nonce(), Aad::from(bound(place, label)), &mut bytes).ok()?;
        Some(written(&bytes))
    }

    pub(super) fn open(&self, place: &str, label: &str, sealed: &str) -> Option<String> {
        let bytes = read(sealed)?;
        self.keys.iter().find_map(|key| {
            let mut bytes = bytes.clone();
            let value = key.open_in_place(nonce(), Aad::from(bound(place, label)), &mut bytes).ok()?;
            String::from_utf8(value.to_vec()).ok()
        })
    }
}

/// Always the same: what the mode loses by it is that equal values are equal tokens, which is what they are for (RFC 8452).
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn bound(place: &str, label: &str) -> Vec<u8> {
    [label.as_bytes(), b"\0", place.as_bytes()].concat()
}

/// Base32 without padding (RFC 4648), which survives a change of case.
fn written(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut kept, mut bits) = (0_u32, 0_u32);
    let mut push = |value: u32| {
        let letter = usize::try_from(value & 31).ok().and_then(|at| LETTERS.get(at)).copied();
        out.extend(letter.map(char::from));
    };
    for byte in bytes {
        kept = (kept << 8 | u32::from(*byte)) & 0xFFFF;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(kept >> bits);
        }
    }
    if bits > 0 {
        push(kept << (5 - bits));
    }
    out
}

fn read(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut kept, mut bits) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let value = LETTERS.iter().position(|known| *known == letter.to_ascii_uppercase())?;
        kept = (kept << 5 | u32::try_from(value).ok()?) & 0xFFFF;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(kept >> bits & 0xFF).ok()?);
        }
    }
    // What is left over belongs to no byte.
    (bits < 5 && kept & ((1 << bits) - 1) == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_bytes_and_back() {
        assert_eq!(written(b"foobar"), "MZXW6YTBOI");
        for length in 0..40_u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(37)).collect();
            assert_eq!(read(&written(&bytes).to_lowercase()).unwrap(), bytes);
        }
        assert_eq!((read("MZXW6YTBO8"), read("M"), read("MZ1")), (None, None, None));
    }

    #[test]
    fn a_value_opens_in_its_place_under_its_key_alone_and_is_the_same_every_time() {
        let vault = |key: u8| Vault::new([&[key; 32][..]]);
        let sealed = vault(1).seal("acme", "EMAIL_ADDRESS", "ada@example.com").unwrap();
        assert_eq!(vault(1).seal("acme", "EMAIL_ADDRESS", "ada@example.com").as_ref(), Some(&sealed));
        let opened = |vault: &Vault, place: &str, label: &str| vault.open(place, label, &sealed);
        assert_eq!(opened(&vault(1), "acme", "EMAIL_ADDRESS").as_deref(), Some("ada@example.com"));
        let later = Vault::new([&[2; 32][..], &[1; 32]]);
        assert_eq!(opened(&later, "acme", "EMAIL_ADDRESS").as_deref(), Some("ada@example.com"));
        assert_eq!(opened(&vault(2), "acme", "EMAIL_ADDRESS"), None);
        assert_eq!(opened(&vault(1), "other", "EMAIL_ADDRESS"), None);
        assert_eq!(opened(&vault(1), "acme", "PHONE_NUMBER"), None);
        assert_eq!(vault(1).seal("acme", "EMAIL_ADDRESS", &"a".repeat(MAX_VALUE + 1)), None);
        assert!(super::super::placeholder::SEALED.contains(&sealed.len()));
        let longest = vault(1).seal("acme", "EMAIL_ADDRESS", &"a".repeat(MAX_VALUE)).unwrap();
        assert!(super::super::placeholder::SEALED.contains(&longest.len()));
    }
}
