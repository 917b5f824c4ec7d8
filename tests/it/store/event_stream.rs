use std::time::Duration;

use sentinel::domain::{SessionId, Timestamp};
use sentinel::store::{AuditRow, EventPosition, EventTicket, StoreError};

use super::audit_logs::full;
use super::{START, on_both_engines};

const BEGIN: EventPosition = EventPosition::end_of(Timestamp::from_micros(0));
const LIFE: Duration = Duration::from_secs(30);

/// As they were shipped.
fn unlinked(rows: Result<Vec<AuditRow>, StoreError>) -> Vec<AuditRow> {
    rows.unwrap().into_iter().map(|row| AuditRow { link: None, ..row }).collect()
}

on_both_engines! {
    async fn a_ticket_is_spent_once_and_only_while_it_is_good(world: World) {
        let (session, expires_at) = (SessionId::new(), START.plus(LIFE));
        let mut tx = world.write().await;
        for ticket in [[1; 32], [2; 32]] {
            tx.event_stream().add_ticket(world.acme.user_id, session, &ticket, expires_at).await.unwrap();
        }
        tx.commit().await.unwrap();
        let expected =
            EventTicket { org_id: world.acme.org_id, user_id: world.acme.user_id, session_id: session, expires_at };
        assert_eq!(world.store.spend_event_ticket(&[1; 32]).await.unwrap(), Some(expected));
        assert_eq!(world.store.spend_event_ticket(&[1; 32]).await.unwrap(), None, "spent");
        assert_eq!(world.store.spend_event_ticket(&[3; 32]).await.unwrap(), None, "unknown");
        world.clock.advance(LIFE);
        assert_eq!(world.store.spend_event_ticket(&[2; 32]).await.unwrap(), None, "expired");
    }

    async fn an_expired_ticket_is_pruned(world: World) {
        let before = world.store.prune_expired(LIFE).await.unwrap();
        assert_eq!(before, 0);
        let mut tx = world.write().await;
        let stream = &mut tx.event_stream();
        stream.add_ticket(world.acme.user_id, SessionId::new(), &[1; 32], START.plus(LIFE)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.store.prune_expired(LIFE).await.unwrap(), 0, "still good");
        world.clock.advance(LIFE * 2);
        assert_eq!(world.store.prune_expired(LIFE).await.unwrap(), 1);
    }

    async fn a_ticket_names_a_person_of_its_organization(world: World) {
        let mut tx = world.write().await;
        let foreign = tx.event_stream().add_ticket(world.other.user_id, SessionId::new(), &[1; 32], START).await;
        assert!(foreign.is_err());
    }

    async fn both_trails_are_read_forwards_within_bounds_and_of_one_organization(world: World) {
        // The registrations left an event each, at the start.
        let at = |n| START.plus(Duration::from_micros(n));
        let ours: Vec<_> = (1..=3).map(|n| full(world.acme.org_id, at(n))).collect();
        let theirs = full(world.other.org_id, at(2));
        world.store.ship_audit(&[&ours[..], std::slice::from_ref(&theirs)].concat()).await.unwrap();
        let mut tx = world.read().await;
        let mut stream = tx.event_stream();
        let end = EventPosition::end_of(at(9));
        assert_eq!(unlinked(stream.verdicts(BEGIN, end, 10).await), ours);
        assert_eq!(unlinked(stream.verdicts(BEGIN, end, 2).await), ours[..2]);
        let place = |n: usize| EventPosition { at: ours[n].event.occurred_at, id: ours[n].event.id.uuid() };
        assert_eq!(unlinked(stream.verdicts(place(0), place(1), 10).await), ours[1..2], "after one, up to the other");
        assert_eq!(unlinked(stream.verdicts(place(1).just_before(), place(1), 10).await), ours[1..2]);
        let acts = stream.admin_events(BEGIN, end, 10).await.unwrap();
        assert_eq!(acts.iter().map(|act| act.action.as_str()).collect::<Vec<_>>(), ["organization.create"]);

        let mut positions = stream.positions(BEGIN, end, 10).await.unwrap();
        positions.sort_unstable();
        let act = EventPosition { at: acts[0].occurred_at, id: acts[0].id.uuid() };
        assert_eq!(positions, [act, place(0), place(1), place(2)]);
        let newest = stream.positions(BEGIN, end, 1).await.unwrap();
        assert!(newest.len() == 2 && newest.contains(&act) && newest.contains(&place(2)), "of each trail: {newest:?}");
        assert_eq!(stream.position_of(place(1).id).await.unwrap(), Some(place(1)));
        assert_eq!(stream.position_of(act.id).await.unwrap(), Some(act));
        assert_eq!(stream.position_of(theirs.event.id.uuid()).await.unwrap(), None);
    }
}
