//! Requests that are older than their organization keeps them are removed, oldest first, and the chains stay verifiable: of
//! each stream a beginning goes, and a signed record says how it ended.
//!
//! A row is checked before it goes. Where a stream is not intact the rest of it stays, for somebody to look at.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Signer;
use crate::config::RetentionConfig;
use crate::domain::{CHAIN_ORIGIN, ContentHasher, Link, Timestamp, link};
use crate::store::{AuditRow, NewAdminEvent, PageRequest, Removal, Store, StoreError, TenantScope, Tier};

/// Rows of one page, and at most of one transaction.
const PAGE: i64 = 2_000;
/// Rows that wait for one before them; with more the rest is left for the next time.
const WAITING: usize = 20_000;

/// What came of one organization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub rows: u64,
    /// Streams of which rows stay because they are not intact.
    pub kept: u64,
}

/// How long requests are kept, in days: what the organization says, within what its tier allows.
#[must_use]
pub fn retention_days(config: &RetentionConfig, tier: Tier, own: Option<u32>) -> Option<u32> {
    let of_tier = match tier {
        Tier::Free => config.free,
        Tier::Starter => config.starter,
        Tier::Pro => config.pro,
        Tier::Enterprise => config.enterprise,
    };
    match (own, of_tier) {
        (Some(own), Some(most)) => Some(own.min(most)),
        (own, most) => own.or(most),
    }
}

/// Removes what is too old, of every organization. Returns how many rows.
///
/// # Errors
/// [`StoreError::Unavailable`]; what was removed before stays removed.
pub async fn expire_all(
    store: &Store,
    signer: &Signer,
    config: &RetentionConfig,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (mut rows, mut page) = (0, PageRequest { limit: 200, cursor: None });
    loop {
        let organizations = store.operator_organizations(None, &page).await?;
        for (scope, organization) in organizations.data {
            let settings = store.read(scope).await?.audit_settings().get().await?;
            let days = retention_days(config, organization.tier, settings.retention_days);
            if let Some(days) = days.filter(|_| !settings.legal_hold) {
                rows += expire(store, signer, scope, days, now).await?.rows;
            }
        }
        match organizations.next_cursor {
            Some(cursor) => page.cursor = Some(cursor),
            None => return Ok(rows),
        }
    }
}

/// Removes requests of one organization that occurred more than `days` ago, and records the act.
///
/// # Errors
/// [`StoreError::Unavailable`], [`StoreError::Corrupt`]; what was removed before stays removed.
pub async fn expire(
    store: &Store,
    signer: &Signer,
    scope: TenantScope,
    days: u32,
    now: Timestamp,
) -> Result<Expired, StoreError> {
    let before = now.minus(Duration::from_secs(86_400 * u64::from(days)));
    let mut expiry = Expiry::begin(store, scope).await?;
    let (mut after, mut rows) = (None, 0);
    loop {
        let mut page = store.read(scope).await?.audit_logs().in_order(after, PAGE).await?;
        page.retain(|row| row.event.occurred_at < before);
        let Some(last) = page.last() else { break };
        after = Some((last.event.occurred_at, last.event.id));
        let part = expiry.ready(page);
        if expiry.waiting() > WAITING {
            break;
        }
        if part.is_empty() {
            continue;
        }
        let removals = expiry.removals(&part, scope, signer, (before, days, now));
        let mut tx = store.write(scope).await?;
        match tx.audit_logs().remove(&part, before, &removals).await {
            Ok(true) => tx.commit().await?,
            // Another node is about it, or a hold was put on it.
            Ok(false) => break,
            Err(StoreError::Conflict(_)) => break,
            Err(error) => return Err(error),
        }
        rows += part.len() as u64;
    }
    let expired = Expired { rows, kept: expiry.broken() };
    if expired.kept > 0 {
        tracing::warn!(streams = expired.kept, "old requests stay because their streams are not intact: verify them");
    }
    if rows > 0 {
        let what = json!({ "rows": rows, "before": before, "retention_days": days });
        let event = NewAdminEvent { after: Some(what), ..NewAdminEvent::by_system("audit_log.expire", scope.org_id()) };
        store.record_event(Some(scope), event).await?;
    }
    Ok(expired)
}

