//! Where in a conversation the texts of a request stand.

use super::document::{Document, Step};
use super::vocabulary::Word;

impl Document<'_> {
    /// Whether the body carries all of the conversation, and the answer to it comes as the answer to this request. Where a
    /// provider keeps a part (`previous_response_id`, a batch, Ollama's `context`) it does not; a body of unknown shape is
    /// not taken to.
    #[must_use]
    pub fn is_whole_conversation(&self) -> bool {
        let mut messages = false;
        for segment in 0..self.segments.len() {
            match self.member_of(segment) {
                Some(Word::Messages | Word::Contents) => messages = true,
                Some(Word::PreviousResponseId | Word::Conversation | Word::Context) => return false,
                _ => {}
            }
        }
        messages
    }

    /// The order in which a conversation grows: what is said before it, the conversation, and what may differ from request to
    /// request, wherever in the body they stand.
    #[must_use]
    pub fn turn(&self, segment: usize) -> u8 {
        match self.member_of(segment) {
            Some(Word::Messages | Word::Contents) => 1,
            Some(Word::Metadata | Word::User | Word::SafetyIdentifier | Word::PromptCacheKey) => 2,
            _ => 0,
        }
    }

    /// The end user, where the body is one request, and not a list of what may be those of several.
    #[must_use]
    pub fn end_user(&self) -> Option<&str> {
        let lists = |segment| matches!(self.member_of(segment), None | Some(Word::Requests));
        self.user_id.as_deref().filter(|_| !(0..self.segments.len()).any(lists))
    }

    /// The member of the body's object that a segment stands in.
    fn member_of(&self, segment: usize) -> Option<Word> {
        let mut path = self.segments.get(segment)?.path();
        while let Some(next) = usize::try_from(path.node).ok().and_then(|node| self.nodes.get(node)) {
            path = *next;
        }
        if let Step::Member(word) = path.step { Some(word) } else { None }
    }
}
