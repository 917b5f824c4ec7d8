//! What the words of a window add to the model's score.

use super::{Model, Speaker};
use crate::detect::injection::Lexicon;

impl Model {
    /// What each word adds to the score of `window`, in log-odds: how much is gone when the word is blanked out. What is left
    /// over is the rest of the score.
    pub(in crate::detect) fn told(&self, window: &[u8], lexicon: &Lexicon, speaker: Speaker) -> Vec<(String, f32)> {
        let marks: Vec<usize> = (0..window.len()).step_by(64).collect();
        let score = |text: &[u8]| self.raw_score(text, &marks, lexicon, speaker).map_or(0.0, |(score, _)| score);
        let whole = score(window);
        let mut told = Vec::new();
        let mut without = window.to_vec();
        let mut at = 0;
        for word in window.split(|byte| !byte.is_ascii_alphanumeric() && byte.is_ascii()) {
            let place = at..at + word.len();
            at = place.end + 1;
            if word.is_empty() {
                continue;
            }
            without.get_mut(place.clone()).unwrap_or_default().fill(b' ');
            told.push((String::from_utf8_lossy(word).into_owned(), whole - score(&without)));
            without.get_mut(place).unwrap_or_default().copy_from_slice(word);
        }
        let words: f32 = told.iter().map(|(_, weight)| weight).sum();
        told.push(("(score beyond single words)".to_owned(), whole - words));
        told.retain(|(_, weight)| weight.abs() > 0.01);
        told
    }
}
