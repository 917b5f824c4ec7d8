use sentinel::domain::{PolicyId, UserId};
use sentinel::store::{DraftOf, NewPolicy, OrganizationPatch, PolicyRecord, StoreError};
use serde_json::json;

use super::{World, all_pages, assert_refused, new_policy, on_both_engines};

async fn policy(world: &World) -> PolicyRecord {
    let mut tx = world.write().await;
    let policy = tx.policies().insert(new_policy("mine")).await.unwrap();
    tx.commit().await.unwrap();
    policy
}

fn change(world: &World, preset: &str) -> NewPolicy {
    NewPolicy { document: json!({"extends": preset}), created_by: Some(world.acme.user_id), ..new_policy("mine") }
}

async fn draft(world: &World, of: DraftOf, preset: &str) -> PolicyRecord {
    let mut tx = world.write().await;
    let draft = tx.policy_drafts().insert(of, change(world, preset)).await.unwrap();
    tx.commit().await.unwrap();
    draft
}

async fn publish(world: &World, id: PolicyId, revision: i64) -> Result<Option<PolicyRecord>, StoreError> {
    let mut tx = world.write().await;
    let published = tx.policy_drafts().publish(id, revision).await?;
    tx.commit().await?;
    Ok(published)
}

async fn demand_approval(world: &World) {
    let mut tx = world.write().await;
    let patch = OrganizationPatch { settings: Some(json!({"require_policy_approval": true})), ..Default::default() };
    tx.organization().update(patch, None).await.unwrap();
    tx.commit().await.unwrap();
}

