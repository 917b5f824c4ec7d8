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

/// The upper and lower case of a hexadecimal address of forty digits as EIP-55 sets it; one case throughout says nothing.
pub(super) fn eip55(hex: &[u8]) -> bool {
    if !hex.iter().any(u8::is_ascii_lowercase) || !hex.iter().any(u8::is_ascii_uppercase) {
        return true;
    }
    let digest = keccak256(&hex.to_ascii_lowercase());
    hex.iter().enumerate().all(|(i, byte)| {
        let nibble = digest[i / 2] >> (4 * (1 - i % 2)) & 15;
        !byte.is_ascii_alphabetic() || byte.is_ascii_uppercase() == (nibble >= 8)
    })
}

/// Keccak-256 with the padding from before SHA-3, of less than one block of 136 bytes.
fn keccak256(data: &[u8]) -> [u8; 32] {
    const ROTATIONS: [u32; 24] =
        [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
    const LANES: [usize; 24] = [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];
    let mut block = [0u8; 200];
    block[..data.len()].copy_from_slice(data);
    block[data.len()] = 1;
    block[135] |= 0x80;
    let mut state = [0u64; 25];
    state.iter_mut().zip(block.as_chunks::<8>().0).for_each(|(lane, eight)| *lane = u64::from_le_bytes(*eight));
    // The round constants are bits of a shift register (FIPS 202, 3.2.5).
    let mut register = 1u8;
    for _ in 0..24 {
        let mut parity = [0u64; 5];
        for (i, lane) in state.iter().enumerate() {
            parity[i % 5] ^= lane;
        }
        for (i, lane) in state.iter_mut().enumerate() {
            *lane ^= parity[(i + 4) % 5] ^ parity[(i + 1) % 5].rotate_left(1);
        }
        let mut last = state[1];
        for (lane, rotation) in LANES.iter().zip(ROTATIONS) {
            (state[*lane], last) = (last.rotate_left(rotation), state[*lane]);
        }
        for row in state.as_chunks_mut::<5>().0 {
            let old = *row;
            for (i, lane) in row.iter_mut().enumerate() {
                *lane ^= !old[(i + 1) % 5] & old[(i + 2) % 5];
            }
        }
        for place in [0, 1, 3, 7, 15, 31, 63] {
            state[0] ^= u64::from(register & 1) << place;
            register = register << 1 ^ if register & 0x80 == 0 { 0 } else { 0x71 };
        }
    }
    let mut digest = [0; 32];
    digest.as_chunks_mut::<8>().0.iter_mut().zip(state).for_each(|(eight, lane)| *eight = lane.to_le_bytes());
    digest
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

/// The value of a digit as text.
pub(super) fn digit(byte: u8) -> u32 {
    u32::from(byte.wrapping_sub(b'0'))
}

/// The number that digits stand for.
pub(super) fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, byte| value * 10 + digit(*byte))
}

/// Digits as text, each times its weight.
pub(super) fn sum(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(byte, weight)| digit(*byte) * weight).sum()
}

/// Whether the weighted sum is a multiple.
pub(super) fn weighted(digits: &[u8], weights: &[u32], modulus: u32) -> bool {
    sum(digits, weights).is_multiple_of(modulus)
}

/// Not one character throughout.
pub(super) fn varied(text: &[u8]) -> bool {
    text.iter().any(|byte| Some(byte) != text.first())
}

/// [`luhn`] over digits as text.
pub(super) fn luhn_text(digits: &[u8]) -> bool {
    let mut values = [0u8; 24];
    let values = &mut values[..digits.len().min(24)];
    values.iter_mut().zip(digits).for_each(|(value, byte)| *value = byte.wrapping_sub(b'0'));
    luhn(values)
}

/// `MMDD`.
pub(super) fn month_day(digits: &[u8]) -> bool {
    (1..=12).contains(&number(&digits[..2])) && (1..=31).contains(&number(&digits[2..4]))
}

/// `DDMM`; sixty is added to the day where numbers ran out (Denmark), forty for people without residence.
pub(super) fn day_month(digits: &[u8]) -> bool {
    matches!(number(&digits[..2]), 1..=31 | 61..=91) && (1..=12).contains(&number(&digits[2..4]))
}

/// `YYYYMMDD`.
pub(super) fn date(digits: &[u8]) -> bool {
    (1850..=2100).contains(&number(&digits[..4])) && month_day(&digits[4..])
}

