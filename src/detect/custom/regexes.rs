//! Regular expressions: bounded when they are compiled, linear when they run, and asked only where a literal that they need stands.

use regex::{Regex, RegexBuilder};
use regex_automata::nfa::thompson::{self, NFA};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::lower;

/// Of one expression as it is written, in bytes.
const LONGEST_PATTERN: usize = 1000;
/// Of one expression, compiled, in bytes. It bounds the steps that a byte of text can take as well.
const LARGEST: usize = 1 << 20;
/// Of all expressions of a policy, in bytes.
const LARGEST_TOGETHER: usize = 8 << 20;
/// For the states that an expression has visited, in bytes and thread.
const CACHE: usize = 1 << 20;
const DEEPEST: u32 = 100;
/// A shorter literal stands everywhere, and tells nothing.
const SHORTEST_LITERAL: usize = 3;
/// Alternatives that are looked for by the automaton.
const MOST_LITERALS: usize = 64;

/// Room that is left for compiled expressions.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(LARGEST_TOGETHER)
    }
}

pub(super) struct Expression {
    pub(super) rule: usize,
    pub(super) regex: Regex,
    /// Of these one stands in every match, folded and in lower case; none if there is no such thing.
    pub(super) literals: Vec<Vec<u8>>,
    /// Of a match, in bytes; none without a bound.
    pub(super) longest: Option<usize>,
    /// To follow a match that is not complete; let go once it is known who is waited for.
    pub(super) nfa: Option<NFA>,
}

impl Expression {
    pub(super) fn new(rule: usize, pattern: &str, budget: &mut Budget) -> Result<Self, String> {
        let (hir, regex, nfa) = compile(pattern, budget)?;
        match hir.properties().minimum_len() {
            Some(0) => return Err("matches where nothing is: it must need one character or more".to_owned()),
            None => return Err("can match nothing".to_owned()),
            Some(_) => {}
        }
        let longest = hir.properties().maximum_len();
        let literals = required(&hir).unwrap_or_default();
        Ok(Self { rule, regex, literals, longest, nfa: Some(nfa) })
    }
}

/// An expression that must match a text from its beginning to its end.
pub(super) fn whole(pattern: &str, budget: &mut Budget) -> Result<Regex, String> {
    // Alone first: `a)|(b` must not become one by what is put around it.
    compile(pattern, budget)?;
    compile(&format!(r"\A(?:{pattern})\z"), budget).map(|(_, regex, _)| regex)
}

fn compile(pattern: &str, budget: &mut Budget) -> Result<(Hir, Regex, NFA), String> {
    if pattern.len() > LONGEST_PATTERN {
        return Err(format!("longer than {LONGEST_PATTERN} bytes"));
    }
    let hir = regex_syntax::ParserBuilder::new().nest_limit(DEEPEST).build().parse(pattern).map_err(|e| short(&e))?;
    let too_large = || format!("too large when compiled: more than {} KiB", LARGEST >> 10);
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().nfa_size_limit(Some(LARGEST)).which_captures(thompson::WhichCaptures::None))
        .build_from_hir(&hir)
        .map_err(|_| too_large())?;
    budget.0 = budget.0.checked_sub(nfa.memory_usage()).ok_or_else(|| {
        format!("the expressions of this policy are too large together: more than {} MiB", LARGEST_TOGETHER >> 20)
    })?;
    let regex = RegexBuilder::new(pattern)
        .nest_limit(DEEPEST)
        .size_limit(2 * LARGEST)
        .dfa_size_limit(CACHE)
        .build()
        .map_err(|_| too_large())?;
    Ok((hir, regex, nfa))
}

