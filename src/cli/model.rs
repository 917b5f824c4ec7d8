//! `sentinel model`: trains the weights of the injection model, and says what a file of weights holds.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

use super::corpus::{self, Purpose};
use super::eval::{self, LeftOut, Tables};
use super::{Outcome, output};
use crate::detect::model::{self, Model, Options, Row, Sample, Speaker};
use crate::detect::{BUILTIN_MODEL, Engine};

/// Train the injection model, or look at its weights
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Train(Train),
    Info(Info),
}

/// Train on labelled rows and print how well that holds; the same rows and seed give the same file
#[derive(clap::Args)]
#[command(after_help = "\
Reads the *injection*, *traffic* and *corpus* files (.jsonl, .jsonl.gz) of every DIR. Rows of files with `dev` or `traffic`
in their name are not trained on: thresholds are set and figures made with them. config/models/README.md has the fields.

Example:
  sentinel model train --data corpus --data my-rows --out injection.bin")]
struct Train {
    /// A directory with rows; may be given more than once
    #[arg(long, value_name = "DIR", required = true)]
    data: Vec<PathBuf>,
    /// Where the weights go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,
}

/// What a file of weights holds; without a file the weights that are built in
#[derive(clap::Args)]
struct Info {
    file: Option<PathBuf>,
}

/// Rows with their features.
pub(super) struct Corpus {
    pub rows: Vec<Row>,
    pub purposes: Vec<Purpose>,
    pub samples: Vec<Sample>,
    /// Rows to learn from, and those that are only judged by.
    pub trained: Vec<usize>,
    pub kept: Vec<usize>,
}

impl Corpus {
    pub(super) fn read(engine: &Engine, directories: &[PathBuf]) -> anyhow::Result<Self> {
        let (rows, purposes): (Vec<Row>, Vec<Purpose>) = corpus::read(directories)?.into_iter().unzip();
        let samples = rows.iter().map(|row| engine.sample(&row.text)).collect();
        let learns = |(row, purpose): (&Row, &Purpose)| *purpose == Purpose::Train && corpus::is_readable(row);
        let learns: Vec<bool> = rows.iter().zip(&purposes).map(learns).collect();
        let of =
            |wanted: bool| learns.iter().enumerate().filter(|(_, is)| **is == wanted).map(|(row, _)| row).collect();
        Ok(Self { trained: of(true), kept: of(false), rows, purposes, samples })
    }
}

#[derive(Serialize)]
struct Trained {
    seed: u64,
    bytes: usize,
    rows: usize,
    left_out: LeftOut,
    tables: Tables,
}

pub(super) fn run(args: &Args, json: bool) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Train(args) => train(args, json),
        Command::Info(args) => info(args, json),
    }
}

fn train(args: &Train, json: bool) -> anyhow::Result<Outcome> {
    let engine = Engine::rules_only().map_err(|faults| super::scan::told(&faults))?;
    let corpus = Corpus::read(&engine, &args.data)?;
    let options = Options { seed: args.seed, ..Options::default() };
    let tell = |source: &str| eprintln!("leaving out {source}");
    let (mut model, left_out) =
        model::train(&corpus.rows, &corpus.samples, &corpus.trained, &corpus.kept, options, tell);
    engine.stamp(&mut model);
    let bytes = model.write();
    std::fs::write(&args.out, &bytes).with_context(|| format!("cannot write {}", args.out.display()))?;
    let left_out = LeftOut::new(&engine, &corpus, &left_out);
    let engine = engine.with_model(model)?;
    let tables = eval::tables(&engine, &corpus.rows, &corpus.purposes)?;
    let trained = Trained { seed: args.seed, bytes: bytes.len(), rows: corpus.trained.len(), left_out, tables };
    if json {
        output::json(&trained)?;
    } else {
        output::line(format!(
            "{} rows, seed {}, {} bytes\n\nsources that were left out\n{}\n\nrows that were kept, at the balanced policy\n{}",
            trained.rows, trained.seed, trained.bytes, trained.left_out, trained.tables
        ))?;
    }
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct About {
    bytes: usize,
    word_groups: String,
    fits_the_rule_pack: bool,
    /// The score at which the balanced policy acts, by speaker.
    acts: Vec<(&'static str, f32)>,
}

fn info(args: &Info, json: bool) -> anyhow::Result<Outcome> {
    let bytes = match &args.file {
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => BUILTIN_MODEL.to_vec(),
    };
    let model = Model::read(&bytes)
        .with_context(|| args.file.as_ref().map_or_else(String::new, |file| file.display().to_string()))?;
    let about = About {
        bytes: bytes.len(),
        word_groups: format!("{:08x}", model.fingerprint()),
        acts: Speaker::ALL.map(|speaker| (speaker.name(), model.acts(speaker))).to_vec(),
        fits_the_rule_pack: Engine::rules_only().is_ok_and(|engine| engine.with_model(model).is_ok()),
    };
    if json {
        output::json(&about)?;
    } else {
        let acts: Vec<String> = about.acts.iter().map(|(speaker, score)| format!("{speaker} {score:.2}")).collect();
        output::line(format!(
            "{} bytes, word groups {} ({})\nthe balanced policy acts at a score of: {}",
            about.bytes,
            about.word_groups,
            if about.fits_the_rule_pack { "those of the rule pack" } else { "not those of the rule pack" },
            acts.join(", ")
        ))?;
    }
    Ok(Outcome::Done)
}
