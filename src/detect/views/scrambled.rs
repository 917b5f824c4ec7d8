//! Words whose order, letters or shape were changed: words from the last to the first, letters inside words in disorder, shifted
//! alphabets, Morse, texts in pieces that a program would put together.
#![expect(clippy::indexing_slicing, reason = "every position is below the length of the text")]

use std::ops::Range;
use std::sync::LazyLock;

use super::Draft;

/// The fewest letters in Morse.
const SIGNS: usize = 6;
/// Longer words are not looked up.
const LONGEST: usize = 16;
/// Bytes between two pieces of a text, at most; and of a comment.
const SEAM: usize = 40;
const COMMENT: usize = 400;
/// How many words of another alphabet there must be; a long one counts twice.
const SHIFTED: u32 = 2;

/// Words that tell a shifted alphabet.
const COMMON: &[&str] =
    &["the", "and", "you", "your", "that", "this", "with", "ignore", "previous", "instructions", "system", "prompt"];

/// Words that are read when their inner letters stand in another order, or one of them is missing.
const SPELLED: &[&str] = &[
    "your",
    "that",
    "this",
    "with",
    "have",
    "what",
    "when",
    "then",
    "them",
    "they",
    "just",
    "must",
    "only",
    "will",
    "text",
    "know",
    "make",
    "like",
    "give",
    "tell",
    "show",
    "none",
    "said",
    "such",
    "into",
    "also",
    "user",
    "mode",
    "rule",
    "rules",
    "role",
    "code",
    "data",
    "file",
    "word",
    "words",
    "send",
    "name",
    "write",
    "reply",
    "print",
    "above",
    "prior",
    "about",
    "there",
    "these",
    "those",
    "their",
    "which",
    "would",
    "could",
    "should",
    "model",
    "email",
    "admin",
    "always",
    "answer",
    "anything",
    "assistant",
    "assume",
    "before",
    "bypass",
    "cannot",
    "character",
    "chatbot",
    "command",
    "commands",
    "complete",
    "confidential",
    "configuration",
    "content",
    "conversation",
    "credentials",
    "dangerous",
    "debug",
    "developer",
    "directive",
    "directives",
    "disable",
    "disclose",
    "display",
    "disregard",
    "document",
    "earlier",
    "email",
    "enable",
    "entire",
    "ethical",
    "everything",
    "execute",
    "exactly",
    "explain",
    "filter",
    "filters",
    "follow",
    "following",
    "forget",
    "forward",
    "freely",
    "guideline",
    "guidelines",
    "guardrails",
    "harmful",
    "hidden",
    "human",
    "ignore",
    "ignoring",
    "illegal",
    "immediately",
    "information",
    "initial",
    "input",
    "instead",
    "instruction",
    "instructions",
    "internal",
    "jailbreak",
    "language",
    "limitations",
    "longer",
    "malicious",
    "message",
    "messages",
    "mention",
    "moral",
    "never",
    "nothing",
    "obey",
    "original",
    "output",
    "override",
    "password",
    "passwords",
    "perform",
    "permission",
    "persona",
    "please",
    "policies",
    "policy",
    "pretend",
    "previous",
    "previously",
    "private",
    "prompt",
    "prompts",
    "provide",
    "question",
    "questions",
    "receive",
    "refuse",
    "repeat",
    "request",
    "requests",
    "respond",
    "response",
    "restrictions",
    "reveal",
    "roleplay",
    "safety",
    "secret",
    "secrets",
    "security",
    "sensitive",
    "simulate",
    "started",
    "system",
    "systems",
    "token",
    "translate",
    "unfiltered",
    "unrestricted",
    "verbatim",
    "warning",
    "warnings",
    "without",
    "bomb",
    "weapon",
    "hack",
    "steal",
    "malware",
    "instruct",
    "command",
    "important",
    "delete",
    "access",
    "account",
    "because",
    "between",
    "through",
    "another",
    "something",
    "someone",
    "people",
    "after",
    "again",
    "against",
    "allow",
    "already",
    "although",
    "amount",
    "around",
    "article",
    "become",
    "been",
    "begin",
    "behind",
    "being",
    "believe",
    "below",
    "best",
    "better",
    "both",
    "bring",
    "build",
    "business",
    "call",
    "came",
    "change",
    "check",
    "children",
    "choose",
    "clear",
    "close",
    "come",
    "company",
    "consider",
    "contain",
    "continue",
    "country",
    "create",
    "current",
    "customer",
    "deal",
    "decide",
    "default",
    "define",
    "describe",
    "details",
    "different",
    "does",
    "done",
    "during",
    "each",
    "either",
    "else",
    "ending",
    "english",
    "error",
    "even",
    "ever",
    "every",
    "example",
    "except",
    "expert",
    "face",
    "fact",
    "family",
    "feel",
    "field",
    "final",
    "find",
    "first",
    "friend",
    "full",
    "game",
    "general",
    "good",
    "great",
    "group",
    "half",
    "hand",
    "happen",
    "head",
    "hear",
    "hello",
    "help",
    "here",
    "high",
    "history",
    "hold",
    "home",
    "hour",
    "house",
    "however",
    "idea",
    "include",
    "inside",
    "issue",
    "item",
    "keep",
    "kind",
    "large",
    "last",
    "later",
    "learn",
    "least",
    "leave",
    "left",
    "less",
    "letter",
    "level",
    "life",
    "line",
    "list",
    "little",
    "live",
    "local",
    "long",
    "look",
    "love",
    "main",
    "many",
    "mean",
    "meaning",
    "memory",
    "might",
    "mind",
    "minute",
    "moment",
    "money",
    "month",
    "more",
    "most",
    "move",
    "much",
    "nation",
    "need",
    "next",
    "night",
    "note",
    "number",
    "office",
    "often",
    "once",
    "open",
    "order",
    "other",
    "over",
    "page",
    "paper",
    "part",
    "party",
    "past",
    "paragraph",
    "person",
    "place",
    "plan",
    "play",
    "point",
    "possible",
    "power",
    "present",
    "problem",
    "process",
    "product",
    "program",
    "project",
    "public",
    "purpose",
    "rather",
    "read",
    "real",
    "really",
    "reason",
    "remember",
    "report",
    "result",
    "return",
    "right",
    "same",
    "save",
    "school",
    "second",
    "seem",
    "sentence",
    "serious",
    "service",
    "several",
    "short",
    "side",
    "simple",
    "since",
    "small",
    "social",
    "some",
    "soon",
    "sort",
    "start",
    "state",
    "step",
    "still",
    "stop",
    "story",
    "strong",
    "student",
    "study",
    "subject",
    "support",
    "sure",
    "table",
    "take",
    "task",
    "team",
    "test",
    "than",
    "thank",
    "think",
    "though",
    "thought",
    "three",
    "time",
    "today",
    "together",
    "tomorrow",
    "topic",
    "true",
    "truth",
    "turn",
    "under",
    "understand",
    "until",
    "upon",
    "used",
    "using",
    "value",
    "various",
    "version",
    "very",
    "view",
    "wait",
    "want",
    "warn",
    "water",
    "week",
    "well",
    "went",
    "were",
    "where",
    "while",
    "white",
    "whole",
    "whose",
    "woman",
    "work",
    "world",
    "year",
    "years",
    "young",
    "yourself",
    "android",
    "chapter",
    "sender",
    "unlimited",
    "fiction",
    "fictional",
    "scenario",
    "novel",
    "hypothetical",
    "evil",
    "restriction",
    "ethics",
    "morals",
    "opinion",
    "opinions",
    "internet",
    "browse",
    "decode",
    "encode",
    "base",
    "website",
    "link",
    "image",
    "server",
    "database",
    "payment",
    "transfer",
    "employee",
    "manager",
    "meeting",
    "schedule",
    "calendar",
    "invoice",
    "contact",
    "address",
    "phone",
];

