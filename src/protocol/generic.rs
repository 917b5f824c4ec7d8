//! Any other JSON. What is not known to be something else is taken to be the user's words, the role that detectors
//! look at hardest.

use crate::domain::Role;

use super::place::{Place, Shape, Slot, member_below};
use super::vocabulary::Word;

pub(super) static SHAPE: Shape = Shape { member, streams_by_default: false };

const fn member(place: Place, key: Word) -> Place {
    match place.slot {
        Slot::Root => match key {
            Word::Messages | Word::Contents | Word::History | Word::Conversation => Place::speaker(Slot::Messages),
            Word::Input | Word::Inputs | Word::Prompt => Place::speaker(Slot::Messages),
            Word::System
            | Word::SystemPrompt
            | Word::Instructions
            | Word::SystemInstruction
            | Word::SystemInstructionSnake => Place::text(Role::System),
            Word::Tools | Word::Functions | Word::ToolConfig => Place::text(Role::ToolDefinition),
            Word::Model => Place::of(Slot::Model, Role::Other),
            Word::Stream => Place::of(Slot::Stream, Role::Other),
            Word::User | Word::UserId => Place::of(Slot::User, Role::Other),
            Word::Metadata => Place::of(Slot::Metadata, Role::Other),
            _ => Place::text(Role::User).within(key),
        },
        _ => member_below(place, key),
    }
}
