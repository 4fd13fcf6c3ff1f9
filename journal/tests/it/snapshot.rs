use std::fs;
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use runner_journal::{Entry, Foreign, Hash, Journal, OpenError, Problem, ReadError, SCHEMA, Snapshot, Summary};
use rusqlite::Connection;

use crate::{boot, lived, machine, note, open, place};

fn verified(path: &std::path::Path) -> Summary {
    Snapshot::take(path).unwrap().verify(None).unwrap()
}

#[test]
fn a_dead_runners_journal_is_read_with_its_log_in_a_directory_that_cannot_be_written() {
    let (_directory, path) = place();
    let journal = lived(&path);
    let head = journal.head();
    drop(journal);
    assert!(fs::metadata(path.with_file_name("journal.db-wal")).unwrap().len() > 0);
    let directory = path.parent().unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o500)).unwrap();
    let before = fs::read_dir(directory).unwrap().count();
    let snapshot = Snapshot::take(&path).unwrap();
    assert_eq!((snapshot.machine(), snapshot.schema()), (Some("test"), SCHEMA));
    let mut seqs = Vec::new();
    let summary = snapshot.read(|row| seqs.push(row.seq)).unwrap();
    assert_eq!(seqs, (1..=15).collect::<Vec<_>>());
    assert_eq!((summary.rows, summary.head, summary.whole()), (15, head, true));
    assert_eq!(fs::read_dir(directory).unwrap().count(), before);
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_living_journal_is_read_as_a_clean_prefix_and_keeps_its_locks() {
    let (_directory, path) = place();
    let mut journal = open(&path);
    journal.append(0, &[boot()], &[]).unwrap();
    for seq in 2..20 {
        journal.append(seq, &[note("1")], &[]).unwrap();
        let summary = verified(&path);
        assert_eq!((summary.head, summary.whole()), (journal.head(), true));
    }
    // SQLite's own lock still keeps every other program out.
    let said = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "snapshot::stranger", "--ignored", "--nocapture"])
        .env(STRANGER, &path)
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("database is locked"), "the locks were dropped: {said}");
}

const STRANGER: &str = "JOURNAL_STRANGER_PATH";

/// The child: another program, which reads the database with SQLite alone.
#[test]
#[ignore = "a child of another test, which starts it with a path"]
fn stranger() {
    let Some(path) = std::env::var_os(STRANGER) else { return };
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(std::time::Duration::ZERO).unwrap();
    let rows = conn.query_row("SELECT count(*) FROM journal", [], |row| row.get::<_, i64>(0));
    println!("{rows:?}");
}

#[test]
fn copies_made_while_rows_are_written_are_prefixes() {
    let (_directory, path) = place();
    let mut journal = open(&path);
    journal.append(0, &[boot()], &[]).unwrap();
    let writer = std::thread::spawn(move || {
        for at_ms in 0..600 {
            journal.append(at_ms, &[note("1"), note("2")], &[]).unwrap();
        }
        journal
    });
    let mut last = 0;
    while !writer.is_finished() {
        let summary = verified(&path);
        assert_eq!(summary.problems, vec![]);
        assert_eq!(summary.rows % 2, 1, "half a transaction");
        assert!(summary.rows >= last);
        last = summary.rows;
    }
    assert_eq!(verified(&path).head, writer.join().unwrap().head());
}

