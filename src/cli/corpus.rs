//! Rows to train on and to judge by: JSON Lines, plain or gzipped, as `config/models/README.md` describes them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::detect::model::{Row, Speaker};
use crate::domain::Role;

/// What a file of rows is for, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Train,
    /// `*dev*`: never trained on.
    Dev,
    /// `*traffic*`: ordinary requests, never trained on.
    Traffic,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    label: u8,
    #[serde(default)]
    source: String,
    #[serde(default)]
    kind: String,
    role: Option<Role>,
    payload: Option<(usize, usize)>,
    transform: Option<String>,
}

/// Rows of all `injection*`, `*traffic*` and `*corpus*` files of the directories, in the order of their names.
///
/// # Errors
/// When a directory or file cannot be read, or a line is not a row; the line is named, its text is not.
pub(crate) fn read(directories: &[PathBuf]) -> anyhow::Result<Vec<(Row, Purpose)>> {
    let mut rows = Vec::new();
    for file in files(directories, &["injection", "traffic", "corpus"])? {
        let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let purpose = purpose(&name);
        each_line(&file, |line| rows.push((row(line), purpose)))?;
    }
    anyhow::ensure!(
        !rows.is_empty(),
        "no rows: the directories hold no *injection*, *traffic* or *corpus* file of JSON Lines"
    );
    Ok(rows)
}

/// The files of JSON Lines in the directories whose names hold one of `parts`, in the order of their names.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn files(directories: &[PathBuf], parts: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for directory in directories {
        let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let mut own = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        own.sort();
        files.extend(own.into_iter().filter(|file| {
            let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let known = parts.iter().any(|part| name.contains(part));
            known && (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz"))
        }));
    }
    Ok(files)
}

/// Calls `each` with every line of a file.
///
/// # Errors
/// When it cannot be read, or a line does not have the shape of `T`; the line is named, its text is not.
pub(crate) fn each_line<T: DeserializeOwned>(path: &Path, mut each: impl FnMut(T)) -> anyhow::Result<()> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let input: Box<dyn Read> =
        if path.extension().is_some_and(|end| end == "gz") { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    for (number, line) in BufReader::new(input).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        // Where, but not what: serde's message may quote the line.
        each(serde_json::from_str(&line).map_err(|error| {
            anyhow::anyhow!("{}:{}: not a row (column {})", path.display(), number + 1, error.column())
        })?);
    }
    Ok(())
}

fn purpose(name: &str) -> Purpose {
    match name {
        _ if name.contains("dev") => Purpose::Dev,
        _ if name.contains("traffic") => Purpose::Traffic,
        _ => Purpose::Train,
    }
}

fn row(line: Line) -> Row {
    let attack = line.label == 1;
    let byte = |characters: usize| line.text.char_indices().nth(characters).map_or(line.text.len(), |(byte, _)| byte);
    let payload = line.payload.map(|(from, to)| byte(from)..byte(to));
    let speakers = match line.role {
        Some(role) => vec![(Speaker::of(role), 1.0)],
        None => speakers(&line.source, &line.kind, attack),
    };
    let (family, _) = line.source.split_once(':').unwrap_or((&line.source, ""));
    // Generators of one's own differ from one another; packages of a registry do not.
    let source = if matches!(family, "gen" | "own") { line.source.clone() } else { family.to_owned() };
    let kind = line.transform.map_or(line.kind.clone(), |transform| format!("{}:{transform}", line.kind));
    Row { text: line.text, attack, source, kind, payload, speakers }
}

/// Attacks in these disguises cannot be read before they are undone; as they stand they say nothing.
pub(crate) fn is_readable(row: &Row) -> bool {
    let hidden =
        ["base64", "base64_wrapped", "hex", "rot13", "reversed", "spaced", "url", "html_entities", "json_escaped"];
    !row.attack || row.kind.split_once(':').is_none_or(|(_, transform)| !hidden.contains(&transform))
}

/// Who can be saying a row that names nobody: how much it counts as theirs, the likeliest first.
fn speakers(source: &str, kind: &str, attack: bool) -> Vec<(Speaker, f32)> {
    use Speaker::{Assistant, System, Tool, User};
    let (family, part) = source.split_once(':').unwrap_or((source, ""));
    if attack {
        return match kind {
            // A task on its own is an attack only where data is expected.
            "indirect" if family == "synthetic-payload" => vec![(Tool, 1.0)],
            "indirect" => vec![(Tool, 1.0), (User, 0.3)],
            _ => vec![(User, 1.0), (Tool, 0.7), (System, 0.3), (Assistant, 0.3)],
        };
    }
    match (family, part) {
        ("gen", "system" | "harness")
        | ("chatgpt-system-prompts" | "fabric" | "awesome-cursorrules" | "prompthub", _) => {
            vec![(System, 1.0), (User, 0.7)]
        }
        ("gen", "persona") | ("awesome-chatgpt-prompts" | "awesome-chatgpt-prompts-zh", _) => {
            vec![(User, 1.0), (System, 1.0)]
        }
        ("gen", "agent" | "chat" | "howto" | "review" | "short") => vec![(User, 1.0), (Tool, 0.5)],
        ("gen" | "synthetic-indirect" | "tau-bench", _) => vec![(Tool, 1.0), (User, 0.5), (Assistant, 0.5)],
        ("synthetic-payload", _) => vec![(Tool, 1.0), (User, 1.0)],
        ("xquad", _) => vec![(User, 0.7), (Tool, 1.0), (Assistant, 0.5)],
        _ if family.starts_with("pkg-") => vec![(User, 0.7), (Tool, 1.0), (Assistant, 0.5)],
        ("synthetic-obfuscated", _) => vec![(User, 1.0), (Tool, 0.5)],
        _ => vec![(User, 1.0), (Assistant, 0.3)],
    }
}
