//! Other readings of a text: folded (same length, lower case, punctuation blanked) and normalised (invisible characters stripped,
//! compatibility forms and look-alike letters replaced), the latter with a map back to the original bytes.
//!
//! The normalised view is made only for text that [`fold`] calls odd. What is encoded or disguised is decoded where [`hints`] finds
//! signs of it; these views have the same shape, and hold no more than the surroundings of what was decoded.

mod disguise;
mod encoded;
#[cfg(test)]
mod fuzz;
mod hints;
mod scrambled;
mod shifts;
mod signs;
mod spelling;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;

pub(super) use hints::Kind as ViewKind;
pub(super) use hints::{Clues, clue_keys, hints};
pub(super) use signs::{pair_keys, scrambled_keys};
use unicode_normalization::UnicodeNormalization as _;

use super::blocks::{self, Finder, last_before};
use crate::domain::{ViewStop, Views};

/// Views inside of views.
pub(super) const DEPTH: usize = 3;
/// So much of the text around what was decoded is read with it, in bytes.
const AROUND: usize = 160;
/// Decoded places so near to one another are read as one, in bytes.
const CLOSE: usize = 16;

/// Buffers of a thread, reused.
#[derive(Default)]
pub(super) struct Scratch {
    pub folded: Vec<u8>,
    pub view: View,
}

/// A reading of a piece of text, with its way back.
#[derive(Default)]
pub(super) struct View {
    pub text: String,
    /// For every byte of `text` the bytes of the original that carry it.
    origins: Vec<(u32, u32)>,
    /// Length of the original.
    len: usize,
    kind: Option<ViewKind>,
}

impl View {
    /// The bytes of the original that a span of the view came from.
    pub(super) fn original(&self, span: Range<usize>) -> Range<usize> {
        let Some((next, _)) = self.origins.get(span.start) else { return self.len..self.len };
        let carriers = self.origins.get(span.start..span.end.min(self.origins.len())).unwrap_or_default();
        let start = carriers.iter().map(|(start, _)| *start).min().unwrap_or(*next);
        let end = carriers.iter().map(|(_, end)| *end).max().unwrap_or(*next);
        start as usize..end as usize
    }

    /// What reading it is.
    pub(super) fn name(&self) -> String {
        self.kind.unwrap_or(ViewKind::Normalised).as_str().to_owned()
    }

    /// The reading that this view is of, if doing it once more would only undo it or find nothing.
    pub(super) fn undone(&self) -> Option<ViewKind> {
        self.kind.filter(|kind| *kind != ViewKind::Encoded)
    }

    /// Leads back through the view that this one was decoded from.
    pub(super) fn behind(&mut self, parent: &Self) {
        for origin in &mut self.origins {
            *origin = place(parent.original(origin.0 as usize..origin.1 as usize));
        }
        self.len = parent.len;
    }

    /// Text that stands for itself.
    fn push_plain(&mut self, piece: &str, span: Range<usize>) {
        self.text.push_str(piece.get(span.clone()).unwrap_or_default());
        self.origins.extend(span.map(|at| place(at..at + 1)));
    }

    fn push(&mut self, c: char, from: Range<usize>) {
        self.text.push(c);
        self.origins.extend(std::iter::repeat_n(place(from), c.len_utf8()));
    }
}

/// Counts work where a test wants to know.
#[inline]
fn step(_count: usize) {
    #[cfg(test)]
    fuzz::steps(_count);
}

/// A piece is far shorter than 4 GiB.
fn place(span: Range<usize>) -> (u32, u32) {
    let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
    (place(span.start), place(span.end))
}

/// A view while it is written: the whole piece, with what was decoded in its place.
#[derive(Default)]
struct Draft {
    bytes: Vec<u8>,
    origins: Vec<(u32, u32)>,
    /// What was decoded, ascending.
    changed: Vec<Range<usize>>,
    /// Whether it begins and ends where the piece does.
    edges: (bool, bool),
}

impl Draft {
    fn copy(&mut self, byte: u8, at: usize) {
        step(1);
        self.bytes.push(byte);
        self.origins.push(place(at..at + 1));
    }

    fn copy_all(&mut self, text: &[u8], span: Range<usize>) {
        step(span.len());
        self.bytes.extend_from_slice(text.get(span.clone()).unwrap_or_default());
        self.origins.extend(span.map(|at| place(at..at + 1)));
    }

