use std::io::BufRead as _;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::options::{ConfigOptions, open_store, organization};
use super::{Outcome, block_on, output};
use crate::config::Config;
use crate::detect::MOST_VALUES;
use crate::policy::{DataSetDraft, is_data_set_name};
use crate::store::{DataSetRecord, NewAdminEvent, StoredDataSet};

/// Register values (customer ids, code names, secrets) that policies look for, kept as salted fingerprints only
#[derive(clap::Args)]
#[command(after_help = "\
A policy names a set under `exact_data`. Values are compared without case and separators (`AB-12 34` is `ab1234`); of 4 to
127 bytes and up to 16 words. Running servers follow within a second.

Example: sentinel data import --org Acme customers customers.csv --column id")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Name, slug or id of the organization
    #[arg(long, global = true, default_value = "")]
    org: String,
    #[command(flatten)]
    config: ConfigOptions,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Put the values of a file in the place of the set's; up to a million
    Import(Import),
    /// Print the sets and how many values each has, never the values
    List,
    /// Delete a set
    Delete {
        /// The set
        name: String,
    },
}

#[derive(clap::Args)]
struct Import {
    /// The set: lower-case letters, digits and `_`
    name: String,
    /// `-` reads standard input
    file: String,
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    format: Format,
    /// Of CSV: the column in the first line; of JSONL: the field [default: the first column, the field `value`]
    #[arg(long)]
    column: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A value a line
    Lines,
    /// With a line of names
    Csv,
    /// A string or an object a line
    Jsonl,
}

pub(super) fn run(args: Args, json: bool) -> anyhow::Result<Outcome> {
    if args.org.is_empty() {
        anyhow::bail!("--org is missing: the name, slug or id of the organization");
    }
    let config = args.config.load_quietly()?;
    block_on(2, data(args, config, json))
}

async fn data(args: Args, mut config: Config, json: bool) -> anyhow::Result<Outcome> {
    // Before the store is asked: a faulty file changes nothing.
    let read = match &args.command {
        Command::Import(import) => Some(read_file(import)?),
        Command::List | Command::Delete { .. } => None,
    };
    let store = open_store(&mut config).await?;
    let scope = organization(&store, &args.org).await?;
    match args.command {
        Command::Import(Import { name, .. }) => {
            let Some((set, values, left_out)) = read else { return Ok(Outcome::Done) };
            let mut tx = store.write(scope).await?;
            let record = tx.data_sets().replace(&name, &set, values).await?;
            let mut event = NewAdminEvent::by_operator("data_set.import", "data_set", record.id.uuid());
            event.after = Some(shown(&record));
            tx.admin_events().insert(event).await?;
            tx.commit().await.context("the change is not saved")?;
            if left_out > 0 {
                eprintln!(
                    "{left_out} values are left out: shorter than 4 bytes, longer than 127, or of more than 16 words"
                );
            }
            show(&[record], json)?;
        }
        Command::List => show(&store.read(scope).await?.data_sets().list().await?, json)?,
        Command::Delete { name } => {
            let mut tx = store.write(scope).await?;
            if !tx.data_sets().remove(&name).await? {
                anyhow::bail!("there is no set `{name}`");
            }
            let mut event = NewAdminEvent::by_operator("data_set.delete", "data_set", scope.org_id().uuid());
            event.before = Some(json!({ "name": name }));
            tx.admin_events().insert(event).await?;
            tx.commit().await.context("the change is not saved")?;
            eprintln!("deleted");
        }
    }
    store.close().await;
    Ok(Outcome::Done)
}

