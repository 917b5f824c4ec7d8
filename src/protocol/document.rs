//! What reading a body yields: segments of text that know where they stand in it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use crate::domain::{Coverage, Role};

use super::json::{SourceCursor, unescape};
use super::vocabulary::Word;

/// How a segment's text is written in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// As it is.
    Plain,
    /// Inside the quotes of a JSON string.
    JsonString,
    /// Inside the quotes of an object's key.
    JsonKey,
    /// A JSON number, long enough to be somebody's card or telephone number.
    JsonNumber,
}

/// One piece of text and where it stands. 48 bytes; the text is not copied.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    source: &'a str,
    /// Where `source` begins in the decoded body.
    start: usize,
    node: u32,
    step: Step,
    pub role: Role,
    pub kind: Source,
    escaped: bool,
    /// The role is the enclosing message's, which is not known yet.
    pub(super) pending: bool,
}

impl<'a> Segment<'a> {
    pub(super) const fn new(source: &'a str, start: usize, kind: Source, role: Role, place: Path) -> Self {
        Self { source, start, node: place.node, step: place.step, role, kind, escaped: false, pending: false }
    }

    pub(super) const fn escaped(self, escaped: bool) -> Self {
        Self { escaped, ..self }
    }

    pub(super) const fn pending(self, pending: bool) -> Self {
        Self { pending, ..self }
    }

    /// Whether this is what a message or a part of one says, not a name or a setting.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.kind == Source::JsonString && matches!(self.step, Step::Member(Word::Text | Word::Content))
    }

    pub(super) const fn path(&self) -> Path {
        Path { node: self.node, step: self.step }
    }

    /// The same place without the text, to come back to later.
    #[must_use]
    pub fn placed(&self) -> Placed {
        Placed { range: self.raw(), kind: self.kind, escaped: self.escaped }
    }

    /// The text as the model will read it, JSON escapes undone; borrowed when there were none.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.source);
        }
        let mut text = String::new();
        unescape(self.source, &mut text);
        Cow::Owned(text)
    }

    /// The same, with `scratch` for the text when it differs from its source; what was in `scratch` is lost.
    #[must_use]
    pub fn text_in<'s>(&self, scratch: &'s mut String) -> &'s str
    where
        'a: 's,
    {
        if !self.escaped {
            return self.source;
        }
        scratch.clear();
        unescape(self.source, scratch);
        scratch
    }

    /// Where the text's source stands in the decoded body, without the quotes.
    #[must_use]
    pub const fn raw(&self) -> Range<usize> {
        self.start..self.start + self.source.len()
    }

    /// The bytes of the decoded body that carry `span` of the text. An escape that the span begins or ends in is
    /// covered whole. Walks the source up to the span's end; for many spans use [`raw_spans`](Self::raw_spans).
    #[must_use]
    pub fn raw_span(&self, span: Range<usize>) -> Range<usize> {
        self.raw_spans(std::iter::once(span)).next().unwrap_or(self.start..self.start)
    }

    /// The same for spans that are in order and apart from each other, in one walk.
    pub fn raw_spans(&self, spans: impl Iterator<Item = Range<usize>>) -> impl Iterator<Item = Range<usize>> {
        let source = self.source;
        let mut cursor = self.escaped.then(|| SourceCursor::new(self.source));
        spans.map(move |span| {
            let (from, to) = match &mut cursor {
                None => (source.floor_char_boundary(span.start), source.ceil_char_boundary(span.end)),
                Some(cursor) => (cursor.start(span.start), cursor.end(span.end)),
            };
            self.start + from..self.start + to.max(from)
        })
    }
}

/// Where a segment stands in its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    range: Range<usize>,
    pub kind: Source,
    escaped: bool,
}

impl Placed {
    /// Without the quotes.
    #[must_use]
    pub const fn range(&self) -> &Range<usize> {
        &self.range
    }

    /// [`Segment::raw_spans`] of the segment that this was, in the same `body`.
    pub fn raw_spans(&self, body: &[u8], spans: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
        let source = body.get(self.range.clone()).and_then(|source| std::str::from_utf8(source).ok());
        let segment = Segment::new(source.unwrap_or_default(), self.range.start, self.kind, Role::Other, Path::WHOLE);
        segment.escaped(self.escaped).raw_spans(spans).collect()
    }
}

/// A step from a container to something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The body itself.
    Whole,
    Member(Word),
    Index(u32),
}

/// Names a container's parent (an index into [`Document::nodes`]) and the step from there. Only containers that hold a
/// segment have one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub node: u32,
    pub step: Step,
}

impl Path {
    pub(super) const WHOLE: Self = Self { node: Self::NO_NODE, step: Step::Whole };
    pub(super) const NO_NODE: u32 = u32::MAX;
}

/// A body, read.
#[derive(Clone, Debug, Default)]
pub struct Document<'a> {
    pub segments: Vec<Segment<'a>>,
    pub model: Option<String>,
    /// The segments that name a model: one, or one for each request of a batch.
    pub models: Vec<usize>,
    /// The client asked for a streamed answer.
    pub stream: bool,
    /// The application's own name for its end user: `user` (OpenAI), `metadata.user_id` (Anthropic).
    pub user_id: Option<String>,
    pub coverage: Coverage,
    pub(super) nodes: Vec<Path>,
    /// Only of answers.
    pub(super) ordinals: Vec<Ordinal>,
}

/// `"index": 2` and the like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ordinal {
    /// Of the object that it stands in, as the `node` of what stands beside it.
    pub node: u32,
    pub word: Word,
    pub value: u32,
}

impl Document<'_> {
    /// Who speaks in a segment; [`Role::Other`] when there is none of that number.
    #[must_use]
    pub fn role(&self, segment: usize) -> Role {
        self.segments.get(segment).map_or(Role::Other, |segment| segment.role)
    }

    /// Whether a segment is the key of a member of the body itself.
    #[must_use]
    pub fn is_outermost_key(segment: &Segment<'_>) -> bool {
        segment.kind == Source::JsonKey && segment.node == Path::NO_NODE
    }

    /// Where a segment stands: `messages[2].content[0].text`. A key that no dialect knows is shown as `*`, because it
    /// may itself be what must not be shown; the key of an object as `{key}`; a body that is one text as `body`.
    #[must_use]
    pub fn path(&self, segment: usize) -> String {
        let Some(segment) = self.segments.get(segment) else { return String::new() };
        let mut steps = vec![segment.step];
        let mut node = segment.node;
        while let Some(path) = usize::try_from(node).ok().and_then(|node| self.nodes.get(node)) {
            steps.push(path.step);
            node = path.node;
        }
        if segment.kind == Source::JsonKey {
            steps.remove(0);
        }
        let mut path = render(steps.into_iter().rev());
        if segment.kind == Source::JsonKey {
            path.push_str(if path.is_empty() { "{key}" } else { ".{key}" });
        } else if path.is_empty() {
            path.push_str("body");
        }
        path
    }
}

/// Writes steps as a path.
pub(super) fn render(steps: impl Iterator<Item = Step>) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Whole => {}
            Step::Member(word) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(if word == Word::Unknown { "*" } else { word.text() });
            }
            Step::Index(index) => {
                let _ = write!(path, "[{index}]");
            }
        }
    }
    path
}
