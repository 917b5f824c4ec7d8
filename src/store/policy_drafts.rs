//! Drafts: versions of policies that are not in force yet. They can be edited, approved, published and thrown away.

use sqlx::types::Json;
use sqlx::types::uuid::Uuid;

use super::error::taken;
use super::policies::{self, NewPolicy, PolicyRecord};
use super::statement::{TenantSql, tenant_sql};
use super::{Change, Page, PageRequest, StoreError, TenantTx};
use crate::domain::{PolicyId, UserId};

/// What a draft is a draft of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftOf {
    NewPolicy,
    /// Of the next version of this policy.
    Policy(PolicyId),
    /// The same, made of reviewers' feedback.
    Proposal(PolicyId),
}

/// The organization's drafts, by the id of their row, which stays theirs when they are published.
pub struct PolicyDrafts<'t> {
    pub(super) tx: &'t mut TenantTx,
}

impl PolicyDrafts<'_> {
    /// A draft of a new version, or of a new policy. `policy.id` is its id.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("policy_id")`.
    pub async fn insert(&mut self, of: DraftOf, policy: NewPolicy) -> Result<PolicyRecord, StoreError> {
        const INSERT: TenantSql = tenant_sql!(
            "INSERT INTO policies (
                org_id, id, root_id, name, description, version, parent_policy_id, document, is_default, comment, created_by,
                created_at, is_proposal, is_active, is_draft
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, FALSE, TRUE)
            RETURNING ",
            policies::columns!()
        );
        self.tx.serialize().await?;
        let (root, version, parent) = match of {
            DraftOf::NewPolicy => (policy.id, 1, None),
            DraftOf::Policy(root) | DraftOf::Proposal(root) => {
                let current = self.tx.policies().find(root).await?.ok_or(StoreError::Missing("policy_id"))?;
                (root, self.tx.policies().next_version(root).await?, Some(current.id))
            }
        };
        let now = self.tx.now();
        let insert = self.tx.statement(INSERT).bind(policy.id).bind(root).bind(policy.name).bind(policy.description);
        let insert = insert.bind(version).bind(parent).bind(Json(policy.document)).bind(policy.is_default);
        let insert = insert.bind(policy.comment).bind(policy.created_by).bind(now);
        Ok(insert.bind(matches!(of, DraftOf::Proposal(_))).one().await?)
    }

    pub async fn find(&mut self, id: PolicyId) -> Result<Option<PolicyRecord>, StoreError> {
        const FIND: TenantSql = tenant_sql!(
            "SELECT ",
            policies::columns!(),
            " FROM policies WHERE org_id = $1 AND id = $2 AND is_draft AND deleted_at IS NULL"
        );
        Ok(self.tx.statement(FIND).bind(id).optional().await?)
    }

    /// The newest first; of one policy when it is given.
    ///
    /// # Errors
    /// [`StoreError::Missing`]`("cursor")`.
    pub async fn list(&mut self, of: Option<PolicyId>, page: &PageRequest) -> Result<Page<PolicyRecord>, StoreError> {
        const LIST: TenantSql = tenant_sql!(
            "SELECT ",
            policies::columns!(),
            " FROM policies
            WHERE org_id = $1 AND id < $2 AND ($3 IS NULL OR root_id = $3) AND is_draft AND deleted_at IS NULL
            ORDER BY id DESC
            LIMIT $4"
        );
        let start = page.start::<Uuid>()?;
        let rows = self.tx.statement(LIST).bind(start).bind(of).bind(page.rows()).all().await?;
        Ok(page.page(rows, |draft: &PolicyRecord| draft.id.uuid()))
    }

    /// The newest draft of a policy, or of a new policy with this name.
    pub async fn newest(&mut self, of: Option<PolicyId>, name: &str) -> Result<Option<PolicyRecord>, StoreError> {
        const NEWEST: TenantSql = tenant_sql!(
            "SELECT ",
            policies::columns!(),
            " FROM policies
            WHERE org_id = $1 AND is_draft AND deleted_at IS NULL
                AND (root_id = $2 OR ($2 IS NULL AND root_id = id AND lower(name) = lower($3)))
            ORDER BY id DESC
            LIMIT 1"
        );
        Ok(self.tx.statement(NEWEST).bind(of).bind(name).optional().await?)
    }

    /// The newest open proposal for a policy that still stands on the version in force.
    pub async fn open_proposal(&mut self, root: PolicyId) -> Result<Option<PolicyRecord>, StoreError> {
        const OPEN: TenantSql = tenant_sql!(
            "SELECT ",
            policies::columns!(),
            " FROM policies
            WHERE org_id = $1 AND root_id = $2 AND is_draft AND is_proposal AND deleted_at IS NULL
                AND parent_policy_id = (
                    SELECT id FROM policies WHERE org_id = $1 AND root_id = $2 AND is_active AND deleted_at IS NULL
                )
            ORDER BY id DESC
            LIMIT 1"
        );
        Ok(self.tx.statement(OPEN).bind(root).optional().await?)
    }

    /// Changes a draft, which then stands on the version that is in force now, and takes its approval away. The author
    /// (`policy.created_by`) becomes the one who edited it last; `policy.id` is not looked at.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when `expected` is not its revision.
    pub async fn edit(
        &mut self,
        id: PolicyId,
        expected: i64,
        policy: NewPolicy,
    ) -> Result<Option<PolicyRecord>, StoreError> {
        const EDIT: TenantSql = tenant_sql!(
            "UPDATE policies
            SET name = $3, description = $4, document = $5, is_default = $6, comment = $7, updated_by = $8, created_at = $9,
                revision = revision + 1, approved_by = NULL, approved_at = NULL,
                parent_policy_id = (
                    SELECT p.id FROM policies p
                    WHERE p.org_id = $1 AND p.root_id = policies.root_id AND p.is_active AND p.deleted_at IS NULL
                )
            WHERE org_id = $1 AND id = $2 AND is_draft AND deleted_at IS NULL
            RETURNING ",
            policies::columns!()
        );
        let Some(_) = self.locked(id, expected).await? else { return Ok(None) };
        let now = self.tx.now();
        let edit = self.tx.statement(EDIT).bind(id).bind(policy.name).bind(policy.description);
        let edit = edit.bind(Json(policy.document)).bind(policy.is_default).bind(policy.comment);
        Ok(edit.bind(policy.created_by).bind(now).optional().await?)
    }

    /// Says that somebody else has looked at it.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when `expected` is not its revision; [`StoreError::Conflict`]`("author")` when `by` wrote it or
    /// edited it last.
    pub async fn approve(
        &mut self,
        id: PolicyId,
        expected: i64,
        by: UserId,
    ) -> Result<Option<PolicyRecord>, StoreError> {
        const APPROVE: TenantSql = tenant_sql!(
            "UPDATE policies SET approved_by = $3, approved_at = $4
            WHERE org_id = $1 AND id = $2 AND is_draft AND deleted_at IS NULL
            RETURNING ",
            policies::columns!()
        );
        let Some(draft) = self.locked(id, expected).await? else { return Ok(None) };
        if [draft.created_by, draft.updated_by].contains(&Some(by)) {
            return Err(StoreError::Conflict("author"));
        }
        let now = self.tx.now();
        Ok(self.tx.statement(APPROVE).bind(id).bind(by).bind(now).optional().await?)
    }

    /// Makes a draft the version in force, at once.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when `expected` is not its revision; [`StoreError::Conflict`]: `("approval")` when the
    /// organization wants one and it has none, `("draft")` when another version than the one it stands on is in force,
    /// `("policy name")`.
    pub async fn publish(&mut self, id: PolicyId, expected: i64) -> Result<Option<PolicyRecord>, StoreError> {
        const PUBLISH: TenantSql = tenant_sql!(
            "UPDATE policies SET is_draft = FALSE, is_active = TRUE, version = $3, created_at = $4
            WHERE org_id = $1 AND id = $2 AND is_draft AND deleted_at IS NULL
            RETURNING ",
            policies::columns!()
        );
        let Some(draft) = self.locked(id, expected).await? else { return Ok(None) };
        if draft.approved_by.is_none() && self.tx.organization().get().await?.requires_policy_approval() {
            return Err(StoreError::Conflict("approval"));
        }
        let (root, now) = (draft.root_id, self.tx.now());
        let current = self.tx.policies().find(root).await?;
        if current.as_ref().map(|current| current.id) != draft.parent_policy_id {
            return Err(StoreError::Conflict("draft"));
        }
        // Versions are numbered in the order in which they come into force.
        let last = self.tx.policies().next_version(root).await? - 1;
        let version = if last == draft.version { last } else { last + 1 };
        if let Some(current) = current {
            self.tx.policies().retire(current.id, None).await?;
        }
        if draft.is_default {
            self.tx.policies().clear_default().await?;
        }
        let publish = self.tx.statement(PUBLISH).bind(id).bind(version).bind(now);
        let record: Option<PolicyRecord> = publish.optional().await.map_err(taken("policy name"))?;
        let org = self.tx.scope().org_id();
        self.tx.record(Change::Policy { org });
        Ok(record)
    }

    /// Throws a draft away. Returns it as it was.
    pub async fn discard(&mut self, id: PolicyId) -> Result<Option<PolicyRecord>, StoreError> {
        const DISCARD: TenantSql = tenant_sql!(
            "UPDATE policies SET deleted_at = $3 WHERE org_id = $1 AND id = $2 AND is_draft AND deleted_at IS NULL
            RETURNING ",
            policies::columns!()
        );
        let now = self.tx.now();
        Ok(self.tx.statement(DISCARD).bind(id).bind(now).optional().await?)
    }

    /// The draft, which nobody else changes until the transaction ends.
    async fn locked(&mut self, id: PolicyId, expected: i64) -> Result<Option<PolicyRecord>, StoreError> {
        self.tx.serialize().await?;
        match self.find(id).await? {
            Some(draft) if draft.revision != expected => Err(StoreError::Stale),
            draft => Ok(draft),
        }
    }
}
