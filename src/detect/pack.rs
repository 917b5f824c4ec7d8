//! The shape of a rule pack (`config/detectors/*.yaml`) and its faults.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::PackError;
use super::secrets::Check;
use crate::domain::{Category, Detector, Severity};

/// What one YAML file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pack {
    pub detector: Detector,
    /// Groups of words with one meaning, for `when`. Only for injection packs.
    #[serde(default)]
    pub groups: BTreeMap<String, Group>,
    /// Evidence that counts for every rule of the pack: positive or negative log-odds.
    #[serde(default)]
    pub common: Vec<Evidence>,
    pub rules: Vec<RuleSpec>,
}

/// Words of one meaning, in any language.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Only sentences that contain a word of some `gate` group are scored at all.
    #[serde(default)]
    pub gate: bool,
    /// Words and phrases in lower case, separated by commas. `*` stands for any further letters, at least four letters precede it.
    pub words: Vec<String>,
}

/// One rule: exactly one of `recognizer`, `pattern` (with `anchors`) or `evidence`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSpec {
    pub id: String,
    pub category: Category,
    pub entity: String,
    pub severity: Severity,
    /// Confidence when everything that can be verified holds.
    #[serde(default = "one")]
    pub confidence: f32,
    /// Confidence when the check fails or has nothing to check; without it such a candidate is no finding.
    pub weak_confidence: Option<f32>,
    /// A recogniser in code.
    pub recognizer: Option<Recognizer>,
    /// Literals that start (or, with `lead`, lie inside) every match; nothing is tried without one.
    #[serde(default)]
    pub anchors: Vec<String>,
    /// Regular expression, tried only at an anchor. A group in it is the value, the rest what names it.
    pub pattern: Option<String>,
    /// How many token bytes before the anchor belong to the match.
    #[serde(default)]
    pub lead: usize,
    /// Shortest possible match in bytes, for a cheap refusal.
    #[serde(default = "sixteen")]
    pub min_len: usize,
    /// The pattern contains white space: the window is not cut at the end of the token.
    #[serde(default)]
    pub spaced: bool,
    /// Smallest Shannon entropy of the match, in bits per byte.
    #[serde(default)]
    pub min_entropy: f32,
    pub check: Option<Check>,
    /// Words near a candidate that speak for it.
    #[serde(default)]
    pub context: Vec<String>,
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// Texts in which the rule must find something; a test runs them.
    #[serde(default, rename = "match")]
    pub matches: Vec<String>,
    /// Texts in which the rule must find nothing.
    #[serde(default)]
    pub no_match: Vec<String>,
}

/// Log-odds that a combination of groups in one sentence contributes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Evidence {
    /// `a` (present), `a > b > c` (in this order, each within eight words of the next), `a & b` (within eight words, in any order).
    pub when: String,
    pub weight: f32,
}

/// Recognisers that are code, because their check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Recognizer {
    Email,
    Phone,
    CreditCard,
    UsSsn,
    UsItin,
    Iban,
    IpAddress,
    MacAddress,
    UsPassport,
    UsDriverLicense,
    UkNhs,
    UkNino,
    AbaRouting,
    Crypto,
    DateOfBirth,
    AuTfn,
    AuAbn,
    AuAcn,
    AuMedicare,
    BrCpf,
    BrCnpj,
    CaSin,
    ChAhv,
    CnResidentId,
    DeTaxId,
    DeSocialSecurity,
    DeIdCard,
    DkCpr,
    EsNif,
    EsNie,
    FiIdentityCode,
    FrNir,
    InAadhaar,
    InPan,
    ItFiscalCode,
    ItVat,
    JpMyNumber,
    KrRrn,
    MxCurp,
    MxRfc,
    NlBsn,
    NoIdentityNumber,
    PlPesel,
    PtNif,
    SePersonnummer,
    SgNricFin,
    ThNationalId,
    TrNationalId,
    ZaId,
    MedicalLicense,
    UsMbi,
    Vin,
    Imei,
    UsBankNumber,
    /// `name = value` where the name says that it is secret.
    SecretAssignment,
    /// `scheme://user:password@host`.
    UrlCredentials,
    PrivateKey,
    /// A line of the width that keys are wrapped at, without its frame.
    KeyLine,
    /// Three parts of base64 between dots, in Discord's lengths.
    DiscordToken,
    /// Keys with Azure's mark at a fixed place.
    AzureKey,
    MailgunKey,
    NewRelicLicense,
    /// `number:thirty-five characters`.
    TelegramToken,
}

