use sentinel::domain::{SessionId, UserId};
use sentinel::store::{LoginMethod, NewSession, NewUser, StoreError, UserPatch};

use super::{DAY, START, World, all_pages, assert_refused, new_user, on_both_engines};

async fn insert(world: &World, user: NewUser) -> UserId {
    let mut tx = world.write().await;
    let id = tx.users().insert(user).await.unwrap().id;
    tx.commit().await.unwrap();
    id
}

async fn sign_in(world: &World, user_id: UserId, seed: u8) -> SessionId {
    let session = NewSession {
        id: SessionId::new(),
        method: LoginMethod::Password,
        user_id,
        refresh_hash: [seed; 32],
        expires_at: START.plus(DAY),
        user_agent: None,
        ip: None,
    };
    world.store.open_session(world.acme.scope, session, super::login_event()).await.unwrap().id
}

on_both_engines! {
    async fn a_person_reads_back_as_written(world: World) {
        let new = NewUser { invited_by: Some(world.acme.user_id), ..new_user(" Jane.Smith@Example.com ", "member") };
        let id = insert(&world, new).await;
        let user = world.read().await.users().find(id).await.unwrap().unwrap();
        assert_eq!((user.id, user.org_id), (id, world.acme.org_id));
        assert_eq!((user.email.as_str(), user.full_name.as_str()), ("Jane.Smith@Example.com", "Jane Smith"));
        assert_eq!((user.role.as_str(), user.permissions.as_slice()), ("member", &["policies:write".to_owned()][..]));
        assert!(user.is_active && user.must_change_password && !user.mfa_enabled);
        assert_eq!((user.version, user.created_at, user.last_login_at), (1, START, None));
        assert_eq!(world.read().await.users().count().await.unwrap(), 2);
    }

    async fn an_address_has_one_account_in_all_organizations_whatever_its_case(world: World) {
        let mut tx = world.write().await;
        let again = tx.users().insert(new_user("FOUNDER@other.COM", "viewer")).await;
        assert_refused!(again, StoreError::Conflict("email"));
    }

    async fn people_of_another_organization_do_not_exist(world: World) {
        let id = insert(&world, new_user("jane@acme.com", "member")).await;
        let mut other = world.other().await;
        assert_eq!(other.users().find(id).await.unwrap(), None);
        assert_eq!(other.users().update(id, UserPatch::default()).await.unwrap(), None);
        assert!(!other.users().set_password(id, "stolen", false).await.unwrap());
        assert!(!other.users().remove(id).await.unwrap());
        assert_eq!(other.users().count().await.unwrap(), 1);
        other.commit().await.unwrap();
        assert!(world.read().await.users().find(id).await.unwrap().is_some());
        assert_eq!(world.told(), [], "nothing changed");
    }

    async fn people_are_listed_newest_first_in_pages(world: World) {
        let mut ids = vec![world.acme.user_id];
        for n in 0..4 {
            ids.push(insert(&world, new_user(&format!("user{n}@acme.com"), "viewer")).await);
        }
        ids.reverse();
        let mut tx = world.read().await;
        let listed = all_pages!(request => tx.users().list(&request));
        assert_eq!(listed.iter().map(|user| user.id).collect::<Vec<_>>(), ids);
        let forged = tx.users().list(&super::page(2, Some("bm90IG9uZQ".into()))).await;
        assert_refused!(forged, StoreError::Missing("cursor"));
    }

    async fn the_last_active_owner_stays(world: World) {
        let owner = world.acme.user_id;
        let mut tx = world.write().await;
        let demoted = UserPatch { role: Some("admin".into()), ..Default::default() };
        let paused = UserPatch { is_active: Some(false), ..Default::default() };
        assert_refused!(tx.users().update(owner, demoted.clone()).await, StoreError::Conflict("last owner"));
        assert_refused!(tx.users().update(owner, paused.clone()).await, StoreError::Conflict("last owner"));
        assert_refused!(tx.users().remove(owner).await, StoreError::Conflict("last owner"));
        // An owner who is not active does not count.
        let second = tx.users().insert(new_user("second@acme.com", "owner")).await.unwrap().id;
        tx.users().update(second, paused).await.unwrap().unwrap();
        assert_refused!(tx.users().remove(owner).await, StoreError::Conflict("last owner"));
        let back = UserPatch { is_active: Some(true), ..Default::default() };
        tx.users().update(second, back).await.unwrap().unwrap();
        assert_eq!(tx.users().update(owner, demoted).await.unwrap().unwrap().role, "admin");
    }

    async fn two_owners_cannot_remove_each_other_at_once(world: World) {
        let second = insert(&world, new_user("second@acme.com", "owner")).await;
        let remove = async |id| {
            let mut tx = world.write().await;
            match tx.users().remove(id).await {
                Ok(removed) => { tx.commit().await.unwrap(); Ok(removed) }
                Err(error) => Err(error),
            }
        };
        let (first, second) = tokio::join!(remove(world.acme.user_id), remove(second));
        assert!(first.is_ok() != second.is_ok(), "exactly one went: {first:?} {second:?}");
        assert_eq!(world.read().await.users().count().await.unwrap(), 1);
    }

    async fn an_update_is_told_to_caches(world: World) {
        let id = insert(&world, new_user("jane@acme.com", "member")).await;
        assert_eq!(world.told(), []);
        let mut tx = world.write().await;
        let patch = UserPatch {
            full_name: Some("Jane Doe".into()),
            role: Some("auditor".into()),
            permissions: Some(vec![]),
            is_active: None,
        };
        let user = tx.users().update(id, patch).await.unwrap().unwrap();
        assert_eq!((user.full_name.as_str(), user.role.as_str(), user.version), ("Jane Doe", "auditor", 2));
        assert!(user.permissions.is_empty() && user.is_active);
        assert_eq!(world.told(), [], "not before it is durable");
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.organization_changed()]);
    }

    async fn a_removed_person_is_signed_out_and_may_be_invited_again(world: World) {
        let id = insert(&world, new_user("jane@acme.com", "member")).await;
        let session = sign_in(&world, id, 7).await;
        let mut tx = world.write().await;
        assert!(tx.users().remove(id).await.unwrap());
        assert!(!tx.users().remove(id).await.unwrap(), "once");
        tx.commit().await.unwrap();
        assert!(world.store.resolve_session(session, id).await.unwrap().is_none());
        assert!(world.store.find_login("jane@acme.com").await.unwrap().is_none());
        assert_eq!(world.read().await.users().find(id).await.unwrap(), None);
        assert_eq!(world.told(), [world.organization_changed()]);
        assert_ne!(insert(&world, new_user("Jane@acme.com", "viewer")).await, id);
    }

    async fn a_deactivated_person_is_signed_out_for_good(world: World) {
        let id = insert(&world, new_user("jane@acme.com", "member")).await;
        let session = sign_in(&world, id, 7).await;
        for active in [false, true] {
            let mut tx = world.write().await;
            let patch = UserPatch { is_active: Some(active), ..Default::default() };
            assert_eq!(tx.users().update(id, patch).await.unwrap().unwrap().is_active, active);
            tx.commit().await.unwrap();
            assert_eq!(world.store.find_login("jane@acme.com").await.unwrap().unwrap().active, active);
            assert!(world.store.resolve_session(session, id).await.unwrap().is_none());
        }
    }

    async fn a_new_password_is_what_the_next_log_in_is_checked_against(world: World) {
        let id = insert(&world, new_user("jane@acme.com", "member")).await;
        assert!(world.store.find_login("jane@acme.com").await.unwrap().unwrap().must_change_password);
        let mut tx = world.write().await;
        assert!(tx.users().set_password(id, "$argon2id$new", false).await.unwrap());
        tx.commit().await.unwrap();
        let account = world.store.find_login("jane@acme.com").await.unwrap().unwrap();
        assert_eq!(account.password_hash.expose(), "$argon2id$new");
        assert!(!account.must_change_password);
    }
}
