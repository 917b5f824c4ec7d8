//! A candidate beside the policy in force: who is judged by which, what they differ in, what came of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::decide::CompiledPolicy;
use crate::domain::{
    Action, ApiKeyId, Arm, ArmCounts, Assignment, AuditId, Finding, PolicyId, Role, RolloutId, RuleDifference,
    Timestamp, Verdict, WorkspaceId,
};
use crate::store::TenantScope;

/// Findings that a sample keeps.
const SAMPLED_FINDINGS: usize = 16;
/// Samples that wait for being written, so that a flood of differences costs no memory.
const WAITING_SAMPLES: usize = 32;

/// What a workspace is under. Without a rollout a request pays for one look at a pointer.
#[derive(Clone)]
pub struct InForce {
    pub live: Arc<CompiledPolicy>,
    pub rollout: Option<Arc<Rollout>>,
}

/// Who judges a request: one policy acts, the other is only compared with it.
#[derive(Clone)]
pub struct Judges {
    pub acting: Arc<CompiledPolicy>,
    pub beside: Option<Beside>,
}

/// The other policy of a rollout.
#[derive(Clone)]
pub struct Beside {
    pub rollout: Arc<Rollout>,
    /// The arm of the policy that acts.
    pub arm: Arm,
    other: Arc<CompiledPolicy>,
}

impl InForce {
    /// Whether the end user must be known before it can be said who judges.
    #[must_use]
    pub fn asks_for_user(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| {
            rollout.canary.is_some_and(|canary| canary.by == Assignment::User && canary.is_partial())
        })
    }

    /// Who judges a request of `caller` for its end user `user`.
    #[must_use]
    pub fn judges(&self, caller: ApiKeyId, user: Option<&str>) -> Judges {
        let Some(rollout) = &self.rollout else {
            return Judges { acting: Arc::clone(&self.live), beside: None };
        };
        let arm = rollout.arm(caller, user);
        let (acting, other) = match arm {
            Arm::Live => (&self.live, &rollout.candidate),
            Arm::Candidate => (&rollout.candidate, &self.live),
        };
        let beside = Beside { rollout: Arc::clone(rollout), arm, other: Arc::clone(other) };
        Judges { acting: Arc::clone(acting), beside: Some(beside) }
    }
}

impl Judges {
    /// Whether the candidate of a rollout acts.
    #[must_use]
    pub fn is_canary(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| beside.arm == Arm::Candidate)
    }
}

/// A share of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// 0 to 100.
    pub percentage: u8,
    pub by: Assignment,
}

impl Canary {
    const fn is_partial(self) -> bool {
        self.percentage > 0 && self.percentage < 100
    }
}

/// A rollout as one node knows it, shared by all workspaces that are under its policy.
pub struct Rollout {
    pub id: RolloutId,
    /// Counts begin anew with each change of the rollout.
    pub run: i64,
    pub root: PolicyId,
    pub scope: TenantScope,
    candidate: Arc<CompiledPolicy>,
    /// None: nothing is done about what the candidate says.
    canary: Option<Canary>,
    /// Both policies look for the same things, so that the findings of one are those of the other.
    same_findings: bool,
    /// Of the hashes of found texts: they tell equal texts of one run on one node, and nothing else.
    salt: [u8; 32],
    pending: Mutex<Pending>,
}

/// What has been counted and not yet written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pending {
    pub live: ArmCounts,
    pub candidate: ArmCounts,
    pub rules: HashMap<RuleDifference, u64>,
    pub samples: Vec<Sample>,
}

/// One request on which the policies differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub request: AuditId,
    pub workspace: WorkspaceId,
    pub at: Timestamp,
    pub live_action: Action,
    pub candidate_action: Action,
    pub findings: Vec<SampledFinding>,
}

/// What was found, without the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SampledFinding {
    pub rule_id: String,
    /// Null where the version in force does not look for it.
    pub live_action: Option<Action>,
    /// Null where the candidate does not look for it.
    pub candidate_action: Option<Action>,
    pub confidence: f32,
    pub role: Role,
    /// Where in the document: `messages[2].content[0].text`.
    pub path: String,
    /// Byte offsets into that text.
    pub start: usize,
    pub end: usize,
    /// Equal texts of one run on one node have the same; it says nothing else about the text.
    pub text_hash: String,
}

impl std::fmt::Debug for Rollout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rollout").field("id", &self.id).field("run", &self.run).field("canary", &self.canary).finish()
    }
}

