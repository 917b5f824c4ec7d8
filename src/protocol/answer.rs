//! Answers, the same for every dialect: nobody but the model speaks in them, so all that is told apart is text, numbers that
//! are no text, and what says which text a piece belongs to.

use crate::domain::Role;

use super::place::{Place, Shape, Slot};
use super::vocabulary::Word;

pub(super) static SHAPE: Shape = Shape { member, streams_by_default: false };

const fn member(place: Place, key: Word) -> Place {
    let slot = match (place.slot, key) {
        (
            _,
            Word::Index
            | Word::OutputIndex
            | Word::ContentIndex
            | Word::SummaryIndex
            | Word::CamelContentBlockIndex
            | Word::Thought,
        ) => Slot::Ordinal,
        (Slot::Numbers, _) | (_, Word::Embedding | Word::Embeddings | Word::Logprobs | Word::TopLogprobs) => {
            Slot::Numbers
        }
        _ => return Place::text(Role::Assistant).within(key),
    };
    Place::of(slot, Role::Assistant)
}
