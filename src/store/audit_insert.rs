//! Audit rows in bulk: the one insert whose cost is felt, as every request ends in it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;
use sqlx::types::Json;

use super::audit_chain;
use super::audit_logs::written_audit_columns;
use super::audit_reviews;
use super::audit_terms;
use super::engine::Tx;
use super::statement::Statement;
use super::values::stored;
use super::{AuditRow, StoreError};
use crate::domain::{AuditId, Direction, Link, Outcome, Source};

/// Rows a statement. Few shapes, so that each is prepared once a connection; the greatest stays below the engines' bounds
/// on arguments (32,766 on SQLite, 65,535 on PostgreSQL).
const SHAPES: [usize; 4] = [512, 64, 8, 1];
const COLUMNS: usize = 41;
/// Only a completion that is missing is filled in.
const FILL: &str = "
ON CONFLICT (id) DO UPDATE SET
    completed_at = excluded.completed_at,
    outcome = excluded.outcome,
    status = excluded.status,
    upstream_status = excluded.upstream_status,
    duration_us = excluded.duration_us,
    overhead_us = excluded.overhead_us,
    ttfb_us = excluded.ttfb_us,
    response_bytes = excluded.response_bytes,
    input_tokens = excluded.input_tokens,
    output_tokens = excluded.output_tokens,
    completion_error_code = excluded.completion_error_code,
    answer = excluded.answer,
    seq = excluded.seq,
    hash = excluded.hash
WHERE audit_logs.completed_at IS NULL AND excluded.completed_at IS NOT NULL";

/// The texts of [`SHAPES`]. PostgreSQL's arguments have numbers; SQLite's have none, because it looks up each numbered one in
/// a list of all, which for 20,000 arguments takes longer than the insert.
static POSTGRES: LazyLock<[String; 4]> = LazyLock::new(|| SHAPES.map(|rows| text(rows, true)));
static SQLITE: LazyLock<[String; 4]> = LazyLock::new(|| SHAPES.map(|rows| text(rows, false)));

fn text(rows: usize, numbered: bool) -> String {
    let mut text = String::from(concat!("INSERT INTO audit_logs (", written_audit_columns!(), ") VALUES "));
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=COLUMNS {
            text.push_str(if column == 1 { "" } else { "," });
            let _ = if numbered { write!(text, "${}", row * COLUMNS + column) } else { text.write_char('?') };
        }
        text.push(')');
    }
    text.push_str(FILL);
    text
}

/// Writes the rows and adds those that are complete to their chains. False: some were there already, so nothing may be
/// committed; [`missing`] tells which are not.
pub(super) async fn insert(tx: &mut Tx, rows: &[&AuditRow]) -> Result<bool, StoreError> {
    let links = audit_chain::extend(tx, rows).await?;
    let (mut rest, mut links) = (rows, links.as_slice());
    let texts: &'static [String; 4] = tx.either(&*POSTGRES, &*SQLITE);
    let mut written = 0;
    for (size, text) in SHAPES.into_iter().zip(texts) {
        while let (Some((batch, after)), Some((linked, later))) =
            (rest.split_at_checked(size), links.split_at_checked(size))
        {
            let mut statement = tx.statement(text).reserve(size * COLUMNS, size * 640);
            batch.iter().zip(linked).for_each(|(row, link)| bind(&mut statement, row, link.as_ref()));
            written += statement.execute().await?;
            (rest, links) = (after, later);
        }
    }
    if written < rows.len() as u64 {
        return Ok(false);
    }
    audit_terms::write(tx, rows).await?;
    audit_reviews::open(tx, rows).await?;
    Ok(true)
}

/// Those of `rows` that would change something.
pub(super) async fn missing<'r>(tx: &mut Tx, rows: &[&'r AuditRow]) -> Result<Vec<&'r AuditRow>, StoreError> {
    const POSTGRES: &str = "SELECT id, completed_at IS NOT NULL AS complete
        FROM audit_logs WHERE id IN (SELECT CAST(w AS UUID) FROM jsonb_array_elements_text($1) w)";
    const SQLITE: &str = "SELECT id, completed_at IS NOT NULL AS complete
        FROM audit_logs WHERE id IN (SELECT unhex(value) FROM json_each($1))";
    let ids: Vec<String> = rows.iter().map(|row| row.event.id.uuid().simple().to_string()).collect();
    let known: Vec<Known> = tx.statement(tx.either(POSTGRES, SQLITE)).bind(Json(ids)).all().await?;
    let known: HashMap<AuditId, bool> = known.into_iter().map(|row| (row.id, row.complete)).collect();
    Ok(rows
        .iter()
        .copied()
        .filter(|row| known.get(&row.event.id).is_none_or(|complete| !complete && row.completion.is_some()))
        .collect())
}

