//! Sets of exact data: fingerprints of values, in parts; the values themselves are not here.

use sqlx::types::uuid::Uuid;

use super::statement::{TenantSql, tenant_sql};
use super::values::{corrupt, stored};
use super::{Change, Page, PageRequest, StoreError, TenantTx};
use crate::domain::{DataSetId, Timestamp};

/// Bytes of fingerprints in one row.
const PART: usize = 12 * 8192;

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DataSetRecord {
    pub id: DataSetId,
    pub name: String,
    pub value_count: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A set with its content.
#[derive(Clone)]
pub struct StoredDataSet {
    /// The key of the fingerprints.
    pub salt: [u8; 16],
    /// A bit for every length of a value's form.
    pub lengths: u128,
    /// 12 bytes for each value.
    pub fingerprints: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct Head {
    salt: Vec<u8>,
    lengths: Vec<u8>,
}

/// The organization's sets of exact data.
pub struct DataSets<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, name, value_count, created_at, updated_at"
    };
}

impl DataSets<'_> {
    /// The newest first.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("cursor")`.
    pub async fn page(&mut self, page: &PageRequest) -> Result<Page<DataSetRecord>, StoreError> {
        const PAGE: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM data_sets WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        );
        let rows = self.tx.statement(PAGE).bind(page.start::<Uuid>()?).bind(page.rows()).all().await?;
        Ok(page.page(rows, |set: &DataSetRecord| set.id.uuid()))
    }

    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn find(&mut self, id: DataSetId) -> Result<Option<DataSetRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!("SELECT ", columns!(), " FROM data_sets WHERE org_id = $1 AND id = $2");
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// All sets, by name; an organization has few.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(&mut self) -> Result<Vec<DataSetRecord>, StoreError> {
        const LIST: TenantSql = tenant_sql!("SELECT ", columns!(), " FROM data_sets WHERE org_id = $1 ORDER BY name");
        Ok(self.tx.statement(LIST).all().await?)
    }

    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn load(&mut self, name: &str) -> Result<Option<StoredDataSet>, StoreError> {
        const HEAD: TenantSql = tenant_sql!("SELECT salt, lengths FROM data_sets WHERE org_id = $1 AND name = $2");
        const PARTS: TenantSql =
            tenant_sql!("SELECT fingerprints FROM data_set_parts WHERE org_id = $1 AND name = $2 ORDER BY part");
        let head: Option<Head> = self.tx.statement(HEAD).bind(name).optional().await?;
        let Some(Head { salt, lengths }) = head else { return Ok(None) };
        let parts: Vec<(Vec<u8>,)> = self.tx.statement(PARTS).bind(name).all().await?;
        let damaged = |column| corrupt("data_sets", column, "not 16 bytes");
        Ok(Some(StoredDataSet {
            salt: salt.try_into().map_err(|_| damaged("salt"))?,
            lengths: u128::from_le_bytes(lengths.try_into().map_err(|_| damaged("lengths"))?),
            fingerprints: parts.into_iter().flat_map(|(part,)| part).collect(),
        }))
    }

    /// Puts a set in the place of the one with that name, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn replace(
        &mut self,
        name: &str,
        set: &StoredDataSet,
        values: usize,
    ) -> Result<DataSetRecord, StoreError> {
        const PUT: TenantSql = tenant_sql!(
            "INSERT INTO data_sets (org_id, name, salt, lengths, value_count, created_at, updated_at, id)
            VALUES ($1, $2, $3, $4, $5, $6, $6, $7)
            ON CONFLICT (org_id, name) DO UPDATE SET salt = $3, lengths = $4, value_count = $5, updated_at = $6
            RETURNING ",
            columns!()
        );
        const PART_IN: TenantSql =
            tenant_sql!("INSERT INTO data_set_parts (org_id, name, part, fingerprints) VALUES ($1, $2, $3, $4)");
        let (scope, now) = (self.tx.scope(), self.tx.now());
        self.tx.serialize().await?;
        self.clear(name).await?;
        let put = self.tx.statement(PUT).bind(name).bind(&set.salt[..]).bind(set.lengths.to_le_bytes().to_vec());
        let record: DataSetRecord = put.bind(stored(values)).bind(now).bind(DataSetId::new()).one().await?;
        for (number, part) in (0_i64..).zip(set.fingerprints.chunks(PART)) {
            self.tx.statement(PART_IN).bind(name).bind(number).bind(part).execute().await?;
        }
        self.tx.record(Change::DataSet { org: scope.org_id() });
        Ok(record)
    }

    /// False when there is no such set.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn remove(&mut self, name: &str) -> Result<bool, StoreError> {
        const REMOVE: TenantSql = tenant_sql!("DELETE FROM data_sets WHERE org_id = $1 AND name = $2");
        let scope = self.tx.scope();
        self.clear(name).await?;
        let removed = self.tx.statement(REMOVE).bind(name).execute().await? > 0;
        if removed {
            self.tx.record(Change::DataSet { org: scope.org_id() });
        }
        Ok(removed)
    }

    async fn clear(&mut self, name: &str) -> Result<(), StoreError> {
        const CLEAR: TenantSql = tenant_sql!("DELETE FROM data_set_parts WHERE org_id = $1 AND name = $2");
        self.tx.statement(CLEAR).bind(name).execute().await?;
        Ok(())
    }
}
