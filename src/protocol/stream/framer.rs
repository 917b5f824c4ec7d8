use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::super::Unreadable;
use super::amazon::{self, Message};

/// How a stream is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON value a line.
    Lines,
    /// Messages of an AWS event stream.
    Amazon,
}

/// One event, line or message, with everything that ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    payload: Payload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Payload {
    At(Range<usize>),
    /// Of an event with several `data` lines.
    Joined(Vec<u8>),
    Message(Box<Message>),
}

impl Frame {
    /// As it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says; of an event its data, or all of it when it has none (a comment).
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.payload {
            Payload::At(range) => self.bytes.get(range.clone()).unwrap_or_default(),
            Payload::Joined(joined) => joined,
            Payload::Message(message) => message.payload(&self.bytes),
        }
    }

    /// The type that an AWS event stream gives a message.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        self.message()?.event.as_deref()
    }

    /// Texts that stand beside the payload and cannot be changed.
    #[must_use]
    pub fn beside(&self) -> &[String] {
        self.message().map_or(&[], |message| &message.beside)
    }

    /// Whether the payload is a model's own event, in whatever form its provider gives it.
    #[must_use]
    pub fn is_chunk(&self) -> bool {
        self.message().is_some_and(Message::is_chunk)
    }

    fn message(&self) -> Option<&Message> {
        if let Payload::Message(message) = &self.payload { Some(message) } else { None }
    }

    /// The frame with another payload.
    #[must_use]
    pub fn with_payload(&self, payload: &[u8]) -> Vec<u8> {
        match &self.payload {
            Payload::At(range) => {
                let before = self.bytes.get(..range.start).unwrap_or_default();
                let behind = self.bytes.get(range.end..).unwrap_or_default();
                [before, payload, behind].concat()
            }
            Payload::Message(message) => message.with_payload(&self.bytes, payload),
            Payload::Joined(_) => {
                let mut out = Vec::with_capacity(self.bytes.len());
                for line in self.bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
                    if !line.is_empty() && data(line, 0).is_none() {
                        out.extend_from_slice(line);
                        out.push(b'\n');
                    }
                }
                for line in payload.split(|byte| *byte == b'\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(line);
                    out.push(b'\n');
                }
                out.push(b'\n');
                out
            }
        }
    }
}

/// Puts frames together, whatever pieces the bytes come in.
#[derive(Debug)]
pub struct Framer {
    framing: Framing,
    /// Bytes of a message; what has no length is measured by whoever pushes.
    most: usize,
    buffer: BytesMut,
    /// Of the current frame: where the current line begins, and up to where no line end was found.
    line: usize,
    searched: usize,
    /// Where its data stands.
    data: Vec<Range<usize>>,
    begun: bool,
}

impl Framer {
    #[must_use]
    pub fn new(framing: Framing, most: usize) -> Self {
        Self { framing, most, buffer: BytesMut::new(), line: 0, searched: 0, data: Vec::new(), begun: false }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What is left of the bytes.
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Bytes of the frame that is not complete.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole frame; when nothing more comes (`last`) also one that was not ended.
    ///
    /// # Errors
    /// Only of messages: damaged, too long, or not ended.
    pub fn next(&mut self, last: bool) -> Result<Option<Frame>, Unreadable> {
        if self.framing == Framing::Amazon { self.next_message(last) } else { Ok(self.next_text(last)) }
    }

    fn next_message(&mut self, last: bool) -> Result<Option<Frame>, Unreadable> {
        let length = amazon::length(&self.buffer, self.most)?;
        let Some(message) = length.and_then(|length| self.buffer.get(..length)) else {
            if last && !self.buffer.is_empty() {
                let message = "it ends inside of a message".to_owned();
                return Err(Unreadable { status: 400, code: "invalid_encoding", message });
            }
            return Ok(None);
        };
        let payload = Payload::Message(Box::new(Message::read(message)?));
        let bytes = self.buffer.split_to(message.len()).freeze();
        Ok(Some(Frame { bytes, payload }))
    }

    fn next_text(&mut self, last: bool) -> Option<Frame> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            let found = match self.framing {
                Framing::Events => memchr::memchr2(b'\n', b'\r', rest),
                _ => memchr::memchr(b'\n', rest),
            };
            let Some(at) = found.map(|at| self.searched + at) else {
                self.searched = self.buffer.len();
                return if last { self.remainder() } else { None };
            };
            let mut end = at + 1;
            if self.buffer.get(at) == Some(&b'\r') {
                match self.buffer.get(end) {
                    Some(b'\n') => end += 1,
                    Some(_) => {}
                    // It may be half of a line end.
                    None if !last => {
                        self.searched = at;
                        return None;
                    }
                    None => {}
                }
            }
            self.searched = end;
            if self.framing == Framing::Lines {
                return Some(self.frame(end, 0..at));
            }
            if at > self.line || !self.begun && at > 0 {
                self.note_line(at);
                self.line = end;
            } else {
                return Some(self.event(end));
            }
        }
    }

    fn note_line(&mut self, end: usize) {
        let line = self.buffer.get(self.line..end).unwrap_or_default();
        let mark = if self.begun || !line.starts_with(b"\xef\xbb\xbf") { 0 } else { 3 };
        if let Some(skipped) = data(line, mark) {
            self.data.push(self.line + skipped..end);
        }
        self.begun = true;
    }

    fn event(&mut self, end: usize) -> Frame {
        self.begun = true;
        let mut ranges = std::mem::take(&mut self.data);
        if ranges.len() > 1 {
            let lines: Vec<&[u8]> =
                ranges.iter().map(|range| self.buffer.get(range.clone()).unwrap_or_default()).collect();
            let joined = lines.join(&b'\n');
            let mut frame = self.frame(end, 0..0);
            frame.payload = Payload::Joined(joined);
            return frame;
        }
        let range = ranges.pop().unwrap_or(0..end);
        self.frame(end, range)
    }

    fn frame(&mut self, end: usize, payload: Range<usize>) -> Frame {
        let bytes = self.buffer.split_to(end.min(self.buffer.len())).freeze();
        (self.line, self.searched) = (0, 0);
        Frame { bytes, payload: Payload::At(payload) }
    }

    /// What stands at the end of a stream that broke off inside of a frame.
    fn remainder(&mut self) -> Option<Frame> {
        let end = self.buffer.len();
        if end == 0 {
            return None;
        }
        if self.framing == Framing::Lines {
            return Some(self.frame(end, 0..end));
        }
        if self.line < end {
            self.note_line(end);
        }
        Some(self.event(end))
    }
}

