use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use runner_journal::{APPLICATION_ID, Foreign, Journal, Machine, OpenError, Problem};
use rusqlite::Connection;

use crate::{boot, enter, lived, machine, open, place};

pub(crate) fn refusal(path: &Path) -> OpenError {
    Journal::open(path, &machine()).map(drop).unwrap_err()
}

/// Every file of a directory, with its bytes.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap_or_default(),
            )
        })
        .collect();
    files.sort();
    files
}

/// Refused, and nothing was changed or left behind.
pub(crate) fn refused_untouched(path: &Path) -> OpenError {
    let directory = path.parent().unwrap();
    let before = contents(directory);
    let error = refusal(path);
    let after = contents(directory);
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "{error}");
    assert!(after == before, "{error}: bytes changed");
    error
}

fn with_bytes(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

#[test]
fn a_new_journal_and_its_directory_are_the_owners_alone() {
    let (_directory, path) = place();
    drop(lived(&path));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let files = contents(path.parent().unwrap());
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["journal.db", "journal.db-wal", "journal.db.lock"]);
    for name in names {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
}

#[test]
fn an_empty_file_is_a_new_journal() {
    let (_directory, path) = with_bytes(b"");
    let opened = Journal::open(&path, &machine()).unwrap();
    assert!(opened.rows.is_empty());
    assert_eq!(opened.journal.path(), path);
}

#[test]
fn garbage_is_left_alone() {
    for garbage in [&b"x"[..], b"SQLite format 3\0", &[0; 4096], &[0xff; 5000]] {
        let (_directory, path) = with_bytes(garbage);
        let error = refused_untouched(&path);
        assert!(
            matches!(error, OpenError::NotAJournal(Foreign::NotADatabase)),
            "{error}"
        );
    }
    let (_directory, path) = place();
    fs::create_dir_all(&path).unwrap();
    let error = refused_untouched(&path);
    assert!(matches!(error, OpenError::NotAJournal(Foreign::NotAFile)), "{error}");
}

#[test]
fn a_journals_head_before_garbage_is_corrupt_and_left_alone() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let error = refused_untouched(&path);
    assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
}

#[test]
fn another_programs_database_is_left_alone() {
    let (_directory, path) = with_bytes(b"");
    let theirs = Connection::open(&path).unwrap();
    theirs
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a);")
        .unwrap();
    drop(theirs);
    let error = refused_untouched(&path);
    assert!(
        matches!(error, OpenError::NotAJournal(Foreign::OtherApplication(0))),
        "{error}"
    );
}

#[test]
fn a_newer_schema_is_left_alone_and_named() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE);")
        .unwrap();
    let error = refused_untouched(&path);
    assert!(matches!(error, OpenError::NewerSchema { found: 2 }), "{error}");
}

/// The pages are still in the log, so that whatever the checkpoint had written of them is written again.
#[test]
fn a_checkpoint_that_was_cut_short_after_any_page_loses_no_row() {
    const PAGE: usize = 4096;
    let (_directory, path) = place();
    let mut journal = lived(&path);
    // So many that the file grows.
    for _ in 0..8 {
        let body = format!("{{\"text\": \"{}\"}}", "x".repeat(PAGE));
        journal.append(9, &[crate::note(&body)], &[]).unwrap();
    }
    let head = journal.head();
    drop(journal);
    let log = path.with_file_name("journal.db-wal");
    let (before, frames) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    open(&path).close().unwrap();
    let after = fs::read(&path).unwrap();
    assert!(after.len() > before.len(), "the file grows");
    for pages in 0..=after.len() / PAGE {
        let (written, rest) = (&after[..pages * PAGE], before.get(pages * PAGE..).unwrap_or_default());
        fs::write(&path, [written, rest].concat()).unwrap();
        fs::write(&log, &frames).unwrap();
        let journal = Journal::open(&path, &machine()).map(|opened| opened.journal.head());
        assert_eq!(journal.unwrap(), head, "{pages} pages were written");
    }
}

#[test]
fn another_machines_journal_is_left_alone_and_named() {
    for clean in [true, false] {
        let (_directory, path) = place();
        let other = Machine::new("other", [("", "X")]);
        let mut journal = Journal::open(&path, &other).unwrap().journal;
        journal.append(1, &[boot(), enter("", "X")], &[]).unwrap();
        if clean {
            journal.close().unwrap();
        } else {
            drop(journal);
        }
        let error = refused_untouched(&path);
        assert_eq!(error.to_string(), r#"it belongs to the machine "other", not to "test""#);
    }
}

#[test]
fn a_machine_may_gain_edges_and_lose_none() {
    let (_directory, path) = place();
    let small = Machine::new("test", [("", "A")]);
    let mut journal = Journal::open(&path, &small).unwrap().journal;
    journal.append(1, &[boot(), enter("", "A")], &[]).unwrap();
    drop(journal);
    let mut journal = open(&path);
    journal.append(2, &[boot(), enter("A", "B")], &[]).unwrap();
    drop(journal);
    let error = Journal::open(&path, &small).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::UnknownEdge { .. }), "{error}");
}

