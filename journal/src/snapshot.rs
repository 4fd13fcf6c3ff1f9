//! Reading a journal of the dead, of the living, or on read-only media: from a private copy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tempfile::TempDir;

use crate::entry::Row;
use crate::error::ReadError;
use crate::form::{Form, Origin};
use crate::hash::{Hash, Head};
use crate::journal::right_blob;
use crate::place::{self, FileHead, Place};
use crate::problem::{Problem, Problems};
use crate::schema::{self, Known, Schema, Unknown};
use crate::tables::{self, Cited};
use crate::walk::{Edges, Walk};

/// A private copy of a journal: the database first, then its write-ahead log, in a temporary directory.
///
/// A database whose log has rows can be read neither without writing beside it nor by pretending that it is
/// immutable (which hides those rows); a copy can. Of a journal that is being written it is a clean prefix.
#[derive(Debug)]
pub struct Snapshot {
    conn: Connection,
    machine: Result<String, Problem>,
    /// The newest version that is known and has these columns.
    schema: &'static Schema,
    /// The version that the file says it is of.
    version: u32,
    origin: Origin,
    schema_problems: Vec<Problem>,
    // Goes after the connection that is open inside it.
    _directory: TempDir,
}

/// What a journal was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many rows verify.
    pub rows: u64,
    /// How many rows there are before them that were not looked at, because only the last ones were asked for.
    pub unchecked: u64,
    /// The last row that verifies.
    pub head: Head,
    /// What is wrong, in the order found.
    pub problems: Vec<Problem>,
}