impl Rollout {
    #[must_use]
    pub fn new(
        (id, run): (RolloutId, i64),
        root: PolicyId,
        scope: TenantScope,
        candidate: Arc<CompiledPolicy>,
        canary: Option<Canary>,
        same_findings: bool,
    ) -> Self {
        let (salt, pending) = (rand::random(), Mutex::default());
        Self { id, run, root, scope, candidate, canary, same_findings, salt, pending }
    }

    #[must_use]
    pub const fn candidate(&self) -> &Arc<CompiledPolicy> {
        &self.candidate
    }

    /// Which policy acts: the same for the same caller or end user, as long as the percentage does not fall.
    fn arm(&self, caller: ApiKeyId, user: Option<&str>) -> Arm {
        let Some(canary) = self.canary else { return Arm::Live };
        match canary.percentage {
            0 => return Arm::Live,
            100.. => return Arm::Candidate,
            _ => {}
        }
        let user = user.filter(|_| canary.by == Assignment::User);
        let candidate = self.candidate.label().id.unwrap_or(self.root);
        let place = share(candidate, caller, user);
        if place < u64::from(canary.percentage) * 100 { Arm::Candidate } else { Arm::Live }
    }

    /// Counts a request that both have judged.
    pub fn compared(&self, arm: Arm, comparison: Comparison, request: AuditId, workspace: WorkspaceId, at: Timestamp) {
        let mut pending = self.pending.lock();
        let counts = pending.of(arm);
        counts.compared += 1;
        if !comparison.differs() {
            return;
        }
        let Comparison { live, candidate, rules, findings } = comparison;
        counts.differing += 1;
        counts.newly_blocked += u64::from(candidate == Action::Block && live != Action::Block);
        counts.newly_passed += u64::from(live == Action::Block && candidate != Action::Block);
        for rule in rules {
            *pending.rules.entry(rule).or_default() += 1;
        }
        if pending.samples.len() < WAITING_SAMPLES {
            pending.samples.push(Sample {
                request,
                workspace,
                at,
                live_action: live,
                candidate_action: candidate,
                findings,
            });
        }
    }

    /// Counts a request that is over.
    pub fn finished(&self, arm: Arm, blocked: bool, error: bool, overhead: Duration) {
        let mut pending = self.pending.lock();
        let counts = pending.of(arm);
        counts.requests += 1;
        counts.blocked += u64::from(blocked);
        counts.errors += u64::from(error);
        counts.overhead_us += u64::try_from(overhead.as_micros()).unwrap_or(0);
    }

    /// Takes what has been counted; None when there is nothing.
    #[must_use]
    pub fn take(&self) -> Option<Pending> {
        let pending = std::mem::take(&mut *self.pending.lock());
        (pending != Pending::default()).then_some(pending)
    }

    pub(super) fn has_pending(&self) -> bool {
        *self.pending.lock() != Pending::default()
    }

    /// Gives back what could not be written.
    pub fn give_back(&self, unwritten: Pending) {
        let mut pending = self.pending.lock();
        pending.live.add(&unwritten.live);
        pending.candidate.add(&unwritten.candidate);
        for (rule, requests) in unwritten.rules {
            *pending.rules.entry(rule).or_default() += requests;
        }
        let room = WAITING_SAMPLES.saturating_sub(pending.samples.len());
        pending.samples.extend(unwritten.samples.into_iter().take(room));
    }
}

impl Pending {
    const fn of(&mut self, arm: Arm) -> &mut ArmCounts {
        match arm {
            Arm::Live => &mut self.live,
            Arm::Candidate => &mut self.candidate,
        }
    }
}

/// The place of a caller or end user among 10,000, for one candidate.
fn share(candidate: PolicyId, caller: ApiKeyId, user: Option<&str>) -> u64 {
    let mut hash = Sha256::new();
    hash.update(candidate.uuid().as_bytes());
    match user {
        Some(user) => hash.update([b"u", user.as_bytes()].concat()),
        None => hash.update([b"c", caller.uuid().as_bytes().as_slice()].concat()),
    }
    let digest = hash.finalize();
    let first = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    first % 10_000
}

/// What two policies make of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub live: Action,
    pub candidate: Action,
    pub(super) rules: Vec<RuleDifference>,
    findings: Vec<SampledFinding>,
}

/// A piece of text, as a sample names it.
pub struct Place<'t> {
    pub role: Role,
    pub path: String,
    pub text: std::borrow::Cow<'t, str>,
}

impl Beside {
    /// Whether the other policy looks for other things, so that it needs a scan of its own.
    #[must_use]
    pub fn scans(&self) -> bool {
        !self.rollout.same_findings
    }

