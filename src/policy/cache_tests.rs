use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::domain::{ManualClock, Timestamp};
use crate::policy::sample_rules::rules;

type Answer = Result<Option<EffectivePolicy>, StoreError>;

/// One workspace, and what the database says of its policy.
struct World {
    policies: Arc<Policies>,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    answer: Arc<Mutex<Answer>>,
    queries: Arc<AtomicUsize>,
    org: OrgId,
    workspace: WorkspaceId,
}

impl World {
    fn new(answer: Answer) -> Self {
        let clock = ManualClock::at(Timestamp::from_micros(1_000_000_000));
        let metrics = Metrics::new();
        Self {
            policies: Arc::new(Policies::new(Compiler::new(&rules()), clock.clone(), &metrics)),
            clock,
            metrics,
            answer: Arc::new(Mutex::new(answer)),
            queries: Arc::default(),
            org: OrgId::new(),
            workspace: WorkspaceId::new(),
        }
    }

    async fn ask(&self) -> Result<Arc<CompiledPolicy>, PolicyError> {
        let (answer, queries) = (Arc::clone(&self.answer), Arc::clone(&self.queries));
        let load = || async move {
            queries.fetch_add(1, Ordering::SeqCst);
            answer.lock().clone()
        };
        Ok(self.policies.get(self.org, self.workspace, load).await?.live)
    }

    async fn label(&self) -> String {
        self.ask().await.unwrap().label().to_string()
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn policy_changed(&self) {
        self.policies.forget(&Change::Policy { org: self.org });
    }

    fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

fn stored(version: i64, document: Value) -> Answer {
    let (id, root_id) = (PolicyId::new(), PolicyId::new());
    Ok(Some(EffectivePolicy { id, root_id, name: "support".to_owned(), version, document, rollout: None }))
}

fn away() -> Answer {
    Err(StoreError::Unavailable("away".to_owned()))
}

#[tokio::test]
async fn a_workspace_without_a_policy_is_under_balanced_and_shares_it() {
    let world = World::new(Ok(None));
    let policy = world.ask().await.unwrap();
    assert_eq!(policy.label().to_string(), "balanced@0");
    assert!(Arc::ptr_eq(&policy, &world.policies.versions.default));
    world.ask().await.unwrap();
    assert_eq!(world.queries(), 1);
}

#[tokio::test]
async fn a_change_holds_on_the_next_request() {
    let world = World::new(stored(1, json!({})));
    assert_eq!(world.label().await, "support@1");
    world.answers(stored(2, json!({"extends": "strict"})));
    assert_eq!(world.label().await, "support@1");
    world.policy_changed();
    assert_eq!(world.label().await, "support@2");
    world.policies.forget(&Change::Policy { org: OrgId::new() });
    assert_eq!(world.label().await, "support@2");
    assert_eq!(world.queries(), 2, "another organization's change costs nothing");
}

#[tokio::test]
async fn the_last_good_policy_stays_while_the_database_is_away() {
    let world = World::new(stored(1, json!({})));
    world.label().await;
    world.answers(away());
    world.policy_changed();
    assert_eq!(world.label().await, "support@1");
    world.policies.forget(&Change::Everything);
    assert_eq!(world.label().await, "support@1");

    world.answers(stored(2, json!({})));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.label().await, "support@2", "it is asked again a second later");
}

#[tokio::test]
async fn the_last_good_policy_stays_when_the_new_one_does_not_compile() {
    let world = World::new(stored(1, json!({})));
    world.label().await;
    world.answers(stored(2, json!({"rules": {"weather": {"action": "block"}}})));
    world.policy_changed();
    for _ in 0..3 {
        assert_eq!(world.label().await, "support@1");
    }
    assert_eq!(world.queries(), 2, "not on every request");
    world.answers(stored(3, json!({})));
    world.policy_changed();
    assert_eq!(world.label().await, "support@3");
}

#[tokio::test]
async fn without_a_last_good_policy_the_request_fails_closed_and_is_counted() {
    let world = World::new(away());
    assert!(matches!(world.ask().await, Err(PolicyError::Store(StoreError::Unavailable(_)))));
    world.answers(stored(1, json!({"rules": {"pii": {"threshold": 7}}, "escalate": {"min_risk_score": 0}})));
    let Err(PolicyError::Uncompilable(faults)) = world.ask().await else { panic!("it cannot compile") };
    assert_eq!(
        faults,
        "/rules/pii/threshold: 7 is not from 0 to 1; /escalate/min_risk_score: a risk score is 1 to 100"
    );
    assert_eq!(world.metrics.failclosed.with_label_values(&["policy"]).get(), 2);
}

#[tokio::test]
async fn a_version_is_compiled_once_for_all_its_workspaces() {
    let world = World::new(stored(1, json!({"extends": "monitor"})));
    let first = world.ask().await.unwrap();
    let other = World { workspace: WorkspaceId::new(), ..world };
    assert!(Arc::ptr_eq(&first, &other.ask().await.unwrap()));
    assert_eq!(other.queries(), 2);
}

#[tokio::test]
async fn a_change_that_was_not_announced_is_noticed_after_a_minute() {
    let world = World::new(stored(1, json!({})));
    world.label().await;
    world.answers(stored(2, json!({})));
    world.clock.advance(Duration::from_secs(59));
    assert_eq!(world.label().await, "support@1");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.label().await, "support@2");
}
