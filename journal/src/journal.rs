//! The journal that one process holds and appends to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, params, params_from_iter};

use crate::columns::{Columns, check_body};
use crate::entry::{Entry, Kind, Machine, Row};
use crate::error::{AppendError, OpenError, ReadError};
use crate::hash::{Hash, Head};
use crate::lock::Lock;
use crate::rule::Rule;
use crate::schema::{self, Schema};
use crate::walk::Walk;
use crate::watch::{Appended, Watch};
use crate::{open, tables};

/// A journal that this process holds, alone, and appends to.
///
/// Dropping it writes nothing more; every append is already on disk. [`Journal::close`] is the clean end.
#[derive(Debug)]
pub struct Journal {
    // In this order: the connection goes before the descriptor that keeps its locks, and the lock goes last.
    conn: Connection,
    _held: Arc<File>,
    _lock: Lock,
    path: PathBuf,
    schema: &'static Schema,
    /// What appends a row of that schema.
    insert: String,
    machine: String,
    head: Head,
    boot: u32,
    health: Health,
    watch: Watch,
    synced_in: Option<Duration>,
}

/// A journal that was opened, and what it holds.
#[derive(Debug)]
pub struct Opened {
    /// The journal, to be appended to.
    pub journal: Journal,
    /// Every row, verified, in order.
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Sound,
    /// A write failed: what is on disk is not known any more.
    Poisoned,
}

impl Journal {
    /// Opens the journal at `path` for the machine, or makes it where there is none (no file, or an empty one).
    ///
    /// Everything is verified before anything is written. What was read is on disk when this returns. A new
    /// machine's further edges are added. A new journal is of the newest schema, [`SCHEMA`](crate::SCHEMA); one that
    /// is there is gone on with in its own.
    pub fn open(path: &Path, machine: &Machine) -> Result<Opened, OpenError> {
        open::open(path, machine, schema::ALL)
    }

    pub(crate) fn new(
        path: PathBuf,
        conn: Connection,
        held: Arc<File>,
        lock: Lock,
        walk: &Walk,
        last: Option<&Row>,
    ) -> Self {
        Self {
            conn,
            _held: held,
            _lock: lock,
            path,
            schema: walk.schema(),
            insert: walk.schema().insert(),
            machine: walk.machine().to_owned(),
            head: last.map_or(Head::EMPTY, |row| Head {
                seq: row.seq,
                hash: row.hash,
            }),
            boot: walk.boot(),
            health: Health::Sound,
            watch: Watch::default(),
            synced_in: None,
        }
    }

    /// Appends rows, and the blobs that come with them, in one transaction with one sync: all, or none.
    ///
    /// When this returns they survive a loss of power. `at_ms` is the caller's clock, in milliseconds since 1970
    /// (UTC). A boot entry begins the next boot; every other belongs to the current one. Blobs are kept once, under
    /// their SHA-256. The first append after opening syncs twice: the log's header is new.
    pub fn append(&mut self, at_ms: i64, entries: &[Entry], blobs: &[&[u8]]) -> Result<Head, AppendError> {
        let result = self.keep(at_ms, entries, blobs);
        let synced_in = self.synced_in.take();
        self.watch.tell(&result, entries, blobs, synced_in);
        result
    }

    /// Tells of every append from now on, in its thread and before it returns: of those that fail, too.
    pub fn watch(&mut self, told: impl FnMut(&Appended) + Send + 'static) {
        self.watch = Watch::by(told);
    }

    fn keep(&mut self, at_ms: i64, entries: &[Entry], blobs: &[&[u8]]) -> Result<Head, AppendError> {
        if self.health == Health::Poisoned {
            return Err(AppendError::Poisoned);
        }
        if entries.is_empty() {
            return Err(AppendError::NoEntry);
        }
        match self.transact(at_ms, entries, blobs) {
            Ok((head, boot)) => {
                self.head = head;
                self.boot = boot;
                Ok(head)
            }
            Err(refused @ AppendError::Refused { .. }) => {
                if !self.conn.is_autocommit() && self.run("ROLLBACK").is_err() {
                    self.health = Health::Poisoned;
                }
                Err(refused)
            }
            Err(failed) => {
                self.health = Health::Poisoned;
                Err(failed)
            }
        }
    }

