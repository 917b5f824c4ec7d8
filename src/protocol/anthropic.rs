//! Anthropic: messages, token counts, and batches of messages.

use crate::domain::Role;

use super::place::{Place, Shape, Slot, member_below};
use super::vocabulary::Word;

pub(super) static SHAPE: Shape = Shape { member, streams_by_default: false };

pub(super) const fn member(place: Place, key: Word) -> Place {
    match place.slot {
        Slot::Root => match key {
            Word::Messages => Place::speaker(Slot::Messages),
            Word::System => Place::text(Role::System),
            Word::Prompt => Place::of(Slot::Prompt, Role::User),
            Word::Tools => Place::text(Role::ToolDefinition),
            Word::Model => Place::of(Slot::Model, Role::Other),
            Word::Stream => Place::of(Slot::Stream, Role::Other),
            Word::Metadata => Place::of(Slot::Metadata, Role::Other),
            Word::Requests => Place::of(Slot::Requests, Role::Other),
            _ => place.within(key),
        },
        Slot::Request => match key {
            Word::Params => Place::ROOT,
            _ => place.within(key),
        },
        _ => member_below(place, key),
    }
}
