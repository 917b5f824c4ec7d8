//! What the live stream of events needs: tickets that open one, and both audit trails read forwards.

use sqlx::types::uuid::Uuid;

use super::admin_events::{self, AdminEventRecord};
use super::audit_logs::{self, AuditRow, audit_columns};
use super::engine::Mode;
use super::error::taken;
use super::page::END_OF_TIME;
use super::statement::{TenantSql, tenant_sql};
use super::{Store, StoreError, TenantTx, TokenHash};
use crate::domain::{OrgId, SessionId, Timestamp, UserId};

/// A place in the common order of both trails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct EventPosition {
    #[sqlx(rename = "occurred_at")]
    pub at: Timestamp,
    pub id: Uuid,
}

impl EventPosition {
    /// After everything that occurred at `at`.
    #[must_use]
    pub const fn end_of(at: Timestamp) -> Self {
        Self { at, id: Uuid::max() }
    }

    /// Before this one, and after every other that is.
    #[must_use]
    pub const fn just_before(self) -> Self {
        Self { at: self.at, id: Uuid::from_u128(self.id.as_u128().saturating_sub(1)) }
    }

    /// What both engines can compare with.
    fn storable(self) -> Self {
        Self { at: self.at.clamp(Timestamp::from_micros(0), END_OF_TIME), id: self.id }
    }
}

/// Whose ticket it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct EventTicket {
    pub org_id: OrgId,
    pub user_id: UserId,
    pub session_id: SessionId,
    pub expires_at: Timestamp,
}

impl Store {
    /// Spends a ticket: of several who present it, one gets it. None when it is unknown, spent or expired.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn spend_event_ticket(&self, ticket: &TokenHash) -> Result<Option<EventTicket>, StoreError> {
        const SPEND: &str =
            "DELETE FROM event_tickets WHERE token_hash = $1 RETURNING org_id, user_id, session_id, expires_at";
        let mut tx = self.inner.begin_unscoped(Mode::Write).await?;
        let spent: Option<EventTicket> = tx.statement(SPEND).bind(&ticket[..]).optional().await?;
        tx.commit().await?;
        let now = self.inner.clock.now();
        Ok(spent.filter(|ticket| ticket.expires_at > now))
    }
}

/// Both trails of the organization, oldest first.
pub struct EventStream<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl EventStream<'_> {
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn add_ticket(
        &mut self,
        user: UserId,
        session: SessionId,
        ticket: &TokenHash,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        const ADD: TenantSql = tenant_sql!(
            "INSERT INTO event_tickets (org_id, user_id, session_id, token_hash, expires_at) VALUES ($1, $2, $3, $4, $5)"
        );
        let add = self.tx.statement(ADD).bind(user).bind(session).bind(&ticket[..]).bind(expires_at);
        add.execute().await.map_err(taken("ticket"))?;
        Ok(())
    }

    /// At most `limit` requests after one position and not after another.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn verdicts(
        &mut self,
        after: EventPosition,
        until: EventPosition,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        const READ: TenantSql = tenant_sql!(
            "SELECT ",
            audit_columns!(),
            " FROM audit_logs
            WHERE org_id = $1 AND (occurred_at, id) > ($2, $3) AND (occurred_at, id) <= ($4, $5)
            ORDER BY occurred_at, id
            LIMIT $6"
        );
        let stored: Vec<audit_logs::Stored> = self.between(READ, after, until, limit).await?;
        stored.into_iter().map(audit_logs::Stored::row).collect()
    }

    /// The same of the admin face.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn admin_events(
        &mut self,
        after: EventPosition,
        until: EventPosition,
        limit: u32,
    ) -> Result<Vec<AdminEventRecord>, StoreError> {
        const READ: TenantSql = tenant_sql!(
            "SELECT id, occurred_at, actor_type, actor_id, actor_email, action, target_type, target_id, outcome, ip,
                user_agent, request_id, before, after
            FROM admin_events
            WHERE org_id = $1 AND (occurred_at, id) > ($2, $3) AND (occurred_at, id) <= ($4, $5)
            ORDER BY occurred_at, id
            LIMIT $6"
        );
        let stored: Vec<admin_events::Stored> = self.between(READ, after, until, limit).await?;
        stored.into_iter().map(admin_events::Stored::record).collect()
    }

    /// Where everything between two positions stands; of each trail the newest `limit`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn positions(
        &mut self,
        after: EventPosition,
        until: EventPosition,
        limit: u32,
    ) -> Result<Vec<EventPosition>, StoreError> {
        const READ: TenantSql = tenant_sql!(
            "SELECT occurred_at, id FROM (
                SELECT occurred_at, id FROM audit_logs
                WHERE org_id = $1 AND (occurred_at, id) > ($2, $3) AND (occurred_at, id) <= ($4, $5)
                ORDER BY occurred_at DESC, id DESC LIMIT $6
            ) AS verdicts
            UNION ALL
            SELECT occurred_at, id FROM (
                SELECT occurred_at, id FROM admin_events
                WHERE org_id = $1 AND (occurred_at, id) > ($2, $3) AND (occurred_at, id) <= ($4, $5)
                ORDER BY occurred_at DESC, id DESC LIMIT $6
            ) AS acts"
        );
        self.between(READ, after, until, limit).await
    }

    /// Where an event of either trail stands.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn position_of(&mut self, id: Uuid) -> Result<Option<EventPosition>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT occurred_at, id FROM audit_logs WHERE org_id = $1 AND id = $2
            UNION ALL
            SELECT occurred_at, id FROM admin_events WHERE org_id = $1 AND id = $2"
        );
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    async fn between<T: super::statement::Row>(
        &mut self,
        sql: TenantSql,
        after: EventPosition,
        until: EventPosition,
        limit: u32,
    ) -> Result<Vec<T>, StoreError> {
        let (after, until) = (after.storable(), until.storable());
        let read = self.tx.statement(sql).bind(after.at).bind(after.id).bind(until.at).bind(until.id);
        Ok(read.bind(i64::from(limit)).all().await?)
    }
}
