//! The architecture as a test: which module may name which, and which crate is used where.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// `(module, what it may use)`, in the order of a request's journey. A module may always use itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("telemetry", &["domain", "config"]),
    ("store", &["domain", "config", "telemetry"]),
    ("cache", &["domain", "store"]),
    ("authn", &["domain", "config", "telemetry", "store", "cache"]),
    ("limits", &["domain", "config", "telemetry"]),
    ("protocol", &["domain"]),
    ("detect", &["domain"]),
    ("policy", &["domain", "telemetry", "store", "cache", "authn", "protocol", "detect"]),
    ("enforce", &["domain", "protocol", "detect", "policy"]),
    ("upstream", &["domain", "config"]),
    ("audit", &["domain", "config", "telemetry", "store"]),
    ("process", &["domain", "telemetry", "store", "authn", "detect", "policy", "enforce", "audit"]),
    ("health", &["store", "audit"]),
    ("mail", &["domain", "config"]),
    ("mock_llm", &[]),
    (
        "gateway",
        &[
            "domain",
            "config",
            "telemetry",
            "store",
            "authn",
            "limits",
            "protocol",
            "detect",
            "policy",
            "enforce",
            "upstream",
            "audit",
            "process",
            "health",
        ],
    ),
    (
        "admin",
        &[
            "domain",
            "config",
            "telemetry",
            "store",
            "authn",
            "limits",
            "mail",
            "detect",
            "policy",
            "upstream",
            "audit",
            "process",
            "health",
        ],
    ),
    (
        "server",
        &[
            "domain",
            "config",
            "telemetry",
            "store",
            "authn",
            "limits",
            "mail",
            "detect",
            "policy",
            "enforce",
            "upstream",
            "audit",
            "process",
            "health",
            "gateway",
            "admin",
        ],
    ),
    (
        "cli",
        &[
            "domain",
            "config",
            "telemetry",
            "store",
            "authn",
            "protocol",
            "detect",
            "policy",
            "enforce",
            "audit",
            "mock_llm",
            "server",
            "admin",
        ],
    ),
];

/// `(crate, path prefixes below src/ that may use it)`.
const CRATES: &[(&str, &[&str])] = &[
    ("pingora", &["gateway/"]),
    ("axum", &["admin/"]),
    ("utoipa_axum", &["admin/"]),
    ("sqlx", &["store/"]),
    ("lettre", &["mail"]),
    ("moka", &["cache/", "authn/key_cache", "policy/cache"]),
    ("anyhow", &["main.rs", "cli/", "server.rs"]),
    ("serde_yaml", &["config/", "detect/", "policy/", "cli/"]),
    ("hyper", &["admin/", "mock_llm"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every source file as (path below `src/`, code without comment lines).
fn code() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            (file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), code)
        })
        .collect()
}

/// The identifiers that follow `prefix` in `code`; of `prefix{a, b::c}` the first of each.
fn words_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut words = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut start = 0;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if (c == ',' && depth == 1) || depth == 0 {
                    words.insert(word(group[start..i].trim()));
                    start = i + 1;
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            words.insert(word(rest));
        }
    }
    words.remove("");
    words
}

#[test]
fn imports_go_one_way() {
    let mut faults = Vec::new();
    for (path, code) in code() {
        let module = path.split(['/', '.']).next().unwrap();
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("src/{path}: module `{module}` is not in the table of tests/layers.rs"));
            continue;
        };
        for used in words_after(&code, "crate::") {
            let known = LAYERS.iter().any(|(name, _)| *name == used);
            if used != module && known && !allowed.contains(&used.as_str()) {
                faults.push(format!("src/{path}: `{module}` must not use `crate::{used}`"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_framework_stays_in_its_room() {
    let mut faults = Vec::new();
    for (path, code) in code() {
        for (name, homes) in CRATES {
            let uses = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                !code[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_')
            });
            if uses && !homes.iter().any(|home| path.starts_with(home)) {
                faults.push(format!("src/{path}: `{name}` is used outside {homes:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_table_reads_grouped_imports() {
    let words = words_after("use crate::{a::{B, C}, d::E};\nuse crate::f::G;", "crate::");
    assert_eq!(words.into_iter().collect::<Vec<_>>(), ["a", "d", "f"]);
}