#[derive(sqlx::FromRow)]
struct Known {
    id: AuditId,
    complete: bool,
}

/// One row for each id, a completed one if there is one: PostgreSQL refuses to touch a row twice in one statement.
pub(super) fn distinct(rows: &[AuditRow]) -> Vec<&AuditRow> {
    let mut places: HashMap<AuditId, usize, RandomState> =
        HashMap::with_capacity_and_hasher(rows.len(), RandomState::default());
    let mut kept: Vec<&AuditRow> = Vec::with_capacity(rows.len());
    for row in rows {
        let place = *places.entry(row.event.id).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(known) if known.completion.is_none() => *known = row,
            Some(_) => {}
            None => kept.push(row),
        }
    }
    kept
}

/// In the order of [`written_audit_columns`].
fn bind(statement: &mut Statement<'_>, row: &AuditRow, link: Option<&Link>) {
    let event = &row.event;
    let done = row.completion.as_ref();
    statement
        .add(event.id)
        .add(event.org_id)
        .add(event.workspace_id)
        .add(event.api_key_id)
        .add(event.occurred_at)
        .add(Arc::clone(&event.node))
        .add(word(source(event.source)))
        .add(Arc::clone(&event.method))
        .add(event.path.as_str())
        .add(event.dialect.clone())
        .add(event.upstream.clone())
        .add(event.model.as_deref())
        .add(event.user_id.as_deref())
        .add(event.client_ip.as_deref())
        .add(event.policy_id)
        .add(event.policy_name.clone())
        .add(event.policy_version)
        .add(word(event.action.as_str()))
        .add(word(direction(event.direction)))
        .add(i64::from(event.risk_score))
        .add(event.pii_detected)
        .add(event.injection_detected)
        .add(event.escalated)
        .add(Json(&event.categories))
        .add(Json(&event.findings))
        .add(Json(&event.coverage))
        .add(event.error_code.as_deref())
        .add(done.map(|done| done.completed_at))
        .add(done.map(|done| word(outcome(done.outcome))))
        .add(done.map(|done| i64::from(done.status)))
        .add(done.and_then(|done| done.upstream_status).map(i64::from))
        .add(done.map(|done| stored(done.duration_us)))
        .add(done.map(|done| stored(done.overhead_us)))
        .add(done.and_then(|done| done.ttfb_us).map(stored))
        .add(done.map(|done| stored(done.response_bytes)))
        .add(done.and_then(|done| done.input_tokens).map(stored))
        .add(done.and_then(|done| done.output_tokens).map(stored))
        .add(done.and_then(|done| done.error_code.as_deref()))
        .add(done.and_then(|done| done.answer.as_deref()).map(Json))
        .add(link.map(|link| link.seq))
        .add(link.map(|link| link.hash.as_slice()));
}

/// `word` as an argument that is not copied for every row.
fn word(word: &'static str) -> Arc<str> {
    thread_local! {
        static WORDS: RefCell<Vec<(&'static str, Arc<str>)>> = const { RefCell::new(Vec::new()) };
    }
    WORDS.with_borrow_mut(|words| {
        if let Some((_, shared)) = words.iter().find(|(known, _)| std::ptr::eq(*known, word)) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = word.into();
        words.push((word, Arc::clone(&shared)));
        shared
    })
}

// Serde's words without its allocations; reading back goes through serde, and a test through all of them.

const fn source(source: Source) -> &'static str {
    match source {
        Source::Gateway => "gateway",
        Source::Process => "process",
    }
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Input => "input",
        Direction::Output => "output",
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Refused => "refused",
        Outcome::Blocked => "blocked",
        Outcome::UpstreamFailed => "upstream_failed",
        Outcome::ClientClosed => "client_closed",
        Outcome::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_name_as_many_arguments_as_are_bound_and_stay_within_the_engines_bounds() {
        assert_eq!(written_audit_columns!().split(',').count(), COLUMNS);
        let largest = SHAPES[0] * COLUMNS;
        assert!(largest < 32_766);
        assert!(POSTGRES[0].contains(&format!("${largest})")));
        assert_eq!(SQLITE[0].matches('?').count(), largest);
        assert_eq!(SQLITE[3].matches('?').count(), COLUMNS);
    }
}