/// Where the value of a `data` line begins.
fn data(line: &[u8], from: usize) -> Option<usize> {
    let rest = line.get(from..)?.strip_prefix(b"data")?;
    match rest {
        [] => Some(line.len()),
        [b':', b' ', ..] => Some(from + 6),
        [b':', ..] => Some(from + 5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(framing: Framing, pieces: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut framer = Framer::new(framing, 1 << 20);
        let mut frames = Vec::new();
        for piece in pieces {
            framer.push(piece);
            frames.extend(std::iter::from_fn(|| framer.next(false).unwrap()));
        }
        frames.extend(std::iter::from_fn(|| framer.next(true).unwrap()));
        frames.iter().map(|frame| (frame.bytes().to_vec(), frame.payload().to_vec())).collect()
    }

    fn payloads(framing: Framing, text: &str) -> Vec<String> {
        let frames = frames(framing, &[text.as_bytes()]);
        let whole: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        assert_eq!(whole, text.as_bytes(), "no byte is lost");
        for at in 0..=text.len() {
            let (a, b) = text.as_bytes().split_at(at);
            assert_eq!(self::frames(framing, &[a, b]), frames, "cut at {at}: {text:?}");
        }
        frames.into_iter().map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
    }

    #[test]
    fn events_are_found_whatever_ends_their_lines_and_wherever_they_are_cut() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["event: a", "data: {\"x\":1}", "", "data:2", "", "data: 3", "data: 4", "", "data: [DONE]", ""];
            let text = text.join(end) + end;
            assert_eq!(payloads(Framing::Events, &text), ["{\"x\":1}", "2", "3\n4", "[DONE]"]);
        }
        assert_eq!(payloads(Framing::Events, "\u{feff}data: 1\n\ndata: \u{e4}\n\n"), ["1", "\u{e4}"]);
        assert_eq!(payloads(Framing::Events, ": keep-alive\n\n"), [": keep-alive\n\n"], "a comment is what it says");
        assert_eq!(payloads(Framing::Events, "data: 1\n\ndata: cut"), ["1", "cut"]);
        assert_eq!(payloads(Framing::Events, "data\n\n"), [""]);
    }

    #[test]
    fn lines_are_found_wherever_they_are_cut() {
        assert_eq!(payloads(Framing::Lines, "{\"a\":1}\n{\"b\":2}\r\n\n{}"), ["{\"a\":1}", "{\"b\":2}\r", "", "{}"]);
    }

    #[test]
    fn a_changed_payload_leaves_the_rest_of_its_frame_alone() {
        let mut framer = Framer::new(Framing::Events, 1 << 20);
        framer.push(b"event: a\r\ndata: old\r\nid: 7\r\n\r\nid: 8\ndata: one\ndata: two\n\n");
        let changed = |frame: Frame, payload: &[u8]| String::from_utf8(frame.with_payload(payload)).unwrap();
        assert_eq!(changed(framer.next(false).unwrap().unwrap(), b"new"), "event: a\r\ndata: new\r\nid: 7\r\n\r\n");
        assert_eq!(changed(framer.next(false).unwrap().unwrap(), b"1\n2"), "id: 8\ndata: 1\ndata: 2\n\n");
    }
}
