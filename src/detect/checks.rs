//! Check digits and number ranges of published identifiers.
#![expect(clippy::indexing_slicing, reason = "fixed-size tables indexed by digits and bytes")]

use sha2::{Digest as _, Sha256};

/// Luhn, ISO/IEC 7812-1 annex B, over digit values.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| {
            let d = u32::from(*d);
            if i % 2 == 0 {
                d
            } else if d > 4 {
                d * 2 - 9
            } else {
                d * 2
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether the first digits belong to a card network and the length fits it (issuer ranges as published by the networks).
pub(super) fn card_network(digits: &[u8]) -> bool {
    let prefix = |n: usize| digits.iter().take(n).fold(0u32, |value, d| value * 10 + u32::from(*d));
    let (one, two, three, four, six) = (prefix(1), prefix(2), prefix(3), prefix(4), prefix(6));
    let n = digits.len();
    match () {
        () if one == 4 => matches!(n, 13 | 16 | 19), // Visa
        () if (51..=55).contains(&two) || (2221..=2720).contains(&four) => n == 16, // Mastercard
        () if two == 34 || two == 37 => n == 15,     // American Express
        () if four == 6011 || two == 65 || (644..=649).contains(&three) => (16..=19).contains(&n), // Discover
        () if (622_126..=622_925).contains(&six) || two == 62 => (16..=19).contains(&n), // UnionPay
        () if (3528..=3589).contains(&four) => (16..=19).contains(&n), // JCB
        () if (300..=305).contains(&three) || two == 36 || two == 38 || two == 39 => (14..=19).contains(&n), // Diners
        () if two == 50 || (56..=69).contains(&two) => (12..=19).contains(&n), // Maestro and others
        () if (2200..=2204).contains(&four) => (16..=19).contains(&n), // Mir
        () if four == 1800 || four == 2131 => n == 15, // JCB, older
        () => false,
    }
}

/// Social security numbers that can have been issued (SSA, randomisation of 2011).
pub(super) fn ssn(area: u32, group: u32, serial: u32) -> bool {
    area != 0 && area != 666 && area < 900 && group != 0 && serial != 0
        && !(area == 78 && group == 5 && serial == 1120) // the Woolworth wallet
        && !(area == 219 && group == 9 && serial == 9999)
        && !(area == 123 && group == 45 && serial == 6789)
}

/// Individual taxpayer numbers: 9xx, groups 50–65, 70–88, 90–92, 94–99 (IRS publication 1915).
pub(super) fn itin(area: u32, group: u32) -> bool {
    (900..1000).contains(&area) && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

/// Length of an IBAN by country (SWIFT IBAN registry).
pub(super) fn iban_len(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FO" | b"FK" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"XK" | b"MN" => 20,
        b"CH" | b"CR" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HU" | b"LB" | b"NI" | b"PL" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

/// ISO 7064 MOD 97-10 over an IBAN without spaces, in upper case.
pub(super) fn iban_mod97(iban: &[u8]) -> bool {
    let mut rest = 0u32;
    for byte in iban.iter().skip(4).chain(iban.iter().take(4)) {
        rest = match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            b'A'..=b'Z' => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
            _ => return false,
        };
    }
    rest == 1
}

/// NHS number: ten digits, weights 10 to 2, modulus 11.
pub(super) fn nhs(digits: &[u8]) -> bool {
    if digits.len() != 10 {
        return false;
    }
    let sum: u32 = digits.iter().take(9).zip((2..=10).rev()).map(|(d, weight)| u32::from(*d) * weight).sum();
    let check = (11 - sum % 11) % 11;
    check == u32::from(digits[9]) && digits.iter().any(|d| *d != digits[0])
}

/// ABA routing number: nine digits, weights 3 7 1, and a Federal Reserve prefix.
pub(super) fn aba(digits: &[u8]) -> bool {
    if digits.len() != 9 || digits.iter().all(|d| *d == 0) {
        return false;
    }
    let sum: u32 = digits.iter().zip([3, 7, 1].iter().cycle()).map(|(d, weight)| u32::from(*d) * weight).sum();
    let prefix = digits[0] * 10 + digits[1];
    sum.is_multiple_of(10) && matches!(prefix, 0..=12 | 21..=32 | 61..=72 | 80)
}

/// UK national insurance number prefixes that are in use (HMRC NIM39110).
pub(super) fn nino_prefix(first: u8, second: u8) -> bool {
    first.is_ascii_uppercase()
        && second.is_ascii_uppercase()
        && !b"DFIQUV".contains(&first)
        && !b"DFIQUVO".contains(&second)
        && !matches!(&[first, second], b"BG" | b"GB" | b"NK" | b"KN" | b"TN" | b"NT" | b"ZZ")
}

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Base58Check as Bitcoin's P2PKH and P2SH addresses use it: 25 bytes, the last four a double SHA-256.
pub(super) fn base58check(text: &[u8]) -> bool {
    let mut bytes = [0u8; 25];
    for c in text {
        let Some(digit) = BASE58.iter().position(|b| b == c) else { return false };
        let mut carry = digit;
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = (carry & 0xFF) as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let (payload, check) = bytes.split_at(21);
    let digest = Sha256::digest(Sha256::digest(payload));
    digest.iter().zip(check).all(|(a, b)| a == b)
}

/// Bech32 and Bech32m (BIP 173, BIP 350) checksum of a lower-case string with its human-readable part.
pub(super) fn bech32(text: &[u8]) -> bool {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let Some(split) = memchr::memrchr(b'1', text) else { return false };
    let (hrp, data) = text.split_at(split);
    let mut state = 1u32;
    let mut step = |value: u32| {
        let top = state >> 25;
        state = ((state & 0x1ff_ffff) << 5) ^ value;
        for (i, g) in GENERATOR.iter().enumerate() {
            if (top >> i) & 1 == 1 {
                state ^= g;
            }
        }
    };
    hrp.iter().for_each(|c| step(u32::from(c.to_ascii_lowercase() >> 5)));
    step(0);
    hrp.iter().for_each(|c| step(u32::from(c.to_ascii_lowercase() & 31)));
    for c in data.iter().skip(1) {
        let Some(value) = ALPHABET.iter().position(|a| *a == c.to_ascii_lowercase()) else { return false };
        step(value as u32);
    }
    state == 1 || state == 0x2bc8_30a3
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether the last six characters are the CRC-32 of `body` in base62, most significant first (GitHub, npm, Sentinel keys).
pub(super) fn crc32_base62(body: &[u8], check: &[u8]) -> bool {
    let mut crc = crc32fast::hash(body);
    for byte in check.iter().rev() {
        if BASE62[(crc % 62) as usize] != *byte {
            return false;
        }
        crc /= 62;
    }
    crc == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect()
    }

    #[test]
    fn published_test_numbers_pass_and_one_changed_digit_does_not() {
        assert!(luhn(&digits("4111 1111 1111 1111")) && !luhn(&digits("4111 1111 1111 1112")));
        assert!(iban_mod97(b"GB82WEST12345698765432") && !iban_mod97(b"GB82WEST12345698765433"));
        assert!(nhs(&digits("943 476 5919")) && !nhs(&digits("943 476 5918")));
        assert!(aba(&digits("021000021")) && !aba(&digits("021000022")));
        assert!(base58check(b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"));
        assert!(!base58check(b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"));
        assert!(bech32(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"));
        assert!(!bech32(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"));
    }

    #[test]
    fn ranges_that_were_never_issued_are_refused() {
        assert!(ssn(536, 90, 4399) && !ssn(666, 12, 3456) && !ssn(0, 12, 3456) && !ssn(900, 12, 3456));
        assert!(itin(912, 70) && !itin(912, 69) && !itin(812, 70));
        assert!(nino_prefix(b'A', b'B') && !nino_prefix(b'G', b'B') && !nino_prefix(b'D', b'A'));
    }
}
