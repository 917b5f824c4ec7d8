//! Stage 1: who is calling. An application's key becomes a [`Caller`], a person's token a [`Session`].

mod key;
mod key_cache;
mod key_usage;
mod password;
mod presented;
mod role;
mod session;
mod throttle;
mod token;

pub use key::{ApiKeySecret, KEY_PREFIXES, MalformedKey};
pub use key_cache::{AuthError, Caller, KeyCache, KeyScope};
pub use password::{MAX_LENGTH, MIN_LENGTH, Match, PasswordError, Passwords, temporary_password, weakness};
pub use presented::presented;
pub use role::{Authority, GrantError, Permission, Role, UnknownName};
pub use session::{ClientInfo, Issued, Session, SessionError, Sessions, authority_of};
pub use throttle::{Attempt, LoginThrottle, ThrottleError, Throttled};
pub use token::{Claims, RefreshToken, TokenError, Tokens};
