//! What only a look inside the live connection can show.

use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::types::Value;

use super::*;
use crate::snapshot::Snapshot;
use crate::watch::AppendEnd;

fn machine() -> Machine {
    Machine::new("test", [("", "A")])
}

fn note() -> Entry {
    Entry::Note { body: "{}".into() }
}

fn journal() -> (tempfile::TempDir, Journal) {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&directory.path().join("j.db"), &machine())
        .unwrap()
        .journal;
    journal.append(1, &[Entry::Boot { body: None }], &[b"blob"]).unwrap();
    (directory, journal)
}

fn unrestricted(journal: &mut Journal) {
    let none: Option<fn(AuthContext<'_>) -> Authorization> = None;
    journal.conn.authorizer(none).unwrap();
}

#[test]
fn a_journal_can_move_to_a_thread() {
    fn moves<T: Send>() {}
    moves::<Journal>();
    moves::<Snapshot>();
}

#[test]
fn the_live_connection_is_set_as_the_promise_needs_it() {
    let (_directory, mut journal) = journal();
    unrestricted(&mut journal);
    let pragma = |name: &str| -> String {
        let value = journal.conn.pragma_query_value(None, name, |row| row.get(0)).unwrap();
        match value {
            Value::Text(text) => text,
            Value::Integer(number) => number.to_string(),
            other @ (Value::Null | Value::Real(_) | Value::Blob(_)) => panic!("{other:?}"),
        }
    };
    assert_eq!(pragma("synchronous"), "2", "FULL");
    assert_eq!(pragma("journal_mode"), "wal");
    assert_eq!(pragma("foreign_keys"), "1");
    assert_eq!(pragma("recursive_triggers"), "1");
    assert_eq!(pragma("trusted_schema"), "0");
    assert_eq!(pragma("wal_autocheckpoint"), "0");
    assert_eq!(pragma("locking_mode"), "exclusive");
    assert!(
        !journal.path.with_file_name("j.db-shm").exists(),
        "the WAL's index is in memory"
    );
    // Up to 3.51.2 a log that is begun anew can be corrupted.
    assert!(rusqlite::version_number() > 3_051_002);
}

#[test]
fn the_live_connection_can_only_append() {
    let (_directory, mut journal) = journal();
    let refused = [
        "DROP TABLE journal",
        "DROP TRIGGER one_verdict",
        "DROP INDEX one_verdict_and_ack",
        "ALTER TABLE journal RENAME TO old",
        "ALTER TABLE journal ADD COLUMN more",
        "UPDATE journal SET body = '{}'",
        "DELETE FROM journal",
        "DELETE FROM blob",
        "DELETE FROM sqlite_schema",
        "INSERT INTO edge (src, dst) VALUES ('A', 'Z')",
        "INSERT INTO meta (one, machine) VALUES (2, 'z')",
        "INSERT INTO blob (sha256, bytes) SELECT sha256, x'00' FROM blob WHERE true ON CONFLICT DO UPDATE SET bytes = x'00'",
        "CREATE TABLE more (a)",
        "CREATE TEMP TABLE more (a)",
        "CREATE TRIGGER more BEFORE INSERT ON journal BEGIN SELECT 1; END",
        "CREATE TEMP TRIGGER more BEFORE INSERT ON journal BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW more AS SELECT 1",
        "CREATE INDEX more ON journal (key)",
        "CREATE VIRTUAL TABLE more USING fts5(a)",
        "ATTACH ':memory:' AS other",
        "DETACH other",
        "PRAGMA synchronous = NORMAL",
        "PRAGMA recursive_triggers = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA ignore_check_constraints = ON",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA wal_checkpoint",
        "REINDEX",
        "ANALYZE",
        "SAVEPOINT a",
        "VACUUM INTO '/dev/null/x'",
    ];
    for sql in refused {
        let error = journal.conn.execute_batch(sql).unwrap_err().to_string();
        let named = [
            "not authorized",
            "prohibited",
            "may not be modified",
            "authorization denied",
        ];
        assert!(named.iter().any(|name| error.contains(name)), "{sql}: {error}");
    }
    for sql in [
        "INSERT OR REPLACE INTO blob (sha256, bytes) SELECT sha256, x'00' FROM blob",
        "INSERT OR REPLACE INTO journal SELECT * FROM journal",
        "VACUUM",
    ] {
        assert!(journal.conn.execute_batch(sql).is_err(), "{sql}");
    }
    journal.append(2, &[note()], &[]).unwrap();
    let path = journal.path().to_owned();
    journal.close().unwrap();
    let summary = Snapshot::take(&path).unwrap().verify(None).unwrap();
    assert_eq!((summary.rows, summary.problems), (2, vec![]));
}

#[test]
fn a_failed_commit_poisons_the_journal_and_nothing_acknowledged_is_lost() {
    let (_directory, mut journal) = journal();
    let head = journal.append(2, &[note()], &[]).unwrap();
    journal.conn.commit_hook(Some(|| true)).unwrap();
    let failed = journal.append(3, &[note()], &[]);
    assert!(matches!(failed, Err(AppendError::Commit(_))), "{failed:?}");
    journal.conn.commit_hook(None::<fn() -> bool>).unwrap();
    let after = journal.append(4, &[note()], &[]);
    assert!(matches!(after, Err(AppendError::Poisoned)), "{after:?}");
    assert_eq!(journal.head(), head);
    let path = journal.path().to_owned();
    let log = || std::fs::read(path.with_file_name("j.db-wal")).unwrap();
    let before = log();
    assert!(matches!(journal.close(), Err(AppendError::Poisoned)));
    assert_eq!(log(), before, "a poisoned journal is left as it is");
    assert_eq!(Journal::open(&path, &machine()).unwrap().journal.head(), head);
}

#[test]
fn a_full_disk_has_its_name_and_poisons_the_journal() {
    let (_directory, mut journal) = journal();
    let head = journal.head();
    unrestricted(&mut journal);
    let pages: i64 = journal
        .conn
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    journal
        .conn
        .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        .unwrap();
    let full = journal.append(2, &[note()], &[&vec![7; 100_000]]);
    assert!(matches!(full, Err(AppendError::Full(_))), "{full:?}");
    assert!(matches!(journal.append(3, &[note()], &[]), Err(AppendError::Poisoned)));
    let path = journal.path().to_owned();
    drop(journal);
    assert_eq!(Journal::open(&path, &machine()).unwrap().journal.head(), head);
}

#[test]
fn a_blob_that_was_changed_is_never_given_out() {
    let (_directory, mut journal) = journal();
    let name = Hash::of(b"blob");
    assert!(matches!(journal.blob(&name), Ok(Some(bytes)) if bytes == b"blob"));
    unrestricted(&mut journal);
    journal
        .conn
        .execute_batch("DROP TRIGGER blob_rows_stay; UPDATE blob SET bytes = x'00'")
        .unwrap();
    assert!(matches!(journal.blob(&name), Err(ReadError::BlobAltered(found)) if found == name));
}

/// One temporary table costs more than the row: the list after an IN, or a sort, makes one.
#[test]
fn an_insert_makes_no_temporary_table() {
    let conn = Connection::open_in_memory().unwrap();
    schema::V1.make_tables(&conn).unwrap();
    let mut explained = conn.prepare(&format!("EXPLAIN {}", schema::V1.insert())).unwrap();
    let nothing = [(); 14].map(|()| rusqlite::types::Null);
    let steps = explained.query_map(nothing, |row| row.get(1)).unwrap();
    let steps: Vec<String> = steps.map(|step| step.unwrap()).collect();
    // The six triggers are in it, each a program of its own.
    assert_eq!(steps.iter().filter(|step| *step == "Trace").count(), 6, "{steps:?}");
    for temporary in ["OpenEphemeral", "OpenAutoindex", "SorterOpen"] {
        assert!(!steps.iter().any(|step| step == temporary), "{temporary}");
    }
}

#[test]
fn who_watches_is_told_of_each_append_of_those_that_fail_too() {
    let (_directory, mut journal) = journal();
    let (tell, told) = std::sync::mpsc::channel();
    journal.watch(move |appended| tell.send(*appended).unwrap());
    journal.append(2, &[note(), note()], &[b"12345678"]).unwrap();
    let kept = told.recv().unwrap();
    assert_eq!((kept.end, kept.bytes), (AppendEnd::Kept, 2 + 2 + 8));
    assert!(kept.synced_in.unwrap() > Duration::ZERO);
    let illegal = Entry::Enter {
        src: "A".into(),
        dst: "B".into(),
        body: None,
    };
    journal.append(3, &[illegal], &[]).unwrap_err();
    let refused = told.recv().unwrap();
    assert_eq!((refused.end, refused.synced_in), (AppendEnd::Refused, None));
    journal.health = Health::Poisoned;
    journal.append(4, &[note()], &[]).unwrap_err();
    let failed = told.recv().unwrap();
    assert_eq!((failed.end, failed.synced_in), (AppendEnd::Failed, None));
    assert!(told.try_recv().is_err(), "once each");
}
