//! Long runs of plain text, skipped many bytes at a time.

const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; 8]);
const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

/// The first position at or after `from` with a quote, a backslash or a control character; the length when there is
/// none. Keys and short values are found in a few steps of eight bytes, long texts in blocks of 64 that the compiler
/// turns into vector instructions.
#[inline]
pub(super) fn plain_run_end(bytes: &[u8], from: usize) -> usize {
    let mut rest = bytes.get(from..).unwrap_or_default();
    for _ in 0..4 {
        let Some((word, tail)) = rest.split_first_chunk() else { return tail_end(bytes, rest) };
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return bytes.len() - rest.len() + special.trailing_zeros() as usize / 8;
        }
        rest = tail;
    }
    long_run_end(bytes, rest)
}

fn long_run_end(bytes: &[u8], mut rest: &[u8]) -> usize {
    while let Some((block, tail)) = rest.split_first_chunk::<64>() {
        if block.iter().fold(false, |any, &byte| any | is_special(byte)) {
            break;
        }
        rest = tail;
    }
    while let Some((word, tail)) = rest.split_first_chunk() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return bytes.len() - rest.len() + special.trailing_zeros() as usize / 8;
        }
        rest = tail;
    }
    tail_end(bytes, rest)
}

fn tail_end(bytes: &[u8], rest: &[u8]) -> usize {
    let plain = rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len());
    bytes.len() - rest.len() + plain
}

const fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < b' ')
}

/// The high bit of every special byte of a word. Bits above the lowest one may be wrong (borrows), the lowest never is.
const fn special(word: u64) -> u64 {
    let quotes = zeros(word ^ QUOTES);
    let backslashes = zeros(word ^ BACKSLASHES);
    let controls = word.wrapping_sub(SPACES) & !word & HIGH;
    quotes | backslashes | controls
}

const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: proptest::test_runner::RngSeed::Fixed(1),
            ..ProptestConfig::default()
        })]

        #[test]
        fn finds_what_a_look_at_every_byte_finds(
            mut bytes in proptest::collection::vec(0x20_u8.., 0..300),
            specials in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..0x30), 0..4),
            from in any::<prop::sample::Index>(),
        ) {
            for (index, byte) in specials {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            let from = from.index(bytes.len() + 1);
            let expected = (from..bytes.len()).find(|&i| is_special(bytes[i])).unwrap_or(bytes.len());
            prop_assert_eq!(plain_run_end(&bytes, from), expected);
        }
    }
}
