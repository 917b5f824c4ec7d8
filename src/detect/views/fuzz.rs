//! Random structures for every decoder: no panic, spans of the text, and work in proportion to the text, counted in steps.
//!
//! `FUZZ_DETECT` says how many texts each decoder gets (`make fuzz-detect`).

use std::cell::Cell;

use crate::detect::Engine;
use crate::domain::Role;

thread_local! {
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// Counts bytes that a decoder looked at or wrote.
pub(super) fn steps(count: usize) {
    STEPS.set(STEPS.get() + count);
}

/// Steps a byte of text, at most: every byte may be in the view of each family, and be tried by each decoder of runs.
const EACH: usize = 48;

/// The alphabets of the decoders, by name.
const STAGES: &[(&str, &[&str])] = &[
    ("base64", &["aWdub3Jl", "IGFsbCBw", "QUJD", "+", "/", "=", "\n", " ", "_-", "x"]),
    ("base32", &["NFTW433SMUQGC3DM", "MFRGG", "=", "7", "2", "\n", " ", "a"]),
    ("hex", &["69676e6f", "7265", " ", "0x", ":", ", ", "\n", "f", "20"]),
    ("binary", &["01101001", "0110", "1", "0", " ", "\n", "-"]),
    (
        "escapes",
        &["%69", "%25", "%", "&#105;", "&#x69;", "&amp;", "\\u0069", "\\u{69}", "\\x69", "\\n", "\\", "a", "é"],
    ),
    ("quoted-printable", &["=69", "=C3=A9", "=\n", "=\r\n", "=", "ig", "nore "]),
    ("letters apart", &["i ", "g ", "n.", "o\n", "r", "e", "   ", "é ", "'", "!"]),
    ("leetspeak", &["1gn0r3 ", "4ll ", "pr3v10u5 ", "0", "5", "@", "$", "x", " "]),
    ("lines", &["ignore\n", "all\n", "\n", " ", "a b\n", "previous"]),
    ("reversed", &["erongi ", "lla ", "eht ", "é", "\u{202E}", " "]),
    ("alphabets", &["vtaber ", "nyy ", "gur ", "ljqruh ", "wkh ", "brx ", "dqg ", " "]),
    ("Morse", &[".. ", "--. ", "-. ", "--- ", ".-. ", ". ", "/ ", "-", ".", "\n", "-----", "a"]),
    ("spelling", &["ingore ", "yuor ", "pervious ", "sytsem ", "tihs ", "prmopt ", "x"]),
    ("order", &["the of ", "instructions previous ", "prompt system ", "é ", "\n", " "]),
    ("pieces", &["\"ign\" + ", "\"ore\"", "'", "\"", "+", "'; b = '", "<!--", "-->", "a", " ", ";", "="]),
    ("characters", &["i\u{200B}", "\u{E0069}", "\u{E0159}", "g\u{301}", "і", "ｎ", "𝐨", "\u{1DC4}", "\u{FEFF}", "x"]),
];

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn text(&mut self, alphabet: &[&str]) -> String {
        let mut text = String::new();
        let size = [40, 400, 4_000, 40_000][self.below(16).saturating_sub(12)];
        while text.len() < size {
            match self.below(24) {
                // A long run of one thing.
                0 => text.push_str(&alphabet[self.below(alphabet.len())].repeat(1 + self.below(200))),
                1 => text.push_str(STAGES[self.below(STAGES.len())].1[0]),
                2 => text.push(char::from_u32(u32::try_from(self.below(0x300)).unwrap()).unwrap_or(' ')),
                _ => text.push_str(alphabet[self.below(alphabet.len())]),
            }
        }
        text
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own switch, no configuration")]
fn random_structures_take_bounded_work_and_break_nothing() {
    let engine = Engine::builtin().unwrap();
    let rounds: usize = std::env::var("FUZZ_DETECT").map_or(30, |rounds| rounds.parse().unwrap());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut found = Vec::new();
    for _ in 0..rounds {
        for (stage, alphabet) in STAGES {
            let text = random.text(alphabet);
            found.clear();
            STEPS.set(0);
            engine.scan(&text, 0, Role::User, &mut found);
            let taken = STEPS.get();
            assert!(
                taken <= EACH * (text.len() + 1024),
                "{stage}: {taken} steps for {} bytes: {text:.300}",
                text.len()
            );
            for finding in &found {
                assert!(text.get(finding.span.clone()).is_some_and(|span| !span.is_empty()), "{stage}: {finding:?}");
            }
        }
    }
}
