//! An organization's own rules: keywords, phrases and regular expressions, and the allow list that lowers rules for named texts.
//!
//! One automaton looks for all words at once, among them a literal that each expression cannot match without; an expression runs
//! only where its literal was seen, or always when it has none. Everything is linear in the text.

mod exact;
mod open;
mod regexes;
mod siphash;
mod words;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};

use super::Sink;
use crate::domain::Rule;
pub use exact::{DataSet, ExactData, FINGERPRINT, Fingerprint, Fingerprinter, MOST_VALUES};
use open::Open;
use regexes::{Budget, Expression};
use words::Wording;

/// Words and expressions of one policy.
const MAX_WORDINGS: usize = 10_000;
const MAX_EXPRESSIONS: usize = 200;
/// Findings that are told apart in one reading of a text. From then on what a rule matches is one finding, from the first to the
/// last: nothing is lost of it, but a text made for it does not fill the memory.
const MAX_APART: usize = 5000;

/// A rule with what its findings are worth.
struct Own {
    rule: Arc<Rule>,
    /// 0 to 1.
    confidence: f32,
}

/// What a literal that was seen calls for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Wording(u32),
    Expression(u32),
}

/// An entry of the allow list.
struct Allowed {
    text: Option<Box<str>>,
    pattern: Option<regex::Regex>,
}

/// Compiled once for a version of a policy; shared by all requests under it.
pub struct CustomRules {
    own: Box<[Own]>,
    wordings: Box<[Wording]>,
    expressions: Box<[Expression]>,
    automaton: Option<AhoCorasick>,
    /// By the number of a literal.
    calls: Box<[Box<[Call]>]>,
    /// Sets of exact data, by the rule that looks for them.
    data: Box<[(usize, Arc<ExactData>)]>,
    allowed: Box<[Allowed]>,
    /// Entries by the id of the rule that they lower; the first that covers a text counts.
    allowed_by_rule: HashMap<Box<str>, Vec<u16>>,
    open: Open,
}

impl std::fmt::Debug for CustomRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CustomRules")
            .field("rules", &self.own.len())
            .field("wordings", &self.wordings.len())
            .field("expressions", &self.expressions.len())
            .field("allowed", &self.allowed.len())
            .finish_non_exhaustive()
    }
}

impl CustomRules {
    #[must_use]
    pub fn builder() -> CustomRulesBuilder {
        CustomRulesBuilder::default()
    }

    /// The entry of the allow list that covers `text`, which `rule` has found.
    pub(super) fn allowed(&self, rule: &str, text: &str) -> Option<u16> {
        if self.allowed.is_empty() {
            return None;
        }
        let entries = self.allowed_by_rule.get(rule)?;
        entries.iter().copied().find(|entry| {
            self.allowed.get(usize::from(*entry)).is_some_and(|allowed| {
                allowed.text.as_deref().is_some_and(|exact| exact == text.trim())
                    || allowed.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
            })
        })
    }

    /// Looks at one reading of a text.
    pub(super) fn scan(&self, text: &str, sink: &mut Sink<'_>) {
        if self.own.is_empty() {
            return;
        }
        let mut hits = Hits { own: &self.own, open: vec![None; self.own.len()], left: MAX_APART, sink };
        let mut called = vec![false; self.expressions.len()];
        if let Some(automaton) = &self.automaton {
            let folded = fold(text);
            for found in automaton.find_overlapping_iter(&*folded) {
                for call in self.calls.get(found.pattern().as_usize()).into_iter().flatten() {
                    match *call {
                        Call::Wording(index) => self.word(index, &folded, found.start()..found.end(), &mut hits),
                        Call::Expression(index) => {
                            if let Some(called) = called.get_mut(index as usize) {
                                *called = true;
                            }
                        }
                    }
                }
            }
        }
        if !self.data.is_empty() {
            exact::scan(text, &self.data, |rule, span| hits.add(rule, span));
        }
        for (expression, called) in self.expressions.iter().zip(called) {
            if called || expression.literals.is_empty() {
                for found in expression.regex.find_iter(text) {
                    hits.add(expression.rule, found.range());
                }
            }
        }
        hits.end();
    }

