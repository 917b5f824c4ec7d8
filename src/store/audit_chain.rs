//! The chains of the audit trail: their heads, and the checkpoints that nodes sign.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::audit_logs::{Stored, audit_columns};
use super::engine::{Mode, Tx};
use super::page::END_OF_TIME;
use super::statement::{TenantSql, tenant_sql};
use super::values::{corrupt, hex};
use super::{AuditLogs, AuditRow, Store, StoreError};
use crate::domain::{AuditId, CHAIN_ORIGIN, ContentHasher, Hash, Link, OrgId, Timestamp, link};

/// The last link of a stream: what one node recorded of one organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    pub node: Arc<str>,
    pub link: Link,
    /// When the first row entered the chain.
    pub since: Timestamp,
}

/// A node's word, at a time, for how far a stream had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The nil UUID for rows without an organization.
    pub org_id: Uuid,
    pub node: Arc<str>,
    pub link: Link,
    pub signed_at: Timestamp,
    /// Ed25519, 32 bytes.
    pub public_key: Vec<u8>,
    /// 64 bytes, over [`Checkpoint::signed_bytes`].
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// What is signed: a name for the purpose, then every field with its length or at its fixed one.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"sentinel audit checkpoint 1\0".to_vec();
        bytes.extend_from_slice(self.org_id.as_bytes());
        bytes.extend_from_slice(&(self.node.len() as u64).to_be_bytes());
        bytes.extend_from_slice(self.node.as_bytes());
        bytes.extend_from_slice(&self.link.seq.to_be_bytes());
        bytes.extend_from_slice(&self.link.hash);
        bytes.extend_from_slice(&self.signed_at.micros().to_be_bytes());
        bytes
    }
}

/// Rows without an organization are a stream as well.
fn owner(row: &AuditRow) -> Uuid {
    row.event.org_id.map_or(Uuid::nil(), OrgId::uuid)
}

/// A stream as a statement is told of it.
#[derive(Serialize)]
struct Told<'r> {
    org: String,
    node: &'r str,
    seq: i64,
    hash: String,
    /// Microseconds.
    since: i64,
}

impl<'r> Told<'r> {
    fn new((org, node): &'r (Uuid, Arc<str>), stream: &Stream) -> Self {
        Told {
            org: org.simple().to_string(),
            node,
            seq: stream.link.seq,
            hash: hex(&stream.link.hash),
            since: stream.since.micros(),
        }
    }
}

/// A stream as one batch sees it.
struct Stream {
    link: Link,
    since: Timestamp,
}

type Streams = BTreeMap<(Uuid, Arc<str>), Stream>;

/// Gives every complete row its link and moves the heads, with the same few statements for any number of streams.
pub(super) async fn extend(tx: &mut Tx, rows: &[&AuditRow]) -> Result<Vec<Option<Link>>, StoreError> {
    let mut streams = Streams::new();
    for row in rows {
        if let Some(done) = &row.completion {
            let beginning = Stream { link: Link { seq: 0, hash: CHAIN_ORIGIN }, since: done.completed_at };
            streams.entry((owner(row), row.event.node.clone())).or_insert(beginning);
        }
    }
    if streams.is_empty() {
        return Ok(vec![None; rows.len()]);
    }
    if find_heads(tx, &mut streams).await? < streams.len() {
        // Begun here: another process of this node's name waits until we are done, or we for it.
        write_heads(tx, &streams, BEGIN).await?;
        find_heads(tx, &mut streams).await?;
    }
    let mut contents = ContentHasher::default();
    let mut links = Vec::with_capacity(rows.len());
    for row in rows {
        let stream = streams.get_mut(&(owner(row), row.event.node.clone()));
        links.push(row.completion.as_ref().zip(stream).map(|(done, stream)| {
            let seq = stream.link.seq + 1;
            stream.link =
                Link { seq, hash: link(&stream.link.hash, seq, &contents.hash(&row.event, done, &row.erased)) };
            stream.link
        }));
    }
    write_heads(tx, &streams, MOVE).await?;
    Ok(links)
}

