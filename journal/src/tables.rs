//! The tables: made in one piece, compared with what they should be, and read through the [`Walk`].

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ffi, params};

use crate::APPLICATION_ID;
use crate::columns::{Columns, Read};
use crate::entry::{Machine, Row};
use crate::form::Form;
use crate::hash::Hash;
use crate::problem::Problem;
use crate::schema::{self, Schema};
use crate::walk::{Edges, Next, Walk};

/// How a database is opened that is there already; one thread has it.
pub(crate) const THAT_IS_THERE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Makes a whole journal without rows, in a file that nobody has by its name yet.
///
/// The caller syncs the file and then gives it its name, so a crash leaves nothing or the whole.
pub(crate) fn create(path: &Path, schema: &Schema, machine: &Machine) -> rusqlite::Result<()> {
    let mut conn = Connection::open_with_flags(path, THAT_IS_THERE)?;
    // The caller's one sync of the whole file is what counts; until then nobody knows the file.
    conn.pragma_update(None, "synchronous", "OFF")?;
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    to_its_end(&conn, "PRAGMA journal_mode = WAL")?;
    let tx = conn.transaction()?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", schema.version)?;
    schema.make_tables(&tx)?;
    tx.execute("INSERT INTO meta (one, machine) VALUES (1, ?1)", [&machine.name])?;
    for (src, dst) in edges_of(machine).iter() {
        add_edge(&tx, src, dst)?;
    }
    tx.commit()?;
    // The last connection's end would do this too, and say nothing where it fails.
    crate::journal::checkpoint(&conn)?;
    conn.close().map_err(|(_, error)| error)
}

/// A statement that answers a row writes at its end: `pragma_update` stops at the row, and what the end says is lost.
fn to_its_end(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(sql)?;
    let mut answers = statement.query([])?;
    while answers.next()?.is_some() {}
    Ok(())
}

pub(crate) fn add_edge(conn: &Connection, src: &str, dst: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO edge (src, dst) VALUES (?1, ?2)")?
        .execute([src, dst])
        .map(drop)
}

/// The edges of a machine, each once.
pub(crate) fn edges_of(machine: &Machine) -> Edges {
    let mut edges = Edges::default();
    for (src, dst) in &machine.edges {
        edges.insert(src.clone(), dst.clone());
    }
    edges
}

/// The machine that the journal belongs to.
pub(crate) fn machine(conn: &Connection) -> rusqlite::Result<String> {
    no_view(conn, "meta")?;
    conn.query_row("SELECT machine FROM meta", [], |row| row.get(0))
}

/// The machine's transitions as the journal has them.
pub(crate) fn edges(conn: &Connection) -> rusqlite::Result<Edges> {
    no_view(conn, "edge")?;
    let mut edges = Edges::default();
    let mut statement = conn.prepare("SELECT src, dst FROM edge")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        edges.insert(row.get(0)?, row.get(1)?);
    }
    Ok(edges)
}

/// Whether an error says that the file is damaged, and not that the machine that reads it is.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    // A page that ends early is no failure of the disk: the file was cut.
    let cut = |error: &ffi::Error| error.extended_code == ffi::SQLITE_IOERR_SHORT_READ;
    if error.sqlite_error().is_some_and(cut) {
        return true;
    }
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
        )
    )
}

/// Which blobs a read of the rows looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cited {
    /// Each that came with a row has to be there.
    Looked,
    /// None.
    Trusted,
}

/// Reads every row through the walk and calls back with the good ones. What is damaged is in `walk.problems`.
pub(crate) fn read_rows(
    conn: &Connection,
    walk: &mut Walk,
    cited: Cited,
    each: &mut impl FnMut(Row),
) -> rusqlite::Result<()> {
    let result = stream_rows(conn, walk, cited, each);
    match result {
        Err(error) if is_damage(&error) => {
            let from = walk.next_seq();
            let cause = error.to_string();
            walk.problems.push(Problem::Unreadable { from, cause });
            Ok(())
        }
        result => result,
    }
}

fn stream_rows(conn: &Connection, walk: &mut Walk, cited: Cited, each: &mut impl FnMut(Row)) -> rusqlite::Result<()> {
    no_view(conn, "journal")?;
    let mut cited = cited;
    let mut statement = conn.prepare(&walk.select())?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let read = walk.read(row)?;
        if walk.step(&read, each) == Next::Stop {
            break;
        }
        if let (Read::Columns { columns, .. }, Cited::Looked) = (&read, cited) {
            let looked = look_for(conn, columns.blobs.unwrap_or_default(), walk);
            match looked {
                // The rows can be read all the same.
                Err(error) if is_damage(&error) => {
                    let cause = error.to_string();
                    walk.problems.push(Problem::Blobs { cause });
                    cited = Cited::Trusted;
                }
                looked => looked?,
            }
        }
    }
    Ok(())
}

