use sentinel::domain::{AuditId, PolicyId};
use sentinel::store::{FeedbackVerdict, RuleImpact};

use super::{World, new_policy, on_both_engines};

const RIGHT: FeedbackVerdict = FeedbackVerdict::TruePositive;
const WRONG: FeedbackVerdict = FeedbackVerdict::FalsePositive;

async fn said(world: &World, request: AuditId, policy: PolicyId, rules: &[&str], verdict: FeedbackVerdict) -> usize {
    let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
    let mut tx = world.write().await;
    let by = world.acme.user_id;
    let kept = tx.feedback().put(request, Some(policy), &rules, verdict, Some("why"), by).await.unwrap();
    tx.commit().await.unwrap();
    kept.len()
}

on_both_engines! {
    async fn the_last_word_about_a_rule_counts_once_for_the_version_and_for_the_rule(world: World) {
        let mut tx = world.write().await;
        let first = tx.policies().insert(new_policy("mine")).await.unwrap();
        let second = tx.policies().replace(first.root_id, 1, new_policy("mine")).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        world.told();
        let [one, two] = [AuditId::new(), AuditId::new()];
        assert_eq!(said(&world, one, first.id, &["a", "b"], WRONG).await, 2);
        assert_eq!(said(&world, one, first.id, &["b"], RIGHT).await, 1);
        said(&world, two, first.id, &["a"], RIGHT).await;
        said(&world, AuditId::new(), second.id, &["a"], WRONG).await;
        assert_eq!(world.told(), [], "no change of what is in force");
        let mut tx = world.read().await;
        let figures = async |tx: &mut sentinel::store::TenantTx, version| {
            let version = tx.policies().version(first.root_id, version).await.unwrap().unwrap();
            (version.false_positives, version.false_positive_rate)
        };
        assert_eq!(figures(&mut tx, 1).await, (1, Some(0.5)), "of two requests one");
        assert_eq!(figures(&mut tx, 2).await, (1, Some(1.0)));
        let rule = |rule: &str, true_positives, false_positives| RuleImpact { rule_id: rule.into(), true_positives, false_positives };
        assert_eq!(tx.feedback().impact(first.root_id).await.unwrap(), [rule("a", 1, 2), rule("b", 1, 0)]);
        let kept = tx.feedback().of(one).await.unwrap();
        assert_eq!(kept.iter().map(|kept| (kept.rule_id.as_str(), kept.verdict)).collect::<Vec<_>>(), [("a", WRONG), ("b", RIGHT)]);
        assert_eq!((kept[0].comment.as_deref(), kept[0].created_by), (Some("why"), Some(world.acme.user_id)));

        let mut other = world.other().await;
        assert_eq!(other.feedback().of(one).await.unwrap(), []);
        assert_eq!(other.feedback().impact(first.root_id).await.unwrap(), []);
    }
}