#[test]
fn a_copy_of_a_living_journal_is_whole_keeps_its_locks_and_is_made_again_over_an_older_one() {
    let (directory, path) = place();
    let mut journal = open(&path);
    journal.append(0, &[boot()], &[]).unwrap();
    let copied = directory.path().join("copied.db");
    let file = |name: &std::path::Path| {
        let mut options = fs::File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(name)
            .unwrap()
    };
    let (database, log) = (file(&copied), file(&directory.path().join("copied.db-wal")));
    for seq in 2..20 {
        journal.append(seq, &[note("1")], &[]).unwrap();
        runner_journal::copy(&path, &database, &log).unwrap();
        assert_eq!(
            (verified(&copied).head, verified(&copied).whole()),
            (journal.head(), true)
        );
    }
    let said = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "snapshot::stranger", "--ignored", "--nocapture"])
        .env(STRANGER, &path)
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("database is locked"), "the locks were dropped: {said}");
    // A clean end empties the log: what is copied then has none of the old one beside it.
    let head = journal.head();
    journal.close().unwrap();
    runner_journal::copy(&path, &database, &log).unwrap();
    assert_eq!(log.metadata().unwrap().len(), 0);
    assert_eq!((verified(&copied).head, verified(&copied).whole()), (head, true));
    let absent = runner_journal::copy(&directory.path().join("absent.db"), &database, &log);
    assert!(matches!(absent, Err(ReadError::Absent)));
}

#[test]
fn what_is_no_journal_is_told_from_what_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j.db");
    let error = || Snapshot::take(&path).map(drop).unwrap_err();
    assert!(matches!(error(), ReadError::Absent));
    assert!(matches!(
        Snapshot::take(&directory.path().join("no/j.db")),
        Err(ReadError::Absent)
    ));
    fs::write(&path, b"").unwrap();
    assert!(matches!(error(), ReadError::Empty));
    fs::write(&path, b"text").unwrap();
    assert!(matches!(error(), ReadError::NotAJournal(Foreign::NotADatabase)));
    fs::remove_file(&path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE journal (a)")
        .unwrap();
    assert!(matches!(error(), ReadError::NotAJournal(Foreign::OtherApplication(0))));
    assert!(error().is_not_a_journal());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(error(), ReadError::NotAJournal(Foreign::NotAFile)));
}

#[test]
fn a_lost_end_is_seen_by_a_head_that_was_kept_elsewhere() {
    let (_directory, path) = place();
    let mut journal = open(&path);
    journal.append(1, &[boot()], &[]).unwrap();
    let early = journal.append(2, &[note("1")], &[]).unwrap();
    let log = path.with_file_name("journal.db-wal");
    let kept = fs::read(&log).unwrap();
    let late = journal.append(3, &[note("2")], &[]).unwrap();
    drop(journal);
    let with = |head| Snapshot::take(&path).unwrap().verify(Some(head)).unwrap();
    assert!(with(late.hash).whole());
    assert!(with(early.hash).whole(), "a head from a log line is further back");
    fs::write(&log, kept).unwrap();
    assert!(verified(&path).whole(), "the chain alone cannot see it");
    assert!(with(early.hash).whole());
    assert_eq!(
        with(late.hash).problems,
        [Problem::HeadMissing {
            expected: late.hash,
            last: early
        }]
    );
    assert_eq!(with(Hash::of(b"any")).problems.len(), 1);
}

