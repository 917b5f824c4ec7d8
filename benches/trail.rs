//! An audit trail of `--rows N` rows (default 100,000): how fast it is written, checked, searched, counted, read as a whole,
//! erased and removed by age.
//!
//! In a SQLite file of its own, or in the migrated PostgreSQL that `--url` names, where the rows stay. A tenth of
//! the rows has findings; they are spread over a month, four nodes and 512 a transaction. Seconds of one run: only their order of size travels.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot be set up has nothing to measure"
)]

mod rows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sentinel::audit::{Erasure, Signer, Trusted, erase, expire, sign_heads, verify};
use sentinel::config::DatabaseConfig;
use sentinel::domain::{Action, AuditEvent, AuditId, Completion, Erased, OrgId, SystemClock, Timestamp, WorkspaceId};
use sentinel::store::{AuditFilter, AuditRow, NewOrganization, PageRequest, Store, migrate};

use rows::{completion, event};

const START: Timestamp = rows::AT;
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: u64 = 30 * 86_400 * 1_000_000;
const NODES: [&str; 4] = ["node-1", "node-2", "node-3", "node-4"];

fn row(org: OrgId, nodes: &[Arc<str>], workspaces: &[WorkspaceId], n: u64, of: u64) -> AuditRow {
    let at = START.plus(Duration::from_micros(MONTH / of * n));
    let found = n.is_multiple_of(10);
    let mut event = AuditEvent {
        org_id: Some(org),
        occurred_at: at,
        node: Arc::clone(&nodes[n as usize % nodes.len()]),
        user_id: Some(format!("user-{}", n % 1_000)),
        workspace_id: Some(workspaces[n as usize % workspaces.len()]),
        model: Some(format!("model-{}", n % 7)),
        ..event()
    };
    (event.action, event.risk_score) = match n {
        _ if n.is_multiple_of(500) => (Action::Block, 90),
        _ if found => (Action::Flag, (n % 70) as u8),
        _ => (Action::Allow, 0),
    };
    if found {
        event.findings.iter_mut().for_each(|finding| finding.rule_id = format!("rule.{}", n / 10 % 40));
    } else {
        (event.categories, event.findings, event.pii_detected) = (Vec::new(), Vec::new(), false);
    }
    let completion = Completion { completed_at: at.plus(Duration::from_millis(800)), ..completion(event.id) };
    AuditRow { event, completion: Some(completion), link: None, erased: Erased::default() }
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
    let workspaces: [WorkspaceId; 5] = std::array::from_fn(|_| WorkspaceId::new());

    println!("{rows} rows");
    timed("written", rows, async {
        let mut n = 0;
        while n < rows {
            let batch: Vec<AuditRow> =
                (n..rows.min(n + 512)).map(|n| row(org.org_id, &nodes, &workspaces, n, rows)).collect();
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
    let all = AuditFilter { from: Some(START), ..AuditFilter::default() };
    let user = |name: &str| AuditFilter { user_id: Some(name.to_owned()), ..all.clone() };
    let filters = [
        ("everything", all.clone()),
        ("blocked", AuditFilter { action: Some(Action::Block), ..all.clone() }),
        ("of a rule", AuditFilter { rule_id: Some("rule.7".to_owned()), ..all.clone() }),
        ("risk from 80", AuditFilter { min_risk_score: Some(80), ..all.clone() }),
        ("of a workspace", AuditFilter { workspace_id: Some(workspaces[3]), ..all.clone() }),
        ("of a model", AuditFilter { model: Some("model-3".to_owned()), ..all.clone() }),
        ("a user's", user("user-77")),
        ("nobody's", user("nobody")),
        ("a user's of a rule", AuditFilter { rule_id: Some("rule.7".to_owned()), ..user("user-70") }),
    ];
    let mut tx = store.read(org.scope).await.unwrap();
    for (what, filter) in &filters {
        timed(&format!("page: {what}"), rows, async { tx.audit_logs().list(filter, &page()).await.unwrap() }).await;
    }
    for (what, filter) in &filters {
        timed(&format!("by day: {what}"), rows, async { tx.audit_logs().histogram(filter, DAY).await.unwrap() }).await;
    }
    drop(tx);
    timed("read as exports do", rows, async {
        let mut page = PageRequest { limit: 200, cursor: None };
        loop {
            let part = store.read(org.scope).await.unwrap().audit_logs().list(&all, &page).await.unwrap();
            match part.next_cursor {
                Some(cursor) => page.cursor = Some(cursor),
                None => break,
            }
        }
    })
    .await;
    let mut tx = store.read(org.scope).await.unwrap();
    let stats = timed("counted by day", rows, async { tx.audit_logs().stats(START).await.unwrap() }).await;
    assert_eq!(stats.requests, rows);
    drop(tx);
    let of_one = rows.div_ceil(1_000);
    let erased = timed("a user erased", of_one, erase(&store, org.scope, Erasure::User("user-77"))).await.unwrap();
    assert!(erased.abs_diff(of_one) <= 1, "{erased}");
    let month_later = START.plus(Duration::from_micros(MONTH));
    let expired = timed("half removed by age", rows / 2, expire(&store, &signer, org.scope, 15, month_later)).await;
    let expired = expired.unwrap().rows;
    let report =
        timed("the rest checked", rows - expired, verify(&store, org.scope, &Trusted::default())).await.unwrap();
    assert!(report.intact && report.removed == expired && report.checked == rows - expired, "{report:?}");
    store.close().await;
}
