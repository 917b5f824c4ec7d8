//! Checks the chains of an organization: every row as it stands in the database against the hashes, and the hashes against
//! what nodes have signed.
//!
//! Rows are read in the order of time, which is nearly that of the chain: few wait for the one before them. Contents are
//! hashed as they come, so memory does not grow with the trail.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::signer::{is_removal_signed, is_signed};
use crate::domain::{AuditId, CHAIN_ORIGIN, ContentHasher, Hash, Link, Timestamp, link};
use crate::store::{AuditRow, ChainHead, Checkpoint, Removal, Store, StoreError, TenantScope};

/// Rows of one page.
const PAGE: i64 = 2_000;
/// Rows of one stream that wait for one before them; with more, what is missing is given up.
const WAITING: usize = 200_000;
/// Faults that are listed; all are counted.
const LISTED: usize = 1_000;

/// What is wrong with a row or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChainFaultKind {
    /// The row does not hash to what the chain says: a field, its place, its node or the row before it was changed.
    Altered,
    /// Rows of the chain are not there.
    Missing,
    /// Two rows claim one place.
    Repeated,
    /// A complete row has no place in a chain, although its node had one when the row was made.
    Inserted,
    /// The stream is not there, or shorter than a node has signed.
    Truncated,
    /// The chain holds another hash than a node has signed.
    Rewritten,
    /// A checkpoint's signature is wrong, or by a key that is not trusted.
    BadSignature,
}

/// One fault, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ChainFault {
    pub kind: ChainFaultKind,
    pub node: String,
    /// The place in the stream, from 1; the first of those that are missing.
    pub seq: Option<i64>,
    /// The last of those that are missing; of a stream that is shorter than was signed, the last that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_seq: Option<i64>,
    #[schema(value_type = Option<uuid::Uuid>)]
    pub id: Option<AuditId>,
}

/// One stream: what a node recorded of the organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ChainStream {
    pub node: String,
    /// How far it goes.
    pub seq: i64,
    /// SHA-256 in hexadecimal digits.
    pub hash: String,
    /// The greatest place that the node has signed.
    pub signed_seq: Option<i64>,
}

/// A part of a stream that was removed by its age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ChainRemoval {
    pub node: String,
    pub from_seq: i64,
    pub to_seq: i64,
    /// Requests that had occurred before this were to go.
    pub before: Timestamp,
    pub retention_days: u32,
    pub removed_at: Timestamp,
}

/// What came of checking an organization's audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ChainReport {
    /// Nothing is wrong.
    pub intact: bool,
    /// Rows that were checked.
    pub checked: u64,
    /// Rows that are not in a chain yet: requests under way, and those that were complete after the check had begun.
    pub open: u64,
    /// Rows of releases that had no chain.
    pub before_chain: u64,
    pub checkpoints: u64,
    /// Rows that were removed by their age: signed records say so.
    pub removed: u64,
    /// Those records; neighbours of one act are one, and the first 1,000 are listed.
    pub removals: Vec<ChainRemoval>,
    /// Rows from which an end user was erased.
    pub erased: u64,
    pub streams: Vec<ChainStream>,
    /// How many there are; the first 1,000 are listed.
    pub fault_count: u64,
    pub faults: Vec<ChainFault>,
}

/// What a check trusts besides the database.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// Checkpoints that were kept elsewhere.
    pub checkpoints: Vec<Checkpoint>,
    /// Ed25519 public keys; empty: every key that has signed.
    pub keys: Vec<Vec<u8>>,
}

/// Checks the organization of `scope`. Rows may be written and removed meanwhile.
///
/// # Errors
/// [`StoreError::Unavailable`], [`StoreError::Corrupt`]: a row that cannot be read.
pub async fn verify(store: &Store, scope: TenantScope, trusted: &Trusted) -> Result<ChainReport, StoreError> {
    loop {
        let removals = store.read(scope).await?.audit_logs().removals().await?;
        let report = verify_after(store, scope, trusted, removals.clone()).await?;
        // What was removed while we read was missing.
        if report.intact || store.read(scope).await?.audit_logs().removals().await? == removals {
            return Ok(report);
        }
    }
}