on_both_engines! {
    async fn a_draft_changes_nothing_until_it_is_published(world: World) {
        let first = policy(&world).await;
        world.told();
        let draft = draft(&world, DraftOf::Policy(first.root_id), "strict").await;
        assert!(draft.is_draft && !draft.is_active && !draft.is_proposal);
        assert_eq!((draft.root_id, draft.parent_policy_id, draft.revision), (first.root_id, Some(first.id), 1));
        assert_eq!(world.told(), []);
        let mut tx = world.read().await;
        assert_eq!(tx.policies().find(first.root_id).await.unwrap().unwrap(), first);
        assert_eq!(tx.policies().versions(first.root_id, &super::page(9, None)).await.unwrap().data, std::slice::from_ref(&first));
        assert_eq!(tx.policies().version(first.root_id, draft.version).await.unwrap(), None, "a draft is no version");
        assert_eq!(tx.policy_drafts().find(draft.id).await.unwrap(), Some(draft.clone()));
        drop(tx);

        let published = publish(&world, draft.id, 1).await.unwrap().unwrap();
        assert_eq!(world.told(), [world.policy_changed()]);
        assert_eq!((published.id, published.version, published.is_draft, published.is_active), (draft.id, 2, false, true));
        let mut tx = world.write().await;
        assert_eq!(tx.policies().find(first.root_id).await.unwrap().unwrap(), published);
        assert_eq!(tx.policy_drafts().find(draft.id).await.unwrap(), None);
        assert_eq!(tx.policy_drafts().publish(draft.id, 1).await.unwrap(), None, "once");
        assert_eq!(tx.policy_drafts().edit(draft.id, 1, change(&world, "monitor")).await.unwrap(), None, "immutable");
        assert_eq!(tx.policy_drafts().discard(draft.id).await.unwrap(), None);
    }

    async fn a_draft_of_a_new_policy_takes_its_name_when_it_is_published(world: World) {
        let new = draft(&world, DraftOf::NewPolicy, "strict").await;
        assert_eq!((new.root_id, new.version, new.parent_policy_id), (new.id, 1, None));
        assert_eq!(world.read().await.policies().find(new.id).await.unwrap(), None);
        let taken = policy(&world).await;
        assert_refused!(publish(&world, new.id, 1).await, StoreError::Conflict("policy name"));
        let mut tx = world.write().await;
        assert!(tx.policies().remove(taken.root_id).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(publish(&world, new.id, 1).await.unwrap().unwrap().version, 1);
    }

    async fn an_edit_is_told_from_another_and_stands_on_what_is_in_force(world: World) {
        let first = policy(&world).await;
        let draft = draft(&world, DraftOf::Policy(first.root_id), "strict").await;
        let mut tx = world.write().await;
        let second = tx.policies().replace(first.root_id, 1, new_policy("mine")).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!(second.version, 3, "the draft has a number of its own");
        assert_refused!(publish(&world, draft.id, 1).await, StoreError::Conflict("draft"));

        let mut tx = world.write().await;
        let editor = UserId::new();
        let edit = NewPolicy { created_by: Some(editor), ..change(&world, "monitor") };
        let edited = tx.policy_drafts().edit(draft.id, 1, edit).await.unwrap().unwrap();
        assert_eq!((edited.revision, edited.parent_policy_id), (2, Some(second.id)));
        assert_eq!((edited.created_by, edited.updated_by), (draft.created_by, Some(editor)));
        assert_eq!(edited.document, json!({"extends": "monitor"}));
        tx.commit().await.unwrap();
        assert_refused!(world.write().await.policy_drafts().edit(draft.id, 1, change(&world, "strict")).await, StoreError::Stale);
        assert_refused!(publish(&world, draft.id, 1).await, StoreError::Stale);
        assert_eq!(publish(&world, draft.id, 2).await.unwrap().unwrap().version, 4, "numbered as they come into force");
    }

    async fn where_approval_is_needed_nothing_comes_into_force_without_it(world: World) {
        let first = policy(&world).await;
        demand_approval(&world).await;
        let root = first.root_id;
        let mut tx = world.write().await;
        assert_refused!(tx.policies().insert(new_policy("another")).await, StoreError::Conflict("approval"));
        assert_refused!(tx.policies().replace(root, 1, new_policy("mine")).await, StoreError::Conflict("approval"));
        drop(tx);
        let draft = draft(&world, DraftOf::Policy(root), "strict").await;
        assert_refused!(publish(&world, draft.id, 1).await, StoreError::Conflict("approval"));
        let approve = async |revision, by| {
            let mut tx = world.write().await;
            let approved = tx.policy_drafts().approve(draft.id, revision, by).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(approved)
        };
        assert_refused!(approve(1, world.acme.user_id).await, StoreError::Conflict("author"));
        let second = UserId::new();
        assert_eq!(approve(1, second).await.unwrap().unwrap().approved_by, Some(second));

        let mut tx = world.write().await;
        let edit = NewPolicy { created_by: Some(second), ..change(&world, "monitor") };
        let edited = tx.policy_drafts().edit(draft.id, 1, edit).await.unwrap().unwrap();
        assert_eq!((edited.approved_by, edited.approved_at), (None, None), "what was approved was something else");
        tx.commit().await.unwrap();
        assert_refused!(publish(&world, draft.id, 2).await, StoreError::Conflict("approval"));
        assert_refused!(approve(2, second).await, StoreError::Conflict("author"));
        assert_refused!(approve(1, UserId::new()).await, StoreError::Stale);
        approve(2, UserId::new()).await.unwrap().unwrap();
        let published = publish(&world, draft.id, 2).await.unwrap().unwrap();
        assert!(published.approved_by.is_some());

        let mut tx = world.write().await;
        assert!(tx.policies().roll_back(root, None, None, None).await.unwrap().is_some(), "it was in force once");
        assert!(tx.policies().remove(root).await.unwrap(), "not the default");
    }

    async fn drafts_are_listed_and_thrown_away(world: World) {
        let first = policy(&world).await;
        let mut made = vec![draft(&world, DraftOf::NewPolicy, "strict").await.id];
        for of in [DraftOf::Policy(first.root_id), DraftOf::Proposal(first.root_id), DraftOf::Policy(first.root_id)] {
            made.push(draft(&world, of, "strict").await.id);
        }
        made.reverse();
        let mut tx = world.write().await;
        let listed = all_pages!(request => tx.policy_drafts().list(None, &request));
        assert_eq!(listed.iter().map(|draft| draft.id).collect::<Vec<_>>(), made);
        let of_one = tx.policy_drafts().list(Some(first.root_id), &super::page(9, None)).await.unwrap().data;
        assert_eq!(of_one.iter().map(|draft| draft.id).collect::<Vec<_>>(), made[..3]);
        let proposal = tx.policy_drafts().open_proposal(first.root_id).await.unwrap().unwrap();
        assert_eq!((proposal.id, proposal.is_proposal), (made[1], true));
        assert_eq!(tx.policy_drafts().discard(made[1]).await.unwrap().unwrap().id, made[1]);
        assert_eq!(tx.policy_drafts().open_proposal(first.root_id).await.unwrap(), None);
        assert_eq!(tx.policy_drafts().list(None, &super::page(9, None)).await.unwrap().data.len(), 3);
        assert!(tx.policies().remove(first.root_id).await.unwrap());
        assert_eq!(tx.policy_drafts().list(None, &super::page(9, None)).await.unwrap().data.len(), 1, "with its policy");
    }

    async fn drafts_of_another_organization_do_not_exist(world: World) {
        let first = policy(&world).await;
        let draft = draft(&world, DraftOf::Proposal(first.root_id), "strict").await;
        let mut other = world.other().await;
        assert_eq!(other.policy_drafts().find(draft.id).await.unwrap(), None);
        assert_eq!(other.policy_drafts().edit(draft.id, 1, new_policy("theirs")).await.unwrap(), None);
        assert_eq!(other.policy_drafts().approve(draft.id, 1, UserId::new()).await.unwrap(), None);
        assert_eq!(other.policy_drafts().publish(draft.id, 1).await.unwrap(), None);
        assert_eq!(other.policy_drafts().discard(draft.id).await.unwrap(), None);
        assert_eq!(other.policy_drafts().open_proposal(first.root_id).await.unwrap(), None);
        assert_eq!(other.policy_drafts().list(None, &super::page(9, None)).await.unwrap().data, []);
        assert_eq!(other.policies().version(first.root_id, 1).await.unwrap(), None);
        assert_eq!(other.policies().roll_back(first.root_id, None, None, None).await.unwrap(), None);
        assert_eq!(other.policies().find_by_name("mine").await.unwrap(), None);
        assert_refused!(
            other.policy_drafts().insert(DraftOf::Policy(first.root_id), new_policy("theirs")).await,
            StoreError::Missing("policy_id")
        );
    }
}
