//! The organization that `sentinel dev` shows around in.

use anyhow::Context as _;

use super::keys::new_key;
use super::options::every_page;
use crate::authn::{ApiKeySecret, Passwords, temporary_password};
use crate::config::AuthConfig;
use crate::domain::{Secret, WorkspaceId};
use crate::store::{NewApiKey, NewOrganization, Store, TenantScope, WorkspacePatch};

const ORGANIZATION: &str = "Sentinel Demo";
pub(super) const EMAIL: &str = "demo@example.com";
const KEY_NAME: &str = "demo";

/// What there is to log in and to call with.
pub(super) struct Demo {
    pub password: Secret<String>,
    pub key: ApiKeySecret,
}

/// Makes the organization, or takes the one of an earlier start. Its password and its key are new each time: neither can
/// be read back, so what an earlier start printed ends here.
pub(super) async fn prepare(store: &Store, auth: &AuthConfig) -> anyhow::Result<Demo> {
    let password = temporary_password();
    let hash = Passwords::new(auth).hash(password.clone()).await?;
    let (scope, workspace) = match store.operator_scope(ORGANIZATION).await? {
        Some(scope) => (scope, reuse(store, scope, &hash).await?),
        None => create(store, &hash).await?,
    };
    let key = replace_key(store, scope, workspace).await?;
    Ok(Demo { password, key })
}

async fn create(store: &Store, hash: &str) -> anyhow::Result<(TenantScope, WorkspaceId)> {
    let registered = store
        .register(NewOrganization {
            name: ORGANIZATION.into(),
            owner_email: EMAIL.into(),
            owner_full_name: "Demo".into(),
            owner_password_hash: hash.into(),
            workspace_name: "default".into(),
        })
        .await?;
    // So that the demo's refusals say what was found.
    let config = Some(serde_json::json!({ "reveal": true }));
    let mut tx = store.write(registered.scope).await?;
    tx.workspaces()
        .update(registered.workspace_id, WorkspacePatch { config, ..WorkspacePatch::default() }, None)
        .await?;
    tx.commit().await?;
    Ok((registered.scope, registered.workspace_id))
}

async fn reuse(store: &Store, scope: TenantScope, hash: &str) -> anyhow::Result<WorkspaceId> {
    let mut tx = store.write(scope).await?;
    let users = every_page!(page => tx.users().list(&page));
    let user = users.into_iter().find(|user| user.email == EMAIL).with_context(|| {
        format!("the organization `{ORGANIZATION}` of --data-dir has no user {EMAIL} any more; use another folder")
    })?;
    tx.users().set_password(user.id, hash, false).await?;
    let mut workspaces = every_page!(page => tx.workspaces().list(&page));
    // Newest first: the first one made is the last.
    let workspace =
        workspaces.pop().context("the demo organization of --data-dir has no workspace; use another folder")?;
    tx.commit().await?;
    Ok(workspace.id)
}

async fn replace_key(store: &Store, scope: TenantScope, workspace: WorkspaceId) -> anyhow::Result<ApiKeySecret> {
    let mut tx = store.write(scope).await?;
    let keys = every_page!(page => tx.api_keys().list(Some(workspace), &page));
    for old in keys.iter().filter(|key| key.name == KEY_NAME && key.revoked_at.is_none()) {
        tx.api_keys().revoke(old.id).await?;
    }
    let key = ApiKeySecret::generate(false);
    tx.api_keys().insert(NewApiKey { name: KEY_NAME.into(), ..new_key(&key, workspace) }).await?;
    tx.commit().await?;
    Ok(key)
}
