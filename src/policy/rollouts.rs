//! The rollouts of one node: kept once for all workspaces, written down once a second, taken back where a guard says so.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use super::decide::CompiledPolicy;
use super::rollout::{Canary, Pending, Rollout, Sample};
use crate::domain::{Arm, PolicyId, RolloutState};
use crate::store::{DifferenceSample, EffectiveRollout, NewAdminEvent, Store, StoreError};

/// The rollouts that policies in use have. One that none has any more is let go once its counts are written.
#[derive(Default)]
pub(super) struct Rollouts {
    known: Mutex<Vec<Arc<Rollout>>>,
}

impl Rollouts {
    /// The rollout as this node has it, or a new one.
    pub(super) fn of(
        &self,
        effective: &EffectiveRollout,
        root: PolicyId,
        candidate: Arc<CompiledPolicy>,
        same_findings: bool,
    ) -> Arc<Rollout> {
        let mut known = self.known.lock();
        let key = (effective.id, effective.run);
        if let Some(rollout) = known.iter().find(|rollout| (rollout.id, rollout.run) == key) {
            return Arc::clone(rollout);
        }
        let canary = (effective.state == RolloutState::Canary)
            .then_some(Canary { percentage: effective.percentage, by: effective.assignment });
        let rollout = Arc::new(Rollout::new(key, root, effective.scope, candidate, canary, same_findings));
        known.push(Arc::clone(&rollout));
        rollout
    }

    /// Writes what has been counted since, and looks at the guards of canaries.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: what could not be written is kept for the next time.
    pub(super) async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let all = self.known.lock().clone();
        for rollout in all {
            let Some(pending) = rollout.take() else { continue };
            if let Err(error) = write(store, &rollout, &pending).await {
                rollout.give_back(pending);
                return Err(error);
            }
        }
        // What only this list holds is in no cache and under no request.
        self.known.lock().retain(|rollout| Arc::strong_count(rollout) > 1 || rollout.has_pending());
        Ok(())
    }
}

async fn write(store: &Store, rollout: &Rollout, pending: &Pending) -> Result<(), StoreError> {
    let mut tx = store.write(rollout.scope).await?;
    // Nodes that write at the same time add up, and one of them takes a candidate back.
    tx.serialize().await?;
    let Some(record) = tx.policy_rollouts().last(rollout.root).await? else { return Ok(()) };
    let counts = [(Arm::Live, pending.live), (Arm::Candidate, pending.candidate)];
    let samples: Vec<DifferenceSample> = pending.samples.iter().map(stored).collect::<Result<_, _>>()?;
    let rules = pending.rules.iter().map(|(rule, requests)| (rule, *requests));
    tx.policy_rollouts().add((rollout.id, rollout.run), &counts, rules, &samples).await?;
    let is_current = record.id == rollout.id && record.run == rollout.run;
    if is_current && record.state == RolloutState::Canary {
        let [live, candidate] = tx.policy_rollouts().counts(rollout.id, rollout.run).await?;
        if let Some(breach) = record.guards.breach(&live, &candidate) {
            let reason = breach.to_string();
            tx.policy_rollouts().end(rollout.root, RolloutState::RolledBack, Some(&reason)).await?;
            tracing::warn!(policy.id = %rollout.root, rollout.id = %rollout.id, reason, "a canary was rolled back");
            let after = json!({ "rollout_id": rollout.id, "version": record.candidate_version,
                "state": RolloutState::RolledBack, "reason": reason, "live": live, "candidate": candidate });
            let event = NewAdminEvent {
                target: Some(("policy".to_owned(), Some(rollout.root.uuid()))),
                before: Some(json!({ "state": record.state, "percentage": record.percentage })),
                after: Some(after),
                ..NewAdminEvent::by_system("policy_rollout.roll_back", rollout.scope.org_id())
            };
            tx.admin_events().insert(event).await?;
        }
    }
    tx.commit().await
}

fn stored(sample: &Sample) -> Result<DifferenceSample, StoreError> {
    let findings = serde_json::to_value(&sample.findings).map_err(|error| StoreError::Database(error.to_string()))?;
    Ok(DifferenceSample {
        request_id: sample.request,
        workspace_id: sample.workspace,
        occurred_at: sample.at,
        live_action: sample.live_action,
        candidate_action: sample.candidate_action,
        findings,
    })
}
