use serde::{Deserialize, Serialize};

use sqlx::types::Json;

use super::statement::{TenantSql, tenant_sql};
use super::values::{OptionalCount, stored};
use super::{Change, StoreError, TenantScope, TenantTx};
use crate::domain::{OrgId, Timestamp, UserId, WorkspaceId};

/// What an organization pays for. The operator sets it, and the limits beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    #[default]
    Free,
    Starter,
    Pro,
    Enterprise,
}

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct OrganizationRecord {
    pub id: OrgId,
    pub name: String,
    pub slug: String,
    #[sqlx(rename = "subscription_tier", try_from = "String")]
    pub tier: Tier,
    pub is_active: bool,
    pub billing_email: Option<String>,
    #[sqlx(try_from = "OptionalCount")]
    pub max_users: Option<u32>,
    #[sqlx(try_from = "OptionalCount")]
    pub max_workspaces: Option<u32>,
    #[sqlx(try_from = "OptionalCount")]
    pub max_api_keys: Option<u32>,
    #[sqlx(try_from = "OptionalCount")]
    pub monthly_request_limit: Option<u64>,
    /// Free-form settings of the organization (`{}` by default).
    #[sqlx(json)]
    pub settings: serde_json::Value,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
}

impl OrganizationRecord {
    /// Whether what is in force can only be changed by a draft that somebody else approved.
    #[must_use]
    pub fn requires_policy_approval(&self) -> bool {
        self.settings.get("require_policy_approval").and_then(serde_json::Value::as_bool).unwrap_or(false)
    }
}

/// An organization with its first owner and first workspace, all or nothing.
#[derive(Clone, Debug)]
pub struct NewOrganization {
    pub name: String,
    pub owner_email: String,
    pub owner_full_name: String,
    pub owner_password_hash: String,
    /// Name of the first workspace: `default`.
    pub workspace_name: String,
}

/// What [`super::Store::register`] made.
#[derive(Clone, Debug)]
pub struct Registered {
    pub scope: TenantScope,
    pub org_id: OrgId,
    pub user_id: UserId,
    pub workspace_id: WorkspaceId,
}

/// `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct OrganizationPatch {
    pub name: Option<String>,
    pub billing_email: Option<Option<String>>,
    pub settings: Option<serde_json::Value>,
}

/// The organization of the transaction.
pub struct Organizations<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, name, slug, subscription_tier, is_active, billing_email, max_users, max_workspaces, max_api_keys, \
         monthly_request_limit, settings, version, created_at, updated_at, deleted_at"
    };
}
pub(super) use columns;

/// What the operator sets; `None` leaves a field as it is, `Some(None)` takes a bound away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    pub tier: Option<Tier>,
    pub max_users: Option<Option<u32>>,
    pub max_workspaces: Option<Option<u32>>,
    pub max_api_keys: Option<Option<u32>>,
    pub monthly_request_limit: Option<Option<u64>>,
}

impl Organizations<'_> {
    /// Changes the plan; running nodes enforce it from the next request on.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("organization")`.
    pub async fn set_plan(&mut self, plan: Plan) -> Result<OrganizationRecord, StoreError> {
        const SET: TenantSql = tenant_sql!(
            "UPDATE organizations
            SET subscription_tier = COALESCE($2, subscription_tier),
                max_users = CASE WHEN $3 THEN $4 ELSE max_users END,
                max_workspaces = CASE WHEN $5 THEN $6 ELSE max_workspaces END,
                max_api_keys = CASE WHEN $7 THEN $8 ELSE max_api_keys END,
                monthly_request_limit = CASE WHEN $9 THEN $10 ELSE monthly_request_limit END,
                version = version + 1,
                updated_at = $11
            WHERE id = $1
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        let set = self
            .tx
            .statement(SET)
            .bind(plan.tier.map(Tier::as_str))
            .bind(plan.max_users.is_some())
            .bind(plan.max_users.flatten().map(i64::from))
            .bind(plan.max_workspaces.is_some())
            .bind(plan.max_workspaces.flatten().map(i64::from))
            .bind(plan.max_api_keys.is_some())
            .bind(plan.max_api_keys.flatten().map(i64::from))
            .bind(plan.monthly_request_limit.is_some())
            .bind(plan.monthly_request_limit.flatten().map(stored))
            .bind(now)
            .optional()
            .await?
            .ok_or(StoreError::Missing("organization"))?;
        let org = self.tx.scope().org_id();
        self.tx.record(Change::Organization { org });
        Ok(set)
    }

    /// # Errors
    /// [`StoreError::Missing`]`("organization")`.
    pub async fn get(&mut self) -> Result<OrganizationRecord, StoreError> {
        const GET: TenantSql = tenant_sql!("SELECT ", columns!(), " FROM organizations WHERE id = $1");
        self.tx.statement(GET).optional().await?.ok_or(StoreError::Missing("organization"))
    }

    /// # Errors
    /// [`StoreError::Stale`] when `expected` is given and is not the row's version.
    pub async fn update(
        &mut self,
        patch: OrganizationPatch,
        expected: Option<i64>,
    ) -> Result<OrganizationRecord, StoreError> {
        const UPDATE: TenantSql = tenant_sql!(
            "UPDATE organizations
            SET name = COALESCE($2, name),
                billing_email = CASE WHEN $3 THEN $4 ELSE billing_email END,
                settings = COALESCE($5, settings),
                version = version + 1,
                updated_at = $6
            WHERE id = $1
                AND ($7 IS NULL OR version = $7)
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        let updated = self
            .tx
            .statement(UPDATE)
            .bind(patch.name)
            .bind(patch.billing_email.is_some())
            .bind(patch.billing_email.flatten())
            .bind(patch.settings.map(Json))
            .bind(now)
            .bind(expected)
            .optional()
            .await?;
        let Some(updated) = updated else {
            self.get().await?;
            return Err(StoreError::Stale);
        };
        let org = self.tx.scope().org_id();
        self.tx.record(Change::Organization { org });
        Ok(updated)
    }
}