async fn verify_after(
    store: &Store,
    scope: TenantScope,
    trusted: &Trusted,
    removals: Vec<Removal>,
) -> Result<ChainReport, StoreError> {
    let mut tx = store.read(scope).await?;
    let heads = tx.audit_logs().chain_heads().await?;
    let mut checkpoints = tx.audit_logs().checkpoints().await?;
    drop(tx);
    checkpoints.extend(trusted.checkpoints.iter().filter(|point| point.org_id == scope.org_id().uuid()).cloned());
    let mut check = Check::new(heads, checkpoints, removals, &trusted.keys);
    let mut after = None;
    loop {
        let rows = store.read(scope).await?.audit_logs().in_order(after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = Some((last.event.occurred_at, last.event.id));
        // Hashing a page takes milliseconds: not on a thread that serves others.
        check = tokio::task::spawn_blocking(move || {
            rows.iter().for_each(|row| check.row(row));
            check
        })
        .await
        .map_err(|error| StoreError::Database(error.to_string()))?;
    }
    Ok(check.finish())
}

/// A row that waits for the one before it.
struct Waiting {
    id: AuditId,
    content: Hash,
    hash: Hash,
}

struct Stream {
    head: Option<ChainHead>,
    /// The link that was checked last.
    at: Link,
    waiting: BTreeMap<i64, Waiting>,
    /// By place; a node's word for what the hash is there.
    signed: BTreeMap<i64, Hash>,
}

struct Check {
    streams: HashMap<Arc<str>, Stream>,
    hasher: ContentHasher,
    report: ChainReport,
}

impl Check {
    fn new(heads: Vec<ChainHead>, checkpoints: Vec<Checkpoint>, removals: Vec<Removal>, keys: &[Vec<u8>]) -> Self {
        let mut check =
            Self { streams: HashMap::new(), hasher: ContentHasher::default(), report: ChainReport::default() };
        for head in heads {
            let node = head.node.clone();
            check.stream(&node).head = Some(head);
        }
        for point in checkpoints {
            check.report.checkpoints += 1;
            if !is_signed(&point) || !(keys.is_empty() || keys.contains(&point.public_key)) {
                check.fault(ChainFaultKind::BadSignature, &point.node, Some(point.link.seq), None);
                continue;
            }
            let known = check.stream(&point.node).signed.insert(point.link.seq, point.link.hash);
            if known.is_some_and(|hash| hash != point.link.hash) {
                check.fault(ChainFaultKind::Rewritten, &point.node, Some(point.link.seq), None);
            }
        }
        for removal in removals {
            let trusted = keys.is_empty() || keys.contains(&removal.public_key);
            if is_removal_signed(&removal) && trusted {
                check.removed(removal);
            } else {
                check.fault(ChainFaultKind::BadSignature, &removal.node, Some(removal.from_seq), None);
            }
        }
        check
    }

    /// Begins the stream behind what was removed of it.
    fn removed(&mut self, removal: Removal) {
        let stream = self.stream(&removal.node);
        let (next, link) = (stream.at.seq + 1, removal.link);
        let rewritten = stream.signed.get(&link.seq).is_some_and(|signed| *signed != link.hash);
        stream.at = link;
        if rewritten {
            self.fault(ChainFaultKind::Rewritten, &removal.node, Some(link.seq), None);
        }
        if removal.from_seq != next || link.seq < removal.from_seq {
            self.fault(ChainFaultKind::Missing, &removal.node, Some(next), None);
        }
        self.report.removed += u64::try_from(link.seq - removal.from_seq + 1).unwrap_or(0);
        let said = ChainRemoval {
            node: removal.node.to_string(),
            from_seq: removal.from_seq,
            to_seq: link.seq,
            before: removal.before,
            retention_days: removal.retention_days,
            removed_at: removal.removed_at,
        };
        let room = self.report.removals.len() < LISTED;
        match self.report.removals.last_mut() {
            Some(last) if last.node == said.node && last.removed_at == said.removed_at => last.to_seq = said.to_seq,
            _ if room => self.report.removals.push(said),
            _ => {}
        }
    }

    fn stream(&mut self, node: &Arc<str>) -> &mut Stream {
        self.streams.entry(node.clone()).or_insert_with(|| Stream {
            head: None,
            at: Link { seq: 0, hash: CHAIN_ORIGIN },
            waiting: BTreeMap::new(),
            signed: BTreeMap::new(),
        })
    }

    fn fault(&mut self, kind: ChainFaultKind, node: &str, seq: Option<i64>, id: Option<AuditId>) {
        self.add(ChainFault { kind, node: node.to_owned(), seq, to_seq: None, id });
    }

    fn add(&mut self, fault: ChainFault) {
        self.report.fault_count += 1;
        if self.report.faults.len() < LISTED {
            self.report.faults.push(fault);
        }
    }

    fn row(&mut self, row: &AuditRow) {
        let node = &row.event.node;
        let id = row.event.id;
        let Some(done) = &row.completion else {
            if row.link.is_some() {
                self.fault(ChainFaultKind::Altered, node, row.link.map(|link| link.seq), Some(id));
            }
            self.report.open += 1;
            return;
        };
        let head = self.streams.get(node).and_then(|stream| stream.head.clone());
        let Some(place) = row.link else {
            match head {
                Some(head) if done.completed_at >= head.since => {
                    self.fault(ChainFaultKind::Inserted, node, None, Some(id));
                }
                _ => self.report.before_chain += 1,
            }
            return;
        };
        if head.as_ref().is_some_and(|head| place.seq > head.link.seq) {
            self.report.open += 1;
            return;
        }
        self.report.checked += 1;
        self.report.erased += u64::from(row.erased.is_anything());
        let content = self.hasher.hash(&row.event, done, &row.erased);
        let stream = self.stream(node);
        if place.seq <= stream.at.seq || stream.waiting.contains_key(&place.seq) {
            return self.fault(ChainFaultKind::Repeated, node, Some(place.seq), Some(id));
        }
        stream.waiting.insert(place.seq, Waiting { id, content, hash: place.hash });
        self.advance(node);
        while self.streams.get(node).is_some_and(|stream| stream.waiting.len() > WAITING) {
            self.skip(node);
            self.advance(node);
        }
    }

    /// Goes as far along the stream as rows are there.
    fn advance(&mut self, node: &Arc<str>) {
        let mut faults = Vec::new();
        let stream = self.stream(node);
        while let Some(row) = stream.waiting.remove(&(stream.at.seq + 1)) {
            let seq = stream.at.seq + 1;
            if link(&stream.at.hash, seq, &row.content) != row.hash {
                faults.push((ChainFaultKind::Altered, seq, row.id));
            }
            if stream.signed.get(&seq).is_some_and(|signed| *signed != row.hash) {
                faults.push((ChainFaultKind::Rewritten, seq, row.id));
            }
            // Further rows are checked against what stands there, so that one change is one fault.
            stream.at = Link { seq, hash: row.hash };
        }
        for (kind, seq, id) in faults {
            self.fault(kind, node, Some(seq), Some(id));
        }
    }

    /// Gives up what is missing before the next row that is there. That row's link cannot be checked, its own hash is taken.
    fn skip(&mut self, node: &Arc<str>) {
        let stream = self.stream(node);
        let Some((next, row)) = stream.waiting.pop_first() else { return };
        let first = stream.at.seq + 1;
        let rewritten = stream.signed.get(&next).is_some_and(|signed| *signed != row.hash);
        stream.at = Link { seq: next, hash: row.hash };
        let node = node.to_string();
        if rewritten {
            self.fault(ChainFaultKind::Rewritten, &node, Some(next), Some(row.id));
        }
        self.add(ChainFault {
            kind: ChainFaultKind::Missing,
            node,
            seq: Some(first),
            to_seq: Some(next - 1),
            id: None,
        });
    }

    fn finish(mut self) -> ChainReport {
        let mut nodes: Vec<Arc<str>> = self.streams.keys().cloned().collect();
        nodes.sort_unstable();
        for node in &nodes {
            while self.streams.get(node).is_some_and(|stream| !stream.waiting.is_empty()) {
                self.skip(node);
                self.advance(node);
            }
            let stream = self.stream(node);
            let (at, head) = (stream.at, stream.head.as_ref().map(|head| head.link));
            let signed = stream.signed.last_key_value().map(|(seq, _)| *seq);
            match head {
                None => self.fault(ChainFaultKind::Truncated, node, Some(at.seq + 1), None),
                Some(head) if at.seq < head.seq => self.add(ChainFault {
                    kind: ChainFaultKind::Missing,
                    node: node.to_string(),
                    seq: Some(at.seq + 1),
                    to_seq: Some(head.seq),
                    id: None,
                }),
                Some(head) if at.hash != head.hash => {
                    self.fault(ChainFaultKind::Rewritten, node, Some(head.seq), None);
                }
                Some(_) => {}
            }
            let end = head.map_or(at.seq, |head| head.seq);
            if let Some(signed) = signed.filter(|signed| *signed > end) {
                self.add(ChainFault {
                    kind: ChainFaultKind::Truncated,
                    node: node.to_string(),
                    seq: Some(end + 1),
                    to_seq: Some(signed),
                    id: None,
                });
            }
            let link = head.unwrap_or(at);
            self.report.streams.push(ChainStream {
                node: node.to_string(),
                seq: link.seq,
                hash: link.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                signed_seq: signed,
            });
        }
        self.report.intact = self.report.fault_count == 0;
        self.report
    }
}

/// Signs the heads of this node's streams that have moved. Returns how many.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub async fn sign_heads(
    store: &Store,
    signer: &super::Signer,
    node: &str,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let heads = store.chains_without_checkpoint(node).await?;
    let points: Vec<Checkpoint> = heads.into_iter().map(|(org, head)| signer.sign(org, head, now)).collect();
    store.write_checkpoints(&points).await?;
    Ok(points.len())
}
