//! A program that knows one version beside a program that knows a made-up second one.

use std::fs;
use std::path::{Path, PathBuf};

use super::made_up::TOMORROW;
use super::*;
use crate::entry::{Entry, Finding, Machine, Row};
use crate::error::{AppendError, OpenError, ReadError};
use crate::hash::Head;
use crate::journal::{Journal, Opened};
use crate::problem::Problem;
use crate::rule::Rule;
use crate::snapshot::Snapshot;
use crate::{SCHEMA, open};

/// What the program of today knows.
const TODAY: Known = ALL;

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    (directory, path)
}

fn opened(path: &Path, known: Known) -> Result<Opened, OpenError> {
    open::open(path, &Machine::new("test", [("", "A"), ("A", "B")]), known)
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

fn long_note() -> Entry {
    Entry::Note {
        body: "\"more than ten bytes\"".into(),
    }
}

/// The first half of a life, or the second.
fn live(journal: &mut Journal, half: u32) -> Head {
    let intent = Entry::Intent {
        effect: "x".into(),
        attempt: half,
        key: "t/x/1".into(),
        body: Some("{}".into()),
    };
    let outcome = Entry::Outcome {
        effect: "x".into(),
        attempt: half,
        finding: Finding::Done,
        body: None,
    };
    let entered = if half == 1 { enter("", "A") } else { enter("A", "B") };
    journal.append(1, &[boot(), entered], &[b"a payload"]).unwrap();
    journal.append(2, &[intent], &[]).unwrap();
    journal.append(3, &[outcome], &[]).unwrap()
}

/// Every row that verifies for whoever knows these versions, and the version that the journal is of.
fn read(path: &Path, known: Known) -> (u32, Vec<Row>) {
    let snapshot = Snapshot::take_knowing(path, known).unwrap();
    let summary = snapshot.verify(None).unwrap();
    assert_eq!(summary.problems, vec![]);
    let mut rows = Vec::new();
    snapshot.read(|row| rows.push(row)).unwrap();
    (snapshot.schema(), rows)
}

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn the_version_of_new_journals_is_the_newest_that_is_known() {
    assert_eq!(ALL.newest().version, SCHEMA);
    let versions: Vec<_> = ALL.0.iter().map(|schema| schema.version).collect();
    assert_eq!(versions, (1..=SCHEMA).collect::<Vec<_>>(), "none is taken away");
    assert_eq!(ALL.find(0).unwrap_err(), Unknown::NeverWritten);
    assert_eq!(ALL.find(SCHEMA + 1).unwrap_err(), Unknown::Newer);
    assert_eq!(format!("{V1:?}"), "Schema(1)");
}

#[test]
fn a_journal_of_today_is_gone_on_with_in_its_own_version_and_can_be_rolled_back() {
    let (_directory, path) = place();
    let mut journal = opened(&path, TODAY).unwrap().journal;
    live(&mut journal, 1);
    drop(journal);
    // Tomorrow's program takes it up, and dies.
    let mut journal = opened(&path, TOMORROW).unwrap().journal;
    assert_eq!(journal.schema(), 1);
    let head = live(&mut journal, 2);
    // The further rules are not those of this journal.
    journal.append(9, &[long_note()], &[]).unwrap();
    drop(journal);
    let (version, rows) = read(&path, TODAY);
    assert_eq!((version, rows.len(), rows[7].hash), (1, 9, head.hash));
    assert_eq!(read(&path, TOMORROW), (1, rows.clone()));
    // Today's program is rolled back to, and goes on.
    let Opened {
        mut journal,
        rows: seen,
    } = opened(&path, TODAY).unwrap();
    assert_eq!(seen, rows);
    journal.append(10, &[boot()], &[]).unwrap();
    journal.close().unwrap();

    // Byte for byte what today's program alone would have written.
    let (_alone, other) = place();
    let mut journal = opened(&other, TODAY).unwrap().journal;
    live(&mut journal, 1);
    drop(journal);
    let mut journal = opened(&other, TODAY).unwrap().journal;
    live(&mut journal, 2);
    journal.append(9, &[long_note()], &[]).unwrap();
    drop(journal);
    let mut journal = opened(&other, TODAY).unwrap().journal;
    journal.append(10, &[boot()], &[]).unwrap();
    journal.close().unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(&other).unwrap());
}

#[test]
fn a_journal_of_tomorrow_has_tomorrows_column_and_rules() {
    let (_directory, path) = place();
    let mut journal = opened(&path, TOMORROW).unwrap().journal;
    assert_eq!(journal.schema(), 2);
    live(&mut journal, 1);
    let refused = journal.append(4, &[long_note()], &[]).unwrap_err();
    assert!(
        matches!(
            refused,
            AppendError::Refused {
                index: 0,
                rule: Rule::Body
            }
        ),
        "{refused}"
    );
    let head = live(&mut journal, 2);
    drop(journal);
    let Opened { journal, rows } = opened(&path, TOMORROW).unwrap();
    assert_eq!(journal.head(), head);
    drop(journal);
    assert_eq!(read(&path, TOMORROW), (2, rows.clone()));
    // The same rows in today's version have other hashes: none can be taken for the other.
    let (_other, today) = place();
    let mut journal = opened(&today, TODAY).unwrap().journal;
    assert_ne!(live(&mut journal, 1).hash, rows[3].hash);
}

#[test]
fn a_changed_value_in_tomorrows_column_is_seen() {
    let (_directory, path) = place();
    let mut journal = opened(&path, TOMORROW).unwrap().journal;
    live(&mut journal, 1);
    journal.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(10).position(|window| window == b"tomorrow's").unwrap();
    bytes[at] = b'T';
    fs::write(&path, bytes).unwrap();
    let summary = Snapshot::take_knowing(&path, TOMORROW).unwrap().verify(None).unwrap();
    assert_eq!(summary.problems, vec![Problem::Altered { from: 1, to: 1 }]);
}