/// Does to a closed journal what no constraint would let through.
fn tampered(sql: &str) -> (Summary, Vec<u64>) {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let conn = Connection::open(&path).unwrap();
    let triggers: Vec<(String, String)> = conn
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    conn.execute_batch("PRAGMA ignore_check_constraints=ON; PRAGMA foreign_keys=OFF;")
        .unwrap();
    for (name, _) in &triggers {
        conn.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    conn.execute_batch(sql).unwrap();
    for (_, sql) in &triggers {
        conn.execute_batch(sql).unwrap();
    }
    drop(conn);
    let snapshot = Snapshot::take(&path).unwrap();
    let mut good = Vec::new();
    let read = snapshot.read(|row| good.push(row.seq)).unwrap();
    let summary = snapshot.verify(None).unwrap();
    assert_eq!((read.rows, read.head), (summary.rows, summary.head));
    (summary, good)
}

fn all_but(missing: &[u64]) -> Vec<u64> {
    (1..=15).filter(|seq| !missing.contains(seq)).collect()
}

#[test]
fn a_changed_row_is_left_out_and_named_and_the_others_are_read() {
    let (summary, good) = tampered("UPDATE journal SET body = '{\"event\":\"failed\"}' WHERE seq = 13");
    assert_eq!(summary.problems, [Problem::Altered { from: 13, to: 13 }]);
    assert_eq!(good, all_but(&[13]));
    let (summary, good) = tampered("UPDATE journal SET at_ms = at_ms + 1 WHERE seq BETWEEN 3 AND 5");
    assert_eq!(summary.problems, [Problem::Altered { from: 3, to: 5 }]);
    assert_eq!(good, all_but(&[3, 4, 5]));
    let (summary, good) = tampered("UPDATE journal SET hash = zeroblob(32) WHERE seq = 4");
    assert_eq!(summary.problems, [Problem::Altered { from: 4, to: 4 }]);
    assert_eq!(good, all_but(&[4]), "row 5 names what row 4's hash was");
}

#[test]
fn a_missing_row_breaks_the_chain_there() {
    let (summary, good) = tampered("DELETE FROM journal WHERE seq = 4");
    assert_eq!(
        summary.problems[..2],
        [
            Problem::Missing { from: 4, to: 4 },
            Problem::Unlinked { from: 5, to: 15 }
        ]
    );
    assert_eq!(good, [1, 2, 3]);
    let (summary, good) = tampered("DELETE FROM journal WHERE seq < 3");
    assert_eq!(summary.problems[0], Problem::Missing { from: 1, to: 2 });
    assert!(good.is_empty());
}

#[test]
fn a_row_that_was_replaced_with_its_hash_is_not_called_good() {
    let (_directory, other) = place();
    let mut journal = open(&other);
    let rows: Vec<Vec<Entry>> = crate::life();
    for entries in &rows[..2] {
        journal.append(7, entries, &[]).unwrap();
    }
    drop(journal);
    // The same rows at another time: row 3 of that journal is whole, but not the one that row 4 was written after.
    let attach = format!(
        "ATTACH '{}' AS other; DELETE FROM main.journal WHERE seq <= 3;
         INSERT INTO main.journal SELECT * FROM other.journal; DETACH other;",
        other.display()
    );
    let (summary, good) = tampered(&attach);
    assert_eq!(
        summary.problems,
        [
            Problem::Replaced { seq: 3 },
            Problem::Unlinked { from: 4, to: 15 },
            // The blob came with row 4.
        ]
    );
    assert_eq!(good, [1, 2], "nothing contradicts those");
}

#[test]
fn a_transition_that_the_machine_does_not_have_is_named() {
    let (summary, good) = tampered("DELETE FROM edge WHERE dst = 'C'");
    assert_eq!(
        summary.problems[0].to_string(),
        "row 11 is not legal: the machine has no such transition"
    );
    assert_eq!(good, all_but(&[11]));
}

#[test]
fn a_blob_that_was_changed_or_removed_is_named() {
    let sha256 = Hash::of(b"a larger payload");
    let (summary, _) = tampered("UPDATE blob SET bytes = x'00'");
    assert_eq!(summary.problems, [Problem::BlobAltered { sha256 }]);
    let (summary, _) = tampered("DELETE FROM blob");
    assert_eq!(summary.problems, [Problem::BlobMissing { sha256, seq: 4 }]);
}

#[test]
fn another_name_of_the_machine_is_another_journal() {
    let (summary, good) = tampered("UPDATE meta SET machine = 'other'");
    assert_eq!(summary.problems, [Problem::Altered { from: 1, to: 15 }]);
    assert!(good.is_empty());
    let (summary, good) = tampered("DELETE FROM meta");
    assert!(matches!(summary.problems[..], [Problem::Machine { .. }]));
    assert!(good.is_empty());
}

#[test]
fn a_view_in_the_journals_place_is_not_read() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let script = "CREATE TABLE was AS SELECT * FROM journal; PRAGMA recursive_triggers=OFF;
         DROP TABLE journal; CREATE VIEW journal AS SELECT * FROM was;";
    Connection::open(&path).unwrap().execute_batch(script).unwrap();
    let snapshot = Snapshot::take(&path).unwrap();
    let summary = snapshot.read(|row| panic!("{row:?}")).unwrap();
    assert!(!summary.whole());
    assert!(!snapshot.verify(None).unwrap().whole());
}

