//! `sentinel eval --transforms`: how much of the rows is still blocked when their texts are disguised.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::corpus::Purpose;
use super::eval::{blocks, role_of};
use super::scan::Scanner;
use crate::detect::Engine;
use crate::detect::model::Row;

/// So many rows of a label are disguised; of more, those at even distances.
const ROWS: usize = 400;
/// Longer texts are left out, in bytes: they say no more of a disguise and take longer.
const LONGEST: usize = 4_000;

type Disguise = (&'static str, fn(&str) -> String);

const DISGUISES: &[Disguise] = &[
    ("base64", |text| STANDARD.encode(text)),
    ("base64, wrapped", |text| chunks(&STANDARD.encode(text), 76).join("\n")),
    ("base64 twice", |text| STANDARD.encode(STANDARD.encode(text))),
    ("base32", base32),
    ("hex", |text| bytes(text, "", |byte| format!("{byte:02x}"))),
    ("hex, spaced", |text| bytes(text, " ", |byte| format!("{byte:02x}"))),
    ("binary", |text| bytes(text, " ", |byte| format!("{byte:08b}"))),
    ("percent", |text| bytes(text, "", |byte| format!("%{byte:02X}"))),
    ("percent twice", |text| bytes(text, "", |byte| format!("%25{byte:02X}"))),
    ("quoted-printable", |text| bytes(text, "", |byte| format!("={byte:02X}"))),
    ("soft ends of lines", |text| chunks(text, 11).join("=\n")),
    ("entities", |text| each(text, |c| format!("&#{};", u32::from(c)))),
    ("\\u escapes", |text| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()),
    ("\\x escapes", |text| bytes(text, "", |byte| format!("\\x{byte:02x}"))),
    ("JSON in a string", |text| {
        serde_json::json!({ "text": serde_json::json!({ "text": text }).to_string() }).to_string()
    }),
    ("rot13", |text| shifted(text, 13)),
    ("Caesar", |text| shifted(text, 3)),
    ("Morse", morse),
    ("reversed", |text| text.chars().rev().collect()),
    ("bidi", |text| format!("\u{202E}{}\u{202C}", text.chars().rev().collect::<String>())),
    ("words turned round", |text| text.split_whitespace().rev().collect::<Vec<_>>().join(" ")),
    ("other spelling", misspelled),
    ("leetspeak", |text| each(text, leet)),
    ("letters spaced", |text| each(text, |c| format!("{c} "))),
    ("letters dotted", |text| each(text, |c| if c == ' ' { "  ".to_owned() } else { format!("{c}.") })),
    ("a letter a line", |text| each(text, |c| format!("{c}\n"))),
    ("a word a line", |text| text.split_whitespace().collect::<Vec<_>>().join("\n")),
    ("zero width", |text| each(text, |c| format!("{c}\u{200B}"))),
    ("tags", |text| ascii(text, |byte| 0xE0000 + byte)),
    ("variation selectors", |text| ascii(text, |byte| 0xE0100 + byte - 16)),
    ("combining marks", |text| each(text, |c| format!("{c}\u{301}\u{334}"))),
    ("full width", |text| ascii(text, |byte| if byte == 32 { 0x3000 } else { 0xFEE0 + byte })),
    ("mathematical letters", |text| each(text, mathematical)),
    ("Cyrillic look-alikes", |text| each(text, look_alike)),
    ("comments in words", |text| comments(text)),
    ("a sum of texts", |text| format!("x = \"{}\"", chunks(text, 7).join("\" + \""))),
    ("texts with names", |text| format!("a='{}'", chunks(text, 7).join("'; b='"))),
];

fn each(text: &str, write: impl Fn(char) -> String) -> String {
    text.chars().map(write).collect()
}

fn bytes(text: &str, between: &str, write: impl Fn(u8) -> String) -> String {
    text.bytes().map(write).collect::<Vec<_>>().join(between)
}

/// What is ASCII as another character, the rest as it is.
fn ascii(text: &str, other: impl Fn(u32) -> u32) -> String {
    let turned = |c: char| Some(c).filter(|c| matches!(c, ' '..='~')).and_then(|c| char::from_u32(other(u32::from(c))));
    text.chars().map(|c| turned(c).unwrap_or(c)).collect()
}

/// Pieces of so many characters.
fn chunks(text: &str, size: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(size).map(|piece| piece.iter().collect()).collect()
}

fn base32(text: &str) -> String {
    let letters: Vec<char> = ('A'..='Z').chain('2'..='7').collect();
    let five = |bytes: &[u8]| {
        let bits =
            bytes.iter().chain(std::iter::repeat(&0)).take(5).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let value = |i: usize| usize::try_from(bits >> (35 - 5 * i) & 31).ok().and_then(|value| letters.get(value));
        let own: String = (0..(bytes.len() * 8).div_ceil(5)).filter_map(value).collect();
        format!("{own:=<8}")
    };
    text.as_bytes().chunks(5).map(five).collect()
}

fn shifted(text: &str, by: u8) -> String {
    let turn = |c: char, first: u8| char::from((u8::try_from(c).unwrap_or(first) - first + by) % 26 + first);
    let shift = |c: char| match c {
        'a'..='z' => turn(c, b'a'),
        'A'..='Z' => turn(c, b'A'),
        _ => c,
    };
    text.chars().map(shift).collect()
}

fn morse(text: &str) -> String {
    const LETTERS: &[&str] = &[
        ".-", "-...", "-.-.", "-..", ".", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--", "-.", "---",
        ".--.", "--.-", ".-.", "...", "-", "..-", "...-", ".--", "-..-", "-.--", "--..",
    ];
    const DIGITS: &[&str] = &["-----", ".----", "..---", "...--", "....-", ".....", "-....", "--...", "---..", "----."];
    let at = |table: &[&'static str], c: char, first: char| {
        let place = usize::try_from(u32::from(c) - u32::from(first)).ok();
        place.and_then(|place| table.get(place).copied())
    };
    let signs = |c: char| match c.to_ascii_lowercase() {
        c @ 'a'..='z' => at(LETTERS, c, 'a'),
        c @ '0'..='9' => at(DIGITS, c, '0'),
        '.' => Some(".-.-.-"),
        ',' => Some("--..--"),
        '?' => Some("..--.."),
        '\'' => Some(".----."),
        c if c.is_whitespace() => Some("/"),
        _ => None,
    };
    text.chars().filter_map(signs).collect::<Vec<_>>().join(" ")
}

/// The letters inside of every word turned round by one.
fn misspelled(text: &str) -> String {
    let word = |word: &str| {
        let letters = word.chars().take_while(char::is_ascii_alphabetic).count();
        let mut characters: Vec<char> = word.chars().collect();
        if letters >= 4
            && let Some(inner) = characters.get_mut(1..letters - 1)
        {
            inner.rotate_left(1);
        }
        characters.into_iter().collect::<String>()
    };
    text.split_inclusive(|c: char| !c.is_ascii_alphabetic()).map(word).collect()
}

fn leet(c: char) -> String {
    let turned = match c.to_ascii_lowercase() {
        'a' => '4',
        'e' => '3',
        'i' => '1',
        'o' => '0',
        's' => '5',
        't' => '7',
        _ => c,
    };
    turned.to_string()
}

fn mathematical(c: char) -> String {
    let turned = match c {
        'a'..='z' => char::from_u32(u32::from(c) - 0x61 + 0x1D41A),
        'A'..='Z' => char::from_u32(u32::from(c) - 0x41 + 0x1D400),
        _ => None,
    };
    turned.unwrap_or(c).to_string()
}

fn look_alike(c: char) -> String {
    let turned = match c {
        'a' => 'а',
        'e' => 'е',
        'o' => 'о',
        'c' => 'с',
        'p' => 'р',
        'i' => 'і',
        _ => c,
    };
    turned.to_string()
}

/// A comment in the middle of every longer word.
fn comments(text: &str) -> String {
    let word = |word: &str| match word.split_at_checked(word.len() / 2) {
        Some((head, tail)) if word.len() >= 4 && word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            format!("{head}<!-- -->{tail}")
        }
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Shares of rows that are blocked, by disguise.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    plain: Shares,
    disguised: Vec<(&'static str, Shares)>,
    /// Of ordinary requests as they are: how many were read so beside, and how many of these were blocked.
    ordinary: BTreeMap<String, (usize, usize)>,
    requests: usize,
}

/// Of attacks and of harmless rows, in per cent.
#[derive(Clone, Copy, Debug, Serialize)]
struct Shares {
    attacks: f64,
    harmless: f64,
}

/// Disguises rows that are not yet disguised.
///
/// # Errors
/// When the policy cannot be read.
pub(super) fn report(engine: &Engine, rows: &[Row], purposes: &[Purpose]) -> anyhow::Result<Report> {
    let scanner = Scanner::balanced(engine)?;
    let dev = rows.iter().zip(purposes).filter(|(row, purpose)| {
        **purpose == Purpose::Dev && !row.kind.contains(':') && row.kind != "obfuscated" && row.text.len() <= LONGEST
    });
    let (attacks, harmless): (Vec<&Row>, Vec<&Row>) = dev.map(|(row, _)| row).partition(|row| row.attack);
    let share = |rows: &[&Row], disguise: fn(&str) -> String| {
        let step = rows.len().div_ceil(ROWS).max(1);
        let judged = rows.iter().step_by(step).map(|row| blocks(&scanner.scan(&disguise(&row.text), role_of(row))));
        let (blocked, all) = judged.fold((0, 0), |(blocked, all), one| (blocked + usize::from(one), all + 1));
        100.0 * f64::from(blocked as u32) / f64::from(all.max(1))
    };
    let shares = |disguise| Shares { attacks: share(&attacks, disguise), harmless: share(&harmless, disguise) };
    let mut ordinary: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut requests = 0;
    for (row, _) in rows.iter().zip(purposes).filter(|(_, purpose)| **purpose == Purpose::Traffic) {
        requests += 1;
        let inspection = scanner.scan(&row.text, role_of(row));
        for read in inspection.coverage.views.iter() {
            let line = ordinary.entry(format!("{:?}", read.view)).or_default();
            *line = (line.0 + 1, line.1 + usize::from(blocks(&inspection)));
        }
    }
    let disguised = DISGUISES.iter().map(|(name, disguise)| (*name, shares(*disguise))).collect();
    Ok(Report { plain: shares(str::to_owned), disguised, ordinary, requests })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:24} {:>9} {:>9}", "blocked, %", "attacks", "harmless")?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, shares: &Shares| {
            writeln!(f, "  {name:24} {:9.1} {:9.2}", shares.attacks, shares.harmless)
        };
        line(f, "as they are", &self.plain)?;
        self.disguised.iter().try_for_each(|(name, shares)| line(f, name, shares))?;
        writeln!(f, "  of {} ordinary requests, read otherwise and blocked", self.requests)?;
        self.ordinary.iter().try_for_each(|(view, (read, blocked))| writeln!(f, "  {view:24} {read:9} {blocked:9}"))
    }
}
