//! The ends of audit rows: removed by their age, with a signed record of what is gone, or without the names of end users.

use std::sync::Arc;

use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::audit_chain::hash;
use super::audit_terms;
use super::statement::{TenantSql, tenant_sql};
use super::values::{Count, hex};
use super::{AuditLogs, AuditRow, StoreError};
use crate::domain::{AuditId, Hash, Link, Timestamp};

/// What legal holds forbid.
pub const LEGAL_HOLD: StoreError = StoreError::Conflict("legal hold");

/// A node's word for the part of a stream that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    pub org_id: Uuid,
    /// Whose stream it is.
    pub node: Arc<str>,
    pub from_seq: i64,
    /// The last row that was removed.
    pub link: Link,
    /// Rows that had occurred before this were to go.
    pub before: Timestamp,
    pub retention_days: u32,
    pub removed_at: Timestamp,
    /// Ed25519, 32 bytes, of the node that removed them.
    pub public_key: Vec<u8>,
    /// 64 bytes, over [`Removal::signed_bytes`].
    pub signature: Vec<u8>,
}

impl Removal {
    /// What is signed: a name for the purpose, then every field with its length or at its fixed one.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"sentinel audit removal 1\0".to_vec();
        bytes.extend_from_slice(self.org_id.as_bytes());
        bytes.extend_from_slice(&(self.node.len() as u64).to_be_bytes());
        bytes.extend_from_slice(self.node.as_bytes());
        bytes.extend_from_slice(&self.from_seq.to_be_bytes());
        bytes.extend_from_slice(&self.link.seq.to_be_bytes());
        bytes.extend_from_slice(&self.link.hash);
        bytes.extend_from_slice(&self.before.micros().to_be_bytes());
        bytes.extend_from_slice(&self.retention_days.to_be_bytes());
        bytes.extend_from_slice(&self.removed_at.micros().to_be_bytes());
        bytes
    }
}

#[derive(sqlx::FromRow)]
struct RemovalRow {
    org_id: Uuid,
    node: String,
    from_seq: i64,
    seq: i64,
    hash: Vec<u8>,
    before: Timestamp,
    #[sqlx(try_from = "Count")]
    retention_days: u32,
    removed_at: Timestamp,
    public_key: Vec<u8>,
    signature: Vec<u8>,
}

/// A row as it is before it is erased.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PersonalRow {
    pub id: AuditId,
    pub occurred_at: Timestamp,
    pub user_id: Option<String>,
    pub client_ip: Option<String>,
}

/// What a row keeps of what is erased from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedRow {
    pub id: AuditId,
    pub user_id: Option<Hash>,
    pub client_ip: Option<Hash>,
}

#[derive(Serialize)]
struct Told {
    id: String,
    user_id: Option<String>,
    client_ip: Option<String>,
}

fn digits(id: AuditId) -> String {
    id.uuid().simple().to_string()
}

