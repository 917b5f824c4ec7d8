//! Texts whose words stand from the last to the first, texts in Morse, and in pieces that a program would put together.
#![expect(clippy::indexing_slicing, reason = "every position is below the length of the text")]

use std::ops::Range;

use super::Draft;

/// The fewest letters in Morse.
const SIGNS: usize = 6;
/// Bytes between two pieces of a text, at most; and of a comment.
const SEAM: usize = 40;
const COMMENT: usize = 400;

/// The words from the last to the first.
pub(super) fn turn_words(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let mut end = region.end;
    while end > region.start {
        let blank = text[region.start..end].iter().rposition(u8::is_ascii_whitespace);
        let start = blank.map_or(region.start, |blank| region.start + blank + 1);
        text[start..end].iter().zip(start..).for_each(|(byte, at)| draft.decoded(*byte, at..at + 1));
        if start == region.start {
            break;
        }
        draft.decoded(b' ', start - 1..start);
        end = start - 1;
    }
}

const MORSE: &[(&[u8], u8)] = &[
    (b".-", b'a'),
    (b"-...", b'b'),
    (b"-.-.", b'c'),
    (b"-..", b'd'),
    (b".", b'e'),
    (b"..-.", b'f'),
    (b"--.", b'g'),
    (b"....", b'h'),
    (b"..", b'i'),
    (b".---", b'j'),
    (b"-.-", b'k'),
    (b".-..", b'l'),
    (b"--", b'm'),
    (b"-.", b'n'),
    (b"---", b'o'),
    (b".--.", b'p'),
    (b"--.-", b'q'),
    (b".-.", b'r'),
    (b"...", b's'),
    (b"-", b't'),
    (b"..-", b'u'),
    (b"...-", b'v'),
    (b".--", b'w'),
    (b"-..-", b'x'),
    (b"-.--", b'y'),
    (b"--..", b'z'),
    (b"-----", b'0'),
    (b".----", b'1'),
    (b"..---", b'2'),
    (b"...--", b'3'),
    (b"....-", b'4'),
    (b".....", b'5'),
    (b"-....", b'6'),
    (b"--...", b'7'),
    (b"---..", b'8'),
    (b"----.", b'9'),
    (b".-.-.-", b'.'),
    (b"--..--", b','),
    (b"..--..", b'?'),
    (b".----.", b'\''),
    (b"-.-.--", b'!'),
    (b"-..-.", b'/'),
    (b"---...", b':'),
    (b"-....-", b'-'),
    (b".--.-.", b'@'),
];

/// Letters of dots and dashes, with a blank between them, and more or a stroke between words.
pub(super) fn morse(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let is_sign = |byte: &u8| matches!(byte, b'.' | b'-');
    let (mut copied, mut at) = (region.start, region.start);
    while at < region.end {
        if !is_sign(&text[at]) || at > 0 && !text[at - 1].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        // Letters, with what stands between them and the next.
        let (mut run, mut end) = (Vec::new(), at);
        loop {
            let len = text[end..].iter().take(7).take_while(|byte| is_sign(byte)).count();
            let Some((_, letter)) = MORSE.iter().find(|(signs, _)| *signs == &text[end..end + len]) else { break };
            let gap = text[end + len..].iter().take(8).take_while(|byte| matches!(byte, b' ' | b'/' | b'\n' | b'\r'));
            let gap = gap.count();
            if gap == 0 && end + len < text.len() {
                break;
            }
            run.push((*letter, end..end + len, gap));
            end += len + gap;
        }
        if run.len() < SIGNS {
            at = end.max(at + 1);
            continue;
        }
        draft.copy_all(text, copied..at);
        for (letter, from, gap) in run {
            let to = from.end;
            draft.decoded(letter, from);
            if gap > 1 || end == to + gap && end < text.len() {
                draft.decoded(b' ', to..to + gap);
            }
        }
        (copied, at) = (end, end);
    }
    if copied > region.start {
        draft.copy_all(text, copied..at);
    }
}

/// What stands between two pieces of a text at `at`: `" + "`, `'; b = '`, a comment inside a word. Where it ends.
pub(super) fn seam(text: &[u8], at: usize) -> Option<usize> {
    let rest = &text[at..];
    match rest {
        [b'<', b'!', b'-', b'-', ..] => {
            let before = at.checked_sub(1).map(|before| text[before])?;
            let comment = before.is_ascii_alphanumeric().then_some(&rest[..rest.len().min(COMMENT)])?;
            let end = at + memchr::memmem::find(comment, b"-->")? + 3;
            text.get(end).is_some_and(u8::is_ascii_alphanumeric).then_some(end)
        }
        [b'"' | b'\'', between @ ..] => {
            let between = &between[..between.len().min(SEAM)];
            let quote = between.iter().position(|byte| matches!(byte, b'"' | b'\''))?;
            joins(&between[..quote]).then_some(at + quote + 2)
        }
        _ => None,
    }
}

/// Whether code between two texts puts them together or names the next.
fn joins(code: &[u8]) -> bool {
    match code.trim_ascii() {
        b"+" | b".." | b"||" | b"." | b"&" | b"\\" => true,
        [b';', name @ .., b'='] => {
            let name = name.trim_ascii();
            let name = name.strip_prefix(b"$").unwrap_or(name);
            let name =
                [&b"let "[..], b"var ", b"const "].iter().find_map(|word| name.strip_prefix(*word)).unwrap_or(name);
            !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        }
        _ => false,
    }
}

/// Pieces of a text put together.
pub(super) fn join_pieces(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let (mut copied, mut at) = (region.start, region.start);
    while at < region.end {
        let Some(mut end) = seam(text, at) else {
            at += 1;
            continue;
        };
        draft.copy_all(text, copied..at);
        while let Some(next) = text.get(end).and_then(|_| seam(text, end)) {
            end = next;
        }
        // The seam is carried by what follows, so that it is seen to be gone.
        if let Some(byte) = text.get(end) {
            draft.decoded(*byte, at..end + 1);
            end += 1;
        }
        (copied, at) = (end, end);
    }
    if copied > region.start {
        draft.copy_all(text, copied..at);
    }
}
