//! Stage 4: what is in it. Text in, findings out; pure and synchronous, compiled once, shared by all tenants.
//!
//! Personal data and secrets are searched in the original bytes: a vector search or a byte class finds candidates (a digit run, an
//! `@`, the start of a token), a validator judges each. Injection rules are scored sentence by sentence. Text that is not plain
//! ASCII is folded first, and read a second time in a normalised view when it holds invisible or look-alike characters. What is
//! encoded or disguised is read again as what it stands for ([`views`]).

mod anchored;
mod blocks;
mod bytes;
mod checks;
mod custom;
mod explain;
mod injection;
mod literals;
pub mod model;
mod open;
mod pack;
mod pii;
mod secrets;
mod sink;
mod views;
mod words;

use std::sync::Arc;

pub use custom::{
    CustomRules, CustomRulesBuilder, DataSet, ExactData, FINGERPRINT, Fingerprint, Fingerprinter, MOST_VALUES,
};
pub use explain::{Explanation, Reading, Seen, Weight};
pub use open::Waiting;

use crate::domain::{self, Category, Detector, Finding, Role, Rule, Severity, ViewStop, Views};
use anchored::{Anchored, Run};
use injection::{Injection, Scoring};
use model::{Model, ModelError, Speaker};
use pack::{Pack, RuleSpec};
use pii::Pii;
use secrets::{Read, Secrets};
use sink::Sink;
use views::{Clues, View};
use words::{KeySet, Start, Starts, each_word, each_word_weighed};

/// The packs that are built in.
const BUILTIN: &[(&str, &str)] = &[
    ("pii.yaml", include_str!("../../config/detectors/pii.yaml")),
    ("secrets.yaml", include_str!("../../config/detectors/secrets.yaml")),
    ("injection.yaml", include_str!("../../config/detectors/injection.yaml")),
];

/// The weights that are built in (`sentinel model train`).
pub const BUILTIN_MODEL: &[u8] = include_bytes!("../../config/models/injection.bin");
/// The id of what the model finds.
const MODEL_RULE: &str = "injection.model";
/// What the model finds below is not worth a row: no preset acts on it.
const LEAST_MODEL: f32 = 0.4;
/// From here on it looks no further in a segment: no preset asks for more, and a text full of attacks must not cost more than
/// one. It names the worst place of each piece, not every place; whoever lets attacks be redacted has the rules for the rest.
const CERTAIN: f32 = 0.98;

/// Shorter texts cannot hold anything, in bytes.
const SHORTEST: usize = 4;
/// Words of at most this many bytes are looked at only for their digits and signs: an AWS key id has 20.
const LONGEST_WORD: usize = 16;
/// No secret is shorter, in bytes.
const SHORTEST_SECRET: usize = 12;
/// Text is folded and scored in pieces of at most this many bytes, so that memory does not grow with the text.
const PIECE: usize = 16 * 1024;

/// A fault of a rule pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pack}: {rule}: {message}")]
pub struct PackError {
    pub pack: String,
    pub rule: String,
    pub message: String,
}

/// All detectors, compiled.
pub struct Engine {
    rules: Vec<Arc<Rule>>,
    /// Words and pairs of words at which some detector must be asked.
    starts: Starts,
    tokens: Anchored,
    pii: Pii,
    secrets: Secrets,
    injection: Injection,
    model: Option<(Model, Arc<Rule>)>,
    /// Pairs of words that tell of a disguise.
    clue_pairs: KeySet,
    /// Keys of words in another spelling or another alphabet, ascending: there are so many that others look like them.
    scrambled: Vec<u32>,
}

/// Flags of the words that each detector asks for.
mod asks {
    pub(super) const CONTEXT: u8 = 1;
    /// Words that tell of a disguise.
    pub(super) const CLUE: u8 = 1 << 1;
    pub(super) const INJECTION: u8 = 1 << 2;
    pub(super) const TOKEN: u8 = 1 << 3;
    pub(super) const SECRET: u8 = 1 << 4;
    /// Words in another spelling or another alphabet.
    pub(super) const SCRAMBLED: u8 = 1 << 5;
}

impl Engine {
    /// Compiles the rule packs that are built in (`config/detectors/*.yaml`).
    ///
    /// # Errors
    /// Every fault at once; a test proves that the built-in packs have none.
    pub fn builtin() -> Result<Self, Vec<PackError>> {
        let fault = |error: ModelError| {
            vec![PackError {
                pack: "injection.bin".to_owned(),
                rule: MODEL_RULE.to_owned(),
                message: error.to_string(),
            }]
        };
        Self::rules_only()?.with_model(Model::read(BUILTIN_MODEL).map_err(fault)?).map_err(fault)
    }