/// A journal in which a view has the place of a table.
fn with_a_view(name: &str, view: &str) -> (tempfile::TempDir, PathBuf) {
    let (directory, path) = place();
    lived(&path).close().unwrap();
    let script = format!(
        "PRAGMA foreign_keys=OFF; CREATE TABLE was AS SELECT * FROM {name}; DROP TABLE {name}; \
         CREATE VIEW {name} AS {view};"
    );
    Connection::open(&path).unwrap().execute_batch(&script).unwrap();
    (directory, path)
}

#[test]
fn a_view_in_another_tables_place_is_named_and_not_read() {
    let named = |name: &str, is: fn(&Problem) -> bool| {
        let (_directory, path) = with_a_view(name, "SELECT * FROM was");
        let summary = Snapshot::take(&path).unwrap().verify(None).unwrap();
        assert!(summary.problems.iter().any(is), "{name}: {:?}", summary.problems);
    };
    named("meta", |problem| matches!(problem, Problem::Machine { .. }));
    named("edge", |problem| matches!(problem, Problem::Edges { .. }));
    named("blob", |problem| matches!(problem, Problem::Blobs { .. }));
    let (_directory, path) = with_a_view("blob", "SELECT * FROM was");
    let blob = Snapshot::take(&path).unwrap().blob(&Hash::of(b"a larger payload"));
    assert!(matches!(blob, Err(ReadError::BlobAltered(_))), "{blob:?}");
    let (_directory, path) = with_a_view("meta", "SELECT * FROM was");
    let opened = Journal::open(&path, &machine());
    let refused = matches!(opened, Err(OpenError::Corrupt(Problem::Machine { .. })));
    assert!(refused, "{:?}", opened.err());
}

/// Whoever reads it comes to an end, also where the schema says of the view that it is a table.
#[test]
fn a_view_without_end_in_a_tables_place_is_not_begun_with() {
    for (name, columns) in [
        ("meta", "1 AS one, 'a' AS machine FROM n WHERE x < 0"),
        ("edge", "x AS src, x AS dst FROM n"),
        ("blob", "x AS sha256, x AS bytes FROM n"),
        ("journal", "x AS seq FROM n"),
    ] {
        let endless = format!("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT {columns}");
        for lies in [false, true] {
            let (_directory, path) = with_a_view(name, &endless);
            if lies {
                let script = format!(
                    "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET type = 'table' WHERE name = '{name}';"
                );
                Connection::open(&path).unwrap().execute_batch(&script).unwrap();
            }
            let Ok(snapshot) = Snapshot::take(&path) else { continue };
            assert!(!snapshot.verify(None).unwrap().whole(), "{name}");
            snapshot.read_last(NonZeroU64::MIN, |_| {}).unwrap();
            snapshot.landmarks(|_| {}).unwrap();
            let _ = snapshot.blob(&Hash::of(b"no such payload"));
            drop(snapshot);
            assert!(Journal::open(&path, &machine()).is_err(), "{name}");
        }
    }
}

#[test]
fn blobs_that_cannot_be_read_take_no_row_with_them() {
    let (summary, good) = tampered("ALTER TABLE blob RENAME COLUMN sha256 TO name");
    assert_eq!(good, all_but(&[]));
    let blobs = |problem: &Problem| matches!(problem, Problem::Blobs { .. });
    assert!(summary.problems.iter().any(blobs), "{:?}", summary.problems);
}

