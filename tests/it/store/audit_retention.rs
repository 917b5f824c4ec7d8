//! Rows that go by their age and names that are erased: the chains stay verifiable, and what is not allowed is seen.

use std::time::Duration;

use sentinel::audit::{ChainFaultKind, ChainReport, Erasure, Signer, Trusted, erase, expire, retention_days, verify};
use sentinel::config::RetentionConfig;
use sentinel::domain::Timestamp;
use sentinel::store::{AuditFilter, AuditSettings, StoreError, Tier};

use super::audit_chain::{check, kinds, ship, sign, signer, tamper};
use super::audit_logs::{bare, full};
use super::{DAY, START, World, on_both_engines};

/// A day and so many seconds after the first row.
fn day_and(seconds: u64) -> Timestamp {
    START.plus(DAY).plus(Duration::from_secs(seconds))
}

async fn rows_after(world: &World, signer: &Signer, now: Timestamp) -> u64 {
    expire(&world.store, signer, world.acme.scope, 1, now).await.unwrap().rows
}

async fn hold(world: &World, legal_hold: bool) {
    let mut tx = world.write().await;
    tx.audit_settings().set(&AuditSettings { legal_hold, ..AuditSettings::default() }).await.unwrap();
    tx.commit().await.unwrap();
}

/// How many rows the terms of a rule lead to.
async fn of_rule(world: &World) -> u64 {
    let filter = AuditFilter { rule_id: Some("pii.email_address".to_owned()), ..AuditFilter::default() };
    let counts = world.read().await.audit_logs().histogram(&filter, DAY).await.unwrap();
    counts.iter().map(|count| count.requests).sum()
}

async fn events(world: &World) -> Vec<serde_json::Value> {
    let filter =
        sentinel::store::AdminEventFilter { action: Some("audit_log.expire".to_owned()), ..Default::default() };
    let page = world.read().await.admin_events().list(&filter, &super::page(9, None)).await.unwrap();
    page.data.into_iter().filter_map(|event| event.after).collect()
}

fn told(report: &ChainReport) -> Vec<(i64, i64)> {
    report.removals.iter().map(|removal| (removal.from_seq, removal.to_seq)).collect()
}

