//! What can go wrong, by what the caller was doing.

use std::io;
use std::path::PathBuf;

use crate::hash::Hash;
use crate::problem::Problem;
use crate::rule::Rule;
use crate::{APPLICATION_ID, SCHEMA};

/// What a file is that is not a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// A directory, a device or a FIFO.
    #[error("it is not a regular file")]
    NotAFile,
    /// Not a file of SQLite.
    #[error("it is not an SQLite database")]
    NotADatabase,
    /// Another program's database.
    #[error("it is the database of another program (application id {0:#010x}, not {APPLICATION_ID:#010x})")]
    OtherApplication(i32),
}

/// Why a journal could not be opened. What was there before is as it was.
///
/// The messages finish "failed to open the journal PATH: …"; the path is the caller's to name.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another part of this one) has it.
    #[error("locked by {}", holder(*pid))]
    Locked {
        /// The process that has it, where that is known.
        pid: Option<u32>,
    },
    /// Something else than a journal.
    #[error("not a journal: {0}")]
    NotAJournal(Foreign),
    /// Written by a newer version of this program.
    #[error("its schema is version {found}, and this program knows version {SCHEMA}: open it with the newer program")]
    NewerSchema {
        /// The version that was found.
        found: u32,
    },
    /// A journal of another machine.
    #[error("it belongs to the machine {found:?}, not to {expected:?}")]
    OtherMachine {
        /// The machine that the journal belongs to.
        found: String,
        /// The machine that was asked for.
        expected: String,
    },
    /// The journal allows a transition that the machine does not have.
    #[error(
        "it has the transition {src:?} to {dst:?}, which this program's machine does not have: open it with the newer program"
    )]
    UnknownEdge {
        /// From where.
        src: String,
        /// To where.
        dst: String,
    },
    /// A journal that is not whole.
    #[error("corrupt: {0}")]
    Corrupt(Problem),
    /// A file system on which neither locks nor syncs can be trusted.
    #[error("it is on a network file system ({0}), where locks and syncs cannot be trusted: put it on a local disk")]
    Network(&'static str),
    /// SQLite did not take a setting.
    #[error("SQLite answers {found:?} for {pragma}, not {wanted:?}")]
    Setting {
        /// The setting.
        pragma: &'static str,
        /// What it has to be.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
    /// The directory cannot be made or written.
    #[error("the directory {} cannot be written", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite failed, and not because of what is in the file.
    #[error("SQLite failed")]
    Sqlite(#[source] rusqlite::Error),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another program".to_owned(), |pid| format!("process {pid}"))
}

/// Why rows were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A row breaks a rule. Nothing was written, and the journal is as it was.
    #[error("entry {index} of the append is refused: {rule}")]
    Refused {
        /// Which of the entries, from 0.
        index: usize,
        /// The rule that it breaks.
        rule: Rule,
    },
    /// Blobs come with a row; an append without one is a mistake of the caller.
    #[error("an append has at least one entry")]
    NoEntry,
    /// The disk is full. The journal takes no more; end the process and start again.
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    /// A write, a sync or a commit failed. Whether the rows are there, only a new process can tell: end this one.
    #[error("the commit failed")]
    Commit(#[source] rusqlite::Error),
    /// An append failed before, so nothing in memory can be trusted: end the process.
    #[error("a commit failed before")]
    Poisoned,
}

/// Why a journal could not be read at all. What is damaged inside a journal is a [`Problem`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No file of that name.
    #[error("there is no such file")]
    Absent,
    /// A file without bytes, and no write-ahead log that holds any.
    #[error("the file is empty")]
    Empty,
    /// Something else than a journal.
    #[error("not a journal: {0}")]
    NotAJournal(Foreign),
    /// Written by a newer version of this program.
    ///
    /// What is in the order that this program knows is read all the same, see `Snapshot::is_newer`; this is not.
    #[error("its schema is version {found}, and this program knows version {SCHEMA}: read it with the newer program")]
    NewerSchema {
        /// The version that was found.
        found: u32,
    },
    /// A blob is there, but its bytes are not those of its name.
    #[error("blob {0} is not what was written")]
    BlobAltered(Hash),
    /// The journal was moved, begun anew or checkpointed again and again while it was being copied.
    #[error("it changes faster than it can be copied: try again")]
    Unsteady,
    /// A file cannot be read, or its copy cannot be written.
    #[error("{} cannot be read or copied", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite failed, and not because of what is in the file.
    #[error("SQLite failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl ReadError {
    /// Whether there is nothing there that could be read as a journal, damaged or not.
    pub fn is_not_a_journal(&self) -> bool {
        matches!(
            self,
            Self::Absent | Self::Empty | Self::NotAJournal(_) | Self::NewerSchema { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_journal_is_still_a_journal() {
        for nothing in [
            ReadError::Absent,
            ReadError::Empty,
            ReadError::NotAJournal(Foreign::NotAFile),
            ReadError::NewerSchema { found: 9 },
        ] {
            assert!(nothing.is_not_a_journal(), "{nothing}");
        }
        for something in [ReadError::BlobAltered(Hash::ZERO), ReadError::Unsteady] {
            assert!(!something.is_not_a_journal(), "{something}");
        }
    }
}
