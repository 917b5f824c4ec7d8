use std::time::Duration;

use sentinel::audit::{ChainFaultKind, ChainReport, Signer, Trusted, sign_heads, verify};
use sentinel::domain::{Completion, Outcome, Timestamp};
use sentinel::store::AuditRow;
use sqlx::{Connection as _, SqliteConnection};

use super::audit_logs::{bare, full};
use super::{START, World, on_both_engines};

/// Rows of one node, a second apart.
pub(super) async fn ship(world: &World, count: u64) -> Vec<AuditRow> {
    let rows: Vec<AuditRow> = (0..count).map(|n| full(world.acme.org_id, START.plus(Duration::from_secs(n)))).collect();
    for some in rows.chunks(7) {
        world.store.ship_audit(some).await.unwrap();
    }
    rows
}

pub(super) async fn check(world: &World) -> ChainReport {
    verify(&world.store, world.acme.scope, &Trusted::default()).await.unwrap()
}

pub(super) fn signer() -> (tempfile::TempDir, Signer) {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::open(dir.path()).unwrap();
    (dir, signer)
}

pub(super) async fn sign(world: &World, signer: &Signer, second: i64) -> usize {
    sign_heads(&world.store, signer, "node-1", Timestamp::from_micros(second * 1_000_000)).await.unwrap()
}

/// Does to the database what nobody should; the text runs on both engines.
pub(super) async fn tamper(world: &World, text: &'static str) -> u64 {
    let url = world.database.config().url;
    if url.starts_with("sqlite") {
        let mut file = SqliteConnection::connect(&url).await.unwrap();
        return sqlx::query(text).execute(&mut file).await.unwrap().rows_affected();
    }
    sqlx::query(text).execute(&mut world.database.admin().await).await.unwrap().rows_affected()
}

pub(super) fn kinds(report: &ChainReport) -> Vec<(ChainFaultKind, Option<i64>, Option<i64>)> {
    report.faults.iter().map(|fault| (fault.kind, fault.seq, fault.to_seq)).collect()
}

