//! OpenAI: chat completions, legacy completions, responses, embeddings, moderations, images, and batch lines.

use crate::domain::Role;

use super::place::{Place, Shape, Slot, member_below};
use super::vocabulary::Word;

pub(super) static SHAPE: Shape = Shape { member, streams_by_default: false };

const fn member(place: Place, key: Word) -> Place {
    match place.slot {
        Slot::Root => match key {
            Word::Messages => Place::speaker(Slot::Messages),
            // A text, texts, token ids, or the items of a response.
            Word::Input | Word::Prompt => Place::speaker(Slot::Prompt),
            Word::Suffix | Word::Query => Place::text(Role::User),
            Word::Instructions => Place::text(Role::System),
            Word::Tools | Word::Functions => Place::text(Role::ToolDefinition),
            Word::Prediction => Place::text(Role::Assistant),
            Word::Model => Place::of(Slot::Model, Role::Other),
            Word::Stream => Place::of(Slot::Stream, Role::Other),
            Word::User | Word::SafetyIdentifier => Place::of(Slot::User, Role::Other),
            Word::Metadata => Place::of(Slot::Metadata, Role::Other),
            // A line of a batch file.
            Word::Body => Place::ROOT,
            _ => place.within(key),
        },
        _ => member_below(place, key),
    }
}
