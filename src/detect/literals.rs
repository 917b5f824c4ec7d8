//! Search for many short literals at once: vectorised (Teddy) where the processor can, an automaton elsewhere.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind, packed};

/// Teddy's false candidates grow with the literals per bucket; beyond this many a second pass is cheaper.
const PER_PASS: usize = 60;

enum Pass {
    Packed(packed::Searcher),
    Automaton(Box<AhoCorasick>),
}

/// A set of literals. Costs about 0.06 µs/KiB per sixty literals on text that holds none.
pub(super) struct Literals {
    passes: Vec<Pass>,
}

impl Literals {
    /// Distinct, non-empty literals; ids are positions in `literals`.
    pub(super) fn new(literals: &[&[u8]]) -> Result<Self, String> {
        let passes = literals.chunks(PER_PASS).map(pass).collect::<Result<_, _>>()?;
        Ok(Self { passes })
    }

    /// Calls `found(id, start)` for the leftmost longest literals, pass by pass, ascending within a pass.
    pub(super) fn each(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        for (index, pass) in self.passes.iter().enumerate() {
            let base = index * PER_PASS;
            match pass {
                Pass::Packed(searcher) => {
                    searcher.find_iter(text).for_each(|m| found(base + m.pattern().as_usize(), m.start()));
                }
                Pass::Automaton(automaton) => {
                    automaton.find_iter(text).for_each(|m| found(base + m.pattern().as_usize(), m.start()));
                }
            }
        }
    }
}

fn pass(literals: &[&[u8]]) -> Result<Pass, String> {
    let mut builder = packed::Config::new().match_kind(packed::MatchKind::LeftmostLongest).builder();
    if let Some(searcher) = builder.extend(literals).build() {
        return Ok(Pass::Packed(searcher));
    }
    automaton(literals, false).map(|automaton| Pass::Automaton(Box::new(automaton)))
}

/// A table-driven automaton, for short windows.
pub(super) fn automaton<P: AsRef<[u8]>>(literals: &[P], ignore_case: bool) -> Result<AhoCorasick, String> {
    AhoCorasickBuilder::new()
        .match_kind(MatchKind::LeftmostLongest)
        .ascii_case_insensitive(ignore_case)
        .kind(Some(AhoCorasickKind::DFA))
        .build(literals)
        .map_err(|error| error.to_string())
}