    fn decoded(&mut self, byte: u8, from: Range<usize>) {
        step(1);
        let at = self.bytes.len();
        match self.changed.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => self.changed.push(at..at + 1),
        }
        self.bytes.push(byte);
        self.origins.push(place(from));
    }

    fn decoded_char(&mut self, c: char, from: Range<usize>) {
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            self.decoded(byte, from.clone());
        }
    }

    /// An end of a line that nothing carries.
    fn line(&mut self, at: usize) {
        self.bytes.push(b'\n');
        self.origins.push(place(at..at));
    }

    /// Adds the text before, as far as it is not decoded yet, and behind, if there is something to surround.
    fn surround(&mut self, text: &[u8], before: Range<usize>, behind: usize) {
        if self.changed.is_empty() {
            return;
        }
        let lead = before.start.max(before.end.saturating_sub(AROUND))..before.end.max(before.start);
        let tail = behind..text.len().min(behind + AROUND);
        self.edges = (lead.start == 0, tail.end == text.len());
        for changed in &mut self.changed {
            *changed = changed.start + lead.len()..changed.end + lead.len();
        }
        self.bytes.splice(0..0, text.get(lead.clone()).unwrap_or_default().iter().copied());
        self.origins.splice(0..0, lead.map(|at| place(at..at + 1)));
        self.copy_all(text, tail);
    }

    /// Adds what was decoded and its surroundings to the view; bytes that are no UTF-8 are spaces.
    fn show(&self, view: &mut View) {
        let mut stretches: Vec<Range<usize>> = Vec::new();
        let mut blanks = Finder::new(&self.bytes, blocks::blanks);
        for changed in &self.changed {
            let low = changed.start.saturating_sub(AROUND);
            let start = match blanks.next(low, changed.start) {
                _ if self.edges.0 && low == 0 => 0,
                Some(blank) => blank + 1,
                None => changed.start,
            };
            match stretches.last_mut() {
                // The words around the later one end no earlier. What stands between escapes is no surroundings, but their text.
                Some(last) if start <= last.end + CLOSE || start <= self.end_around(last.end) + CLOSE => {
                    last.end = changed.end;
                }
                _ => stretches.push(start..changed.end),
            }
        }
        for stretch in &mut stretches {
            stretch.end = self.end_around(stretch.end);
        }
        for stretch in stretches {
            if !view.text.is_empty() {
                let at = view.origins.last().map_or(0, |(_, end)| *end as usize);
                view.push('\n', at..at);
            }
            for chunk in self.bytes.get(stretch.clone()).unwrap_or_default().utf8_chunks() {
                view.text.push_str(chunk.valid());
                view.text.extend(std::iter::repeat_n(' ', chunk.invalid().len()));
            }
            view.origins.extend_from_slice(self.origins.get(stretch).unwrap_or_default());
        }
    }

    /// Where the last whole word behind a span ends that is near.
    fn end_around(&self, end: usize) -> usize {
        let high = (end + AROUND).min(self.bytes.len());
        match last_before(&self.bytes, end, high, blocks::blanks, |_| true) {
            _ if self.edges.1 && high == self.bytes.len() => high,
            Some(blank) => blank,
            None => end,
        }
    }
}

/// How many bytes all views of a piece may still hold, and which there were.
pub(super) struct Budget {
    left: usize,
    pub views: Views,
}

impl Budget {
    pub(super) fn of(piece: &str) -> Self {
        Self { left: 2 * piece.len() + 1024, views: Views::default() }
    }
}

