use serde::{Deserialize, Serialize};

use sqlx::types::Json;

use super::error::taken;
use super::sort::{NEVER, Value, sorted};
use super::statement::{TenantSql, tenant_sql};
use super::values::OptionalCount;
use super::{ApiKeyColumn, Change, Page, PageRequest, Sort, StoreError, TenantTx};
use crate::domain::{ApiKeyId, OrgId, Timestamp, UserId, WorkspaceId};

/// SHA-256 of an API key's text; the only form in which a key is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyHash(pub [u8; 32]);

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct ApiKeyRecord {
    pub id: ApiKeyId,
    pub org_id: OrgId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    /// `snt_live_` and the first characters, for display.
    pub key_prefix: String,
    pub last_four: String,
    /// `process`, `metrics`, `reports`.
    #[sqlx(json)]
    pub scopes: Vec<String>,
    #[sqlx(try_from = "OptionalCount")]
    pub rate_limit_per_minute: Option<u32>,
    pub is_active: bool,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub created_by: Option<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewApiKey {
    pub id: ApiKeyId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub hash: KeyHash,
    pub key_prefix: String,
    pub last_four: String,
    pub scopes: Vec<String>,
    pub rate_limit_per_minute: Option<u32>,
    pub expires_at: Option<Timestamp>,
    /// The key that this one replaces.
    pub rotated_from: Option<ApiKeyId>,
    pub created_by: Option<UserId>,
}

/// A key with its hash, which only the change feed sees.
#[derive(sqlx::FromRow)]
struct Hashed {
    #[sqlx(flatten)]
    record: ApiKeyRecord,
    key_hash: KeyHash,
}

/// The applications' keys of the organization, revoked ones included.
pub struct ApiKeys<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, org_id, workspace_id, name, key_prefix, last_four, scopes, rate_limit_per_minute, is_active, expires_at, \
         last_used_at, revoked_at, created_by, created_at, updated_at"
    };
}

