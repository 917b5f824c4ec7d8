//! Puts the layers together: defaults → file → environment → flags, and tells every fault at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::tree::{Finished, Setting, Tree};
use super::{Config, environment, validate};

/// What the command line overrides.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub file: Option<PathBuf>,
    /// `path.to.key=value` pairs; later ones win.
    pub set: Vec<(String, String)>,
    /// Also tell what is wrong with the files that are named.
    pub check_files: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {cause}")]
    Unreadable { path: String, cause: std::io::Error },
    #[error("{origin}: {message}")]
    Invalid { origin: String, message: String },
    /// Every fault at once, each with the path of its key and where the value came from.
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// What was accepted but has no effect, to be told at start.
    pub notes: Vec<String>,
    /// Key path → where its value came from; keys that are not listed have their default.
    pub origins: BTreeMap<String, String>,
}

/// The file that is read when `--config` names none.
const FILE_VARIABLE: &str = "SENTINEL_CONFIG";

/// Loads the configuration. `env` is the environment's variables; those that do not concern Sentinel are ignored.
///
/// # Errors
/// [`ConfigError`]; a configuration that can be read but is wrong gives all its faults.
pub fn load(flags: &Flags, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    explain(flags, env).map(|loaded| loaded.config)
}

/// [`load`], with the notes and the origin of every value.
///
/// # Errors
/// [`ConfigError`].
pub fn explain(flags: &Flags, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let env: BTreeMap<String, String> = env.filter(|(_, value)| !value.is_empty()).collect();
    let mut tree = Tree::of_defaults();
    let mut notes = Vec::new();

    let file = flags.file.clone().or_else(|| env.get(FILE_VARIABLE).map(PathBuf::from));
    if let Some(path) = file {
        for setting in read_file(&path, &mut tree)? {
            tree.apply(setting);
        }
    }
    environment::apply_seed_names(&env, &mut tree, &mut notes);
    environment::apply_sentinel_names(&env, &mut tree);
    for (key, value) in &flags.set {
        tree.apply_flag(key, value);
    }

    let Finished { mut config, origins, mut faults } = tree.finish()?;
    let mut found = validate::faults(&config);
    if flags.check_files {
        found.extend(validate::file_faults(&config));
    }
    faults.extend(found.into_iter().map(|(path, message)| match origin_of(&origins, &path) {
        Some(origin) => format!("{path}: {message} ({origin})"),
        None => format!("{path}: {message}"),
    }));
    if faults.is_empty() {
        config.fill_in();
        Ok(Loaded { config, notes, origins })
    } else {
        Err(ConfigError::Faults(faults))
    }
}

/// The process's environment. Variables that are not UTF-8 cannot be Sentinel's and are left out.
pub fn environment_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// `routes[1].upstream` came from where `routes` did, and an upstream as a whole from where its first key did.
fn origin_of<'a>(origins: &'a BTreeMap<String, String>, path: &str) -> Option<&'a String> {
    let below = format!("{path}.");
    let first_below =
        || origins.range(below.clone()..).find(|(key, _)| key.starts_with(&below)).map(|(_, origin)| origin);
    origins.get(path).or_else(|| origins.get(path.split('[').next()?)).or_else(first_below)
}

fn read_file(path: &Path, tree: &mut Tree) -> Result<Vec<Setting>, ConfigError> {
    let origin = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: origin.clone(), cause })?;
    // Refuses duplicate keys too.
    let value: Value = serde_yaml::from_str(&text)
        .map_err(|error| ConfigError::Invalid { origin: origin.clone(), message: error.to_string() })?;
    Ok(tree.flatten(value, &origin))
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
