//! Gemini: `generateContent` and its siblings, embeddings, token counts. Whether it streams is in the path.

use crate::domain::Role;

use super::place::{Place, Shape, Slot, member_below};
use super::vocabulary::Word;

pub(super) static SHAPE: Shape = Shape { member, streams_by_default: false };

const fn member(place: Place, key: Word) -> Place {
    match place.slot {
        Slot::Root | Slot::Request => match key {
            Word::Contents => Place::speaker(Slot::Messages),
            Word::Content => Place::speaker(Slot::Message),
            Word::SystemInstruction | Word::SystemInstructionSnake => Place::text(Role::System),
            Word::Tools | Word::ToolConfig => Place::text(Role::ToolDefinition),
            Word::Model => Place::of(Slot::Model, Role::Other),
            Word::Requests => Place::of(Slot::Requests, Role::Other),
            _ => place.within(key),
        },
        _ => member_below(place, key),
    }
}