/// SQLite does not look again at a page that it has once loaded.
#[test]
fn a_damaged_page_is_read_the_same_way_every_time() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let bytes = fs::read(&path).unwrap();
    let headers = (0..bytes.len()).filter(|at| at % 4096 < 16);
    let mut some_lost = false;
    for (at, pattern) in headers.flat_map(|at| [(at, 0x80), (at, 0x01), (at, 0xff)]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= pattern;
        fs::write(&path, damaged).unwrap();
        let Ok(snapshot) = Snapshot::take(&path) else { continue };
        let read = || snapshot.read(|_| {}).unwrap().rows;
        let (first, second) = (read(), read());
        let verified = snapshot.verify(None).unwrap().rows;
        assert_eq!(
            (first, second, verified),
            (first, first, first),
            "byte {at} ^ {pattern:#x}"
        );
        some_lost |= first < 15;
    }
    assert!(some_lost);
}

/// The numbers of the last rows, and what was found of them.
fn last(path: &std::path::Path, number: u64) -> (Vec<u64>, Summary) {
    let mut seqs = Vec::new();
    let snapshot = Snapshot::take(path).unwrap();
    let number = NonZeroU64::new(number).unwrap();
    let summary = snapshot.read_last(number, |row| seqs.push(row.seq)).unwrap();
    (seqs, summary)
}

#[test]
fn the_last_rows_are_held_against_each_other_and_how_many_were_not_looked_at_is_said() {
    let (_directory, path) = place();
    let journal = lived(&path);
    let head = journal.head();
    journal.close().unwrap();
    for (number, first) in [(1, 15), (4, 12), (14, 2), (15, 1), (u64::MAX, 1)] {
        let (seqs, summary) = last(&path, number);
        assert_eq!(seqs, (first..=15).collect::<Vec<_>>(), "{number}");
        assert_eq!((summary.rows, summary.unchecked), (16 - first, first - 1), "{number}");
        assert_eq!((summary.head, summary.whole()), (head, true), "{number}");
    }
    let theirs = Connection::open(&path).unwrap();
    theirs
        .execute_batch("DROP TRIGGER journal_rows_stay; UPDATE journal SET at_ms = 7 WHERE seq IN (3, 13)")
        .unwrap();
    drop(theirs);
    // The one that is looked at is seen, and the one before is not.
    let (seqs, summary) = last(&path, 4);
    assert_eq!(seqs, [12, 14, 15]);
    assert!(
        summary.problems.contains(&Problem::Altered { from: 13, to: 13 }),
        "{summary:?}"
    );
    assert!(
        !summary.problems.contains(&Problem::Altered { from: 3, to: 3 }),
        "{summary:?}"
    );
    // The same is said of those from a row on.
    let summary = Snapshot::take(&path).unwrap().read_from(14, |_| {}).unwrap();
    assert_eq!((summary.rows, summary.unchecked), (2, 13));
    // The row before the first is what the first has to follow.
    let (seqs, summary) = last(&path, 2);
    assert_eq!(seqs, [14, 15]);
    assert!(
        summary.problems.contains(&Problem::Altered { from: 13, to: 13 }),
        "{summary:?}"
    );
}

#[test]
fn landmarks_are_the_first_row_the_states_and_the_end_and_none_that_was_changed() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let landmarks = || {
        let mut seqs = Vec::new();
        let snapshot = Snapshot::take(&path).unwrap();
        snapshot.landmarks(|row| seqs.push(row.seq)).unwrap();
        seqs
    };
    assert_eq!(landmarks(), [1, 2, 5, 11, 13, 14, 15]);
    let theirs = Connection::open(&path).unwrap();
    theirs
        .execute_batch(
            "DROP TRIGGER journal_rows_stay; UPDATE journal SET at_ms = 7 WHERE seq = 5; DROP INDEX one_enter_per_state",
        )
        .unwrap();
    drop(theirs);
    assert_eq!(landmarks(), [1, 2, 11, 13, 14, 15]);
}
