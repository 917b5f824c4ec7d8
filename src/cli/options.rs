//! Options that several commands share, and what they lead to.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{self, Config, Flags, Loaded};
use crate::domain::SystemClock;
use crate::server;
use crate::store::{Page, PageRequest, Store, StoreError, TenantScope};

/// Where the configuration comes from, besides the environment.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct ConfigOptions {
    /// Configuration file in YAML [default: $SENTINEL_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, such as gateway.threads=4; may be given more than once
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "must be KEY=VALUE".to_owned())
}

impl ConfigOptions {
    pub(super) fn flags(&self) -> Flags {
        Flags { file: self.config.clone(), set: self.set.clone(), ..Flags::default() }
    }

    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        config::explain(&self.flags(), config::environment_variables()).context("the configuration is not valid")
    }

    /// For commands that do one thing and end: only warnings are logged.
    pub(super) fn load_quietly(&self) -> anyhow::Result<Config> {
        let mut config = self.load()?.config;
        config.log.level = "warn".into();
        crate::telemetry::init_logs(&config.log);
        Ok(config)
    }
}

pub(super) async fn open_store(config: &mut Config) -> anyhow::Result<Store> {
    server::open_store(config, false, Arc::new(SystemClock)).await
}

/// The organization with this name, slug or id.
pub(super) async fn organization(store: &Store, name: &str) -> anyhow::Result<TenantScope> {
    store.operator_scope(name).await?.with_context(|| format!("there is no organization `{name}`"))
}

/// Everything that `list` gives, page by page.
macro_rules! every_page {
    ($page:ident => $list:expr) => {{
        let mut all = Vec::new();
        let mut $page = $crate::cli::options::first_page();
        loop {
            let answer = $list.await;
            if !$crate::cli::options::next_page(answer, &mut all, &mut $page)? {
                break all;
            }
        }
    }};
}
pub(super) use every_page;

pub(super) fn first_page() -> PageRequest {
    PageRequest { limit: 200, cursor: None }
}

/// False when there is no further page.
pub(super) fn next_page<T>(
    answer: Result<Page<T>, StoreError>,
    all: &mut Vec<T>,
    page: &mut PageRequest,
) -> Result<bool, StoreError> {
    let Page { data, next_cursor } = answer?;
    all.extend(data);
    page.cursor = next_cursor;
    Ok(page.cursor.is_some())
}
