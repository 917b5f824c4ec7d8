//! What a candidate would have made of requests that are over: from the findings of their audit rows, or from texts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::decide::CompiledPolicy;
use super::document::{AllowEntry, PolicyDocument};
use super::rollout::{Comparison, Place};
use crate::detect::Engine;
use crate::domain::{
    Action, AnswerRecord, AuditFinding, AuditId, Finding, Role, RuleDifference, Timestamp, WorkspaceId,
};

/// Requests that are named one by one.
const EXAMPLES: usize = 100;
/// Where a row says that something was found in the query of the address.
const QUERY: &str = "query";

/// A policy with what its document says about texts, which rows do not have.
pub struct Replayed<'p> {
    pub policy: &'p CompiledPolicy,
    pub document: &'p PolicyDocument,
}

/// What of an audit row can be judged anew.
#[derive(Clone, Debug)]
pub struct ReplayRow {
    pub id: AuditId,
    pub at: Timestamp,
    pub workspace: Option<WorkspaceId>,
    /// What was done with the request.
    pub action: Action,
    pub findings: Vec<AuditFinding>,
    pub answer: Option<Box<AnswerRecord>>,
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ReplayReport {
    pub requests: u64,
    /// Treated otherwise, as a whole or by some rule.
    pub differing: u64,
    /// The candidate would block them, they were not blocked.
    pub newly_blocked: u64,
    /// The candidate would let them pass, they were blocked.
    pub newly_passed: u64,
    /// Rows say that something was found, not what it was: where allow lists differ, what they would say of these requests is not
    /// known. They are judged as if nothing were allowed, and counted above too.
    pub uncertain: u64,
    /// The most frequent first.
    pub rules: Vec<ReplayedRule>,
    pub workspaces: Vec<ReplayedWorkspace>,
    /// The first hundred requests that differ.
    pub examples: Vec<ReplayedRequest>,
    /// Rules of the candidate's own that the policies did not have that judged then: no row has their findings.
    pub unseen_rules: Vec<String>,
}

/// In how many requests a rule would be treated otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ReplayedRule {
    /// `live_action` is what was done.
    #[serde(flatten)]
    pub difference: RuleDifference,
    pub requests: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ReplayedWorkspace {
    pub workspace_id: WorkspaceId,
    pub differing: u64,
    pub newly_blocked: u64,
    pub newly_passed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayedRequest {
    /// Of a row its id, of a text the one it was given or its number.
    pub id: String,
    pub live_action: Action,
    pub candidate_action: Action,
}

/// Counts while rows or texts go by.
pub struct Replay<'p> {
    candidate: Replayed<'p>,
    report: ReplayReport,
    rules: BTreeMap<RuleDifference, u64>,
    workspaces: BTreeMap<WorkspaceId, ReplayedWorkspace>,
    unseen: BTreeSet<String>,
}

/// What was done and what would be.
struct Redecided {
    was: Action,
    would: Action,
    rules: Vec<RuleDifference>,
    uncertain: bool,
}

impl<'p> Replay<'p> {
    #[must_use]
    pub fn of(candidate: Replayed<'p>) -> Self {
        let (rules, workspaces, unseen) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { candidate, report: ReplayReport::default(), rules, workspaces, unseen }
    }

    /// Judges a row anew. `then` is the policy that judged it, if it is still known.
    pub fn row(&mut self, row: &ReplayRow, then: Option<&Replayed<'_>>) {
        if let Some(then) = then {
            self.note_unseen(then.document);
        }
        let seen = self.redecide(row, then);
        let id = || row.id.to_string();
        self.count(seen, row.workspace, id);
    }

    /// Scans a text under both policies.
    pub fn text(
        &mut self,
        engine: &Engine,
        live: &CompiledPolicy,
        text: &str,
        role: Role,
        id: impl FnOnce() -> String,
    ) {
        let judge = |policy: &CompiledPolicy| {
            let mut findings: Vec<Finding> = Vec::new();
            engine.scan_with(text, 0, role, policy.custom(), &mut findings);
            policy.decide(findings, |_| role)
        };
        let place = |_| Place { role, path: String::new(), text: text.into() };
        let compared = Comparison::between(&judge(live), &judge(self.candidate.policy), &[0; 32], place);
        let Comparison { live: was, candidate: would, rules, .. } = compared;
        self.count(Redecided { was, would, rules, uncertain: false }, None, id);
    }

    #[must_use]
    pub fn report(self) -> ReplayReport {
        let Self { mut report, rules, workspaces, unseen, .. } = self;
        report.rules = rules.into_iter().map(|(difference, requests)| ReplayedRule { difference, requests }).collect();
        report.rules.sort_by_key(|rule| std::cmp::Reverse(rule.requests));
        report.workspaces = workspaces.into_values().collect();
        report.unseen_rules = unseen.into_iter().collect();
        report
    }

