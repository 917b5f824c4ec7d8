use sentinel::store::{OrganizationPatch, StoreError, Tier};
use serde_json::json;

use super::{START, assert_refused, on_both_engines};

on_both_engines! {
    async fn a_new_organization_is_free_active_and_without_limits(world: World) {
        let organization = world.read().await.organization().get().await.unwrap();
        assert_eq!(organization.id, world.acme.org_id);
        assert_eq!((organization.name.as_str(), organization.slug.as_str()), ("Acme Corp", "acme-corp"));
        assert_eq!((organization.tier, organization.is_active, organization.version), (Tier::Free, true, 1));
        assert_eq!((organization.max_users, organization.monthly_request_limit), (None, None));
        assert_eq!((organization.created_at, organization.deleted_at), (START, None));
        assert_eq!(organization.settings, json!({}));
    }

    async fn an_update_changes_what_it_names_and_nothing_else(world: World) {
        let mut tx = world.write().await;
        let patch = OrganizationPatch { billing_email: Some(Some("bills@acme.com".into())), ..Default::default() };
        let updated = tx.organization().update(patch, Some(1)).await.unwrap();
        assert_eq!((updated.name.as_str(), updated.version), ("Acme Corp", 2));
        assert_eq!(updated.billing_email.as_deref(), Some("bills@acme.com"));
        let patch = OrganizationPatch {
            name: Some("Acme".into()),
            billing_email: Some(None),
            settings: Some(json!({"theme": "dark"})),
        };
        let updated = tx.organization().update(patch, None).await.unwrap();
        assert_eq!((updated.name.as_str(), updated.billing_email.as_deref()), ("Acme", None));
        tx.commit().await.unwrap();
        assert_eq!(world.read().await.organization().get().await.unwrap().settings, json!({"theme": "dark"}));
        assert_eq!(world.other().await.organization().get().await.unwrap().name, "Other", "the other is untouched");
    }

    async fn an_update_of_a_version_that_is_gone_is_stale(world: World) {
        let mut tx = world.write().await;
        let patch = OrganizationPatch { name: Some("Acme".into()), ..Default::default() };
        tx.organization().update(patch.clone(), Some(1)).await.unwrap();
        assert_refused!(tx.organization().update(patch, Some(1)).await, StoreError::Stale);
    }

    async fn what_is_not_committed_did_not_happen(world: World) {
        let mut tx = world.write().await;
        let patch = OrganizationPatch { name: Some("Acme".into()), ..Default::default() };
        tx.organization().update(patch, None).await.unwrap();
        drop(tx);
        assert_eq!(world.read().await.organization().get().await.unwrap().name, "Acme Corp");
        assert_eq!(world.told(), [], "and nobody was told");
    }
}