/// Decodes what one family of decoders finds in regions of a piece of text; nothing more once the budget is spent.
pub(super) fn decode(kind: ViewKind, piece: &str, regions: Vec<Range<usize>>, budget: &mut Budget) -> Option<View> {
    let mut view = View { len: piece.len(), kind: Some(kind), ..View::default() };
    let text = piece.as_bytes();
    let mut done = 0;
    for region in regions {
        let region = piece.floor_char_boundary(region.start).max(done)..piece.ceil_char_boundary(region.end);
        let Some(left) = budget.left.checked_sub(region.len()) else {
            budget.views.stopped(kind, ViewStop::Size);
            break;
        };
        budget.left = left;
        let mut draft = Draft::default();
        match kind {
            ViewKind::Encoded => encoded::decode(text, region.clone(), &mut draft),
            ViewKind::LettersApart => disguise::join_letters(text, region.clone(), &mut draft),
            ViewKind::Leetspeak => disguise::leet(text, region.clone(), &mut draft),
            ViewKind::WordPerLine => disguise::join_lines(text, region.clone(), &mut draft),
            ViewKind::Reversed => disguise::reverse(piece, &mut draft),
            ViewKind::Rot13 => disguise::rot13(text, &mut draft),
            ViewKind::Caesar => shifts::shift_back(text, &mut draft),
            ViewKind::Morse => scrambled::morse(text, region.clone(), &mut draft),
            ViewKind::Spelling => spelling::respell(text, region.clone(), &mut draft),
            ViewKind::WordOrder => scrambled::turn_words(text, region.clone(), &mut draft),
            ViewKind::Pieces => scrambled::join_pieces(text, region.clone(), &mut draft),
            ViewKind::Normalised | ViewKind::Joined => {}
        }
        let end = draft.origins.last().map_or(region.end, |(_, end)| (*end as usize).max(region.end));
        draft.surround(text, done..region.start, end);
        done = end;
        draft.show(&mut view);
    }
    if view.text.is_empty() {
        return None;
    }
    budget.views.read(kind);
    Some(view)
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends the thread's buffers.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => work(&mut scratch),
        Err(_) => work(&mut Scratch::default()),
    })
}

/// Cuts a text into pieces of at most `size` bytes, at the end of a line or a word where there is one.
pub(super) fn pieces(text: &str, size: usize) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
        let mut end = rest.len();
        if end > size {
            end = rest.floor_char_boundary(size);
            let tail = rest.as_bytes().get(end.saturating_sub(2048)..end).unwrap_or_default();
            let cut = memchr::memrchr(b'\n', tail).or_else(|| memchr::memrchr(b' ', tail));
            if let Some(cut) = cut {
                end = end.saturating_sub(2048) + cut + 1;
            }
        }
        let piece = rest.get(..end)?;
        let offset = from;
        from += end;
        Some((offset, piece))
    })
}

/// Copies a piece with letters of two bytes in lower case and punctuation outside of ASCII as spaces, byte for byte as long as
/// before. Says whether something odd was met that deserves the normalised view.
pub(super) fn fold(piece: &str, folded: &mut Vec<u8>) -> bool {
    folded.clear();
    folded.extend_from_slice(piece.as_bytes());
    let text = piece.as_bytes();
    let mut odd = false;
    blocks::each_of(text, blocks::odd_leads, |at| {
        let rest = folded.get_mut(at..).unwrap_or_default();
        match rest {
            // Kana and Arabic.
            [0xE3, second, ..] if !matches!(second, 0x80 | 0x85) => {}
            [0xD8, second, ..] if *second != 0x9C => {}
            // Small letters of Greek.
            [0xCE, 0xAC..=0xBF, ..] | [0xCF, 0x80..=0x8E, ..] => odd |= touches_latin(text, at, 2),
            // Vietnamese: every second letter is a capital, the next one its small letter.
            [0xE1, 0xBA, last @ 0xA0..=0xBF, ..] | [0xE1, 0xBB, last, ..] => *last |= 1,
            // Cyrillic: the capitals А–П and Р–Я lie 0x20 below the small letters, the others 0x50.
            [lead @ (0xD0 | 0xD1), second, ..] => {
                match (*lead, *second) {
                    (0xD0, 0x90..=0x9F) => *second += 0x20,
                    (0xD0, 0xA0..=0xAF) => (*lead, *second) = (0xD1, *second - 0x20),
                    (0xD0, 0x80..=0x8F) => (*lead, *second) = (0xD1, *second + 0x10),
                    _ => {}
                }
                odd |= touches_latin(text, at, 2);
            }
            // Letters of Latin-1 with accents, but for × and ÷.
            [0xC3, second, ..] if !matches!(second, 0x97 | 0xB7) => {
                if *second < 0x9F {
                    *second += 0x20;
                }
            }
            // Dashes, quotation marks, dots; the most frequent of all in English.
            [a @ 0xE2, b @ 0x80, c @ 0x90..=0xA7, ..] => (*a, *b, *c) = (b' ', b' ', b' '),
            _ => odd |= fold_other(piece, at, rest),
        }
    });
    odd
}