#[test]
fn a_held_journal_is_refused_with_its_holder_and_left_alone() {
    let (_directory, path) = place();
    let mut journal = lived(&path);
    let error = refused_untouched(&path);
    assert_eq!(error.to_string(), format!("locked by process {}", std::process::id()));
    // Through another name of the same directory too.
    let link = path.parent().unwrap().with_file_name("link");
    std::os::unix::fs::symlink(path.parent().unwrap(), &link).unwrap();
    assert!(matches!(
        refusal(&link.join("journal.db")),
        OpenError::Locked { pid: Some(_) }
    ));
    // The refusals dropped none of SQLite's own locks either.
    let other = Connection::open(&path).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    journal.append(9, &[boot()], &[]).unwrap();
    drop(other);
    drop(journal);
    open(&path);
}

#[test]
fn a_log_without_its_database_is_not_thrown_away() {
    let (_directory, path) = place();
    drop(lived(&path));
    fs::remove_file(&path).unwrap();
    let error = refused_untouched(&path);
    assert!(
        matches!(error, OpenError::Corrupt(Problem::DatabaseGone { bytes }) if bytes > 0),
        "{error}"
    );
    assert!(!path.exists());
}

#[test]
fn a_crash_while_creating_leaves_nothing_that_is_in_the_way() {
    let (_directory, path) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    for leftover in ["journal.db.new", "journal.db.new-wal", "journal.db.new-journal"] {
        fs::write(path.with_file_name(leftover), b"half").unwrap();
    }
    drop(lived(&path));
    let files = contents(path.parent().unwrap());
    assert!(files.iter().all(|(name, _)| !name.contains(".new")), "{files:?}");
}

#[test]
fn a_changed_schema_is_refused_by_the_name_of_what_changed() {
    let changes = [
        ("DROP TRIGGER one_verdict", "trigger one_verdict is missing"),
        ("DROP INDEX one_enter_per_state", "index one_enter_per_state is missing"),
        ("CREATE TABLE more (a)", "table more does not belong here"),
        (
            "DROP TRIGGER one_verdict; CREATE TRIGGER one_verdict BEFORE INSERT ON journal BEGIN SELECT 1; END",
            "trigger one_verdict is not as it was made",
        ),
    ];
    for (sql, what) in changes {
        let (_directory, path) = place();
        lived(&path).close().unwrap();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let error = refused_untouched(&path);
        assert_eq!(error.to_string(), format!("corrupt: the schema was changed: {what}"));
    }
}

#[test]
fn a_damaged_journal_is_refused_by_row_and_left_alone() {
    let (_directory, path) = place();
    lived(&path).close().unwrap();
    let theirs = Connection::open(&path).unwrap();
    theirs
        .execute_batch(
            "PRAGMA recursive_triggers=OFF; CREATE TABLE keep AS SELECT sql FROM sqlite_schema WHERE name='journal_rows_stay';
             DROP TRIGGER journal_rows_stay; UPDATE journal SET body = '{\"event\":\"failed\"}' WHERE kind='verdict';",
        )
        .unwrap();
    let trigger: String = theirs.query_row("SELECT sql FROM keep", [], |row| row.get(0)).unwrap();
    theirs.execute_batch(&format!("DROP TABLE keep; {trigger}")).unwrap();
    drop(theirs);
    let error = refused_untouched(&path);
    assert_eq!(
        error.to_string(),
        "corrupt: row 13 is not what was written: columns and hash do not agree"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let (directory, _) = place();
    fs::write(directory.path().join("file"), b"").unwrap();
    let error = refusal(&directory.path().join("file/journal.db"));
    assert!(
        matches!(&error, OpenError::Directory { path, .. } if path.ends_with("file")),
        "{error}"
    );
}

#[test]
fn paths_that_a_uri_would_misread_hold_a_journal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a b?c#d%41ü").join("file:x.db?mode=memory");
    drop(lived(&path));
    assert_eq!(Journal::open(&path, &machine()).unwrap().rows.len(), 15);
}

#[test]
fn a_file_says_whose_it_is() {
    let (_directory, path) = place();
    drop(open(&path));
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes[68..72], APPLICATION_ID.to_be_bytes());
}