    /// The sets of exact data that are looked for; each finds nothing before it is loaded.
    pub fn data(&self) -> impl Iterator<Item = &Arc<ExactData>> {
        self.data.iter().map(|(_, data)| data)
    }

    fn word(&self, index: u32, folded: &[u8], anchor: Range<usize>, hits: &mut Hits<'_, '_>) {
        let Some(wording) = self.wordings.get(index as usize) else { return };
        if let Some(span) = wording.around(folded, anchor) {
            hits.add(wording.rule(), span);
        }
    }

    /// How many bytes of `text` cannot become part of a match any more, whatever is appended. A match of more than
    /// [`LONGEST_WAIT`](open::LONGEST_WAIT) bytes is not waited for.
    #[must_use]
    pub fn settled(&self, text: &str) -> usize {
        self.open.settled(text)
    }
}

/// What the rules match in one reading; matches of one rule that overlap are one.
struct Hits<'h, 's> {
    own: &'h [Own],
    /// The last match of each rule.
    open: Vec<Option<Range<usize>>>,
    /// Findings that can still be told apart.
    left: usize,
    sink: &'h mut Sink<'s>,
}

impl Hits<'_, '_> {
    fn add(&mut self, rule: usize, span: Range<usize>) {
        let (Some(own), Some(open)) = (self.own.get(rule), self.open.get_mut(rule)) else { return };
        if self.sink.allowed(&own.rule, span.clone()).is_some() {
            // Only told, nothing is done about it.
            if self.left > 0 {
                self.left -= 1;
                self.sink.push(&own.rule, own.confidence, span);
            }
            return;
        }
        match open {
            Some(last) if self.left == 0 || span.start < last.end && last.start < span.end => {
                *last = last.start.min(span.start)..last.end.max(span.end);
            }
            _ => {
                if let Some(last) = open.replace(span) {
                    self.left -= 1;
                    self.sink.push(&own.rule, own.confidence, last);
                }
            }
        }
    }

    fn end(self) {
        for (own, open) in self.own.iter().zip(self.open) {
            if let Some(last) = open {
                self.sink.push(&own.rule, own.confidence, last);
            }
        }
    }
}

/// Collects the parts of a [`CustomRules`]; each part says at once what is wrong with it.
#[derive(Default)]
pub struct CustomRulesBuilder {
    own: Vec<Own>,
    wordings: Vec<Wording>,
    expressions: Vec<Expression>,
    data: Vec<(usize, Arc<ExactData>)>,
    budget: Budget,
    allowed: Vec<Allowed>,
    allowed_by_rule: HashMap<Box<str>, Vec<u16>>,
}

