//! `Idempotency-Key`: which requests have been made, and what was answered.

use sqlx::types::Json;

use super::error::missing;
use super::statement::{TenantSql, tenant_sql};
use super::{StoreError, TenantTx};
use crate::domain::{Timestamp, UserId};

/// A request that must not be done twice. The key itself is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// SHA-256 of the person and the key they sent, in hexadecimal digits.
    pub key: String,
    pub user_id: UserId,
    pub path: String,
    /// SHA-256 of the body.
    pub hash: [u8; 32],
    pub expires_at: Timestamp,
}

/// An answer that is kept; `sealed` is encrypted by whoever keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    pub status: u16,
    pub sealed: String,
}

/// What is known of a request that is about to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is the first of its key.
    First,
    /// It was done, with this answer.
    Answered(KeptAnswer),
    /// The first one has not been answered.
    InFlight,
    /// The key was used for another path or body.
    Different,
}

#[derive(sqlx::FromRow)]
struct Stored {
    path: String,
    request_hash: Vec<u8>,
    status: Option<i64>,
    response: Option<Json<String>>,
}

/// The keys of the organization.
pub struct IdempotencyKeys<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl IdempotencyKeys<'_> {
    /// Claims the key, or says what it was used for. Expired keys of the organization go.
    pub async fn begin(&mut self, request: &IdempotentRequest) -> Result<Begun, StoreError> {
        const FORGET: TenantSql = tenant_sql!("DELETE FROM idempotency_keys WHERE org_id = $1 AND expires_at <= $2");
        const CLAIM: TenantSql = tenant_sql!(
            "INSERT INTO idempotency_keys (org_id, idempotency_key, user_id, method, path, request_hash, created_at,
                expires_at)
            VALUES ($1, $2, $3, 'POST', $4, $5, $6, $7)
            ON CONFLICT (org_id, idempotency_key) DO NOTHING"
        );
        const FIND: TenantSql = tenant_sql!(
            "SELECT path, request_hash, status, response FROM idempotency_keys WHERE org_id = $1 AND idempotency_key = $2"
        );
        let now = self.tx.now();
        self.tx.statement(FORGET).bind(now).execute().await?;
        let claimed = self
            .tx
            .statement(CLAIM)
            .bind(request.key.as_str())
            .bind(request.user_id)
            .bind(request.path.as_str())
            .bind(&request.hash[..])
            .bind(now)
            .bind(request.expires_at)
            .execute()
            .await
            .map_err(missing("org_id"))?;
        if claimed == 1 {
            return Ok(Begun::First);
        }
        let stored: Option<Stored> = self.tx.statement(FIND).bind(request.key.as_str()).optional().await?;
        // Released between the two statements.
        let Some(stored) = stored else { return Ok(Begun::InFlight) };
        if stored.path != request.path || stored.request_hash != request.hash {
            return Ok(Begun::Different);
        }
        Ok(match (stored.status.and_then(|status| u16::try_from(status).ok()), stored.response) {
            (Some(status), Some(Json(sealed))) => Begun::Answered(KeptAnswer { status, sealed }),
            _ => Begun::InFlight,
        })
    }

    /// Keeps the answer to the request that claimed the key.
    pub async fn keep(&mut self, key: &str, answer: KeptAnswer) -> Result<(), StoreError> {
        const KEEP: TenantSql = tenant_sql!(
            "UPDATE idempotency_keys SET status = $3, response = $4 WHERE org_id = $1 AND idempotency_key = $2"
        );
        let status = i64::from(answer.status);
        self.tx.statement(KEEP).bind(key).bind(status).bind(Json(answer.sealed)).execute().await?;
        Ok(())
    }

    /// Lets the key be used again: nothing was done.
    pub async fn release(&mut self, key: &str) -> Result<(), StoreError> {
        const RELEASE: TenantSql =
            tenant_sql!("DELETE FROM idempotency_keys WHERE org_id = $1 AND idempotency_key = $2 AND status IS NULL");
        self.tx.statement(RELEASE).bind(key).execute().await?;
        Ok(())
    }
}
