//! Streamed answers: bytes become frames (an event, a line), and strings of frames become texts that go on from frame to
//! frame.

mod channel;
mod framer;

pub use channel::{Channel, Ending};
pub use framer::{Frame, Framer, Framing};