    fn count(&mut self, seen: Redecided, workspace: Option<WorkspaceId>, id: impl FnOnce() -> String) {
        let Redecided { was, would, rules, uncertain } = seen;
        let report = &mut self.report;
        report.requests += 1;
        report.uncertain += u64::from(uncertain);
        if was == would && rules.is_empty() {
            return;
        }
        let newly_blocked = u64::from(would == Action::Block && was != Action::Block);
        let newly_passed = u64::from(was == Action::Block && would != Action::Block);
        report.differing += 1;
        report.newly_blocked += newly_blocked;
        report.newly_passed += newly_passed;
        if report.examples.len() < EXAMPLES {
            report.examples.push(ReplayedRequest { id: id(), live_action: was, candidate_action: would });
        }
        for rule in rules {
            *self.rules.entry(rule).or_default() += 1;
        }
        if let Some(workspace_id) = workspace {
            let none = ReplayedWorkspace { workspace_id, differing: 0, newly_blocked: 0, newly_passed: 0 };
            let counted = self.workspaces.entry(workspace_id).or_insert(none);
            counted.differing += 1;
            counted.newly_blocked += newly_blocked;
            counted.newly_passed += newly_passed;
        }
    }

    fn redecide(&self, row: &ReplayRow, then: Option<&Replayed<'_>>) -> Redecided {
        let (mut rules, mut uncertain) = (BTreeMap::new(), false);
        let mut each = |findings: &[AuditFinding]| -> Vec<Action> {
            let judged = findings.iter().map(|finding| {
                let (would, unsure) = self.judge(finding, then);
                uncertain |= unsure;
                let (old, new) = rules.entry(finding.rule_id.clone()).or_insert((Action::Allow, Action::Allow));
                *old = finding.action.max(*old);
                *new = would.max(*new);
                would
            });
            judged.collect()
        };
        let asked = each(&row.findings);
        let answered = row.answer.as_ref().map(|answer| each(&answer.findings));
        let input = whole(row.action, &row.findings, &asked);
        let (mut was, mut would) = (row.action, input);
        if let Some(answer) = &row.answer {
            was = was.max(answer.action);
            would = would.max(whole(answer.action, &answer.findings, &answered.unwrap_or_default()));
        }
        rules.retain(|_, (old, new)| old != new);
        let rules = rules.into_iter().map(|(rule, (live_action, candidate_action))| RuleDifference {
            rule_id: rule.into(),
            live_action,
            candidate_action,
        });
        Redecided { was, would, rules: rules.collect(), uncertain }
    }

    /// What the candidate would do about a finding, and whether an allow list could say otherwise.
    fn judge(&self, finding: &AuditFinding, then: Option<&Replayed<'_>>) -> (Action, bool) {
        let would = self.candidate.policy.action_of_kept(finding);
        let own = &self.candidate.document.allow_list;
        let Some(then) = then else { return (would, !own.is_empty() && would != Action::Allow) };
        // What was allowed although its rule acts was covered by the list.
        let covered = finding.action == Action::Allow && then.policy.action_of_kept(finding) != Action::Allow;
        if *own == then.document.allow_list {
            return (if covered { Action::Allow } else { would }, false);
        }
        let asked = covered || names(own, finding);
        (would, asked && would != Action::Allow)
    }

    fn note_unseen(&mut self, then: &PolicyDocument) {
        let candidate = self.candidate.document;
        let custom = candidate.custom_rules.iter().filter(|(name, rule)| then.custom_rules.get(*name) != Some(rule));
        let data = candidate.exact_data.keys().filter(|name| !then.exact_data.contains_key(*name));
        let ids = custom.map(|(name, _)| format!("custom.{name}")).chain(data.map(|name| format!("data.{name}")));
        self.unseen.extend(ids);
    }
}

/// What becomes of a whole message: as it was, when nothing about its findings is otherwise.
fn whole(was: Action, findings: &[AuditFinding], would: &[Action]) -> Action {
    if findings.iter().map(|finding| finding.action).eq(would.iter().copied()) {
        return was;
    }
    let strongest = |lift: bool, actions: &mut dyn Iterator<Item = Action>| {
        let lifted = findings.iter().zip(actions).map(|(finding, action)| match action {
            Action::Redact | Action::Tokenize if lift && finding.path == QUERY => Action::Block,
            other => other,
        });
        lifted.max().unwrap_or(Action::Allow)
    };
    // A query cannot be rewritten: what would be replaced in it is refused. A field of that name is no query.
    let lifts = strongest(false, &mut findings.iter().map(|finding| finding.action)) != was
        && strongest(true, &mut findings.iter().map(|finding| finding.action)) == was;
    strongest(lifts, &mut would.iter().copied())
}

/// Whether an entry may cover the finding: by its rule or its type.
fn names(entries: &[AllowEntry], finding: &AuditFinding) -> bool {
    entries
        .iter()
        .any(|entry| entry.rule.as_ref().is_some_and(|name| *name == finding.rule_id || *name == finding.entity))
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