on_both_engines! {
    async fn what_is_removed_by_age_is_told_and_the_rest_verified(world: World) {
        let rows = ship(&world, 40).await;
        world.store.ship_audit(&[full(world.other.org_id, START), bare(Some(world.acme.org_id), START)]).await.unwrap();
        let (_dir, signer) = signer();
        sign(&world, &signer, 1).await;
        let kept = world.read().await.audit_logs().checkpoints().await.unwrap();
        assert_eq!(rows_after(&world, &signer, day_and(0)).await, 0, "nothing is a day old");
        assert_eq!(rows_after(&world, &signer, day_and(15)).await, 15);
        assert_eq!(rows_after(&world, &signer, day_and(30)).await, 15);
        assert_eq!(of_rule(&world).await, 10);
        assert!(world.read().await.audit_reviews().find(rows[3].event.id).await.unwrap().is_none());
        assert!(world.read().await.audit_reviews().find(rows[33].event.id).await.unwrap().is_some());
        assert_eq!(events(&world).await.len(), 2, "{:?}", events(&world).await);
        // The request that is still under way stays.
        let report = verify(&world.store, world.acme.scope, &Trusted { checkpoints: kept, keys: vec![] }).await.unwrap();
        assert_eq!((report.intact, report.checked, report.removed, report.open), (true, 10, 30, 1), "{report:?}");
        assert_eq!(told(&report), [(1, 15), (16, 30)]);
        assert_eq!((report.removals[1].retention_days, report.removals[1].before), (1, START.plus(Duration::from_secs(30))));
        let theirs = verify(&world.store, world.other.scope, &Trusted::default()).await.unwrap();
        assert_eq!((theirs.intact, theirs.checked), (true, 1));

        ship(&world, 3).await;
        assert!(check(&world).await.intact, "the stream goes on");
        assert_eq!(rows_after(&world, &signer, START.plus(9 * DAY)).await, 13);
        let report = check(&world).await;
        assert_eq!((report.intact, report.checked, report.removed), (true, 0, 43));
    }

    async fn a_removal_that_no_node_signed_is_a_fault(world: World) {
        ship(&world, 12).await;
        let (_dir, signer) = signer();
        rows_after(&world, &signer, day_and(5)).await;
        assert!(check(&world).await.intact);
        tamper(&world, "UPDATE audit_removals SET retention_days = 9").await;
        let report = check(&world).await;
        assert_eq!(kinds(&report)[0], (ChainFaultKind::BadSignature, Some(1), None));
        tamper(&world, "DELETE FROM audit_removals").await;
        let report = check(&world).await;
        assert_eq!(kinds(&report), [(ChainFaultKind::Missing, Some(1), Some(5))]);
        let (_other, stranger) = super::audit_chain::signer();
        let trusted = Trusted { checkpoints: vec![], keys: vec![stranger.public_key().to_vec()] };
        ship(&world, 1).await;
        assert!(!verify(&world.store, world.acme.scope, &trusted).await.unwrap().intact);
    }

    async fn a_stream_that_is_not_intact_keeps_its_rows(world: World) {
        ship(&world, 12).await;
        tamper(&world, "UPDATE audit_logs SET status = 201 WHERE seq = 5").await;
        let (_dir, signer) = signer();
        let expired = expire(&world.store, &signer, world.acme.scope, 1, START.plus(9 * DAY)).await.unwrap();
        assert_eq!((expired.rows, expired.kept), (4, 1));
        let report = check(&world).await;
        assert_eq!(kinds(&report), [(ChainFaultKind::Altered, Some(5), None)]);
        // Nor does one that has a gap.
        tamper(&world, "DELETE FROM audit_logs WHERE seq = 5").await;
        assert_eq!(rows_after(&world, &signer, START.plus(9 * DAY)).await, 0);
    }

    async fn on_legal_hold_nothing_goes(world: World) {
        ship(&world, 5).await;
        let (_dir, signer) = signer();
        hold(&world, true).await;
        assert_eq!(rows_after(&world, &signer, START.plus(9 * DAY)).await, 0);
        let refused = erase(&world.store, world.acme.scope, Erasure::Everyone).await;
        assert!(matches!(refused, Err(StoreError::Conflict("legal hold"))), "{refused:?}");
        assert_eq!(check(&world).await.checked, 5);
        hold(&world, false).await;
        assert_eq!(rows_after(&world, &signer, START.plus(9 * DAY)).await, 5);
    }

    async fn an_erased_user_is_gone_and_the_chain_verified(world: World) {
        let rows = ship(&world, 9).await;
        let mut other = full(world.acme.org_id, START);
        other.event.user_id = Some("somebody else".to_owned());
        world.store.ship_audit(&[other.clone(), full(world.other.org_id, START)]).await.unwrap();
        assert_eq!(erase(&world.store, world.acme.scope, Erasure::User("nobody")).await.unwrap(), 0);
        assert_eq!(erase(&world.store, world.acme.scope, Erasure::User("customer_123")).await.unwrap(), 9);
        assert_eq!(erase(&world.store, world.acme.scope, Erasure::User("customer_123")).await.unwrap(), 0, "once");
        let find = |id| { let world = &world; async move { world.read().await.audit_logs().find(id).await.unwrap().unwrap() } };
        let gone = find(rows[4].event.id).await;
        assert_eq!((&gone.event.user_id, &gone.event.client_ip), (&None, &None));
        assert!(gone.erased.is_anything());
        assert_eq!(find(other.event.id).await.event.user_id.as_deref(), Some("somebody else"));
        let report = check(&world).await;
        assert_eq!((report.intact, report.checked, report.erased), (true, 10, 9), "{report:?}");

        assert_eq!(erase(&world.store, world.acme.scope, Erasure::Everyone).await.unwrap(), 1);
        assert_eq!(check(&world).await.erased, 10);
        let theirs = verify(&world.store, world.other.scope, &Trusted::default()).await.unwrap();
        assert_eq!((theirs.intact, theirs.erased), (true, 0));
        // A hash of something else is no erasure, and neither is none.
        tamper(&world, "UPDATE audit_logs SET user_id_hash = client_ip_hash WHERE seq = 2").await;
        tamper(&world, "UPDATE audit_logs SET user_id_hash = NULL WHERE seq = 3").await;
        let altered = kinds(&check(&world).await);
        assert_eq!(altered, [2, 3].map(|seq| (ChainFaultKind::Altered, Some(seq), None)));
        // What is erased can still go by its age.
        let (_dir, signer) = signer();
        assert_eq!(rows_after(&world, &signer, START.plus(9 * DAY)).await, 1);
    }
}

#[test]
fn an_organization_keeps_no_longer_than_its_tier() {
    let config = RetentionConfig { free: Some(30), ..RetentionConfig::default() };
    let cases = [
        (Tier::Free, None, Some(30)),
        (Tier::Free, Some(7), Some(7)),
        (Tier::Free, Some(90), Some(30)),
        (Tier::Enterprise, None, None),
        (Tier::Enterprise, Some(90), Some(90)),
    ];
    for (tier, own, expected) in cases {
        assert_eq!(retention_days(&config, tier, own), expected, "{tier:?} {own:?}");
    }
}