/// The last row's number; 0 where there is none.
pub(crate) fn last_seq(conn: &Connection) -> rusqlite::Result<u64> {
    no_view(conn, "journal")?;
    let last: i64 = conn.query_row("SELECT coalesce(max(seq), 0) FROM journal", [], |row| row.get(0))?;
    Ok(u64::try_from(last).unwrap_or(0))
}

/// Whether the first row has the hash that it would have in this form, or there is no row.
pub(crate) fn first_row_is_hashed_so(conn: &Connection, form: &Form, machine: &str) -> rusqlite::Result<bool> {
    no_view(conn, "journal")?;
    let mut statement = conn.prepare(&form.select_from(1))?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else {
        return Ok(true);
    };
    Ok(match Columns::read(row, form, machine, &mut Vec::new())? {
        Read::Columns { hash, right, .. } => hash == right,
        Read::Mistyped(..) => false,
    })
}

/// The landmarks, each of which is held against its own hash.
pub(crate) fn landmarks(
    conn: &Connection,
    form: &Form,
    machine: &str,
    mut each: impl FnMut(Row),
) -> rusqlite::Result<()> {
    no_view(conn, "journal")?;
    let mut statement = conn.prepare(&form.select_landmarks())?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Read::Columns { columns, hash, right } = Columns::read(row, form, machine, &mut Vec::new())?
            && hash == right
            && let Ok(row) = columns.row(hash)
        {
            each(row);
        }
    }
    Ok(())
}

/// Looks for the blobs that came with the row that the walk is at.
fn look_for(conn: &Connection, names: &[u8], walk: &mut Walk) -> rusqlite::Result<()> {
    for name in names.chunks_exact(32) {
        no_view(conn, "blob")?;
        let there = conn
            .prepare_cached("SELECT 1 FROM blob WHERE sha256 = ?1")?
            .exists([name])?;
        if let (false, Some(sha256)) = (there, Hash::from_slice(name)) {
            let seq = walk.next_seq() - 1;
            walk.problems.push(Problem::BlobMissing { sha256, seq });
        }
    }
    Ok(())
}

/// A blob's bytes, whatever they are.
pub(crate) fn blob(conn: &Connection, sha256: &Hash) -> rusqlite::Result<Option<Vec<u8>>> {
    conn.prepare_cached("SELECT bytes FROM blob WHERE sha256 = ?1")?
        .query_row(params![sha256.as_bytes()], |row| row.get(0))
        .optional()
}

/// Holds every blob against its name.
pub(crate) fn check_blobs(conn: &Connection, problem: &mut impl FnMut(Problem)) -> rusqlite::Result<()> {
    no_view(conn, "blob")?;
    let mut statement = conn.prepare("SELECT sha256, bytes FROM blob NOT INDEXED ORDER BY rowid")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_blob().ok().and_then(Hash::from_slice);
        let bytes = row.get_ref(1)?.as_blob().ok();
        match (name, bytes) {
            (Some(name), Some(bytes)) if Hash::of(bytes) == name => {}
            (name, _) => problem(Problem::BlobAltered {
                sha256: name.unwrap_or(Hash::ZERO),
            }),
        }
    }
    Ok(())
}

/// Compares tables, indexes and triggers with what the journal's version makes, and reports what differs.
pub(crate) fn check_schema(
    conn: &Connection,
    schema: &Schema,
    problem: &mut impl FnMut(Problem),
) -> rusqlite::Result<()> {
    let mut wanted = schema.objects()?.clone();
    for (name, object) in schema::objects(conn)? {
        match wanted.remove(&name) {
            Some(same) if same == object => {}
            Some(_) => problem(changed(&object, &name, "is not as it was made")),
            None => problem(changed(&object, &name, "does not belong here")),
        }
    }
    for (name, object) in wanted {
        problem(changed(&object, &name, "is missing"));
    }
    Ok(())
}

fn changed((kind, _): &(String, String), name: &str, how: &str) -> Problem {
    Problem::Schema {
        object: format!("{kind} {name} {how}"),
    }
}

/// Fails, as of damage, where something of this name is no table: a view in somebody's file could say anything, and take
/// for ever. SQLite is asked for what it takes it for, since the schema's own words may say something else.
pub(crate) fn no_view(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    let found = conn
        .prepare_cached("SELECT type FROM pragma_table_list(?1) WHERE schema = 'main'")?
        .query_row([name], |row| row.get::<_, String>(0))
        .optional()?;
    match found {
        Some(kind) if kind != "table" => {
            let corrupt = ffi::Error::new(ffi::SQLITE_CORRUPT);
            let cause = format!("{name} is a {kind}, and no table");
            Err(rusqlite::Error::SqliteFailure(corrupt, Some(cause)))
        }
        Some(_) | None => Ok(()),
    }
}

