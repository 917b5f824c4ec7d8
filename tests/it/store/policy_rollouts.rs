//! Candidates on their way into force.

use sentinel::domain::{
    Action, Arm, ArmCounts, Assignment, AuditId, PolicyId, RolloutGuards, RolloutState, RuleDifference,
};
use sentinel::store::{
    DifferenceSample, DraftOf, NewPolicy, OrganizationPatch, PolicyRecord, RolloutPlan, RolloutRecord, StoreError,
};
use serde_json::json;

use super::{START, World, assert_refused, new_policy, on_both_engines, page};

const SHADOW: RolloutPlan = plan(RolloutState::Shadow, 0);

const fn plan(state: RolloutState, percentage: u8) -> RolloutPlan {
    let guards = RolloutGuards {
        min_requests: 7,
        max_block_rate_increase: Some(1.5),
        max_error_rate_increase: None,
        max_latency_increase: None,
    };
    RolloutPlan { state, percentage, assignment: Assignment::User, guards }
}

/// The default policy, and a draft that stands on it.
async fn policy_and_draft(world: &World) -> (PolicyRecord, PolicyRecord) {
    let mut tx = world.write().await;
    let live = NewPolicy { is_default: true, ..new_policy("mine") };
    let live = tx.policies().insert(live).await.unwrap();
    let draft = NewPolicy { is_default: true, document: json!({"extends": "strict"}), ..new_policy("mine") };
    let draft = tx.policy_drafts().insert(DraftOf::Policy(live.root_id), draft).await.unwrap();
    tx.commit().await.unwrap();
    (live, draft)
}

async fn start(
    world: &World,
    root: PolicyId,
    draft: PolicyId,
    plan: &RolloutPlan,
) -> Result<RolloutRecord, StoreError> {
    let mut tx = world.write().await;
    let started = tx.policy_rollouts().start(root, draft, plan, world.acme.user_id).await?.unwrap();
    tx.commit().await?;
    Ok(started)
}

async fn last(world: &World, root: PolicyId) -> RolloutRecord {
    world.read().await.policy_rollouts().last(root).await.unwrap().unwrap()
}

/// The share that the gateway is told, if there is a rollout.
async fn effective(world: &World) -> Option<(u8, i64)> {
    let policy = world.store.effective_policy(world.acme.workspace_id, world.acme.scope).await.unwrap().unwrap();
    policy.rollout.map(|rollout| (rollout.percentage, rollout.run))
}

