//! Which text a string of a frame goes on with.

use super::super::document::{Document, Ordinal, Path, Source, Step};
use super::super::vocabulary::Word;

/// A text that arrives in pieces: a choice's content, a block, the arguments of a call. Two pieces with equal channels are
/// one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The choice, block or item that it belongs to.
    scope: u64,
    id: u64,
}

/// What a frame ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Nothing,
    /// The texts of one choice, block or item.
    Scope(u64),
    All,
}

impl Channel {
    #[must_use]
    pub fn is_ended_by(self, ending: Ending) -> bool {
        match ending {
            Ending::Nothing => false,
            Ending::Scope(scope) => scope == self.scope,
            Ending::All => true,
        }
    }
}

/// Steps of a path that are looked at; a deeper string stands for itself.
const DEEPEST: usize = 24;

struct Way {
    steps: [Path; DEEPEST],
    length: usize,
}

impl Document<'_> {
    /// The text that a string of a frame goes on with; None when it stands for itself. `chunk`: the frame is an event of one
    /// of the many providers behind Bedrock, so that whatever is called a text goes on.
    #[must_use]
    pub fn channel(&self, segment: usize, chunk: bool) -> Option<Channel> {
        if self.segments.get(segment)?.kind != Source::JsonString {
            return None;
        }
        let way = self.way(segment)?;
        let words = || way.iter().filter_map(|path| if let Step::Member(word) = path.step { Some(word) } else { None });
        let last = words().last()?;
        let goes_on = if words().any(|word| word == Word::Delta) {
            !is_complete(last) && !words().any(is_apart)
        } else if chunk && is_text(last) {
            !words().any(is_apart)
        } else {
            let mut named = [Word::Unknown; 4];
            for (slot, word) in named.iter_mut().zip(words()) {
                *slot = word;
            }
            match (named, words().count()) {
                // Completions; Ollama's chat and generate; Gemini.
                ([Word::Choices, Word::Text, ..], 2)
                | ([Word::Message, Word::Content | Word::Thinking, ..], 2)
                | ([Word::Response | Word::Thinking, ..], 1)
                | ([Word::Candidates, Word::Content, Word::Parts, Word::Text], 4)
                // What a block begins with goes on in its deltas.
                | ([Word::ContentBlock, Word::Text | Word::Thinking, ..], 2) => true,
                _ => false,
            }
        };
        goes_on.then(|| {
            let mut hash = self.root();
            let mut scope = None;
            let paths: Vec<Path> = way.iter().collect();
            // An answer that is a list of what a stream would have as events is read as one.
            let first = usize::from(paths.first().is_some_and(|path| matches!(path.step, Step::Index(_))));
            for (depth, path) in paths.iter().enumerate().skip(first) {
                // The container behind this step is the one that the next step starts from.
                let inside = paths.get(depth + 1).map(|next| next.node);
                self.hash_step(path.step, inside, &mut hash);
                if matches!(path.step, Step::Index(_)) {
                    scope.get_or_insert(hash.0);
                }
            }
            Channel { scope: scope.unwrap_or(self.root().0), id: hash.0 }
        })
    }

    /// What a frame says that it ends. A text whose end goes unseen is only held until the end of the stream.
    /// `event` is the type that stands outside of the frame's own object, if one does.
    #[must_use]
    pub fn ending(&self, event: Option<&str>) -> Ending {
        match event {
            Some("contentBlockStop") => return Ending::Scope(self.root().0),
            Some("messageStop") => return Ending::All,
            _ => {}
        }
        for (index, segment) in self.segments.iter().enumerate() {
            let Some(way) = self.way(index) else { continue };
            let paths: Vec<Path> = way.iter().collect();
            match paths.as_slice() {
                [only] if only.step == Step::Member(Word::Type) => {
                    let kind = segment.text();
                    if kind.ends_with(".done") || kind.ends_with("_block_stop") {
                        return Ending::Scope(self.root().0);
                    }
                    if matches!(&*kind, "message_stop" | "message_delta" | "response.completed" | "response.incomplete")
                    {
                        return Ending::All;
                    }
                }
                [list, element, reason]
                    if list.step == Step::Member(Word::Choices) && reason.step == Step::Member(Word::FinishReason)
                        || list.step == Step::Member(Word::Candidates)
                            && reason.step == Step::Member(Word::CamelFinishReason) =>
                {
                    let mut hash = self.root();
                    self.hash_step(list.step, None, &mut hash);
                    self.hash_step(element.step, Some(reason.node), &mut hash);
                    return Ending::Scope(hash.0);
                }
                _ => {}
            }
        }
        Ending::Nothing
    }

    /// From the root to a segment; a `Path` names the container and the step from there.
    fn way(&self, segment: usize) -> Option<Way> {
        let segment = self.segments.get(segment)?;
        let mut way = Way { steps: [Path::WHOLE; DEEPEST], length: 0 };
        let mut path = segment.path();
        loop {
            if path.step != Step::Whole {
                *way.steps.get_mut(way.length)? = path;
                way.length += 1;
            }
            let Some(next) = usize::try_from(path.node).ok().and_then(|node| self.nodes.get(node)) else {
                return Some(way);
            };
            path = *next;
        }
    }

    /// An element that numbers itself is known by that number, any other by its place.
    fn hash_step(&self, step: Step, inside: Option<u32>, hash: &mut Hash) {
        match step {
            Step::Whole => {}
            Step::Member(Word::ContentBlock) => hash.add(1 << 32 | u64::from(Word::Delta as u16)),
            Step::Member(word) => {
                hash.add(1 << 32 | u64::from(word as u16));
                let numbered =
                    |ordinal: &&Ordinal| ordinal.word == Word::CamelContentBlockIndex && Some(ordinal.node) == inside;
                for ordinal in self.ordinals.iter().filter(numbered) {
                    hash.add(2 << 32 | u64::from(ordinal.value));
                }
            }
            Step::Index(place) => {
                let mut number = place;
                for ordinal in self.ordinals.iter().filter(|ordinal| Some(ordinal.node) == inside) {
                    if ordinal.word == Word::Index {
                        number = ordinal.value;
                    } else {
                        // A thought is another text than what is said.
                        hash.add(4 << 32 | u64::from(ordinal.word as u16));
                    }
                }
                hash.add(2 << 32 | u64::from(number));
            }
        }
    }

    /// What the frame's own object numbers, in no order: objects differ in theirs.
    fn root(&self) -> Hash {
        let mut root = Hash::new();
        let ordinals = self.ordinals.iter().filter(|ordinal| ordinal.node == Path::NO_NODE);
        let sum = ordinals.fold(0, |sum: u64, ordinal| {
            let mut one = Hash::new();
            one.add(u64::from(ordinal.word as u16));
            one.add(u64::from(ordinal.value));
            sum.wrapping_add(one.0)
        });
        root.add(sum);
        root
    }
}

impl Way {
    fn iter(&self) -> impl Iterator<Item = Path> + Clone + '_ {
        self.steps.iter().take(self.length).rev().copied()
    }
}

/// Members of a delta that come whole.
const fn is_complete(word: Word) -> bool {
    matches!(
        word,
        Word::Role
            | Word::Type
            | Word::Id
            | Word::Name
            | Word::CallId
            | Word::ToolCallId
            | Word::ToolUseId
            | Word::Signature
            | Word::EncryptedContent
            | Word::CamelRedactedContent
            | Word::StopReason
            | Word::StopSequence
            | Word::Status
            | Word::Title
            | Word::Url
            | Word::Data
            | Word::Format
    )
}

/// Containers of a delta whose strings come whole.
const fn is_apart(word: Word) -> bool {
    matches!(word, Word::Logprobs | Word::Annotations | Word::Citation | Word::Citations)
}

/// What the providers behind Bedrock call the text of an event.
const fn is_text(word: Word) -> bool {
    matches!(word, Word::Text | Word::Content | Word::Completion | Word::Generation | Word::CamelOutputText)
}

/// FNV-1a over words of 64 bits.
struct Hash(u64);

impl Hash {
    const fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    const fn add(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
    }
}
