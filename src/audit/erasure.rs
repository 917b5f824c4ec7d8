//! End users are erased from the audit trail: their names and addresses go, hashes of them stay in their place, and the chains
//! stay verifiable. Who knows a name and a row's id can still compute that row's hash; nobody can read the name from it.

use crate::domain::personal_hash;
use crate::store::{ErasedRow, PersonalRow, Store, StoreError, TenantScope};

/// Rows of one transaction.
const PAGE: i64 = 2_000;

/// Who is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasure<'u> {
    /// The application's own name for its end user.
    User(&'u str),
    Everyone,
}

/// Erases rows that are in the database, in as many transactions as it takes. Returns how many.
///
/// # Errors
/// [`crate::store::LEGAL_HOLD`], [`StoreError::Unavailable`]; what was erased before stays erased.
pub async fn erase(store: &Store, scope: TenantScope, whom: Erasure<'_>) -> Result<u64, StoreError> {
    let user = match whom {
        Erasure::User(user) => Some(user),
        Erasure::Everyone => None,
    };
    let (mut erased, mut after) = (0, None);
    loop {
        let mut tx = store.write(scope).await?;
        tx.serialize().await?;
        let rows = tx.audit_logs().personal(user, after, PAGE).await?;
        after = rows.last().map(|row| (row.occurred_at, row.id));
        let hashes: Vec<ErasedRow> = rows.iter().map(hashed).collect();
        // With nothing to do as well: a hold is to be told.
        erased += tx.audit_logs().erase(&hashes).await?;
        tx.commit().await?;
        if after.is_none() {
            return Ok(erased);
        }
    }
}

fn hashed(row: &PersonalRow) -> ErasedRow {
    let hash = |value: &Option<String>| value.as_deref().map(|value| personal_hash(row.id, value));
    ErasedRow { id: row.id, user_id: hash(&row.user_id), client_ip: hash(&row.client_ip) }
}
