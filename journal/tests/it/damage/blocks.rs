//! Pages and frames that are zeroed, swapped, doubled, or another journal's.

use std::ops::Range;

use super::subject::{Ended, Subject, Then};
use super::wal::{self, FRAME, HEADER, PAGE};

fn blocks(length: usize, header: usize, block: usize) -> Vec<Range<usize>> {
    let starts = (header..).step_by(block).take_while(|start| start + block <= length);
    starts.map(|start| start..start + block).collect()
}

/// Every block zeroed, every pair swapped, every one copied over each other, with a word for what was done.
fn damages(bytes: &[u8], blocks: &[Range<usize>], mut each: impl FnMut(Vec<u8>, String)) {
    for (here, block) in blocks.iter().enumerate() {
        let mut zeroed = bytes.to_vec();
        zeroed[block.clone()].fill(0);
        each(zeroed, format!("block {here} zeroed"));
        let mut doubled = bytes.to_vec();
        doubled.extend_from_slice(&bytes[block.clone()]);
        each(doubled, format!("block {here} once more at the end"));
        for (there, other) in blocks.iter().enumerate().filter(|(there, _)| *there != here) {
            let mut copied = bytes.to_vec();
            copied.copy_within(block.clone(), other.start);
            each(copied.clone(), format!("block {here} over block {there}"));
            if here < there {
                copied[block.clone()].copy_from_slice(&bytes[other.clone()]);
                each(copied, format!("blocks {here} and {there} swapped"));
            }
        }
    }
}

#[test]
fn pages_that_are_zeroed_or_in_the_wrong_place_never_make_a_wrong_row_good() {
    let mut closed = Subject::new(Ended::Closed);
    let database = closed.database.clone();
    damages(&database, &blocks(database.len(), 0, PAGE), |bytes, what| {
        closed.hold_database(&bytes, Then::Read, &format!("database, {what}"));
    });
    let mut killed = Subject::new(Ended::Killed);
    let log = killed.log().to_vec();
    damages(&log, &blocks(log.len(), HEADER, FRAME), |mut bytes, what| {
        killed.hold_log(&bytes, Then::Read, &format!("log, {what}"));
        wal::seal(&mut bytes);
        killed.hold_log(&bytes, Then::Read, &format!("log, sealed again, {what}"));
    });
    let (pages, frames) = (&closed.seen, &killed.seen);
    assert!(pages.good > 0 && frames.good > 0);
    println!(
        "proof: misplaced blocks: {} of pages, {} of frames, {} rows called good, 0 of them wrong, {} rows named as lost",
        pages.damaged,
        frames.damaged,
        pages.good + frames.good,
        pages.named + frames.named
    );
}

#[test]
fn the_log_of_another_journal_is_not_read_as_this_ones() {
    let mut subject = Subject::new(Ended::Killed);
    // The same life: only salts and, where a checkpoint lies between, pages differ.
    let other = Subject::new(Ended::Killed);
    let closed = Subject::new(Ended::Closed);
    let good = subject.hold_log(other.log(), Then::ReadAndOpen, "another journal's log");
    assert_eq!(good, 15, "the rows are the same, and so are their hashes");
    // Over a database that has its rows already.
    let good = subject.hold(
        Some(&closed.database),
        Some(other.log()),
        Then::ReadAndOpen,
        "an older log",
    );
    assert!(good <= 15);
}
