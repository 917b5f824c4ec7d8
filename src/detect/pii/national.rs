//! Identifiers of people, accounts and things that a state or a standards body gives out: a shape, mostly a check digit, and words
//! around that name it. Digits alone are too many things, so nearly all of them need the words.
#![expect(
    clippy::indexing_slicing,
    reason = "identifiers have the length of their shape, positions come from the text"
)]

use super::KnownRules;
use super::digits::Cluster;
use crate::detect::Sink;
use crate::detect::bytes::{at, is_word};
use crate::detect::checks;
use crate::detect::pack::Recognizer;

/// The longest identifier, in letters and digits.
const LONGEST: usize = 24;
/// The shortest.
const SHORTEST: usize = 8;

/// One identifier.
struct Identifier {
    recognizer: Recognizer,
    /// `9` a digit, `A` a letter, `*` either.
    shape: &'static [u8],
    /// Over the letters (upper case) and digits, without separators.
    valid: fn(&[u8]) -> bool,
    /// As it is printed: written like this it needs no words around.
    printed: Option<&'static [u8]>,
}

const fn needs_words(recognizer: Recognizer, shape: &'static [u8], valid: fn(&[u8]) -> bool) -> Identifier {
    Identifier { recognizer, shape, valid, printed: None }
}

const ALL: &[Identifier] = &[
    needs_words(Recognizer::AuTfn, b"999999999", |id| checks::weighted(id, &[1, 4, 3, 7, 5, 8, 6, 9, 10], 11)),
    needs_words(Recognizer::AuAbn, b"99999999999", |id| {
        let first = id[0].wrapping_sub(1);
        let rest =
            checks::sum(&id[1..], &[1, 3, 5, 7, 9, 11, 13, 15, 17, 19]) + 10 * u32::from(first.wrapping_sub(b'0'));
        id[0] != b'0' && rest.is_multiple_of(89)
    }),
    needs_words(Recognizer::AuAcn, b"999999999", |id| {
        (10 - checks::sum(&id[..8], &[8, 7, 6, 5, 4, 3, 2, 1]) % 10) % 10 == checks::digit(id[8])
    }),
    needs_words(Recognizer::AuMedicare, b"9999999999", |id| {
        matches!(id[0], b'2'..=b'6') && checks::sum(&id[..8], &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == checks::digit(id[8])
    }),
    Identifier {
        recognizer: Recognizer::BrCpf,
        shape: b"99999999999",
        valid: |id| checks::varied(id) && checks::brazilian(id, 9) && checks::brazilian(id, 10),
        printed: Some(b"999.999.999-99"),
    },
    Identifier {
        recognizer: Recognizer::BrCnpj,
        shape: b"99999999999999",
        valid: |id| checks::varied(id) && checks::brazilian(id, 12) && checks::brazilian(id, 13),
        printed: Some(b"99.999.999/9999-99"),
    },
    needs_words(Recognizer::CaSin, b"999999999", |id| !matches!(id[0], b'0' | b'8') && checks::luhn_text(id)),
    Identifier {
        recognizer: Recognizer::ChAhv,
        shape: b"9999999999999",
        valid: |id| id.starts_with(b"756") && checks::weighted(id, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1], 10),
        printed: Some(b"999.9999.9999.99"),
    },
    needs_words(Recognizer::CnResidentId, b"99999999999999999*", |id| {
        let rest = checks::sum(&id[..17], &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]) % 11;
        id[0] != b'0' && checks::date(&id[6..14]) && b"10X98765432"[rest as usize] == id[17]
    }),
    needs_words(Recognizer::DeTaxId, b"99999999999", |id| {
        id[0] != b'0' && checks::mod_11_10(&id[..10]) == checks::digit(id[10])
    }),
    needs_words(Recognizer::DeSocialSecurity, b"99999999A999", checks::german_pension),
    needs_words(Recognizer::DeIdCard, b"*********9", |id| checks::icao(&id[..9]) == checks::digit(id[9])),
    needs_words(Recognizer::DeIdCard, b"A********", |id| {
        b"CFGHJKLMNPRTVWXYZ".contains(&id[0]) && id.iter().any(u8::is_ascii_digit)
    }),
    needs_words(Recognizer::EsNif, b"99999999A", |id| checks::spanish(&id[..8]) == id[8]),
    needs_words(Recognizer::EsNie, b"A9999999A", |id| {
        let Some(first) = b"XYZ".iter().position(|letter| *letter == id[0]) else { return false };
        let mut digits = [b'0' + first as u8; 8];
        digits[1..].copy_from_slice(&id[1..8]);
        checks::spanish(&digits) == id[8]
    }),
    needs_words(Recognizer::FiIdentityCode, b"999999999*", |id| checks::finnish(&id[..6], &id[6..])),
    needs_words(Recognizer::FiIdentityCode, b"999999A999*", |id| {
        b"ABCDEFUVWXY".contains(&id[6]) && checks::finnish(&id[..6], &id[7..])
    }),
    needs_words(Recognizer::FrNir, b"999999*99999999", checks::french),
    needs_words(Recognizer::InAadhaar, b"999999999999", |id| !matches!(id[0], b'0' | b'1') && checks::verhoeff(id)),
    needs_words(Recognizer::InPan, b"AAAAA9999A", |id| b"ABCFGHLJPT".contains(&id[3])),
    Identifier {
        recognizer: Recognizer::ItFiscalCode,
        shape: b"AAAAAA**A**A***A",
        valid: checks::italian,
        printed: Some(b"AAAAAA99A99A999A"),
    },
    needs_words(Recognizer::ItVat, b"99999999999", |id| checks::varied(id) && checks::luhn_text(id)),
    needs_words(Recognizer::JpMyNumber, b"999999999999", |id| {
        let rest = checks::sum(&id[..11], &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
        checks::varied(id) && checks::digit(id[11]) == if rest <= 1 { 0 } else { 11 - rest }
    }),
    // Numbers given since October 2020 have no check digit.
    needs_words(Recognizer::KrRrn, b"9999999999999", |id| checks::month_day(&id[2..6]) && matches!(id[6], b'1'..=b'8')),
    Identifier {
        recognizer: Recognizer::MxCurp,
        shape: b"AAAA999999AAAAAA**",
        valid: |id| checks::month_day(&id[6..10]) && matches!(id[10], b'H' | b'M' | b'X') && checks::mexican(id),
        printed: Some(b"AAAA999999AAAAAA99"),
    },
    needs_words(Recognizer::MxRfc, b"AAAA999999***", |id| checks::month_day(&id[6..10])),
    needs_words(Recognizer::NlBsn, b"999999999", |id| {
        let eight = checks::sum(&id[..8], &[9, 8, 7, 6, 5, 4, 3, 2]);
        checks::varied(id) && eight % 11 == checks::digit(id[8])
    }),
    needs_words(Recognizer::NoIdentityNumber, b"99999999999", |id| {
        checks::weighted(&id[..10], &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1], 11)
            && checks::weighted(id, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1], 11)
            && checks::varied(id)
    }),
    needs_words(Recognizer::PlPesel, b"99999999999", |id| {
        let month = checks::number(&id[2..4]) % 20;
        (1..=12).contains(&month) && checks::weighted(id, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1], 10)
    }),
    needs_words(Recognizer::PtNif, b"999999999", |id| {
        let rest = checks::sum(&id[..8], &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
        !matches!(id[0], b'0' | b'4' | b'7') && checks::digit(id[8]) == if rest < 2 { 0 } else { 11 - rest }
    }),
    needs_words(Recognizer::SePersonnummer, b"9999999999", checks::swedish),
    needs_words(Recognizer::SePersonnummer, b"999999999999", |id| {
        matches!(&id[..2], b"19" | b"20") && checks::swedish(&id[2..])
    }),
    needs_words(Recognizer::SgNricFin, b"A9999999A", checks::singapore),
    needs_words(Recognizer::ThNationalId, b"9999999999999", |id| {
        let rest = checks::sum(&id[..12], &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
        id[0] != b'0' && (11 - rest) % 10 == checks::digit(id[12])
    }),
    needs_words(Recognizer::TrNationalId, b"99999999999", checks::turkish),
    needs_words(Recognizer::ZaId, b"9999999999999", |id| {
        checks::month_day(&id[2..6]) && matches!(id[10], b'0'..=b'2') && checks::luhn_text(id)
    }),
    needs_words(Recognizer::MedicalLicense, b"AA9999999", |id| {
        let odd = checks::sum(&id[2..8], &[1, 0, 1, 0, 1, 0]);
        let even = checks::sum(&id[2..8], &[0, 1, 0, 1, 0, 1]);
        b"ABCDEFGHJKLMPRSTUX".contains(&id[0]) && (odd + 2 * even) % 10 == checks::digit(id[8])
    }),
    // CMS: no S, L, O, I, B, Z among the letters.
    needs_words(Recognizer::UsMbi, b"9A*9A*9AA99", |id| {
        id[0] != b'0' && !id.iter().any(|byte| b"SLOIBZ".contains(byte))
    }),
    needs_words(Recognizer::Vin, b"*****************", |id| {
        !id.iter().any(|byte| b"IOQ".contains(byte)) && id.iter().any(u8::is_ascii_alphabetic) && checks::vin(id)
    }),
    needs_words(Recognizer::Imei, b"999999999999999", |id| checks::varied(id) && checks::luhn_text(id)),
    // No check digit since 2007: whatever else fits goes first.
    needs_words(Recognizer::DkCpr, b"9999999999", |id| checks::day_month(&id[..4])),
];

/// The identifier in which letters touch the digits of group `i`; where it ends.
pub(super) fn with_letters(
    cluster: &mut Cluster<'_, '_>,
    i: usize,
    known: &KnownRules,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let (text, group) = (cluster.text, cluster.groups()[i]);
    let is_before = group.start > 0 && text[group.start - 1].is_ascii_alphabetic();
    if !is_before && !at(text, group.end).is_ascii_alphabetic() {
        return None;
    }
    let before = text[..group.start].iter().rev().take(LONGEST).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let start = group.start - before;
    let behind = text[group.end..].iter().take(LONGEST).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let len = before + group.len() + behind;
    let next = at(text, start + len);
    // Only a beneficiary's number has one digit alone, and may stand in groups.
    let grouped = len == 4 && next == b'-';
    let alone = group.len() == 1 && !grouped && len != 11;
    if len < SHORTEST && !grouped || alone || before == LONGEST || behind == LONGEST {
        return None;
    }
    identifier(cluster, start, Some(len).filter(|_| !is_separator(next)), known, sink)
}

/// The identifier that begins with the digits of group `i`; how many groups it takes.
pub(super) fn of_digits(
    cluster: &mut Cluster<'_, '_>,
    i: usize,
    known: &KnownRules,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let start = cluster.groups()[i].start;
    let digits: usize = cluster.groups()[i..].iter().map(|group| group.len()).sum();
    if digits < SHORTEST {
        return None;
    }
    let end = identifier(cluster, start, None, known, sink).or_else(|| account(cluster, i, known, sink))?;
    Some(cluster.groups()[i..].iter().take_while(|group| group.start < end).count())
}

/// `len` is the number of letters and digits, where it is known.
fn identifier(
    cluster: &mut Cluster<'_, '_>,
    start: usize,
    len: Option<usize>,
    known: &KnownRules,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let text = cluster.text;
    if start > 0 && !opens(text, start) {
        return None;
    }
    for own in ALL.iter().filter(|own| len.is_none_or(|len| own.shape.len() == len)) {
        // The words around are asked last: most numbers have no such shape.
        let Some(end) = fits(text, start, own.shape) else { continue };
        if !(own.valid)(&compact(text, start, own.shape)[..own.shape.len()]) {
            continue;
        }
        let Some((_, rule)) = known.national.iter().find(|(recognizer, _)| *recognizer == own.recognizer) else {
            continue;
        };
        let printed = || own.printed.is_some_and(|shape| is_shape(text, start, shape));
        let confidence = if cluster.nearby().is_nearest(own.recognizer) {
            Some(rule.confidence)
        } else {
            rule.weak.filter(|_| printed())
        };
        if let Some(confidence) = confidence {
            sink.push(&rule.rule, confidence, start..end);
            return Some(end);
        }
    }
    None
}

/// Eight to seventeen digits that words call an account.
fn account(cluster: &mut Cluster<'_, '_>, i: usize, known: &KnownRules, sink: &mut Sink<'_>) -> Option<usize> {
    let group = cluster.groups()[i];
    let (_, rule) = known.national.iter().find(|(recognizer, _)| *recognizer == Recognizer::UsBankNumber)?;
    let fits = (8..=17).contains(&group.len()) && cluster.is_bounded(i, i + 1);
    if !fits || !cluster.nearby().is_nearest(Recognizer::UsBankNumber) {
        return None;
    }
    sink.push(&rule.rule, rule.confidence, group.start..group.end);
    Some(group.end)
}

/// Whether an identifier may start here: it is no part of a longer token.
fn opens(text: &[u8], start: usize) -> bool {
    let before = text[start - 1];
    !(is_word(before) || matches!(before, b'.' | b'-' | b'/') && start > 1 && is_word(text[start - 2]))
}

fn is_kind(byte: u8, kind: u8) -> bool {
    match kind {
        b'9' => byte.is_ascii_digit(),
        b'A' => byte.is_ascii_alphabetic(),
        b'*' => byte.is_ascii_alphanumeric(),
        other => byte == other,
    }
}

fn is_shape(text: &[u8], start: usize, shape: &[u8]) -> bool {
    text.get(start..start + shape.len())
        .is_some_and(|own| own.iter().zip(shape).all(|(byte, kind)| is_kind(*byte, *kind)))
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'/')
}

/// Where letters and digits of the shape end that begin at `start`, single separators between them, if nothing goes on behind.
fn fits(text: &[u8], start: usize, shape: &[u8]) -> Option<usize> {
    let mut i = start;
    for kind in shape {
        if i > start && is_separator(at(text, i)) {
            i += 1;
        }
        if !is_kind(at(text, i), *kind) {
            return None;
        }
        i += 1;
    }
    let goes_on = matches!(at(text, i), b'-' | b'.' | b'/') && at(text, i + 1).is_ascii_alphanumeric();
    (!is_word(at(text, i)) && !goes_on).then_some(i)
}

/// The same letters, in upper case, and digits, without what is between them.
fn compact(text: &[u8], start: usize, shape: &[u8]) -> [u8; LONGEST] {
    let mut id = [0; LONGEST];
    let own = text[start..].iter().filter(|byte| byte.is_ascii_alphanumeric());
    id.iter_mut().zip(own).take(shape.len()).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    id
}
