//! The configuration as a tree of YAML values that always reads as a [`Config`]: a setting that does not fit is
//! noted as a fault and left out, so that the ones after it are still looked at.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use super::load::ConfigError;
use super::{Config, RouteConfig, UpstreamConfig, database};
use crate::domain::Dialect;

/// One value of one layer.
pub(super) struct Setting {
    pub path: Vec<String>,
    pub value: Value,
    /// The file, the variable or the flag it came from.
    pub origin: String,
}

pub(super) struct Tree {
    root: Value,
    origins: BTreeMap<String, String>,
    faults: Vec<String>,
    /// Upstreams that are not among the defaults and must bring `dialect` and `url`.
    added: Vec<(String, String)>,
}

/// What a [`Tree`] comes to.
pub(super) struct Finished {
    /// Without what is faulty.
    pub config: Config,
    pub origins: BTreeMap<String, String>,
    pub faults: Vec<String>,
}

impl Tree {
    pub fn of_defaults() -> Self {
        let mut root = serde_yaml::to_value(Config::default()).unwrap_or_default();
        if let Some(Value::Mapping(upstreams)) = root.get_mut("upstreams") {
            for (_, upstream) in upstreams.iter_mut() {
                complete(upstream);
            }
        }
        Self { root, origins: BTreeMap::new(), faults: Vec::new(), added: Vec::new() }
    }

    /// The value at `path` as it stands.
    pub fn get(&self, path: &[String]) -> Option<&Value> {
        path.iter().try_fold(&self.root, |node, key| node.get(key.as_str()))
    }

    pub fn text(&self, path: [&str; 2]) -> Option<&str> {
        self.root.get(path[0])?.get(path[1])?.as_str()
    }

    /// The names of the upstreams so far.
    pub fn upstreams(&self) -> impl Iterator<Item = &str> {
        self.root
            .get("upstreams")
            .and_then(Value::as_mapping)
            .into_iter()
            .flat_map(Mapping::keys)
            .filter_map(Value::as_str)
    }

    pub fn fault(&mut self, path: &str, message: &str, origin: &str) {
        self.faults.push(format!("{path}: {message} ({origin})"));
    }

    /// Takes the leaves out of a whole document.
    pub fn flatten(&mut self, document: Value, origin: &str) -> Vec<Setting> {
        let mut settings = Vec::new();
        match document {
            Value::Null => {}
            Value::Mapping(sections) if sections.is_empty() => {}
            Value::Mapping(_) => self.flatten_below(document, &mut Vec::new(), origin, &mut settings),
            _ => self.faults.push(format!("{origin}: must be a mapping of sections")),
        }
        settings
    }

    fn flatten_below(&mut self, value: Value, path: &mut Vec<String>, origin: &str, out: &mut Vec<Setting>) {
        let Value::Mapping(mapping) = value else {
            out.push(Setting { path: path.clone(), value, origin: origin.to_owned() });
            return;
        };
        if mapping.is_empty() {
            // Has no leaf, but its name must be known.
            out.push(Setting { path: path.clone(), value: Value::Mapping(Mapping::new()), origin: origin.to_owned() });
        }
        for (key, value) in mapping {
            let Value::String(key) = key else {
                self.fault(&path.join("."), "keys must be text", origin);
                continue;
            };
            path.push(key);
            self.flatten_below(value, path, origin, out);
            path.pop();
        }
    }