impl ApiKeys<'_> {
    /// # Errors
    /// [`StoreError::Missing`]`("workspace_id")` when the organization has no such live workspace.
    pub async fn insert(&mut self, key: NewApiKey) -> Result<ApiKeyRecord, StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO api_keys (
                org_id, id, workspace_id, name, key_hash, key_prefix, last_four, scopes, rate_limit_per_minute, expires_at,
                created_by, created_at, updated_at, rotated_from
            )
            SELECT org_id, $2, id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13
            FROM workspaces
            WHERE org_id = $1 AND id = $3 AND deleted_at IS NULL
            RETURNING key_hash, ",
            columns!()
        );
        let now = self.tx.now();
        let inserted = self
            .tx
            .statement(INSERT)
            .bind(key.id)
            .bind(key.workspace_id)
            .bind(key.name)
            .bind(key.hash)
            .bind(key.key_prefix)
            .bind(key.last_four)
            .bind(Json(key.scopes))
            .bind(key.rate_limit_per_minute.map(i64::from))
            .bind(key.expires_at)
            .bind(key.created_by)
            .bind(now)
            .bind(key.rotated_from)
            .optional()
            .await
            .map_err(taken("api key"))?;
        self.changed(inserted).ok_or(StoreError::Missing("workspace_id"))
    }

    pub async fn find(&mut self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!("SELECT ", columns!(), " FROM api_keys WHERE org_id = $1 AND id = $2");
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// Newest first.
    pub async fn list(
        &mut self,
        workspace: Option<WorkspaceId>,
        page: &PageRequest,
    ) -> Result<Page<ApiKeyRecord>, StoreError> {
        self.list_by(Sort::default(), workspace, page).await
    }

    pub async fn list_by(
        &mut self,
        sort: Sort<ApiKeyColumn>,
        workspace: Option<WorkspaceId>,
        page: &PageRequest,
    ) -> Result<Page<ApiKeyRecord>, StoreError> {
        macro_rules! by {
            ($column:literal) => {
                sorted!(
                    ("SELECT ", columns!(), " FROM api_keys WHERE org_id = $1 AND ($5 IS NULL OR workspace_id = $5)"),
                    $column,
                    "id"
                )
            };
        }
        let both = match sort.by {
            ApiKeyColumn::CreatedAt => by!("created_at"),
            ApiKeyColumn::Name => by!("name"),
            ApiKeyColumn::LastUsedAt => by!("COALESCE(last_used_at, $6)"),
        };
        let start = sort.start(page)?;
        let statement = start.bind(self.tx.statement(sort.of(both))).bind(page.rows()).bind(workspace);
        let statement = if sort.by == ApiKeyColumn::LastUsedAt { statement.bind(NEVER) } else { statement };
        let rows = statement.all().await?;
        Ok(sort.page(page, rows, |key: &ApiKeyRecord| {
            let value = match sort.by {
                ApiKeyColumn::CreatedAt => Value::Time(key.created_at),
                ApiKeyColumn::Name => Value::Text(key.name.clone()),
                ApiKeyColumn::LastUsedAt => Value::Time(key.last_used_at.unwrap_or(NEVER)),
            };
            (value, key.id.uuid())
        }))
    }

    /// Those that still work.
    pub async fn count(&mut self) -> Result<u64, StoreError> {
        const COUNT: TenantSql = tenant_sql!(
            "SELECT COUNT(*) FROM api_keys
            WHERE org_id = $1 AND is_active AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)"
        );
        let now = self.tx.now();
        let (count,): (i64,) = self.tx.statement(COUNT).bind(now).one().await?;
        Ok(count.unsigned_abs())
    }

    /// Renames, and sets scopes or the limit; `None` leaves a field as it is.
    pub async fn update(
        &mut self,
        id: ApiKeyId,
        name: Option<String>,
        scopes: Option<Vec<String>>,
        rate_limit_per_minute: Option<Option<u32>>,
    ) -> Result<Option<ApiKeyRecord>, StoreError> {
        const UPDATE: TenantSql = tenant_sql!(
            "UPDATE api_keys
            SET name = COALESCE($3, name),
                scopes = COALESCE($4, scopes),
                rate_limit_per_minute = CASE WHEN $5 THEN $6 ELSE rate_limit_per_minute END,
                updated_at = $7
            WHERE org_id = $1 AND id = $2
            RETURNING key_hash, ",
            columns!()
        );
        let now = self.tx.now();
        let updated = self
            .tx
            .statement(UPDATE)
            .bind(id)
            .bind(name)
            .bind(scopes.map(Json))
            .bind(rate_limit_per_minute.is_some())
            .bind(rate_limit_per_minute.flatten().map(i64::from))
            .bind(now)
            .optional()
            .await?;
        Ok(self.changed(updated))
    }

    /// From the next request on the key is refused. None when there is no such key; revoking twice keeps the first time.
    pub async fn revoke(&mut self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>, StoreError> {
        const REVOKE: TenantSql = tenant_sql!(
            "UPDATE api_keys
            SET revoked_at = COALESCE(revoked_at, $3), is_active = FALSE, updated_at = $3
            WHERE org_id = $1 AND id = $2
            RETURNING key_hash, ",
            columns!()
        );
        let now = self.tx.now();
        let revoked = self.tx.statement(REVOKE).bind(id).bind(now).optional().await?;
        Ok(self.changed(revoked))
    }

    /// Lets the key expire at `at` unless it does so earlier (rotation's grace).
    pub async fn expire_at(&mut self, id: ApiKeyId, at: Timestamp) -> Result<Option<ApiKeyRecord>, StoreError> {
        const EXPIRE: TenantSql = tenant_sql!(
            "UPDATE api_keys
            SET expires_at = CASE WHEN expires_at < $3 THEN expires_at ELSE $3 END, updated_at = $4
            WHERE org_id = $1 AND id = $2
            RETURNING key_hash, ",
            columns!()
        );
        let now = self.tx.now();
        let expiring = self.tx.statement(EXPIRE).bind(id).bind(at).bind(now).optional().await?;
        Ok(self.changed(expiring))
    }

    fn changed(&mut self, key: Option<Hashed>) -> Option<ApiKeyRecord> {
        let Hashed { record, key_hash } = key?;
        self.tx.record(Change::ApiKey { org: record.org_id, hash: key_hash });
        Some(record)
    }
}
