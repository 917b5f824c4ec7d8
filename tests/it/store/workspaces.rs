use sentinel::domain::PolicyId;
use sentinel::store::{KeyHash, NewWorkspace, StoreError, WorkspacePatch};
use serde_json::json;

use super::{START, all_pages, assert_refused, new_policy, new_workspace, on_both_engines};

on_both_engines! {
    async fn a_workspace_reads_back_as_written(world: World) {
        let new = new_workspace("Support Bots");
        let mut tx = world.write().await;
        let made = tx.workspaces().insert(new.clone()).await.unwrap();
        tx.commit().await.unwrap();
        let read = world.read().await.workspaces().find(new.id).await.unwrap().unwrap();
        assert_eq!(read, made);
        assert_eq!((read.name.as_str(), read.slug.as_str(), read.environment.as_str()), ("Support Bots", "support-bots", "staging"));
        assert_eq!((read.description, read.config), (new.description, new.config));
        assert_eq!((read.is_active, read.version, read.created_at, read.policy_id), (true, 1, START, None));
        assert_eq!(world.read().await.workspaces().count().await.unwrap(), 2);
    }

    async fn a_name_is_taken_whatever_its_case_until_its_workspace_is_removed(world: World) {
        let mut tx = world.write().await;
        let first = tx.workspaces().insert(new_workspace("Bots")).await.unwrap();
        tx.commit().await.unwrap();
        assert_refused!(
            world.write().await.workspaces().insert(new_workspace("BOTS")).await,
            StoreError::Conflict("workspace name")
        );
        let mut tx = world.write().await;
        let renamed = WorkspacePatch { name: Some("Default".into()), ..Default::default() };
        assert_refused!(tx.workspaces().update(first.id, renamed, None).await, StoreError::Conflict("workspace name"));
        drop(tx);
        // Another organization's names are its own.
        world.other().await.workspaces().insert(new_workspace("Bots")).await.unwrap();
        let mut tx = world.write().await;
        assert!(tx.workspaces().remove(first.id).await.unwrap());
        tx.workspaces().insert(new_workspace("Bots")).await.unwrap();
    }

    async fn different_names_have_different_slugs(world: World) {
        let mut tx = world.write().await;
        let first = tx.workspaces().insert(new_workspace("my-bots")).await.unwrap();
        let second = tx.workspaces().insert(new_workspace("My Bots")).await.unwrap();
        assert_eq!(first.slug, "my-bots");
        assert!(second.slug.starts_with("my-bots-"), "{}", second.slug);
    }

    async fn workspaces_of_another_organization_do_not_exist(world: World) {
        let id = world.acme.workspace_id;
        let mut other = world.other().await;
        assert_eq!(other.workspaces().find(id).await.unwrap(), None);
        assert_eq!(other.workspaces().update(id, WorkspacePatch::default(), Some(1)).await.unwrap(), None);
        assert!(!other.workspaces().remove(id).await.unwrap());
        assert_eq!(other.workspaces().count().await.unwrap(), 1);
        other.commit().await.unwrap();
        assert_eq!(world.told(), []);
    }

    async fn workspaces_are_listed_newest_first_in_pages(world: World) {
        let mut tx = world.write().await;
        let mut ids = vec![world.acme.workspace_id];
        for n in 0..3 {
            ids.push(tx.workspaces().insert(new_workspace(&format!("bots {n}"))).await.unwrap().id);
        }
        ids.reverse();
        let listed = all_pages!(request => tx.workspaces().list(&request));
        assert_eq!(listed.iter().map(|workspace| workspace.id).collect::<Vec<_>>(), ids);
    }

    async fn an_update_changes_what_it_names_and_tells_caches(world: World) {
        let id = world.acme.workspace_id;
        let mut tx = world.write().await;
        let policy = tx.policies().insert(new_policy("strict one")).await.unwrap();
        tx.commit().await.unwrap();
        world.told();

        let mut tx = world.write().await;
        let patch = WorkspacePatch { config: Some(json!({"reveal": true})), ..Default::default() };
        let updated = tx.workspaces().update(id, patch, Some(1)).await.unwrap().unwrap();
        assert_eq!((updated.name.as_str(), updated.version), ("default", 2));
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.organization_changed()]);

        let mut tx = world.write().await;
        let patch = WorkspacePatch { policy_id: Some(Some(policy.root_id)), ..Default::default() };
        let updated = tx.workspaces().update(id, patch, Some(2)).await.unwrap().unwrap();
        assert_eq!((updated.policy_id, updated.config), (Some(policy.root_id), json!({"reveal": true})));
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.organization_changed(), world.policy_changed()]);

        let mut tx = world.write().await;
        let patch = WorkspacePatch {
            description: Some(Some("d".into())),
            environment: Some("development".into()),
            policy_id: Some(None),
            is_active: Some(false),
            ..Default::default()
        };
        let updated = tx.workspaces().update(id, patch, None).await.unwrap().unwrap();
        assert_eq!((updated.policy_id, updated.is_active, updated.environment.as_str()), (None, false, "development"));
        let patch = WorkspacePatch { description: Some(None), ..Default::default() };
        assert_eq!(tx.workspaces().update(id, patch, None).await.unwrap().unwrap().description, None);
    }

    async fn an_update_of_a_version_that_is_gone_is_stale(world: World) {
        let id = world.acme.workspace_id;
        let mut tx = world.write().await;
        tx.workspaces().update(id, WorkspacePatch::default(), Some(1)).await.unwrap().unwrap();
        assert_refused!(tx.workspaces().update(id, WorkspacePatch::default(), Some(1)).await, StoreError::Stale);
    }

    async fn only_a_policy_of_the_same_organization_can_be_named(world: World) {
        let mut tx = world.other().await;
        let foreign = tx.policies().insert(new_policy("theirs")).await.unwrap().root_id;
        tx.commit().await.unwrap();
        for policy in [foreign, PolicyId::new()] {
            let new = NewWorkspace { policy_id: Some(policy), ..new_workspace("bots") };
            assert_refused!(world.write().await.workspaces().insert(new).await, StoreError::Missing("policy_id"));
            let patch = WorkspacePatch { policy_id: Some(Some(policy)), ..Default::default() };
            let mut tx = world.write().await;
            let updated = tx.workspaces().update(world.acme.workspace_id, patch, None).await;
            assert_refused!(updated, StoreError::Missing("policy_id"));
        }
    }

    async fn a_removed_workspace_takes_its_keys_with_it(world: World) {
        let key = world.key(1).await;
        world.told();
        let mut tx = world.write().await;
        assert!(tx.workspaces().remove(world.acme.workspace_id).await.unwrap());
        assert!(!tx.workspaces().remove(world.acme.workspace_id).await.unwrap(), "once");
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.organization_changed()]);
        let resolved = world.store.resolve_api_key(&KeyHash([1; 32])).await.unwrap().unwrap();
        assert!(!resolved.key_active && !resolved.workspace_active && resolved.org_active);
        let key = world.read().await.api_keys().find(key.id).await.unwrap().unwrap();
        assert_eq!((key.is_active, key.revoked_at), (false, Some(START)));
    }
}