/// The words of [`SPELLED`] whose other spellings are signs of this disguise: short ones, and those that rules name most.
const TOLD: &[&str] = &[
    "your", "that", "this", "with", "have", "what", "when", "then", "them", "they", "just", "must", "only", "ignore",
    "system", "prompt", "reveal", "rules", "above", "prior", "print", "reply", "write", "there", "which", "would",
    "forget", "secret", "bypass",
];

/// The last letters of the words of [`TOLD`], a bit each, by their first letter.
static TOLD_ENDS: LazyLock<[u32; 26]> = LazyLock::new(|| {
    let mut ends = [0; 26];
    for word in TOLD {
        let [first, .., last] = word.as_bytes() else { continue };
        ends[usize::from(first - b'a')] |= 1 << (last - b'a');
    }
    ends
});

/// The first and the last letter, and the ones between in order; zeros in front.
fn letters(word: &[u8]) -> Option<u128> {
    let (first, last, inner) = match word {
        [first, inner @ .., last] if inner.len() <= LONGEST - 2 => (first, last, inner),
        _ => return None,
    };
    let mut ordered = [0; LONGEST];
    ordered.iter_mut().zip(inner).for_each(|(place, byte)| *place = byte.to_ascii_lowercase());
    ordered[..inner.len()].sort_unstable();
    let ends = [first.to_ascii_lowercase(), last.to_ascii_lowercase()];
    Some(ends.iter().chain(&ordered[..inner.len()]).fold(0, |letters, byte| letters << 8 | u128::from(*byte)))
}