/// The check digit of CPF and CNPJ at `place`: weights 2, 3 … from the right; CNPJ begins again after 9.
pub(super) fn brazilian(digits: &[u8], place: usize) -> bool {
    let most = if digits.len() == 14 { 8 } else { 10 };
    let sum: u32 = digits[..place].iter().rev().enumerate().map(|(i, byte)| digit(*byte) * (2 + i as u32 % most)).sum();
    let rest = sum % 11;
    digit(digits[place]) == if rest < 2 { 0 } else { 11 - rest }
}

/// ISO 7064 MOD 11,10.
pub(super) fn mod_11_10(digits: &[u8]) -> u32 {
    let product = digits.iter().fold(10, |product, byte| {
        let sum = (digit(*byte) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10
}

/// Weights 7 3 1, letters from 10 (ICAO 9303).
pub(super) fn icao(text: &[u8]) -> u32 {
    let value = |byte: u8| if byte.is_ascii_digit() { digit(byte) } else { u32::from(byte - b'A') + 10 };
    text.iter().zip([7, 3, 1].iter().cycle()).map(|(byte, weight)| value(*byte) * weight).sum::<u32>() % 10
}

/// German pension insurance number: area, birth date, letter as two digits, serial, check digit.
pub(super) fn german_pension(id: &[u8]) -> bool {
    let letter = u32::from(id[8] - b'A') + 1;
    let mut digits = [0u8; 12];
    digits[..8].copy_from_slice(&id[..8]);
    digits[8] = b'0' + (letter / 10) as u8;
    digits[9] = b'0' + (letter % 10) as u8;
    digits[10..].copy_from_slice(&id[9..11]);
    let weights = [2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1];
    let cross = |value: u32| value / 10 + value % 10;
    let sum: u32 = digits.iter().zip(weights).map(|(byte, weight)| cross(digit(*byte) * weight)).sum();
    let (day, month) = (number(&id[2..4]), number(&id[4..6]));
    (1..=31).contains(&day) && (1..=12).contains(&month) && sum % 10 == digit(id[11])
}

/// The letter of a Spanish number.
pub(super) fn spanish(digits: &[u8]) -> u8 {
    b"TRWAGMYFPDXBNJZSQVHLCKE"[(number(digits) % 23) as usize]
}

/// Finnish birth date, and serial with its check character.
pub(super) fn finnish(birth: &[u8], serial: &[u8]) -> bool {
    let value = number(birth) * 1000 + number(&serial[..3]);
    day_month(&birth[..4]) && b"0123456789ABCDEFHJKLMNPRSTUVWXY"[(value % 31) as usize] == serial[3]
}

/// French social security number: sex, year, month, place, serial, key 97 minus the rest; `2A` and `2B` are Corsica.
pub(super) fn french(id: &[u8]) -> bool {
    // `2A` counts as 19, `2B` as 18.
    let corsica = match id[6] {
        b'A' => 1_000_000,
        b'B' => 2_000_000,
        b'0'..=b'9' => 0,
        _ => return false,
    };
    let value = id[..13]
        .iter()
        .fold(0u64, |value, byte| value * 10 + if byte.is_ascii_digit() { u64::from(byte - b'0') } else { 0 });
    let month = number(&id[3..5]);
    let key = 97 - (value - corsica) % 97;
    matches!(id[0], b'1' | b'2') && (1..=42).contains(&month) && key == u64::from(number(&id[13..15]))
}

/// Verhoeff's check by the dihedral group of order ten.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTATION: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let times = |a: u32, b: u32| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let check = digits.iter().rev().enumerate().fold(0, |check, (place, byte)| {
        let permuted = (0..place % 8).fold(digit(*byte), |value, _| PERMUTATION[value as usize % 10]);
        times(check, permuted)
    });
    check == 0
}

/// Italian tax code: odd and even places have values of their own, the last letter is the sum modulo 26.
pub(super) fn italian(id: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let place = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' };
    let sum: u32 = id[..15]
        .iter()
        .enumerate()
        .map(|(i, byte)| if i % 2 == 0 { ODD[usize::from(place(*byte))] } else { u32::from(place(*byte)) })
        .sum();
    b"ABCDEHLMPRST".contains(&id[8]) && u32::from(id[15] - b'A') == sum % 26
}

/// The check digit of a CURP: places in an alphabet with `Ñ`, weights 18 down to 2.
pub(super) fn mexican(id: &[u8]) -> bool {
    let value = |byte: u8| match byte {
        b'0'..=b'9' => digit(byte),
        b'A'..=b'N' => u32::from(byte - b'A') + 10,
        _ => u32::from(byte - b'A') + 11,
    };
    let sum: u32 = id[..17].iter().zip((2..=18).rev()).map(|(byte, weight)| value(*byte) * weight).sum();
    (10 - sum % 10) % 10 == digit(id[17])
}