#[test]
fn a_journal_of_tomorrow_is_not_gone_on_with_today_and_left_alone() {
    for clean in [true, false] {
        let (directory, path) = place();
        let mut journal = opened(&path, TOMORROW).unwrap().journal;
        live(&mut journal, 1);
        if clean {
            journal.close().unwrap();
        } else {
            drop(journal);
        }
        fs::remove_file(directory.path().join("journal.db.lock")).ok();
        let before = contents(directory.path());
        let error = opened(&path, TODAY).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::NewerSchema { found: 2 }), "{error}");
        Snapshot::take_knowing(&path, TODAY).unwrap();
        assert!(contents(directory.path()) == before, "something was touched");
    }
}

#[test]
fn a_journal_of_tomorrow_is_read_today_by_its_own_hashes_and_it_is_said() {
    let (_directory, path) = place();
    let mut journal = opened(&path, TOMORROW).unwrap().journal;
    live(&mut journal, 1);
    let head = live(&mut journal, 2);
    journal.close().unwrap();
    let rows = read(&path, TOMORROW).1;
    let snapshot = Snapshot::take_knowing(&path, TODAY).unwrap();
    assert_eq!((snapshot.schema(), snapshot.is_newer()), (2, true));
    assert!(!Snapshot::take_knowing(&path, TOMORROW).unwrap().is_newer());
    let summary = snapshot.verify(Some(head.hash)).unwrap();
    assert_eq!((summary.rows, summary.head, &summary.problems), (8, head, &vec![]));
    let mut today = Vec::new();
    snapshot.read(|row| today.push(row)).unwrap();
    assert_eq!(today, rows);
    let mut landmarks = Vec::new();
    snapshot.landmarks(|row| landmarks.push(row.seq)).unwrap();
    assert_eq!(landmarks, [1, 2, 6]);

    // A change of what today's program does not know is seen all the same.
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let at = bytes.windows(10).rposition(|window| window == b"tomorrow's").unwrap();
    bytes[at] = b'T';
    fs::write(&path, bytes).unwrap();
    let changed = Snapshot::take_knowing(&path, TODAY).map(|snapshot| snapshot.verify(None).unwrap().problems);
    match changed {
        // The second start's.
        Ok(problems) => assert_eq!(problems, vec![Problem::Altered { from: 5, to: 5 }]),
        // The first row's: then nothing says that rows are hashed as this program thinks.
        Err(error) => assert!(matches!(error, ReadError::NewerSchema { found: 2 }), "{error}"),
    }
    // So does a version whose rows are hashed otherwise: here, one that only says that it is another.
    let mut bytes = whole;
    bytes[60..64].copy_from_slice(&3_u32.to_be_bytes());
    fs::write(&path, bytes).unwrap();
    let error = Snapshot::take_knowing(&path, TODAY).map(drop).unwrap_err();
    assert!(matches!(error, ReadError::NewerSchema { found: 3 }), "{error}");
}

#[test]
fn what_today_does_not_understand_of_tomorrow_is_named_and_the_rest_is_read() {
    let (_directory, path) = place();
    let mut journal = opened(&path, TOMORROW).unwrap().journal;
    live(&mut journal, 1);
    let head = journal.head();
    journal.close().unwrap();
    // A kind of row that today's program does not have, hashed and chained as tomorrow's would; and one that it has.
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA ignore_check_constraints = ON; DROP TRIGGER a_boot_names_its_program")
        .unwrap();
    let mut prev = head.hash;
    for (seq, kind, body) in [(5, "lease", None), (6, "note", Some("1"))] {
        let values = [
            ValueRef::Integer(seq),
            ValueRef::Integer(1),
            ValueRef::Integer(9),
            text(Some(kind)),
            ValueRef::Null,
            ValueRef::Null,
            ValueRef::Null,
            ValueRef::Null,
            ValueRef::Null,
            ValueRef::Null,
            text(body),
            ValueRef::Null,
            ValueRef::Null,
        ];
        let hash = hash(2, "test", &prev, values.into_iter(), &mut Vec::new());
        conn.execute(
            "INSERT INTO journal (seq, boot, at_ms, kind, body, prev, hash) VALUES (?1, 1, 9, ?2, ?3, ?4, ?5)",
            rusqlite::params![seq, kind, body, prev.as_bytes(), hash.as_bytes()],
        )
        .unwrap();
        prev = hash;
    }
    drop(conn);
    let mut seqs = Vec::new();
    let snapshot = Snapshot::take_knowing(&path, TODAY).unwrap();
    let summary = snapshot.read(|row| seqs.push(row.seq)).unwrap();
    assert_eq!(summary.problems, vec![Problem::NotUnderstood { from: 5, to: 5 }]);
    assert_eq!(seqs, [1, 2, 3, 4, 6]);
}

#[test]
fn a_version_that_was_never_written_is_no_whole_journal_and_its_rows_are_shown() {
    let (_directory, path) = place();
    let mut journal = opened(&path, TODAY).unwrap().journal;
    live(&mut journal, 1);
    journal.close().unwrap();
    // Where SQLite's header has the version.
    let mut bytes = fs::read(&path).unwrap();
    bytes[60..64].fill(0);
    fs::write(&path, bytes).unwrap();
    let summary = Snapshot::take(&path).unwrap().verify(None).unwrap();
    assert_eq!((summary.rows, summary.problems), (4, vec![Problem::never_written(0)]));
    let error = opened(&path, TODAY).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
}