/// The words of [`SPELLED`] by their letters, whole before those with one left out, ascending.
static SPELLINGS: LazyLock<Vec<(u128, &str)>> = LazyLock::new(|| {
    let whole = SPELLED.iter().filter_map(|word| Some((letters(word.as_bytes())?, *word)));
    let mut spellings: Vec<_> = whole.collect();
    for word in SPELLED.iter().filter(|word| word.len() >= 6) {
        for left_out in 1..word.len() - 1 {
            let mut short = word.as_bytes().to_vec();
            short.remove(left_out);
            spellings.extend(letters(&short).map(|letters| (letters, *word)));
        }
    }
    // Stable: of words with the same letters the first stays.
    spellings.sort_by_key(|(letters, _)| *letters);
    spellings.dedup_by_key(|(letters, _)| *letters);
    spellings
});

/// The word that this one is another spelling of.
fn spelled(word: &[u8]) -> Option<&'static str> {
    if word.len() < 4 {
        return None;
    }
    let letters = letters(word)?;
    let place = SPELLINGS.binary_search_by_key(&letters, |(letters, _)| *letters).ok()?;
    SPELLINGS.get(place).map(|(_, known)| *known).filter(|known| {
        // Another form of a word ("system" and "systems") is one.
        let head = word.len().min(known.len());
        !word[..head].eq_ignore_ascii_case(&known.as_bytes()[..head])
    })
}

/// Whether a word is another spelling of one of [`TOLD`].
pub(super) fn is_misspelled(word: &[u8]) -> bool {
    let place = |byte: &u8| usize::from(byte.to_ascii_lowercase().wrapping_sub(b'a'));
    let ends = match word {
        [first, .., last] => TOLD_ENDS.get(place(first)).is_some_and(|ends| ends >> place(last) & 1 == 1),
        _ => false,
    };
    ends && spelled(word).is_some_and(|known| TOLD.contains(&known))
}

/// The first four letters of every other spelling that is a sign.
pub(super) fn misspelled_heads() -> Vec<Vec<u8>> {
    // Built now, not for the first text that asks.
    LazyLock::force(&SPELLINGS);
    let mut heads = Vec::new();
    for word in TOLD {
        let (first, inner) = (word.as_bytes()[0], &word.as_bytes()[1..word.len() - 1]);
        // A word of four ends with its last letter.
        let last = (word.len() == 4).then(|| word.as_bytes()[3]);
        let places = inner.len();
        for a in 0..places {
            for b in (0..places).filter(|b| *b != a) {
                if let Some(last) = last {
                    heads.push(vec![first, inner[a], inner[b], last]);
                } else {
                    let thirds = (0..places).filter(|c| *c != a && *c != b);
                    heads.extend(thirds.map(|c| vec![first, inner[a], inner[b], inner[c]]));
                }
            }
        }
    }
    // The most frequent words of all are not to be looked at.
    heads.retain(|head| !TOLD.iter().any(|word| word.as_bytes().starts_with(head)));
    heads
}

/// Words whose letters stand in another order.
pub(super) fn respell(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let mut at = region.start;
    while at < region.end {
        let len = text[at..region.end].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = at..at + len;
        match spelled(&text[word.clone()]) {
            Some(known) => {
                for (i, byte) in known.bytes().enumerate() {
                    let from = at + (i * len / known.len()).min(len - 1);
                    draft.decoded(byte, if i + 1 == known.len() { at + len - 1..at + len } else { from..from + 1 });
                }
            }
            None => draft.copy_all(text, word),
        }
        at += len;
        if len == 0 {
            draft.copy(text[at], at);
            at += 1;
        }
    }
}

