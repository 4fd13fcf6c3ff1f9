//! Opening: refuse what is not ours before touching it, verify everything, and only then write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::entry::{Machine, Row};
use crate::error::{Foreign, OpenError};
use crate::journal::{Journal, Opened};
use crate::lock::{Lock, NoLock};
use crate::place::{self, FileHead, Place};
use crate::problem::Problem;
use crate::schema::{Known, Schema, Unknown};
use crate::tables::{self, Cited};
use crate::walk::{Edges, Walk};

/// A setting of the connection, and what SQLite answers when it took it. A misspelt one is silently ignored.
struct Setting {
    pragma: &'static str,
    value: &'static str,
    answer: &'static str,
}

const fn setting(pragma: &'static str, value: &'static str, answer: &'static str) -> Setting {
    Setting { pragma, value, answer }
}

/// In this order: exclusive locking before the first access keeps the WAL's index in memory, without a -shm file.
const SETTINGS: [Setting; 9] = [
    setting("locking_mode", "EXCLUSIVE", "exclusive"),
    setting("journal_mode", "WAL", "wal"),
    setting("synchronous", "FULL", "2"),
    setting("foreign_keys", "ON", "1"),
    setting("recursive_triggers", "ON", "1"),
    setting("trusted_schema", "OFF", "0"),
    setting("cell_size_check", "ON", "1"),
    setting("wal_autocheckpoint", "0", "0"),
    setting("busy_timeout", "0", "0"),
];

pub(crate) fn open(path: &Path, machine: &Machine, known: Known) -> Result<Opened, OpenError> {
    let wanted = place::parent(path);
    if let Some(name) = place::network_file_system(path).map_err(in_directory(wanted))? {
        return Err(OpenError::Network(name));
    }
    place::make_directory(wanted).map_err(in_directory(wanted))?;
    let place = Place::of(path).map_err(of_file(path))?;
    let lock = Lock::take(&place.lock).map_err(|refused| match refused {
        NoLock::Held(pid) => OpenError::Locked { pid },
        NoLock::Io(source) if is_unwritable(&source) => in_directory(&place.directory)(source),
        NoLock::Io(source) => of_file(&place.lock)(source),
    })?;
    match open_locked(path, &place, machine, known) {
        Ok((conn, held, walk, rows)) => Ok(Opened {
            journal: Journal::new(path.to_owned(), conn, held, lock, &walk, rows.last()),
            rows,
        }),
        Err(error) => {
            lock.withdraw().map_err(of_file(&place.lock))?;
            Err(error)
        }
    }
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

type Verified = (Connection, std::sync::Arc<File>, Walk, Vec<Row>);

fn open_locked(path: &Path, place: &Place, machine: &Machine, known: Known) -> Result<Verified, OpenError> {
    let file = place::open_unknown(&place.database).map_err(of_file(path))?;
    let head = match &file {
        Some(file) => FileHead::of(file).map_err(of_file(path))?,
        None => FileHead::Absent,
    };
    drop(file);
    let schema = match head {
        FileHead::Foreign(foreign) => return Err(OpenError::NotAJournal(foreign)),
        FileHead::Journal(found) => match known.find(found) {
            Ok(schema) => {
                refuse_another_machine(place, machine)?;
                schema
            }
            Err(Unknown::Newer) => return Err(OpenError::NewerSchema { found }),
            Err(Unknown::NeverWritten) => return Err(OpenError::Corrupt(Problem::never_written(found))),
        },
        FileHead::Absent | FileHead::Empty => {
            create(place, known.newest(), machine)?;
            known.newest()
        }
    };
    connect(place, schema, machine)
}

/// Looks at the machine in the database file alone: `immutable` reads without a lock, a log or any other file,
/// and what a journal begins with is in the file from its first moment.
///
/// Where a checkpoint was cut short, the file alone is no database: its first page may already speak of pages that are
/// in the log alone. So damage is a verdict only where there is no log; [`verify`] looks at the two together.
fn refuse_another_machine(place: &Place, machine: &Machine) -> Result<(), OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        .union(OpenFlags::SQLITE_OPEN_URI)
        .union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let conn = Connection::open_with_flags(immutable_uri(&place.database), flags).map_err(sqlite)?;
    let found = match tables::machine(&conn) {
        Err(error) if tables::is_damage(&error) && log_bytes(place) > 0 => return Ok(()),
        found => found.map_err(|error| damaged(error, |cause| Problem::Machine { cause }))?,
    };
    if found == machine.name {
        Ok(())
    } else {
        Err(OpenError::OtherMachine {
            found,
            expected: machine.name.clone(),
        })
    }
}

fn log_bytes(place: &Place) -> u64 {
    fs::metadata(&place.log).map_or(0, |meta| meta.len())
}

fn immutable_uri(path: &Path) -> PathBuf {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(uri, "%{byte:02x}");
        }
    }
    uri.push_str("?immutable=1");
    PathBuf::from(uri)
}

