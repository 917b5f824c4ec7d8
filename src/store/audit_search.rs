//! Searching the audit trail: of all conditions, the one that few rows meet leads, and its index gives the rows in order.

use super::audit_logs::{Stored, audit_columns};
use super::audit_terms;
use super::page::END_OF_TIME;
use super::sort::{Directions, NEVER, Value};
use super::statement::{Statement, TenantSql, tenant_sql};
use super::values::Count;
use super::{AuditFilter, AuditLogs, AuditRow, Page, PageRequest, StoreError, TenantTx};
use crate::domain::{Action, Timestamp};
use sqlx::types::uuid::Uuid;
use std::time::Duration;

/// Requests that occurred in a bucket of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct BucketCount {
    /// Buckets start at whole multiples of their width since 1970, in UTC.
    pub start: Timestamp,
    #[sqlx(try_from = "Count")]
    pub requests: u64,
}

/// The condition that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lead {
    Time,
    Request,
    User,
    Term(String),
    Key,
    Policy,
    Model,
    Workspace,
    Upstream,
}

impl AuditFilter {
    /// The likely most selective first.
    fn lead(&self) -> Lead {
        let terms = [
            self.rule_id.as_deref().map(audit_terms::rule),
            self.category.map(audit_terms::category),
            self.action.and_then(audit_terms::action),
            self.min_risk_score.and_then(audit_terms::risk),
        ];
        if self.id.is_some() {
            Lead::Request
        } else if self.user_id.is_some() {
            Lead::User
        } else if let Some(term) = terms.into_iter().flatten().next() {
            Lead::Term(term)
        } else if self.api_key_id.is_some() {
            Lead::Key
        } else if self.policy_id.is_some() && self.policy_version.is_some() {
            Lead::Policy
        } else if self.model.is_some() {
            Lead::Model
        } else if self.workspace_id.is_some() {
            Lead::Workspace
        } else if self.upstream.is_some() {
            Lead::Upstream
        } else {
            Lead::Time
        }
    }

    /// Whether the leading condition and the span of time are all there is, so that the index alone can count.
    fn leads_alone(&self) -> bool {
        let one = |given: bool| usize::from(given);
        let conditions = one(self.id.is_some())
            + one(self.user_id.is_some())
            + one(self.rule_id.is_some())
            + one(self.category.is_some())
            + one(self.action.is_some())
            + one(self.min_risk_score.is_some_and(|least| least > 0))
            + one(self.max_risk_score.is_some_and(|most| most < 100))
            + one(self.api_key_id.is_some())
            + one(self.model.is_some())
            + one(self.workspace_id.is_some())
            + one(self.upstream.is_some())
            + one(self.policy_id.is_some() || self.policy_version.is_some());
        match self.lead() {
            Lead::Time => conditions == 0,
            // The term of a score says no more than that it is at least 50 or 80.
            Lead::Term(_) if self.min_risk_score.is_some_and(|least| !audit_terms::RISKS.contains(&least)) => false,
            _ => conditions == 1,
        }
    }
}

/// The rows in the order of a leading condition. SQLite, which seldom has figures to weigh indexes by, is told which.
macro_rules! led {
    ($index:literal, $lead:literal, $beyond:literal) => {
        concat!(
            " FROM audit_logs",
            $index,
            " WHERE org_id = $1",
            $lead,
            " AND (occurred_at, id) ",
            $beyond,
            " ($2, $3) AND occurred_at >= $4 AND occurred_at < $5"
        )
    };
}

/// The places of rows with a term. `CROSS JOIN` keeps SQLite from beginning with the other table.
macro_rules! of_term {
    ($beyond:literal) => {
        concat!(
            "(SELECT occurred_at AS at, id AS row_id FROM audit_terms WHERE org_id = $1 AND term = $20
                AND (occurred_at, id) ",
            $beyond,
            " ($2, $3) AND occurred_at >= $4 AND occurred_at < $5)"
        )
    };
}

macro_rules! led_by_term {
    ($beyond:literal) => {
        concat!(" FROM ", of_term!($beyond), " AS t CROSS JOIN audit_logs WHERE org_id = $1 AND id = row_id")
    };
}

