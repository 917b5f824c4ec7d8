//! Records and segments as bytes.

use std::path::Path;

use proptest::prelude::*;

use super::super::record::{Entry, MAX_PAYLOAD, decode, encode};
use super::super::segment::{self, Piece, SegmentReader};
use super::*;
use crate::domain::{AnswerRecord, AuditFinding, Category, Detector, Role, Severity, View, ViewStop};

fn entries() -> Vec<Entry> {
    vec![
        Entry::Begin(Box::new(event(1))),
        Entry::Begin(Box::new(event(2))),
        Entry::Completion(completion(1)),
        Entry::Both(Box::new(event(3)), completion(3)),
        Entry::Completion(completion(2)),
    ]
}

/// A segment with `entries`, and where each record ends.
fn file_of(entries: &mut [Entry]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = segment::header(1).to_vec();
    let ends = entries.iter_mut().map(|entry| {
        encode(entry, &mut bytes).unwrap();
        bytes.len()
    });
    let ends = ends.collect();
    (bytes, ends)
}

fn read(path: &Path, bytes: &[u8]) -> (Vec<Entry>, u64) {
    std::fs::write(path, bytes).unwrap();
    let (mut entries, mut damage) = (Vec::new(), 0);
    let mut reader = SegmentReader::open(path, None).unwrap();
    while let Some(piece) = reader.next().unwrap() {
        match piece {
            Piece::Record { payload, .. } => entries.push(decode(payload).unwrap()),
            Piece::Damage { from, to } => damage += to - from,
        }
    }
    (entries, damage)
}

#[test]
fn every_prefix_of_a_file_gives_exactly_the_whole_records_before_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = entries();
    let (bytes, ends) = file_of(&mut entries);
    for cut in 0..=bytes.len() {
        let (found, damage) = read(&dir.path().join("cut"), &bytes[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(found, entries[..whole], "cut at {cut}");
        let last = ends[..whole].last().copied().unwrap_or(if cut < 24 { 0 } else { 24 });
        assert_eq!(damage, (cut - last) as u64, "cut at {cut}");
    }
}

#[test]
fn every_flipped_byte_is_found_and_costs_at_most_the_record_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = entries();
    let (bytes, ends) = file_of(&mut entries);
    for at in 0..bytes.len() {
        for mask in [1 << (at % 8), 0xff] {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            let (found, damage) = read(&dir.path().join("flipped"), &flipped);
            let mut expected = entries.clone();
            if at >= 24 {
                expected.remove(ends.iter().filter(|end| **end <= at).count());
            }
            assert_eq!(found, expected, "byte {at} flipped by {mask:#x}");
            assert!(damage > 0, "byte {at} flipped by {mask:#x}");
        }
    }
}

#[test]
fn a_segment_of_a_later_format_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later");
    let mut header = Vec::from(*b"SNTAUDIT");
    header.extend(2u32.to_le_bytes());
    let sum = crc32c::crc32c(&[&header[..], &1u64.to_le_bytes()].concat());
    header.extend(sum.to_le_bytes());
    header.extend(1u64.to_le_bytes());
    std::fs::write(&path, header).unwrap();
    let error = SegmentReader::open(&path, None).err().unwrap();
    assert!(error.to_string().contains("format 2"), "{error}");
}

fn finding(path: String, confidence: f32) -> AuditFinding {
    AuditFinding {
        detector: Detector::Pii,
        rule_id: "pii.email_address".to_owned(),
        category: Category::Pii,
        entity: "EMAIL_ADDRESS".to_owned(),
        severity: Severity::Low,
        confidence,
        action: Action::Flag,
        direction: Direction::Input,
        role: Role::User,
        path,
        start: 0,
        end: 5,
    }
}