/// The words of every shift whose first letters are signs.
pub(super) fn shifted_heads() -> impl Iterator<Item = Vec<u8>> {
    (1..26).flat_map(|by| COMMON.iter().map(move |word| word.bytes().map(|byte| turned(byte, by)).collect()))
}

/// By how much the alphabet of a word is shifted, and which of [`COMMON`] it is.
fn shift_of(word: &[u8]) -> Option<(u8, usize)> {
    let first = word.first()?.to_ascii_lowercase();
    let by = |known: &str| (26 + first - known.as_bytes()[0]) % 26;
    let is = |known: &&str| {
        known.len() == word.len()
            && by(known) != 0
            && known.bytes().zip(word).all(|(a, b)| turned(a, by(known)) == b.to_ascii_lowercase())
    };
    let number = first.is_ascii_lowercase().then(|| COMMON.iter().position(is)).flatten()?;
    Some((by(COMMON[number]), number))
}

const fn turned(byte: u8, by: u8) -> u8 {
    match byte {
        b'a'..=b'z' => (byte - b'a' + by) % 26 + b'a',
        b'A'..=b'Z' => (byte - b'A' + by) % 26 + b'A',
        _ => byte,
    }
}

/// A shifted alphabet, by the shift that the words tell most of.
pub(super) fn shift_back(text: &[u8], draft: &mut Draft) {
    let mut shifts = Shifts::default();
    text.split(|byte| !byte.is_ascii_alphabetic()).for_each(|word| shifts.note(word));
    if let Some(by) = shifts.told() {
        text.iter().enumerate().for_each(|(at, byte)| draft.decoded(turned(*byte, 26 - by), at..at + 1));
    }
}

/// Which of [`COMMON`] there are, a bit each, for each shift of the alphabet: a word of three letters may be another one by chance,
/// and be frequent.
#[derive(Clone, Copy, Default)]
pub(super) struct Shifts {
    words: [u16; 26],
    /// The shift that is told most of, and how much.
    most: (u8, u32),
}

impl Shifts {
    pub(super) fn note(&mut self, word: &[u8]) {
        if let Some((by, number)) = shift_of(word) {
            let own = &mut self.words[usize::from(by)];
            *own |= 1 << number;
            let weight = own.count_ones() + (*own & LONG).count_ones();
            if weight > self.most.1 {
                self.most = (by, weight);
            }
        }
    }

    /// The shift that is told most of, if it is told enough: by two words, or by a long one.
    pub(super) const fn told(&self) -> Option<u8> {
        if self.most.1 >= SHIFTED { Some(self.most.0) } else { None }
    }
}

/// Those of [`COMMON`] that no other word turns into.
const LONG: u16 = {
    let (mut long, mut number) = (0, 0);
    while number < COMMON.len() {
        long |= if COMMON[number].len() >= 6 { 1 << number } else { 0 };
        number += 1;
    }
    long
};

/// The words from the last to the first.
pub(super) fn turn_words(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let mut end = region.end;
    while end > region.start {
        let blank = text[region.start..end].iter().rposition(u8::is_ascii_whitespace);
        let start = blank.map_or(region.start, |blank| region.start + blank + 1);
        text[start..end].iter().zip(start..).for_each(|(byte, at)| draft.decoded(*byte, at..at + 1));
        if start == region.start {
            break;
        }
        draft.decoded(b' ', start - 1..start);
        end = start - 1;
    }
}

const MORSE: &[(&[u8], u8)] = &[
    (b".-", b'a'),
    (b"-...", b'b'),
    (b"-.-.", b'c'),
    (b"-..", b'd'),
    (b".", b'e'),
    (b"..-.", b'f'),
    (b"--.", b'g'),
    (b"....", b'h'),
    (b"..", b'i'),
    (b".---", b'j'),
    (b"-.-", b'k'),
    (b".-..", b'l'),
    (b"--", b'm'),
    (b"-.", b'n'),
    (b"---", b'o'),
    (b".--.", b'p'),
    (b"--.-", b'q'),
    (b".-.", b'r'),
    (b"...", b's'),
    (b"-", b't'),
    (b"..-", b'u'),
    (b"...-", b'v'),
    (b".--", b'w'),
    (b"-..-", b'x'),
    (b"-.--", b'y'),
    (b"--..", b'z'),
    (b"-----", b'0'),
    (b".----", b'1'),
    (b"..---", b'2'),
    (b"...--", b'3'),
    (b"....-", b'4'),
    (b".....", b'5'),
    (b"-....", b'6'),
    (b"--...", b'7'),
    (b"---..", b'8'),
    (b"----.", b'9'),
    (b".-.-.-", b'.'),
    (b"--..--", b','),
    (b"..--..", b'?'),
    (b".----.", b'\''),
    (b"-.-.--", b'!'),
    (b"-..-.", b'/'),
    (b"---...", b':'),
    (b"-....-", b'-'),
    (b".--.-.", b'@'),
];

