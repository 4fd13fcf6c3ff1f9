//! The journal from outside: what it refuses, what it keeps, what it sees.

#![cfg(test)]

mod append;
mod damage;
mod faults;
mod foreign;
mod killed;
mod opening;
mod power;
mod rules;
mod snapshot;

use std::path::{Path, PathBuf};

use runner_journal::{Entry, Finding, Journal, Machine};

/// A machine of three states, and a fourth that any of them can end in.
fn machine() -> Machine {
    Machine::new(
        "test",
        [
            ("", "A"),
            ("A", "B"),
            ("B", "C"),
            ("A", "End"),
            ("B", "End"),
            ("C", "End"),
        ],
    )
}

/// A directory of the test's own and a journal's path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state").join("journal.db");
    (directory, path)
}

fn open(path: &Path) -> Journal {
    Journal::open(path, &machine()).unwrap().journal
}

fn boot() -> Entry {
    Entry::Boot { body: None }
}

fn enter(src: &str, dst: &str) -> Entry {
    Entry::Enter {
        src: src.into(),
        dst: dst.into(),
        body: None,
    }
}

fn intent(effect: &str, attempt: u32) -> Entry {
    Entry::Intent {
        effect: effect.into(),
        attempt,
        key: format!("t/{effect}/1"),
        body: Some("{}".into()),
    }
}

fn probe(effect: &str, attempt: u32, finding: Finding) -> Entry {
    Entry::Probe {
        effect: effect.into(),
        attempt,
        finding,
        body: None,
    }
}

fn outcome(effect: &str, attempt: u32, finding: Finding) -> Entry {
    Entry::Outcome {
        effect: effect.into(),
        attempt,
        finding,
        body: Some(r#"{"what":"came of it"}"#.into()),
    }
}

fn verdict() -> Entry {
    Entry::Verdict {
        key: "t/report/1".into(),
        body: r#"{"event":"completed"}"#.into(),
    }
}

fn note(body: &str) -> Entry {
    Entry::Note { body: body.into() }
}

/// The appends of a whole, short life: 11 rows, a blob.
fn life() -> Vec<Vec<Entry>> {
    vec![
        vec![boot(), enter("", "A")],
        vec![intent("x", 1)],
        vec![outcome("x", 1, Finding::Done), enter("A", "B")],
        vec![intent("y", 1)],
        vec![boot(), probe("y", 1, Finding::NotDone)],
        vec![intent("y", 2)],
        vec![outcome("y", 2, Finding::Done), enter("B", "C"), note("\"seen\"")],
        vec![verdict()],
        vec![Entry::Ack { body: None }, enter("C", "End")],
    ]
}

/// Lives that life in a new journal.
fn lived(path: &Path) -> Journal {
    let mut journal = open(path);
    for (time, entries) in (1_000..).zip(life()) {
        let blobs: &[&[u8]] = if time == 1_002 { &[b"a larger payload"] } else { &[] };
        journal.append(time, &entries, blobs).unwrap();
    }
    journal
}

/// Whether the proofs run at their nightly size.
fn whole_proof() -> bool {
    std::env::var_os("PROOF").is_some_and(|size| size == "whole")
}
