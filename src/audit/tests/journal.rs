//! Taking records: what is acknowledged, refused, and found again.

use super::*;
use crate::config::WhenFull;

#[tokio::test]
async fn a_journal_is_open_in_one_place_only() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &config(SyncMode::Interval));
    let error = try_open(dir.path(), &config(SyncMode::Interval)).err().unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
    first.close().await;
    drop(first);
    open(dir.path(), &config(SyncMode::Interval));
}

#[tokio::test]
async fn a_node_keeps_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let name = open(dir.path(), &config(SyncMode::Never)).node().clone();
    assert!(!name.is_empty());
    assert_eq!(open(dir.path(), &config(SyncMode::Never)).node(), &name);
}

#[tokio::test]
async fn a_closed_journal_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), &config(SyncMode::Always));
    journal.begin(Box::new(event(1))).await.unwrap();
    journal.close().await;
    journal.complete(completion(1));
    assert!(matches!(journal.begin(Box::new(event(2))).await, Err(JournalError::Closed)));
    assert!(matches!(journal.record(Box::new(event(3)), completion(3)).await, Err(JournalError::Closed)));
    drop(journal);
    let (database, _) = recover(dir.path()).await;
    assert_eq!(database.with_outcome(Outcome::Interrupted), [id(1)]);
}

#[tokio::test]
async fn after_a_crash_every_acknowledged_request_is_found_once_and_open_ones_are_interrupted() {
    for sync in [SyncMode::Never, SyncMode::Interval, SyncMode::Always] {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path(), &config(sync));
        for n in 0..100 {
            journal.begin(Box::new(event(n))).await.unwrap();
            if n % 2 == 0 {
                journal.complete(completion(n));
            }
        }
        journal.record(Box::new(event(100)), completion(100)).await.unwrap();
        let crashed = crash(dir.path());
        drop(journal);

        let (database, status) = recover(crashed.path()).await;
        assert_eq!(status.backlog_records, 151, "{sync:?}");
        assert_eq!(status.damaged, Vec::<String>::new());
        let tables = std::mem::take(&mut *database.0.lock());
        assert_eq!(tables.arrivals.len(), 101, "one write per row");
        for n in 0..=100 {
            let row = &tables.rows[&id(n)];
            assert_eq!(row.event, event(n));
            let end = row.completion.clone().unwrap();
            if n % 2 == 0 {
                assert_eq!(end, completion(n));
            } else {
                assert_eq!((end.outcome, end.status, end.completed_at), (Outcome::Interrupted, 0, RECOVERY));
            }
        }
        let (again, status) = recover(crashed.path()).await;
        assert_eq!((again.len(), status.backlog_records), (0, 0), "what is shipped is gone");
    }
}

#[tokio::test]
async fn completions_reach_the_file_without_another_request() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), &config(SyncMode::Interval));
    for n in 0..3 {
        // The writer thread goes to sleep in between, or does not: both must do.
        journal.begin(Box::new(event(n))).await.unwrap();
        journal.complete(completion(n));
        until(|| journal.core.outbox.lock().segments.values().map(|segment| segment.records).sum::<u64>() == 2 * n + 2)
            .await;
        until(|| n != 1 || journal.core.intake.lock().writer_asleep).await;
    }
    let (database, _) = recover(crash(dir.path()).path()).await;
    assert_eq!(database.completed(), 3);
}