/// Letters of dots and dashes, with a blank between them, and more or a stroke between words.
pub(super) fn morse(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let is_sign = |byte: &u8| matches!(byte, b'.' | b'-');
    let (mut copied, mut at) = (region.start, region.start);
    while at < region.end {
        if !is_sign(&text[at]) || at > 0 && !text[at - 1].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        // Letters, with what stands between them and the next.
        let (mut run, mut end) = (Vec::new(), at);
        loop {
            let len = text[end..].iter().take(7).take_while(|byte| is_sign(byte)).count();
            let Some((_, letter)) = MORSE.iter().find(|(signs, _)| *signs == &text[end..end + len]) else { break };
            let gap = text[end + len..].iter().take(8).take_while(|byte| matches!(byte, b' ' | b'/' | b'\n' | b'\r'));
            let gap = gap.count();
            if gap == 0 && end + len < text.len() {
                break;
            }
            run.push((*letter, end..end + len, gap));
            end += len + gap;
        }
        if run.len() < SIGNS {
            at = end.max(at + 1);
            continue;
        }
        draft.copy_all(text, copied..at);
        for (letter, from, gap) in run {
            let to = from.end;
            draft.decoded(letter, from);
            if gap > 1 || end == to + gap && end < text.len() {
                draft.decoded(b' ', to..to + gap);
            }
        }
        (copied, at) = (end, end);
    }
    if copied > region.start {
        draft.copy_all(text, copied..at);
    }
}

/// What stands between two pieces of a text at `at`: `" + "`, `'; b = '`, a comment inside a word. Where it ends.
pub(super) fn seam(text: &[u8], at: usize) -> Option<usize> {
    let rest = &text[at..];
    match rest {
        [b'<', b'!', b'-', b'-', ..] => {
            let before = at.checked_sub(1).map(|before| text[before])?;
            let comment = before.is_ascii_alphanumeric().then_some(&rest[..rest.len().min(COMMENT)])?;
            let end = at + memchr::memmem::find(comment, b"-->")? + 3;
            text.get(end).is_some_and(u8::is_ascii_alphanumeric).then_some(end)
        }
        [b'"' | b'\'', between @ ..] => {
            let between = &between[..between.len().min(SEAM)];
            let quote = between.iter().position(|byte| matches!(byte, b'"' | b'\''))?;
            joins(&between[..quote]).then_some(at + quote + 2)
        }
        _ => None,
    }
}

/// Whether code between two texts puts them together or names the next.
fn joins(code: &[u8]) -> bool {
    match code.trim_ascii() {
        b"+" | b".." | b"||" | b"." | b"&" | b"\\" => true,
        [b';', name @ .., b'='] => {
            let name = name.trim_ascii();
            let name = name.strip_prefix(b"$").unwrap_or(name);
            let name =
                [&b"let "[..], b"var ", b"const "].iter().find_map(|word| name.strip_prefix(*word)).unwrap_or(name);
            !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        }
        _ => false,
    }
}

/// Pieces of a text put together.
pub(super) fn join_pieces(text: &[u8], region: Range<usize>, draft: &mut Draft) {
    let (mut copied, mut at) = (region.start, region.start);
    while at < region.end {
        let Some(mut end) = seam(text, at) else {
            at += 1;
            continue;
        };
        draft.copy_all(text, copied..at);
        while let Some(next) = text.get(end).and_then(|_| seam(text, end)) {
            end = next;
        }
        // The seam is carried by what follows, so that it is seen to be gone.
        if let Some(byte) = text.get(end) {
            draft.decoded(*byte, at..end + 1);
            end += 1;
        }
        (copied, at) = (end, end);
    }
    if copied > region.start {
        draft.copy_all(text, copied..at);
    }
}