/// One stream from its beginning, as far as it was removed.
struct Stream {
    at: Link,
    waiting: BTreeMap<i64, AuditRow>,
    /// A row is not what the chain says.
    altered: bool,
}

/// Where the streams of an organization stand while they are shortened.
struct Expiry {
    streams: HashMap<Arc<str>, Stream>,
    /// When each stream began: complete rows without a place are older, or not to be trusted.
    since: HashMap<Arc<str>, Timestamp>,
    hasher: ContentHasher,
}

impl Expiry {
    async fn begin(store: &Store, scope: TenantScope) -> Result<Self, StoreError> {
        let mut tx = store.read(scope).await?;
        let heads = tx.audit_logs().chain_heads().await?;
        let removals = tx.audit_logs().removals().await?;
        let streams = removals.into_iter().map(|removal| (removal.node, Stream::at(removal.link))).collect();
        let since = heads.into_iter().map(|head| (head.node, head.since)).collect();
        Ok(Self { streams, since, hasher: ContentHasher::default() })
    }

    /// Those rows that may go now, with others that waited for them.
    fn ready(&mut self, rows: Vec<AuditRow>) -> Vec<AuditRow> {
        let mut ready = Vec::new();
        for row in rows {
            let Some(done) = &row.completion else { continue };
            let node = Arc::clone(&row.event.node);
            let Some(place) = row.link else {
                if self.since.get(&node).is_none_or(|since| done.completed_at < *since) {
                    ready.push(row);
                }
                continue;
            };
            let beginning = Link { seq: 0, hash: CHAIN_ORIGIN };
            let stream = self.streams.entry(node).or_insert_with(|| Stream::at(beginning));
            stream.waiting.insert(place.seq, row);
            stream.advance(&mut self.hasher, &mut ready);
        }
        ready
    }

    /// The records of `rows`, one for each stream.
    fn removals(
        &self,
        rows: &[AuditRow],
        scope: TenantScope,
        signer: &Signer,
        (before, retention_days, removed_at): (Timestamp, u32, Timestamp),
    ) -> Vec<Removal> {
        let mut spans: BTreeMap<Arc<str>, (i64, Link)> = BTreeMap::new();
        for row in rows {
            if let Some(link) = row.link {
                let span = spans.entry(Arc::clone(&row.event.node)).or_insert((link.seq, link));
                *span = (span.0, link);
            }
        }
        let removal = |(node, (from_seq, link))| {
            let (public_key, signature) = (Vec::new(), Vec::new());
            let org_id = scope.org_id().uuid();
            signer.sign_removal(Removal {
                org_id,
                node,
                from_seq,
                link,
                before,
                retention_days,
                removed_at,
                public_key,
                signature,
            })
        };
        spans.into_iter().map(removal).collect()
    }

    fn waiting(&self) -> usize {
        self.streams.values().map(|stream| stream.waiting.len()).sum()
    }

    fn broken(&self) -> u64 {
        self.streams.values().filter(|stream| stream.altered).count() as u64
    }
}

impl Stream {
    const fn at(at: Link) -> Self {
        Self { at, waiting: BTreeMap::new(), altered: false }
    }

    /// Goes as far as intact rows are there.
    fn advance(&mut self, hasher: &mut ContentHasher, ready: &mut Vec<AuditRow>) {
        while !self.altered
            && let Some(row) = self.waiting.remove(&(self.at.seq + 1))
        {
            let seq = self.at.seq + 1;
            let content = row.completion.as_ref().map(|done| hasher.hash(&row.event, done, &row.erased));
            let place = content.map(|content| Link { seq, hash: link(&self.at.hash, seq, &content) });
            match place {
                Some(place) if row.link == Some(place) => {
                    self.at = place;
                    ready.push(row);
                }
                _ => self.altered = true,
            }
        }
        if self.altered {
            self.waiting.clear();
        }
    }
}