macro_rules! conditions {
    () => {
        " AND ($6 IS NULL OR workspace_id = $6)
        AND ($7 IS NULL OR api_key_id = $7)
        AND ($8 IS NULL OR user_id = $8)
        AND ($9 IS NULL OR action = $9 OR $9 = 'block' AND outcome = 'blocked')
        AND ($10 IS NULL OR EXISTS (
            SELECT 1 FROM audit_terms x
            WHERE x.org_id = $1 AND x.term = $10 AND x.occurred_at = audit_logs.occurred_at AND x.id = audit_logs.id
        ))
        AND ($11 IS NULL OR EXISTS (
            SELECT 1 FROM audit_terms x
            WHERE x.org_id = $1 AND x.term = $11 AND x.occurred_at = audit_logs.occurred_at AND x.id = audit_logs.id
        ))
        AND ($12 IS NULL OR risk_score >= $12)
        AND ($13 IS NULL OR risk_score <= $13)
        AND ($14 IS NULL OR model = $14)
        AND ($15 IS NULL OR upstream = $15)
        AND ($16 IS NULL OR policy_id = $16)
        AND ($17 IS NULL OR policy_version = $17)
        AND ($18 IS NULL OR id = $18)"
    };
}

/// Makes a table of texts, one for each lead; the texts of `$led` and `$by_term` are told how a lead is written.
macro_rules! by_lead {
    ($lead:expr, $led:ident, $by_term:ident) => {
        match $lead {
            Lead::Time => $led!(" INDEXED BY audit_logs_page", ""),
            Lead::Request => $led!("", " AND id = $18"),
            Lead::User => $led!(" INDEXED BY audit_logs_user", " AND user_id = $8"),
            Lead::Key => $led!(" INDEXED BY audit_logs_api_key", " AND api_key_id = $7"),
            Lead::Policy => {
                $led!(" INDEXED BY audit_logs_policy", " AND policy_id = $16 AND policy_version = $17")
            }
            Lead::Model => $led!(" INDEXED BY audit_logs_model", " AND model = $14"),
            Lead::Workspace => $led!(" INDEXED BY audit_logs_workspace", " AND workspace_id = $6"),
            Lead::Upstream => $led!(" INDEXED BY audit_logs_upstream", " AND upstream = $15"),
            Lead::Term(_) => $by_term!(),
        }
    };
}

/// For PostgreSQL and for SQLite.
type Texts<T> = (T, T);

fn pages(lead: &Lead) -> Texts<Directions> {
    macro_rules! page {
        ($from:expr, $at:literal, $id:literal, $direction:literal) => {
            tenant_sql!(
                "SELECT ",
                audit_columns!(),
                $from,
                conditions!(),
                " ORDER BY ",
                $at,
                " ",
                $direction,
                ", ",
                $id,
                " ",
                $direction,
                " LIMIT $19"
            )
        };
    }
    macro_rules! both {
        ($index:literal, $lead:literal) => {
            Directions {
                ascending: page!(led!($index, $lead, ">"), "occurred_at", "id", "ASC"),
                descending: page!(led!($index, $lead, "<"), "occurred_at", "id", "DESC"),
            }
        };
    }
    macro_rules! on_each {
        ($index:literal, $lead:literal) => {
            (both!("", $lead), both!($index, $lead))
        };
    }
    macro_rules! by_term {
        () => {{
            let directions = Directions {
                ascending: page!(led_by_term!(">"), "at", "row_id", "ASC"),
                descending: page!(led_by_term!("<"), "at", "row_id", "DESC"),
            };
            (directions, directions)
        }};
    }
    by_lead!(lead, on_each, by_term)
}

/// `$19` is the width of a bucket in microseconds. `alone`: what the index of the lead holds is enough.
fn buckets(lead: &Lead, alone: bool) -> Texts<TenantSql> {
    macro_rules! counted {
        ($at:literal, $on_postgres:expr, $on_sqlite:expr) => {
            (
                tenant_sql!(
                    "SELECT date_bin($19 * INTERVAL '1 microsecond', ",
                    $at,
                    ", TIMESTAMPTZ 'epoch') AS start, COUNT(*) AS requests",
                    $on_postgres,
                    " GROUP BY 1 ORDER BY 1"
                ),
                tenant_sql!(
                    "SELECT ",
                    $at,
                    " / $19 * $19 AS start, COUNT(*) AS requests",
                    $on_sqlite,
                    " GROUP BY 1 ORDER BY 1"
                ),
            )
        };
    }
    macro_rules! narrow {
        ($index:literal, $lead:literal) => {
            counted!("occurred_at", led!("", $lead, ">"), led!($index, $lead, ">"))
        };
    }
    macro_rules! narrow_by_term {
        () => {
            counted!("at", concat!(" FROM ", of_term!(">"), " AS t"), concat!(" FROM ", of_term!(">"), " AS t"))
        };
    }
    macro_rules! wide {
        ($index:literal, $lead:literal) => {
            counted!(
                "occurred_at",
                concat!(led!("", $lead, ">"), conditions!()),
                concat!(led!($index, $lead, ">"), conditions!())
            )
        };
    }
    macro_rules! wide_by_term {
        () => {
            counted!("at", concat!(led_by_term!(">"), conditions!()), concat!(led_by_term!(">"), conditions!()))
        };
    }
    if alone { by_lead!(lead, narrow, narrow_by_term) } else { by_lead!(lead, wide, wide_by_term) }
}