/// The same for the character at `at`, with which `rest` begins.
fn fold_other(piece: &str, at: usize, rest: &mut [u8]) -> bool {
    let Some(c) = piece.get(at..).and_then(|rest| rest.chars().next()) else { return false };
    let before = at.checked_sub(1).and_then(|before| piece.as_bytes().get(before)).copied().unwrap_or(b' ');
    let Some(place) = rest.get_mut(..c.len_utf8()) else { return false };
    match kind(c, before) {
        Kind::Letter => {
            if let Some(lower) = lower(c) {
                lower.encode_utf8(place);
            }
            is_look_alike_script(c) && touches_latin(piece.as_bytes(), at, c.len_utf8())
        }
        kind => {
            place.fill(b' ');
            matches!(kind, Kind::Odd)
        }
    }
}

/// Whether an ASCII letter stands next to the character of `len` bytes at `at`.
fn touches_latin(text: &[u8], at: usize, len: usize) -> bool {
    let is_latin = |i: usize| text.get(i).is_some_and(u8::is_ascii_alphabetic);
    is_latin(at.wrapping_sub(1)) || is_latin(at + len)
}

enum Kind {
    Letter,
    Blank,
    Odd,
}

fn kind(c: char, before: u8) -> Kind {
    match c {
        '\u{300}'..='\u{36F}' if !before.is_ascii_alphabetic() => Kind::Letter,
        '\u{AD}'
        | '\u{300}'..='\u{36F}'
        | '\u{61C}'
        | '\u{115F}'
        | '\u{1160}'
        | '\u{17B4}'
        | '\u{17B5}'
        | '\u{180E}' => Kind::Odd,
        '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20DC}' | '\u{FE20}'..='\u{FE2F}' => {
            Kind::Odd
        }
        '\u{80}'..='\u{BF}' | '×' | '÷' => Kind::Blank,
        // Joiners are ordinary between pictographs and in Indic and Arabic script.
        '\u{200C}' | '\u{200D}' if !before.is_ascii_alphanumeric() => Kind::Blank,
        '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' => Kind::Odd,
        '\u{2100}'..='\u{214F}' | '\u{2460}'..='\u{24FF}' | '\u{2070}'..='\u{209F}' => match c {
            '™' | '№' | '℃' | '°' | '①'..='⑳' => Kind::Blank,
            _ => Kind::Odd,
        },
        '\u{2000}'..='\u{2BFF}' | '\u{3000}'..='\u{303F}' | '\u{FE00}'..='\u{FE0F}' => Kind::Blank,
        '\u{FEFF}' | '\u{FB00}'..='\u{FB06}' | '\u{FFA0}' | '\u{3164}' => Kind::Odd,
        'Ａ'..='Ｚ' | 'ａ'..='ｚ' | '０'..='９' => Kind::Odd,
        '\u{FF00}'..='\u{FF65}' | '\u{FFE0}'..='\u{FFFF}' => Kind::Blank,
        '\u{1D400}'..='\u{1D7FF}' | '\u{1F100}'..='\u{1F18F}' | '\u{E0000}'..='\u{E0FFF}' => Kind::Odd,
        '\u{1F000}'..='\u{1FAFF}' => Kind::Blank,
        _ => Kind::Letter,
    }
}

/// Greek and Cyrillic hold letters that look Latin.
fn is_look_alike_script(c: char) -> bool {
    matches!(c, '\u{370}'..='\u{52F}')
}

/// The letter in lower case if that is another of the same length.
fn lower(c: char) -> Option<char> {
    match c {
        'Α'..='Ω' | 'À'..='Þ' => char::from_u32(u32::from(c) + 0x20),
        '\u{100}'..='\u{24F}' | '\u{386}'..='\u{38F}' | '\u{460}'..='\u{58F}' | '\u{1E00}'..='\u{1EFF}' => {
            c.to_lowercase().next().filter(|lower| lower.len_utf8() == c.len_utf8())
        }
        _ => None,
    }
}

