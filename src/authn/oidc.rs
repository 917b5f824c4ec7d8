//! Sign-on by an organization's own OpenID Connect provider: authorization code with PKCE, state and nonce.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod, CoreErrorResponseType,
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AdditionalClaims, AsyncHttpClient, AuthType, AuthorizationCode, ClaimsVerificationError, Client,
    ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    HttpRequest, HttpResponse, IdToken, IdTokenClaims, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, StandardErrorResponse, StandardTokenResponse,
    TokenResponse as _, UserInfoClaims,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::domain::{Secret, SharedClock, Timestamp};

/// How long a provider's description and keys are kept.
const KEEP: Duration = Duration::from_secs(600);
/// Descriptions that are kept at once.
const MOST_KEPT: usize = 1000;
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer of a provider that are read.
const MOST_READ: usize = 1 << 20;
/// What a provider may sign with: nothing symmetric, nothing unsigned.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Whatever else a provider says of a person; the groups are in here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Extra {
    #[serde(flatten)]
    claims: HashMap<String, Value>,
}

impl AdditionalClaims for Extra {}

type Token = IdToken<Extra, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

type Claims = IdTokenClaims<Extra, CoreGenderClaim>;

type TokenAnswer = StandardTokenResponse<
    IdTokenFields<
        Extra,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

type Discovered = Client<
    Extra,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    TokenAnswer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The provider cannot be reached, or describes itself wrongly.
    #[error("the provider cannot be used: {0}")]
    Provider(String),
    /// What came back is not a log-in that this installation began.
    #[error("the provider's answer is not valid: {0}")]
    Answer(String),
}

/// How an organization is known to its provider.
pub struct Provider {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Secret<String>,
    pub redirect_uri: String,
    pub groups_claim: Option<String>,
}

/// A log-in that has been begun: where the browser goes, and what must come back.
#[derive(Debug)]
pub struct SignOn {
    pub url: String,
    pub state: String,
    pub nonce: String,
    pub verifier: Secret<String>,
}

/// A person as a provider knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub subject: String,
    pub email: Option<String>,
    /// None: the provider does not say.
    pub email_verified: Option<bool>,
    pub name: Option<String>,
    pub groups: Vec<String>,
}

/// What an issuer's address must be: `https`, or `http` on this machine in development.
#[must_use]
pub fn issuer_fault(issuer: &str, development: bool) -> Option<&'static str> {
    let Ok(url) = Url::parse(issuer) else { return Some("must be an absolute URL") };
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Some("must have neither query, fragment nor credentials");
    }
    (!may_call(&url, development)).then_some("must begin with `https://`")
}

fn may_call(url: &Url, development: bool) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => return false,
    };
    match url.scheme() {
        // In production nothing on this machine is a provider, whatever its certificate says.
        "https" => development || !loopback,
        "http" => development && loopback,
        _ => false,
    }
}

#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("{0} is not an address that may be called")]
    Forbidden(String),
    #[error("the answer is larger than {MOST_READ} bytes")]
    TooLarge,
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

/// The client that `openidconnect` asks through: no redirects, bounded answers, and allowed addresses alone.
#[derive(Clone)]
struct Http {
    client: reqwest::Client,
    development: bool,
}

impl AsyncHttpClient<'_> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

    fn call(&self, request: HttpRequest) -> Self::Future {
        let http = self.clone();
        Box::pin(async move { http.answer(request).await })
    }
}