/// Makes a new journal under another name, syncs it, and gives it its own: a crash leaves nothing or the whole.
/// [`connect`] syncs the name.
fn create(place: &Place, schema: &Schema, machine: &Machine) -> Result<(), OpenError> {
    // Rows in a log whose database is gone: whoever took it away has to take the log away as well.
    let bytes = log_bytes(place);
    if bytes > 0 {
        return Err(OpenError::Corrupt(Problem::DatabaseGone { bytes }));
    }
    let made = || -> io::Result<Result<(), rusqlite::Error>> {
        for suffix in ["", "-wal", "-journal", "-shm"] {
            let mut leftover = place.fresh.clone().into_os_string();
            leftover.push(suffix);
            remove_if_there(Path::new(&leftover))?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place.fresh)?;
        drop(file);
        if let Err(error) = tables::create(&place.fresh, schema, machine) {
            return Ok(Err(error));
        }
        File::open(&place.fresh)?.sync_all()?;
        remove_if_there(&place.log)?;
        fs::rename(&place.fresh, &place.database)?;
        Ok(Ok(()))
    };
    made().map_err(in_directory(&place.directory))?.map_err(sqlite)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The live connection: settings, verification, checkpoint, authorizer, in this order.
fn connect(place: &Place, schema: &'static Schema, machine: &Machine) -> Result<Verified, OpenError> {
    let file = place::open_unknown(&place.database).map_err(of_file(&place.database))?;
    let file = file.ok_or_else(|| of_file(&place.database)(ErrorKind::NotFound.into()))?;
    let held = place::hold(file).map_err(of_file(&place.database))?;
    let log_was_there = place.log.exists();
    let verified = (|| {
        let mut conn = prepare(&place.database)?;
        let (walk, rows) = verify(&conn, schema, machine)?;
        settle(&mut conn, machine)?;
        // The database's name and the log's, whichever start made them. SQLite would sync the log's by itself with the
        // first row, and go on where that fails.
        place::sync_names(&place.directory).map_err(in_directory(&place.directory))?;
        Ok((conn, walk, rows))
    })();
    match verified {
        Ok((conn, walk, rows)) => Ok((conn, held, walk, rows)),
        Err(error) => {
            // A journal that is refused is left as it was: without the empty log that reading it made.
            if !log_was_there && fs::metadata(&place.log).is_ok_and(|meta| meta.len() == 0) {
                remove_if_there(&place.log).map_err(of_file(&place.log))?;
            }
            Err(error)
        }
    }
}

fn prepare(database: &Path) -> Result<Connection, OpenError> {
    let flags = tables::THAT_IS_THERE.union(OpenFlags::SQLITE_OPEN_NOFOLLOW);
    let conn = Connection::open_with_flags(database, flags).map_err(sqlite)?;
    // A connection that is merely dropped writes nothing: not after a refusal, and not after a failed sync.
    for (config, name) in [
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, "no checkpoint on close"),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, "defensive"),
    ] {
        if !conn.set_db_config(config, true).map_err(sqlite)? {
            return Err(OpenError::Setting {
                pragma: name,
                wanted: "on",
                found: "off".to_owned(),
            });
        }
    }
    for setting in &SETTINGS {
        apply(&conn, setting)?;
    }
    Ok(conn)
}

fn apply(conn: &Connection, setting: &Setting) -> Result<(), OpenError> {
    let Setting { pragma, value, answer } = setting;
    conn.pragma_update(None, pragma, value).map_err(in_file)?;
    let found = conn.pragma_query_value(None, pragma, |row| {
        Ok(match row.get_ref(0)? {
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => String::new(),
        })
    });
    let found = match found {
        Err(rusqlite::Error::QueryReturnedNoRows) => String::new(),
        found => found.map_err(in_file)?,
    };
    if found == *answer {
        Ok(())
    } else {
        Err(OpenError::Setting {
            pragma,
            wanted: answer,
            found,
        })
    }
}

/// Reads the whole journal and refuses it at the first thing that is wrong.
fn verify(conn: &Connection, schema: &'static Schema, machine: &Machine) -> Result<(Walk, Vec<Row>), OpenError> {
    let mut problems = Vec::new();
    let mut problem = |found| problems.push(found);
    tables::check_schema(conn, schema, &mut problem).map_err(in_file)?;
    tables::check_pages(conn, &mut problem).map_err(in_file)?;
    refuse(problems)?;
    let name = tables::machine(conn).map_err(|error| damaged(error, |cause| Problem::Machine { cause }))?;
    if name != machine.name {
        return Err(OpenError::OtherMachine {
            found: name,
            expected: machine.name.clone(),
        });
    }
    let edges = stored_edges(conn)?;
    let known = tables::edges_of(machine);
    if let Some((src, dst)) = edges.iter().find(|(src, dst)| !known.contains(src, dst)) {
        return Err(OpenError::UnknownEdge {
            src: src.to_owned(),
            dst: dst.to_owned(),
        });
    }
    let mut walk = Walk::new(schema, name, edges);
    let mut rows = Vec::new();
    tables::read_rows(conn, &mut walk, Cited::Looked, &mut |row| rows.push(row)).map_err(sqlite)?;
    walk.end(&mut |row| rows.push(row));
    refuse(std::mem::take(&mut walk.problems).into_list())?;
    Ok((walk, rows))
}

