//! From the journal into the database.

use super::super::outbox::QUEUE;
use super::super::segment;
use super::*;

#[tokio::test]
async fn a_request_is_one_row_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Interval)), Database::default());
    let shipping = Shipping::start(&journal, &database, FAST);
    for n in 0..500 {
        journal.begin(Box::new(event(n))).await.unwrap();
        journal.complete(completion(n));
    }
    until(|| database.completed() == 500).await;
    shipping.stop().await;
    let tables = database.0.lock();
    assert_eq!(tables.arrivals.len(), 500);
    assert!(tables.largest <= 64);
    assert_eq!(
        tables.rows[&id(7)],
        AuditRow {
            event: event(7),
            completion: Some(completion(7)),
            link: None,
            erased: crate::domain::Erased::default()
        }
    );
    assert_eq!(journal.core.metrics.audit_rows.get(), 500);
    assert_eq!(journal.core.metrics.audit_queue_depth.get(), 0);
}

#[tokio::test]
async fn a_long_request_is_shipped_without_its_completion_and_completed_later() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Interval)), Database::default());
    let shipping = Shipping::start(&journal, &database, Pace { hold: Duration::ZERO, ..FAST });
    journal.begin(Box::new(event(1))).await.unwrap();
    until(|| database.len() == 1).await;
    assert_eq!(database.completed(), 0);
    journal.complete(completion(1));
    until(|| database.completed() == 1).await;
    shipping.stop().await;
    assert_eq!(database.0.lock().arrivals, [(id(1), false), (id(1), true)]);
    assert_eq!(journal.status().backlog_records, 0);
}

#[tokio::test]
async fn while_the_database_is_away_nothing_is_lost_and_memory_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Never)), Database::default());
    database.set(|tables| tables.away = true);
    let shipping = Shipping::start(&journal, &database, Pace { hold: Duration::ZERO, ..FAST });
    let requests = QUEUE as u64;
    for n in 0..requests {
        journal.begin(Box::new(event(n))).await.unwrap();
        if n >= 10 {
            journal.complete(completion(n - 10));
        }
    }
    until(|| journal.status().database_away).await;
    assert!(journal.core.outbox.lock().queued() <= QUEUE);
    assert!(journal.core.outbox.lock().is_behind(), "the queue ran over");
    database.set(|tables| tables.away = false);
    until(|| database.completed() as u64 == requests - 10).await;
    assert!(!journal.status().database_away);
    // And by the queue again.
    (requests - 10..requests).for_each(|n| journal.complete(completion(n)));
    until(|| database.completed() as u64 == requests).await;
    assert!(!journal.core.outbox.lock().is_behind());
    shipping.stop().await;
    let tables = database.0.lock();
    let mut complete = HashSet::new();
    for (id, completed) in &tables.arrivals {
        assert!(!complete.contains(id), "{id:?} was shipped again after its completion");
        if *completed {
            complete.insert(*id);
        }
    }
    assert_eq!(journal.status().backlog_records, 0);
    assert_eq!(segment::list(&journal.core.dir).unwrap().len(), 1, "shipped segments are removed");
}

#[tokio::test]
async fn segments_go_when_they_are_shipped_and_the_last_one_when_the_journal_closes() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Interval)), Database::default());
    for n in 0..200 {
        journal.record(Box::new(event(n)), completion(n)).await.unwrap();
    }
    assert!(segment::list(&journal.core.dir).unwrap().len() > 5);
    let shipping = Shipping::start(&journal, &database, FAST);
    until(|| database.len() == 200 && segment::list(&journal.core.dir).unwrap().len() == 1).await;
    shipping.stop().await;
    journal.close().await;
    assert_eq!(segment::list(&journal.core.dir).unwrap(), [0; 0]);
}

/// The begin of a long request must not keep its segment, and must not be lost with it.
#[tokio::test]
async fn a_request_that_outlives_its_segment_is_completed_or_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Interval)), Database::default());
    let shipping = Shipping::start(&journal, &database, Pace { hold: Duration::ZERO, ..FAST });
    journal.begin(Box::new(event(1))).await.unwrap();
    journal.begin(Box::new(event(2))).await.unwrap();
    until(|| database.len() == 2).await;
    let first = segment::list(&journal.core.dir).unwrap()[0];
    for n in 10..110 {
        journal.record(Box::new(event(n)), completion(n)).await.unwrap();
    }
    // Until nothing moves any more, because a copy of the files takes longer than a crash.
    until(|| segment::list(&journal.core.dir).unwrap().len() == 1 && database.len() == 102).await;
    assert!(segment::list(&journal.core.dir).unwrap()[0] > first + 1);

    let crashed = crash(dir.path());
    let (after, _) = recover(crashed.path()).await;
    assert_eq!(after.with_outcome(Outcome::Interrupted), [id(1), id(2)]);

    journal.complete(completion(1));
    until(|| database.completed() == 101).await;
    for n in 200..300 {
        journal.record(Box::new(event(n)), completion(n)).await.unwrap();
    }
    until(|| database.completed() == 201).await;
    shipping.stop().await;
    journal.complete(completion(2));
    journal.close().await;
    drop(journal);
    let (after, _) = recover(dir.path()).await;
    assert_eq!(after.0.lock().rows[&id(2)].completion, Some(completion(2)));
    assert!(!after.0.lock().rows.contains_key(&id(1)), "what is completed is not kept");
}