impl Recognizer {
    /// How many of them find personal data: the first ones.
    pub(super) const PERSONAL: usize = Self::SecretAssignment as usize;
}

fn one() -> f32 {
    1.0
}

fn sixteen() -> usize {
    16
}

/// Parses packs; every fault of every pack at once.
pub(super) fn parse(packs: &[(&str, &str)]) -> Result<Vec<(String, Pack)>, Vec<PackError>> {
    let mut parsed: Vec<(String, Pack)> = Vec::new();
    let mut faults = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for (name, yaml) in packs {
        match serde_yaml::from_str::<Pack>(yaml) {
            Ok(pack) => {
                for rule in &pack.rules {
                    let mut fault = |message: String| {
                        faults.push(PackError { pack: (*name).to_owned(), rule: rule.id.clone(), message });
                    };
                    for message in faults_of(&pack, rule) {
                        fault(message);
                    }
                    if !ids.insert(rule.id.clone()) {
                        fault("the id is used twice".to_owned());
                    }
                }
                parsed.push(((*name).to_owned(), pack));
            }
            Err(error) => {
                faults.push(PackError { pack: (*name).to_owned(), rule: "-".to_owned(), message: error.to_string() });
            }
        }
    }
    if faults.is_empty() { Ok(parsed) } else { Err(faults) }
}

fn faults_of(pack: &Pack, rule: &RuleSpec) -> Vec<String> {
    let mut faults = Vec::new();
    let prefix = match pack.detector {
        Detector::Pii => "pii.",
        Detector::Secrets => "secrets.",
        Detector::Injection => "injection.",
        Detector::Custom => "custom.",
    };
    if !rule.id.starts_with(prefix) {
        faults.push(format!("the id must start with `{prefix}`"));
    }
    let fits = match pack.detector {
        Detector::Pii => rule.category == Category::Pii,
        Detector::Secrets => rule.category == Category::Secrets,
        Detector::Injection => rule.category.is_attack(),
        // Those are compiled with the policy that holds them.
        Detector::Custom => false,
    };
    if !fits {
        faults.push("the category does not belong to the detector".to_owned());
    }
    let kinds = usize::from(rule.recognizer.is_some())
        + usize::from(rule.pattern.is_some())
        + usize::from(!rule.evidence.is_empty());
    if kinds != 1 {
        faults.push("exactly one of `recognizer`, `pattern` and `evidence` is needed".to_owned());
    }
    if rule.pattern.is_some() && rule.anchors.is_empty() {
        faults.push("a `pattern` needs `anchors`".to_owned());
    }
    if rule.anchors.iter().any(|anchor| anchor.len() < 3) {
        faults.push("an anchor must have three bytes or more".to_owned());
    }
    if rule.evidence.is_empty() == (pack.detector == Detector::Injection) {
        faults.push("`evidence` belongs to injection packs, and only there".to_owned());
    }
    for confidence in [Some(rule.confidence), rule.weak_confidence].into_iter().flatten() {
        if !(0.0..=1.0).contains(&confidence) {
            faults.push(format!("confidence {confidence} is not between 0 and 1"));
        }
    }
    if rule.matches.is_empty() {
        faults.push("at least one `match` sample is needed".to_owned());
    }
    if rule.matches.iter().any(|sample| rule.no_match.contains(sample)) {
        faults.push("a sample is in `match` and in `no_match`".to_owned());
    }
    faults
}
