//! Stage 1: who is calling. An application's key becomes a [`Caller`], a person's token a [`Session`].

mod key;
mod key_cache;
mod key_usage;

pub use key::{ApiKeySecret, KEY_PREFIXES, MalformedKey};
pub use key_cache::{AuthError, Caller, KeyCache, KeyScope};