    #[must_use]
    pub const fn other(&self) -> &Arc<CompiledPolicy> {
        &self.other
    }

    /// Compares the verdict of the policy that acts with what the other one says of the same findings, or of its `own`.
    #[must_use]
    pub fn compare<'t>(
        &self,
        acted: &Verdict,
        own: Option<Vec<Finding>>,
        role_of: impl Fn(usize) -> Role,
        place_of: impl Fn(usize) -> Place<'t>,
    ) -> Comparison {
        let same = || acted.findings.iter().map(|judged| judged.finding.clone()).collect();
        let other = self.other.decide(own.unwrap_or_else(same), role_of);
        let (live, candidate) = match self.arm {
            Arm::Live => (acted, &other),
            Arm::Candidate => (&other, acted),
        };
        Comparison::between(live, candidate, &self.rollout.salt, place_of)
    }
}

impl Comparison {
    pub(super) fn between<'t>(
        live: &Verdict,
        candidate: &Verdict,
        salt: &[u8; 32],
        place_of: impl Fn(usize) -> Place<'t>,
    ) -> Self {
        let mut by_rule: BTreeMap<&str, (Action, Action)> = BTreeMap::new();
        for judged in &live.findings {
            let action = &mut by_rule.entry(&judged.finding.rule.id).or_insert(NOTHING).0;
            *action = judged.action.max(*action);
        }
        for judged in &candidate.findings {
            let action = &mut by_rule.entry(&judged.finding.rule.id).or_insert(NOTHING).1;
            *action = judged.action.max(*action);
        }
        by_rule.retain(|_, (live, candidate)| live != candidate);
        let findings = if by_rule.is_empty() { Vec::new() } else { sampled(live, candidate, &by_rule, salt, place_of) };
        let rules = by_rule.into_iter().map(|(rule, (live_action, candidate_action))| RuleDifference {
            rule_id: rule.into(),
            live_action,
            candidate_action,
        });
        Self { live: live.action, candidate: candidate.action, rules: rules.collect(), findings }
    }

    #[must_use]
    pub fn differs(&self) -> bool {
        self.live != self.candidate || !self.rules.is_empty()
    }

    /// Adds what was made of another part of the request. `lift` is what an action becomes there.
    pub fn join(&mut self, part: Self, lift: impl Fn(Action) -> Action) {
        self.live = self.live.max(lift(part.live));
        self.candidate = self.candidate.max(lift(part.candidate));
        self.rules.extend(part.rules);
        self.rules.sort_unstable();
        self.rules.dedup();
        self.findings.extend(part.findings);
        self.findings.truncate(SAMPLED_FINDINGS);
    }
}

const NOTHING: (Action, Action) = (Action::Allow, Action::Allow);

/// The findings of the rules that differ; those at the same place are one.
fn sampled<'t>(
    live: &Verdict,
    candidate: &Verdict,
    differing: &BTreeMap<&str, (Action, Action)>,
    salt: &[u8; 32],
    place_of: impl Fn(usize) -> Place<'t>,
) -> Vec<SampledFinding> {
    type Key<'v> = (usize, usize, usize, &'v str);
    let mut found: BTreeMap<Key<'_>, (f32, Option<Action>, Option<Action>)> = BTreeMap::new();
    for (verdict, is_live) in [(live, true), (candidate, false)] {
        let of_rules = verdict.findings.iter().filter(|judged| differing.contains_key(&*judged.finding.rule.id));
        for judged in of_rules {
            let Finding { rule, confidence, span, segment, .. } = &judged.finding;
            let key = (*segment, span.start, span.end, &*rule.id);
            if found.len() >= SAMPLED_FINDINGS && !found.contains_key(&key) {
                continue;
            }
            let (_, of_live, of_candidate) = found.entry(key).or_insert((*confidence, None, None));
            *(if is_live { of_live } else { of_candidate }) = Some(judged.action);
        }
    }
    let finding = |((segment, start, end, rule), (confidence, live_action, candidate_action)): (Key<'_>, _)| {
        let place = place_of(segment);
        SampledFinding {
            rule_id: rule.to_owned(),
            live_action,
            candidate_action,
            confidence,
            role: place.role,
            path: place.path,
            start,
            end,
            text_hash: hash(salt, place.text.get(start..end).unwrap_or_default()),
        }
    };
    found.into_iter().map(finding).collect()
}

fn hash(salt: &[u8; 32], text: &str) -> String {
    let digest = Sha256::new().chain_update(salt).chain_update(text).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
