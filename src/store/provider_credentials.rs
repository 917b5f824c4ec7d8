use sqlx::types::uuid::Uuid;

use super::error::taken;
use super::statement::{TenantSql, tenant_sql};
use super::{Change, Page, PageRequest, Store, StoreError, TenantScope, TenantTx};
use crate::domain::{CredentialId, OrgId, Timestamp, UserId, WorkspaceId};

/// What a provider takes from a workspace, as it can be shown.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ProviderCredentialRecord {
    pub id: CredentialId,
    pub org_id: OrgId,
    pub workspace_id: WorkspaceId,
    /// The configured name.
    pub upstream: String,
    pub name: String,
    /// Empty for a short one.
    pub last_four: String,
    pub key_id: String,
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A credential with its ciphertext.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SealedCredential {
    #[sqlx(flatten)]
    pub record: ProviderCredentialRecord,
    /// Sealed.
    pub ciphertext: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct NewProviderCredential {
    pub id: CredentialId,
    pub workspace_id: WorkspaceId,
    pub upstream: String,
    pub name: String,
    pub last_four: String,
    pub ciphertext: Vec<u8>,
    pub key_id: String,
    pub created_by: Option<UserId>,
}

/// What the organization's workspaces present to providers.
pub struct ProviderCredentials<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, org_id, workspace_id, upstream, name, last_four, key_id, created_by, created_at, updated_at"
    };
}

impl ProviderCredentials<'_> {
    /// # Errors
    /// [`StoreError::Missing`]`("workspace_id")`; [`StoreError::Conflict`]`("credential")` when the workspace has one for the
    /// upstream.
    pub async fn insert(&mut self, new: NewProviderCredential) -> Result<ProviderCredentialRecord, StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO provider_credentials (
                org_id, id, workspace_id, upstream, name, last_four, ciphertext, key_id, created_by, created_at, updated_at
            )
            SELECT org_id, $2, id, $4, $5, $6, $7, $8, $9, $10, $10
            FROM workspaces
            WHERE org_id = $1 AND id = $3 AND deleted_at IS NULL
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        let inserted = self
            .tx
            .statement(INSERT)
            .bind(new.id)
            .bind(new.workspace_id)
            .bind(new.upstream)
            .bind(new.name)
            .bind(new.last_four)
            .bind(new.ciphertext)
            .bind(new.key_id)
            .bind(new.created_by)
            .bind(now)
            .optional()
            .await
            .map_err(taken("credential"))?;
        self.changed();
        inserted.ok_or(StoreError::Missing("workspace_id"))
    }

    pub async fn list(
        &mut self,
        workspace: Option<WorkspaceId>,
        page: &PageRequest,
    ) -> Result<Page<ProviderCredentialRecord>, StoreError> {
        const LIST: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM provider_credentials
            WHERE org_id = $1 AND id < $2 AND deleted_at IS NULL
                AND ($3 IS NULL OR workspace_id = $3)
            ORDER BY id DESC
            LIMIT $4"
        );
        let start = page.start::<Uuid>()?;
        let rows = self.tx.statement(LIST).bind(start).bind(workspace).bind(page.rows()).all().await?;
        Ok(page.page(rows, |record: &ProviderCredentialRecord| record.id.uuid()))
    }

    pub async fn sealed(&mut self, id: CredentialId) -> Result<Option<SealedCredential>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ciphertext, ",
            columns!(),
            " FROM provider_credentials WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// Those that another key than `key_id` encrypted.
    pub async fn sealed_otherwise(&mut self, key_id: &str) -> Result<Vec<SealedCredential>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ciphertext, ",
            columns!(),
            " FROM provider_credentials WHERE org_id = $1 AND key_id <> $2 AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(key_id).all().await?)
    }

    /// Puts the same value, sealed under another key, in its place.
    pub async fn reseal(&mut self, id: CredentialId, ciphertext: Vec<u8>, key_id: &str) -> Result<(), StoreError> {
        const RESEAL: TenantSql =
            tenant_sql!("UPDATE provider_credentials SET ciphertext = $3, key_id = $4 WHERE org_id = $1 AND id = $2");
        self.tx.statement(RESEAL).bind(id).bind(ciphertext).bind(key_id).execute().await?;
        Ok(())
    }

    /// Forgets the credential: its ciphertext is overwritten. False when there is none.
    pub async fn remove(&mut self, id: CredentialId) -> Result<bool, StoreError> {
        const REMOVE: TenantSql = tenant_sql!(
            "UPDATE provider_credentials
            SET deleted_at = $3, updated_at = $3, is_active = FALSE, ciphertext = $4
            WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL"
        );
        let now = self.tx.now();
        let removed = self.tx.statement(REMOVE).bind(id).bind(now).bind(Vec::<u8>::new()).execute().await? == 1;
        if removed {
            self.changed();
        }
        Ok(removed)
    }

    fn changed(&mut self) {
        let org = self.tx.scope().org_id();
        self.tx.record(Change::ProviderCredential { org });
    }
}

impl Store {
    /// All that one workspace presents to providers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn workspace_credentials(
        &self,
        workspace: WorkspaceId,
        scope: TenantScope,
    ) -> Result<Vec<SealedCredential>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ciphertext, ",
            columns!(),
            " FROM provider_credentials
            WHERE org_id = $1 AND workspace_id = $2 AND is_active AND deleted_at IS NULL"
        );
        let mut tx = self.read(scope).await?;
        let found = tx.statement(FIND).bind(workspace).all().await?;
        tx.commit().await?;
        Ok(found)
    }
}