    /// A value that is known as text: of a variable or a flag.
    pub fn apply_text(&mut self, path: Vec<String>, text: &str, origin: &str) {
        self.prepare_upstream(&path, origin);
        let value = match self.get(&path) {
            // Optional keys without a value are all text; text is taken as it is, so that `12345` may be a password.
            Some(Value::String(_) | Value::Null) => Value::String(text.to_owned()),
            _ => serde_yaml::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
        self.apply(Setting { path, value, origin: origin.to_owned() });
    }

    /// `--set key=value`.
    pub fn apply_flag(&mut self, key: &str, text: &str) {
        const ORIGIN: &str = "--set";
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        let harmless = matches!(path.last().map(String::as_str), Some("url" | "migrate_url"))
            && database::mask_password(text) == text;
        if is_secret(&path) && !harmless {
            let variable = format!("SENTINEL_{}", path.join("__").to_uppercase());
            let message =
                format!("secrets are not taken from the command line, where others can see them; use {variable}_FILE");
            return self.fault(key, &message, ORIGIN);
        }
        self.apply_text(path, text, ORIGIN);
    }

    /// Puts one setting in if it fits, notes a fault if not.
    pub fn apply(&mut self, Setting { path, value, origin }: Setting) {
        let shown = path.join(".");
        if let [section, name] = path.as_slice()
            && section == "upstreams"
            && value.is_null()
        {
            return self.remove_upstream(name, &origin);
        }
        self.prepare_upstream(&path, &origin);
        match self.get(&path) {
            None => {
                let message = self.unknown(&path);
                return self.fault(&shown, &message, &origin);
            }
            // A section whose keys are all commented out.
            Some(Value::Mapping(_)) if value.is_null() || value.as_mapping().is_some_and(Mapping::is_empty) => return,
            Some(Value::Mapping(_)) => return self.fault(&shown, "must be a section with keys of its own", &origin),
            Some(_) => {}
        }
        if is_secret(&path) && !value.is_string() && !value.is_null() {
            // Not left to serde, whose message would quote the value.
            return self.fault(&shown, "must be text (put it in quotes)", &origin);
        }
        if shown == "routes" && self.faulty_routes(&value, &origin) {
            return;
        }
        let before = self.replace(&path, value);
        match serde_yaml::from_value::<Config>(self.root.clone()) {
            Ok(_) => {
                self.origins.insert(shown, origin);
            }
            Err(error) => {
                if let Some(before) = before {
                    self.replace(&path, before);
                }
                let message = error.to_string();
                let message = message.rsplit_once(&format!("{shown}: ")).map_or(message.as_str(), |(_, rest)| rest);
                self.fault(&shown, message, &origin);
            }
        }
    }

    /// Everything that was put in.
    ///
    /// # Errors
    /// Never in practice: every setting was tried when it was put in.
    pub fn finish(mut self) -> Result<Finished, ConfigError> {
        for (name, origin) in std::mem::take(&mut self.added) {
            for key in ["dialect", "url"] {
                let path = format!("upstreams.{name}.{key}");
                if !self.origins.contains_key(&path) && !self.faults.iter().any(|fault| fault.starts_with(&path)) {
                    self.fault(&path, "is missing", &origin);
                }
            }
        }
        let config = serde_yaml::from_value(self.root)
            .map_err(|error| ConfigError::Invalid { origin: "configuration".into(), message: error.to_string() })?;
        Ok(Finished { config, origins: self.origins, faults: self.faults })
    }

    /// Swaps the value at `path`, which exists.
    fn replace(&mut self, path: &[String], value: Value) -> Option<Value> {
        let node = path.iter().try_fold(&mut self.root, |node, key| node.get_mut(key.as_str()))?;
        Some(std::mem::replace(node, value))
    }

    fn unknown(&self, path: &[String]) -> String {
        for depth in (0..path.len()).rev() {
            match path.get(..depth).and_then(|parent| self.get(parent)) {
                Some(Value::Mapping(known)) => {
                    let keys: Vec<&str> = known.keys().filter_map(Value::as_str).collect();
                    return format!("unknown key; known here: {}", keys.join(", "));
                }
                Some(_) => return "takes one value, not a section".into(),
                None => {}
            }
        }
        "unknown key".into()
    }

    /// Makes room for an upstream that is not there yet.
    fn prepare_upstream(&mut self, path: &[String], origin: &str) {
        let [section, name, _, ..] = path else { return };
        if section != "upstreams" || name.is_empty() {
            return;
        }
        if let Some(Value::Mapping(upstreams)) = self.root.get_mut("upstreams")
            && !upstreams.contains_key(name.as_str())
        {
            // Replaced before anyone sees it: `finish` insists on both.
            let template = UpstreamConfig::new(Dialect::Openai, "http://unset.invalid");
            let mut template = serde_yaml::to_value(template).unwrap_or_default();
            complete(&mut template);
            upstreams.insert(Value::String(name.clone()), template);
            self.added.push((name.clone(), origin.to_owned()));
        }
    }

    fn remove_upstream(&mut self, name: &str, origin: &str) {
        let removed = match self.root.get_mut("upstreams") {
            Some(Value::Mapping(upstreams)) => upstreams.remove(name).is_some(),
            _ => false,
        };
        if !removed {
            self.fault(&format!("upstreams.{name}"), "there is no such upstream to remove", origin);
        }
        self.added.retain(|(added, _)| added != name);
    }

    /// Each route on its own, so that every faulty one is told.
    fn faulty_routes(&mut self, value: &Value, origin: &str) -> bool {
        let Value::Sequence(routes) = value else { return false };
        let before = self.faults.len();
        for (index, route) in routes.iter().enumerate() {
            if let Err(error) = serde_yaml::from_value::<RouteConfig>(route.clone()) {
                self.fault(&format!("routes[{index}]"), &error.to_string(), origin);
            }
        }
        self.faults.len() > before
    }
}

/// Keys whose values are, or may carry, a credential; never quoted, and readable from a file of their own.
pub(super) fn is_secret(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(
        path.as_slice(),
        ["auth", "jwt_secret" | "jwt_previous_secrets"]
            | ["encryption", "key" | "previous_key"]
            | ["database", "url" | "migrate_url"]
            | ["mail", "smtp_url"]
            | ["otlp", "headers"]
            | ["upstreams", _, "api_key"]
    )
}

/// Adds the optional keys, which an upstream without them is written without.
fn complete(upstream: &mut Value) {
    if let Value::Mapping(keys) = upstream {
        for optional in [
            "api_key",
            "credential_field",
            "azure_api_version",
            "aws_region",
            "ca_file",
            "client_cert_file",
            "client_key_file",
            "sni",
            "total_timeout",
            "addresses",
            "balance",
            "fallback",
            "max_concurrent",
            "eject_after",
            "eject_for",
            "health_path",
            "health_interval",
        ] {
            keys.insert(Value::String(optional.into()), Value::Null);
        }
    }
}
