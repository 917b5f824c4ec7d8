//! Words in another spelling: their inner letters in disorder, or one of them missing.
#![expect(clippy::indexing_slicing, reason = "every position is below the length of the text")]

use std::ops::Range;
use std::sync::LazyLock;

use super::Draft;

/// Longer words are not looked up.
const LONGEST: usize = 16;

/// Words that are read when their inner letters stand in another order, or one of them is missing.
const SPELLED: &str = "\
    your that this with have what when then them they just must only will text know make like give tell show none \
    said such into also user mode rule rules role code data file word words send name write reply print above prior \
    about there these those their which would could should model email admin always answer anything assistant assume \
    before bypass cannot character chatbot command commands complete confidential configuration content conversation \
    credentials dangerous debug developer directive directives disable disclose display disregard document earlier \
    email enable entire ethical everything execute exactly explain filter filters follow following forget forward \
    freely guideline guidelines guardrails harmful hidden human ignore ignoring illegal immediately information \
    initial input instead instruction instructions internal jailbreak language limitations longer malicious message \
    messages mention moral never nothing obey original output override password passwords perform permission persona \
    please policies policy pretend previous previously private prompt prompts provide question questions receive \
    refuse repeat request requests respond response restrictions reveal roleplay safety secret secrets security \
    sensitive simulate started system systems token translate unfiltered unrestricted verbatim warning warnings \
    without bomb weapon hack steal malware instruct command important delete access account because between through \
    another something someone people after again against allow already although amount around article become been \
    begin behind being believe below best better both bring build business call came change check children choose \
    clear close come company consider contain continue country create current customer deal decide default define \
    describe details different does done during each either else ending english error even ever every example except \
    expert face fact family feel field final find first friend full game general good great group half hand happen \
    head hear hello help here high history hold home hour house however idea include inside issue item keep kind \
    large last later learn least leave left less letter level life line list little live local long look love main \
    many mean meaning memory might mind minute moment money month more most move much nation need next night note \
    number office often once open order other over page paper part party past paragraph person place plan play point \
    possible power present problem process product program project public purpose rather read real really reason \
    remember report result return right same save school second seem sentence serious service several short side \
    simple since small social some soon sort start state step still stop story strong student study subject support \
    sure table take task team test than thank think though thought three time today together tomorrow topic true \
    truth turn under understand until upon used using value various version very view wait want warn water week well \
    went were where while white whole whose woman work world year years young yourself android chapter sender \
    unlimited fiction fictional scenario novel hypothetical evil restriction ethics morals opinion opinions internet \
    browse decode encode base website link image server database payment transfer employee manager meeting schedule \
    calendar invoice contact address phone";

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
    let words = SPELLED.split_ascii_whitespace();
    let whole = words.clone().filter_map(|word| Some((letters(word.as_bytes())?, word)));
    let mut spellings: Vec<_> = whole.collect();
    for word in words.filter(|word| word.len() >= 6) {
        for left_out in 1..word.len() - 1 {
            let mut short = word.as_bytes().to_vec();
            short.remove(left_out);
            spellings.extend(letters(&short).map(|letters| (letters, word)));
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
    // Made when detectors are built, so that no text waits for them.
    LazyLock::force(&SPELLINGS);
    LazyLock::force(&TOLD_ENDS);
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
