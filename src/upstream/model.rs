//! Models in paths: Gemini's, Bedrock's, and Azure's deployments.

use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::domain::Dialect;

/// RFC 3986, 2.3: what is never encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A model that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathModel {
    /// Decoded.
    pub name: String,
    place: Range<usize>,
}

impl PathModel {
    /// Of `path`, which is strict ([`super::is_strict`]).
    #[must_use]
    pub fn of(dialect: Dialect, path: &str) -> Option<Self> {
        let mut start = 0;
        let mut before = "";
        for segment in path.split('/') {
            let length = match dialect {
                Dialect::Bedrock if before == "model" => Some(segment.len()),
                // `NAME:verb`, or what is said of `NAME`. Anthropic's models too, where Google serves them.
                Dialect::Gemini if matches!(before, "models" | "tunedModels") => {
                    Some(segment.rfind(':').unwrap_or(segment.len()))
                }
                Dialect::Anthropic if before == "models" => segment.rfind(':'),
                // Azure takes its paths in any case.
                Dialect::Openai if before.eq_ignore_ascii_case("deployments") => Some(segment.len()),
                _ => None,
            };
            if let Some(length) = length {
                let place = start..start + length;
                let name = percent_decode_str(path.get(place.clone())?).decode_utf8().ok()?.into_owned();
                return Some(Self { name, place });
            }
            start += segment.len() + 1;
            before = segment;
        }
        None
    }

    /// `path` with another model in the place of this one.
    #[must_use]
    pub fn replaced(&self, path: &str, model: &str) -> String {
        let (before, after) = (path.get(..self.place.start), path.get(self.place.end..));
        [before.unwrap_or_default(), &encoded(model), after.unwrap_or_default()].concat()
    }
}

/// A text as one segment of a path, or one value of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_a_path_is_found_and_replaced() {
        use Dialect::{Anthropic, Bedrock, Gemini, Ollama, Openai};
        for (dialect, path, name, replaced) in [
            (Bedrock, "/model/a.b-v1%3A0/converse", "a.b-v1:0", "/model/x%2Fy%3A1/converse"),
            (Bedrock, "/model/a:0/invoke", "a:0", "/model/x%2Fy%3A1/invoke"),
            (
                Gemini,
                "/v1beta/models/gemini-pro:generateContent",
                "gemini-pro",
                "/v1beta/models/x%2Fy%3A1:generateContent",
            ),
            (Gemini, "/v1beta/models/gemini-pro", "gemini-pro", "/v1beta/models/x%2Fy%3A1"),
            (Gemini, "/v1beta/tunedModels/t:generateContent", "t", "/v1beta/tunedModels/x%2Fy%3A1:generateContent"),
            (
                Anthropic,
                "/v1/projects/p/publishers/anthropic/models/claude@1:rawPredict",
                "claude@1",
                "/v1/projects/p/publishers/anthropic/models/x%2Fy%3A1:rawPredict",
            ),
            (Openai, "/openai/Deployments/d/chat/completions", "d", "/openai/Deployments/x%2Fy%3A1/chat/completions"),
        ] {
            let model = PathModel::of(dialect, path).expect(path);
            assert_eq!((model.name.as_str(), model.replaced(path, "x/y:1").as_str()), (name, replaced));
        }
        for (dialect, path) in [
            (Openai, "/v1/models/ft:gpt-4o:org::id"),
            (Openai, "/v1/chat/completions"),
            (Anthropic, "/v1/models/claude"),
            (Gemini, "/v1beta/models"),
            (Bedrock, "/async-invoke"),
            (Ollama, "/api/chat"),
        ] {
            assert_eq!(PathModel::of(dialect, path), None, "{path}");
        }
    }
}
