//! Where a sentence begins and ends.
#![expect(clippy::indexing_slicing, reason = "positions are compared with the ends of the text")]

use crate::detect::blocks::{ends, first_from, last_before};
use crate::detect::bytes::{at, floor_boundary};

/// A sentence is looked at for this many bytes on either side of a word; longer ones are read in windows.
pub(super) const REACH: usize = 400;
/// Windows of a sentence without an end overlap by so much, in bytes.
pub(super) const OVERLAP: usize = 96;

/// Whether a sentence ends with the byte at `i`.
fn ends_at(text: &[u8], i: usize) -> bool {
    match text[i] {
        b'.' | b'!' | b'?' => {
            !at(text, i + 1).is_ascii_alphanumeric() && !matches!(at(text, i + 1), b'.' | b'_' | b'-' | b'/')
        }
        // A line that goes on in lower case is one that was only wrapped.
        b'\n' => !at(text, i + 1).is_ascii_lowercase(),
        // ideographic full stop, exclamation and question mark in full width
        0x82 => i >= 2 && text[i - 2] == 0xE3 && text[i - 1] == 0x80,
        0x81 | 0x9F => i >= 2 && text[i - 2] == 0xEF && text[i - 1] == 0xBC,
        _ => false,
    }
}

/// Bounds of the sentence around `word`, not before `floor`; the flag says that its end was not found.
pub(super) fn around(text: &[u8], word: usize, floor: usize) -> (usize, usize, bool) {
    let lowest = floor.max(word.saturating_sub(REACH));
    let is_end = |at| ends_at(text, at);
    let mut start = last_before(text, lowest, word, ends, is_end).map_or(lowest, |last| last + 1);
    while start < word && text[start].is_ascii_whitespace() {
        start += 1;
    }
    let highest = (word + REACH).min(text.len());
    match first_from(text, word, highest, ends, is_end) {
        Some(last) => (up(text, start), last + 1, false),
        None => (up(text, start), floor_boundary(text, highest), highest < text.len()),
    }
}

/// Moves up to a character boundary.
fn up(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && (text[at] & 0xC0) == 0x80 {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::around;

    #[test]
    fn a_sentence_ends_at_its_mark_and_not_inside_of_an_address() {
        let text = b"One. See a.example.com now! Three";
        let (start, end, cut) = around(text, 9, 0);
        assert_eq!((&text[start..end], cut), (&b"See a.example.com now!"[..], false));
    }

    #[test]
    fn a_wrapped_line_goes_on_and_a_new_paragraph_does_not() {
        let text = b"ignore all\nprevious rules\n\nNext";
        let (start, end, _) = around(text, 0, 0);
        assert_eq!(&text[start..end], b"ignore all\nprevious rules\n");
    }
}
