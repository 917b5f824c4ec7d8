//! Saved filters: the query parameters of a list under a name, of one person or shared with the organization.

use serde_json::Value as JsonValue;
use sqlx::types::Json;

use super::error::taken;
use super::sort::{Value, sorted};
use super::statement::{TenantSql, tenant_sql};
use super::{Page, PageRequest, SavedFilterColumn, Sort, StoreError, TenantTx};
use crate::domain::{SavedFilterId, Timestamp, UserId};

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct SavedFilterRecord {
    pub id: SavedFilterId,
    /// Who made it.
    pub user_id: UserId,
    /// The list that it is for.
    pub resource: String,
    pub name: String,
    /// The list's query parameters.
    #[sqlx(json)]
    pub filter: JsonValue,
    pub is_shared: bool,
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewSavedFilter {
    pub id: SavedFilterId,
    pub user_id: UserId,
    pub resource: String,
    pub name: String,
    pub filter: JsonValue,
    pub is_shared: bool,
}

/// `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct SavedFilterPatch {
    pub name: Option<String>,
    pub filter: Option<JsonValue>,
    pub is_shared: Option<bool>,
}

/// The saved filters of the organization.
pub struct SavedFilters<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, user_id, resource, name, filter, is_shared, version, created_at, updated_at"
    };
}
pub(super) use columns;

const TAKEN: &str = "name of a saved filter";

impl SavedFilters<'_> {
    /// # Errors
    /// [`StoreError::Conflict`] when the person has one of that name for the list.
    pub async fn insert(&mut self, filter: NewSavedFilter) -> Result<SavedFilterRecord, StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO saved_filters (org_id, id, user_id, resource, name, filter, is_shared, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        self.tx
            .statement(INSERT)
            .bind(filter.id)
            .bind(filter.user_id)
            .bind(filter.resource)
            .bind(filter.name)
            .bind(Json(filter.filter))
            .bind(filter.is_shared)
            .bind(now)
            .one()
            .await
            .map_err(taken(TAKEN))
    }

    /// One that `person` made or that is shared.
    pub async fn find(&mut self, id: SavedFilterId, person: UserId) -> Result<Option<SavedFilterRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM saved_filters WHERE org_id = $1 AND id = $2 AND (user_id = $3 OR is_shared)"
        );
        Ok(self.tx.statement(FIND).bind(id).bind(person).optional().await?)
    }

    /// Those that `person` made or that are shared, for one of `resources`.
    pub async fn list(
        &mut self,
        person: UserId,
        resources: [Option<&str>; 2],
        sort: Sort<SavedFilterColumn>,
        page: &PageRequest,
    ) -> Result<Page<SavedFilterRecord>, StoreError> {
        macro_rules! by {
            ($column:literal) => {
                sorted!(
                    (
                        "SELECT ",
                        columns!(),
                        " FROM saved_filters
                        WHERE org_id = $1 AND (user_id = $5 OR is_shared) AND (resource = $6 OR resource = $7)"
                    ),
                    $column,
                    "id"
                )
            };
        }
        let both = match sort.by {
            SavedFilterColumn::CreatedAt => by!("created_at"),
            SavedFilterColumn::Name => by!("name"),
        };
        let [first, second] = resources;
        let start = sort.start(page)?;
        let statement = start.bind(self.tx.statement(sort.of(both))).bind(page.rows());
        let rows = statement.bind(person).bind(first).bind(second).all().await?;
        Ok(sort.page(page, rows, |filter: &SavedFilterRecord| {
            let value = match sort.by {
                SavedFilterColumn::CreatedAt => Value::Time(filter.created_at),
                SavedFilterColumn::Name => Value::Text(filter.name.clone()),
            };
            (value, filter.id.uuid())
        }))
    }

    /// # Errors
    /// [`StoreError::Stale`] when `expected` is not the row's version; [`StoreError::Conflict`] when its maker has another
    /// of that name for the list.
    pub async fn update(
        &mut self,
        id: SavedFilterId,
        expected: i64,
        patch: SavedFilterPatch,
    ) -> Result<SavedFilterRecord, StoreError> {
        const UPDATE: TenantSql = tenant_sql!(
            "UPDATE saved_filters
            SET name = COALESCE($4, name),
                filter = COALESCE($5, filter),
                is_shared = COALESCE($6, is_shared),
                version = version + 1,
                updated_at = $7
            WHERE org_id = $1 AND id = $2 AND version = $3
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        let updated = self
            .tx
            .statement(UPDATE)
            .bind(id)
            .bind(expected)
            .bind(patch.name)
            .bind(patch.filter.map(Json))
            .bind(patch.is_shared)
            .bind(now)
            .optional()
            .await
            .map_err(taken(TAKEN))?;
        updated.ok_or(StoreError::Stale)
    }

    /// False when there is none.
    pub async fn remove(&mut self, id: SavedFilterId) -> Result<bool, StoreError> {
        const REMOVE: TenantSql = tenant_sql!("DELETE FROM saved_filters WHERE org_id = $1 AND id = $2");
        Ok(self.tx.statement(REMOVE).bind(id).execute().await? == 1)
    }
}
