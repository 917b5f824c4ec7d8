//! The change feed: what a transaction changed is told to this node's listeners before its `commit` returns, and to the
//! other nodes through PostgreSQL's `NOTIFY`, which is part of the transaction. Other processes on a SQLite file (the
//! command line beside a running server) leave and read notices in a table.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Executor as _;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use super::engine::NOTICES;
use super::{Change, Store, StoreError, TenantTx};

/// How long an idle listener trusts its connection before it asks whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Between two attempts to listen while the database is away.
const RETRY: Duration = Duration::from_millis(250);

/// How often a SQLite file is asked for new notices: what the command line revokes is refused within it.
const POLL: Duration = Duration::from_millis(250);

/// What is sent on the channel; PostgreSQL takes up to 8,000 bytes, this is at most 300.
#[derive(Serialize, Deserialize)]
struct Notice {
    /// The process that made the change.
    node: String,
    change: Change,
}

impl Store {
    /// Calls `listener` after every committed change, before `commit` returns on this node, and as soon as the
    /// notification arrives on others. It must not block. [`Change::Everything`] when notifications may have been missed.
    pub fn on_change(&self, listener: impl Fn(&Change) + Send + Sync + 'static) {
        self.inner.listen(Arc::new(listener));
    }

    /// Listens for other nodes' changes until `stop` turns true; returns at once on SQLite in memory. While the database is away
    /// it keeps trying; each time it begins to listen it says [`Change::Everything`].
    pub async fn follow_changes(&self, mut stop: watch::Receiver<bool>) {
        let mut said = false;
        loop {
            let mut listened = false;
            let interrupted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                followed = self.follow_once(&mut listened) => match followed {
                    Ok(()) => return,
                    Err(error) => error,
                },
            };
            // Once for each interruption, not for each attempt to end it.
            if listened || !said {
                tracing::warn!(error = %interrupted, "the change feed is interrupted");
                said = true;
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Ends with an error when the connection does; at once where there is nothing to follow.
    async fn follow_once(&self, listened: &mut bool) -> Result<(), StoreError> {
        if self.inner.keeps_notices() {
            return self.poll_notices(listened).await;
        }
        let Some(mut listener) = self.inner.subscribe().await? else { return Ok(()) };
        // Reconnecting is left to the loop above, where it is visible that something may have been missed.
        listener.eager_reconnect(false);
        *listened = true;
        self.inner.announce(&[Change::Everything]);
        loop {
            let Ok(received) = tokio::time::timeout(HEARTBEAT, listener.try_recv()).await else {
                // A connection that was cut without a word (a firewall, a fail-over) looks like an idle one.
                ask(&mut listener).await?;
                continue;
            };
            let Some(notification) = received? else {
                return Err(StoreError::Unavailable("the listening connection was closed".to_owned()));
            };
            self.hear(notification.payload());
        }
    }

    /// Ends with an error when the file cannot be read.
    async fn poll_notices(&self, listened: &mut bool) -> Result<(), StoreError> {
        // The first reading only finds where to begin.
        let mut last = None;
        loop {
            let mut tx = self.inner.begin_bare().await?;
            let notices: Vec<(i64, String)> = tx.statement(NOTICES).bind(last.unwrap_or(0)).all().await?;
            tx.commit().await?;
            if last.is_none() {
                *listened = true;
                self.inner.announce(&[Change::Everything]);
            } else {
                notices.iter().for_each(|(_, payload)| self.hear(payload));
            }
            last = notices.last().map(|(id, _)| *id).or(last).or(Some(0));
            tokio::time::sleep(POLL).await;
        }
    }

    fn hear(&self, payload: &str) {
        match serde_json::from_str::<Notice>(payload) {
            Ok(notice) if notice.node == self.inner.node() => {}
            Ok(notice) => self.inner.announce(&[notice.change]),
            // A newer version's kind of change.
            Err(_) => self.inner.announce(&[Change::Everything]),
        }
    }
}

async fn ask(listener: &mut PgListener) -> Result<(), StoreError> {
    let answer = tokio::time::timeout(HEARTBEAT, listener.execute("SELECT 1")).await;
    answer.map_err(|_| StoreError::Unavailable("the listening connection does not answer".to_owned()))??;
    Ok(())
}

/// Commits, then tells. In a task of its own: were the caller's future dropped between the two (a client that leaves),
/// the change would be durable and this node's caches would never hear of it.
pub(super) async fn commit(transaction: TenantTx) -> Result<(), StoreError> {
    let TenantTx { mut tx, inner, changes, .. } = transaction;
    if changes.is_empty() {
        return tx.commit().await;
    }
    let task = tokio::spawn(async move {
        for change in &changes {
            let notice = Notice { node: inner.node().to_owned(), change: change.clone() };
            let payload = serde_json::to_string(&notice).map_err(|error| StoreError::Database(error.to_string()))?;
            tx.notify(&payload).await?;
        }
        let committed = tx.commit().await;
        // Also after an error: the answer may have been lost on the way, not the commit.
        inner.announce(&changes);
        committed
    });
    task.await.map_err(|_| StoreError::Unavailable("the program is stopping".to_owned()))?
}
