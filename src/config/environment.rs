//! Environment variables: `SENTINEL_SECTION__KEY`, the names that the system had before this one, and OpenTelemetry's.

use std::collections::BTreeMap;

use super::tree::{Tree, is_secret};

type Env = BTreeMap<String, String>;

fn path(keys: [&str; 2]) -> Vec<String> {
    keys.map(str::to_owned).to_vec()
}

/// `JWT_SECRET_KEY`, `DATABASE_URL`, `API_PORT`, `OTEL_EXPORTER_OTLP_ENDPOINT` and so on. A `SENTINEL_…` variable for the same key wins.
pub(super) fn apply_seed_names(env: &Env, tree: &mut Tree, notes: &mut Vec<String>) {
    for (name, key) in [
        ("JWT_SECRET_KEY", ["auth", "jwt_secret"]),
        ("DATABASE_URL", ["database", "url"]),
        ("OTEL_EXPORTER_OTLP_HEADERS", ["otlp", "headers"]),
    ] {
        apply_secret(env, name, path(key), tree);
    }
    for (name, key) in
        [("OTEL_EXPORTER_OTLP_ENDPOINT", ["otlp", "endpoint"]), ("OTEL_SERVICE_NAME", ["otlp", "service_name"])]
    {
        if let Some(value) = env.get(name) {
            tree.apply_text(path(key), value, name);
        }
    }
    for (name, key, unit) in [
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", ["auth", "access_token_ttl"], "m"),
        ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", ["auth", "refresh_token_ttl"], "d"),
        ("API_WORKERS", ["admin", "threads"], ""),
    ] {
        if let Some(number) = env.get(name) {
            tree.apply_text(path(key), &format!("{number}{unit}"), name);
        }
    }
    apply_listen(env, tree);
    if let Some(environment) = env.get("ENVIRONMENT") {
        tree.apply_text(vec!["environment".into()], &environment.to_ascii_lowercase(), "ENVIRONMENT");
    }
    match env.get("DEBUG").map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("1" | "true" | "yes" | "on") => tree.apply_text(path(["log", "level"]), "debug", "DEBUG"),
        Some("0" | "false" | "no" | "off") | None => {}
        Some(_) => tree.fault("log.level", "must be true or false", "DEBUG"),
    }
    if env.contains_key("REDIS_URL") {
        notes.push("REDIS_URL is accepted but not used yet: rate limits are counted by each node on its own".into());
    }
}

/// `API_HOST` and `API_PORT` are the two halves of `admin.listen`.
fn apply_listen(env: &Env, tree: &mut Tree) {
    let (host, port) = (env.get("API_HOST"), env.get("API_PORT"));
    if host.is_none() && port.is_none() {
        return;
    }
    let listen = tree.text(["admin", "listen"]).unwrap_or_default().to_owned();
    let (old_host, old_port) = listen.rsplit_once(':').unwrap_or(("0.0.0.0", "8000"));
    let host = match host {
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        Some(host) => host.clone(),
        None => old_host.to_owned(),
    };
    let port = port.map_or(old_port, String::as_str);
    let origin = if env.contains_key("API_PORT") { "API_PORT" } else { "API_HOST" };
    tree.apply_text(path(["admin", "listen"]), &format!("{host}:{port}"), origin);
}

/// `SENTINEL_GATEWAY__LISTEN` → `gateway.listen`. Unknown names are faults, as unknown keys of the file are.
pub(super) fn apply_sentinel_names(env: &Env, tree: &mut Tree) {
    for (name, value) in env {
        let Some(rest) = name.strip_prefix("SENTINEL_") else { continue };
        if rest == "CONFIG" || set_by_kubernetes(rest, value) {
            continue;
        }
        let secret_file = rest.strip_suffix("_FILE").map(|rest| key_path(rest, tree)).filter(|path| is_secret(path));
        let path = key_path(rest, tree);
        if let Some(path) = secret_file {
            let plain = name.strip_suffix("_FILE").unwrap_or(name);
            if !env.contains_key(plain) {
                apply_secret(env, plain, path, tree);
            }
        } else if is_secret(&path) {
            apply_secret(env, name, path, tree);
        } else {
            tree.apply_text(path, value, name);
        }
    }
}

/// Kubernetes gives every pod variables named after the services around it (`SENTINEL_SERVICE_HOST`,
/// `SENTINEL_PORT_8080_TCP_ADDR`); with a service called `sentinel` they look like ours.
fn set_by_kubernetes(rest: &str, value: &str) -> bool {
    let address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let words: Vec<&str> = rest.split('_').collect();
    !rest.contains("__")
        && (rest.contains("SERVICE_HOST")
            || rest.contains("SERVICE_PORT")
            || (words.contains(&"PORT") && (address || ["TCP", "UDP", "SCTP"].iter().any(|word| words.contains(word)))))
}

/// Lower case, `__` between keys. Variables cannot hold a `-`, so `MY_VLLM` also means an upstream `my-vllm`.
fn key_path(name: &str, tree: &Tree) -> Vec<String> {
    let mut path: Vec<String> = name.to_ascii_lowercase().split("__").map(str::to_owned).collect();
    if let [section, upstream, ..] = path.as_mut_slice()
        && section == "upstreams"
        && let Some(known) = tree.upstreams().find(|known| known.to_ascii_lowercase().replace('-', "_") == *upstream)
    {
        known.clone_into(upstream);
    }
    path
}

/// `NAME`, or the content of the file that `NAME_FILE` names, without the line break at its end.
fn apply_secret(env: &Env, name: &str, path: Vec<String>, tree: &mut Tree) {
    let file_variable = format!("{name}_FILE");
    let shown = path.join(".");
    match (env.get(name), env.get(&file_variable)) {
        (None, None) => {}
        (Some(value), None) => tree.apply_text(path, value, name),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(text) if text.trim_end().is_empty() => tree.fault(&shown, &format!("{file} is empty"), &file_variable),
            Ok(text) => tree.apply_text(path, text.trim_end_matches(['\r', '\n']), &file_variable),
            Err(cause) => tree.fault(&shown, &format!("cannot read {file}: {cause}"), &file_variable),
        },
        (Some(_), Some(_)) => tree.fault(&shown, &format!("{name} and {file_variable} are both set"), &file_variable),
    }
}
