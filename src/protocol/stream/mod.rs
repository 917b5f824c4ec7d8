//! Streamed answers: bytes become frames (an event, a line, a message), and strings of frames become texts that go on from frame to
//! frame.

mod amazon;
mod channel;
mod framer;

pub use amazon::amazon_message;
pub use channel::{Channel, Ending};
pub use framer::{Frame, Framer, Framing};
