use super::seal::{SealError, Sealer, credential_place, mfa_place, sso_place};
use crate::store::{Store, StoreError};

/// How many secrets were sealed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rewrapped {
    pub provider_credentials: u64,
    pub second_factors: u64,
    pub sign_on_providers: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{place}: {error}")]
    Seal { place: String, error: SealError },
}

/// Seals whatever is at rest under another key than today's anew, organization by organization. What is in use meanwhile
/// stays readable, under one key or the other.
///
/// # Errors
/// [`RewrapError`], which names the secret; what was done until then stays done.
pub async fn rewrap(store: &Store, sealer: &Sealer) -> Result<Rewrapped, RewrapError> {
    let again = |place: String, sealed: &[u8]| {
        sealer.reseal(&place, sealed).map_err(|error| RewrapError::Seal { place, error })
    };
    let mut done = Rewrapped::default();
    for scope in store.every_scope().await? {
        let mut tx = store.write(scope).await?;
        for old in tx.provider_credentials().sealed_otherwise(&sealer.key_id()).await? {
            let record = &old.record;
            let place = credential_place(record.org_id, record.workspace_id, &record.upstream, record.id);
            let new = again(place, &old.ciphertext)?;
            tx.provider_credentials().reseal(record.id, new, &sealer.key_id()).await?;
            done.provider_credentials += 1;
        }
        for (user, old) in tx.users().mfa_secrets().await? {
            if !sealer.is_todays(&old) {
                let new = again(mfa_place(user), &old)?;
                tx.users().reseal_mfa_secret(user, &old, &new).await?;
                done.second_factors += 1;
            }
        }
        if let Some(connection) = tx.identity().connection().await?
            && !sealer.is_todays(&connection.client_secret)
        {
            let client_secret = again(sso_place(scope.org_id()), &connection.client_secret)?;
            tx.identity().set_connection(crate::store::SsoConnection { client_secret, ..connection }).await?;
            done.sign_on_providers += 1;
        }
        tx.commit().await?;
    }
    Ok(done)
}
