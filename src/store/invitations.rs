//! Invitations: an address that may become a person of the organization, by a link that works once.

use sqlx::types::Json;
use sqlx::types::uuid::Uuid;

use super::engine::Mode;
use super::error::taken;
use super::statement::{TenantSql, tenant_sql};
use super::users::email_key;
use super::{Page, PageRequest, Store, StoreError, TenantScope, TenantTx, TokenHash};
use crate::domain::{InvitationId, OrgId, Timestamp, UserId};

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct InvitationRecord {
    pub id: InvitationId,
    pub org_id: OrgId,
    pub email: String,
    pub full_name: String,
    pub role: String,
    #[sqlx(json)]
    pub permissions: Vec<String>,
    pub invited_by: UserId,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewInvitation {
    pub id: InvitationId,
    pub email: String,
    pub full_name: String,
    pub role: String,
    pub permissions: Vec<String>,
    pub token: TokenHash,
    pub invited_by: UserId,
    pub expires_at: Timestamp,
}

/// The open invitations of the organization: neither accepted nor revoked. Expired ones are among them until the address
/// is invited again.
pub struct Invitations<'t> {
    pub(super) tx: &'t mut TenantTx,
}

macro_rules! columns {
    () => {
        "id, org_id, email, full_name, role, permissions, invited_by, expires_at, created_at"
    };
}

impl Invitations<'_> {
    /// # Errors
    /// [`StoreError::Conflict`]`("invitation")` when one to the address is open and has not expired.
    pub async fn insert(&mut self, new: NewInvitation) -> Result<InvitationRecord, StoreError> {
        const END_EXPIRED: TenantSql = tenant_sql!(
            "UPDATE invitations
            SET revoked_at = $3
            WHERE org_id = $1 AND email_key = $2 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at <= $3"
        );
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO invitations (
                org_id, id, email, email_key, full_name, role, permissions, token_hash, invited_by, expires_at, created_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            RETURNING ",
            columns!()
        );
        let now = self.tx.now();
        let key = email_key(&new.email);
        self.tx.statement(END_EXPIRED).bind(key.as_str()).bind(now).execute().await?;
        self.tx
            .statement(INSERT)
            .bind(new.id)
            .bind(new.email.trim())
            .bind(key.as_str())
            .bind(new.full_name)
            .bind(new.role)
            .bind(Json(new.permissions))
            .bind(&new.token[..])
            .bind(new.invited_by)
            .bind(new.expires_at)
            .bind(now)
            .one()
            .await
            .map_err(taken("invitation"))
    }

    pub async fn find(&mut self, id: InvitationId) -> Result<Option<InvitationRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM invitations WHERE org_id = $1 AND id = $2 AND accepted_at IS NULL AND revoked_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// Newest first.
    pub async fn list(&mut self, page: &PageRequest) -> Result<Page<InvitationRecord>, StoreError> {
        const LIST: TenantSql = tenant_sql!(
            "SELECT ",
            columns!(),
            " FROM invitations
            WHERE org_id = $1 AND id < $2 AND accepted_at IS NULL AND revoked_at IS NULL
            ORDER BY id DESC
            LIMIT $3"
        );
        let rows = self.tx.statement(LIST).bind(page.start::<Uuid>()?).bind(page.rows()).all().await?;
        Ok(page.page(rows, |invitation: &InvitationRecord| invitation.id.uuid()))
    }

    /// Another link in the place of the one before, which no longer works.
    pub async fn renew(
        &mut self,
        id: InvitationId,
        token: &TokenHash,
        expires_at: Timestamp,
    ) -> Result<Option<InvitationRecord>, StoreError> {
        const RENEW: TenantSql = tenant_sql!(
            "UPDATE invitations
            SET token_hash = $3, expires_at = $4
            WHERE org_id = $1 AND id = $2 AND accepted_at IS NULL AND revoked_at IS NULL
            RETURNING ",
            columns!()
        );
        Ok(self.tx.statement(RENEW).bind(id).bind(&token[..]).bind(expires_at).optional().await?)
    }

    /// False when there is none that is open.
    pub async fn revoke(&mut self, id: InvitationId) -> Result<bool, StoreError> {
        const REVOKE: TenantSql = tenant_sql!(
            "UPDATE invitations
            SET revoked_at = $3
            WHERE org_id = $1 AND id = $2 AND accepted_at IS NULL AND revoked_at IS NULL"
        );
        let now = self.tx.now();
        Ok(self.tx.statement(REVOKE).bind(id).bind(now).execute().await? == 1)
    }

    /// Uses the link up. False when another request was faster, or it no longer works.
    pub async fn accept(&mut self, id: InvitationId, token: &TokenHash) -> Result<bool, StoreError> {
        const ACCEPT: TenantSql = tenant_sql!(
            "UPDATE invitations
            SET accepted_at = $4
            WHERE org_id = $1 AND id = $2 AND token_hash = $3
                AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $4"
        );
        let now = self.tx.now();
        Ok(self.tx.statement(ACCEPT).bind(id).bind(&token[..]).bind(now).execute().await? == 1)
    }
}

/// What a link opens, and what its organization demands.
#[derive(Clone, Debug)]
pub struct Invited {
    pub scope: TenantScope,
    pub invitation: InvitationRecord,
    pub org_name: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    invitation: InvitationRecord,
    org_name: String,
}

impl Store {
    /// None when the link is unknown, used, revoked or expired, or its organization is not active.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resolve_invitation(&self, token: &TokenHash) -> Result<Option<Invited>, StoreError> {
        const RESOLVE: &str = "
            SELECT i.id, i.org_id, i.email, i.full_name, i.role, i.permissions, i.invited_by, i.expires_at, i.created_at,
                o.name AS org_name
            FROM invitations i
            JOIN organizations o ON o.id = i.org_id
            WHERE i.token_hash = $1
                AND i.accepted_at IS NULL
                AND i.revoked_at IS NULL
                AND i.expires_at > $2
                AND o.is_active
                AND o.deleted_at IS NULL";
        let mut tx = self.inner.begin_unscoped(Mode::Read).await?;
        let now = self.inner.clock.now();
        let row: Option<Row> = tx.statement(RESOLVE).bind(&token[..]).bind(now).optional().await?;
        tx.commit().await?;
        Ok(row.map(|row| Invited {
            scope: TenantScope { org: row.invitation.org_id },
            invitation: row.invitation,
            org_name: row.org_name,
        }))
    }
}
