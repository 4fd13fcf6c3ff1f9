//! Bytes that flipped.

use super::subject::{Ended, Subject, Then};
use super::wal;
use crate::whole_proof;

/// Each file's headers and every 64th byte, in one bit; every byte in several patterns where a nightly run asks for it.
fn flips(length: usize) -> impl Iterator<Item = (usize, u8)> {
    let places = (0..length).filter(|at| whole_proof() || *at < 128 || at % 64 == 17);
    places.flat_map(|at| {
        let bit = 1 << (at % 8);
        let more: &[u8] = if whole_proof() { &[0xff] } else { &[] };
        std::iter::once(bit)
            .chain(more.iter().copied().filter(move |pattern| *pattern != bit))
            .map(move |pattern| (at, pattern))
    })
}

fn then(at: usize) -> Then {
    if at.is_multiple_of(11) {
        Then::ReadAndOpen
    } else {
        Then::Read
    }
}

fn proof(file: &str, subject: &Subject) {
    let seen = &subject.seen;
    assert!(seen.good > 0 && seen.named > 0);
    println!(
        "proof: flips in {file}: {} flips, {} rows called good, 0 of them wrong, {} rows named as lost",
        seen.damaged, seen.good, seen.named
    );
}

#[test]
fn a_flipped_byte_in_the_database_never_makes_a_wrong_row_good() {
    let mut subject = Subject::new(Ended::Closed);
    let mut bytes = subject.database.clone();
    for (at, pattern) in flips(bytes.len()) {
        bytes[at] ^= pattern;
        subject.hold_database(&bytes, then(at), &format!("database, byte {at} ^ {pattern:#x}"));
        bytes[at] ^= pattern;
    }
    proof("the database", &subject);
}

#[test]
fn a_flipped_byte_in_the_log_never_makes_a_wrong_row_good() {
    let mut subject = Subject::new(Ended::Killed);
    let mut bytes = subject.log().to_vec();
    for (at, pattern) in flips(bytes.len()) {
        bytes[at] ^= pattern;
        subject.hold_log(&bytes, then(at), &format!("log, byte {at} ^ {pattern:#x}"));
        bytes[at] ^= pattern;
    }
    assert_eq!(
        subject.seen.told, subject.seen.damaged,
        "against a head, a lost end is always said"
    );
    proof("the log", &subject);
}

#[test]
fn a_flipped_byte_that_sqlites_checksum_does_not_see_never_makes_a_wrong_row_good() {
    let mut subject = Subject::new(Ended::Killed);
    let bytes = subject.log().to_vec();
    for (at, pattern) in flips(bytes.len()) {
        let mut flipped = bytes.clone();
        flipped[at] ^= pattern;
        wal::seal(&mut flipped);
        subject.hold_log(&flipped, then(at), &format!("sealed log, byte {at} ^ {pattern:#x}"));
    }
    proof("a log that is sealed again", &subject);
}
