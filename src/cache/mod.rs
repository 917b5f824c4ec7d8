//! In-process copies of what the store says, which never outlive a change: [`FreshCache`] holds and loads values,
//! [`ChangeLog`] knows which of them a change has made untrue.

mod change_log;
mod fresh_cache;

pub use change_log::{ChangeLog, Standing};
pub use fresh_cache::{FreshCache, Loaded, Rules};
