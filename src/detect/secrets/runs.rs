//! Credentials that only their lengths tell: runs of the letters that base64 is written in.
#![expect(clippy::indexing_slicing, reason = "positions come from searches in the same text")]

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use super::{Known, is_counted, is_placeholder};
use crate::detect::Sink;
use crate::detect::bytes::{at, entropy, is_word};
use crate::detect::pack::Recognizer;

/// Shorter runs are read by their prefixes, in bytes.
const SHORTEST: usize = 40;
/// Longer runs are data, not a credential, in bytes.
const LONGEST: usize = 96;
/// The widths that PEM, OpenSSH and MIME wrap base64 at.
const WIDTHS: [usize; 3] = [64, 70, 76];
/// How far behind a line the frame that it belongs to is looked for, in bytes.
const FRAME: usize = 4096;

/// Judges one run.
pub(super) type Read = fn(&[u8], Range<usize>, &Known, &mut Sink<'_>);

/// Everything that is told by the run alone.
pub(super) const ALL: &[(Recognizer, Read)] = &[
    (Recognizer::KeyLine, key_line),
    (Recognizer::DiscordToken, discord),
    (Recognizer::AzureKey, azure),
    (Recognizer::MailgunKey, mailgun),
    (Recognizer::NewRelicLicense, new_relic),
];

/// Calls `found` with the runs that begin in `region`.
pub(super) fn each(text: &[u8], region: Range<usize>, mut found: impl FnMut(Range<usize>)) {
    let mut i = region.start;
    while i > 0 && region.start - i < LONGEST && is_part(text[i - 1]) {
        i -= 1;
    }
    while i < region.end {
        // Of a run that is long enough, the last of the first forty bytes is one of its own.
        let first = &text[i..(i + SHORTEST).min(text.len())];
        if let Some(other) = first.iter().rposition(|byte| !is_part(*byte)) {
            i += other + 1;
            continue;
        }
        let len = text[i..].iter().position(|byte| !is_part(*byte)).unwrap_or(text.len() - i);
        if (SHORTEST..=LONGEST).contains(&len) {
            found(i..i + len);
        }
        i += len + 1;
    }
}

fn is_part(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'.')
}

/// A line as private keys are wrapped, whose frame is not there or says that it is private. A certificate's lines look the same,
/// so without the frame it stays a guess.
pub(super) fn key_line(text: &[u8], run: Range<usize>, known: &Known, sink: &mut Sink<'_>) {
    let line = &text[run.clone()];
    let plain = line.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    let mixed = line.iter().any(u8::is_ascii_digit)
        && line.iter().any(u8::is_ascii_lowercase)
        && line.iter().any(u8::is_ascii_uppercase);
    let bare = !matches!(at(text, run.end), b':' | b',' | b';' | b')')
        && (run.start == 0 || !matches!(text[run.start - 1], b':' | b',' | b';' | b'('));
    if !WIDTHS.contains(&line.len()) || !plain || !mixed || !bare || is_encoded_text(line) || entropy(line) < 4.0 {
        return;
    }
    let before = &text[run.start.saturating_sub(FRAME)..run.start];
    let public = memmem::rfind(before, b"-----BEGIN ").is_some_and(|begin| {
        let label = &before[begin..];
        let label = label.split(|byte| *byte == b'\n').next().unwrap_or(label);
        memmem::find(label, b"PRIVATE").is_none() && memmem::find(&before[begin..], b"-----END ").is_none()
    });
    if !public {
        sink.push(&known.rule, known.confidence, run);
    }
}

/// Whether a line of base64 stands for text.
fn is_encoded_text(line: &[u8]) -> bool {
    let whole = &line[..line.len() / 4 * 4];
    STANDARD.decode(whole).is_ok_and(|plain| {
        let printed = plain.iter().filter(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()).count();
        printed * 10 >= plain.len() * 9
    })
}

/// Keys that Azure signs: four letters at a fixed place, after which comes a check; their length. As Microsoft publishes them
/// for each service, so that leaked keys can be recognised.
const SIGNED: &[(&[u8], usize, usize)] = &[
    (b"+ASt", 76, 88),
    (b"ACDb", 76, 88),
    (b"+ABa", 76, 88),
    (b"+AMC", 76, 88),
    (b"APIM", 76, 88),
    (b"AzFu", 44, 56),
    (b"AzSe", 42, 52),
    (b"+ACR", 42, 52),
    (b"AZEG", 33, 44),
    (b"AIoT", 33, 44),
    (b"+ASb", 33, 44),
    (b"+AEh", 33, 44),
    (b"AzCa", 33, 44),
    (b"JQQJ", 52, 84),
    (b"JQQJ", 52, 88),
];

pub(super) fn azure(text: &[u8], run: Range<usize>, known: &Known, sink: &mut Sink<'_>) {
    let token = &text[run.clone()];
    let signed = |&(mark, place, len): &(&[u8], usize, usize)| token.len() == len && token[place..].starts_with(mark);
    if SIGNED.iter().any(signed) && entropy(token) >= 3.8 {
        sink.push(&known.rule, known.confidence, run);
    }
}

/// Thirty-two, eight and eight hexadecimal digits.
pub(super) fn mailgun(text: &[u8], run: Range<usize>, known: &Known, sink: &mut Sink<'_>) {
    let token = &text[run.clone()];
    let shape = token.len() == 50 && token[32] == b'-' && token[41] == b'-';
    let hex = token.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    if shape && hex && entropy(token) >= 3.0 {
        sink.push(&known.rule, known.confidence, run);
    }
}

/// Forty letters that end with the mark of New Relic's licences.
pub(super) fn new_relic(text: &[u8], run: Range<usize>, known: &Known, sink: &mut Sink<'_>) {
    let token = &text[run.clone()];
    if token.len() == 40
        && token.ends_with(b"NRAL")
        && token[..36].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z'))
    {
        sink.push(&known.rule, known.confidence, run);
    }
}

/// The id of the account in base64, a time stamp, a signature.
pub(super) fn discord(text: &[u8], run: Range<usize>, known: &Known, sink: &mut Sink<'_>) {
    let token = &text[run.clone()];
    let mut lengths = token.split(|byte| *byte == b'.').map(<[u8]>::len);
    let shape = (lengths.next(), lengths.next(), lengths.next(), lengths.next());
    let (Some(23..=28), Some(6), Some(27..=38), None) = shape else { return };
    let letters = token.iter().all(|byte| is_word(*byte) || matches!(byte, b'-' | b'.'));
    if letters && entropy(token) >= 4.0 && !is_placeholder(token) {
        sink.push(&known.rule, known.confidence, run);
    }
}

/// The number of a bot before the colon at `colon`, thirty-five letters behind it.
pub(super) fn telegram(text: &[u8], colon: usize, known: &Known, sink: &mut Sink<'_>) {
    let digits = text[..colon].iter().rev().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    if !(8..=10).contains(&digits)
        || colon > digits && is_word(text[colon - digits - 1]) && !text[..colon - digits].ends_with(b"bot")
    {
        return;
    }
    let key = &text[colon + 1..(colon + 37).min(text.len())];
    let len = key.iter().take_while(|byte| is_word(**byte) || **byte == b'-').count();
    let Some(key) = key.get(..35).filter(|_| len == 35) else { return };
    if entropy(key) >= 3.8 && !is_counted(key) && !is_placeholder(key) {
        let confidence = if key.starts_with(b"AA") { known.confidence } else { known.weak.unwrap_or(known.confidence) };
        sink.push(&known.rule, confidence, colon - digits..colon + 36);
    }
}