#[tokio::test]
async fn only_the_first_completion_of_a_request_that_began_counts() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), &config(SyncMode::Never));
    journal.begin(Box::new(event(1))).await.unwrap();
    journal.complete(completion(1));
    journal.complete(completion(1));
    journal.complete(completion(2));
    assert_eq!(journal.status().backlog_records, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn eight_threads_write_at_once_and_nothing_is_lost_or_torn() {
    for sync in [SyncMode::Interval, SyncMode::Always] {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path(), &config(sync));
        let per_task = if sync == SyncMode::Always { 25 } else { 500 };
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    for n in task * per_task..(task + 1) * per_task {
                        journal.begin(Box::new(event(n))).await.unwrap();
                        journal.complete(completion(n));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let crashed = crash(dir.path());
        assert_eq!(recover(crashed.path()).await.0.len() as u64, 8 * per_task);
        journal.close().await;
        drop(journal);
        let (database, status) = recover(dir.path()).await;
        assert_eq!(database.completed() as u64, 8 * per_task);
        assert_eq!(status.damaged, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_full_backlog_refuses_until_the_database_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = AuditConfig { max_backlog: ByteSize::kib(32), ..config(SyncMode::Never) };
    let journal = open(dir.path(), &config);
    let mut taken = 0;
    let error = loop {
        match journal.begin(Box::new(event(taken))).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::Full { limit: 32_768, .. }), "{error}");
    assert!(taken > 10 && journal.status().full);
    // What was let in can be completed: room was kept for it.
    (0..taken).for_each(|n| journal.complete(completion(n)));
    assert!(journal.status().backlog_bytes <= 32 << 10, "{:?}", journal.status());

    let database = Database::default();
    let shipping = Shipping::start(&journal, &database, FAST);
    until(|| !journal.status().full).await;
    journal.begin(Box::new(event(1000))).await.unwrap();
    shipping.stop().await;
    assert_eq!(database.completed() as u64, taken);
    assert_eq!((journal.status().backlog_records, journal.status().backlog_bytes), (0, 0));
}

#[tokio::test]
async fn a_full_backlog_may_be_told_to_let_requests_pass_unrecorded() {
    let dir = tempfile::tempdir().unwrap();
    let config = AuditConfig { max_backlog: ByteSize::bytes(1), when_full: WhenFull::Allow, ..config(SyncMode::Never) };
    let journal = open(dir.path(), &config);
    journal.begin(Box::new(event(1))).await.unwrap();
    journal.complete(completion(1));
    assert!(journal.status().full);
    assert_eq!(journal.status().backlog_records, 0);
    assert_eq!(journal.core.metrics.failopen.with_label_values(&["audit"]).get(), 1);
}

#[tokio::test]
async fn damage_in_the_middle_is_reported_and_the_rest_is_shipped() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), &config(SyncMode::Never));
    for n in 0..100 {
        journal.record(Box::new(event(n)), completion(n)).await.unwrap();
    }
    journal.close().await;
    drop(journal);
    let segments = super::super::segment::list(&dir.path().join("journal")).unwrap();
    assert!(segments.len() > 2);
    let path = super::super::segment::path(&dir.path().join("journal"), segments[1]);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let (database, status) = recover(dir.path()).await;
    assert_eq!(database.len(), 99);
    assert_eq!(status.damaged.len(), 1, "{:?}", status.damaged);
    assert!(path.with_extension("damaged").exists());
    assert_eq!(recover(dir.path()).await.1.damaged, Vec::<String>::new(), "reported once");
}

#[tokio::test]
async fn a_missing_segment_and_a_torn_tail_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), &config(SyncMode::Never));
    for n in 0..100 {
        journal.record(Box::new(event(n)), completion(n)).await.unwrap();
    }
    journal.close().await;
    drop(journal);
    let folder = dir.path().join("journal");
    let segments = super::super::segment::list(&folder).unwrap();
    std::fs::remove_file(super::super::segment::path(&folder, segments[1])).unwrap();
    let last = super::super::segment::path(&folder, *segments.last().unwrap());
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() - 5]).unwrap();

    let (database, status) = recover(dir.path()).await;
    assert_eq!(status.damaged.len(), 2, "{:?}", status.damaged);
    assert!(status.damaged[0].contains("missing") && status.damaged[1].contains("no whole record"));
    assert!(database.len() < 99 && database.len() > 50);
    assert!(!last.with_extension("damaged").exists(), "a torn tail is nothing to look into");
}
