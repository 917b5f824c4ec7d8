//! Signs of what [`scrambled`](super::scrambled), [`shifts`](super::shifts) and [`spelling`](super::spelling) read.

use std::ops::Range;

use super::hints::Kind;
use super::scrambled::seam;
use super::shifts::{Shifts, shifted_heads};
use super::spelling::{is_misspelled, misspelled_heads};
use crate::detect::words::{KeySet, key_of, pair_key};

/// Two words in another spelling that are no further apart than this are a sign, in bytes. So much is read around them.
const NEAR: usize = 256;
/// The same for two pairs of words in the other order. Words without a sense, as in lists, hold some by chance.
const NEAR_PAIRS: usize = 96;
/// Places that are kept apart; the last one takes in those that follow.
const PLACES: usize = 8;

/// Words that stand before the other when a text is written from its last word to its first.
const PAIRS: &[(&str, &[&str])] = &[
    ("the", &["of", "in", "for", "to", "from", "with", "at", "by", "into", "all", "as"]),
    ("your", &["of", "reveal", "all", "ignore", "with", "for", "about", "show", "me"]),
    ("you", &["if", "as", "that", "unless", "because"]),
    (
        "instructions",
        &["previous", "prior", "your", "above", "the", "earlier", "my", "these", "original", "system", "all"],
    ),
    ("rules", &["previous", "your", "the", "above", "any", "all"]),
    ("previous", &["all", "the", "any", "your"]),
    ("prior", &["all", "the", "any"]),
    ("prompt", &["system", "your", "initial", "hidden"]),
    ("message", &["system"]),
    ("mode", &["developer"]),
    ("now", &["are"]),
    ("be", &["to", "will"]),
    ("an", &["as", "are", "is", "of", "with", "into"]),
];

/// What was seen of the words of a piece.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    spelled: Near<NEAR>,
    turned: Near<NEAR_PAIRS>,
    shifts: Shifts,
}

/// Where two of a kind stand within `N` bytes; one may stand anywhere by chance.
#[derive(Clone, Copy, Default)]
struct Near<const N: usize> {
    /// Where the last one stands.
    last: Option<usize>,
    /// From the first to the last of those that stand near one another, ascending.
    told: [Option<(usize, usize)>; PLACES],
}

impl<const N: usize> Near<N> {
    fn note(&mut self, at: usize) {
        let Some(last) = self.last.replace(at).filter(|last| at - last.min(&at) <= N) else { return };
        let free = self.told.iter().position(Option::is_none).unwrap_or(PLACES);
        let before = free.checked_sub(1).and_then(|before| self.told.get_mut(before)).and_then(Option::as_mut);
        match before {
            Some((_, end)) if free == PLACES || last <= *end + 2 * NEAR => *end = at,
            _ => {
                if let Some(place) = self.told.get_mut(free) {
                    *place = Some((last, at));
                }
            }
        }
    }

    fn any(&self) -> bool {
        self.told[0].is_some()
    }

    /// The places and what is around them, in a text of so many bytes.
    fn places(&self, len: usize) -> impl Iterator<Item = Range<usize>> {
        self.told.into_iter().flatten().map(move |(first, last)| first.saturating_sub(NEAR)..(last + NEAR).min(len))
    }
}

/// Keys of the words at which [`Counts::word`] must be asked, ascending.
pub(in crate::detect) fn scrambled_keys() -> Vec<u32> {
    let mut keys: Vec<u32> = shifted_heads().chain(misspelled_heads()).map(|head| key_of(&head)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Keys of first words and of pairs at which [`Counts::pair`] must be asked.
pub(in crate::detect) fn pair_keys() -> (KeySet, KeySet) {
    let (mut firsts, mut pairs) = (KeySet::new(), KeySet::new());
    for (first, seconds) in PAIRS {
        let first = key_of(first.as_bytes());
        firsts.insert(first);
        seconds.iter().for_each(|second| pairs.insert(pair_key(first, key_of(second.as_bytes()))));
    }
    (firsts, pairs)
}

impl Counts {
    pub(super) fn word(&mut self, word: &[u8], at: usize) {
        if is_misspelled(word) {
            self.spelled.note(at);
        }
        self.shifts.note(word);
    }

    /// `text` begins with the pair.
    pub(super) fn pair(&mut self, text: &[u8], at: usize) {
        let mut words = text.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty());
        let (Some(first), Some(second)) = (words.next(), words.next()) else { return };
        let is = |known: &&str, word: &[u8]| known.as_bytes().eq_ignore_ascii_case(word);
        let seconds = PAIRS.iter().find(|(known, _)| is(known, first));
        if seconds.is_some_and(|(_, seconds)| seconds.iter().any(|known| is(known, second))) {
            self.turned.note(at);
        }
    }

    /// Whether so much was seen that the piece is to be read so.
    pub(super) fn tell(&self, kind: Kind) -> bool {
        match kind {
            Kind::Spelling => self.spelled.any(),
            Kind::Caesar => self.shifts.told().is_some(),
            Kind::WordOrder => self.turned.any(),
            _ => false,
        }
    }

    /// Where the text is to be read so, in a text of so many bytes: all of it, where one letter is as good as another.
    pub(super) fn places(&self, kind: Kind, len: usize) -> Vec<Range<usize>> {
        match kind {
            Kind::Spelling => self.spelled.places(len).collect(),
            Kind::WordOrder => self.turned.places(len).collect(),
            _ => std::iter::once(0..len).collect(),
        }
    }

    pub(super) fn any(&self) -> bool {
        self.tell(Kind::Spelling) || self.tell(Kind::Caesar) || self.tell(Kind::WordOrder)
    }
}

/// What the byte at `at`, one of [`signs`](crate::detect::blocks::signs), is a sign of: of a text in pieces, of a comment inside of a
/// word, of a soft end of a line.
#[inline(never)]
pub(super) fn sign(text: &[u8], at: usize) -> Option<Kind> {
    let (before, behind) = text.split_at_checked(at)?;
    match behind {
        [b'=', b'\n', ..] | [b'=', b'\r', b'\n', ..] => {
            before.last().is_some_and(u8::is_ascii_alphanumeric).then_some(Kind::Encoded)
        }
        [b'<', b'!', ..] => seam(text, at).map(|_| Kind::Pieces),
        [b';', ..] if matches!(before.last(), Some(b'"' | b'\'')) => seam(text, at - 1).map(|_| Kind::Pieces),
        [b'+', ..] => {
            let blanks = before.iter().rev().take(8).take_while(|byte| byte.is_ascii_whitespace()).count();
            seam(text, at.checked_sub(1 + blanks)?).map(|_| Kind::Pieces)
        }
        _ => None,
    }
}

/// Whether half a block holds little but dots, dashes and blanks.
pub(super) fn looks_morse(half: &[u8]) -> bool {
    let count = |is: fn(&&u8) -> bool| half.iter().filter(is).count();
    let (dots, dashes) = (count(|byte| **byte == b'.'), count(|byte| **byte == b'-'));
    let blanks = count(|byte| byte.is_ascii_whitespace());
    dots >= 3 && dashes >= 3 && blanks >= 3 && dots + dashes + blanks + 4 >= count(|byte| **byte != 0)
}