/// The set, how many different values it has, and how many of the file are none.
fn read_file(import: &Import) -> anyhow::Result<(StoredDataSet, usize, usize)> {
    let Import { name, file, format, column } = import;
    anyhow::ensure!(
        is_data_set_name(name),
        "`{name}` is no name of a set: lower-case letters, digits and `_`, a letter first"
    );
    let mut input: Box<dyn std::io::BufRead> = match file.as_str() {
        "-" => Box::new(std::io::stdin().lock()),
        path => {
            let opened = std::fs::File::open(path).with_context(|| format!("cannot read {path}"))?;
            Box::new(std::io::BufReader::new(opened))
        }
    };
    let mut position = 0;
    if matches!(format, Format::Csv) {
        let mut names = String::new();
        input.read_line(&mut names)?;
        if let Some(column) = column {
            let names = fields(&names);
            position = names.iter().position(|name| name == column).with_context(|| format!("no column `{column}`"))?;
        }
    }
    let mut draft = DataSetDraft::default();
    let mut left_out = 0;
    for (number, line) in (1_u64..).zip(input.lines()) {
        let line = line.with_context(|| format!("line {number} cannot be read"))?;
        if line.trim().is_empty() {
            continue;
        }
        let value = match format {
            Format::Lines => Some(line),
            Format::Csv => fields(&line).into_iter().nth(position),
            Format::Jsonl => of_json(&line, column.as_deref().unwrap_or("value")),
        };
        // Where, but not what: the line is data that nobody is to see.
        let value = value.with_context(|| format!("line {number} holds no value"))?;
        left_out += usize::from(!draft.add(&value));
        anyhow::ensure!(!draft.is_too_large(), "more than {MOST_VALUES} values");
    }
    Ok((draft.to_stored(), draft.len(), left_out))
}

/// The fields of one line of CSV (RFC 4180, without line ends inside of a field).
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.trim_end_matches(['\r', '\n']).chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                fields.last_mut().into_iter().for_each(|field| field.push('"'));
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}

fn of_json(line: &str, field: &str) -> Option<String> {
    match serde_json::from_str::<Value>(line).ok()? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(fields) => match fields.get(field)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn shown(record: &DataSetRecord) -> Value {
    json!({ "name": record.name, "values": record.value_count, "created_at": record.created_at,
        "updated_at": record.updated_at })
}

fn show(records: &[DataSetRecord], json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&json!({ "data_sets": records.iter().map(shown).collect::<Vec<_>>() }));
    }
    for record in records {
        output::line(format_args!("{}  {} values  {}", record.name, record.value_count, record.updated_at))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_from_lines_csv_and_json() {
        let folder = tempfile::tempdir().unwrap();
        let read = |format, column: Option<&str>, text: &str| {
            let file = folder.path().join("values").display().to_string();
            std::fs::write(&file, text).unwrap();
            read_file(&Import { name: "a".into(), file, format, column: column.map(str::to_owned) })
        };
        let counts =
            |result: anyhow::Result<(StoredDataSet, usize, usize)>| result.map(|(_, all, out)| (all, out)).unwrap();
        assert_eq!(counts(read(Format::Lines, None, "AB-1234\n\nab 1234\nabc\nCD-9999\n")), (2, 1));
        let csv = "name,id\n\"Lovelace, Ada\",CUST-1\nb,CUST-2\n";
        assert_eq!(counts(read(Format::Csv, Some("id"), csv)), (2, 0));
        assert_eq!(fields("\"a \"\"b\"\", c\",d\r\n"), ["a \"b\", c", "d"]);
        let json = "{\"value\":\"CUST-1\"}\n\"CUST-2\"\n12345\n";
        assert_eq!(counts(read(Format::Jsonl, None, json)), (3, 0));
        let error = read(Format::Jsonl, None, "{\"value\":\"CUST-1\"}\n{\"secret\": 1}\n").err().unwrap().to_string();
        assert_eq!(error, "line 2 holds no value");
        assert!(read(Format::Csv, Some("none"), csv).is_err());
        let (set, ..) = read(Format::Lines, None, "AB-1234").unwrap();
        assert_eq!((set.fingerprints.len(), set.lengths), (12, 1 << 6));
    }
}