impl Summary {
    /// Whether nothing is wrong. A lost end can be seen only against a head that was kept elsewhere.
    pub fn whole(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Snapshot {
    /// Copies the journal at `path`.
    ///
    /// Where this process holds the journal itself, the copy is read through the holder's descriptor: SQLite's
    /// locks stay.
    pub fn take(path: &Path) -> Result<Self, ReadError> {
        Self::take_knowing(path, schema::ALL)
    }

    pub(crate) fn take_knowing(path: &Path, known: Known) -> Result<Self, ReadError> {
        let place = place_of(path)?;
        let directory = tempfile::Builder::new()
            .prefix("journal-")
            .tempdir()
            .map_err(of_file(&std::env::temp_dir()))?;
        let copy = directory.path().join("journal.db");
        let head = copy_steady(&place, |part| {
            let to = match part {
                Part::Database => copy.clone(),
                Part::Log => directory.path().join("journal.db-wal"),
            };
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(to)
        })?;
        let mut problems = Problems::default();
        let version = match head {
            FileHead::Absent => return Err(ReadError::Absent),
            FileHead::Empty => return Err(ReadError::Empty),
            FileHead::Foreign(foreign) => return Err(ReadError::NotAJournal(foreign)),
            FileHead::Journal(version) => version,
        };
        let (schema, origin) = match known.find(version) {
            Ok(schema) => (schema, Origin::Known),
            Err(Unknown::Newer) => (known.newest(), Origin::Newer),
            // The number was damaged; the rows say by their hashes whether they are of the newest.
            Err(Unknown::NeverWritten) => {
                problems.push(Problem::never_written(version));
                (known.newest(), Origin::Known)
            }
        };
        let conn = connect(&copy).map_err(ReadError::Sqlite)?;
        let machine = read_or_damaged(tables::machine(&conn), |cause| Problem::Machine { cause })?;
        match origin {
            Origin::Known => {
                let same = tables::check_schema(&conn, schema, &mut |p| problems.push(p));
                noted(same, &mut problems, |cause| Problem::Pages { cause })?;
            }
            Origin::Newer => {
                // What has other tables, or hashes rows otherwise, is nothing that this program can say anything of.
                let unknown = || ReadError::NewerSchema { found: version };
                let form = read_or_damaged(Form::newer(&conn, version, schema), |cause| Problem::Pages { cause })?;
                let form = form.ok().flatten().ok_or_else(unknown)?;
                let machine = machine.as_deref().map_err(|_| unknown())?;
                if !tables::first_row_is_hashed_so(&conn, &form, machine).map_err(|_| unknown())? {
                    return Err(unknown());
                }
            }
        }
        Ok(Self {
            conn,
            machine,
            schema,
            version,
            origin,
            schema_problems: problems.into_list(),
            _directory: directory,
        })
    }

    /// The machine that the journal belongs to; none where that cannot be read (and no row verifies).
    pub fn machine(&self) -> Option<&str> {
        self.machine.as_deref().ok()
    }

    /// The version of the journal's schema.
    pub fn schema(&self) -> u32 {
        self.version
    }

    /// Whether it is of a version that this program does not know. Then rows of kinds that it knows are read, as far as it
    /// knows their columns; every hash is checked, no rule of that version is; and there may be more than is shown.
    pub fn is_newer(&self) -> bool {
        self.origin == Origin::Newer
    }

    /// Reads the rows in order, in constant memory, and calls back with each one that verifies: its hash is right,
    /// it follows the row before, it is legal, and the next row does not contradict it.
    ///
    /// A row that was changed is left out, and those after it still verify. After a break in the chain none does.
    pub fn read(&self, each: impl FnMut(Row)) -> Result<Summary, ReadError> {
        self.walk(1, Cited::Trusted, each)
    }

    /// Reads the last rows alone, in order, and calls back with each of them that verifies: its hash is right, it
    /// follows the row before, no transition in it is unknown, and the next row does not contradict it.
    ///
    /// What comes before them is not looked at, so a rule about earlier rows is not judged. How many these are is
    /// [`Summary::unchecked`].
    pub fn read_last(&self, rows: NonZeroU64, mut each: impl FnMut(Row)) -> Result<Summary, ReadError> {
        let last = read_or_damaged(tables::last_seq(&self.conn), |cause| Problem::Unreadable {
            from: 1,
            cause,
        })?;
        // Where not even that can be read, reading all of it says why.
        let first = last.unwrap_or(0).saturating_sub(rows.get() - 1);
        if first <= 1 {
            return self.read(each);
        }
        // The row before the first is what the first has to follow.
        let mut shown = 0;
        let summary = self.read_from(first - 1, |row| {
            if row.seq >= first {
                shown += 1;
                each(row);
            }
        })?;
        Ok(Summary {
            rows: shown,
            unchecked: first - 1,
            ..summary
        })
    }

    /// The same for the rows from this one on. What the first of them follows is not looked at, so a caller that goes on
    /// where it stopped holds the row that it had last against the one that it gets first.
    pub fn read_from(&self, seq: u64, each: impl FnMut(Row)) -> Result<Summary, ReadError> {
        let summary = self.walk(seq, Cited::Trusted, each)?;
        let unchecked = seq.saturating_sub(1);
        Ok(Summary { unchecked, ..summary })
    }

    /// The rows that say where the journal is: the first one, those that enter a state, the verdict and its
    /// acknowledgement. Each is held against its own hash and nothing else; one that is not right is left out.
    pub fn landmarks(&self, each: impl FnMut(Row)) -> Result<(), ReadError> {
        let (Ok(machine), Some(form)) = (&self.machine, self.form()?) else {
            return Ok(());
        };
        // Damage takes those away that it is in, and who reads all rows is told of it.
        let read = tables::landmarks(&self.conn, &form, machine, each);
        read_or_damaged(read, |cause| Problem::Pages { cause }).map(drop)
    }

    /// How the rows lie in their table; none where that cannot be read.
    fn form(&self) -> Result<Option<Form>, ReadError> {
        match self.origin {
            Origin::Known => Ok(Some(Form::of(self.schema))),
            Origin::Newer => {
                let form = Form::newer(&self.conn, self.version, self.schema);
                Ok(read_or_damaged(form, |cause| Problem::Pages { cause })?.ok().flatten())
            }
        }
    }

    fn walk(&self, from: u64, cited: Cited, mut each: impl FnMut(Row)) -> Result<Summary, ReadError> {
        // SQLite looks at a page when it loads it, and at no page that it still has: without this, a second reading of
        // a damaged file could tell rows that the first did not.
        self.conn
            .execute_batch("PRAGMA shrink_memory")
            .map_err(ReadError::Sqlite)?;
        let mut problems = Problems::default();
        for problem in &self.schema_problems {
            problems.push(problem.clone());
        }
        let machine = match &self.machine {
            Ok(machine) => machine.clone(),
            Err(problem) => {
                problems.push(problem.clone());
                return Ok(summary(0, Head::EMPTY, problems));
            }
        };
        let is_table = tables::no_view(&self.conn, "journal");
        if noted(is_table, &mut problems, |cause| Problem::Unreadable { from: 1, cause })?.is_none() {
            return Ok(summary(0, Head::EMPTY, problems));
        }
        let edges = noted(tables::edges(&self.conn), &mut problems, |cause| Problem::Edges {
            cause,
        })?;
        let form = self.form()?.unwrap_or_else(|| Form::of(self.schema));
        let mut walk = Walk::along(form, from, self.schema, machine, edges.unwrap_or_else(Edges::default));
        walk.problems = problems;
        tables::read_rows(&self.conn, &mut walk, cited, &mut each).map_err(ReadError::Sqlite)?;
        let (rows, head) = walk.end(&mut each);
        Ok(summary(rows, head, walk.problems))
    }

    /// A blob's bytes, if there is one of that name; an error where its bytes are not those of its name.
    pub fn blob(&self, sha256: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        read_or_damaged(tables::no_view(&self.conn, "blob"), |cause| Problem::Blobs { cause })?
            .map_err(|_| ReadError::BlobAltered(*sha256))?;
        right_blob(&self.conn, sha256)
    }

    /// Everything that can be said: rows, pages, schema, blobs, and whether a head that was seen elsewhere (in a
    /// log line, a report) is among the rows. Without one, a lost end cannot be seen.
    pub fn verify(&self, expected_head: Option<Hash>) -> Result<Summary, ReadError> {
        let mut found = expected_head.is_none_or(|expected| expected == Hash::ZERO);
        let Summary {
            rows,
            head,
            problems: list,
            unchecked: _,
        } = self.walk(1, Cited::Looked, |row| {
            found |= Some(row.hash) == expected_head;
        })?;
        let mut problems = Problems::default();
        for problem in list {
            problems.push(problem);
        }
        let pages = tables::check_pages(&self.conn, &mut |p| problems.push(p));
        noted(pages, &mut problems, |cause| Problem::Pages { cause })?;
        let blobs = tables::check_blobs(&self.conn, &mut |p| problems.push(p));
        noted(blobs, &mut problems, |cause| Problem::Blobs { cause })?;
        if let (false, Some(expected)) = (found, expected_head) {
            problems.push(Problem::HeadMissing { expected, last: head });
        }
        Ok(summary(rows, head, problems))
    }
}

/// What was read, or the problem where damage kept it from being read.
fn read_or_damaged<T>(
    result: rusqlite::Result<T>,
    problem: impl FnOnce(String) -> Problem,
) -> Result<Result<T, Problem>, ReadError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if tables::is_damage(&error) => Ok(Err(problem(error.to_string()))),
        Err(error) => Err(ReadError::Sqlite(error)),
    }
}