/// Writes the normalised view of a piece: invisible characters and combining marks gone, NFKC by character, tag characters as the
/// ASCII they stand for, Latin look-alikes in words that mix scripts replaced, lower case outside of ASCII.
pub(super) fn normalise(piece: &str, view: &mut View) {
    view.text.clear();
    view.origins.clear();
    view.text.reserve(piece.len());
    view.origins.reserve(piece.len());
    let mixed = mixes_scripts(piece);
    let mut done = 0;
    blocks::each_of(piece.as_bytes(), blocks::leads, |at| {
        let Some(c) = piece.get(at..).and_then(|rest| rest.chars().next()) else { return };
        view.push_plain(piece, done..at);
        let origin = at..at + c.len_utf8();
        done = origin.end;
        match c {
            '\u{E0020}'..='\u{E007E}' => {
                if let Some(tag) = char::from_u32(u32::from(c) - 0xE0000) {
                    view.push(tag, origin);
                }
            }
            '\u{E0100}'..='\u{E01EF}' => {
                // Variation selectors stand for bytes; one alone belongs to the character before it.
                let selects = |c: &char| matches!(c, '\u{E0100}'..='\u{E01EF}');
                let before = piece.get(..origin.start).and_then(|before| before.chars().next_back());
                let behind = piece.get(origin.end..).and_then(|behind| behind.chars().next());
                let byte = u8::try_from(u32::from(c) - 0xE0100 + 16).unwrap_or(0);
                if matches!(byte, b' '..=b'~') && [before, behind].iter().flatten().any(selects) {
                    view.push(char::from(byte), origin);
                }
            }
            '\u{AD}'
            | '\u{300}'..='\u{36F}'
            | '\u{1AB0}'..='\u{1AFF}'
            | '\u{1DC0}'..='\u{1DFF}'
            | '\u{20D0}'..='\u{20DC}'
            | '\u{FE20}'..='\u{FE2F}'
            | '\u{61C}'
            | '\u{115F}'
            | '\u{1160}'
            | '\u{17B4}'
            | '\u{17B5}'
            | '\u{180E}'
            | '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{3164}'
            | '\u{FFA0}'
            | '\u{E0000}'..='\u{E0FFF}' => {}
            c if stands_for_itself(c) || !mixed && is_small(c) => view.push(c, origin),
            _ => {
                for n in std::iter::once(c).nfkc() {
                    if matches!(n, '\u{300}'..='\u{36F}') {
                        continue;
                    }
                    let n = if mixed { latin_look_alike(n).unwrap_or(n) } else { n };
                    match kind(n, b' ') {
                        _ if n.is_ascii() => view.push(n, origin.clone()),
                        Kind::Letter => n.to_lowercase().take(1).for_each(|n| view.push(n, origin.clone())),
                        _ => view.push(' ', origin.clone()),
                    }
                }
            }
        }
    });
    view.push_plain(piece, done..piece.len());
    view.len = piece.len();
}

/// Letters without case and without another form: of Hebrew, Arabic, Devanagari and Thai, kana, ideographs, Hangul.
const fn stands_for_itself(c: char) -> bool {
    matches!(c, '\u{5D0}'..='\u{5EA}' | '\u{620}'..='\u{64A}' | '\u{904}'..='\u{939}' | '\u{93E}'..='\u{94D}'
        | '\u{E01}'..='\u{E32}' | '\u{E34}'..='\u{E3A}' | '\u{E40}'..='\u{E4E}'
        | '\u{3041}'..='\u{3096}' | '\u{30A1}'..='\u{30FA}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}')
}

/// Small letters of Cyrillic and Greek.
const fn is_small(c: char) -> bool {
    matches!(c, '\u{430}'..='\u{45F}' | '\u{3B1}'..='\u{3C9}')
}

fn mixes_scripts(piece: &str) -> bool {
    let mut previous = ' ';
    piece.chars().any(|c| {
        let mixed = c.is_ascii_alphabetic() && is_look_alike_script(previous)
            || is_look_alike_script(c) && previous.is_ascii_alphabetic();
        previous = c;
        mixed
    })
}

