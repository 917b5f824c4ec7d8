use std::collections::BTreeMap;

use sentinel::authn::{Rewrapped, Sealer, credential_place, mfa_place, rewrap, sso_place};
use sentinel::config::{AuthConfig, EncryptionConfig};
use sentinel::domain::{CredentialId, Secret};
use sentinel::store::{NewProviderCredential, SsoConnection};

use super::{START, on_both_engines};

fn sealer(key: Option<&str>, previous: Option<&str>, jwt: &str) -> Sealer {
    let secret = |text: &str| Secret::new(text.repeat(32));
    let auth = AuthConfig { jwt_secret: Some(secret(jwt)), ..AuthConfig::default() };
    Sealer::of(&EncryptionConfig { key: key.map(secret), previous_key: previous.map(secret) }, &auth).unwrap()
}

on_both_engines! {
    async fn a_changed_key_seals_everything_anew_and_what_is_deleted_is_overwritten(world: World) {
        let first = sealer(None, None, "j");
        let (org, workspace, scope) = (world.acme.org_id, world.acme.workspace_id, world.acme.scope);
        let user = world.acme.user_id;
        let id = CredentialId::new();
        let place = credential_place(org, workspace, "openai", id);
        let mut tx = world.store.write(scope).await.unwrap();
        let new = NewProviderCredential {
            id,
            workspace_id: workspace,
            upstream: "openai".to_owned(),
            name: "team".to_owned(),
            last_four: String::new(),
            ciphertext: first.seal(&place, b"sk-value").unwrap(),
            key_id: first.key_id(),
            created_by: None,
        };
        tx.provider_credentials().insert(new).await.unwrap();
        assert!(tx.users().offer_mfa(user, &first.seal(&mfa_place(user), b"seed").unwrap()).await.unwrap());
        let connection = SsoConnection {
            issuer: "https://issuer.example".to_owned(),
            client_id: "client".to_owned(),
            client_secret: first.seal(&sso_place(org), b"shared").unwrap(),
            email_domains: Vec::new(),
            default_role: "member".to_owned(),
            max_role: "member".to_owned(),
            groups_claim: None,
            role_mapping: BTreeMap::new(),
            sso_required: false,
            created_at: START,
            updated_at: START,
        };
        tx.identity().set_connection(connection).await.unwrap();
        tx.commit().await.unwrap();

        // From the signing secret to a key of its own, and from that to another one.
        let all = Rewrapped { provider_credentials: 1, second_factors: 1, sign_on_providers: 1 };
        let second = sealer(Some("b"), None, "j");
        assert_eq!(rewrap(&world.store, &second).await.unwrap(), all);
        assert_eq!(rewrap(&world.store, &second).await.unwrap(), Rewrapped::default(), "there is nothing left to do");
        let stranger = rewrap(&world.store, &sealer(Some("c"), None, "x")).await.unwrap_err().to_string();
        assert!(stranger.contains(&place) && stranger.contains("another key"), "{stranger}");
        let third = sealer(Some("c"), Some("b"), "x");
        assert_eq!(rewrap(&world.store, &third).await.unwrap(), all);

        let last = sealer(Some("c"), None, "y");
        let held = world.store.workspace_credentials(workspace, scope).await.unwrap();
        assert_eq!(held[0].record.key_id, last.key_id());
        assert_eq!(last.open(&place, &held[0].ciphertext).unwrap().expose(), b"sk-value");
        let mut tx = world.store.write(scope).await.unwrap();
        let seed = tx.users().mfa(user).await.unwrap().unwrap().mfa_secret.unwrap();
        assert_eq!(last.open(&mfa_place(user), &seed).unwrap().expose(), b"seed");
        let connection = tx.identity().connection().await.unwrap().unwrap();
        assert_eq!(last.open(&sso_place(org), &connection.client_secret).unwrap().expose(), b"shared");

        assert!(tx.provider_credentials().remove(id).await.unwrap());
        assert!(!tx.provider_credentials().remove(id).await.unwrap());
        assert!(tx.provider_credentials().sealed(id).await.unwrap().is_none());
        tx.commit().await.unwrap();
        assert!(world.store.workspace_credentials(workspace, scope).await.unwrap().is_empty());
    }
}