/// What was read; where damage kept it from being read, that is one of the problems.
fn noted<T>(
    result: rusqlite::Result<T>,
    problems: &mut Problems,
    problem: impl FnOnce(String) -> Problem,
) -> Result<Option<T>, ReadError> {
    let read = read_or_damaged(result, problem)?;
    Ok(read.map_err(|problem| problems.push(problem)).ok())
}

fn summary(rows: u64, head: Head, problems: Problems) -> Summary {
    Summary {
        rows,
        unchecked: 0,
        head,
        problems: problems.into_list(),
    }
}

fn connect(copy: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(copy, tables::THAT_IS_THERE)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    for (pragma, value) in [
        ("locking_mode", "EXCLUSIVE"),
        ("trusted_schema", "OFF"),
        ("cell_size_check", "ON"),
        ("query_only", "ON"),
    ] {
        conn.pragma_update(None, pragma, value)?;
    }
    Ok(conn)
}

/// Copies the journal at `path`, byte for byte, into two files: the database, and its write-ahead log, which may have
/// nothing in it. It may be written meanwhile, and held by this process: a copy is a clean prefix of it.
///
/// Nothing is looked at but the head of the file: what is damaged is copied with its damage.
pub fn copy(path: &Path, database: &File, log: &File) -> Result<(), ReadError> {
    let place = place_of(path)?;
    let head = copy_steady(&place, |part| {
        let mut file = match part {
            Part::Database => database.try_clone()?,
            Part::Log => log.try_clone()?,
        };
        file.set_len(0)?;
        file.rewind()?;
        Ok(file)
    })?;
    match head {
        FileHead::Absent => Err(ReadError::Absent),
        FileHead::Empty => Err(ReadError::Empty),
        FileHead::Foreign(foreign) => Err(ReadError::NotAJournal(foreign)),
        FileHead::Journal(_) => Ok(()),
    }
}

