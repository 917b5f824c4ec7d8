//! JSON as bytes: a strict streaming walker (RFC 8259) that keeps spans and builds no tree.

mod escape;
mod scan;
mod walker;

pub(super) use escape::{SourceCursor, unescape};
pub(super) use walker::{Bounds, walk, walk_lines};
