use sentinel::domain::PolicyId;
use sentinel::store::{NewPolicy, PolicyRecord, StoreError, WorkspacePatch};
use serde_json::json;

use super::{START, World, all_pages, assert_refused, new_policy, on_both_engines};

async fn insert(world: &World, policy: NewPolicy) -> PolicyRecord {
    let mut tx = world.write().await;
    let policy = tx.policies().insert(policy).await.unwrap();
    tx.commit().await.unwrap();
    policy
}

/// The name and version that the first workspace is under.
async fn in_force(world: &World) -> Option<(String, i64)> {
    let policy = world.store.effective_policy(world.acme.workspace_id, world.acme.scope).await.unwrap();
    policy.map(|policy| (policy.name, policy.version))
}

on_both_engines! {
    async fn a_policy_reads_back_as_written(world: World) {
        let new = NewPolicy { created_by: Some(world.acme.user_id), description: Some("d".into()), ..new_policy("mine") };
        let made = insert(&world, new.clone()).await;
        assert_eq!(world.told(), [world.policy_changed()]);
        assert_eq!(world.read().await.policies().find(new.id).await.unwrap().unwrap(), made);
        assert_eq!((made.id, made.root_id, made.version, made.parent_policy_id), (new.id, new.id, 1, None));
        assert_eq!((made.name, made.description, made.document), (new.name, new.description, new.document));
        assert_eq!((made.comment, made.created_by, made.created_at), (new.comment, new.created_by, START));
        assert!(made.is_active && !made.is_default);
        assert_eq!(made.canary_percentage, 0);
    }

    async fn a_replacement_is_a_new_version_in_force_at_once(world: World) {
        let first = insert(&world, new_policy("mine")).await;
        world.told();
        let mut tx = world.write().await;
        let new = NewPolicy { document: json!({"extends": "strict"}), ..new_policy("renamed") };
        let second = tx.policies().replace(first.root_id, 1, new.clone()).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.policy_changed()]);
        assert_eq!((second.id, second.root_id, second.version), (new.id, first.root_id, 2));
        assert_eq!((second.parent_policy_id, second.name.as_str()), (Some(first.id), "renamed"));
        let mut tx = world.read().await;
        assert_eq!(tx.policies().find(first.root_id).await.unwrap().unwrap(), second);
        let versions = tx.policies().versions(first.root_id, &super::page(10, None)).await.unwrap().data;
        assert_eq!(versions, [second, PolicyRecord { is_active: false, ..first }], "the old one is as it was");
    }

    async fn a_replacement_of_a_version_that_is_not_in_force_is_stale(world: World) {
        let root = insert(&world, new_policy("mine")).await.root_id;
        let mut tx = world.write().await;
        tx.policies().replace(root, 1, new_policy("mine")).await.unwrap().unwrap();
        assert_refused!(tx.policies().replace(root, 1, new_policy("mine")).await, StoreError::Stale);
        assert_eq!(tx.policies().replace(PolicyId::new(), 1, new_policy("new")).await.unwrap(), None);
    }

    async fn of_two_replacements_at_once_one_is_stale(world: World) {
        let root = insert(&world, new_policy("mine")).await.root_id;
        let replace = async || {
            let mut tx = world.write().await;
            tx.policies().replace(root, 1, new_policy("mine")).await?;
            tx.commit().await
        };
        let outcomes = tokio::join!(replace(), replace());
        assert!(matches!(outcomes, (Ok(()), Err(StoreError::Stale)) | (Err(StoreError::Stale), Ok(()))), "{outcomes:?}");
        assert_eq!(world.read().await.policies().find(root).await.unwrap().unwrap().version, 2);
    }

    async fn a_name_is_taken_while_a_version_in_force_has_it(world: World) {
        let root = insert(&world, new_policy("mine")).await.root_id;
        let again = world.write().await.policies().insert(new_policy("Mine")).await;
        assert_refused!(again, StoreError::Conflict("policy name"));
        world.other().await.policies().insert(new_policy("mine")).await.unwrap();
        let mut tx = world.write().await;
        tx.policies().replace(root, 1, new_policy("renamed")).await.unwrap().unwrap();
        tx.policies().insert(new_policy("mine")).await.unwrap();
    }

    async fn there_is_one_default(world: World) {
        let first = insert(&world, NewPolicy { is_default: true, ..new_policy("first") }).await;
        assert_eq!(in_force(&world).await, Some(("first".into(), 1)));
        let second = insert(&world, NewPolicy { is_default: true, ..new_policy("second") }).await;
        assert_eq!(in_force(&world).await, Some(("second".into(), 1)));
        let mut tx = world.write().await;
        assert!(!tx.policies().find(first.root_id).await.unwrap().unwrap().is_default);
        let back = NewPolicy { is_default: true, ..new_policy("first") };
        tx.policies().replace(first.root_id, 1, back).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!(in_force(&world).await, Some(("first".into(), 2)));
        assert!(!world.read().await.policies().find(second.root_id).await.unwrap().unwrap().is_default);
    }

    async fn a_workspace_is_under_its_policy_then_the_default_then_none(world: World) {
        assert_eq!(in_force(&world).await, None, "the preset");
        insert(&world, NewPolicy { is_default: true, ..new_policy("default") }).await;
        let own = insert(&world, new_policy("own")).await;
        let mut tx = world.write().await;
        let patch = WorkspacePatch { policy_id: Some(Some(own.root_id)), ..Default::default() };
        tx.workspaces().update(world.acme.workspace_id, patch, None).await.unwrap();
        tx.policies().replace(own.root_id, 1, new_policy("own")).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!(in_force(&world).await, Some(("own".into(), 2)), "the version in force, not the one it was given");
        let effective = world.store.effective_policy(world.acme.workspace_id, world.acme.scope).await.unwrap().unwrap();
        assert_eq!((effective.root_id, effective.document), (own.root_id, own.document));
        let foreign = world.store.effective_policy(world.acme.workspace_id, world.other.scope).await.unwrap();
        assert_eq!(foreign, None, "another organization's workspace");
    }

    async fn policies_and_versions_are_listed_newest_first_in_pages(world: World) {
        let mut roots = Vec::new();
        for n in 0..3 {
            roots.push(insert(&world, new_policy(&format!("policy {n}"))).await.root_id);
        }
        let mut tx = world.write().await;
        for version in 1..5 {
            tx.policies().replace(roots[0], version, new_policy("policy 0")).await.unwrap().unwrap();
        }
        let listed = all_pages!(request => tx.policies().list(&request));
        assert_eq!(listed.iter().map(|policy| policy.root_id).collect::<Vec<_>>(), [roots[2], roots[1], roots[0]]);
        let versions = all_pages!(request => tx.policies().versions(roots[0], &request));
        assert_eq!(versions.iter().map(|policy| policy.version).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
        assert_eq!(versions.iter().filter(|policy| policy.is_active).count(), 1);
    }

    async fn a_policy_that_a_workspace_names_cannot_be_removed(world: World) {
        let root = insert(&world, NewPolicy { is_default: true, ..new_policy("mine") }).await.root_id;
        let named = async |policy_id| {
            let mut tx = world.write().await;
            let patch = WorkspacePatch { policy_id: Some(policy_id), ..Default::default() };
            tx.workspaces().update(world.acme.workspace_id, patch, None).await.unwrap().unwrap();
            tx.commit().await.unwrap();
        };
        named(Some(root)).await;
        assert_refused!(world.write().await.policies().remove(root).await, StoreError::Conflict("policy"));
        named(None).await;
        world.told();
        let mut tx = world.write().await;
        assert!(tx.policies().remove(root).await.unwrap());
        assert!(!tx.policies().remove(root).await.unwrap(), "once");
        assert_eq!(tx.policies().find(root).await.unwrap(), None);
        assert!(tx.policies().versions(root, &super::page(9, None)).await.unwrap().data.is_empty());
        tx.policies().insert(new_policy("mine")).await.expect("the name is free again");
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.policy_changed()]);
        assert_eq!(in_force(&world).await, None);
    }

    async fn a_roll_back_is_a_new_version_equal_to_an_old_one(world: World) {
        let first = insert(&world, NewPolicy { is_default: true, ..new_policy("mine") }).await;
        let mut tx = world.write().await;
        for (expected, preset) in [(1, "strict"), (2, "monitor")] {
            let next = NewPolicy { document: json!({"extends": preset}), is_default: true, ..new_policy("mine") };
            tx.policies().replace(first.root_id, expected, next).await.unwrap().unwrap();
        }
        tx.commit().await.unwrap();
        world.told();
        let mut tx = world.write().await;
        let (before, back) = tx.policies().roll_back(first.root_id, None, None, Some(world.acme.user_id)).await.unwrap().unwrap();
        assert_eq!((before.version, back.version, back.parent_policy_id), (3, 4, Some(before.id)));
        assert_eq!((&back.document, back.comment.as_deref()), (&json!({"extends": "strict"}), Some("rolled back to version 2")));
        assert_eq!(tx.policies().version(first.root_id, 3).await.unwrap().unwrap().rolled_back_at, Some(START));
        let (_, again) = tx.policies().roll_back(first.root_id, Some(1), Some("why".into()), None).await.unwrap().unwrap();
        assert_eq!((again.version, &again.document, again.comment.as_deref()), (5, &first.document, Some("why")));
        for version in [5, 9] {
            assert_refused!(tx.policies().roll_back(first.root_id, Some(version), None, None).await, StoreError::Missing("version"));
        }
        assert_eq!(tx.policies().roll_back(PolicyId::new(), None, None, None).await.unwrap(), None);
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.policy_changed()]);
        assert_eq!(world.store.effective_policy(world.acme.workspace_id, world.acme.scope).await.unwrap().unwrap().version, 5);
        assert_eq!(world.read().await.policies().version(first.root_id, 9).await.unwrap(), None);
        assert_eq!(world.read().await.policies().find_by_name("MINE").await.unwrap().unwrap().version, 5);
    }

    async fn policies_of_another_organization_do_not_exist(world: World) {
        let root = insert(&world, new_policy("mine")).await.root_id;
        world.told();
        let mut other = world.other().await;
        assert_eq!(other.policies().find(root).await.unwrap(), None);
        assert_eq!(other.policies().replace(root, 1, new_policy("theirs")).await.unwrap(), None);
        assert!(!other.policies().remove(root).await.unwrap());
        assert!(other.policies().versions(root, &super::page(9, None)).await.unwrap().data.is_empty());
        assert!(other.policies().list(&super::page(9, None)).await.unwrap().data.is_empty());
        other.commit().await.unwrap();
        assert_eq!(world.told(), []);
    }
}
