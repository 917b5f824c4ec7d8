//! Links that set a password, locked accounts, and the pruning of what has expired.

use std::time::Duration;

use sentinel::domain::{SessionId, UserId};
use sentinel::store::{LoginMethod, NewSession, PageRequest, UserPatch};

use super::{DAY, START, World, new_user, on_both_engines};

const HOUR: Duration = Duration::from_secs(3600);

async fn add_reset(world: &World, user: UserId, seed: u8) -> bool {
    let mut tx = world.write().await;
    let added = tx.users().add_password_reset(user, &[seed; 32], world.clock_now().plus(HOUR)).await.unwrap();
    tx.commit().await.unwrap();
    added
}

async fn open(world: &World, seed: u8, lasts: Duration) -> SessionId {
    let session = NewSession {
        method: LoginMethod::Password,
        id: SessionId::new(),
        user_id: world.acme.user_id,
        refresh_hash: [seed; 32],
        expires_at: world.clock_now().plus(lasts),
        user_agent: None,
        ip: None,
    };
    world.store.open_session(world.acme.scope, session, super::login_event()).await.unwrap().id
}

on_both_engines! {
    async fn a_link_leads_to_its_person_until_it_is_used_or_expires(world: World) {
        let user = world.acme.user_id;
        assert!(add_reset(&world, user, 1).await);
        let reset = world.store.resolve_password_reset(&[1; 32]).await.unwrap().unwrap();
        assert_eq!((reset.scope, reset.user_id), (world.acme.scope, user));
        assert_eq!((reset.email.as_str(), reset.full_name.as_str()), ("founder@acme.com", "The Founder"));
        assert!(world.store.resolve_password_reset(&[2; 32]).await.unwrap().is_none());

        let mut other = world.store.write(world.other.scope).await.unwrap();
        assert!(!other.users().use_password_reset(user, &[1; 32]).await.unwrap(), "of another organization");
        drop(other);
        let mut tx = world.write().await;
        assert!(!tx.users().use_password_reset(UserId::new(), &[1; 32]).await.unwrap(), "of another person");
        assert!(tx.users().use_password_reset(user, &[1; 32]).await.unwrap());
        assert!(!tx.users().use_password_reset(user, &[1; 32]).await.unwrap(), "once");
        tx.commit().await.unwrap();
        assert!(world.store.resolve_password_reset(&[1; 32]).await.unwrap().is_none());

        assert!(add_reset(&world, user, 3).await);
        world.clock.advance(HOUR);
        assert!(world.store.resolve_password_reset(&[3; 32]).await.unwrap().is_none(), "expired");
    }

    async fn a_link_of_a_person_who_may_not_log_in_leads_nowhere(world: World) {
        let mut tx = world.write().await;
        let person = tx.users().insert(new_user("second@acme.com", "member")).await.unwrap().id;
        tx.commit().await.unwrap();
        assert!(add_reset(&world, person, 1).await);
        let mut tx = world.write().await;
        tx.users().update(person, UserPatch { is_active: Some(false), ..UserPatch::default() }).await.unwrap();
        tx.commit().await.unwrap();
        assert!(world.store.resolve_password_reset(&[1; 32]).await.unwrap().is_none());
    }

    async fn a_person_has_three_links_at_a_time_and_a_change_of_the_password_ends_them(world: World) {
        let user = world.acme.user_id;
        let mut added = 0;
        let all = (1..=8).map(|seed| add_reset(&world, user, seed));
        for one in futures_util::future::join_all(all).await {
            added += usize::from(one);
        }
        assert_eq!(added, 3);
        world.clock.advance(HOUR);
        assert!(add_reset(&world, user, 9).await, "those before have expired");
        let mut tx = world.write().await;
        tx.users().drop_password_resets(user).await.unwrap();
        tx.commit().await.unwrap();
        assert!(world.store.resolve_password_reset(&[9; 32]).await.unwrap().is_none());
    }

    async fn a_locked_account_is_locked_until_its_time_or_until_it_is_unlocked(world: World) {
        let account = [7; 32];
        assert_eq!(world.store.login_lockout(&account).await.unwrap(), None);
        world.store.lock_login(&account, START.plus(HOUR)).await.unwrap();
        world.store.lock_login(&account, START.plus(2 * HOUR)).await.unwrap();
        assert_eq!(world.store.login_lockout(&account).await.unwrap(), Some(START.plus(2 * HOUR)));
        assert_eq!(world.store.login_lockout(&[8; 32]).await.unwrap(), None);
        world.clock.advance(2 * HOUR);
        assert_eq!(world.store.login_lockout(&account).await.unwrap(), None);
        world.store.lock_login(&account, START.plus(DAY)).await.unwrap();
        world.store.unlock_login(&account).await.unwrap();
        assert_eq!(world.store.login_lockout(&account).await.unwrap(), None);
    }

    async fn what_has_expired_is_removed_and_nothing_else(world: World) {
        let (short, long) = (open(&world, 1, HOUR).await, open(&world, 2, 3 * DAY).await);
        world.store.rotate_session([2; 32], [3; 32], START.plus(3 * DAY)).await.unwrap();
        add_reset(&world, world.acme.user_id, 1).await;
        world.store.lock_login(&[1; 32], START.plus(HOUR)).await.unwrap();
        assert_eq!(world.store.prune_expired(DAY).await.unwrap(), 0);

        world.clock.advance(HOUR + Duration::from_secs(1));
        world.store.lock_login(&[2; 32], START.plus(DAY)).await.unwrap();
        add_reset(&world, world.acme.user_id, 2).await;
        // A token and its session, a link, a lock.
        assert_eq!(world.store.prune_expired(DAY).await.unwrap(), 4);
        let mut tx = world.write().await;
        assert!(!tx.users().end_session(world.acme.user_id, short).await.unwrap());
        drop(tx);
        assert!(world.store.resolve_session(long, world.acme.user_id).await.unwrap().is_some());
        assert!(world.store.resolve_password_reset(&[2; 32]).await.unwrap().is_some());
        assert!(world.store.login_lockout(&[2; 32]).await.unwrap().is_some());

        // The exchanged token of the session that goes on, a link, a lock.
        world.clock.advance(DAY);
        assert_eq!(world.store.prune_expired(DAY).await.unwrap(), 3);
        assert!(world.store.resolve_session(long, world.acme.user_id).await.unwrap().is_some());
        world.store.rotate_session([3; 32], [4; 32], START.plus(4 * DAY)).await.unwrap();
        assert!(world.store.resolve_session(long, world.acme.user_id).await.unwrap().is_some(), "not taken for reuse");
    }

    async fn sessions_are_listed_and_ended_for_their_person_alone(world: World) {
        let (first, second) = (open(&world, 1, HOUR).await, open(&world, 2, DAY).await);
        let mut tx = world.write().await;
        let list = tx.users().sessions(world.acme.user_id, &PageRequest::default()).await.unwrap().data;
        assert_eq!(list.iter().map(|session| session.id).collect::<Vec<_>>(), [second, first]);
        let others = tx.users().sessions(world.other.user_id, &PageRequest::default()).await.unwrap().data;
        assert!(others.is_empty());
        assert!(!tx.users().end_session(world.other.user_id, first).await.unwrap());
        assert_eq!(tx.users().end_sessions(world.other.user_id, None).await.unwrap(), 0);
        assert_eq!(tx.users().end_sessions(world.acme.user_id, Some(second)).await.unwrap(), 1);
        let list = tx.users().sessions(world.acme.user_id, &PageRequest::default()).await.unwrap().data;
        assert_eq!(list.iter().map(|session| session.id).collect::<Vec<_>>(), [second]);
        tx.commit().await.unwrap();
        let mut other = world.store.write(world.other.scope).await.unwrap();
        assert_eq!(other.users().end_sessions(world.acme.user_id, None).await.unwrap(), 0);
        assert!(other.users().sessions(world.acme.user_id, &PageRequest::default()).await.unwrap().data.is_empty());
    }

    async fn a_stronger_hash_does_not_undo_a_new_password(world: World) {
        let mut tx = world.write().await;
        tx.users().upgrade_hash(world.acme.user_id, "$argon2id$another", "$argon2id$lost").await.unwrap();
        tx.users().upgrade_hash(world.acme.user_id, "$argon2id$stored", "$argon2id$stronger").await.unwrap();
        tx.commit().await.unwrap();
        let account = world.store.find_login("founder@acme.com").await.unwrap().unwrap();
        assert_eq!(account.password_hash.expose(), "$argon2id$stronger");
        assert!(!account.must_change_password);
    }
}