on_both_engines! {
    async fn a_rollout_is_told_changed_and_stopped(world: World) {
        let (live, draft) = policy_and_draft(&world).await;
        assert_eq!(effective(&world).await, None);
        world.told();
        let started = start(&world, live.root_id, draft.id, &SHADOW).await.unwrap();
        assert_eq!(world.told(), [world.policy_changed()]);
        assert_eq!((started.baseline_id, started.candidate_id, started.run), (live.id, draft.id, 1));
        assert_eq!((started.state, started.assignment, started.guards), (SHADOW.state, SHADOW.assignment, SHADOW.guards));
        assert_eq!((started.created_by, started.created_at), (Some(world.acme.user_id), START));
        assert_eq!(effective(&world).await, Some((0, 1)));
        let again = start(&world, live.root_id, draft.id, &SHADOW).await;
        assert_refused!(again, StoreError::Conflict("rollout of this policy"));

        let mut tx = world.write().await;
        let canary = plan(RolloutState::Canary, 25);
        let changed = tx.policy_rollouts().change(live.root_id, &canary).await.unwrap().unwrap();
        assert_eq!((changed.state, changed.percentage, changed.run), (RolloutState::Canary, 25, 2));
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.policy_changed()]);
        assert_eq!(effective(&world).await, Some((25, 2)));
        assert_eq!(world.read().await.policy_drafts().find(draft.id).await.unwrap().unwrap().canary_percentage, 25);

        let mut tx = world.write().await;
        let ended = tx.policy_rollouts().end(live.root_id, RolloutState::RolledBack, Some("why")).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.policy_changed()]);
        assert_eq!((ended.state, ended.reason.as_deref(), ended.ended_at), (RolloutState::RolledBack, Some("why"), Some(START)));
        assert_eq!(effective(&world).await, None);
        let mut tx = world.write().await;
        assert_eq!(tx.policy_drafts().find(draft.id).await.unwrap().unwrap().canary_percentage, 0);
        assert_eq!(tx.policy_rollouts().end(live.root_id, RolloutState::Stopped, None).await.unwrap(), None);
        assert_eq!(tx.policy_rollouts().change(live.root_id, &SHADOW).await.unwrap(), None);
        assert_eq!(tx.policy_rollouts().promote(live.root_id).await.unwrap(), None);
        drop(tx);
        start(&world, live.root_id, draft.id, &SHADOW).await.unwrap();
    }

    async fn a_promoted_candidate_is_the_version_in_force(world: World) {
        let (live, draft) = policy_and_draft(&world).await;
        start(&world, live.root_id, draft.id, &SHADOW).await.unwrap();
        let mut tx = world.write().await;
        let promoted = tx.policy_rollouts().promote(live.root_id).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!((promoted.id, promoted.version, promoted.is_active), (draft.id, 2, true));
        assert_eq!(last(&world, live.root_id).await.state, RolloutState::Promoted);
        let policy = world.store.effective_policy(world.acme.workspace_id, world.acme.scope).await.unwrap().unwrap();
        assert_eq!((policy.id, policy.rollout), (draft.id, None));
    }

    async fn a_draft_or_a_policy_that_changes_ends_its_rollout(world: World) {
        let (live, draft) = policy_and_draft(&world).await;
        start(&world, live.root_id, draft.id, &SHADOW).await.unwrap();
        let mut tx = world.write().await;
        let edited = NewPolicy { is_default: true, ..new_policy("mine") };
        let edited = tx.policy_drafts().edit(draft.id, 1, edited).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!(last(&world, live.root_id).await.state, RolloutState::Superseded);
        assert_eq!(effective(&world).await, None);

        start(&world, live.root_id, edited.id, &SHADOW).await.unwrap();
        let mut tx = world.write().await;
        let new = NewPolicy { is_default: true, ..new_policy("mine") };
        tx.policies().replace(live.root_id, live.version, new).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!(last(&world, live.root_id).await.state, RolloutState::Superseded);
        assert_eq!(effective(&world).await, None);
        let stands_on_the_old = start(&world, live.root_id, edited.id, &SHADOW).await;
        assert_refused!(stands_on_the_old, StoreError::Conflict("draft"));
    }

    async fn a_canary_needs_the_approval_that_the_organization_wants_and_a_shadow_does_not(world: World) {
        let (live, draft) = policy_and_draft(&world).await;
        let mut tx = world.write().await;
        let patch = OrganizationPatch { settings: Some(json!({"require_policy_approval": true})), ..Default::default() };
        tx.organization().update(patch, None).await.unwrap();
        tx.commit().await.unwrap();
        let canary = plan(RolloutState::Canary, 1);
        assert_refused!(start(&world, live.root_id, draft.id, &canary).await, StoreError::Conflict("approval"));
        start(&world, live.root_id, draft.id, &SHADOW).await.unwrap();
        let mut tx = world.write().await;
        assert_refused!(tx.policy_rollouts().change(live.root_id, &canary).await, StoreError::Conflict("approval"));
        assert_refused!(tx.policy_rollouts().promote(live.root_id).await, StoreError::Conflict("approval"));
    }

    async fn nobody_rolls_out_what_belongs_to_others(world: World) {
        let (live, draft) = policy_and_draft(&world).await;
        let mut tx = world.other().await;
        let by = world.other.user_id;
        assert_eq!(tx.policy_rollouts().start(live.root_id, draft.id, &SHADOW, by).await.unwrap(), None);
        let own = tx.policies().insert(new_policy("own")).await.unwrap();
        let foreign = tx.policy_rollouts().start(own.root_id, draft.id, &SHADOW, by).await;
        assert_refused!(foreign, StoreError::Missing("draft_id"));
        drop(tx);
        let rollout = start(&world, live.root_id, draft.id, &SHADOW).await.unwrap();
        let mut tx = world.other().await;
        assert_eq!(tx.policy_rollouts().last(live.root_id).await.unwrap(), None);
        assert_eq!(tx.policy_rollouts().promote(live.root_id).await.unwrap(), None);
        assert_eq!(tx.policy_rollouts().counts(rollout.id, 1).await.unwrap(), [ArmCounts::default(); 2]);
    }

    async fn what_nodes_count_adds_up_by_run(world: World) {
        let (live, draft) = policy_and_draft(&world).await;
        let rollout = start(&world, live.root_id, draft.id, &SHADOW).await.unwrap();
        let counts = ArmCounts {
            requests: 1, blocked: 2, errors: 3, overhead_us: 4, compared: 5, differing: 6, newly_blocked: 7, newly_passed: 8,
        };
        let rule = |candidate_action| RuleDifference { rule_id: "pii.a".into(), live_action: Action::Flag, candidate_action };
        let (blocks, redacts) = (rule(Action::Block), rule(Action::Redact));
        let sample = DifferenceSample {
            request_id: AuditId::new(),
            workspace_id: world.acme.workspace_id,
            occurred_at: START,
            live_action: Action::Flag,
            candidate_action: Action::Block,
            findings: json!([{"rule_id": "pii.a"}]),
        };
        for _ in 0..2 {
            let mut tx = world.write().await;
            let rules = [(&blocks, 2), (&redacts, 1)].into_iter();
            let arms = [(Arm::Live, counts), (Arm::Candidate, ArmCounts::default())];
            tx.policy_rollouts().add((rollout.id, 1), &arms, rules, std::slice::from_ref(&sample)).await.unwrap();
            tx.commit().await.unwrap();
        }
        let mut twice = counts;
        twice.add(&counts);
        let mut tx = world.read().await;
        assert_eq!(tx.policy_rollouts().counts(rollout.id, 1).await.unwrap(), [twice, ArmCounts::default()]);
        assert_eq!(tx.policy_rollouts().counts(rollout.id, 2).await.unwrap(), [ArmCounts::default(); 2]);
        assert_eq!(tx.policy_rollouts().differences(rollout.id, 1).await.unwrap(), [(blocks, 4), (redacts, 2)]);
        assert_eq!(tx.policy_rollouts().samples(rollout.id, &page(9, None)).await.unwrap().data, [sample]);
    }
}
