//! Journals of every schema version that ever was: opened, verified, replayed, dumped and gone on with, for ever.

mod make;

use std::fs;
use std::path::{Path, PathBuf};

use runner::machine::{EffectName, Event, Finding, Left, Run, StateName, VerdictKind, transition};
use runner::record;
use runner_journal::{Entry, Hash, Head, Journal, OpenError, Row, Snapshot};

use crate::journal_cli::{journal, text};

/// What each of them is: how many rows, where the task is, and how it ended. The head is beside the journal.
const FROZEN: [(&str, u64, Option<StateName>, Option<VerdictKind>); 8] = [
    ("v1/another-machine", 20, None, None),
    (
        "v1/completed",
        31,
        Some(StateName::Reported),
        Some(VerdictKind::Completed),
    ),
    (
        "v1/completed-after-two-crashes",
        40,
        Some(StateName::Reported),
        Some(VerdictKind::Completed),
    ),
    ("v1/died-at-work", 16, Some(StateName::Cloned), None),
    (
        "v1/red-check",
        37,
        Some(StateName::Reported),
        Some(VerdictKind::Completed),
    ),
    (
        "v1/salvaged-after-a-time-out",
        31,
        Some(StateName::Reported),
        Some(VerdictKind::Failed),
    ),
    (
        "v1/superseded",
        10,
        Some(StateName::Reported),
        Some(VerdictKind::Superseded),
    ),
    (
        "v1/token-ambiguous",
        19,
        Some(StateName::Reported),
        Some(VerdictKind::Failed),
    ),
];

/// Where they are: a directory for each version, in it one for each journal.
fn frozen_journals() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journals")
}

