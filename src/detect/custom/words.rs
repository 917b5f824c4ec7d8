//! Keywords, which stand as they are written, and phrases, whose words follow each other with anything but letters between them.

use std::ops::Range;

use super::fold;

/// Of a keyword or phrase, in bytes.
pub(super) const LONGEST: usize = 200;
/// Between two words of a phrase, in bytes.
pub(super) const GAP: usize = 16;

/// A keyword or a phrase, folded and in lower case.
pub(super) struct Wording {
    rule: u32,
    /// The piece that the automaton looks for.
    anchor: u8,
    is_phrase: bool,
    /// The words of a phrase; a keyword is one piece.
    pieces: Box<[Box<[u8]>]>,
}

impl Wording {
    pub(super) fn keyword(rule: usize, text: &str) -> Result<Self, String> {
        let text = checked(text)?;
        let piece = fold(text).to_ascii_lowercase().into();
        Ok(Self { rule: number(rule), anchor: 0, is_phrase: false, pieces: Box::new([piece]) })
    }

    pub(super) fn phrase(rule: usize, text: &str) -> Result<Self, String> {
        let text = checked(text)?;
        let pieces: Box<[Box<[u8]>]> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(|word| fold(word).to_ascii_lowercase().into())
            .collect();
        let anchor = (0..).zip(&pieces).max_by_key(|(_, piece)| piece.len()).map(|(index, _)| index);
        let anchor = anchor.ok_or("holds no letter and no digit")?;
        Ok(Self { rule: number(rule), anchor, is_phrase: true, pieces })
    }

    pub(super) const fn rule(&self) -> usize {
        self.rule as usize
    }

    pub(super) const fn is_phrase(&self) -> bool {
        self.is_phrase
    }

    pub(super) fn anchor(&self) -> &[u8] {
        self.pieces.get(usize::from(self.anchor)).map_or(&[], |piece| piece)
    }

    /// The words with one blank between them.
    pub(super) fn spoken(&self) -> Vec<u8> {
        self.pieces.join(&b' ')
    }

    /// The whole around a place where the anchor stands, if it is there.
    pub(super) fn around(&self, text: &[u8], anchor: Range<usize>) -> Option<Range<usize>> {
        let (before, behind) = self.pieces.split_at_checked(usize::from(self.anchor))?;
        let mut end = anchor.end;
        for piece in behind.iter().skip(1) {
            let start = end + gap(text.get(end..)?)?;
            end = start + piece.len();
            text.get(start..end).filter(|word| word.eq_ignore_ascii_case(piece))?;
        }
        let mut start = anchor.start;
        for piece in before.iter().rev() {
            let stop = start - gap_before(text.get(..start)?)?;
            start = stop.checked_sub(piece.len())?;
            text.get(start..stop).filter(|word| word.eq_ignore_ascii_case(piece))?;
        }
        (is_edge(text, start) && is_edge(text, end)).then_some(start..end)
    }
}

fn number(rule: usize) -> u32 {
    u32::try_from(rule).unwrap_or(u32::MAX)
}

fn checked(text: &str) -> Result<&str, String> {
    let text = text.trim();
    if text.chars().nth(1).is_none() {
        return Err("needs two characters or more".to_owned());
    }
    if text.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    Ok(text)
}

/// The character that ends at `at`, and the one that starts there.
fn beside(text: &[u8], at: usize) -> (Option<char>, Option<char>) {
    let before = text.get(at.saturating_sub(4)..at).unwrap_or_default();
    let behind = text.get(at..text.len().min(at + 4)).unwrap_or_default();
    let last = before.utf8_chunks().last().filter(|chunk| chunk.invalid().is_empty());
    (
        last.and_then(|chunk| chunk.valid().chars().next_back()),
        behind.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()),
    )
}

/// Whether a word may begin or end at `at`. Scripts that are written without blanks, or glue endings on, have words anywhere.
pub(super) fn is_edge(text: &[u8], at: usize) -> bool {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && !is_glued(c));
    let (before, behind) = beside(text, at);
    !(joins(before) && joins(behind))
}

pub(super) const fn is_glued(c: char) -> bool {
    matches!(c,
        // Thai to Burmese, Khmer.
        '\u{E00}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        // Kana, ideographs, Hangul.
        | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}')
}

/// Bytes of the gap that `text` begins with; none if that is no gap between two words.
fn gap(text: &[u8]) -> Option<usize> {
    let head = text.get(..text.len().min(GAP + 4)).unwrap_or_default();
    let valid = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let len = valid.find(char::is_alphanumeric)?;
    (1..=GAP).contains(&len).then_some(len)
}

/// The same for the gap that `text` ends with.
fn gap_before(text: &[u8]) -> Option<usize> {
    let tail = text.get(text.len().saturating_sub(GAP + 4)..).unwrap_or_default();
    let valid = tail.utf8_chunks().last().map_or("", |chunk| chunk.valid());
    let (last, c) = valid.char_indices().rfind(|(_, c)| c.is_alphanumeric())?;
    let len = valid.len() - last - c.len_utf8();
    (1..=GAP).contains(&len).then_some(len)
}
