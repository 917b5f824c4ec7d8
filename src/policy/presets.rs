use std::sync::LazyLock;

use super::document::{PolicyDocument, Preset};
use super::read::parse;

const TEXTS: [(Preset, &str); 3] = [
    (Preset::Balanced, include_str!("../../config/policies/balanced.yaml")),
    (Preset::Strict, include_str!("../../config/policies/strict.yaml")),
    (Preset::Monitor, include_str!("../../config/policies/monitor.yaml")),
];

static DOCUMENTS: LazyLock<[PolicyDocument; 3]> = LazyLock::new(|| {
    TEXTS.map(|(preset, text)| {
        parse(text).unwrap_or_else(|faults| unreachable!("tested: {} has no faults: {faults:?}", preset.as_str()))
    })
});

/// A built-in policy: `balanced`, `strict` or `monitor`.
#[must_use]
pub fn preset(name: &str) -> Option<PolicyDocument> {
    Preset::ALL.into_iter().find(|preset| preset.as_str() == name).map(|preset| document(preset).clone())
}

pub(super) fn document(preset: Preset) -> &'static PolicyDocument {
    let [balanced, strict, monitor] = &*DOCUMENTS;
    match preset {
        Preset::Balanced => balanced,
        Preset::Strict => strict,
        Preset::Monitor => monitor,
    }
}

/// What `preset` consists of, the undermost first.
pub(super) fn layers(preset: Preset) -> impl Iterator<Item = &'static PolicyDocument> {
    let base = (preset != Preset::Balanced).then(|| document(Preset::Balanced));
    base.into_iter().chain([document(preset)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_read_and_stands_on_balanced() {
        for name in ["balanced", "strict", "monitor"] {
            let document = preset(name).unwrap();
            assert!(document.description.is_some(), "{name}");
            let base = (name != "balanced").then_some(Preset::Balanced);
            assert_eq!(document.extends, base, "`layers` takes this for granted: {name}");
        }
        assert_eq!(preset("Balanced"), None);
    }
}
