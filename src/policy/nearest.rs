//! "Did you mean …": the known name that an unknown one was probably meant to be.

/// The nearest of `names` if it is near enough: a third of its letters may differ.
pub(super) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let folded = fold(name);
    // A longer one is no name of ours, and comparing it would cost its square.
    if folded.len() > 100 {
        return None;
    }
    names
        .into_iter()
        .map(|known| (distance(&folded, &fold(known)), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min()
        .map(|(_, known)| known)
}

/// ` (did you mean `x`?)`, or nothing.
pub(super) fn hint<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    nearest(name, names).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// Case and separators are what people get wrong first.
fn fold(name: &str) -> Vec<u8> {
    name.bytes().map(|b| if matches!(b, b'-' | b' ') { b'_' } else { b.to_ascii_lowercase() }).collect()
}

/// Levenshtein's distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_its_model_and_a_strange_one_finds_none() {
        let names = ["prompt_injection", "jailbreak", "CREDIT_CARD", "secrets.github_token"];
        for (typed, meant) in [
            ("prompt-injection", Some("prompt_injection")),
            ("credit_card", Some("CREDIT_CARD")),
            ("CREDITCARD", Some("CREDIT_CARD")),
            ("secret.github_tokn", Some("secrets.github_token")),
            ("weather", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
    }

    #[test]
    fn the_distance_counts_single_edits() {
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b""), 3);
        assert_eq!(distance(b"same", b"same"), 0);
    }
}