impl CustomRulesBuilder {
    /// Whether there is anything to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.allowed.is_empty()
    }

    /// Adds a rule, and returns the number that its words are added under.
    pub fn rule(&mut self, rule: Arc<Rule>, confidence: f32) -> usize {
        self.own.push(Own { rule, confidence });
        self.own.len() - 1
    }

    /// # Errors
    /// What is wrong with it.
    pub fn keyword(&mut self, rule: usize, keyword: &str) -> Result<(), String> {
        self.wording(Wording::keyword(rule, keyword)?)
    }

    /// # Errors
    /// What is wrong with it.
    pub fn phrase(&mut self, rule: usize, phrase: &str) -> Result<(), String> {
        self.wording(Wording::phrase(rule, phrase)?)
    }

    fn wording(&mut self, wording: Wording) -> Result<(), String> {
        if self.wordings.len() >= MAX_WORDINGS {
            return Err(format!("more than {MAX_WORDINGS} keywords and phrases in one policy"));
        }
        self.wordings.push(wording);
        Ok(())
    }

    /// # Errors
    /// What is wrong with it: syntax, a match of nothing, or too large when compiled.
    pub fn regex(&mut self, rule: usize, pattern: &str) -> Result<(), String> {
        if self.expressions.len() >= MAX_EXPRESSIONS {
            return Err(format!("more than {MAX_EXPRESSIONS} regular expressions in one policy"));
        }
        self.expressions.push(Expression::new(rule, pattern, &mut self.budget)?);
        Ok(())
    }

    /// Lets a rule look for a set of exact data.
    pub fn data(&mut self, rule: usize, name: &str) {
        self.data.push((rule, Arc::new(ExactData::new(name))));
    }

    /// Adds an entry to the allow list, for the rules with these ids: a text in full, or a pattern that matches all of it.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn allow<'i>(
        &mut self,
        rules: impl IntoIterator<Item = &'i str>,
        text: Option<&str>,
        pattern: Option<&str>,
    ) -> Result<(), String> {
        let pattern = pattern.map(|pattern| regexes::whole(pattern, &mut self.budget)).transpose()?;
        let entry = u16::try_from(self.allowed.len()).map_err(|_| "too many entries".to_owned())?;
        self.allowed.push(Allowed { text: text.map(|text| text.trim().into()), pattern });
        for rule in rules {
            self.allowed_by_rule.entry(rule.into()).or_default().push(entry);
        }
        Ok(())
    }

    /// Puts everything together. What a rule that `acts` in answers may still match is waited for in streams.
    ///
    /// # Errors
    /// When the words together are too many for one automaton.
    pub fn build(mut self, acts: impl Fn(&Rule) -> bool) -> Result<CustomRules, String> {
        let waits = |rule: usize| self.own.get(rule).is_some_and(|own| acts(&own.rule));
        let open = Open::new(
            self.wordings.iter().filter(|wording| waits(wording.rule())),
            self.expressions.iter().filter(|expression| waits(expression.rule)),
            self.data.iter().filter(|(rule, _)| waits(*rule)).map(|(_, data)| data.clone()).collect(),
        );
        self.expressions.iter_mut().for_each(|expression| expression.nfa = None);
        let mut numbers: HashMap<&[u8], usize> = HashMap::new();
        let mut literals: Vec<&[u8]> = Vec::new();
        let mut calls: Vec<Vec<Call>> = Vec::new();
        let mut call = |literal, call| {
            let number = *numbers.entry(literal).or_insert_with(|| {
                literals.push(literal);
                calls.push(Vec::new());
                literals.len() - 1
            });
            if let Some(calls) = calls.get_mut(number)
                && calls.last() != Some(&call)
            {
                calls.push(call);
            }
        };
        for (index, wording) in (0..).zip(&self.wordings) {
            call(wording.anchor(), Call::Wording(index));
        }
        for (index, expression) in (0..).zip(&self.expressions) {
            expression.literals.iter().for_each(|literal| call(literal, Call::Expression(index)));
        }
        let automaton = (!literals.is_empty())
            .then(|| {
                AhoCorasick::builder()
                    .match_kind(MatchKind::Standard)
                    .ascii_case_insensitive(true)
                    .build(&literals)
                    .map_err(|error| error.to_string())
            })
            .transpose()?;
        let calls = calls.into_iter().map(Vec::into_boxed_slice).collect();
        Ok(CustomRules {
            own: self.own.into(),
            wordings: self.wordings.into(),
            expressions: self.expressions.into(),
            automaton,
            calls,
            data: self.data.into(),
            allowed: self.allowed.into(),
            allowed_by_rule: self.allowed_by_rule,
            open,
        })
    }
}

/// The text with letters outside of ASCII in lower case, byte for byte as long as before; ASCII letters stay, who compares
/// ignores their case.
fn fold(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut folded = String::with_capacity(text.len());
    folded.extend(text.chars().map(lower));
    Cow::Owned(folded.into_bytes())
}

/// The letter in lower case if that is one letter of the same length; ASCII as it is.
fn lower(c: char) -> char {
    if c.is_ascii() {
        return c;
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) if lower.len_utf8() == c.len_utf8() => lower,
        _ => c,
    }
}

#[cfg(test)]
mod tests;
