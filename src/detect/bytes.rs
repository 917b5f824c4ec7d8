//! Small questions about bytes that several detectors ask.
#![expect(clippy::indexing_slicing, reason = "every index is bounded by the comparison next to it")]

/// ASCII letters, digits and underscore.
pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a token may start at `at`: nothing, or no word byte, precedes. An escape such as `\n` written out does not count as a letter.
pub(super) fn starts_word(text: &[u8], at: usize) -> bool {
    match at {
        0 => true,
        1 => !is_word(text[0]),
        _ => !is_word(text[at - 1]) || (matches!(text[at - 1], b'n' | b'r' | b't') && text[at - 2] == b'\\'),
    }
}

/// Whether a token may end at `at` (exclusive).
pub(super) fn ends_word(text: &[u8], at: usize) -> bool {
    at >= text.len() || !is_word(text[at])
}

/// The byte at `at`, or zero outside of the text.
pub(super) fn at(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}

/// Shannon entropy in bits per byte.
pub(super) fn entropy(text: &[u8]) -> f32 {
    if text.is_empty() {
        return 0.0;
    }
    let mut counts = [0u32; 256];
    for byte in text {
        counts[usize::from(*byte)] += 1;
    }
    let total = text.len() as f32;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = *count as f32 / total;
            -share * share.log2()
        })
        .sum()
}

/// Moves `at` down to a character boundary.
pub(super) fn floor_boundary(text: &[u8], mut at: usize) -> usize {
    at = at.min(text.len());
    while at > 0 && at < text.len() && (text[at] & 0xC0) == 0x80 {
        at -= 1;
    }
    at
}
