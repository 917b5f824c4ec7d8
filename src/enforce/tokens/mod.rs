//! Reversible tokens: a value that the policy tokenizes goes on as `<EMAIL_ADDRESS_1>`, and comes back in the answer as it was.
//!
//! Nothing is kept between a request and its answer but what both nodes and restarts have anyway. A body that carries the
//! conversation is numbered in the order in which its values come, so the next turn, which repeats the earlier ones, gives
//! them the same numbers on any node. Where the conversation, or the answer, is kept by the provider, numbers would name
//! other values in another request: there the value itself is in the token, sealed for its workspace ([`Vault`]).

mod assign;
mod placeholder;
#[cfg(test)]
mod tests;
mod vault;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::domain::Sensitive;

pub(super) use assign::{Assigned, Passage, assign};
use placeholder::{Found, Name};
pub use vault::Vault;

/// Names that stand in front of a token's number.
pub(super) type Labels = Arc<[Box<str>]>;

/// Under what values are sealed: the installation's keys, and whose values they are.
#[derive(Clone, Debug)]
pub struct Seal {
    pub vault: Arc<Vault>,
    /// Names the workspace: a token opens nowhere else.
    pub place: String,
}

/// How the values of a request become tokens.
pub(super) enum Mint {
    Numbered,
    /// None: there are no keys, so nothing can be put back.
    Sealed(Option<Seal>),
}

/// Puts values back into the answer of one request. Never prints them.
#[derive(Clone, Debug)]
pub struct Restorer {
    labels: Labels,
    book: Book,
}

#[derive(Clone, Debug)]
enum Book {
    Numbered {
        /// By name: `EMAIL_ADDRESS_1`.
        values: HashMap<String, Sensitive<String>>,
        /// Names that the request itself speaks of, without brackets: in the answer they are words like any other.
        spoken: HashSet<String>,
    },
    Sealed(Seal),
}

impl Restorer {
    /// What is to be put back into `text` from byte `from` on, and where: and the first byte of what may be a token that has
    /// not come whole. `ended`: nothing follows. `exact`: tokens are only read as they were written, because the text, when it
    /// comes back with the next turn, has to be the same again.
    pub(super) fn look(
        &self,
        text: &str,
        from: usize,
        ended: bool,
        exact: bool,
    ) -> (Vec<(Range<usize>, String)>, usize) {
        let (mut found, open) = placeholder::scan(text, from, &self.labels, ended);
        found.retain(|found| !exact || text.get(found.range.clone()) == Some(&found.written()));
        (found.into_iter().filter_map(|found| Some((found.range.clone(), self.value(&found)?))).collect(), open)
    }

    fn value(&self, found: &Found<'_>) -> Option<String> {
        match (&self.book, &found.name) {
            (Book::Numbered { values, spoken }, Name::Number(number)) => {
                let name = format!("{}_{number}", found.label);
                if found.bare && spoken.contains(&name) {
                    return None;
                }
                values.get(&name).map(|value| value.expose().clone())
            }
            (Book::Sealed(seal), Name::Sealed(text)) => seal.vault.open(&seal.place, found.label, text),
            _ => None,
        }
    }
}