/// Swedish personal number without the century; sixty is added to the day for coordination numbers.
pub(super) fn swedish(id: &[u8]) -> bool {
    let (month, day) = (number(&id[2..4]), number(&id[4..6]));
    (1..=12).contains(&month) && matches!(day, 1..=31 | 61..=91) && luhn_text(id)
}

/// Singapore: weights 2 7 6 5 4 3 2, an offset and an alphabet by the first letter.
pub(super) fn singapore(id: &[u8]) -> bool {
    let sum = sum(&id[1..8], &[2, 7, 6, 5, 4, 3, 2]);
    let (offset, letters): (u32, &[u8; 11]) = match id[0] {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        b'M' => (3, b"XWUTRQPNJLK"),
        _ => return false,
    };
    letters[((sum + offset) % 11) as usize] == id[8]
}

/// Turkey: two check digits.
pub(super) fn turkish(id: &[u8]) -> bool {
    let odd = sum(id, &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = sum(id, &[0, 1, 0, 1, 0, 1, 0, 1]);
    id[0] != b'0' && (odd * 7 + 10 * 9 - even) % 10 == digit(id[9]) && sum(id, &[1; 10]) % 10 == digit(id[10])
}

/// Vehicle identification number with the check digit in the ninth place (49 CFR 565).
pub(super) fn vin(id: &[u8]) -> bool {
    const LETTERS: [u32; 26] = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 0, 7, 0, 9, 2, 3, 4, 5, 6, 7, 8, 9];
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let value = |byte: u8| if byte.is_ascii_digit() { digit(byte) } else { LETTERS[usize::from(byte - b'A') % 26] };
    let rest = id.iter().zip(WEIGHTS).map(|(byte, weight)| value(*byte) * weight).sum::<u32>() % 11;
    id[8] == if rest == 10 { b'X' } else { b'0' + rest as u8 }
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
        assert!(
            eip55(b"5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed") && eip55(b"fB6916095ca1df60bB79Ce92cE3Ea74c37c5d359")
        );
        assert!(
            !eip55(b"5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed")
                && eip55(&b"fb6916095ca1df60bb79ce92ce3ea74c37c5d359"[..])
        );
        assert!(!bech32(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"));
    }

    #[test]
    fn national_numbers_from_their_issuers_examples_pass_and_one_changed_digit_does_not() {
        type Case = (fn(&[u8]) -> bool, &'static [u8], &'static [u8]);
        let cases: &[Case] = &[
            (verhoeff, b"234123412346", b"234123412347"),
            (italian, b"RSSMRA85T10A562S", b"RSSMRA85T10A562T"),
            (french, b"255081416802538", b"255081416802539"),
            (german_pension, b"65170839J003", b"65170839J004"),
            (turkish, b"10000000146", b"10000000147"),
            (swedish, b"8112289874", b"8112289875"),
            (singapore, b"S1234567D", b"S1234567E"),
            (vin, b"1M8GDM9AXKP042788", b"1M8GDM9A1KP042788"),
            (|id| brazilian(id, 9) && brazilian(id, 10), b"52998224725", b"52998224726"),
            (|id| brazilian(id, 12) && brazilian(id, 13), b"11222333000181", b"11222333000182"),
            (|id| mod_11_10(&id[..10]) == digit(id[10]), b"86095742719", b"86095742718"),
            (|id| icao(&id[..9]) == digit(id[9]), b"T220001293", b"T220001294"),
            (|id| finnish(&id[..6], &id[6..]), b"131052308T", b"131052308U"),
        ];
        for (valid, good, bad) in cases {
            let name = String::from_utf8_lossy(good);
            assert!(valid(good) && !valid(bad), "{name}");
        }
        assert_eq!(spanish(b"12345678"), b'Z');
    }

    #[test]
    fn ranges_that_were_never_issued_are_refused() {
        assert!(ssn(536, 90, 4399) && !ssn(666, 12, 3456) && !ssn(0, 12, 3456) && !ssn(900, 12, 3456));
        assert!(itin(912, 70) && !itin(912, 69) && !itin(812, 70));
        assert!(nino_prefix(b'A', b'B') && !nino_prefix(b'G', b'B') && !nino_prefix(b'D', b'A'));
    }
}
