//! Bedrock: `converse`, and `invoke` with the bodies of Anthropic's models.

use crate::domain::Role;

use super::place::{Place, Shape, Slot};
use super::vocabulary::Word;

pub(super) static SHAPE: Shape = Shape { member, streams_by_default: false };

const fn member(place: Place, key: Word) -> Place {
    match (place.slot, key) {
        (Slot::Root, Word::ToolConfig) => Place::text(Role::ToolDefinition),
        (Slot::Root, Word::UserInput | Word::Inputs) => Place::text(Role::User),
        _ => super::anthropic::member(place, key),
    }
}