/// Reads where the streams stand, and locks them until the end of the transaction. Returns how many there are.
async fn find_heads(tx: &mut Tx, streams: &mut Streams) -> Result<usize, StoreError> {
    // Locked in one order, so that two processes cannot wait for each other.
    const POSTGRES: &str = "
        SELECT c.org_id, c.node, c.seq, c.hash, c.since
        FROM audit_chains c
        JOIN jsonb_to_recordset($1) AS w(org UUID, node TEXT) ON c.org_id = w.org AND c.node = w.node
        ORDER BY c.org_id, c.node
        FOR UPDATE OF c";
    const SQLITE: &str = "
        SELECT c.org_id, c.node, c.seq, c.hash, c.since
        FROM json_each($1) w
        JOIN audit_chains c ON c.org_id = unhex(w.value ->> 'org') AND c.node = w.value ->> 'node'";
    let wanted: Vec<Told<'_>> = streams.iter().map(|(name, stream)| Told::new(name, stream)).collect();
    let found: Vec<HeadRow> = tx.statement(tx.either(POSTGRES, SQLITE)).bind(Json(wanted)).all().await?;
    let count = found.len();
    for row in found {
        let org = row.org_id;
        let head = row.head()?;
        streams.insert((org, head.node), Stream { link: head.link, since: head.since });
    }
    Ok(count)
}

/// For PostgreSQL and for SQLite.
type Texts = (&'static str, &'static str);

macro_rules! write_heads {
    ($conflict:literal) => {
        (
            concat!(
                "INSERT INTO audit_chains (org_id, node, seq, hash, since)
                SELECT org, node, seq, decode(hash, 'hex'), TIMESTAMPTZ 'epoch' + since * INTERVAL '1 microsecond'
                FROM jsonb_to_recordset($1) AS m(org UUID, node TEXT, seq BIGINT, hash TEXT, since BIGINT)
                ORDER BY org, node
                ON CONFLICT (org_id, node) DO ",
                $conflict
            ),
            concat!(
                "INSERT INTO audit_chains (org_id, node, seq, hash, since)
                SELECT unhex(value ->> 'org'), value ->> 'node', value ->> 'seq', unhex(value ->> 'hash'),
                    value ->> 'since'
                FROM json_each($1)
                WHERE true
                ON CONFLICT (org_id, node) DO ",
                $conflict
            ),
        )
    };
}

const BEGIN: Texts = write_heads!("NOTHING");
const MOVE: Texts = write_heads!("UPDATE SET seq = excluded.seq, hash = excluded.hash");

async fn write_heads(tx: &mut Tx, streams: &Streams, (postgres, sqlite): Texts) -> Result<(), StoreError> {
    let told: Vec<Told<'_>> = streams.iter().map(|(name, stream)| Told::new(name, stream)).collect();
    tx.statement(tx.either(postgres, sqlite)).bind(Json(told)).execute().await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    org_id: Uuid,
    node: String,
    seq: i64,
    hash: Vec<u8>,
    since: Timestamp,
}

impl HeadRow {
    fn head(self) -> Result<ChainHead, StoreError> {
        let link = Link { seq: self.seq, hash: hash(self.hash)? };
        Ok(ChainHead { node: self.node.into(), link, since: self.since })
    }
}

pub(super) fn hash(bytes: Vec<u8>) -> Result<Hash, StoreError> {
    bytes.try_into().map_err(|_| corrupt("audit_chains", "hash", "not 32 bytes"))
}

#[derive(sqlx::FromRow)]
struct CheckpointRow {
    org_id: Uuid,
    node: String,
    seq: i64,
    hash: Vec<u8>,
    signed_at: Timestamp,
    public_key: Vec<u8>,
    signature: Vec<u8>,
}