    /// The rule packs that are built in, without the model.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn rules_only() -> Result<Self, Vec<PackError>> {
        Self::from_packs(BUILTIN)
    }

    /// Adds a trained model.
    ///
    /// # Errors
    /// When it was trained with other word groups.
    pub fn with_model(mut self, model: Model) -> Result<Self, ModelError> {
        if model.fingerprint() != self.injection.fingerprint() {
            return Err(ModelError::Groups);
        }
        let rule = Arc::new(Rule {
            id: MODEL_RULE.into(),
            detector: Detector::Injection,
            category: Category::PromptInjection,
            entity: "LEARNED_ATTACK".into(),
            severity: Severity::High,
        });
        self.rules.push(rule.clone());
        self.rules.sort_by(|a, b| a.id.cmp(&b.id));
        self.model = Some((model, rule));
        Ok(self)
    }

    /// Says which word groups a model that was trained with this engine needs.
    pub fn stamp(&self, model: &mut Model) {
        model.set_fingerprint(self.injection.fingerprint());
    }

    /// Compiles `(name, yaml)` packs.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_packs(packs: &[(&str, &str)]) -> Result<Self, Vec<PackError>> {
        let packs = pack::parse(packs)?;
        let (mut pii, mut secrets, mut injection) = (Vec::new(), Vec::new(), Vec::new());
        let mut rules = Vec::new();
        let mut owners = std::collections::BTreeMap::new();
        for (name, pack) in &packs {
            for spec in &pack.rules {
                let rule = rule_of(pack, spec);
                rules.push(rule.clone());
                owners.insert(spec.id.as_str(), name.as_str());
                match pack.detector {
                    Detector::Pii => pii.push((rule, spec)),
                    Detector::Secrets => secrets.push((rule, spec)),
                    Detector::Injection => injection.push((rule, spec)),
                    // `pack::parse` has refused it.
                    Detector::Custom => {}
                }
            }
        }
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let mut faults = Vec::new();
        let mut collect = |found: Vec<(String, String)>| {
            faults.extend(found.into_iter().map(|(rule, message)| PackError {
                pack: owners.get(rule.as_str()).map_or("-", |name| *name).to_owned(),
                rule,
                message,
            }));
        };
        let tokens = Anchored::new(&[pii.as_slice(), secrets.as_slice()].concat()).map_err(&mut collect);
        let pii = Pii::new(&pii).map_err(&mut collect);
        let secrets = Secrets::new(&secrets);
        let packs: Vec<&Pack> = packs.iter().map(|(_, pack)| pack).collect();
        let injection = Injection::new(&injection, &packs).map_err(&mut collect);
        let (Ok(tokens), Ok(pii), Ok(injection)) = (tokens, pii, injection) else { return Err(faults) };
        let scrambled = views::scrambled_keys();
        let mut scrambled_set = KeySet::new();
        scrambled.iter().for_each(|key| scrambled_set.insert(*key));
        let clue_pairs = views::pair_keys();
        let starts = injection.starts(
            &[
                (asks::CONTEXT, pii.keys()),
                (asks::CLUE, &views::clue_keys()),
                (asks::INJECTION, injection.keys()),
                (asks::TOKEN, tokens.keys()),
                (asks::SECRET, secrets.keys()),
                (asks::SCRAMBLED, &scrambled_set),
            ],
            &clue_pairs,
        );
        Ok(Self { rules, starts, tokens, pii, secrets, injection, model: None, clue_pairs: clue_pairs.1, scrambled })
    }

    /// Every rule that a finding can name, sorted by id.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The features that the model sees of a text.
    #[must_use]
    pub fn sample(&self, text: &str) -> model::Sample {
        views::with_scratch(|scratch| {
            let bytes = if !text.is_ascii() && views::fold(text, &mut scratch.folded) {
                views::normalise(text, &mut scratch.view);
                scratch.view.text.as_bytes()
            } else if text.is_ascii() {
                text.as_bytes()
            } else {
                &scratch.folded
            };
            model::Sample::new(bytes, self.injection.lexicon(), &self.starts)
        })
    }

    /// Appends what is found in `text`, and says how else it was read. `segment` is copied into the findings; `role` weighs
    /// injection rules. Linear in the text.
    pub fn scan(&self, text: &str, segment: usize, role: Role, out: &mut Vec<Finding>) -> Views {
        self.scan_with(text, segment, role, None, out)
    }

    /// [`scan`](Self::scan) with an organization's own rules besides.
    pub fn scan_with(
        &self,
        text: &str,
        segment: usize,
        role: Role,
        custom: Option<&CustomRules>,
        out: &mut Vec<Finding>,
    ) -> Views {
        self.scan_traced(text, segment, role, true, custom, None, out)
    }

    /// Appends what is found in what a model says; attacks only if `attacks`.
    pub fn scan_answer(
        &self,
        text: &str,
        attacks: bool,
        custom: Option<&CustomRules>,
        out: &mut Vec<Finding>,
    ) -> Views {
        self.scan_traced(text, 0, Role::Assistant, attacks, custom, None, out)
    }

    #[expect(clippy::too_many_arguments, reason = "what all ways to scan have in common")]
    fn scan_traced(
        &self,
        text: &str,
        segment: usize,
        role: Role,
        attacks: bool,
        custom: Option<&CustomRules>,
        trace: Option<&explain::Trace>,
        out: &mut Vec<Finding>,
    ) -> Views {
        let mut sink = Sink::new(text, segment, custom, trace, out);
        if let Some(custom) = custom {
            custom.scan(text, &mut sink);
        }
        if text.len() < SHORTEST || (!attacks && is_plain_word(text)) {
            sink.settle();
            return Views::default();
        }
        let bytes = text.as_bytes();
        let mut state = State::new(self.injection.start(role), Speaker::of(role), attacks);
        if text.len() <= PIECE && text.is_ascii() {
            self.words(bytes, 0, bytes, &mut state, &mut sink);
            self.views(text, 0, &mut state, &mut sink);
        } else {
            self.pieces(text, &mut state, &mut sink);
        }
        self.without_words(bytes, &state.context, &mut sink);
        sink.settle();
        state.views
    }

    /// Reads a long text, or one that is not plain ASCII, piece by piece.
    fn pieces(&self, text: &str, state: &mut State<'_>, sink: &mut Sink<'_>) {
        views::with_scratch(|scratch| {
            for (offset, piece) in views::pieces(text, PIECE) {
                if piece.is_ascii() {
                    self.words(text.as_bytes(), offset, piece.as_bytes(), state, sink);
                    self.views(piece, offset, state, sink);
                    continue;
                }
                let odd = views::fold(piece, &mut scratch.folded);
                self.words(text.as_bytes(), offset, &scratch.folded, state, sink);
                if odd {
                    views::normalise(piece, &mut scratch.view);
                    let own = self.through(offset, &scratch.view, state, sink);
                    let mut budget = views::Budget::of(piece);
                    budget.views.read(domain::View::Normalised);
                    self.nested(&scratch.view, offset, &own, 0, &mut budget, sink);
                    state.views |= budget.views;
                } else {
                    self.views(piece, offset, state, sink);
                }
            }
        });
    }

    /// Runs the detectors over a view of the piece at `offset`.
    fn through<'e>(&'e self, offset: usize, view: &View, state: &State<'e>, sink: &mut Sink<'_>) -> State<'e> {
        let mut own = State::new(state.score.again(), state.speaker, state.attacks);
        own.certain = state.certain;
        let mut folded = Vec::new();
        sink.through(offset, view, |text, sink| {
            let text = if text.is_ascii() {
                text
            } else {
                views::fold(&view.text, &mut folded);
                &folded
            };
            self.words(text, 0, text, &mut own, sink);
            self.without_words(view.text.as_bytes(), &own.context, sink);
            if let Some(custom) = sink.custom() {
                custom.scan(&view.text, sink);
            }
        });
        own
    }

    /// Reads what is encoded or disguised in the piece at `offset`, whose words were seen by `state`.
    fn views(&self, piece: &str, offset: usize, state: &mut State<'_>, sink: &mut Sink<'_>) {
        let Some(hints) = views::hints(piece.as_bytes(), state.clues) else { return };
        let mut budget = views::Budget::of(piece);
        for (kind, regions) in hints.regions() {
            if kind == views::ViewKind::Encoded {
                let mut sink = sink.at(offset);
                regions.iter().for_each(|region| self.secrets.runs(piece.as_bytes(), region.clone(), &mut sink));
            }
            if let Some(view) = views::decode(kind, piece, regions, &mut budget) {
                let own = self.through(offset, &view, state, sink);
                self.nested(&view, offset, &own, 1, &mut budget, sink);
            }
        }
        state.views |= budget.views;
    }

    /// The same for what is encoded once more inside of a view.
    fn nested(
        &self,
        outer: &View,
        offset: usize,
        state: &State<'_>,
        depth: usize,
        budget: &mut views::Budget,
        sink: &mut Sink<'_>,
    ) {
        let Some(hints) = views::hints(outer.text.as_bytes(), state.clues) else { return };
        for (kind, regions) in hints.regions().filter(|(kind, _)| Some(*kind) != outer.undone()) {
            if depth == views::DEPTH {
                budget.views.stopped(kind, ViewStop::Depth);
                continue;
            }
            if let Some(mut view) = views::decode(kind, &outer.text, regions, budget) {
                view.behind(outer);
                let own = self.through(offset, &view, state, sink);
                self.nested(&view, offset, &own, depth + 1, budget, sink);
            }
        }
    }

    /// Detectors that search the text for other things than words.
    fn without_words(&self, text: &[u8], context: &[usize], sink: &mut Sink<'_>) {
        self.pii.scan(text, context, sink);
        let mut done = 0;
        blocks::each_of(text, blocks::colons, |colon| {
            // Behind most there is a blank.
            let next = bytes::at(text, colon + 1);
            if !next.is_ascii_alphanumeric() && !matches!(next, b'/' | b':') {
                return;
            }
            self.pii.colon(text, colon, &mut done, sink);
            self.secrets.colon(text, colon, sink);
        });
        if text.len() >= SHORTEST_SECRET {
            self.tokens.scan_symbols(text, sink);
        }
    }

    /// Detectors that begin at the start of a word. `piece` is the part of `text` at `offset`, folded if need be.
    fn words(&self, text: &[u8], offset: usize, piece: &[u8], state: &mut State<'_>, sink: &mut Sink<'_>) {
        state.score.piece();
        state.clues = Clues::default();
        let (speaker, attacks, certain) = (state.speaker, state.attacks, state.certain);
        let mut found = |start: Start| {
            let Start::Word { at, key, flags } = start else {
                if attacks {
                    if let Start::Pair { at, key } = start
                        && self.clue_pairs.may_hold(key)
                    {
                        state.clues.pair(piece, at);
                    }
                    state.score.word(piece, &start, &mut sink.at(offset));
                }
                return;
            };
            if flags & asks::CONTEXT != 0 {
                state.context.push(offset + at);
            }
            if flags & asks::CLUE != 0 {
                state.clues.word(piece, at);
            }
            if flags & asks::SCRAMBLED != 0 && self.scrambled.binary_search(&key).is_ok() {
                state.clues.scrambled(piece, at);
            }
            if attacks && flags & asks::INJECTION != 0 {
                state.score.word(piece, &start, &mut sink.at(offset));
            }
            if flags & asks::TOKEN != 0 {
                self.tokens.word(text, offset + at, key, &mut state.run, sink);
            }
            if flags & asks::SECRET != 0 {
                self.secrets.word(text, offset + at, key, &mut state.read, sink);
            }
        };
        let Some((model, rule)) = self.model.as_ref().filter(|_| attacks && !certain) else {
            return each_word(piece, &self.starts, |start, _| found(start));
        };
        let mut gate = model.gate(speaker);
        let weight_of = model.weight_of(speaker);
        each_word_weighed(
            piece,
            &self.starts,
            weight_of,
            |base, _, sum| gate.block(base, sum),
            |start, _| found(start),
        );
        if !gate.marks.is_empty()
            && let Some((confidence, span)) = model.score(piece, &gate.marks, self.injection.lexicon(), speaker)
            && confidence >= LEAST_MODEL
        {
            sink.at(offset).confirm(rule, confidence, span);
            state.certain = confidence >= CERTAIN;
        }
    }
}

