//! Where in a dialect's request a value stands, and therefore who speaks in it.
//!
//! A dialect is two small tables: which place a member of an object is, and which place an element of an array is. The
//! walker asks them on its way down and builds nothing.

use crate::domain::{Dialect, Role};

use super::vocabulary::Word;
use super::{anthropic, bedrock, gemini, generic, ollama, openai};

/// What a value means to the walker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// One line of JSONL.
    Lines,
    /// The request itself.
    Root,
    /// A list of requests, and one entry of it.
    Requests,
    Request,
    Messages,
    /// Its `role` and `type` say who speaks in it, wherever in the object they stand.
    Message,
    Blocks,
    /// A part of a message; its `type` may say more than the message's role does (`tool_result`).
    Block,
    /// Text, or text in any arrangement.
    Text,
    /// Text, or token ids that only the model's tokenizer can read.
    Prompt,
    /// A value from a fixed list.
    Choice,
    Role,
    Type,
    Model,
    Stream,
    User,
    /// An object that may name the end user.
    Metadata,
    /// Of an answer: which of several texts this is a part of.
    Ordinal,
    /// Of an answer: numbers that are weights or coordinates, however long.
    Numbers,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    Of(Role),
    /// Whoever the enclosing message turns out to be from; the user when it does not say.
    Speaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub slot: Slot,
    pub voice: Voice,
}

impl Place {
    pub(super) const ROOT: Self = Self { slot: Slot::Root, voice: Voice::Of(Role::Other) };
    pub(super) const LINES: Self = Self { slot: Slot::Lines, voice: Voice::Of(Role::Other) };

    pub(super) const fn of(slot: Slot, role: Role) -> Self {
        Self { slot, voice: Voice::Of(role) }
    }

    pub(super) const fn text(role: Role) -> Self {
        Self::of(Slot::Text, role)
    }

    pub(super) const fn speaker(slot: Slot) -> Self {
        Self { slot, voice: Voice::Speaker }
    }

    /// A member of something that has no shape of its own.
    pub(super) const fn within(self, key: Word) -> Self {
        let slot = if key.names_a_choice() { Slot::Choice } else { Slot::Text };
        Self { slot, voice: self.voice }
    }

    /// An element of an array that stands here.
    pub(super) const fn element(self) -> Self {
        match self.slot {
            Slot::Lines => Self::ROOT,
            // A bare array at the top is a conversation if anything.
            Slot::Root | Slot::Messages => Self::speaker(Slot::Message),
            Slot::Requests => Self { slot: Slot::Request, voice: self.voice },
            Slot::Blocks => Self { slot: Slot::Block, voice: self.voice },
            // Also of a `Responses` input: strings are texts, objects are messages, numbers are tokens.
            Slot::Prompt => self,
            Slot::Choice | Slot::Numbers => self,
            _ => Self { slot: Slot::Text, voice: self.voice },
        }
    }

    /// Whether an object that stands here says who speaks in it.
    pub(super) const fn has_speaker(self) -> bool {
        matches!(self.slot, Slot::Message | Slot::Block | Slot::Prompt)
    }
}

/// A dialect, as the walker needs it.
pub(super) struct Shape {
    /// Where the member `key` of an object at `place` stands.
    pub member: fn(Place, Word) -> Place,
    /// What a request without `stream` asks for.
    pub streams_by_default: bool,
}

impl Shape {
    pub(super) const fn of_requests(dialect: Option<Dialect>) -> &'static Self {
        match dialect {
            Some(Dialect::Openai) => &openai::SHAPE,
            Some(Dialect::Anthropic) => &anthropic::SHAPE,
            Some(Dialect::Gemini) => &gemini::SHAPE,
            Some(Dialect::Bedrock) => &bedrock::SHAPE,
            Some(Dialect::Ollama) => &ollama::SHAPE,
            None => &generic::SHAPE,
        }
    }
}

/// A member of anything below the request itself; the same in every dialect.
pub(super) const fn member_below(place: Place, key: Word) -> Place {
    match place.slot {
        Slot::Message | Slot::Prompt => match key {
            Word::Role => Place::speaker(Slot::Role),
            Word::Type => Place::speaker(Slot::Type),
            Word::Content | Word::Parts | Word::Summary => Place::speaker(Slot::Blocks),
            Word::Output | Word::Results => Place::text(Role::Tool),
            _ => place.within(key),
        },
        Slot::Block => match key {
            Word::Type => Place { slot: Slot::Type, voice: place.voice },
            Word::Output | Word::Results | Word::ToolResult | Word::GeminiFunctionResponse => Place::text(Role::Tool),
            Word::Input | Word::ToolUse | Word::GeminiFunctionCall => Place::text(Role::Assistant),
            _ => place.within(key),
        },
        Slot::Metadata if matches!(key, Word::UserId) => Place::of(Slot::User, Role::Other),
        _ => place.within(key),
    }
}

/// The role that a message names.
pub(super) const fn role_named(word: Word) -> Option<Role> {
    match word {
        Word::System | Word::Developer => Some(Role::System),
        Word::User | Word::Human => Some(Role::User),
        Word::Assistant | Word::Model => Some(Role::Assistant),
        Word::Tool | Word::Function => Some(Role::Tool),
        _ => None,
    }
}

/// The role that a type implies: results come from tools, calls and thoughts from the model.
pub(super) fn role_implied(kind: &str) -> Option<Role> {
    if kind.ends_with("_output") || kind.ends_with("_result") {
        Some(Role::Tool)
    } else if kind.ends_with("_call") || kind.ends_with("tool_use") || matches!(kind, "reasoning" | "thinking") {
        Some(Role::Assistant)
    } else {
        None
    }
}
