use std::time::Duration;

use sentinel::domain::{ApiKeyId, WorkspaceId};
use sentinel::store::{Change, KeyHash, StoreError};

use super::{DAY, START, World, all_pages, assert_refused, new_key, new_workspace, on_both_engines};

fn changed(world: &World, seed: u8) -> Change {
    Change::ApiKey { org: world.acme.org_id, hash: KeyHash([seed; 32]) }
}

on_both_engines! {
    async fn a_key_reads_back_as_written_and_is_resolved_by_its_hash(world: World) {
        let key = world.key(1).await;
        assert_eq!(world.told(), [changed(&world, 1)]);
        assert_eq!(world.read().await.api_keys().find(key.id).await.unwrap().unwrap(), key);
        assert_eq!((key.name.as_str(), key.key_prefix.as_str(), key.last_four.as_str()), ("key 1", "snt_live_AbCd", "wXyZ"));
        assert_eq!(key.scopes, ["process", "metrics"]);
        assert_eq!((key.rate_limit_per_minute, key.expires_at), (Some(600), Some(START.plus(30 * DAY))));
        assert_eq!((key.is_active, key.last_used_at, key.revoked_at), (true, None, None));

        let resolved = world.store.resolve_api_key(&KeyHash([1; 32])).await.unwrap().unwrap();
        assert_eq!((resolved.key_id, resolved.workspace_id), (key.id, world.acme.workspace_id));
        assert_eq!(resolved.scope, world.acme.scope);
        assert_eq!((resolved.scopes, resolved.rate_limit_per_minute), (key.scopes, Some(600)));
        assert_eq!(resolved.expires_at, key.expires_at);
        assert!(resolved.key_active && resolved.workspace_active && resolved.org_active && !resolved.config.reveals());
        assert!(world.store.resolve_api_key(&KeyHash([2; 32])).await.unwrap().is_none(), "unknown");
    }

    async fn a_key_is_made_only_in_a_live_workspace_of_the_organization(world: World) {
        let mut tx = world.write().await;
        for workspace in [world.other.workspace_id, WorkspaceId::new()] {
            let made = tx.api_keys().insert(new_key(workspace, 1)).await;
            assert_refused!(made, StoreError::Missing("workspace_id"));
        }
        let removed = tx.workspaces().insert(new_workspace("gone")).await.unwrap().id;
        tx.workspaces().remove(removed).await.unwrap();
        assert_refused!(tx.api_keys().insert(new_key(removed, 1)).await, StoreError::Missing("workspace_id"));
    }

    async fn the_same_key_is_not_stored_twice(world: World) {
        world.key(1).await;
        let again = world.write().await.api_keys().insert(new_key(world.acme.workspace_id, 1)).await;
        assert_refused!(again, StoreError::Conflict("api key"));
    }

    async fn keys_of_another_organization_do_not_exist(world: World) {
        let id = world.key(1).await.id;
        world.told();
        let mut other = world.other().await;
        assert_eq!(other.api_keys().find(id).await.unwrap(), None);
        assert_eq!(other.api_keys().update(id, Some("mine".into()), None, None).await.unwrap(), None);
        assert_eq!(other.api_keys().revoke(id).await.unwrap(), None);
        assert_eq!(other.api_keys().expire_at(id, START).await.unwrap(), None);
        assert!(other.api_keys().list(None, &super::page(10, None)).await.unwrap().data.is_empty());
        let theirs = other.api_keys().list(Some(world.acme.workspace_id), &super::page(10, None)).await.unwrap();
        assert!(theirs.data.is_empty());
        other.commit().await.unwrap();
        assert_eq!(world.told(), []);
        assert!(world.store.resolve_api_key(&KeyHash([1; 32])).await.unwrap().unwrap().key_active);
    }

    async fn keys_are_listed_newest_first_of_all_workspaces_or_one(world: World) {
        let mut tx = world.write().await;
        let second = tx.workspaces().insert(new_workspace("second")).await.unwrap().id;
        let mut ids = Vec::new();
        for seed in 0..5 {
            let workspace = if seed % 2 == 0 { world.acme.workspace_id } else { second };
            ids.push((tx.api_keys().insert(new_key(workspace, seed)).await.unwrap().id, workspace));
        }
        ids.reverse();
        let ids_of = |wanted: Option<WorkspaceId>| -> Vec<ApiKeyId> {
            ids.iter().filter(|(_, of)| wanted.is_none_or(|wanted| wanted == *of)).map(|(id, _)| *id).collect()
        };
        for workspace in [None, Some(second), Some(world.acme.workspace_id)] {
            let listed = all_pages!(request => tx.api_keys().list(workspace, &request));
            assert_eq!(listed.iter().map(|key| key.id).collect::<Vec<_>>(), ids_of(workspace));
        }
    }

    async fn an_update_sets_what_it_names(world: World) {
        let id = world.key(1).await.id;
        world.told();
        let mut tx = world.write().await;
        let key = tx.api_keys().update(id, Some("renamed".into()), None, None).await.unwrap().unwrap();
        assert_eq!((key.name.as_str(), key.scopes.len(), key.rate_limit_per_minute), ("renamed", 2, Some(600)));
        let key = tx.api_keys().update(id, None, Some(vec!["reports".into()]), Some(None)).await.unwrap().unwrap();
        assert_eq!((key.scopes, key.rate_limit_per_minute), (vec!["reports".to_owned()], None));
        let key = tx.api_keys().update(id, None, None, Some(Some(u32::MAX))).await.unwrap().unwrap();
        assert_eq!(key.rate_limit_per_minute, Some(u32::MAX));
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [changed(&world, 1)], "once");
    }

    async fn a_revoked_key_stays_revoked_since_the_first_time(world: World) {
        let id = world.key(1).await.id;
        world.told();
        for _ in 0..2 {
            let mut tx = world.write().await;
            let key = tx.api_keys().revoke(id).await.unwrap().unwrap();
            assert_eq!((key.is_active, key.revoked_at), (false, Some(START)));
            tx.commit().await.unwrap();
            assert_eq!(world.told(), [changed(&world, 1)]);
            world.clock.advance(DAY);
        }
        assert!(!world.store.resolve_api_key(&KeyHash([1; 32])).await.unwrap().unwrap().key_active);
    }

    async fn rotation_only_ever_shortens_a_keys_life(world: World) {
        let id = world.key(1).await.id;
        let mut tx = world.write().await;
        let sooner = START.plus(Duration::from_secs(60));
        for at in [sooner, START.plus(DAY)] {
            let key = tx.api_keys().expire_at(id, at).await.unwrap().unwrap();
            assert_eq!(key.expires_at, Some(sooner));
        }
        let mut eternal = new_key(world.acme.workspace_id, 2);
        eternal.expires_at = None;
        let eternal = tx.api_keys().insert(eternal).await.unwrap();
        assert_eq!(eternal.expires_at, None);
        assert_eq!(tx.api_keys().expire_at(eternal.id, sooner).await.unwrap().unwrap().expires_at, Some(sooner));
    }

    async fn the_last_use_is_remembered_and_never_taken_back(world: World) {
        let (first, second) = (world.key(1).await.id, world.key(2).await.id);
        let later = START.plus(DAY);
        let org = world.acme.org_id;
        world.store.touch_api_keys(&[(first, org, later), (second, org, START)]).await.unwrap();
        // An older use that arrives late, and a use under an organization that the key is not of.
        world.store.touch_api_keys(&[(first, org, START), (second, world.other.org_id, later)]).await.unwrap();
        let mut tx = world.read().await;
        assert_eq!(tx.api_keys().find(first).await.unwrap().unwrap().last_used_at, Some(later));
        assert_eq!(tx.api_keys().find(second).await.unwrap().unwrap().last_used_at, Some(START));
        world.store.touch_api_keys(&[]).await.unwrap();
    }
}