fn stored_edges(conn: &Connection) -> Result<Edges, OpenError> {
    tables::edges(conn).map_err(|error| damaged(error, |cause| Problem::Edges { cause }))
}

fn refuse(problems: Vec<Problem>) -> Result<(), OpenError> {
    problems
        .into_iter()
        .next()
        .map_or(Ok(()), |problem| Err(OpenError::Corrupt(problem)))
}

/// What is verified is made durable before anybody acts on it; then the connection can only append.
fn settle(conn: &mut Connection, machine: &Machine) -> Result<(), OpenError> {
    let stored = stored_edges(conn)?;
    let tx = conn.transaction().map_err(sqlite)?;
    for (src, dst) in tables::edges_of(machine).iter() {
        if !stored.contains(src, dst) {
            tables::add_edge(&tx, src, dst).map_err(sqlite)?;
        }
    }
    tx.commit().map_err(sqlite)?;
    crate::journal::checkpoint(conn).map_err(sqlite)?;
    crate::authorizer::restrict(conn).map_err(sqlite)
}

fn in_directory(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Directory {
        path: path.to_owned(),
        source,
    }
}

fn of_file(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

fn sqlite(error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        // Not a journal's holder, which would have the lock beside it: some other program reads the file.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { pid: None },
        Some(ErrorCode::NotADatabase) => OpenError::NotAJournal(Foreign::NotADatabase),
        _ => OpenError::Sqlite(error),
    }
}

fn damaged(error: rusqlite::Error, problem: impl FnOnce(String) -> Problem) -> OpenError {
    if tables::is_damage(&error) {
        OpenError::Corrupt(problem(error.to_string()))
    } else {
        sqlite(error)
    }
}

fn in_file(error: rusqlite::Error) -> OpenError {
    damaged(error, |cause| Problem::Pages { cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_did_not_take_is_refused_by_name() {
        let conn = Connection::open_in_memory().unwrap();
        // What one well-known engine ships: WAL is no level of `synchronous`.
        let error = apply(&conn, &setting("synchronous", "NORMAL", "2")).unwrap_err();
        assert_eq!(error.to_string(), "SQLite answers \"1\" for synchronous, not \"2\"");
        let error = apply(&conn, &setting("journal_mode", "WAL", "wal")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "SQLite answers \"memory\" for journal_mode, not \"wal\""
        );
        let error = apply(&conn, &setting("recursive_trigers", "ON", "1")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "SQLite answers \"\" for recursive_trigers, not \"1\""
        );
    }

    #[test]
    fn a_damaged_machine_is_a_verdict_where_there_is_no_log_and_is_left_to_the_two_together_where_there_is_one() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("j.db");
        let machine = Machine {
            name: "test".to_owned(),
            edges: Vec::new(),
        };
        Journal::open(&path, &machine).unwrap().journal.close().unwrap();
        let place = Place::of(&path).unwrap();
        assert!(refuse_another_machine(&place, &machine).is_ok());
        // The first page says which pages the tables are in, and these are none.
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096..].fill(0);
        fs::write(&path, bytes).unwrap();
        assert_eq!(log_bytes(&place), 0);
        let refused = refuse_another_machine(&place, &machine);
        assert!(
            matches!(refused, Err(OpenError::Corrupt(Problem::Machine { .. }))),
            "{refused:?}"
        );
        fs::write(&place.log, b"frames").unwrap();
        assert!(refuse_another_machine(&place, &machine).is_ok());
    }

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
    }

    #[test]
    fn what_sqlite_says_has_the_journals_own_words() {
        use rusqlite::ffi;
        for busy in [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED] {
            assert!(matches!(sqlite(failure(busy)), OpenError::Locked { pid: None }));
        }
        assert!(matches!(
            sqlite(failure(ffi::SQLITE_NOTADB)),
            OpenError::NotAJournal(Foreign::NotADatabase)
        ));
        assert!(matches!(sqlite(failure(ffi::SQLITE_IOERR)), OpenError::Sqlite(_)));
        assert!(matches!(in_file(failure(ffi::SQLITE_IOERR)), OpenError::Sqlite(_)));
        assert!(matches!(
            in_file(failure(ffi::SQLITE_CORRUPT)),
            OpenError::Corrupt(Problem::Pages { .. })
        ));
    }

    #[test]
    fn a_directory_that_refuses_is_told_from_a_disk_that_fails() {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
            assert!(is_unwritable(&kind.into()));
        }
        assert!(!is_unwritable(&ErrorKind::StorageFull.into()));
    }

    #[test]
    fn a_leftover_that_cannot_be_removed_is_an_error() {
        let here = tempfile::tempdir().unwrap();
        remove_if_there(&here.path().join("absent")).unwrap();
        assert!(remove_if_there(here.path()).is_err());
        assert!(here.path().exists());
    }

    #[test]
    fn any_path_can_be_a_uri() {
        let uri = immutable_uri(Path::new("/a b/c?d#e%f/ü.db"));
        assert_eq!(uri, Path::new("file:/a%20b/c%3fd%23e%25f/%c3%bc.db?immutable=1"));
    }
}
