use sentinel::domain::{Clock as _, Month, OrgId};
use sentinel::store::{KeyHash, OrganizationPatch, Plan, StoreError, Tier};

use super::{DAY, assert_refused, on_both_engines};

const MARCH: Month = Month::from_number(202_603);

on_both_engines! {
    async fn requests_are_counted_by_organization_and_month(world: World) {
        let (acme, other) = (world.acme.org_id, world.other.org_id);
        assert_eq!(world.read().await.organization().requests_this_month().await.unwrap(), 0);
        assert_eq!(world.store.add_requests(acme, MARCH, 3).await.unwrap(), Some(3));
        assert_eq!(world.store.add_requests(acme, MARCH, 4).await.unwrap(), Some(7), "what all nodes have added");
        assert_eq!(world.store.add_requests(other, MARCH, 1).await.unwrap(), Some(1));
        assert_eq!(world.read().await.organization().requests_this_month().await.unwrap(), 7);
        world.clock.advance(31 * DAY);
        let april = world.clock.now().month();
        assert_eq!(april, Month::from_number(202_604));
        assert_eq!(world.read().await.organization().requests_this_month().await.unwrap(), 0, "a new month");
        // What a node had counted before midnight is written after it, where it belongs.
        assert_eq!(world.store.add_requests(acme, MARCH, 1).await.unwrap(), Some(8));
        assert_eq!(world.store.add_requests(acme, april, 2).await.unwrap(), Some(2));
        assert_eq!(world.store.add_requests(OrgId::new(), april, 2).await.unwrap(), None, "no such organization");
    }

    async fn a_key_is_resolved_with_its_organizations_limit_and_count(world: World) {
        world.key(1).await;
        let resolve = async || world.store.resolve_api_key(&KeyHash([1; 32])).await.unwrap().unwrap();
        let before = resolve().await;
        assert_eq!((before.monthly_request_limit, before.counted), (None, (MARCH, 0)));
        world.store.add_requests(world.acme.org_id, MARCH, 5).await.unwrap();
        world.store.add_requests(world.other.org_id, MARCH, 70).await.unwrap();
        let mut tx = world.write().await;
        tx.organization().set_plan(Plan { monthly_request_limit: Some(Some(9)), ..Plan::default() }).await.unwrap();
        tx.commit().await.unwrap();
        let after = resolve().await;
        assert_eq!((after.monthly_request_limit, after.counted), (Some(9), (MARCH, 5)));
        world.clock.advance(31 * DAY);
        assert_eq!(resolve().await.counted, (world.clock.now().month(), 0));
    }

    async fn a_plan_changes_what_it_names_and_is_told(world: World) {
        let mut tx = world.write().await;
        let plan = Plan { tier: Some(Tier::Pro), max_users: Some(Some(5)), max_api_keys: Some(Some(1)), ..Plan::default() };
        let set = tx.organization().set_plan(plan).await.unwrap();
        assert_eq!((set.tier, set.max_users, set.max_workspaces, set.version), (Tier::Pro, Some(5), None, 2));
        let plan = Plan { max_users: Some(None), max_workspaces: Some(Some(u32::MAX)), ..Plan::default() };
        let set = tx.organization().set_plan(plan).await.unwrap();
        assert_eq!((set.tier, set.max_users, set.max_workspaces, set.max_api_keys), (Tier::Pro, None, Some(u32::MAX), Some(1)));
        assert_refused!(
            tx.organization().update(OrganizationPatch::default(), Some(2)).await,
            StoreError::Stale
        );
        tx.commit().await.unwrap();
        assert_eq!(world.told(), [world.organization_changed()], "keys are looked up anew");
        assert_eq!(world.other().await.organization().get().await.unwrap().tier, Tier::Free, "the other is untouched");
    }
}