/// SQLite's own look at the pages.
pub(crate) fn check_pages(conn: &Connection, problem: &mut impl FnMut(Problem)) -> rusqlite::Result<()> {
    let mut statement = conn.prepare("PRAGMA quick_check(20)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let cause: String = row.get(0)?;
        if cause != "ok" {
            problem(Problem::Pages { cause });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::V1;

    #[test]
    fn a_disk_that_fails_is_not_called_damage() {
        let damage = |code| is_damage(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_FULL,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_PERM,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_LOCKED,
        ] {
            assert!(!damage(code), "{code}");
        }
        // SQLITE_ERROR: a table or a column is not there.
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_ERROR] {
            assert!(damage(code), "{code}");
        }
        assert!(damage_of_a_type(), "a column of a wrong type");
    }

    fn damage_of_a_type() -> bool {
        let conn = Connection::open_in_memory().unwrap();
        let number = conn.query_row("SELECT x'00'", [], |row| row.get::<_, i64>(0));
        is_damage(&number.unwrap_err())
    }

    #[test]
    fn rows_that_cannot_be_read_now_are_not_called_damaged() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("j.db");
        let other = Connection::open(&path).unwrap();
        V1.make_tables(&other).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let conn = Connection::open(&path).unwrap();
        conn.busy_timeout(std::time::Duration::ZERO).unwrap();
        let mut walk = Walk::new(&V1, "test".to_owned(), Edges::default());
        let read = read_rows(&conn, &mut walk, Cited::Looked, &mut |row| panic!("{row:?}"));
        assert_eq!(read.unwrap_err().sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
        assert_eq!(walk.problems.into_list(), []);
        let blob = crate::journal::right_blob(&conn, &Hash::ZERO);
        assert!(matches!(blob, Err(crate::error::ReadError::Sqlite(_))), "{blob:?}");
        other.execute_batch("ROLLBACK; DROP TABLE blob").unwrap();
        let blob = crate::journal::right_blob(&conn, &Hash::ZERO);
        assert!(matches!(blob, Err(crate::error::ReadError::BlobAltered(_))), "{blob:?}");
    }

    #[test]
    fn a_statement_that_answers_a_row_is_run_to_its_end_and_an_error_there_is_heard() {
        let here = tempfile::tempdir().unwrap();
        let conn = Connection::open(here.path().join("j.db")).unwrap();
        to_its_end(&conn, "PRAGMA journal_mode = WAL").unwrap();
        let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        // The second row has no absolute value.
        let late = "SELECT abs(a) FROM (SELECT 1 AS a UNION ALL SELECT -9223372036854775808)";
        assert!(to_its_end(&conn, late).is_err());
    }

    #[test]
    fn a_blob_that_cannot_be_looked_for_is_a_problem_where_it_is_damaged_and_else_ends_the_read() {
        let shared = "file:looked-for?mode=memory&cache=shared";
        let [reader, writer] = [(), ()].map(|()| Connection::open(shared).unwrap());
        let newest = schema::ALL.newest();
        let columns: Vec<&str> = newest.column_names().collect();
        writer
            .execute_batch(&format!(
                "CREATE TABLE journal ({}, prev, hash);
                 INSERT INTO journal (seq, boot, at_ms, kind, blobs, prev, hash)
                 VALUES (1, 1, 0, 'boot', zeroblob(32), zeroblob(32), zeroblob(32))",
                columns.join(", ")
            ))
            .unwrap();
        let read = || {
            let mut walk = Walk::new(newest, "test".to_owned(), Edges::default());
            let read = read_rows(&reader, &mut walk, Cited::Looked, &mut |_| {});
            read.map(|()| walk.problems.into_list())
        };
        let problems = read().unwrap();
        assert!(
            problems
                .iter()
                .any(|problem| matches!(problem, Problem::Blobs { cause } if cause.contains("no such table"))),
            "{problems:?}"
        );
        writer
            .execute_batch(
                "CREATE TABLE blob (sha256, bytes); BEGIN; INSERT INTO blob VALUES (zeroblob(32), zeroblob(1))",
            )
            .unwrap();
        let error = read().unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseLocked));
        writer.execute_batch("COMMIT").unwrap();
        let problems = read().unwrap();
        assert!(
            !problems.iter().any(|problem| matches!(problem, Problem::Blobs { .. })),
            "{problems:?}"
        );
    }
}
