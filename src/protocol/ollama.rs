//! Ollama: `chat`, `generate`, `embed`.

use crate::domain::Role;

use super::place::{Place, Shape, Slot, member_below};
use super::vocabulary::Word;

/// Ollama streams unless it is told not to.
pub(super) static SHAPE: Shape = Shape { member, streams_by_default: true };

const fn member(place: Place, key: Word) -> Place {
    match place.slot {
        Slot::Root => match key {
            Word::Messages => Place::speaker(Slot::Messages),
            // `context` carries the token ids of the conversation so far.
            Word::Prompt | Word::Input | Word::Context => Place::of(Slot::Prompt, Role::User),
            Word::Suffix => Place::text(Role::User),
            Word::System | Word::Template => Place::text(Role::System),
            Word::Tools => Place::text(Role::ToolDefinition),
            Word::Model => Place::of(Slot::Model, Role::Other),
            Word::Stream => Place::of(Slot::Stream, Role::Other),
            _ => place.within(key),
        },
        _ => member_below(place, key),
    }
}
