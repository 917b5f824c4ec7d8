//! Which value is which token.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::AhoCorasick;

use super::placeholder::{self, Name};
use super::{Book, Labels, Mint, Restorer};
use crate::domain::{Sensitive, label};
use crate::enforce::splice::Found;

/// A shorter value is too little to be known by where nobody found it.
const SHORTEST_ECHO: usize = 5;
/// Values of one request that get a token; further ones are redacted. Bounds what it takes to look for them all again.
const MAX_VALUES: usize = 10_000;

/// A text of a request, in the order of the conversation.
pub(in crate::enforce) struct Passage<'t> {
    pub segment: usize,
    pub text: Cow<'t, str>,
    /// It is replaced as a whole or not at all.
    pub number: bool,
}

/// What came of it.
#[derive(Default)]
pub(in crate::enforce) struct Assigned {
    /// None when nothing can come back.
    pub restorer: Option<Restorer>,
    /// Tokens that were written.
    pub made: u64,
}

/// Where in the conversation: which passage, and where in it.
type Moment = (usize, usize);

struct Maker<'m> {
    mint: &'m Mint,
    /// By value.
    tokens: HashMap<String, (String, Moment)>,
    /// By label, the last one.
    numbers: HashMap<Box<str>, u32>,
    values: HashMap<String, Sensitive<String>>,
}

impl Maker<'_> {
    /// The token for `value`; None when there can be none.
    fn token(&mut self, label: &str, value: &str, moment: Moment) -> Option<String> {
        if let Some((token, _)) = self.tokens.get(value) {
            return Some(token.clone());
        }
        if self.tokens.len() == MAX_VALUES {
            return None;
        }
        let name = match self.mint {
            Mint::Numbered => {
                let number = self.numbers.entry(label.into()).or_default();
                *number += 1;
                let name = format!("{label}_{number}");
                self.values.insert(name.clone(), Sensitive::new(value.to_owned()));
                name
            }
            Mint::Sealed(seal) => {
                let seal = seal.as_ref()?;
                format!("{label}_{}", seal.vault.seal(&seal.place, label, value)?)
            }
        };
        let token = format!("<{name}>");
        self.tokens.insert(value.to_owned(), (token.clone(), moment));
        Some(token)
    }
}