/// A copy of a frozen journal, and of its log where it has one, in a directory of the caller's own.
pub(crate) fn thaw(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for file in ["journal.db", "journal.db-wal"] {
        if let Ok(packed) = fs::read(frozen_journals().join(name).join(format!("{file}.zst"))) {
            fs::write(dir.path().join(file), zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
        }
    }
    let path = dir.path().join("journal.db");
    (dir, path)
}

fn rows(snapshot: &Snapshot) -> Vec<Row> {
    let mut rows = Vec::new();
    let summary = snapshot.read(|row| rows.push(row)).unwrap();
    assert_eq!(summary.problems, vec![]);
    rows
}

/// The head that the journal had when it was frozen. Once there is one, nothing writes another.
fn head(name: &str, found: Head) -> Head {
    let path = frozen_journals().join(name).join("head");
    if std::env::var_os("UPDATE_DOCS").is_some() && !path.exists() {
        fs::write(&path, format!("{} {}\n", found.seq, found.hash)).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap();
    let (seq, hash) = kept.trim_end().split_once(' ').unwrap();
    Head {
        seq: seq.parse().unwrap(),
        hash: hash.parse().unwrap(),
    }
}

/// Holds what a command printed against what it printed when the journal was frozen.
fn is_as_ever(name: &str, file: &str, printed: &str) {
    let path = frozen_journals().join(name).join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, printed).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(
        printed, expected,
        "{name}/{file}: UPDATE_DOCS=1 writes it anew, if it is meant"
    );
}

#[test]
fn every_frozen_journal_is_in_the_list() {
    let mut found = Vec::new();
    for version in fs::read_dir(frozen_journals()).unwrap().map(|entry| entry.unwrap()) {
        if version.file_type().unwrap().is_dir() {
            let names = fs::read_dir(version.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let version = version.file_name().into_string().unwrap();
            found.extend(names.map(|name| format!("{version}/{}", name.to_str().unwrap())));
        }
    }
    found.sort();
    assert_eq!(found, FROZEN.map(|(name, ..)| name.to_owned()));
}

#[test]
fn a_frozen_journal_is_verified_replayed_and_dumped_as_on_the_day_it_was_made() {
    let mut total = 0;
    for (name, count, state, verdict) in FROZEN {
        let (_dir, path) = thaw(name);
        let snapshot = Snapshot::take(&path).unwrap();
        assert_eq!(format!("v{}", snapshot.schema()), name.split('/').next().unwrap());
        let found = snapshot.verify(None).unwrap();
        assert_eq!((found.rows, &found.problems), (count, &vec![]), "{name}");
        assert_eq!(
            found.head,
            head(name, found.head),
            "{name}: the hashes are those of that day"
        );
        let rows = rows(&snapshot);
        total += rows.len();
        let ours = snapshot.machine() == Some(record::MACHINE);
        assert_eq!(ours, state.is_some(), "{name}");
        if ours {
            let run = record::replay(&rows, |hash: &Hash| snapshot.blob(hash).unwrap()).unwrap();
            assert_eq!(run.state_name(), state, "{name}");
            assert_eq!(run.verdict.map(|verdict| verdict.kind), verdict, "{name}");
            let replayed = journal(&["replay", text(&path)]);
            assert_eq!((replayed.code, replayed.stderr.as_str()), (Some(0), ""), "{name}");
            is_as_ever(name, "replay.txt", &replayed.stdout);
        }
        // Another machine's rows are whole, and no history of ours.
        let code = if ours { Some(0) } else { Some(1) };
        for (format, file) in [("ndjson", "dump.ndjson"), ("table", "dump.txt")] {
            let dumped = journal(&["dump", "--format", format, text(&path)]);
            assert_eq!(dumped.code, code, "{name}: {}", dumped.stderr);
            is_as_ever(name, file, &dumped.stdout);
        }
        let dumped = journal(&["dump", "--format", "json", text(&path)]);
        let dumped: serde_json::Value = serde_json::from_str(&dumped.stdout).unwrap();
        assert_eq!(dumped["journal"]["journalHead"], found.head.hash.to_string(), "{name}");
        assert_eq!(dumped["entries"].as_array().unwrap().len(), rows.len(), "{name}");
    }
    println!(
        "proof: frozen journals: {} journals, {total} rows, 0 changed",
        FROZEN.len()
    );
}

#[test]
fn a_frozen_journal_is_gone_on_with_also_by_a_machine_that_has_gained_a_state() {
    let mut grown = record::machine();
    grown.edges.push(("Reported".to_owned(), "Archived".to_owned()));
    for (name, count, state, _) in FROZEN.into_iter().filter(|(_, _, state, _)| state.is_some()) {
        let (_dir, path) = thaw(name);
        let opened = Journal::open(&path, &record::machine()).unwrap();
        assert_eq!(opened.rows.len(), usize::try_from(count).unwrap(), "{name}");
        opened.journal.close().unwrap();
        let mut opened = Journal::open(&path, &grown).unwrap();
        opened.journal.append(1, &[Entry::Boot { body: None }], &[]).unwrap();
        if state == Some(StateName::Reported) {
            let archived = Entry::Enter {
                src: "Reported".to_owned(),
                dst: "Archived".to_owned(),
                body: None,
            };
            opened.journal.append(2, &[archived], &[]).unwrap();
        }
        let head = opened.journal.head();
        drop(opened);
        let summary = Snapshot::take(&path).unwrap().verify(None).unwrap();
        assert_eq!((summary.head, summary.whole()), (head, true), "{name}");
        // There is no way back from there to a program without that state, and it is said.
        let error = Journal::open(&path, &record::machine()).map(drop).unwrap_err();
        assert!(
            matches!(&error, OpenError::UnknownEdge { dst, .. } if dst == "Archived"),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_frozen_journal_of_the_dead_is_taken_up_where_it_stopped() {
    let (_dir, path) = thaw("v1/died-at-work");
    let opened = Journal::open(&path, &record::machine()).unwrap();
    let mut journal = opened.journal;
    let blob = |hash: &Hash| journal.blob(hash).unwrap();
    let mut run: Run = record::replay(&opened.rows, blob).unwrap();
    assert_eq!(
        run.open.map(|open| (open.effect, open.number)),
        Some((EffectName::Agent, 1))
    );
    let (effect, at) = (EffectName::Agent, 1);
    for event in [
        Event::Booted { at },
        Event::Probed {
            effect,
            attempt: 1,
            finding: Finding::NotDone(Left::default()),
            at,
        },
        Event::Intended {
            effect,
            attempt: 2,
            session: None,
            at,
        },
    ] {
        let after = transition(&run, &event).unwrap();
        let written = record::write(&run, &event, &after).unwrap();
        journal.append(at, &written.entries, &[]).unwrap();
        run = after;
    }
    drop(journal);
    let snapshot = Snapshot::take(&path).unwrap();
    let read = record::replay(&rows(&snapshot), |hash: &Hash| snapshot.blob(hash).unwrap()).unwrap();
    assert_eq!(read, run);
    assert_eq!(read.open.map(|open| (open.effect, open.number)), Some((effect, 2)));
}
