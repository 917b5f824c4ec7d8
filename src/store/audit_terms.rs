//! What is found in audit rows, as words that an index leads by: few rows have any.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::types::Json;

use super::engine::Tx;
use super::{AuditRow, StoreError};
use crate::domain::{Action, Category, Outcome};

/// Risk scores from which on a row has a term of its own, the greatest first.
pub(super) const RISKS: [u8; 2] = [80, 50];

pub(super) fn category(category: Category) -> String {
    format!("category:{}", category.as_str())
}

pub(super) fn rule(id: &str) -> String {
    format!("rule:{id}")
}

/// None for `allow`: nearly every row is one.
pub(super) fn action(action: Action) -> Option<String> {
    (action != Action::Allow).then(|| format!("action:{}", action.as_str()))
}

/// The term that all rows of at least this score have.
pub(super) fn risk(score: u8) -> Option<String> {
    RISKS.iter().find(|least| score >= **least).map(|least| format!("risk:{least}"))
}

/// The terms of a row.
pub(super) fn of(row: &AuditRow) -> BTreeSet<String> {
    let event = &row.event;
    let done = row.completion.as_ref();
    let answer = done.and_then(|done| done.answer.as_deref());
    let categories = event.categories.iter().chain(answer.iter().flat_map(|answer| &answer.categories));
    let findings = event.findings.iter().chain(answer.iter().flat_map(|answer| &answer.findings));
    let blocked = done.is_some_and(|done| done.outcome == Outcome::Blocked).then_some(Action::Block);
    let risks = RISKS.into_iter().filter(|least| event.risk_score >= *least).filter_map(risk);
    let mut terms: BTreeSet<String> = categories.copied().map(category).collect();
    terms.extend(findings.map(|finding| rule(&finding.rule_id)));
    terms.extend([Some(event.action), blocked].into_iter().flatten().filter_map(action));
    terms.extend(risks);
    terms
}

#[derive(Serialize)]
struct Told {
    org: String,
    term: String,
    /// Microseconds.
    at: i64,
    id: String,
}

/// Writes the terms of rows, but for those that are there.
pub(super) async fn write(tx: &mut Tx, rows: &[&AuditRow]) -> Result<(), StoreError> {
    const POSTGRES: &str = "
        INSERT INTO audit_terms (org_id, term, occurred_at, id)
        SELECT org, term, TIMESTAMPTZ 'epoch' + at * INTERVAL '1 microsecond', id
        FROM jsonb_to_recordset($1) AS t(org UUID, term TEXT, at BIGINT, id UUID)
        ON CONFLICT DO NOTHING";
    const SQLITE: &str = "
        INSERT INTO audit_terms (org_id, term, occurred_at, id)
        SELECT unhex(value ->> 'org'), value ->> 'term', value ->> 'at', unhex(value ->> 'id')
        FROM json_each($1)
        WHERE true
        ON CONFLICT DO NOTHING";
    let told = told(rows);
    if !told.is_empty() {
        tx.statement(tx.either(POSTGRES, SQLITE)).bind(Json(told)).execute().await?;
    }
    Ok(())
}

pub(super) async fn remove(tx: &mut Tx, rows: &[&AuditRow]) -> Result<(), StoreError> {
    const POSTGRES: &str = "
        DELETE FROM audit_terms t
        USING jsonb_to_recordset($1) AS gone(org UUID, term TEXT, at BIGINT, id UUID)
        WHERE t.org_id = gone.org AND t.term = gone.term AND t.id = gone.id
            AND t.occurred_at = TIMESTAMPTZ 'epoch' + gone.at * INTERVAL '1 microsecond'";
    const SQLITE: &str = "
        DELETE FROM audit_terms
        WHERE (org_id, term, occurred_at, id) IN (
            SELECT unhex(value ->> 'org'), value ->> 'term', value ->> 'at', unhex(value ->> 'id') FROM json_each($1)
        )";
    let told = told(rows);
    if !told.is_empty() {
        tx.statement(tx.either(POSTGRES, SQLITE)).bind(Json(told)).execute().await?;
    }
    Ok(())
}

fn told(rows: &[&AuditRow]) -> Vec<Told> {
    let of_one = |row: &&AuditRow| {
        let org = row.event.org_id.map(|org| org.uuid().simple().to_string());
        let (at, id) = (row.event.occurred_at.micros(), row.event.id.uuid().simple().to_string());
        // Rows of nobody are not searched.
        let terms = if org.is_some() { of(row) } else { BTreeSet::new() };
        let org = org.unwrap_or_default();
        terms.into_iter().map(move |term| Told { org: org.clone(), term, at, id: id.clone() })
    };
    rows.iter().flat_map(of_one).collect()
}