impl CheckpointRow {
    fn checkpoint(self) -> Result<Checkpoint, StoreError> {
        Ok(Checkpoint {
            org_id: self.org_id,
            node: self.node.into(),
            link: Link { seq: self.seq, hash: hash(self.hash)? },
            signed_at: self.signed_at,
            public_key: self.public_key,
            signature: self.signature,
        })
    }
}

impl AuditLogs<'_> {
    /// How far the organization's streams have come, by node.
    pub async fn chain_heads(&mut self) -> Result<Vec<ChainHead>, StoreError> {
        const HEADS: TenantSql =
            tenant_sql!("SELECT org_id, node, seq, hash, since FROM audit_chains WHERE org_id = $1 ORDER BY node");
        let rows: Vec<HeadRow> = self.tx.statement(HEADS).all().await?;
        rows.into_iter().map(HeadRow::head).collect()
    }

    /// Oldest first.
    pub async fn checkpoints(&mut self) -> Result<Vec<Checkpoint>, StoreError> {
        const CHECKPOINTS: TenantSql = tenant_sql!(
            "SELECT org_id, node, seq, hash, signed_at, public_key, signature
            FROM audit_checkpoints
            WHERE org_id = $1
            ORDER BY node, seq"
        );
        let rows: Vec<CheckpointRow> = self.tx.statement(CHECKPOINTS).all().await?;
        rows.into_iter().map(CheckpointRow::checkpoint).collect()
    }

    /// Rows in the order of time, beginning after `after`; at most `limit`.
    pub async fn in_order(
        &mut self,
        after: Option<(Timestamp, AuditId)>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        const ROWS: TenantSql = tenant_sql!(
            "SELECT ",
            audit_columns!(),
            " FROM audit_logs
            WHERE org_id = $1 AND (occurred_at, id) > ($2, $3)
            ORDER BY occurred_at, id
            LIMIT $4"
        );
        let (time, id) = after.map_or((Timestamp::from_micros(i64::MIN / 4), Uuid::nil()), |(at, id)| (at, id.uuid()));
        let time = time.clamp(Timestamp::from_micros(0), END_OF_TIME);
        let stored: Vec<Stored> = self.tx.statement(ROWS).bind(time).bind(id).bind(limit).all().await?;
        stored.into_iter().map(Stored::row).collect()
    }
}

impl Store {
    /// The streams of `node` that have moved since their last checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn chains_without_checkpoint(&self, node: &str) -> Result<Vec<(Uuid, ChainHead)>, StoreError> {
        const MOVED: &str = "
            SELECT c.org_id, c.node, c.seq, c.hash, c.since
            FROM audit_chains c
            WHERE c.node = $1
                AND NOT EXISTS (
                    SELECT 1 FROM audit_checkpoints p WHERE p.org_id = c.org_id AND p.node = c.node AND p.seq = c.seq
                )
            LIMIT 10000";
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let rows: Vec<HeadRow> = tx.statement(MOVED).bind(node).all().await?;
        tx.commit().await?;
        rows.into_iter().map(|row| Ok((row.org_id, row.head()?))).collect()
    }

    /// # Errors
    /// [`StoreError::Unavailable`]: some may be written.
    pub async fn write_checkpoints(&self, checkpoints: &[Checkpoint]) -> Result<(), StoreError> {
        const WRITE: &str = "
            INSERT INTO audit_checkpoints (org_id, node, seq, hash, signed_at, public_key, signature)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (org_id, node, seq) DO NOTHING";
        for some in checkpoints.chunks(500) {
            let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
            for point in some {
                tx.statement(WRITE)
                    .bind(point.org_id)
                    .bind(&*point.node)
                    .bind(point.link.seq)
                    .bind(point.link.hash.as_slice())
                    .bind(point.signed_at)
                    .bind(point.public_key.as_slice())
                    .bind(point.signature.as_slice())
                    .execute()
                    .await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }
}
