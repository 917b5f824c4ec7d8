//! Letters apart, digits for letters, lines, reversed text, rot13.
#![expect(clippy::indexing_slicing, reason = "every position is below the length of the text")]

use std::ops::Range;

use super::Draft;

/// The fewest letters that stand apart in a row.
const APART: usize = 5;
/// Longer words with digits are numbers and keys.
const LONGEST: usize = 20;
/// The fewest words with digits for letters.
const LEET: usize = 3;
/// The fewest lines of one word.
const LINES: usize = 4;

/// `i g n o r e`, `i.g.n.o.r.e`, a letter a line: letters joined, wider gaps as spaces.
pub(super) fn join_letters(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let (mut copied, mut at) = (region.start, region.start);
    while at < region.end {
        let (end, letters, gap) = apart(text, at);
        if letters < APART {
            // Past all of it, so that no later look begins in the middle of it.
            let whole = text[at..].iter().take_while(|byte| is_mark(**byte)).count().max(1);
            at = end.max(at + whole);
            continue;
        }
        draft.copy_all(text, copied..at);
        let mut last = at;
        for (i, byte) in text.iter().enumerate().take(end).skip(at).filter(|(_, byte)| is_mark(**byte)) {
            if i > last + 1 + gap {
                draft.decoded(b' ', last + 1..i);
            }
            draft.decoded(*byte, i..i + 1);
            last = i;
        }
        (copied, at) = (end, end);
    }
    if copied > region.start {
        draft.copy_all(text, copied..at);
    }
}

fn is_mark(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'\'' | b'!' | b'?' | b':' | b'~') || byte >= 0x80
}

/// The run of marks that stand apart at `at`: where it ends, how many letters it holds, and how wide its narrow gaps are.
fn apart(text: &[u8], start: usize) -> (usize, usize, usize) {
    let (mut at, mut end, mut letters, mut narrow) = (start, start, 0, usize::MAX);
    if start > 0 && is_mark(text[start - 1]) {
        return (start, 0, 0);
    }
    while at < text.len() && is_mark(text[at]) && !text.get(at + 1).is_some_and(|next| is_mark(*next)) {
        letters += usize::from(text[at].is_ascii_alphabetic());
        end = at + 1;
        let gap = text[end..].iter().take(8).take_while(|byte| !is_mark(**byte)).count();
        if gap < 8 && end + gap < text.len() {
            narrow = narrow.min(gap);
        }
        at = end + gap;
    }
    (end, letters, narrow)
}

/// `1gn0r3`: digits next to letters read as the letters that they look like.
pub(super) fn leet(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let (mut found, mut words) = (0, 0);
    for word in text[region.clone()].split(|byte| !is_leet(*byte)).filter(|word| !word.is_empty()) {
        words += 1;
        found += usize::from(disguised(word));
    }
    if found < LEET || found * 5 < words {
        return;
    }
    let mut at = region.start;
    while at < region.end {
        let len = text[at..region.end].iter().take_while(|byte| is_leet(**byte)).count();
        let word = &text[at..at + len];
        let reads = word.len() <= 2 || disguised(word);
        for byte in word {
            match letter(*byte).filter(|_| reads) {
                Some(letter) => draft.decoded(letter, at..at + 1),
                None => draft.copy(*byte, at),
            }
            at += 1;
        }
        if at < region.end {
            draft.copy(text[at], at);
            at += 1;
        }
    }
}

fn is_leet(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b'$')
}

const fn letter(byte: u8) -> Option<u8> {
    Some(match byte {
        b'0' => b'o',
        b'1' => b'i',
        b'3' => b'e',
        b'4' | b'@' => b'a',
        b'5' | b'$' => b's',
        b'7' => b't',
        b'8' => b'b',
        _ => return None,
    })
}

/// Whether a word has a digit for a letter before a letter, no other digits, and is no hexadecimal number.
fn disguised(word: &[u8]) -> bool {
    let ordinal = matches!(word, [digits @ .., b's' | b't' | b'n' | b'r', b't' | b'h' | b'd'] if digits.iter().all(u8::is_ascii_digit));
    word.len() <= LONGEST
        && word.iter().any(|byte| letter(*byte).is_some())
        && !ordinal
        && word.windows(2).any(|pair| letter(pair[0]).is_some() && pair[1].is_ascii_alphabetic())
        && word.iter().all(|byte| byte.is_ascii_alphabetic() || letter(*byte).is_some())
        && (word.len() < 4 || !word.iter().all(u8::is_ascii_hexdigit))
}

/// One word a line: the lines in a row as one.
pub(super) fn join_lines(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let mut close = |rows: Range<usize>, lines: usize| {
        if lines < LINES {
            return;
        }
        for at in rows {
            match text[at] {
                b'\n' => draft.decoded(b' ', at..at + 1),
                byte => draft.copy(byte, at),
            }
        }
        draft.line(region.end);
    };
    // Where the lines in a row began, and how many they are.
    let (mut first, mut lines, mut at) = (0, 0, region.start);
    for line in text[region.clone()].split_inclusive(|byte| *byte == b'\n') {
        let word = line.trim_ascii();
        if word.is_empty() || !word.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b'.' | b',' | b'\'')) {
            close(first..at, lines);
            lines = 0;
        } else {
            first = if lines == 0 { at } else { first };
            lines += 1;
        }
        at += line.len();
    }
    close(first..at, lines);
}

pub(super) fn reverse(piece: &str, draft: &mut Draft) {
    for (at, c) in piece.char_indices().rev() {
        draft.decoded_char(c, at..at + c.len_utf8());
    }
}

pub(super) fn rot13(text: &[u8], draft: &mut Draft) {
    for (at, byte) in text.iter().enumerate() {
        let turned = match byte {
            b'a'..=b'z' => (byte - b'a' + 13) % 26 + b'a',
            b'A'..=b'Z' => (byte - b'A' + 13) % 26 + b'A',
            _ => *byte,
        };
        draft.decoded(turned, at..at + 1);
    }
}
