use std::collections::BTreeSet;
use std::path::Path;

use sentinel::domain::OrgId;
use sentinel::store::{KeyHash, StoreError, WorkspacePatch};
use serde_json::json;

use super::{START, assert_refused, new_key, on_both_engines, organization};

on_both_engines! {
    async fn registration_makes_an_organization_an_owner_and_a_workspace(world: World) {
        let made = world.store.register(organization("Globex", "Ann@Globex.com")).await.unwrap();
        assert_eq!(made.scope.org_id(), made.org_id);
        let mut tx = world.store.read(made.scope).await.unwrap();
        assert_eq!(tx.organization().get().await.unwrap().name, "Globex");
        let owner = tx.users().find(made.user_id).await.unwrap().unwrap();
        assert_eq!((owner.email.as_str(), owner.full_name.as_str(), owner.role.as_str()), ("Ann@Globex.com", "The Founder", "owner"));
        assert!(owner.permissions.is_empty() && !owner.must_change_password);
        let workspace = tx.workspaces().find(made.workspace_id).await.unwrap().unwrap();
        assert_eq!((workspace.name.as_str(), workspace.config), ("default", json!({})));
    }

    async fn a_second_registration_of_an_address_leaves_nothing_behind(world: World) {
        let again = world.store.register(organization("Ghost", "FOUNDER@acme.com")).await;
        assert_refused!(again, StoreError::Conflict("email"));
        assert_eq!(world.store.operator_scope("Ghost").await.unwrap(), None);
    }

    async fn organizations_of_one_name_have_slugs_of_their_own(world: World) {
        let twin = world.store.register(organization("Acme Corp", "twin@acme.com")).await.unwrap();
        let slug = world.store.read(twin.scope).await.unwrap().organization().get().await.unwrap().slug;
        assert!(slug.starts_with("acme-corp-"), "{slug}");
        assert_eq!(world.store.operator_scope(&slug).await.unwrap(), Some(twin.scope));
        assert_eq!(world.store.operator_scope("acme-corp").await.unwrap(), Some(world.acme.scope), "by slug");
        assert_eq!(world.store.operator_scope(&twin.org_id.to_string()).await.unwrap(), Some(twin.scope), "by id");
        assert_refused!(world.store.operator_scope("Acme Corp").await, StoreError::Database(_));
    }

    async fn an_operator_finds_an_organization_by_its_name(world: World) {
        assert_eq!(world.store.operator_scope("Acme Corp").await.unwrap(), Some(world.acme.scope));
        for unknown in ["acme", "", "founder@acme.com", &OrgId::new().to_string()] {
            assert_eq!(world.store.operator_scope(unknown).await.unwrap(), None, "{unknown}");
        }
    }

    async fn a_log_in_finds_its_account_whatever_the_case(world: World) {
        for address in ["founder@acme.com", " Founder@ACME.com "] {
            let account = world.store.find_login(address).await.unwrap().unwrap();
            assert_eq!((account.scope, account.user_id), (world.acme.scope, world.acme.user_id));
            assert_eq!(account.password_hash.expose(), "$argon2id$stored");
            assert!(account.active && !account.must_change_password);
        }
        assert!(world.store.find_login("nobody@acme.com").await.unwrap().is_none());
        assert!(world.store.find_login("founder%").await.unwrap().is_none(), "no pattern");
    }

    async fn a_log_in_is_remembered(world: World) {
        // Under an organization that the person is not of: nothing happens.
        world.store.record_login(world.acme.user_id, world.other.org_id).await.unwrap();
        assert_eq!(world.read().await.users().find(world.acme.user_id).await.unwrap().unwrap().last_login_at, None);
        world.store.record_login(world.acme.user_id, world.acme.org_id).await.unwrap();
        let user = world.read().await.users().find(world.acme.user_id).await.unwrap().unwrap();
        assert_eq!(user.last_login_at, Some(START));
    }

    async fn a_key_is_resolved_with_the_standing_of_its_workspace(world: World) {
        let mut tx = world.write().await;
        tx.api_keys().insert(new_key(world.acme.workspace_id, 1)).await.unwrap();
        let patch = WorkspacePatch { config: Some(json!({"reveal": true})), is_active: Some(false), ..Default::default() };
        tx.workspaces().update(world.acme.workspace_id, patch, None).await.unwrap();
        tx.commit().await.unwrap();
        let resolved = world.store.resolve_api_key(&KeyHash([1; 32])).await.unwrap().unwrap();
        assert!(resolved.key_active && !resolved.workspace_active && resolved.org_active && resolved.config.reveals());
    }
}

/// What may run outside an organization is a short list that grows only on purpose.
#[test]
fn unscoped_statements_are_these() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut function = String::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some((_, after)) = line.split_once("fn ") {
                function = after.split(['(', '<']).next().unwrap_or_default().to_owned();
            }
            if line.contains(".begin_unscoped(") {
                found.insert(format!("{file}: {function}"));
            }
        }
    }
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "audit_chain.rs: chains_without_checkpoint",
            "audit_chain.rs: write_checkpoints",
            "event_stream.rs: spend_event_ticket",
            "identity.rs: resolve_person",
            "identity.rs: resolve_scim_token",
            "identity.rs: sign_on_scope",
            "invitations.rs: resolve_invitation",
            "lifecycle.rs: operator_organizations",
            "lifecycle.rs: purge_deleted",
            "lifecycle.rs: purge_organization",
            "lifecycle.rs: resolve_restore_token",
            "lifecycle.rs: restore_organization",
            "login_lockouts.rs: lock_login",
            "login_lockouts.rs: unlock_login",
            "password_resets.rs: resolve_password_reset",
            "prune.rs: prune_expired",
            "sessions.rs: rotate_session",
            "unscoped.rs: every_scope",
            "unscoped.rs: find_login",
            "unscoped.rs: operator_scope",
            "unscoped.rs: record_event",
            "unscoped.rs: register_by",
            "unscoped.rs: resolve_api_key",
            "unscoped.rs: resolve_session",
            "unscoped.rs: ship_audit",
        ]
    );
}
