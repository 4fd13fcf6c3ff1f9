//! Journals in a state that no runner leaves them in: what others did to the files, and what opening makes of it.

use std::fs;
use std::path::Path;

use runner_journal::{Hash, Journal, Machine, OpenError, Problem, ReadError, Snapshot};
use rusqlite::Connection;

use crate::opening::{refusal, refused_untouched};
use crate::{boot, enter, lived, open, place};

#[test]
fn another_machines_journal_keeps_even_a_mode_that_opening_would_change() {
    let (_directory, path) = place();
    let other = Machine::new("other", [("", "X")]);
    let mut journal = Journal::open(&path, &other).unwrap().journal;
    journal.append(1, &[boot(), enter("", "X")], &[]).unwrap();
    journal.close().unwrap();
    let theirs = Connection::open(&path).unwrap();
    theirs
        .pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .unwrap();
    drop(theirs);
    let error = refused_untouched(&path);
    assert!(matches!(error, OpenError::OtherMachine { .. }), "{error}");
}

#[test]
fn an_empty_log_that_was_there_is_left_there_by_a_refusal() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let theirs = Connection::open(&path).unwrap();
    theirs.execute_batch("DROP TRIGGER one_verdict").unwrap();
    drop(theirs);
    let refused = || {
        let error = refused_untouched(&path);
        assert!(matches!(error, OpenError::Corrupt(Problem::Schema { .. })), "{error}");
    };
    // Reading it makes an empty log, which goes again.
    refused();
    fs::write(path.with_file_name("journal.db-wal"), b"").unwrap();
    refused();
}

#[test]
fn opening_moves_a_dead_runners_rows_into_the_one_file() {
    let (_directory, path) = place();
    drop(lived(&path));
    let log = path.with_file_name("journal.db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    let journal = open(&path);
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    let head = journal.head();
    // Which writes nothing more; and then the log is lost.
    drop(journal);
    let alone = path.with_file_name("alone.db");
    fs::copy(&path, &alone).unwrap();
    let summary = Snapshot::take(&alone).unwrap().verify(None).unwrap();
    assert_eq!((summary.head, summary.problems), (head, vec![]));
}

#[test]
fn a_place_where_nothing_can_be_made_is_refused_by_its_directory() {
    // A file system that lets nobody make a file, whoever that is.
    let error = refusal(Path::new("/sys/journal.db"));
    assert!(
        matches!(&error, OpenError::Directory { path, .. } if path == Path::new("/sys")),
        "{error:?}"
    );
    // A lock that cannot be opened for another reason is named itself.
    let (_directory, path) = place();
    let lock = path.with_file_name("journal.db.lock");
    fs::create_dir_all(&lock).unwrap();
    let error = refusal(&path);
    assert!(
        matches!(&error, OpenError::Io { path, .. } if path.ends_with("journal.db.lock")),
        "{error:?}"
    );
}

#[test]
fn a_damaged_index_is_seen_although_every_row_can_be_read() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let theirs = Connection::open(&path).unwrap();
    let root: i64 = theirs
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'one_enter_per_state'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let size: i64 = theirs.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    drop(theirs);
    let page = usize::try_from((root - 1) * size).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // An index that says that it has no entries.
    bytes[page + 3..page + 5].fill(0);
    fs::write(&path, bytes).unwrap();
    let snapshot = Snapshot::take(&path).unwrap();
    assert!(snapshot.read(|_| {}).unwrap().whole());
    let summary = snapshot.verify(None).unwrap();
    assert_eq!(summary.rows, 15);
    assert!(
        matches!(summary.problems[0], Problem::Pages { .. }),
        "{:?}",
        summary.problems
    );
    let error = refused_untouched(&path);
    assert!(matches!(error, OpenError::Corrupt(Problem::Pages { .. })), "{error}");
}

#[test]
fn a_snapshot_gives_out_a_blob_and_never_a_changed_one() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let name = Hash::of(b"a larger payload");
    let blob = |name: &Hash| Snapshot::take(&path).unwrap().blob(name);
    assert_eq!(blob(&name).unwrap().as_deref(), Some(&b"a larger payload"[..]));
    assert_eq!(blob(&Hash::of(b"another")).unwrap(), None);
    let theirs = Connection::open(&path).unwrap();
    theirs
        .execute_batch("DROP TRIGGER blob_rows_stay; UPDATE blob SET bytes = x'00'")
        .unwrap();
    drop(theirs);
    assert!(matches!(blob(&name), Err(ReadError::BlobAltered(found)) if found == name));
}
