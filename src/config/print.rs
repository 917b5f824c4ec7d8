//! The effective configuration, fit to be shown.

use super::Config;
use super::database::mask_password;

impl Config {
    /// This configuration with every secret masked: passwords in database addresses here, the rest when it is written.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mut shown = self.clone();
        shown.database.url = mask_password(&shown.database.url);
        shown.database.migrate_url = shown.database.migrate_url.as_deref().map(mask_password);
        shown
    }
}