impl AuditLogs<'_> {
    /// # Errors
    /// [`StoreError::Missing`]`("cursor")`.
    pub async fn list(&mut self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<AuditRow>, StoreError> {
        let stored: Vec<Stored> = listed(self.tx, filter, page)?.all().await?;
        let rows = stored.into_iter().map(Stored::row).collect::<Result<Vec<_>, _>>()?;
        Ok(filter.sort.page(page, rows, |row| (Value::Time(row.event.occurred_at), row.event.id.uuid())))
    }

    /// How many requests meet the conditions, by time, oldest first, without buckets in which there are none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn histogram(&mut self, filter: &AuditFilter, width: Duration) -> Result<Vec<BucketCount>, StoreError> {
        Ok(counted(self.tx, filter, width).all().await?)
    }

    /// How the database would find a page, line by line.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    #[doc(hidden)]
    pub async fn plan_of_list(&mut self, filter: &AuditFilter, page: &PageRequest) -> Result<Vec<String>, StoreError> {
        Ok(listed(self.tx, filter, page)?.plan().await?)
    }

    /// How the database would count, line by line.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    #[doc(hidden)]
    pub async fn plan_of_histogram(&mut self, filter: &AuditFilter) -> Result<Vec<String>, StoreError> {
        Ok(counted(self.tx, filter, Duration::from_secs(3600)).plan().await?)
    }
}

fn listed<'t>(tx: &'t mut TenantTx, filter: &AuditFilter, page: &PageRequest) -> Result<Statement<'t>, StoreError> {
    let lead = filter.lead();
    let after = filter.sort.start(page)?.after(filter.sort.descending);
    let (postgres, sqlite) = pages(&lead);
    let statement = tx.statement(filter.sort.of(tx.tx.either(postgres, sqlite)));
    Ok(bind(statement, filter, after, page.rows(), lead))
}

fn counted<'t>(tx: &'t mut TenantTx, filter: &AuditFilter, width: Duration) -> Statement<'t> {
    let lead = filter.lead();
    let (postgres, sqlite) = buckets(&lead, filter.leads_alone());
    let width = i64::try_from(width.as_micros()).unwrap_or(i64::MAX).max(1);
    let text = tx.tx.either(postgres, sqlite);
    bind(tx.statement(text), filter, (NEVER, Uuid::nil()), width, lead)
}

fn bind<'t>(
    statement: Statement<'t>,
    filter: &AuditFilter,
    (after, id): (Timestamp, Uuid),
    last: i64,
    lead: Lead,
) -> Statement<'t> {
    let statement = statement
        .planned_for_its_arguments()
        .bind(after)
        .bind(id)
        .bind(filter.from.unwrap_or(NEVER).clamp(NEVER, END_OF_TIME))
        .bind(filter.to.unwrap_or(END_OF_TIME).clamp(NEVER, END_OF_TIME))
        .bind(filter.workspace_id)
        .bind(filter.api_key_id)
        .bind(filter.user_id.as_deref())
        .bind(filter.action.map(Action::as_str))
        .bind(filter.category.map(audit_terms::category))
        .bind(filter.rule_id.as_deref().map(audit_terms::rule))
        .bind(filter.min_risk_score.filter(|least| *least > 0).map(i64::from))
        .bind(filter.max_risk_score.filter(|most| *most < 100).map(i64::from))
        .bind(filter.model.as_deref())
        .bind(filter.upstream.as_deref())
        .bind(filter.policy_id)
        .bind(filter.policy_version)
        .bind(filter.id)
        .bind(last);
    match lead {
        Lead::Term(term) => statement.bind(term),
        _ => statement,
    }
}
