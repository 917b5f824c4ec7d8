//! Stage 1: who is calling. An application's key becomes a [`Caller`], a person's token a [`Session`].

mod key;
mod key_cache;
mod key_usage;
mod oidc;
mod password;
mod presented;
mod provider_credentials;
mod rewrap;
mod role;
mod seal;
mod session;
mod throttle;
mod token;
mod totp;

pub use key::{ApiKeySecret, KEY_PREFIXES, MalformedKey};
pub use key_cache::{AuthError, Caller, KeyCache, KeyScope};
pub use oidc::{Identity, OidcError, Provider, Providers, SignOn, issuer_fault};
pub use password::{MAX_LENGTH, MIN_LENGTH, Match, PasswordError, Passwords, temporary_password, weakness};
pub use presented::presented;
pub use provider_credentials::{CredentialError, ProviderCredentialCache};
pub use rewrap::{RewrapError, Rewrapped, rewrap};
pub use role::{Authority, GrantError, Permission, Role, UnknownName, WorkspacePermission};
pub use seal::{SealError, Sealer, credential_place, mfa_place, sso_place};
pub use session::{ClientInfo, Issued, Session, SessionError, Sessions, authority_of};
pub use throttle::{Attempt, LoginThrottle, ThrottleError, Throttled};
pub use token::{Claims, RefreshToken, TokenError, Tokens};
pub use totp::{RecoveryCodes, TotpSecret};