impl Http {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        if !may_call(request.url(), self.development) {
            return Err(HttpError::Forbidden(request.url().origin().ascii_serialization()));
        }
        let mut answer = self.client.execute(request).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MOST_READ {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// Talks to providers, and keeps what they say of themselves for a while.
pub struct Providers {
    http: Http,
    clock: SharedClock,
    known: Mutex<HashMap<String, (Timestamp, CoreProviderMetadata)>>,
}

impl Providers {
    /// # Errors
    /// [`OidcError::Provider`] when TLS cannot be set up.
    pub fn new(clock: SharedClock, development: bool) -> Result<Self, OidcError> {
        let client = reqwest::Client::builder()
            // A redirect could lead anywhere; no standard endpoint answers with one.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(HTTP_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| OidcError::Provider(error.to_string()))?;
        Ok(Self { http: Http { client, development }, clock, known: Mutex::default() })
    }

    /// Asks the provider to describe itself.
    ///
    /// # Errors
    /// [`OidcError::Provider`].
    pub async fn check(&self, issuer: &str) -> Result<(), OidcError> {
        self.discover(issuer, true).await.map(|_| ())
    }

    /// Where to send the browser.
    ///
    /// # Errors
    /// [`OidcError::Provider`].
    pub async fn begin(&self, provider: &Provider) -> Result<SignOn, OidcError> {
        let client = self.client(provider, false).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        if !may_call(&url, self.http.development) {
            return Err(OidcError::Provider("its authorization endpoint is not `https`".to_owned()));
        }
        Ok(SignOn {
            url: url.into(),
            state: state.secret().clone(),
            nonce: nonce.secret().clone(),
            verifier: Secret::new(verifier.secret().clone()),
        })
    }

    /// Exchanges the code for the person's identity; signature, issuer, audience, expiry and nonce are checked.
    ///
    /// # Errors
    /// [`OidcError`].
    pub async fn finish(
        &self,
        provider: &Provider,
        code: String,
        nonce: String,
        verifier: &Secret<String>,
    ) -> Result<Identity, OidcError> {
        let client = self.client(provider, false).await?;
        let tokens = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| OidcError::Provider("it names no token endpoint".to_owned()))?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().clone()))
            .request_async(&self.http)
            .await
            // The error's own text can carry what the provider sent.
            .map_err(|_| OidcError::Answer("the code was not accepted".to_owned()))?;
        let token = tokens.id_token().ok_or_else(|| OidcError::Answer("it has no ID token".to_owned()))?;
        let nonce = Nonce::new(nonce);
        let claims = match self.verified(&client, token, &nonce) {
            // The provider may have new keys.
            Err(ClaimsVerificationError::SignatureVerification(_)) => {
                let client = self.client(provider, true).await?;
                self.verified(&client, token, &nonce)
            }
            verified => verified,
        };
        let claims = claims.map_err(|error| OidcError::Answer(error.to_string()))?;
        let mut identity = Identity {
            subject: claims.subject().to_string(),
            email: claims.email().map(|email| email.to_string()),
            email_verified: claims.email_verified(),
            name: claims.name().and_then(|name| name.get(None)).map(|name| name.to_string()),
            groups: groups(claims.additional_claims(), provider),
        };
        if identity.email.is_none() || (identity.groups.is_empty() && provider.groups_claim.is_some()) {
            self.ask_for_more(&client, provider, tokens.access_token().clone(), &mut identity).await?;
        }
        Ok(identity)
    }

    /// Signature, issuer, audience, expiry and nonce.
    fn verified(&self, client: &Discovered, token: &Token, nonce: &Nonce) -> Result<Claims, ClaimsVerificationError> {
        let now = || self.clock.now().datetime();
        let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS).set_time_fn(now);
        token.claims(&verifier, nonce).cloned()
    }

    /// Some providers keep the ID token short and tell the rest at their user-info endpoint.
    async fn ask_for_more(
        &self,
        client: &Discovered,
        provider: &Provider,
        token: AccessToken,
        identity: &mut Identity,
    ) -> Result<(), OidcError> {
        let subject = openidconnect::SubjectIdentifier::new(identity.subject.clone());
        let Ok(request) = client.user_info(token, Some(subject)) else { return Ok(()) };
        let info: UserInfoClaims<Extra, CoreGenderClaim> = request
            .request_async(&self.http)
            .await
            .map_err(|_| OidcError::Answer("the user-info endpoint refuses the token".to_owned()))?;
        if identity.email.is_none() {
            identity.email = info.email().map(|email| email.to_string());
            identity.email_verified = info.email_verified();
        }
        if identity.name.is_none() {
            identity.name = info.name().and_then(|name| name.get(None)).map(|name| name.to_string());
        }
        if identity.groups.is_empty() {
            identity.groups = groups(info.additional_claims(), provider);
        }
        Ok(())
    }

    async fn client(&self, provider: &Provider, anew: bool) -> Result<Discovered, OidcError> {
        let metadata = self.discover(&provider.issuer, anew).await?;
        let methods = metadata.token_endpoint_auth_methods_supported();
        let basic = methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let redirect = RedirectUrl::new(provider.redirect_uri.clone())
            .map_err(|_| OidcError::Provider("admin.public_url is not a URL".to_owned()))?;
        let secret = ClientSecret::new(provider.client_secret.expose().clone());
        Ok(Client::from_provider_metadata(metadata, ClientId::new(provider.client_id.clone()), Some(secret))
            .set_auth_type(if basic { AuthType::BasicAuth } else { AuthType::RequestBody })
            .set_redirect_uri(redirect))
    }

    async fn discover(&self, issuer: &str, anew: bool) -> Result<CoreProviderMetadata, OidcError> {
        let now = self.clock.now();
        if !anew
            && let Some((at, metadata)) = self.known.lock().get(issuer)
            && at.plus(KEEP) > now
        {
            return Ok(metadata.clone());
        }
        let url = IssuerUrl::new(issuer.to_owned()).map_err(|error| OidcError::Provider(error.to_string()))?;
        let metadata = CoreProviderMetadata::discover_async(url, &self.http)
            .await
            .map_err(|error| OidcError::Provider(error.to_string()))?;
        let mut known = self.known.lock();
        if known.len() >= MOST_KEPT {
            known.retain(|_, (at, _)| at.plus(KEEP) > now);
        }
        if known.len() < MOST_KEPT {
            known.insert(issuer.to_owned(), (now, metadata.clone()));
        }
        Ok(metadata)
    }
}

/// The names in the groups claim: a list, or one name.
fn groups(extra: &Extra, provider: &Provider) -> Vec<String> {
    match provider.groups_claim.as_ref().and_then(|name| extra.claims.get(name)) {
        Some(Value::String(group)) => vec![group.clone()],
        Some(Value::Array(groups)) => groups.iter().filter_map(|group| group.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_called_and_this_machine_in_development() {
        for (issuer, development, good) in [
            ("https://login.acme.com/tenant", false, true),
            ("https://login.acme.com", true, true),
            ("http://login.acme.com", false, false),
            ("http://login.acme.com", true, false),
            ("http://127.0.0.1:9000", true, true),
            ("http://[::1]:9000", true, true),
            ("http://localhost:9000", false, false),
            ("https://127.0.0.1", false, false),
            ("http://127.0.0.1.acme.com", true, false),
            ("https://user:password@login.acme.com", true, false),
            ("https://login.acme.com/?x=1", true, false),
            ("file:///etc/passwd", true, false),
            ("login.acme.com", true, false),
        ] {
            assert_eq!(issuer_fault(issuer, development).is_none(), good, "{issuer} {development}");
        }
    }
}
