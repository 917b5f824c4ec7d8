//! An audit trail of `--rows N` rows (default 100,000): how fast it is written, checked, listed and counted.
//!
//! In a SQLite file of its own, or in the migrated PostgreSQL that `--url` names, where the rows stay. Rows have two findings
//! each and are spread over a month, four nodes and 512 a transaction. Seconds of one run: only their order of size travels.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot be set up has nothing to measure"
)]

mod rows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sentinel::audit::{Signer, Trusted, sign_heads, verify};
use sentinel::config::DatabaseConfig;
use sentinel::domain::{Action, AuditEvent, AuditId, Completion, OrgId, SystemClock, Timestamp};
use sentinel::store::{AuditFilter, AuditRow, NewOrganization, PageRequest, Store, migrate};

use rows::{completion, event};

const START: Timestamp = rows::AT;
const MONTH: u64 = 30 * 86_400 * 1_000_000;
const NODES: [&str; 4] = ["node-1", "node-2", "node-3", "node-4"];

fn row(org: OrgId, nodes: &[Arc<str>], n: u64, of: u64) -> AuditRow {
    let at = START.plus(Duration::from_micros(MONTH / of * n));
    let event = AuditEvent {
        org_id: Some(org),
        occurred_at: at,
        node: Arc::clone(&nodes[n as usize % nodes.len()]),
        user_id: Some(format!("user-{}", n % 1_000)),
        action: if n.is_multiple_of(50) { Action::Block } else { Action::Flag },
        risk_score: (n % 100) as u8,
        ..event()
    };
    let completion = Completion { completed_at: at.plus(Duration::from_millis(800)), ..completion(event.id) };
    AuditRow { event, completion: Some(completion), link: None }
}

async fn timed<T>(what: &str, rows: u64, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{what:<28} {seconds:>9.3} s {:>9.0} rows/s", rows as f64 / seconds);
    done
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().skip_while(|a| *a != name).nth(1);
    let rows: u64 = after("--rows").map_or(100_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let own = format!("sqlite://{}", dir.path().join("trail.db").display());
    let config = DatabaseConfig { url: after("--url").cloned().unwrap_or(own), ..DatabaseConfig::default() };
    if after("--url").is_none() {
        migrate::up(&config).await.unwrap();
    }
    let store = Store::connect(&config, Arc::new(SystemClock)).await.unwrap();
    let organization = NewOrganization {
        name: "Trail".to_owned(),
        owner_email: format!("{}@trail.example", AuditId::new()),
        owner_full_name: "Trail".to_owned(),
        owner_password_hash: "-".to_owned(),
        workspace_name: "default".to_owned(),
    };
    let org = store.register(organization).await.unwrap();
    let nodes = NODES.map(Arc::from);

    println!("{rows} rows");
    timed("written", rows, async {
        let mut n = 0;
        while n < rows {
            let batch: Vec<AuditRow> = (n..rows.min(n + 512)).map(|n| row(org.org_id, &nodes, n, rows)).collect();
            store.ship_audit(&batch).await.unwrap();
            n += batch.len() as u64;
        }
    })
    .await;
    let signer = Signer::open(dir.path()).unwrap();
    for node in NODES {
        sign_heads(&store, &signer, node, START).await.unwrap();
    }
    let report = timed("checked", rows, verify(&store, org.scope, &Trusted::default())).await.unwrap();
    assert!(report.intact && report.checked == rows, "{report:?}");

    let page = || PageRequest { limit: 50, cursor: None };
    let blocked = AuditFilter { action: Some(Action::Block), ..AuditFilter::default() };
    let nobody = AuditFilter { user_id: Some("nobody".to_owned()), ..AuditFilter::default() };
    for (what, filter) in
        [("newest page", AuditFilter::default()), ("blocked, newest page", blocked), ("nobody's", nobody)]
    {
        let mut tx = store.read(org.scope).await.unwrap();
        timed(what, rows, async { tx.audit_logs().list(&filter, &page()).await.unwrap() }).await;
    }
    let mut tx = store.read(org.scope).await.unwrap();
    let stats = timed("counted by day", rows, async { tx.audit_logs().stats(START).await.unwrap() }).await;
    assert_eq!(stats.requests, rows);
    drop(tx);
    store.close().await;
}