#[tokio::test]
async fn a_row_that_the_database_will_never_take_is_set_aside_and_the_others_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Interval)), Database::default());
    database.set(|tables| tables.poison.extend([id(7), id(40)]));
    for n in 0..60 {
        journal.record(Box::new(event(n)), completion(n)).await.unwrap();
    }
    let shipping = Shipping::start(&journal, &database, FAST);
    until(|| journal.status().backlog_records == 0).await;
    shipping.stop().await;
    assert_eq!(database.len(), 58);
    assert!(!journal.status().database_away);
    let kept = std::fs::read_to_string(journal.core.dir.join("rejected.jsonl")).unwrap();
    let ids: Vec<AuditId> = kept
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|mut line| serde_json::from_value(line["event"]["id"].take()).unwrap())
        .collect();
    assert_eq!(ids, [id(7), id(40)]);
    assert_eq!(journal.core.metrics.audit_write_failures.get(), 2);
}

#[tokio::test]
async fn a_database_that_takes_no_row_at_all_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Interval)), Database::default());
    database.set(|tables| tables.broken = true);
    for n in 0..60 {
        journal.record(Box::new(event(n)), completion(n)).await.unwrap();
    }
    let shipping = Shipping::start(&journal, &database, FAST);
    until(|| journal.status().database_away && database.0.lock().calls > 200).await;
    assert_eq!(journal.status().backlog_records, 60);
    database.set(|tables| tables.broken = false);
    until(|| database.len() == 60).await;
    shipping.stop().await;
    assert!(!journal.core.dir.join("rejected.jsonl").exists());
}

#[tokio::test]
async fn stopping_ships_what_there_is_and_does_not_wait_for_a_database_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Interval)), Database::default());
    let shipping = Shipping::start(&journal, &database, Pace { delay: Duration::from_secs(3600), ..FAST });
    journal.begin(Box::new(event(1))).await.unwrap();
    journal.begin(Box::new(event(2))).await.unwrap();
    journal.complete(completion(2));
    shipping.stop().await;
    assert_eq!((database.len(), database.completed()), (2, 1));

    for hangs in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, database) = (open(dir.path(), &config(SyncMode::Interval)), Database::default());
        database.set(|tables| (tables.away, tables.hangs) = (true, hangs));
        journal.record(Box::new(event(1)), completion(1)).await.unwrap();
        let shipping = Shipping::start(&journal, &database, Pace { grace: Duration::from_millis(1), ..FAST });
        shipping.stop().await;
        assert_eq!(journal.status().backlog_records, 1);
        journal.close().await;
        drop(journal);
        assert_eq!(recover(dir.path()).await.0.len(), 1);
    }
}

#[tokio::test]
async fn a_second_shipper_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, database) = (open(dir.path(), &config(SyncMode::Never)), Database::default());
    let first = Shipping::start(&journal, &database, FAST);
    until(|| journal.core.shipping.load(std::sync::atomic::Ordering::Acquire)).await;
    Shipping::start(&journal, &database, FAST).task.await.unwrap();
    first.stop().await;
}

#[tokio::test]
async fn an_interrupted_start_is_recovered_at_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), &config(SyncMode::Never));
    journal.begin(Box::new(event(1))).await.unwrap();
    let second_dir = crash(dir.path());
    let second = open(second_dir.path(), &config(SyncMode::Never));
    second.begin(Box::new(event(2))).await.unwrap();
    let third_dir = crash(second_dir.path());
    let third = open(third_dir.path(), &config(SyncMode::Never));
    third.begin(Box::new(event(3))).await.unwrap();
    let database = Database::default();
    let shipping = Shipping::start(&third, &database, FAST);
    until(|| database.len() == 2).await;
    third.complete(completion(3));
    until(|| database.len() == 3).await;
    shipping.stop().await;
    assert_eq!(database.with_outcome(Outcome::Interrupted), [id(1), id(2)]);
    assert_eq!(database.with_outcome(Outcome::Completed), [id(3)]);
}