/// Latin letter for a Cyrillic, Greek or Armenian one of the same shape (a cut of Unicode TR39 confusables).
fn latin_look_alike(c: char) -> Option<char> {
    Some(match c {
        'а' | 'А' | 'α' | 'Α' => 'a',
        'в' | 'В' | 'β' | 'Β' => 'b',
        'с' | 'С' | 'ϲ' => 'c',
        'ԁ' | 'Ԁ' => 'd',
        'е' | 'Е' | 'ё' | 'ε' | 'Ε' => 'e',
        'һ' | 'Һ' | 'н' | 'Н' | 'Η' => 'h',
        'і' | 'І' | 'ї' | 'Ї' | 'ι' | 'Ι' => 'i',
        'ј' | 'Ј' => 'j',
        'к' | 'К' | 'κ' | 'Κ' => 'k',
        'ӏ' | 'Ӏ' => 'l',
        'м' | 'М' | 'Μ' => 'm',
        'ո' | 'п' | 'η' | 'Ν' => 'n',
        'о' | 'О' | 'ο' | 'Ο' | 'σ' | 'օ' => 'o',
        'р' | 'Р' | 'ρ' | 'Ρ' => 'p',
        'ԛ' => 'q',
        'г' => 'r',
        'ѕ' | 'Ѕ' => 's',
        'т' | 'Т' | 'τ' | 'Τ' => 't',
        'υ' | 'ս' | 'μ' => 'u',
        'ν' | 'ѵ' => 'v',
        'ω' | 'ԝ' | 'Ԝ' => 'w',
        'х' | 'Х' | 'χ' | 'Χ' => 'x',
        'у' | 'У' | 'γ' | 'Υ' => 'y',
        'Ζ' => 'z',
        _ => return None,
    })
}

#[cfg(test)]
mod unicode {
    use super::*;

    #[test]
    fn every_look_alike_stands_for_its_letter() {
        for (from, to) in [
            ('а', 'a'),
            ('о', 'o'),
            ('е', 'e'),
            ('ѕ', 's'),
            ('і', 'i'),
            ('р', 'p'),
            ('ԁ', 'd'),
            ('ӏ', 'l'),
            ('ν', 'v'),
            ('ο', 'o'),
            ('ω', 'w'),
            ('σ', 'o'),
            ('һ', 'h'),
            ('ԝ', 'w'),
            ('т', 't'),
        ] {
            assert_eq!(latin_look_alike(from), Some(to), "{from}");
        }
    }

    #[test]
    fn letters_that_stand_for_themselves_have_no_other_form() {
        for c in ('\0'..=char::MAX).filter(|c| stands_for_itself(*c) || is_small(*c)) {
            assert_eq!(std::iter::once(c).nfkc().collect::<Vec<_>>(), [c], "{c}");
            assert_eq!(c.to_lowercase().collect::<Vec<_>>(), [c], "{c}");
            assert!(matches!(kind(c, b' '), Kind::Letter), "{c}");
        }
    }

    #[test]
    fn folding_keeps_every_byte_in_its_place() {
        for text in ["«ИГНОРИРУЙ» Ü – déjà", "ﬁle İstanbul ẞ", "忽略，之前。", "🙂 ok"] {
            let mut folded = Vec::new();
            fold(text, &mut folded);
            assert_eq!(folded.len(), text.len(), "{text}");
            let folded = String::from_utf8(folded).unwrap();
            assert!(text.chars().map(char::len_utf8).sum::<usize>() == folded.len());
        }
    }

    #[test]
    fn a_view_leads_back_to_the_original_bytes() {
        let text = "x i\u{200B}g\u{200B}nore Ａll";
        let mut view = View::default();
        normalise(text, &mut view);
        assert_eq!(view.text, "x ignore All");
        let span = view.original(2..8);
        assert_eq!(&text[span], "i\u{200B}g\u{200B}nore");
        assert_eq!(&text[view.original(9..12)], "Ａll");
    }

    #[test]
    fn ordinary_text_in_other_scripts_is_not_odd() {
        let mut folded = Vec::new();
        for text in ["Привет, мир!", "「これは」テスト。", "¿Qué tal? – Bien…", "family 👨‍👩‍👧 ok ❤️"]
        {
            assert!(!fold(text, &mut folded), "{text}");
        }
        for text in ["ign\u{200B}ore", "іgnоre", "ｉｇｎｏｒｅ", "𝐢𝐠𝐧𝐨𝐫𝐞", "i\u{0336}g"] {
            assert!(fold(text, &mut folded), "{text}");
        }
    }
}