/// The last line of an error says what is wrong; those above draw the pattern.
fn short(error: &regex_syntax::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Literals of which every match holds one.
fn required(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let found = match hir.kind() {
        HirKind::Literal(literal) => vec![folded(&literal.0)?],
        HirKind::Capture(capture) => return required(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => return required(&repetition.sub),
        HirKind::Alternation(alternatives) => {
            let mut all = Vec::new();
            for alternative in alternatives {
                all.extend(required(alternative)?);
            }
            all
        }
        HirKind::Concat(parts) => return of_sequence(parts),
        _ => return None,
    };
    is_telling(&found).then_some(found)
}

/// The most telling part of a sequence. Neighbours that stand for one text each are read together: `(?i)atlas` is a sequence of
/// pairs of letters.
fn of_sequence(parts: &[Hir]) -> Option<Vec<Vec<u8>>> {
    let mut best: Option<Vec<Vec<u8>>> = None;
    let mut offer = |found: Vec<Vec<u8>>| {
        let worth = |found: &[Vec<u8>]| (found.iter().map(Vec::len).min(), std::cmp::Reverse(found.len()));
        if is_telling(&found) && best.as_ref().is_none_or(|best| worth(&found) > worth(best)) {
            best = Some(found);
        }
    };
    let mut run = Vec::new();
    for part in parts {
        match single(part) {
            Some(text) => run.extend(text),
            None => {
                offer(vec![std::mem::take(&mut run)]);
                if let Some(found) = required(part) {
                    offer(found);
                }
            }
        }
    }
    offer(vec![run]);
    best
}

fn is_telling(literals: &[Vec<u8>]) -> bool {
    literals.len() <= MOST_LITERALS && literals.iter().all(|literal| literal.len() >= SHORTEST_LITERAL)
}

/// The one text that a part stands for once letters are folded.
fn single(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Literal(literal) => folded(&literal.0),
        HirKind::Capture(capture) => single(&capture.sub),
        HirKind::Class(Class::Unicode(class)) => {
            let mut letters = class.iter().flat_map(|range| range.start()..=range.end()).take(5).map(fold_fully);
            let first = letters.next()?;
            letters.all(|letter| letter == first).then(|| first.to_string().into_bytes())
        }
        _ => None,
    }
}

fn folded(literal: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(literal).ok()?;
    Some(text.chars().map(fold_fully).collect::<String>().into_bytes())
}

fn fold_fully(c: char) -> char {
    lower(c).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(pattern: &str) -> Vec<String> {
        let expression = Expression::new(0, pattern, &mut Budget::default()).unwrap();
        expression.literals.into_iter().map(|literal| String::from_utf8(literal).unwrap()).collect()
    }

    #[test]
    fn a_literal_that_every_match_holds_is_found_where_there_is_one() {
        for (pattern, expected) in [
            (r"CUST-\d{6}", &["cust-"][..]),
            (r"\d+(?:-internal-|_secret_)\w+", &["-internal-", "_secret_"]),
            ("(?i)planung", &["planung"]),
            ("(?i)Ünderground", &["ünderground"]),
            (r"(?:alpha|beta){2}\d", &["alpha", "beta"]),
            (r"(?:alpha)?\d{4}", &[]),
            (r"[a-z]{3}\d", &[]),
            ("ab|cdef", &[]),
            (r"x(?P<name>long literal)\d?y", &["xlong literal"]),
        ] {
            assert_eq!(literals(pattern), expected, "{pattern}");
        }
        // The long s and the sign for Kelvin are other letters with another length.
        assert_eq!(literals("(?i)classified"), ["ified"]);
    }

    #[test]
    fn what_is_too_large_or_matches_nothing_is_refused() {
        let told = |pattern: &str| Expression::new(0, pattern, &mut Budget::default()).err().unwrap();
        assert!(told(r"(?:\w{100}){100}").contains("too large"));
        assert!(told("(a").contains("unclosed group"));
        assert!(told(r"(a)\1").contains("backreferences"));
        assert!(told("a*").contains("one character"));
        assert!(told(&"a".repeat(LONGEST_PATTERN + 1)).contains("longer"));
        let mut budget = Budget::default();
        let refused = (0..500).find_map(|_| Expression::new(0, r"\w{30}x", &mut budget).err());
        assert!(refused.unwrap().contains("together"));
        assert!(whole("a)|(b", &mut Budget::default()).is_err());
        assert!(!whole("a|b", &mut Budget::default()).unwrap().is_match("ab"));
    }
}