on_both_engines! {
    async fn a_trail_that_nobody_touched_is_intact(world: World) {
        let empty = check(&world).await;
        assert!(empty.intact && empty.streams.is_empty());
        ship(&world, 40).await;
        world.store.ship_audit(&[full(world.other.org_id, START), bare(None, START)]).await.unwrap();
        let report = check(&world).await;
        assert_eq!((report.intact, report.checked, report.open, report.fault_count), (true, 40, 0, 0));
        assert_eq!(report.streams.len(), 1);
        assert_eq!((report.streams[0].node.as_str(), report.streams[0].seq), ("node-1", 40));
    }

    async fn a_request_enters_the_chain_when_it_is_complete(world: World) {
        let complete = full(world.acme.org_id, START);
        let running = AuditRow { completion: None, ..complete.clone() };
        world.store.ship_audit(std::slice::from_ref(&running)).await.unwrap();
        assert_eq!(check(&world).await.open, 1);
        ship(&world, 3).await;
        world.store.ship_audit(std::slice::from_ref(&complete)).await.unwrap();
        let report = check(&world).await;
        assert_eq!((report.intact, report.checked, report.open), (true, 4, 0));
        let stored = world.read().await.audit_logs().find(complete.event.id).await.unwrap().unwrap();
        assert_eq!(stored.link.unwrap().seq, 4);
    }

    async fn what_is_shipped_again_has_one_place(world: World) {
        let rows = ship(&world, 10).await;
        let mut again = rows.clone();
        again.push(full(world.acme.org_id, START.plus(Duration::from_secs(99))));
        again.push(AuditRow { completion: None, ..rows[3].clone() });
        world.store.ship_audit(&again).await.unwrap();
        world.store.ship_audit(&again).await.unwrap();
        let report = check(&world).await;
        assert_eq!((report.intact, report.checked), (true, 11), "{report:?}");
    }

    async fn rows_that_come_out_of_order_are_one_chain(world: World) {
        let mut rows: Vec<AuditRow> =
            (0..300).map(|n| full(world.acme.org_id, START.plus(Duration::from_secs(n * 7 % 300)))).collect();
        rows.rotate_left(100);
        for some in rows.chunks(64) {
            world.store.ship_audit(some).await.unwrap();
        }
        let report = check(&world).await;
        assert_eq!((report.intact, report.checked), (true, 300));
    }

    async fn an_altered_row_is_named(world: World) {
        let rows = ship(&world, 12).await;
        for change in [
            "UPDATE audit_logs SET action = 'allow' WHERE seq = 5",
            "UPDATE audit_logs SET findings = '[]' WHERE seq = 6",
            "UPDATE audit_logs SET user_id = 'somebody_else' WHERE seq = 7",
            "UPDATE audit_logs SET answer = NULL WHERE seq = 8",
            "UPDATE audit_logs SET status = 200 WHERE seq = 9",
        ] {
            assert_eq!(tamper(&world, change).await, 1, "{change}");
        }
        let report = check(&world).await;
        let expected: Vec<_> = (5..=9).map(|seq| (ChainFaultKind::Altered, Some(seq), None)).collect();
        assert_eq!(kinds(&report), expected);
        assert_eq!(report.faults[0].id, Some(rows[4].event.id));
        assert!(!report.intact);
    }

    async fn a_row_that_is_gone_is_missed(world: World) {
        ship(&world, 12).await;
        tamper(&world, "DELETE FROM audit_logs WHERE seq IN (3, 7, 8)").await;
        let report = check(&world).await;
        assert_eq!(
            kinds(&report),
            [(ChainFaultKind::Missing, Some(3), Some(3)), (ChainFaultKind::Missing, Some(7), Some(8))]
        );
    }

    async fn rows_that_change_places_are_found(world: World) {
        ship(&world, 6).await;
        tamper(&world, "UPDATE audit_logs SET seq = 5 - seq WHERE seq IN (2, 3)").await;
        let report = check(&world).await;
        assert_eq!(kinds(&report)[..2], [
            (ChainFaultKind::Altered, Some(2), None),
            (ChainFaultKind::Altered, Some(3), None),
        ]);
    }

    async fn a_row_put_in_is_found_with_a_place_or_without(world: World) {
        ship(&world, 6).await;
        world.store.ship_audit(&[full(world.other.org_id, START)]).await.unwrap();
        // A stranger's row with this organization's name on it, in a place that is taken.
        let org = world.acme.org_id.uuid().simple().to_string();
        let moved: String = if world.database.config().url.starts_with("sqlite") {
            format!("UPDATE audit_logs SET org_id = unhex('{org}') WHERE org_id <> unhex('{org}')")
        } else {
            format!("UPDATE audit_logs SET org_id = '{org}' WHERE org_id <> '{org}'")
        };
        assert_eq!(tamper(&world, moved.leak()).await, 1);
        let report = check(&world).await;
        assert_eq!(report.fault_count, 1);
        assert!(matches!(report.faults[0].kind, ChainFaultKind::Repeated | ChainFaultKind::Altered), "{report:?}");
        tamper(&world, "UPDATE audit_logs SET seq = NULL, hash = NULL WHERE seq = 6").await;
        let report = check(&world).await;
        let inserted = report.faults.iter().filter(|fault| fault.kind == ChainFaultKind::Inserted).count();
        assert_eq!(inserted, 1, "{report:?}");
    }

    async fn a_tail_that_was_cut_is_missed_even_with_its_head(world: World) {
        let (_dir, signer) = signer();
        ship(&world, 9).await;
        assert_eq!(sign(&world, &signer, 1).await, 1);
        assert_eq!(sign(&world, &signer, 2).await, 0, "nothing has moved");
        tamper(&world, "DELETE FROM audit_logs WHERE seq > 6").await;
        assert_eq!(kinds(&check(&world).await), [(ChainFaultKind::Missing, Some(7), Some(9))]);
        // Whoever can write the table can write the head as well.
        tamper(&world, "UPDATE audit_chains SET seq = 6, hash = (SELECT hash FROM audit_logs WHERE seq = 6)").await;
        assert_eq!(kinds(&check(&world).await), [(ChainFaultKind::Truncated, Some(7), Some(9))]);
        let kept = world.read().await.audit_logs().checkpoints().await.unwrap();
        // And throw the checkpoints away: those that were kept elsewhere tell.
        tamper(&world, "DELETE FROM audit_checkpoints").await;
        assert!(check(&world).await.intact);
        let trusted = Trusted { checkpoints: kept, keys: vec![signer.public_key().to_vec()] };
        let report = verify(&world.store, world.acme.scope, &trusted).await.unwrap();
        assert_eq!(kinds(&report), [(ChainFaultKind::Truncated, Some(7), Some(9))]);
    }

    async fn a_stream_without_its_head_is_missed(world: World) {
        ship(&world, 3).await;
        tamper(&world, "DELETE FROM audit_chains").await;
        assert_eq!(kinds(&check(&world).await), [(ChainFaultKind::Truncated, Some(4), None)]);
    }

    async fn a_chain_that_was_written_anew_does_not_fit_what_was_signed(world: World) {
        let (_dir, honest) = signer();
        let rows = ship(&world, 4).await;
        sign(&world, &honest, 1).await;
        // The best forgery there is: the trail is made again from other rows, by Sentinel itself.
        tamper(&world, "DELETE FROM audit_logs").await;
        tamper(&world, "DELETE FROM audit_chains").await;
        let forged: Vec<AuditRow> = rows
            .into_iter()
            .map(|mut row| {
                let done = row.completion.take().unwrap();
                AuditRow { completion: Some(Completion { outcome: Outcome::Completed, ..done }), ..row }
            })
            .collect();
        world.store.ship_audit(&forged).await.unwrap();
        let report = check(&world).await;
        assert_eq!(kinds(&report), [(ChainFaultKind::Rewritten, Some(4), None)]);
        // Signed with another key it still contradicts the first; alone it is told by its key.
        let (_other, forger) = signer();
        tamper(&world, "DELETE FROM audit_checkpoints").await;
        sign(&world, &forger, 2).await;
        assert!(check(&world).await.intact, "nothing is left to compare with");
        let trusted = Trusted { checkpoints: vec![], keys: vec![honest.public_key().to_vec()] };
        let report = verify(&world.store, world.acme.scope, &trusted).await.unwrap();
        assert_eq!(kinds(&report), [(ChainFaultKind::BadSignature, Some(4), None)]);
    }

    async fn a_forged_checkpoint_is_told(world: World) {
        let (_dir, signer) = signer();
        ship(&world, 4).await;
        sign(&world, &signer, 1).await;
        tamper(&world, "UPDATE audit_checkpoints SET seq = 3").await;
        assert_eq!(kinds(&check(&world).await), [(ChainFaultKind::BadSignature, Some(3), None)]);
    }

    async fn two_processes_of_one_name_share_a_chain(world: World) {
        let second = world.database.store(world.clock.clone()).await;
        for n in 0..10 {
            let rows = |from: u64| -> Vec<AuditRow> {
                (from..from + 5).map(|n| full(world.acme.org_id, START.plus(Duration::from_secs(n)))).collect()
            };
            let (ours, theirs) = (rows(n * 10), rows(n * 10 + 5));
            let (one, two) = tokio::join!(world.store.ship_audit(&ours), second.ship_audit(&theirs));
            one.and(two).unwrap();
        }
        let report = check(&world).await;
        assert_eq!((report.intact, report.checked), (true, 100), "{report:?}");
        second.close().await;
    }
}
