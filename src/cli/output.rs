//! Writing to standard output without a panic when its reader has left.

use std::io::Write as _;

use serde::Serialize;

/// One line of text.
pub(super) fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

/// One JSON document, indented.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}