#[test]
fn an_event_that_is_too_large_loses_findings_and_not_its_row() {
    let mut large = event(1);
    large.user_id = Some("é".repeat(MAX_PAYLOAD));
    large.findings = vec![finding("messages[0].content".to_owned(), f32::NAN); 10_000];
    let mut bytes = Vec::new();
    let length = encode(&mut Entry::Begin(Box::new(large)), &mut bytes).unwrap();
    assert_eq!(length, bytes.len());
    let Entry::Begin(read) = decode(&bytes[8..]).unwrap() else { panic!("another kind") };
    assert!(!read.findings.is_empty());
    assert_eq!(read.user_id.unwrap(), "é".repeat(512));
}

/// Kinds 5 and 6, as nodes wrote them before answers were looked at.
#[test]
fn completions_of_an_older_journal_are_still_read() {
    let done = completion(7);
    // Postcard keeps positions only, so a list of the fields is the record.
    let first = (done.id, done.completed_at, done.outcome, done.status, done.upstream_status, done.duration_us);
    let second = (done.overhead_us, done.ttfb_us, done.response_bytes, done.input_tokens, done.output_tokens);
    let old = postcard::to_stdvec(&(first, second, &done.error_code)).unwrap();
    assert_eq!(decode(&[&[5], &*old].concat()).unwrap(), Entry::Completion(done.clone()));
    let begun = event(7);
    let both = [&[6], &*postcard::to_stdvec(&begun).unwrap(), &*old].concat();
    assert_eq!(decode(&both).unwrap(), Entry::Both(Box::new(begun), done));
}

/// Kinds 4, 7 and 8, as nodes wrote them before the receipt told of readings.
#[test]
fn entries_without_readings_are_still_read() {
    let (begun, done) = (event(7), completion(7));
    let record = |kind: u8, entry: Vec<u8>| decode(&[&[kind], &*entry].concat()).unwrap();
    let begin = record(4, postcard::to_stdvec(&begun).unwrap());
    assert_eq!(begin, Entry::Begin(Box::new(begun.clone())));
    assert_eq!(record(7, postcard::to_stdvec(&done).unwrap()), Entry::Completion(done.clone()));
    let both = record(8, postcard::to_stdvec(&(&begun, &done)).unwrap());
    assert_eq!(both, Entry::Both(Box::new(begun), done));
}

proptest! {
    #[test]
    fn what_is_encoded_is_what_is_decoded(
        texts in proptest::collection::vec(proptest::option::of("(?s).{0,20}\0?"), 7),
        path in "(?s).{0,20}",
        confidence in proptest::num::f32::ANY,
        both in proptest::bool::ANY,
    ) {
        let mut event = event(1);
        event.path.clone_from(&path);
        event.coverage.views.stopped(View::Encoded, ViewStop::Depth);
        let (shared, own) = texts.split_at(3);
        [event.model, event.user_id, event.client_ip, event.error_code] = own.to_vec().try_into().unwrap();
        [event.dialect, event.upstream, event.policy_name] =
            [0, 1, 2].map(|n: usize| shared[n].as_deref().map(Into::into));
        event.findings.push(finding(path, confidence));
        let event = Box::new(event);
        let mut done = completion(1);
        done.answer = Some(Box::new(AnswerRecord {
            action: Action::Redact,
            risk_score: 3,
            pii_detected: true,
            escalated: false,
            categories: vec![Category::Pii],
            findings: event.findings.clone(),
            coverage: event.coverage.clone(),
        }));
        let mut entry = if both { Entry::Both(event, done) } else { Entry::Begin(event) };
        let mut bytes = Vec::new();
        encode(&mut entry, &mut bytes).unwrap();
        prop_assert!(super::super::record::intact(&bytes));
        prop_assert_eq!(decode(&bytes[8..]).unwrap(), entry);
    }

    #[test]
    fn any_bytes_can_be_read_and_records_behind_them_are_found(noise in proptest::collection::vec(0u8.., 0..600)) {
        let dir = tempfile::tempdir().unwrap();
        let mut entries = entries();
        let (bytes, _) = file_of(&mut entries);
        let file = [&bytes[..24], &noise, &bytes[24..]].concat();
        let (found, damage) = read(&dir.path().join("noise"), &file);
        prop_assert_eq!(found, entries);
        prop_assert_eq!(damage, noise.len() as u64);
    }
}