impl AuditLogs<'_> {
    /// What was removed, by node, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn removals(&mut self) -> Result<Vec<Removal>, StoreError> {
        const REMOVALS: TenantSql = tenant_sql!(
            "SELECT org_id, node, from_seq, seq, hash, before, retention_days, removed_at, public_key, signature
            FROM audit_removals
            WHERE org_id = $1
            ORDER BY node, from_seq"
        );
        let rows: Vec<RemovalRow> = self.tx.statement(REMOVALS).all().await?;
        let removal = |row: RemovalRow| {
            Ok(Removal {
                org_id: row.org_id,
                node: row.node.into(),
                from_seq: row.from_seq,
                link: Link { seq: row.seq, hash: hash(row.hash)? },
                before: row.before,
                retention_days: row.retention_days,
                removed_at: row.removed_at,
                public_key: row.public_key,
                signature: row.signature,
            })
        };
        rows.into_iter().map(removal).collect()
    }

    /// Removes rows that occurred before `before`, all or none, with their reviews, and records what is gone of the streams.
    /// False when others are about it, and nothing may be committed.
    ///
    /// # Errors
    /// [`LEGAL_HOLD`].
    pub async fn remove(
        &mut self,
        rows: &[AuditRow],
        before: Timestamp,
        removals: &[Removal],
    ) -> Result<bool, StoreError> {
        const COMMENTS: (TenantSql, TenantSql) = (
            tenant_sql!(
                "DELETE FROM audit_review_comments WHERE org_id = $1
                    AND audit_id IN (SELECT CAST(w AS UUID) FROM jsonb_array_elements_text($2) w)"
            ),
            tenant_sql!(
                "DELETE FROM audit_review_comments WHERE org_id = $1
                    AND audit_id IN (SELECT unhex(value) FROM json_each($2))"
            ),
        );
        const REVIEWS: (TenantSql, TenantSql) = (
            tenant_sql!(
                "DELETE FROM audit_reviews WHERE org_id = $1
                    AND audit_id IN (SELECT CAST(w AS UUID) FROM jsonb_array_elements_text($2) w)"
            ),
            tenant_sql!(
                "DELETE FROM audit_reviews WHERE org_id = $1 AND audit_id IN (SELECT unhex(value) FROM json_each($2))"
            ),
        );
        const REMOVE: &str = "SELECT sentinel_remove_audit($1, $2)";
        const REMOVE_ON_SQLITE: TenantSql = tenant_sql!(
            "DELETE FROM audit_logs
            WHERE org_id = $1 AND id IN (SELECT unhex(value) FROM json_each($2)) AND occurred_at < $3"
        );
        const RECORD: TenantSql = tenant_sql!(
            "INSERT INTO audit_removals (org_id, node, from_seq, seq, hash, before, retention_days, removed_at,
                public_key, signature)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        );
        self.tx.serialize().await?;
        self.refuse_on_hold().await?;
        let ids: Vec<String> = rows.iter().map(|row| digits(row.event.id)).collect();
        for (postgres, sqlite) in [COMMENTS, REVIEWS] {
            let text = self.tx.tx.either(postgres, sqlite);
            self.tx.statement(text).bind(Json(&ids)).execute().await?;
        }
        audit_terms::remove(&mut self.tx.tx, &rows.iter().collect::<Vec<_>>()).await?;
        let removed = if self.tx.tx.either(true, false) {
            let (removed,): (i64,) = self.tx.tx.statement(REMOVE).bind(Json(&ids)).bind(before).one().await?;
            u64::try_from(removed).unwrap_or(0)
        } else {
            self.tx.statement(REMOVE_ON_SQLITE).bind(Json(&ids)).bind(before).execute().await?
        };
        if removed < rows.len() as u64 {
            return Ok(false);
        }
        for removal in removals {
            self.tx
                .statement(RECORD)
                .bind(&*removal.node)
                .bind(removal.from_seq)
                .bind(removal.link.seq)
                .bind(removal.link.hash.as_slice())
                .bind(removal.before)
                .bind(i64::from(removal.retention_days))
                .bind(removal.removed_at)
                .bind(removal.public_key.as_slice())
                .bind(removal.signature.as_slice())
                .execute()
                .await?;
        }
        Ok(true)
    }

    /// Rows that name an end user, this one or any, after a place in the order of time.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn personal(
        &mut self,
        user_id: Option<&str>,
        after: Option<(Timestamp, AuditId)>,
        limit: i64,
    ) -> Result<Vec<PersonalRow>, StoreError> {
        macro_rules! of_one {
            ($index:literal) => {
                tenant_sql!(
                    "SELECT id, occurred_at, user_id, client_ip FROM audit_logs",
                    $index,
                    " WHERE org_id = $1 AND (occurred_at, id) > ($2, $3) AND user_id = $5
                    ORDER BY occurred_at, id
                    LIMIT $4"
                )
            };
        }
        const OF_ALL: TenantSql = tenant_sql!(
            "SELECT id, occurred_at, user_id, client_ip FROM audit_logs
            WHERE org_id = $1 AND (occurred_at, id) > ($2, $3) AND (user_id IS NOT NULL OR client_ip IS NOT NULL)
            ORDER BY occurred_at, id
            LIMIT $4"
        );
        let (at, id) = after.map_or((Timestamp::from_micros(0), Uuid::nil()), |(at, id)| (at, id.uuid()));
        let of_one = self.tx.tx.either(of_one!(""), of_one!(" INDEXED BY audit_logs_user"));
        let text = if user_id.is_some() { of_one } else { OF_ALL };
        let rows = self.tx.statement(text).planned_for_its_arguments().bind(at).bind(id).bind(limit);
        Ok(match user_id {
            Some(user) => rows.bind(user).all().await?,
            None => rows.all().await?,
        })
    }

    /// Puts hashes in the place of what is erased. Returns how many rows it touched.
    ///
    /// # Errors
    /// [`LEGAL_HOLD`].
    pub async fn erase(&mut self, rows: &[ErasedRow]) -> Result<u64, StoreError> {
        const ERASE: &str = "SELECT sentinel_erase_audit($1)";
        const ERASE_ON_SQLITE: TenantSql = tenant_sql!(
            "UPDATE audit_logs SET
                user_id = NULL,
                client_ip = NULL,
                user_id_hash = COALESCE(audit_logs.user_id_hash, unhex(e.value ->> 'user_id')),
                client_ip_hash = COALESCE(audit_logs.client_ip_hash, unhex(e.value ->> 'client_ip'))
            FROM json_each($2) e
            WHERE audit_logs.org_id = $1 AND audit_logs.id = unhex(e.value ->> 'id')"
        );
        self.refuse_on_hold().await?;
        let told = rows.iter().map(|row| Told {
            id: digits(row.id),
            user_id: row.user_id.map(|hash| hex(&hash)),
            client_ip: row.client_ip.map(|hash| hex(&hash)),
        });
        let told: Vec<Told> = told.collect();
        if self.tx.tx.either(true, false) {
            let (erased,): (i64,) = self.tx.tx.statement(ERASE).bind(Json(told)).one().await?;
            return Ok(u64::try_from(erased).unwrap_or(0));
        }
        Ok(self.tx.statement(ERASE_ON_SQLITE).bind(Json(told)).execute().await?)
    }

    async fn refuse_on_hold(&mut self) -> Result<(), StoreError> {
        if self.tx.audit_settings().get().await?.legal_hold { Err(LEGAL_HOLD) } else { Ok(()) }
    }
}
