mod decoding;
mod dialects;
mod properties;
mod strictness;

use super::*;

const LIMITS: ReadLimits = ReadLimits { max_decoded: 4 << 20, max_ratio: 100, max_depth: 64 };

fn read_json(dialect: Option<Dialect>, body: &str) -> Result<Document<'_>, Unreadable> {
    read(dialect, Some("application/json"), body.as_bytes(), &LIMITS, BinaryRule::Refuse)
}
