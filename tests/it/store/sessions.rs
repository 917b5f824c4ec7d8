use std::time::Duration;

use sentinel::domain::{SessionId, UserId};
use sentinel::store::{LoginMethod, NewSession, RefreshOutcome, StoreError, TenantScope};

use super::{DAY, START, World, assert_refused, new_user, on_both_engines};

/// A session of acme's founder whose first refresh token is made of `seed`.
async fn open(world: &World, seed: u8) -> SessionId {
    let session = NewSession {
        id: SessionId::new(),
        method: LoginMethod::Password,
        user_id: world.acme.user_id,
        refresh_hash: [seed; 32],
        expires_at: START.plus(DAY),
        user_agent: Some("curl/8".into()),
        ip: Some("192.0.2.1".into()),
    };
    let id = session.id;
    let opened = world.store.open_session(world.acme.scope, session, super::login_event()).await.unwrap();
    assert_eq!((opened.id, opened.user_id, opened.expires_at), (id, world.acme.user_id, START.plus(DAY)));
    assert_eq!((opened.revoked_at, opened.created_at), (None, world.clock_now()));
    id
}

async fn rotate(world: &World, presented: u8, next: u8) -> RefreshOutcome {
    world.store.rotate_session([presented; 32], [next; 32], START.plus(2 * DAY)).await.unwrap()
}

async fn revoke(world: &World, scope: TenantScope, session: SessionId) -> bool {
    let mut tx = world.store.write(scope).await.unwrap();
    let revoked = tx.revoke_session(session).await.unwrap();
    tx.commit().await.unwrap();
    revoked
}

async fn is_live(world: &World, session: SessionId) -> bool {
    world.store.resolve_session(session, world.acme.user_id).await.unwrap().is_some()
}

on_both_engines! {
    async fn a_live_session_resolves_to_its_person(world: World) {
        let session = open(&world, 1).await;
        let resolved = world.store.resolve_session(session, world.acme.user_id).await.unwrap().unwrap();
        let (scope, user) = (resolved.scope, resolved.user);
        assert_eq!(scope, world.acme.scope);
        assert_eq!((user.id, user.email.as_str(), user.role.as_str()), (world.acme.user_id, "founder@acme.com", "owner"));
        let of_another = world.store.resolve_session(session, world.other.user_id).await.unwrap();
        assert!(of_another.is_none(), "the token names both");
        world.clock.advance(DAY);
        assert!(!is_live(&world, session).await, "expired");
    }

    async fn a_session_is_opened_only_for_a_person_of_the_organization(world: World) {
        for user_id in [world.other.user_id, UserId::new()] {
            let session = NewSession {
                id: SessionId::new(),
                method: LoginMethod::Password,
                user_id,
                refresh_hash: [1; 32],
                expires_at: START,
                user_agent: None,
                ip: None,
            };
            let opened = world.store.open_session(world.acme.scope, session, super::login_event()).await;
            assert_refused!(opened, StoreError::Missing("user_id"));
        }
    }

    async fn a_refresh_token_is_exchanged_for_the_next(world: World) {
        let session = open(&world, 1).await;
        for (presented, next) in [(1, 2), (2, 3)] {
            match rotate(&world, presented, next).await {
                RefreshOutcome::Rotated { scope, session: of, user } => {
                    assert_eq!((scope, of, user), (world.acme.scope, session, world.acme.user_id));
                }
                other => panic!("{other:?}"),
            }
        }
        world.clock.advance(DAY + Duration::from_secs(1));
        assert!(is_live(&world, session).await, "it lives as long as its newest token");
    }

    async fn a_refresh_token_that_comes_back_ends_the_session(world: World) {
        let session = open(&world, 1).await;
        rotate(&world, 1, 2).await;
        rotate(&world, 2, 3).await;
        // Not only the last one: any token of the family.
        assert!(matches!(rotate(&world, 1, 9).await, RefreshOutcome::Reused));
        assert!(!is_live(&world, session).await);
        assert!(matches!(rotate(&world, 3, 4).await, RefreshOutcome::Refused), "the newest is worth nothing now");
        assert!(matches!(rotate(&world, 9, 5).await, RefreshOutcome::Refused), "the thief's was never issued");
    }

    async fn of_two_exchanges_at_once_one_is_reuse(world: World) {
        let session = open(&world, 1).await;
        let (first, second) = tokio::join!(rotate(&world, 1, 2), rotate(&world, 1, 3));
        let rotated = |outcome: &RefreshOutcome| matches!(outcome, RefreshOutcome::Rotated { .. });
        let reused = |outcome: &RefreshOutcome| matches!(outcome, RefreshOutcome::Reused);
        assert!(rotated(&first) && reused(&second) || reused(&first) && rotated(&second), "{first:?} {second:?}");
        assert!(!is_live(&world, session).await);
    }

    async fn unknown_and_expired_tokens_are_refused(world: World) {
        assert!(matches!(rotate(&world, 1, 2).await, RefreshOutcome::Refused), "unknown");
        open(&world, 1).await;
        world.clock.advance(DAY);
        assert!(matches!(rotate(&world, 1, 2).await, RefreshOutcome::Refused), "expired");
    }

    async fn a_person_who_is_gone_cannot_refresh(world: World) {
        let mut tx = world.write().await;
        tx.users().insert(new_user("second@acme.com", "owner")).await.unwrap();
        tx.commit().await.unwrap();
        open(&world, 1).await;
        let mut tx = world.write().await;
        tx.users().remove(world.acme.user_id).await.unwrap();
        tx.commit().await.unwrap();
        assert!(matches!(rotate(&world, 1, 2).await, RefreshOutcome::Refused));
    }

    async fn a_session_is_revoked_once_and_only_by_its_organization(world: World) {
        let session = open(&world, 1).await;
        let kept = open(&world, 2).await;
        assert!(!revoke(&world, world.other.scope, session).await);
        assert!(is_live(&world, session).await);
        assert!(revoke(&world, world.acme.scope, session).await);
        assert!(!revoke(&world, world.acme.scope, session).await);
        assert!(!is_live(&world, session).await);
        assert!(matches!(rotate(&world, 1, 3).await, RefreshOutcome::Refused));
        assert!(is_live(&world, kept).await, "the other session goes on");
    }
}