fn place_of(path: &Path) -> Result<Place, ReadError> {
    Place::of(path).map_err(|error| {
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
            ReadError::Absent
        } else {
            of_file(path)(error)
        }
    })
}

/// The files of a copy.
enum Part {
    Database,
    Log,
}

/// Copies until nothing moved meanwhile: a checkpoint between the two files would leave a log that does not
/// belong to the database. `into` opens what is copied into, with nothing in it.
fn copy_steady(place: &Place, into: impl Fn(Part) -> io::Result<File>) -> Result<FileHead, ReadError> {
    for _ in 0..20 {
        let before = Mark::of(place)?;
        let head = copy_once(place, &into)?;
        if before.same_but_for_more_rows(&Mark::of(place)?) {
            return Ok(head);
        }
    }
    Err(ReadError::Unsteady)
}

fn copy_once(place: &Place, into: &impl Fn(Part) -> io::Result<File>) -> Result<FileHead, ReadError> {
    let Some(database) = place::open_shared(&place.database).map_err(of_file(&place.database))? else {
        return Ok(FileHead::Absent);
    };
    let head = FileHead::of(&database).map_err(of_file(&place.database))?;
    if matches!(head, FileHead::Journal(_)) {
        let to = into(Part::Database).map_err(of_file(&place.database))?;
        copy_bytes(&database, to).map_err(of_file(&place.database))?;
        // Opened also where there is none now: what an earlier round copied is not left beside another database.
        let to = into(Part::Log).map_err(of_file(&place.log))?;
        if let Some(log) = place::open_unknown(&place.log).map_err(of_file(&place.log))? {
            copy_bytes(&log, to).map_err(of_file(&place.log))?;
        }
    }
    Ok(head)
}

/// Reads by position: the descriptor may be a living journal's own.
fn copy_bytes(from: &File, mut to: File) -> io::Result<()> {
    let from = ByPosition { file: from, at: 0 };
    io::copy(&mut BufReader::with_capacity(256 * 1024, from), &mut to).map(drop)
}

struct ByPosition<'a> {
    file: &'a File,
    at: u64,
}

impl Read for ByPosition<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// What changes when a journal is checkpointed, and not when rows are appended to it.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    database: Option<(u64, u64, u64, i64, i64)>,
    /// The log's header, which has a new salt each time the log begins anew; none where it has no rows.
    log: Option<[u8; 32]>,
}

impl Mark {
    fn of(place: &Place) -> Result<Self, ReadError> {
        let database = match fs::metadata(&place.database) {
            Ok(meta) => Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(of_file(&place.database)(error)),
        };
        let mut header = [0; 32];
        let log = match place::open_unknown(&place.log).map_err(of_file(&place.log))? {
            Some(log) => match log.read_exact_at(&mut header, 0) {
                Ok(()) => Some(header),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
                Err(error) => return Err(of_file(&place.log)(error)),
            },
            None => None,
        };
        Ok(Self { database, log })
    }

    fn same_but_for_more_rows(&self, after: &Self) -> bool {
        // A log that had no rows and has some now began on this very database.
        self.database == after.database && (self.log.is_none() || self.log == after.log)
    }
}

fn of_file(path: &Path) -> impl Fn(io::Error) -> ReadError {
    move |source| ReadError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
