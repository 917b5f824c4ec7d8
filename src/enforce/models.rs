//! What a workspace says about the models that a body names.

use std::borrow::Cow;
use std::ops::Range;

use crate::domain::{WorkspaceConfig, is_model_name};
use crate::protocol::Document;

/// Whether the models that a body names may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// No model is named where it can be read.
    #[default]
    Nothing,
    Allowed,
    /// With the first one that is refused, if that can be shown.
    Refused(Option<String>),
}

/// The verdict, and what stands in the body for aliases instead.
pub(super) fn judge(document: &Document<'_>, workspace: &WorkspaceConfig) -> (Named, Vec<(Range<usize>, String)>) {
    let mut named = Named::Nothing;
    let mut renamed = Vec::new();
    for segment in document.models.iter().filter_map(|&model| document.segments.get(model)) {
        let asked = segment.text();
        let sent = workspace.model_for(&asked);
        if !workspace.allows_model(&sent) {
            return (Named::Refused(Some(asked.into_owned()).filter(|name| is_model_name(name))), Vec::new());
        }
        named = Named::Allowed;
        if let Cow::Owned(sent) = sent {
            renamed.push((segment.raw(), sent));
        }
    }
    // Some servers take keys in any case, and the last of several.
    let mut keys = document.segments.iter().filter(|segment| Document::is_outermost_key(segment));
    if workspace.limits_models() && keys.any(|key| key.text().eq_ignore_ascii_case("model")) {
        return (Named::Refused(None), Vec::new());
    }
    (named, renamed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::domain::{Dialect, Verdict};
    use crate::enforce::splice::Splice;
    use crate::enforce::{Forward, Inspection, RequestBody, inspect_with};
    use crate::protocol::{BinaryRule, ReadLimits};

    fn inspect(dialect: Dialect, body: &str, config: &WorkspaceConfig) -> Inspection {
        let limits = ReadLimits { max_decoded: 1 << 20, max_ratio: 100, max_depth: 64 };
        let bytes = Bytes::from(body.to_owned());
        let content_type = body.contains('\n').then_some("application/jsonl");
        let body = RequestBody { bytes: &bytes, dialect: Some(dialect), content_type, content_encoding: None };
        let clean = |_, _: &dyn Fn(usize) -> _| Verdict::clean();
        let limits = (&limits, BinaryRule::Pass);
        inspect_with(
            |_, _, _, _| crate::domain::Views::default(),
            clean,
            body,
            limits,
            (None, None),
            Some(config),
            |_, _| None,
        )
        .unwrap()
    }

    fn config() -> WorkspaceConfig {
        let aliases = [("fast", "gpt-4o-mini"), ("a/b", "c/d")];
        WorkspaceConfig {
            denied_models: Some(vec!["gpt-5*".to_owned()]),
            model_aliases: Some(BTreeMap::from(aliases.map(|(alias, model)| (alias.to_owned(), model.to_owned())))),
            ..WorkspaceConfig::default()
        }
    }

    #[test]
    fn an_alias_is_replaced_where_it_stands_and_no_other_byte() {
        for (dialect, body, expected) in [
            (
                Dialect::Openai,
                r#"{ "messages":[ ],"model" : "fast"}"#,
                Some(r#"{ "messages":[ ],"model" : "gpt-4o-mini"}"#),
            ),
            (Dialect::Openai, r#"{"mod\u0065l":"f\u0061st"}"#, Some(r#"{"mod\u0065l":"gpt-4o-mini"}"#)),
            (Dialect::Openai, r#"{"model":"a\/b","user":"fast"}"#, Some(r#"{"model":"c/d","user":"fast"}"#)),
            (Dialect::Openai, r#"{"model":"gpt-4o","messages":[{"content":"fast"}]}"#, None),
            (
                Dialect::Anthropic,
                r#"{"requests":[{"params":{"model":"fast"}},{"params":{"model":"x"}},{"params":{"model":"fast"}}]}"#,
                Some(
                    r#"{"requests":[{"params":{"model":"gpt-4o-mini"}},{"params":{"model":"x"}},{"params":{"model":"gpt-4o-mini"}}]}"#,
                ),
            ),
            (
                Dialect::Gemini,
                r#"{"requests":[{"model":"models/fast"}]}"#,
                Some(r#"{"requests":[{"model":"models/gpt-4o-mini"}]}"#),
            ),
            (
                Dialect::Openai,
                "{\"model\":\"fast\"}\n{\"model\":\"b\"}\n",
                Some("{\"model\":\"gpt-4o-mini\"}\n{\"model\":\"b\"}\n"),
            ),
        ] {
            let inspection = inspect(dialect, body, &config());
            assert_eq!(inspection.named, Named::Allowed, "{body}");
            let expected = expected.map_or(Forward::AsReceived, |text| Forward::Redacted(Bytes::from(text)));
            assert_eq!(inspection.forward, expected, "{body}");
        }
        assert_eq!(inspect(Dialect::Openai, r#"{"model":"fast"}"#, &config()).model.as_deref(), Some("fast"));
    }

    #[test]
    fn what_is_redacted_in_the_place_of_an_alias_gives_way_to_it() {
        let redactions = vec![(0..3, "x".to_owned()), (11..13, "y".to_owned()), (14..15, "z".to_owned())];
        let splice = Splice::of_edits(redactions).with(vec![(3..5, "B".to_owned()), (10..14, "A".to_owned())]);
        assert_eq!(splice.apply(b"0123456789abcdef"), b"xB56789Azf");
    }

    #[test]
    fn one_refused_model_of_several_is_enough_and_no_spelling_hides_it() {
        let named = |body: &str| inspect(Dialect::Openai, body, &config()).named;
        let refused = |name: &str| Named::Refused(Some(name.to_owned()));
        assert_eq!(named(r#"{"model":"gpt-5.1"}"#), refused("gpt-5.1"));
        assert_eq!(named(r#"{"model":"GPT\u002d5"}"#), refused("GPT-5"));
        assert_eq!(named("{\"model\":\"fast\"}\n{\"body\":{\"model\":\"models/gpt-5\"}}"), refused("models/gpt-5"));
        assert_eq!(named(r#"{"model":"gpt-5 and a text"}"#), Named::Refused(None));
        assert_eq!(named(r#"{"model":"fast","Model":"gpt-5"}"#), Named::Refused(None));
        assert_eq!(named(r#"{"model":"fast","metadata":{"Model":"gpt-5"}}"#), Named::Allowed);
        for nothing in ["", "{}", r#"{"model":""}"#, r#"{"model":null}"#, r#"{"model":["fast"]}"#, "text"] {
            assert_eq!(named(nothing), Named::Nothing, "{nothing}");
        }
    }
}