/// Gives what is `restorable` among `found` its token. What stands in the texts and reads like a token is itself a value, so
/// that every token in what goes on is one of these; and what was replaced once is replaced wherever it comes again, found
/// there or not: an answer that the client sends back speaks of it in other words.
pub(in crate::enforce) fn assign(
    passages: &[Passage<'_>],
    labels: &Labels,
    mint: &Mint,
    found: &mut Vec<Found<'_>>,
) -> Assigned {
    let mut maker = Maker { mint, tokens: HashMap::new(), numbers: HashMap::new(), values: HashMap::new() };
    let mut spoken = HashSet::new();
    let mut literals = HashSet::new();
    let mut more: Vec<Found<'_>> = Vec::new();
    for (turn, passage) in passages.iter().enumerate() {
        let text = &*passage.text;
        let own = own(found, passage.segment);
        let own = found.get_mut(own).unwrap_or_default();
        if passage.number {
            let known = own.first().filter(|_| own.iter().all(|found| found.restorable));
            let known = known.and_then(|found| known_label(labels, found.entity));
            let token = known.and_then(|label| maker.token(label, text, (turn, 0)));
            own.iter_mut().for_each(|found| found.token.clone_from(&token));
            continue;
        }
        let (mut written, _) = placeholder::scan(text, 0, labels, true);
        written.retain(|token| is_free(own, &token.range));
        let mut written = written.into_iter();
        let mut next = written.next();
        let mut at = 0;
        while at < own.len() || next.is_some() {
            let before = own.get(at).map_or(usize::MAX, |found| found.span.start);
            if let Some(token) = next.take_if(|token| token.range.start < before) {
                next = written.next();
                let value = text.get(token.range.clone()).unwrap_or_default();
                if let (true, Mint::Numbered, Name::Number(number)) = (token.bare, mint, &token.name) {
                    spoken.insert(format!("{}_{number}", token.label));
                } else if let Some(token_of) = maker.token(token.label, value, (turn, token.range.start)) {
                    literals.insert(value.to_owned());
                    more.push(Found::token(passage.segment, token.range, token_of));
                }
            } else if let Some(found) = own.get_mut(at) {
                at += 1;
                if let Some(label) = known_label(labels, found.entity).filter(|_| found.restorable) {
                    let value = text.get(found.span.clone()).unwrap_or_default();
                    found.token = maker.token(label, value, (turn, found.span.start));
                }
            }
        }
    }
    found.append(&mut more);
    found.sort_by_key(|found| (found.segment, found.span.start));
    let echoes = echoes(passages, &maker.tokens, &literals, found);
    found.extend(echoes);
    found.sort_by_key(|found| (found.segment, found.span.start));
    let made = found.iter().filter(|found| found.token.is_some()).count() as u64;
    let restorer = match mint {
        Mint::Numbered if maker.values.is_empty() => None,
        Mint::Numbered => {
            let used = labels.iter().filter(|label| maker.numbers.contains_key(*label)).cloned();
            Some(Restorer { labels: used.collect(), book: Book::Numbered { values: maker.values, spoken } })
        }
        // Of what earlier requests have sealed.
        Mint::Sealed(seal) => {
            seal.clone().map(|seal| Restorer { labels: Arc::clone(labels), book: Book::Sealed(seal) })
        }
    };
    Assigned { restorer, made }
}

/// What was replaced before, and stands here again without being found.
fn echoes(
    passages: &[Passage<'_>],
    tokens: &HashMap<String, (String, Moment)>,
    literals: &HashSet<String>,
    found: &[Found<'_>],
) -> Vec<Found<'static>> {
    let known: Vec<(&String, &(String, Moment))> =
        tokens.iter().filter(|(value, _)| value.len() >= SHORTEST_ECHO && !literals.contains(*value)).collect();
    let Ok(search) = AhoCorasick::new(known.iter().map(|(value, _)| value.as_bytes())) else { return Vec::new() };
    let mut echoes: Vec<Found<'static>> = Vec::new();
    for (turn, passage) in passages.iter().enumerate().filter(|_| !known.is_empty()) {
        let text = &*passage.text;
        let taken = found.get(own(found, passage.segment)).unwrap_or_default();
        let mut matches: Vec<(Range<usize>, &String)> = search
            .find_overlapping_iter(text)
            .filter_map(|hit| {
                let (_, (token, first)) = known.get(hit.pattern().as_usize())?;
                let after = (turn, hit.start()) > *first;
                let whole = if passage.number { hit.len() == text.len() } else { stands_alone(text, &hit.range()) };
                let free = is_free(taken, &hit.range());
                (after && whole && free).then_some((hit.range(), token))
            })
            .collect();
        matches.sort_by_key(|(range, _)| (range.start, usize::MAX - range.end));
        let mut end = 0;
        for (range, token) in matches {
            if range.start >= end {
                end = range.end;
                echoes.push(Found::token(passage.segment, range, token.clone()));
            }
        }
    }
    echoes
}

fn own(found: &[Found<'_>], segment: usize) -> Range<usize> {
    found.partition_point(|found| found.segment < segment)..found.partition_point(|found| found.segment <= segment)
}

fn known_label<'l>(labels: &'l Labels, entity: &str) -> Option<&'l str> {
    let wanted = label(entity);
    labels.iter().find(|known| ***known == *wanted).map(AsRef::as_ref)
}

/// Whether nothing of a segment's `found` touches `range`.
fn is_free(found: &[Found<'_>], range: &Range<usize>) -> bool {
    let next = found.partition_point(|found| found.span.end <= range.start);
    found.get(next).is_none_or(|found| found.span.start >= range.end)
}

/// Not a part of a longer word or number.
fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let joined =
        |a: Option<char>, b: Option<char>| a.is_some_and(char::is_alphanumeric) && b.is_some_and(char::is_alphanumeric);
    let (before, behind) = (text.get(..range.start).unwrap_or_default(), text.get(range.end..).unwrap_or_default());
    let value = text.get(range.clone()).unwrap_or_default();
    !joined(before.chars().next_back(), value.chars().next())
        && !joined(value.chars().next_back(), behind.chars().next())
}