/// A short word of letters (`stop`, `chat.completion`): no number and no credential, which are longer or hold digits, also
/// when encoded.
fn is_plain_word(text: &str) -> bool {
    text.len() <= LONGEST_WORD && text.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'.' | b'_' | b'-'))
}

/// What the detectors of words remember along one segment.
struct State<'e> {
    score: Scoring<'e>,
    speaker: Speaker,
    /// Whether anybody asks about attacks.
    attacks: bool,
    /// The model is sure already, and looks at no further piece of the segment.
    certain: bool,
    run: Run,
    read: Read,
    /// Where words stand that may say what a number is.
    context: Vec<usize>,
    /// Of the piece read last.
    clues: Clues,
    /// Other readings of the segment.
    views: Views,
}

impl<'e> State<'e> {
    fn new(score: Scoring<'e>, speaker: Speaker, attacks: bool) -> Self {
        Self {
            score,
            speaker,
            attacks,
            certain: false,
            run: Run::default(),
            read: Read::default(),
            context: Vec::new(),
            clues: Clues::default(),
            views: Views::default(),
        }
    }
}

fn rule_of(pack: &Pack, spec: &RuleSpec) -> Arc<Rule> {
    Arc::new(Rule {
        id: spec.id.as_str().into(),
        detector: pack.detector,
        category: spec.category,
        entity: spec.entity.as_str().into(),
        severity: spec.severity,
    })
}

#[cfg(test)]
mod tests;