    fn transact(&mut self, at_ms: i64, entries: &[Entry], blobs: &[&[u8]]) -> Result<(Head, u32), AppendError> {
        for (index, entry) in entries.iter().enumerate() {
            // SQLite's JSON functions stop at a NUL byte; this check does not.
            let body = entry.body().map_or(Ok(()), check_body);
            body.map_err(|rule| AppendError::Refused { index, rule })?;
        }
        self.run("BEGIN IMMEDIATE").map_err(failed)?;
        let mut names = Vec::with_capacity(blobs.len() * 32);
        for blob in blobs {
            let name = Hash::of(blob);
            self.insert_blob(&name, blob).map_err(failed)?;
            names.extend_from_slice(name.as_bytes());
        }
        let (mut head, mut boot) = (self.head, self.boot);
        for (index, entry) in entries.iter().enumerate() {
            let names = Some(names.as_slice()).filter(|names| index == 0 && !names.is_empty());
            (head, boot) = self
                .insert(head, boot, at_ms, entry, names)
                .map_err(|error| match broken_rule(&error) {
                    Some(rule) => AppendError::Refused { index, rule },
                    None => failed(error),
                })?;
        }
        let began = self.watch.now();
        let committed = self.run("COMMIT");
        self.synced_in = began.map(|began| began.elapsed());
        committed.map_err(failed)?;
        Ok((head, boot))
    }

    fn insert(
        &self,
        head: Head,
        boot: u32,
        at_ms: i64,
        entry: &Entry,
        blobs: Option<&[u8]>,
    ) -> rusqlite::Result<(Head, u32)> {
        let boot = boot.saturating_add(u32::from(entry.kind() == Kind::Boot));
        let seq = head.seq + 1;
        let number = i64::try_from(seq).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, i64::MAX))?;
        let row = Columns::of(number, boot, at_ms, entry, blobs, head.hash);
        let hash = row.hash(self.schema, &self.machine);
        let chain = [row.prev.as_bytes(), hash.as_bytes()].map(|hash| ValueRef::Blob(hash));
        let values = self.schema.values(&row).chain(chain);
        self.conn
            .prepare_cached(&self.insert)?
            .execute(params_from_iter(values.map(ToSqlOutput::Borrowed)))?;
        Ok((Head { seq, hash }, boot))
    }

    fn insert_blob(&self, name: &Hash, bytes: &[u8]) -> rusqlite::Result<()> {
        let known = self
            .conn
            .prepare_cached("SELECT 1 FROM blob WHERE sha256 = ?1")?
            .exists([name.as_bytes()])?;
        if !known {
            self.conn
                .prepare_cached("INSERT INTO blob (sha256, bytes) VALUES (?1, ?2)")?
                .execute(params![name.as_bytes(), bytes])?;
        }
        Ok(())
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// A blob's bytes, if there is one of that name and its bytes are still those of its name.
    pub fn blob(&self, sha256: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
        right_blob(&self.conn, sha256)
    }

    /// Where the journal ends: the last row that was acknowledged.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The current boot; 0 before the first boot entry.
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// The version of the journal's schema: the one that it was made in.
    pub fn schema(&self) -> u32 {
        self.schema.version
    }

    /// The path that the journal was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The clean end: moves everything into the one file, syncs it, and removes the write-ahead log.
    ///
    /// A poisoned journal is left alone. Where this fails nothing is lost: the next open does it.
    pub fn close(self) -> Result<(), AppendError> {
        if self.health == Health::Poisoned {
            return Err(AppendError::Poisoned);
        }
        checkpoint(&self.conn).map_err(failed)?;
        self.conn
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map_err(failed)?;
        self.conn.close().map_err(|(_, error)| failed(error))
    }
}

/// Moves the log's rows into the database, syncs both, and empties the log.
pub(crate) fn checkpoint(conn: &Connection) -> rusqlite::Result<()> {
    conn.wal_checkpoint_v2(None::<&str>, rusqlite::wal::CheckpointMode::TRUNCATE)
        .map(drop)
}

pub(crate) fn right_blob(conn: &Connection, sha256: &Hash) -> Result<Option<Vec<u8>>, ReadError> {
    match tables::blob(conn, sha256) {
        Ok(Some(bytes)) if Hash::of(&bytes) == *sha256 => Ok(Some(bytes)),
        Ok(Some(_)) => Err(ReadError::BlobAltered(*sha256)),
        Ok(None) => Ok(None),
        Err(error) if tables::is_damage(&error) => Err(ReadError::BlobAltered(*sha256)),
        Err(error) => Err(ReadError::Sqlite(error)),
    }
}

/// The rule that a refused insert broke; none where it failed for another reason.
fn broken_rule(error: &rusqlite::Error) -> Option<Rule> {
    if let rusqlite::Error::SqliteFailure(code, Some(message)) = error
        && code.code == ErrorCode::ConstraintViolation
    {
        return Rule::of(message);
    }
    None
}

fn failed(error: rusqlite::Error) -> AppendError {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        AppendError::Full(error)
    } else {
        AppendError::Commit(error)
    }
}

#[cfg(test)]
mod tests;
