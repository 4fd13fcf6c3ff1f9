//! Files that end too early, or are gone.

use super::subject::{Ended, Subject, Then};
use super::wal::{FRAME, HEADER, PAGE};
use crate::whole_proof;

/// Around each boundary between blocks, and in the middle of each; every byte's place around it where a nightly run asks.
fn cuts(length: usize, header: usize, block: usize) -> impl Iterator<Item = usize> {
    let near = if whole_proof() { 64 } else { 1 };
    let boundaries = (header..=length).step_by(block);
    let around =
        boundaries.flat_map(move |at| (at.saturating_sub(near)..=at + near).chain([at + 8, at + 24, at + block / 2]));
    (0..header).step_by(8).chain(around).filter(move |cut| *cut < length)
}

#[test]
fn whatever_a_cut_takes_away_the_rest_is_told_and_the_loss_is_said() {
    let mut closed = Subject::new(Ended::Closed);
    let database = closed.database.clone();
    for cut in cuts(database.len(), 0, PAGE) {
        closed.hold_database(&database[..cut], Then::ReadAndOpen, &format!("database, cut at {cut}"));
    }
    let mut killed = Subject::new(Ended::Killed);
    let log = killed.log().to_vec();
    for cut in cuts(log.len(), HEADER, FRAME) {
        killed.hold_log(&log[..cut], Then::ReadAndOpen, &format!("log, cut at {cut}"));
    }
    for subject in [&closed, &killed] {
        assert_eq!(
            subject.seen.told, subject.seen.damaged,
            "each cut takes something, and is said"
        );
    }
    assert!(killed.seen.good > 0);
    println!(
        "proof: cuts: {} cuts of the database, {} cuts of the log, {} rows called good, 0 of them wrong, {} rows named as lost",
        closed.seen.damaged,
        killed.seen.damaged,
        closed.seen.good + killed.seen.good,
        closed.seen.named + killed.seen.named
    );
}

#[test]
fn a_database_without_its_log_says_that_its_rows_are_lost() {
    let mut subject = Subject::new(Ended::Killed);
    let database = subject.database.clone();
    assert_eq!(subject.hold(Some(&database), None, Then::ReadAndOpen, "no log"), 0);
    let log = subject.log().to_vec();
    assert_eq!(subject.hold(None, Some(&log), Then::ReadAndOpen, "no database"), 0);
    assert_eq!(
        subject.hold(Some(&[]), Some(&log), Then::ReadAndOpen, "an empty database"),
        0
    );
    assert_eq!((subject.seen.told, subject.seen.named), (3, 45));
}
